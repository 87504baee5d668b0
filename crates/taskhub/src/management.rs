//! Where instances are managed over HTTP, for programs that pass it on: the three calls that client
//! libraries make of the document a server gives them, without asking it anything (H97).

use std::fmt::{self, Write as _};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use taskhub_core::id::InstanceId;
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;

use crate::hub_error::HubError;

/// What stands in the place of the id in a binding (H56).
const PLACEHOLDER: &str = "INSTANCEID";

/// Where an instance is managed (H54). Whoever has it needs nothing else, so it can be sent to other systems.
///
/// `{eventName}` and `{text}` in it are for the caller to replace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpManagementPayload {
    /// The instance.
    pub id: String,
    /// GET: its status.
    pub status_query_get_uri: String,
    /// POST: raises the event `{eventName}`.
    pub send_event_post_uri: String,
    /// POST: ends it, for the reason `{text}`.
    pub terminate_post_uri: String,
    /// POST: takes it back to before its failure, for the reason `{text}`.
    pub rewind_post_uri: String,
    /// DELETE: removes it.
    pub purge_history_delete_uri: String,
    /// POST: starts it anew.
    pub restart_post_uri: String,
    /// POST: sets it aside, for the reason `{text}`.
    pub suspend_post_uri: String,
    /// POST: lets it go on, for the reason `{text}`.
    pub resume_post_uri: String,
}

/// What a server says of itself, for client libraries: its links, with a placeholder for the id (H56).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientBinding {
    management_urls: HttpManagementPayload,
}

impl ClientBinding {
    /// Reads the JSON that a server serves as `clientbinding`.
    ///
    /// # Errors
    ///
    /// `invalid-argument` if it is no such document.
    pub fn parse(json: &str) -> Result<Self, HubError> {
        serde_json::from_str(json).map_err(|error| HubError::Argument {
            what: format!("this is no client binding: {error}"),
        })
    }

    /// The same with another scheme and host, such as those of a request that is being answered.
    #[must_use]
    pub fn with_origin(&self, origin: &str) -> Self {
        let origin = origin.trim_end_matches('/');
        let moved = |url: &str| match path_of(url) {
            Some(path) => format!("{origin}{path}"),
            None => url.to_owned(),
        };
        Self {
            management_urls: self.management_urls.map(moved),
        }
    }

    /// Where an instance is managed. Whether it exists does not matter.
    pub fn payload(&self, instance: &InstanceId) -> HttpManagementPayload {
        let id = encoded(instance.as_str());
        let mut payload = self.management_urls.map(|url| url.replace(PLACEHOLDER, &id));
        instance.as_str().clone_into(&mut payload.id);
        payload
    }
}

impl HttpManagementPayload {
    /// The same with every link changed.
    fn map(&self, change: impl Fn(&str) -> String) -> Self {
        Self {
            id: self.id.clone(),
            status_query_get_uri: change(&self.status_query_get_uri),
            send_event_post_uri: change(&self.send_event_post_uri),
            terminate_post_uri: change(&self.terminate_post_uri),
            rewind_post_uri: change(&self.rewind_post_uri),
            purge_history_delete_uri: change(&self.purge_history_delete_uri),
            restart_post_uri: change(&self.restart_post_uri),
            suspend_post_uri: change(&self.suspend_post_uri),
            resume_post_uri: change(&self.resume_post_uri),
        }
    }
}

/// What of a URL comes behind scheme and host.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.get(rest.find('/')?..)
}

/// Everything but letters, digits and `- . _ ~` (H54).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into a text cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The binding of the server in front of a hub, once there is one; shared by the hub's clients and activities.
#[derive(Clone, Default)]
pub(crate) struct Front(Arc<RwLock<Option<Arc<ClientBinding>>>>);

impl Front {
    pub(crate) fn set(&self, binding: ClientBinding) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(binding));
    }

    pub(crate) fn get(&self) -> Result<Arc<ClientBinding>, HubError> {
        let binding = self.0.read().unwrap_or_else(PoisonError::into_inner);
        binding.clone().ok_or(HubError::NotServed)
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Front(is_served: {})", self.get().is_ok())
    }
}

/// An answer to an HTTP request, for whatever web framework the program uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckStatusResponse {
    /// Status code.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

