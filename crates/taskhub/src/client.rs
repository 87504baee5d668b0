//! Start, query, steer, wait for and purge instances: the article's operations under Rust names.
//!
//! Optional values are set on a builder, which is then awaited.

mod check;
mod start;
mod status;
mod steer;

use std::pin::Pin;
use std::sync::{Arc, Weak};

use taskhub_core::failure::Failure;
use taskhub_core::id::InstanceId;
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_engine::{Hub as Engine, WaitFor};

use crate::codec::{self, FromPayload, IntoPayload};
use crate::hub_error::HubError;
use crate::instance::{Instance, ToInstanceId};
use crate::management::{CheckStatusResponse, Front, HttpManagementPayload};
use crate::names::{RaiseEvent, StartOrchestrator};

pub use check::CheckStatus;
pub use start::Start;
pub use status::{GetStatus, Instances, Status};
pub use steer::{Raise, Steer, Terminate};

/// The instance that a builder is about, and the client that its hub is reached by.
pub(crate) type Whose = Result<(Client, InstanceId), HubError>;

/// What a builder becomes when it is awaited.
pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HubError>> + Send>>;

/// The way to the instances of a hub. Cheap to clone.
///
/// A client keeps the hub: as long as one lives, the hub runs and its store stays locked, even if the
/// [`Hub`](crate::Hub) itself is gone. What the hub's own functions hold, an activity that queries instances
/// for example, is a [`WeakClient`].
#[derive(Clone, Debug)]
pub struct Client {
    engine: Arc<Engine>,
    front: Front,
}

/// A client that does not keep the hub. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WeakClient {
    engine: Weak<Engine>,
    front: Front,
}

impl WeakClient {
    /// The client, unless the hub is gone.
    pub fn upgrade(&self) -> Option<Client> {
        let engine = self.engine.upgrade()?;
        Some(Client::new(engine, self.front.clone()))
    }
}

impl Client {
    pub(crate) fn new(engine: Arc<Engine>, front: Front) -> Self {
        Self { engine, front }
    }

    /// A client that does not keep the hub.
    pub fn downgrade(&self) -> WeakClient {
        WeakClient {
            engine: Arc::downgrade(&self.engine),
            front: self.front.clone(),
        }
    }

    /// Starts an orchestration. When awaiting it returns, it is on disk. [`Start`] has the options, such as the id.
    ///
    /// The name is plain text or an [`Orchestrator`](crate::Orchestrator), which knows the types.
    ///
    /// ```
    /// # use taskhub::{Hub, OrchestrationContext, Result};
    /// # async fn order(_: OrchestrationContext, number: u32) -> Result<u32> {
    /// #     Ok(number)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let hub = Hub::builder("Orders").orchestrator("Order", order).in_memory().await?;
    /// let order = hub.client().start("Order", 7).id("order-7").tag("kind", "gift").await?;
    /// assert_eq!(order.wait::<u32>().await?, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Awaiting it gives `invalid-name`, `invalid-instance-id`, `invalid-idempotency-key`, `payload-too-large`,
    /// `payload-too-deep`, an input that cannot be written as JSON, `instance-exists` as [`Start::reuse`] says (R136),
    /// `idempotency-conflict`, or the hub's trouble.
    pub fn start<I: IntoPayload>(&self, name: impl StartOrchestrator<I>, input: I) -> Start {
        let name = name.name();
        let input = input.into_payload(&format_args!("the input of orchestrator `{name}`"));
        Start::new(self.clone(), name, input.map_err(codec_error))
    }

    /// The name that [`Client::start`] has in Microsoft's article.
    pub fn start_new<I: IntoPayload>(&self, name: impl StartOrchestrator<I>, input: I) -> Start {
        self.start(name, input)
    }

    /// A handle on an instance, without checking whether it exists.
    ///
    /// # Errors
    ///
    /// `invalid-instance-id`.
    pub fn instance(&self, id: impl ToInstanceId) -> Result<Instance, HubError> {
        Ok(Instance::new(self, id.to_instance_id()?))
    }

    /// The status record of an instance; `None` if it does not exist. [`GetStatus`] has the options.
    ///
    /// # Errors
    ///
    /// Awaiting it gives `invalid-instance-id` or the hub's trouble.
    pub fn get_status(&self, instance: impl ToInstanceId) -> GetStatus {
        GetStatus::new(self.whose(instance))
    }

    /// The instances of the hub. [`Instances`] has filters, pages, and the purge of many.
    ///
    /// # Errors
    ///
    /// Awaiting it gives the hub's trouble.
    pub fn instances(&self) -> Instances {
        Instances::new(self.clone())
    }

    /// The name of [`Client::instances`] in Microsoft's article: awaited without options, it lists all instances.
    pub fn get_status_all(&self) -> Instances {
        self.instances()
    }

    /// Raises an event. When awaiting it returns, it is on disk. [`Raise`] has the options.
    ///
    /// The name is plain text or an [`Event`](crate::Event), which knows the type.
    ///
    /// # Errors
    ///
    /// Awaiting it gives `instance-not-found`, `instance-not-live`, `inbox-full`, `invalid-name`, `invalid-instance-id`,
    /// `payload-too-large`, `payload-too-deep`, a payload that cannot be written as JSON, or the hub's trouble.
    pub fn raise_event<T: IntoPayload>(
        &self,
        instance: impl ToInstanceId,
        name: impl RaiseEvent<T>,
        payload: T,
    ) -> Raise {
        Raise::new(self.whose(instance), name.name(), payload)
    }

