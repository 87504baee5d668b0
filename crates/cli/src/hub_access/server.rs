//! A hub that a server holds, asked over its own API (`/api/v1`), in which nothing is lost of what is stored.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use taskhub_api::client::{Answer, Request};
use taskhub_api::percent::encode;
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{HubName, IdempotencyKey, InstanceId, Name};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::Filter;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;
use taskhub_server::token;

use super::http::{Credentials, Http, request};
use super::wire;
use super::{HubSize, Outcome, Purged, Record, Rows, refused_token};
use crate::find::running::Running;
use crate::stop::{Result, Stop, exit};

/// A start may take as long as the server gives it (R191), and a little more.
const START_TIMEOUT: Duration = Duration::from_secs(35);
/// A purge takes as long as the server works on it at a time, and a little more.
const PURGE_TIMEOUT: Duration = Duration::from_secs(260);

/// The hub.
#[derive(Debug)]
pub(crate) struct Served {
    http: Http,
    hub: HubName,
}

/// The body of a refusal.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: Words,
}

#[derive(Debug, Deserialize)]
struct Words {
    code: String,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Items<T> {
    items: Vec<T>,
    cursor: Option<String>,
}

impl Served {
    /// A hub at a server; nothing is sent yet.
    pub(crate) fn new(url: &str, credentials: &Credentials, hub: HubName) -> Result<Self> {
        Ok(Self {
            http: Http::new(url, credentials)?,
            hub,
        })
    }

    /// The hub at a server that left word of itself in its store's folder; nothing is sent yet.
    pub(crate) fn of_store(running: &Running, credentials: &Credentials, hub: HubName) -> Result<Self> {
        let http = Http::new(&running.url(), credentials)?.of_process(running.pid);
        Ok(Self { http, hub })
    }

    /// Whether it listens, so that a server that is going away is noticed before anything is asked of it.
    pub(super) async fn reach(&self) -> Result<()> {
        self.http.reach().await
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/hubs/{}{rest}", self.hub)
    }

    fn instance_path(&self, id: &InstanceId, rest: &str) -> String {
        self.path(&format!("/instances/{}{rest}", encode(id.as_str())))
    }

