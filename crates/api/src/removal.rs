//! What the management API says of things that are gone.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use taskhub_core::id::HubName;

/// How many instances went (H58).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgeResult {
    /// Their number.
    pub instances_deleted: u64,
}

/// Which hub went (O18).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedHub<'a> {
    /// Its name.
    pub deleted_task_hub_name: Cow<'a, str>,
}

impl<'a> DeletedHub<'a> {
    /// A hub by its name.
    pub fn new(hub: &'a HubName) -> Self {
        Self {
            deleted_task_hub_name: Cow::Borrowed(hub.as_str()),
        }
    }
}
