//! The JSON of the management API: every member it has is named here, in the order it is sent (H40).

use serde::Serialize;
use taskhub_core::id::HubName;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};

use super::history::Record;
use super::payload::Shown;
use super::time;

/// What an error says, always with these four (H41).
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ErrorObject<'a> {
    message: &'a str,
    exception_message: &'a str,
    exception_type: &'a str,
    stack_trace: Option<()>,
}

impl<'a> ErrorObject<'a> {
    pub(crate) fn new(message: &'a str, exception_message: &'a str, exception_type: &'a str) -> Self {
        Self {
            message,
            exception_message,
            exception_type,
            stack_trace: None,
        }
    }
}

/// The status of an instance (H50).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceStatus<'a> {
    name: &'a str,
    instance_id: &'a str,
    runtime_status: &'static str,
    input: Shown<'a>,
    custom_status: Shown<'a>,
    output: Shown<'a>,
    created_time: String,
    last_updated_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_events: Option<&'a [Record<'a>]>,
    /// The same again, under the name two clients look for.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<&'a [Record<'a>]>,
}

impl<'a> InstanceStatus<'a> {
    pub(crate) fn new(info: &'a InstanceInfo, show_input: bool, history: Option<&'a [Record<'a>]>) -> Self {
        Self {
            name: info.name.as_str(),
            instance_id: info.instance.as_str(),
            runtime_status: status_word(info.status),
            input: Shown::new(info.input.as_ref().filter(|_| show_input)),
            custom_status: Shown::new(info.custom_status.as_ref()),
            output: Shown::new(info.output.as_ref()),
            created_time: time::whole(info.created_at),
            last_updated_time: time::whole(info.updated_at),
            history_events: history,
            history,
        }
    }
}

/// The word for a status. Clients know exactly these; the Python client fails on any other (H53).
pub(crate) fn status_word(status: RuntimeStatus) -> &'static str {
    match status {
        RuntimeStatus::Running => "Running",
        RuntimeStatus::Completed => "Completed",
        RuntimeStatus::ContinuedAsNew => "ContinuedAsNew",
        RuntimeStatus::Failed => "Failed",
        RuntimeStatus::Canceled => "Canceled",
        RuntimeStatus::Terminated => "Terminated",
        RuntimeStatus::Pending => "Pending",
        RuntimeStatus::Suspended => "Suspended",
    }
}

/// Where an instance is managed (H54).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManagementPayload {
    pub(crate) id: String,
    pub(crate) status_query_get_uri: String,
    pub(crate) send_event_post_uri: String,
    pub(crate) terminate_post_uri: String,
    pub(crate) rewind_post_uri: String,
    pub(crate) purge_history_delete_uri: String,
    pub(crate) restart_post_uri: String,
    pub(crate) suspend_post_uri: String,
    pub(crate) resume_post_uri: String,
}

/// Where instances are created (H55).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreationUrls {
    pub(crate) create_new_instance_post_uri: String,
    pub(crate) create_and_wait_on_new_instance_post_uri: String,
}

/// What a client library is made from (H56).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientBinding {
    pub(crate) task_hub_name: String,
    pub(crate) creation_urls: CreationUrls,
    pub(crate) management_urls: ManagementPayload,
    pub(crate) base_url: String,
    pub(crate) required_query_string_parameters: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rpc_base_url: Option<String>,
}

/// How many instances went (H58).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PurgeResult {
    pub(crate) instances_deleted: u64,
}

/// Which hub went (O18).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeletedHub<'a> {
    deleted_task_hub_name: &'a str,
}

impl<'a> DeletedHub<'a> {
    pub(crate) fn new(hub: &'a HubName) -> Self {
        Self {
            deleted_task_hub_name: hub.as_str(),
        }
    }
}