impl CheckStatusResponse {
    fn json(status: u16, body: &impl Serialize) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            // Made of texts and of JSON that was checked, which can always be written.
            body: serde_json::to_string(body).unwrap_or_default(),
        }
    }

    /// 202, with where to ask and when (H61).
    pub(crate) fn pending(payload: &HttpManagementPayload) -> Self {
        let mut response = Self::json(202, payload);
        let location = payload.status_query_get_uri.clone();
        response.headers.push(("location", location));
        response.headers.push(("retry-after", "10".to_owned()));
        response
    }

    /// The result of an instance that has ended: its output if it completed, its status otherwise (H97).
    pub(crate) fn ended(info: &InstanceInfo) -> Self {
        match info.status {
            RuntimeStatus::Completed => Self::json(200, &shown(info.output.as_ref())),
            RuntimeStatus::Failed => Self::json(500, &StatusBody::new(info)),
            _ => Self::json(200, &StatusBody::new(info)),
        }
    }
}

/// The status as the management API shows it (H50). The server has its own; a test there compares the two.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusBody<'a> {
    name: &'a str,
    instance_id: &'a str,
    runtime_status: String,
    input: Option<Box<RawValue>>,
    custom_status: Option<Box<RawValue>>,
    output: Option<Box<RawValue>>,
    created_time: String,
    last_updated_time: String,
}

impl<'a> StatusBody<'a> {
    fn new(info: &'a InstanceInfo) -> Self {
        Self {
            name: info.name.as_str(),
            instance_id: info.instance.as_str(),
            runtime_status: info.status.to_string(),
            input: shown(info.input.as_ref()),
            custom_status: shown(info.custom_status.as_ref()),
            output: shown(info.output.as_ref()),
            created_time: whole_seconds(info.created_at),
            last_updated_time: whole_seconds(info.updated_at),
        }
    }
}

/// A payload verbatim if it is JSON that all clients can read, and as a JSON string otherwise (H51).
fn shown(payload: Option<&Payload>) -> Option<Box<RawValue>> {
    let payload = payload?;
    let text = payload.to_text();
    if text.trim().is_empty() {
        return RawValue::from_string("\"\"".to_owned()).ok();
    }
    let json = match payload.levels_beyond_limit() {
        Some(_) => None,
        None => RawValue::from_string(text.clone()).ok(),
    };
    json.or_else(|| serde_json::value::to_raw_value(&text).ok())
}

fn whole_seconds(moment: Timestamp) -> String {
    let text = moment.to_string();
    format!("{}Z", text.split('.').next().unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> ClientBinding {
        let url =
            |end: &str| format!("http://localhost:7071/runtime/webhooks/durabletask/instances/INSTANCEID{end}?code=k");
        let json = serde_json::json!({
            "taskHubName": "SampleHub",
            "managementUrls": {
                "id": "INSTANCEID",
                "statusQueryGetUri": url(""),
                "sendEventPostUri": url("/raiseEvent/{eventName}"),
                "terminatePostUri": url("/terminate"),
                "rewindPostUri": url("/rewind"),
                "purgeHistoryDeleteUri": url(""),
                "restartPostUri": url("/restart"),
                "suspendPostUri": url("/suspend"),
                "resumePostUri": url("/resume"),
            }
        });
        ClientBinding::parse(&json.to_string()).unwrap()
    }

    #[test]
    fn the_id_takes_the_place_of_the_placeholder_encoded() {
        let payload = binding().payload(&InstanceId::new("order 17/ü").unwrap());
        assert_eq!(payload.id, "order 17/ü");
        let instance = "http://localhost:7071/runtime/webhooks/durabletask/instances/order%2017%2F%C3%BC";
        assert_eq!(payload.status_query_get_uri, format!("{instance}?code=k"));
        assert_eq!(
            payload.send_event_post_uri,
            format!("{instance}/raiseEvent/{{eventName}}?code=k")
        );
    }

    #[test]
    fn links_can_be_moved_to_the_origin_of_a_request() {
        let moved = binding().with_origin("https://hub.example.org/");
        let payload = moved.payload(&InstanceId::new("i").unwrap());
        let start = "https://hub.example.org/runtime/webhooks/durabletask/instances/i";
        assert!(
            payload.resume_post_uri.starts_with(start),
            "{}",
            payload.resume_post_uri
        );
    }

    #[test]
    fn other_documents_are_refused() {
        assert_eq!(ClientBinding::parse("{}").unwrap_err().code(), "invalid-argument");
    }

    #[test]
    fn payloads_are_shown_verbatim_where_they_are_json() {
        let text = |payload: &str| shown(Some(&Payload::text(payload))).unwrap().get().to_owned();
        assert_eq!(text("{\"b\": 1.10}"), "{\"b\": 1.10}");
        assert_eq!(text("It was time"), "\"It was time\"");
        assert_eq!(text(" "), "\"\"");
        assert!(shown(None).is_none());
    }
}
