//! Durable functions in Rust: orchestrators written as async functions that survive the end of their
//! process, and the activities they call, kept in a store that is part of the program.
//!
//! ```
//! use taskhub::{ActivityContext, Hub, OrchestrationContext, Result};
//!
//! async fn say_hello(_: ActivityContext, city: String) -> Result<String> {
//!     Ok(format!("Hello {city}!"))
//! }
//!
//! async fn hello_sequence(ctx: OrchestrationContext, _: ()) -> Result<Vec<String>> {
//!     let mut greetings = Vec::new();
//!     for city in ["Tokyo", "Seattle", "London"] {
//!         greetings.push(ctx.call_activity("E1_SayHello", city).await?);
//!     }
//!     Ok(greetings)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let hub = Hub::builder("SampleHub")
//!     .orchestrator("E1_HelloSequence", hello_sequence)
//!     .activity("E1_SayHello", say_hello)
//!     .in_memory() // or open(".taskhub"), which keeps it on disk
//!     .await?;
//! let hello = hub.client().start("E1_HelloSequence", ()).await?;
//! let greetings: Vec<String> = hello.wait().await?;
//! assert_eq!(greetings.len(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! * [`OrchestrationContext`] is what an orchestrator works with; [`join_all`], [`select`] and their
//!   siblings await several of its calls at once.
//! * [`ActivityContext`] is what an activity knows of its call, [`RetryPolicy`] how often it is repeated.
//! * [`Activity`], [`Orchestrator`] and [`Event`] are names with types, for a constant that ties a caller to its callee;
//!   plain text names them too.
//! * [`Hub`] runs them, [`Client`] starts and queries instances, [`Instance`] is a handle on one. [`Store`] is what
//!   several hubs share; [`Hub::list`] and [`Hub::delete`] look after those in a folder.
//! * [`testing::TestHub`] runs them in a test, under a virtual clock, and replays every turn.
//!
//! What it is not: a way to make any future durable. An orchestrator must be deterministic and await
//! nothing but what its context made; the guide in `docs/guide` says what that means. Nor is it a queue:
//! an activity runs at least once, and only its result is applied exactly once.

#![warn(missing_docs)]

mod activity;
mod client;
mod codec;
mod divergence;
pub mod error;
mod events;
mod finite;
mod guid;
mod hub;
mod hub_error;
mod instance;
mod ledger;
mod log;
mod management;
pub mod names;
mod options;
mod orchestrator;
mod registry;
mod replay;
mod retry;
mod reveal;
#[cfg(feature = "server")]
mod serve;
mod store;
mod task;
pub mod testing;
pub mod worker;

pub use activity::{ActivityContext, ActivityOptions};
pub use client::{CheckStatus, Client, GetStatus, Instances, Raise, Start, Status, Steer, Terminate, WeakClient};
pub use codec::{FromPayload, IntoPayload, Raw};
pub use error::{Error, Failure, Result, TaskFailed};
pub use hub::{Hub, HubBuilder, STOP_PERIOD};
pub use hub_error::HubError;
pub use instance::{Instance, ToInstanceId};
pub use management::{CheckStatusResponse, ClientBinding, HttpManagementPayload};
pub use names::{Activity, Event, Orchestrator};
pub use options::Detached;
pub use orchestrator::{NextExecution, OrchestrationContext};
pub use registry::{IntoError, Registry};
pub use retry::{RetryAttempt, RetryPolicy};
#[cfg(feature = "server")]
pub use serve::Served;
pub use store::{OpenStore, Store};
pub use task::{
    Call, EventWait, EventWaitFor, First, OfActivity, OfSubOrchestration, SubOrchestrationCall, Timer, join, join_all,
    select, select_all, try_join_all,
};
/// What an event says. Kinds are added as the engine grows: match with a wildcard.
#[doc(inline)]
pub use taskhub_core::event::EventKind;
pub use taskhub_core::event::{HistoryEvent, Tags};
pub use taskhub_core::id::{ExecutionId, HubName, IdempotencyKey, InstanceId};
pub use taskhub_core::message::{ReusePolicy, StartRequest};
pub use taskhub_core::ncrontab::{InvalidNcrontab, Ncrontab};
pub use taskhub_core::payload::Payload;
pub use taskhub_core::query::{Cursor, Page};
pub use taskhub_core::refusal::Refusal;
pub use taskhub_core::status::{InstanceInfo, RuntimeStatus};
pub use taskhub_core::time::Timestamp;
pub use taskhub_engine::Error as EngineError;
pub use taskhub_engine::clock::Clock;
pub use taskhub_store::HubInfo;
pub use tracing::Level;
pub use uuid::Uuid;
pub use worker::OnNonDeterminism;

/// How a hub is served, see [`Hub::serve`]. With the feature `server`.
#[cfg(feature = "server")]
pub mod server {
    pub use taskhub_server::{Config, Error, Key, Limits, LinkPrefix, PORT_DEFAULT, Reuse, Tls, logs};
}

/// The README and the guide, compiled and run.
#[cfg(doctest)]
mod guide {
    #[cfg(feature = "server")]
    #[doc = include_str!("../../../docs/guide/http.md")]
    mod http {}
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/guide/orchestrators.md")]
    mod orchestrators {}
    #[doc = include_str!("../../../docs/guide/determinism.md")]
    mod determinism {}
    #[doc = include_str!("../../../docs/guide/activities.md")]
    mod activities {}
    #[doc = include_str!("../../../docs/guide/testing.md")]
    mod testing {}
    #[doc = include_str!("../../../docs/guide/clients.md")]
    mod clients {}
    #[doc = include_str!("../../../docs/guide/hubs.md")]
    mod hubs {}
}