    /// Asks; `None` if the hub or the instance does not exist.
    async fn find<T: DeserializeOwned>(&mut self, ask: Request) -> Result<Option<T>> {
        let answer = self.http.ask(ask).await?;
        if answer.status == StatusCode::NOT_FOUND && is_missing(&answer) {
            return Ok(None);
        }
        self.read(&answer).map(Some)
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T> {
        if !answer.status.is_success() {
            return Err(self.refused(answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!("the server's answer cannot be read: {error}");
            Stop::error(exit::UNAVAILABLE, "unexpected-answer", message)
        })
    }

    /// The refusal in an answer, with its word if that is one of ours.
    fn refused(&self, answer: &Answer) -> Stop {
        let Ok(refusal) = serde_json::from_slice::<Refusal>(&answer.body) else {
            return self.http.unexpected(answer);
        };
        let Some(code) = crate::errors::known(&refusal.error.code) else {
            return self.http.unexpected(answer);
        };
        let exit = match code {
            "instance-not-found" | "hub-not-found" => exit::NOT_FOUND,
            "instance-exists" | "hub-exists" | "idempotency-conflict" => exit::CONFLICT,
            "invalid-instance-id" | "invalid-hub-name" | "invalid-name" | "invalid-idempotency-key" => exit::USAGE,
            "overloaded" => exit::UNAVAILABLE,
            _ if answer.status.is_server_error() => exit::UNAVAILABLE,
            _ => exit::FAILED,
        };
        Stop::error(exit, code, refusal.error.message)
    }

    pub(super) async fn record(&mut self, id: &InstanceId) -> Result<Option<Record>> {
        let path = self.instance_path(id, "?payloads=text");
        let shown: Option<wire::Instance> = self.find(request(Method::GET, path)).await?;
        let read = |shown: wire::Instance| {
            let unreadable = || unreadable("an instance");
            Ok(Record {
                history_events: shown.history_length.unwrap_or(0),
                history_bytes: shown.history_bytes.unwrap_or(0),
                info: shown.into_info().ok_or_else(unreadable)?,
            })
        };
        shown.map(read).transpose()
    }

    /// Waits some seconds for the end of an instance; whether it came is seen in its record.
    pub(super) async fn wait_for_end(&mut self, id: &InstanceId) -> Result<()> {
        let path = self.instance_path(id, "/wait?for=ended&timeout=5");
        let _met: Option<IgnoredAny> = self.find(request(Method::GET, path)).await?;
        Ok(())
    }

    pub(super) async fn history(&mut self, id: &InstanceId) -> Result<Option<Vec<HistoryEvent>>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Part {
            items: Vec<Value>,
            next_from: Option<usize>,
        }
        let mut events = Vec::new();
        let mut from = 0;
        loop {
            let path = self.instance_path(id, &format!("/history?from={from}"));
            let Some(part) = self.find::<Part>(request(Method::GET, path)).await? else {
                return Ok(None);
            };
            for item in &part.items {
                events.push(wire::event(item).ok_or_else(|| unreadable("an event"))?);
            }
            match part.next_from {
                Some(next) if next > from => from = next,
                _ => return Ok(Some(events)),
            }
        }
    }

    pub(super) async fn list(&mut self, filter: &Filter, after: Option<&str>, rows_max: usize) -> Result<Rows> {
        let mut path = self.path("/instances?fields=input,output,customStatus&payloads=text");
        let mut add = |name: &str, value: &str| path = format!("{path}&{name}={}", encode(value));
        add("limit", &rows_max.to_string());
        for (name, moment) in [("createdFrom", filter.created_from), ("createdTo", last(filter))] {
            if let Some(moment) = moment {
                add(name, &moment.to_string());
            }
        }
        if !filter.statuses.is_empty() {
            add("status", &words(&filter.statuses).join(","));
        }
        for (name, text) in [("name", &filter.name), ("idPrefix", &filter.id_prefix)] {
            if let Some(text) = text {
                add(name, text);
            }
        }
        if let Some(after) = after {
            // The same tokens as those of a stopped store: what is wrong with one is told here.
            token::read(after, &self.hub, filter).map_err(refused_token)?;
            add("cursor", after);
        }
        let found: Option<Items<wire::Instance>> = self.find(request(Method::GET, path)).await?;
        let Some(found) = found else {
            return Ok(Rows::default());
        };
        let infos = found.items.into_iter().map(wire::Instance::into_info);
        let rows: Option<Vec<_>> = infos.collect();
        Ok(Rows {
            rows: rows.ok_or_else(|| unreadable("an instance"))?,
            next: found.cursor,
        })
    }

    pub(super) async fn start(&mut self, wanted: StartRequest, is_stated: bool) -> Result<()> {
        let if_exists = match &wanted.reuse {
            ReusePolicy::ReplaceAny => "replace-any",
            ReusePolicy::Replace(_) => "error",
            ReusePolicy::ReplaceEnded if is_stated => "replace-ended",
            ReusePolicy::ReplaceEnded => "default",
        };
        let head = json!({
            "name": wanted.name.as_str(),
            "instanceId": wanted.instance.as_str(),
            "version": wanted.version.as_ref().map(Name::as_str),
            "ifExists": if_exists,
            "idempotencyKey": wanted.key.as_ref().map(IdempotencyKey::as_str),
            "repeats": match wanted.repeats {
                Repeats::Always => "always",
                Repeats::WhileLive => "while-live",
            },
        });
        let body = with_input(&head, wanted.input.as_ref());
        let ask = request(Method::POST, self.path("/instances"))
            .json(body)
            .within(START_TIMEOUT);
        let answer = self.http.ask(ask).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        let stop = self.refused(&answer);
        Err(if stop.code == "hub-not-found" {
            stop.hint("this server creates no task hubs; name one that exists with --task-hub-name")
        } else {
            stop
        })
    }

    pub(super) async fn raise(
        &mut self,
        id: &InstanceId,
        name: &Name,
        data: Option<&Payload>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Outcome> {
        let head = json!({ "name": name.as_str(), "idempotencyKey": key.map(IdempotencyKey::as_str) });
        let body = with_input(&head, data);
        self.control(id, "/raise", body).await
    }

    pub(super) async fn terminate(&mut self, id: &InstanceId, reason: Option<&str>) -> Result<Outcome> {
        let body = json!({ "reason": reason }).to_string().into();
        self.control(id, "/terminate", body).await
    }

    async fn control(&mut self, id: &InstanceId, verb: &str, body: Bytes) -> Result<Outcome> {
        let ask = request(Method::POST, self.instance_path(id, verb)).json(body);
        let answer = self.http.ask(ask).await?;
        if answer.status.is_success() {
            return Ok(Outcome::Done);
        }
        let stop = self.refused(&answer);
        match stop.code {
            "instance-not-found" | "hub-not-found" => Ok(Outcome::Missing),
            // How it ended the refusal tells people only.
            "instance-not-live" => Ok(match self.record(id).await? {
                Some(record) => Outcome::Ended(record.info.status),
                None => Outcome::Missing,
            }),
            _ => Err(stop),
        }
    }

    pub(super) async fn purge_some(&mut self, filter: &Filter, after: &mut Option<String>) -> Result<Option<Purged>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Gone {
            purged: u64,
            #[serde(default)]
            rows: u64,
            is_complete: bool,
        }
        let body = json!({
            "createdFrom": filter.created_from.map(|moment| moment.to_string()),
            "createdTo": last(filter).map(|moment| moment.to_string()),
            "statuses": words(&filter.statuses),
            "name": filter.name,
            "idPrefix": filter.id_prefix,
            "all": true,
        });
        let ask = request(Method::POST, self.path("/instances/purge"));
        let ask = ask.json(body.to_string()).within(PURGE_TIMEOUT);
        let Some(gone) = self.find::<Gone>(ask).await? else {
            return Ok(None);
        };
        // Where to go on the server sees by itself: what is gone is not found again.
        *after = (!gone.is_complete).then(|| "more".to_owned());
        Ok(Some(Purged {
            instances: gone.purged,
            rows: gone.rows,
        }))
    }

    pub(super) async fn hubs(&mut self) -> Result<Vec<HubName>> {
        #[derive(Deserialize)]
        struct Hub {
            name: String,
        }
        let ask = request(Method::GET, "/api/v1/hubs".to_owned());
        let answer = self.http.ask(ask).await?;
        let list: Items<Hub> = self.read(&answer)?;
        let names = list.items.into_iter().map(|hub| HubName::new(&hub.name).ok());
        names.collect::<Option<_>>().ok_or_else(|| unreadable("a hub"))
    }

    pub(super) async fn size(&mut self, hub: &HubName) -> Result<Option<HubSize>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stats {
            instances: u64,
            by_status: std::collections::BTreeMap<String, u64>,
        }
        let ask = request(Method::GET, format!("/api/v1/hubs/{hub}/stats"));
        let stats: Option<Stats> = self.find(ask).await?;
        let is_active = |word: &str| wire::status(word).is_none_or(|status| !status.is_terminal());
        Ok(stats.map(|stats| HubSize {
            name: hub.clone(),
            instances: stats.instances,
            active: stats
                .by_status
                .iter()
                .filter(|(word, _)| is_active(word))
                .map(|(_, count)| count)
                .sum(),
        }))
    }

