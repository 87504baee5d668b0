//! Where instances are managed over HTTP, for programs that pass it on: the three calls that client
//! libraries make of the document a server gives them, without asking it anything (H97).

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use taskhub_api::instance::InstanceStatus;
use taskhub_api::links;
pub use taskhub_api::links::HttpManagementPayload;
use taskhub_api::payload::Shown;
use taskhub_core::id::InstanceId;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};

use crate::hub_error::HubError;

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
    /// `invalid-argument` if the text is not such a document.
    pub fn parse(json: &str) -> Result<Self, HubError> {
        serde_json::from_str(json).map_err(|error| HubError::Argument {
            what: format!("invalid client binding: {error}"),
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
        self.management_urls.for_instance(instance.as_str())
    }
}

/// What of a URL comes behind scheme and host.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.get(rest.find('/')?..)
}

impl From<links::ClientBinding> for ClientBinding {
    /// The part of a server's own that the library needs.
    fn from(binding: links::ClientBinding) -> Self {
        Self {
            management_urls: binding.management_urls,
        }
    }
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

/// A response to an HTTP request, for any web framework.
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
            RuntimeStatus::Completed => Self::json(200, &Shown::new(info.output.as_ref())),
            RuntimeStatus::Failed => Self::json(500, &InstanceStatus::new(info, true)),
            _ => Self::json(200, &InstanceStatus::new(info, true)),
        }
    }
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
}
