//! A hub that a server holds, asked over its own API (`/api/v1`), in which nothing is lost of what is stored.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use taskhub_api::calls::{
    self, HistoryPartBody, HubDeleted, IfExists, Items, PurgeBody, RaiseBody, ReasonBody, StartBody, Stats,
};
use taskhub_api::client::{HttpAnswer, HttpRequest};
use taskhub_api::instance::Instance;
use taskhub_api::percent::encode;
use taskhub_api::problem::RefusalBody;
use taskhub_api::status::{of_word, word};
use taskhub_api::time::{fine, just_before};
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{HubName, IdempotencyKey, InstanceId, Name};
use taskhub_core::message::{ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::Filter;
use taskhub_core::time::Timestamp;
use taskhub_server::token;

use super::http::{Credentials, Http, request};
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

    /// Checks whether the server still listens, so that a stopping server is detected before the first request.
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
    async fn find<T: DeserializeOwned>(&mut self, ask: HttpRequest) -> Result<Option<T>> {
        let answer = self.http.ask(ask).await?;
        if answer.status == StatusCode::NOT_FOUND && is_missing(&answer) {
            return Ok(None);
        }
        self.read(&answer).map(Some)
    }

    fn read<T: DeserializeOwned>(&self, answer: &HttpAnswer) -> Result<T> {
        if !answer.status.is_success() {
            return Err(self.refused(answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!("the server's answer cannot be read: {error}");
            Stop::error(exit::UNAVAILABLE, "unexpected-answer", message)
        })
    }

    /// The refusal in an answer, with its word if that is one of ours.
    fn refused(&self, answer: &HttpAnswer) -> Stop {
        let Ok(refusal) = serde_json::from_slice::<RefusalBody<'_>>(&answer.body) else {
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
        Stop::error(exit, code, refusal.error.message.into_owned())
    }

    pub(super) async fn record(&mut self, id: &InstanceId) -> Result<Option<Record>> {
        let path = self.instance_path(id, "?payloads=text");
        let shown: Option<Instance<'_>> = self.find(request(Method::GET, path)).await?;
        let read = |shown: Instance<'_>| {
            Ok(Record {
                history_events: shown.history_length.unwrap_or(0),
                history_bytes: shown.history_bytes.unwrap_or(0),
                info: shown.try_into().map_err(unreadable)?,
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
        let mut events = Vec::new();
        let mut from = 0;
        loop {
            let path = self.instance_path(id, &format!("/history?from={from}"));
            let Some(part) = self.find::<HistoryPartBody<'_>>(request(Method::GET, path)).await? else {
                return Ok(None);
            };
            for item in part.items {
                events.push(item.try_into().map_err(unreadable)?);
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
                add(name, &fine(moment));
            }
        }
        if !filter.statuses.is_empty() {
            let words: Vec<&str> = filter.statuses.iter().map(|status| word(*status)).collect();
            add("status", &words.join(","));
        }
        for (name, text) in [("name", &filter.name), ("idPrefix", &filter.id_prefix)] {
            if let Some(text) = text {
                add(name, text);
            }
        }
        if let Some(after) = after {
            add("cursor", after);
        }
        let found: Result<Option<Items<Instance<'_>>>> = self.find(request(Method::GET, path)).await;
        let found = found.map_err(|stop| match stop.code {
            // All other parameters of a list were checked, so the token is the cause.
            "invalid-argument" if after.is_some() => in_own_words(stop.message),
            _ => stop,
        });
        let Some(found) = found? else {
            return Ok(Rows::default());
        };
        let infos = found
            .items
            .into_iter()
            .map(|shown| shown.try_into().map_err(unreadable));
        Ok(Rows {
            rows: infos.collect::<Result<_>>()?,
            next: found.cursor,
        })
    }

    pub(super) async fn start(&mut self, wanted: StartRequest, is_stated: bool) -> Result<()> {
        let body = StartBody {
            name: wanted.name.as_str().into(),
            instance_id: Some(wanted.instance.as_str().into()),
            input: json_of(wanted.input.as_ref())?,
            version: wanted.version.as_ref().map(|version| version.as_str().into()),
            tags: wanted.tags,
            scheduled_start_time: wanted.scheduled_start.map(|moment| fine(moment).into()),
            if_exists: match wanted.reuse {
                ReusePolicy::ReplaceAny => IfExists::ReplaceAny,
                ReusePolicy::Replace(_) => IfExists::Error,
                ReusePolicy::ReplaceEnded if is_stated => IfExists::ReplaceEnded,
                ReusePolicy::ReplaceEnded => IfExists::Default,
            },
            idempotency_key: wanted.key.as_ref().map(|key| key.as_str().into()),
            repeats: wanted.repeats.into(),
        };
        let ask = request(Method::POST, self.path("/instances"));
        let ask = ask.json(written(&body)?).within(START_TIMEOUT);
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
        let body = RaiseBody {
            name: name.as_str().into(),
            input: json_of(data)?,
            idempotency_key: key.map(|key| key.as_str().into()),
        };
        let body = written(&body)?;
        self.control(id, "/raise", body).await
    }

    pub(super) async fn terminate(&mut self, id: &InstanceId, reason: Option<&str>) -> Result<Outcome> {
        let body = ReasonBody {
            reason: reason.map(Into::into),
            recursive: false,
        };
        self.control(id, "/terminate", written(&body)?).await
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
        let body = PurgeBody {
            created_from: filter.created_from.map(|moment| fine(moment).into()),
            created_to: last(filter).map(|moment| fine(moment).into()),
            statuses: filter.statuses.iter().map(|status| word(*status).into()).collect(),
            name: filter.name.as_deref().map(Into::into),
            id_prefix: filter.id_prefix.as_deref().map(Into::into),
            all: true,
        };
        let ask = request(Method::POST, self.path("/instances/purge"));
        let ask = ask.json(written(&body)?).within(PURGE_TIMEOUT);
        let Some(gone) = self.find::<calls::PurgedBody>(ask).await? else {
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
        let ask = request(Method::GET, "/api/v1/hubs".to_owned());
        let answer = self.http.ask(ask).await?;
        let list: Items<calls::HubBody> = self.read(&answer)?;
        let names = list.items.into_iter().map(|hub| HubName::new(&hub.name));
        names.map(|name| name.map_err(unreadable)).collect()
    }

    pub(super) async fn size(&mut self, hub: &HubName) -> Result<Option<HubSize>> {
        let ask = request(Method::GET, format!("/api/v1/hubs/{hub}/stats"));
        let stats: Option<Stats<'_>> = self.find(ask).await?;
        let is_active = |word: &str| of_word(word).is_none_or(|status| !status.is_terminal());
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
        Ok(self.find::<HubDeleted<'_>>(ask).await?.is_some())
    }
}

/// Whether a "not found" is about the hub or the instance, and not about the path.
fn is_missing(answer: &HttpAnswer) -> bool {
    let refusal: Option<RefusalBody<'_>> = serde_json::from_slice(&answer.body).ok();
    refusal.is_some_and(|refusal| ["instance-not-found", "hub-not-found"].contains(&refusal.error.code.as_ref()))
}

fn unreadable(what: impl Display) -> Stop {
    let message = format!("the server's answer holds what this version cannot read: {what}");
    Stop::error(exit::UNAVAILABLE, "unexpected-answer", message)
}

/// What a server says of a continuation token, in the words that a stopped store has for it. A server of another version
/// may say it in others, which are handed on.
fn in_own_words(message: String) -> Stop {
    let refusals = [token::Refused::Unreadable, token::Refused::OtherFilter];
    let refused = refusals.into_iter().find(|refused| refused.to_string() == message);
    refused.map_or_else(|| Stop::usage(message), refused_token)
}

/// The last moment that a filter includes.
fn last(filter: &Filter) -> Option<Timestamp> {
    filter.created_before.map(just_before)
}

/// The body of a request.
fn written(body: &impl Serialize) -> Result<Bytes> {
    let text = serde_json::to_vec(body);
    text.map(Into::into).map_err(|error| unsendable(&error))
}

/// A payload to be sent byte for byte.
fn json_of(payload: Option<&Payload>) -> Result<Option<Box<RawValue>>> {
    let json = payload.map(|payload| serde_json::from_slice(payload.bytes()));
    json.transpose().map_err(|error| unsendable(&error))
}

/// What commands send is made of texts and of JSON that was checked, which can always be written.
fn unsendable(error: &serde_json::Error) -> Stop {
    Stop::error(
        exit::FAILED,
        "invalid-argument",
        format!("the request cannot be written: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_sent_as_it_is() {
        let body = |input: Option<&Payload>| RaiseBody {
            name: "F".into(),
            input: json_of(input).unwrap(),
            idempotency_key: None,
        };
        let sent = written(&body(Some(&Payload::text(r#"{"b": 1.0}"#)))).unwrap();
        assert_eq!(sent, r#"{"name":"F","input":{"b": 1.0},"idempotencyKey":null}"#);
        assert_eq!(written(&body(None)).unwrap(), r#"{"name":"F","idempotencyKey":null}"#);
    }
}