    /// Ends an instance at once. [`Terminate`] has the options.
    ///
    /// # Errors
    ///
    /// Awaiting it gives `instance-not-found`, `instance-not-live`, `invalid-instance-id`, or the hub's trouble.
    pub fn terminate(&self, instance: impl ToInstanceId) -> Terminate {
        Terminate::new(self.whose(instance))
    }

    /// Sets an instance aside until it is resumed (R108). [`Steer`] has the options.
    ///
    /// # Errors
    ///
    /// As [`Client::terminate`].
    pub fn suspend(&self, instance: impl ToInstanceId) -> Steer {
        Steer::suspend(self.whose(instance))
    }

    /// Lets a suspended instance go on (R111). [`Steer`] has the options.
    ///
    /// # Errors
    ///
    /// As [`Client::terminate`].
    pub fn resume(&self, instance: impl ToInstanceId) -> Steer {
        Steer::resume(self.whose(instance))
    }

    fn whose(&self, instance: impl ToInstanceId) -> Whose {
        Ok((self.clone(), instance.to_instance_id()?))
    }

    /// Waits until an instance has begun, and returns its status record. To stop waiting, drop the future.
    ///
    /// # Errors
    ///
    /// `instance-not-found`, or the hub's trouble.
    pub async fn wait_for_start(&self, instance: impl ToInstanceId) -> Result<InstanceInfo, HubError> {
        Ok(self.engine.wait(&instance.to_instance_id()?, WaitFor::Started).await?)
    }

    /// Waits until an instance has ended in any way, and returns its status record.
    ///
    /// # Errors
    ///
    /// `instance-not-found`, or the hub's trouble.
    pub async fn wait_for_end(&self, instance: impl ToInstanceId) -> Result<InstanceInfo, HubError> {
        Ok(self.engine.wait(&instance.to_instance_id()?, WaitFor::Ended).await?)
    }

    /// Waits until an instance has completed, and returns its result.
    ///
    /// # Errors
    ///
    /// [`HubError::Failed`] or [`HubError::Terminated`] if it ended in that way, an error if the result is not a `T`,
    /// and the errors of [`Client::wait_for_end`].
    pub async fn wait_for_completion<T: FromPayload>(&self, instance: impl ToInstanceId) -> Result<T, HubError> {
        let info = self.wait_for_end(instance).await?;
        let id = info.instance;
        match info.status {
            RuntimeStatus::Completed => {
                let result = codec::decode(info.output.as_ref(), format_args!("the result of instance `{id}`"));
                result.map_err(codec_error)
            }
            RuntimeStatus::Failed => Err(HubError::Failed {
                id,
                failure: info.failure.unwrap_or_default(),
            }),
            _ => Err(HubError::Terminated {
                id,
                reason: info.output.as_ref().map(Payload::to_text),
            }),
        }
    }

    /// The management URLs of an instance, to be sent to other systems. Does not check whether the instance exists.
    ///
    /// # Errors
    ///
    /// `not-served` if the hub was not told of a server, see [`Hub::set_client_binding`](crate::Hub::set_client_binding).
    pub fn create_http_management_payload(
        &self,
        instance: impl ToInstanceId,
    ) -> Result<HttpManagementPayload, HubError> {
        Ok(self.front.get()?.payload(&instance.to_instance_id()?))
    }

    /// The answer of an HTTP function that has started an instance: 202, with where to ask for it and when.
    ///
    /// # Errors
    ///
    /// As [`Client::create_http_management_payload`].
    pub fn create_check_status_response(&self, instance: impl ToInstanceId) -> Result<CheckStatusResponse, HubError> {
        Ok(CheckStatusResponse::pending(
            &self.create_http_management_payload(instance)?,
        ))
    }

    /// The answer of an HTTP function that waits for an instance: its output if it completes in time, its
    /// status if it ends otherwise, with 500 if it failed, and as
    /// [`Client::create_check_status_response`] if it takes longer. [`CheckStatus`] has the times.
    ///
    /// # Errors
    ///
    /// Awaiting it gives `invalid-argument` if the interval is longer than the wait, or as
    /// [`Client::create_http_management_payload`], `instance-not-found`, or the hub's trouble.
    pub fn wait_for_completion_or_create_check_status_response(&self, instance: impl ToInstanceId) -> CheckStatus {
        CheckStatus::new(self.whose(instance))
    }

    /// Removes an ended instance and everything about it; says how many went, 0 or 1 (R129). Many are removed by
    /// [`Instances::purge`].
    ///
    /// # Errors
    ///
    /// `instance-live` if it has not ended, `invalid-instance-id`, or the hub's trouble.
    pub async fn purge_instance_history(&self, instance: impl ToInstanceId) -> Result<u64, HubError> {
        Ok(self.engine.purge(&instance.to_instance_id()?).await?.count)
    }
}

pub(crate) fn codec_error(failure: Failure) -> HubError {
    HubError::Codec {
        failure: Box::new(failure),
    }
}
