//! Where instances are managed, for those to whom it is passed on (H54–H56).

use serde::{Deserialize, Serialize};

use crate::percent;

/// What client libraries replace by the id of an instance (H56).
pub const PLACEHOLDER: &str = "INSTANCEID";

/// The management URLs of an instance (H54). They contain everything needed to call them, including the key, so they
/// can be passed to other systems.
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
    /// POST: restarts the instance.
    pub restart_post_uri: String,
    /// POST: sets it aside, for the reason `{text}`.
    pub suspend_post_uri: String,
    /// POST: lets it go on, for the reason `{text}`.
    pub resume_post_uri: String,
}

impl HttpManagementPayload {
    /// The links of an instance. `base` is where the surface begins, `query` what every link carries, both encoded;
    /// `status_query` is added to the link to the status alone.
    pub fn new(base: &str, id: &str, query: &str, status_query: &str) -> Self {
        let instance = format!("{base}/instances/{}", percent::encode(id));
        let control = |verb: &str| format!("{instance}/{verb}?reason={{text}}&{query}");
        Self {
            id: id.to_owned(),
            status_query_get_uri: format!("{instance}?{query}{status_query}"),
            send_event_post_uri: format!("{instance}/raiseEvent/{{eventName}}?{query}"),
            terminate_post_uri: control("terminate"),
            rewind_post_uri: control("rewind"),
            purge_history_delete_uri: format!("{instance}?{query}"),
            restart_post_uri: format!("{instance}/restart?{query}"),
            suspend_post_uri: control("suspend"),
            resume_post_uri: control("resume"),
        }
    }

    /// The same with every link changed.
    #[must_use]
    pub fn map(&self, change: impl Fn(&str) -> String) -> Self {
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

    /// The links of an instance, made of those with [`PLACEHOLDER`] in the place of the id.
    #[must_use]
    pub fn for_instance(&self, id: &str) -> Self {
        let encoded = percent::encode(id);
        let mut payload = self.map(|url| url.replace(PLACEHOLDER, &encoded));
        id.clone_into(&mut payload.id);
        payload
    }
}

/// Where instances are created (H55).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreationUrls {
    /// POST: starts an instance.
    pub create_new_instance_post_uri: String,
    /// POST: starts one, and waits for its end.
    pub create_and_wait_on_new_instance_post_uri: String,
}

/// What client libraries are made from: the links to a hub (H56).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientBinding {
    /// The hub.
    pub task_hub_name: String,
    /// Where instances are created.
    pub creation_urls: CreationUrls,
    /// Where they are managed, with [`PLACEHOLDER`] in the place of the id.
    pub management_urls: HttpManagementPayload,
    /// Where the surface begins.
    pub base_url: String,
    /// What the query of every call needs.
    pub required_query_string_parameters: String,
    /// Where the local RPC surface begins; absent if the caller cannot use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_base_url: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_takes_the_place_of_the_placeholder_encoded() {
        let base = "http://localhost:7071/runtime/webhooks/durabletask";
        let model = HttpManagementPayload::new(base, PLACEHOLDER, "code=k", "");
        let payload = model.for_instance("order 17/ü");
        assert_eq!(payload, HttpManagementPayload::new(base, "order 17/ü", "code=k", ""));
        let event = format!("{base}/instances/order%2017%2F%C3%BC/raiseEvent/{{eventName}}?code=k");
        assert_eq!(payload.send_event_post_uri, event);
    }
}
