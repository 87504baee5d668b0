//! A handle on one instance.

use std::fmt;

use taskhub_core::id::InstanceId;
use taskhub_core::refusal::Refusal;
use taskhub_core::status::InstanceInfo;

use crate::client::{Client, GetStatus, Raise, Steer, Terminate, WeakClient, Whose};
use crate::codec::{FromPayload, IntoPayload};
use crate::hub_error::HubError;
use crate::names::RaiseEvent;

/// What says which instance is meant: an id, its text, or the handle.
#[diagnostic::on_unimplemented(message = "`{Self}` is not the id of an instance")]
pub trait ToInstanceId {
    /// The id.
    ///
    /// # Errors
    ///
    /// `invalid-instance-id` if a text cannot be one.
    fn to_instance_id(&self) -> Result<InstanceId, Refusal>;
}

impl ToInstanceId for InstanceId {
    fn to_instance_id(&self) -> Result<InstanceId, Refusal> {
        Ok(self.clone())
    }
}

impl ToInstanceId for Instance {
    fn to_instance_id(&self) -> Result<InstanceId, Refusal> {
        Ok(self.id.clone())
    }
}

impl ToInstanceId for str {
    fn to_instance_id(&self) -> Result<InstanceId, Refusal> {
        InstanceId::new(self)
    }
}

impl ToInstanceId for String {
    fn to_instance_id(&self) -> Result<InstanceId, Refusal> {
        InstanceId::new(self)
    }
}

impl<T: ToInstanceId + ?Sized> ToInstanceId for &T {
    fn to_instance_id(&self) -> Result<InstanceId, Refusal> {
        (**self).to_instance_id()
    }
}

/// An instance of a hub: what [`Client::start`] gives back, or [`Client::instance`] for one that is known by its id.
/// Cheap to clone. It does not keep the hub, as a [`Client`] does: once that is gone, it answers [`HubError::Stopped`].
///
/// ```
/// # use taskhub::{Hub, OrchestrationContext, Result};
/// # async fn order(ctx: OrchestrationContext, _: ()) -> Result<bool> {
/// #     Ok(ctx.wait_for_external_event("Approval").await?)
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let hub = Hub::builder("Orders").orchestrator("Order", order).in_memory().await?;
/// let order = hub.client().start("Order", ()).id("order-17").await?;
/// order.raise_event("Approval", true).await?;
/// let is_approved: bool = order.wait().await?;
/// assert!(is_approved);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Instance {
    client: WeakClient,
    id: InstanceId,
}

impl Instance {
    pub(crate) fn new(client: &Client, id: InstanceId) -> Self {
        let client = client.downgrade();
        Self { client, id }
    }

    fn client(&self) -> Result<Client, HubError> {
        self.client.upgrade().ok_or(HubError::Stopped)
    }

    fn whose(&self) -> Whose {
        Ok((self.client()?, self.id.clone()))
    }

    /// Its id.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Its status record, see [`Client::get_status`].
    pub fn status(&self) -> GetStatus {
        GetStatus::new(self.whose())
    }

    /// Waits until it has completed, and gives its result, see [`Client::wait_for_completion`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn wait<T: FromPayload>(&self) -> Result<T, HubError> {
        self.client()?.wait_for_completion(&self.id).await
    }

    /// Waits until it has ended, however that was, and gives its status record.
    ///
    /// # Errors
    ///
    /// As [`Client::wait_for_end`].
    pub async fn wait_for_end(&self) -> Result<InstanceInfo, HubError> {
        self.client()?.wait_for_end(&self.id).await
    }

    /// Raises an event, see [`Client::raise_event`].
    pub fn raise_event<T: IntoPayload>(&self, name: impl RaiseEvent<T>, payload: T) -> Raise {
        Raise::new(self.whose(), name.name(), payload)
    }

    /// Ends it at once, see [`Client::terminate`].
    pub fn terminate(&self) -> Terminate {
        Terminate::new(self.whose())
    }

    /// Sets it aside until it is resumed, see [`Client::suspend`].
    pub fn suspend(&self) -> Steer {
        Steer::suspend(self.whose())
    }

    /// Lets it go on, see [`Client::resume`].
    pub fn resume(&self) -> Steer {
        Steer::resume(self.whose())
    }

    /// Removes it and everything about it once it has ended; gives how many went, 0 or 1.
    ///
    /// # Errors
    ///
    /// As [`Client::purge_instance_history`].
    pub async fn purge(&self) -> Result<u64, HubError> {
        self.client()?.purge_instance_history(&self.id).await
    }
}

impl AsRef<InstanceId> for Instance {
    fn as_ref(&self) -> &InstanceId {
        &self.id
    }
}

impl From<Instance> for InstanceId {
    fn from(instance: Instance) -> Self {
        instance.id
    }
}

impl fmt::Display for Instance {
    /// The id.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, out)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Instance(`{}`)", self.id)
    }
}