    pub(super) async fn delete_hub(&mut self) -> Result<bool> {
        let hub = self.hub.clone();
        let ask = request(Method::DELETE, self.path(&format!("?confirm={hub}")));
        Ok(self.find::<Value>(ask).await?.is_some())
    }
}

/// Whether a "not found" is about the hub or the instance, and not about the path.
fn is_missing(answer: &Answer) -> bool {
    let refusal: Option<Refusal> = serde_json::from_slice(&answer.body).ok();
    refusal.is_some_and(|refusal| ["instance-not-found", "hub-not-found"].contains(&refusal.error.code.as_str()))
}

fn unreadable(what: &str) -> Stop {
    let message = format!("the server's answer holds {what} that this version cannot read");
    Stop::error(exit::UNAVAILABLE, "unexpected-answer", message)
}

/// The last moment that a filter includes.
fn last(filter: &Filter) -> Option<Timestamp> {
    filter
        .created_before
        .map(|before| Timestamp::from_ticks(before.ticks() - 1))
}

fn words(statuses: &[RuntimeStatus]) -> Vec<String> {
    statuses.iter().map(ToString::to_string).collect()
}

/// An object with a payload as its last member, byte for byte.
fn with_input(head: &Value, input: Option<&Payload>) -> Bytes {
    let mut body = head.to_string();
    if let Some(input) = input {
        body.truncate(body.len() - 1);
        body.push_str(r#","input":"#);
        body.push_str(&input.to_text());
        body.push('}');
    }
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_sent_as_it_is() {
        let head = json!({"name": "F"});
        let body = with_input(&head, Some(&Payload::text(r#"{"b": 1.0}"#)));
        assert_eq!(body, r#"{"name":"F","input":{"b": 1.0}}"#);
        assert_eq!(with_input(&head, None), r#"{"name":"F"}"#);
    }
}
