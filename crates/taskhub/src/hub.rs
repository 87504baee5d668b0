//! A hub in this process: functions, a store, and the engine between them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::fold::FoldedName;
use taskhub_core::id::{HubName, Name};
use taskhub_engine::clock::Clock;
use taskhub_engine::{Hub as Engine, Options};
use taskhub_store::HubInfo;

use crate::activity::{ActivityContext, ActivityOptions};
use crate::client::Client;
use crate::codec::{FromPayload, IntoPayload};
use crate::hub_error::HubError;
use crate::management::{ClientBinding, Front};
use crate::names::{DefineActivity, DefineOrchestrator, Named};
use crate::orchestrator::OrchestrationContext;
use crate::registry::{IntoError, Registry};
use crate::store::Store;
use crate::worker::{OnNonDeterminism, RegisteredFunctions, WorkerOptions};

/// How long [`Hub::stop`] lets running activities finish, unless told otherwise (R206).
pub const STOP_PERIOD: Duration = Duration::from_secs(30);

/// A running hub. Dropping it is safe at any time; [`Hub::stop`] lets running activities finish first.
///
/// It runs, and keeps its store, as long as it or a [`Client`] of it lives; functions registered with it
/// hold a [`WeakClient`](crate::WeakClient) for that reason.
///
/// ```
/// use taskhub::{ActivityContext, Hub, OrchestrationContext, Result};
///
/// async fn say_hello(_: ActivityContext, city: String) -> Result<String> {
///     Ok(format!("Hello {city}!"))
/// }
///
/// async fn hello_sequence(ctx: OrchestrationContext, _: ()) -> Result<Vec<String>> {
///     let mut greetings = Vec::new();
///     for city in ["Tokyo", "Seattle", "London"] {
///         greetings.push(ctx.call_activity("E1_SayHello", city).await?);
///     }
///     Ok(greetings)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let hub = Hub::builder("SampleHub")
///     .orchestrator("E1_HelloSequence", hello_sequence)
///     .activity("E1_SayHello", say_hello)
///     .in_memory()
///     .await?;
/// let hello = hub.client().start("E1_HelloSequence", ()).await?;
/// let greetings: Vec<String> = hello.wait().await?;
/// assert_eq!(greetings, ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Hub {
    engine: Arc<Engine>,
    front: Front,
    store: Store,
}

impl Hub {
    /// Begins a hub with this name: 3 to 50 letters and digits, the first a letter.
    pub fn builder(name: &str) -> HubBuilder {
        HubBuilder {
            name: name.to_owned(),
            registry: Registry::new(),
            options: Options::default(),
            worker: WorkerOptions::default(),
        }
    }

    /// Lists the hubs of the embedded store in a folder, by name; for an open store, use [`Store::hubs`]. A folder
    /// without a store has no hubs and is not changed.
    ///
    /// # Errors
    ///
    /// `store-locked` if a process, including this one, has the folder open; `store-format`, `store-corrupt`, or
    /// another error of the store.
    pub async fn list(folder: impl AsRef<Path>) -> Result<Vec<HubInfo>, HubError> {
        match Store::existing(folder.as_ref())? {
            Some(store) => store.hubs().await,
            None => Ok(Vec::new()),
        }
    }

    /// Deletes a hub from the embedded store in a folder: its instances, their histories and all waiting work. When
    /// this returns, the deletion is durable. The store reuses the space, but the file does not become smaller
    /// immediately.
    ///
    /// A hub that runs has to be stopped first, and dropped together with its clients.
    ///
    /// ```
    /// # use taskhub::{Hub, Result};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// # let scratch = tempfile::tempdir()?;
    /// let folder = scratch.path().join("no-store-here");
    /// assert!(Hub::list(&folder).await?.is_empty());
    /// assert_eq!(Hub::delete(&folder, "OldHub").await.unwrap_err().code(), "hub-not-found");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `hub-not-found`, `invalid-hub-name`, and as [`Hub::list`].
    pub async fn delete(folder: impl AsRef<Path>, name: &str) -> Result<(), HubError> {
        let hub = HubName::new(name)?;
        match Store::existing(folder.as_ref())? {
            Some(store) => store.delete_hub(name).await,
            None => Err(HubError::HubNotFound { hub }),
        }
    }

    /// The way to start, query and steer instances. Cheap to clone.
    pub fn client(&self) -> Client {
        Client::new(Arc::clone(&self.engine), self.front.clone())
    }

    /// Tells the hub's clients and activities where it is served over HTTP, as its server says, so that they
    /// can hand out links to instances.
    pub fn set_client_binding(&self, binding: ClientBinding) {
        self.front.set(binding);
    }

    /// The engine under it, for figures and for fronts.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Ends the hub's work: no activity is begun any more, those that run get `grace` to finish, and
    /// everything acknowledged is on disk when this returns (R206, R209).
    ///
    /// # Errors
    ///
    /// If the store fails; everything acknowledged is safe even so.
    pub async fn stop(&self, grace: Duration) -> Result<(), HubError> {
        let stopped = self.engine.stop(grace).await;
        self.store.release().await;
        Ok(stopped?)
    }

    /// Whether the hub is stopping or has stopped. It then accepts no more calls.
    pub fn is_stopping(&self) -> bool {
        self.engine.is_stopping()
    }

    /// Waits for Ctrl-C or, on Unix, SIGTERM, then stops like [`Hub::stop`]. After the first call, these signals no
    /// longer end the process by themselves. Requires the feature `signal`.
    ///
    /// # Errors
    ///
    /// As [`Hub::stop`], or `signal-unavailable` if the signals cannot be listened to.
    ///
    /// # Panics
    ///
    /// On Unix, outside a Tokio runtime with input and output enabled.
    #[cfg(feature = "signal")]
    pub async fn stop_on_signal(&self, grace: Duration) -> Result<(), HubError> {
        told_to_end().await.map_err(HubError::Signal)?;
        self.stop(grace).await
    }
}

#[cfg(all(feature = "signal", unix))]
async fn told_to_end() -> std::io::Result<()> {
    use futures_util::future;
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (interrupt, terminate) = (std::pin::pin!(interrupt.recv()), std::pin::pin!(terminate.recv()));
    future::select(interrupt, terminate).await;
    Ok(())
}

#[cfg(all(feature = "signal", not(unix)))]
async fn told_to_end() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// What a hub is made of, before it is opened.
pub struct HubBuilder {
    name: String,
    registry: Registry,
    options: Options,
    worker: WorkerOptions,
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HubBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl HubBuilder {
    /// Takes the functions of a registry in the place of those added so far.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Adds an orchestrator, see [`Registry::orchestrator`].
    #[must_use]
    pub fn orchestrator<F, Fut, I, O, E>(mut self, name: impl DefineOrchestrator<I, O>, function: F) -> Self
    where
        F: Fn(OrchestrationContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + 'static,
        I: FromPayload + 'static,
        O: IntoPayload + 'static,
        E: IntoError + 'static,
    {
        self.registry = self.registry.orchestrator(name, function);
        self
    }

    /// Adds an activity, see [`Registry::activity`].
    #[must_use]
    pub fn activity<F, Fut, I, O, E>(mut self, name: impl DefineActivity<I, O>, function: F) -> Self
    where
        F: Fn(ActivityContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: FromPayload + 'static,
        O: IntoPayload + 'static,
        E: IntoError + 'static,
    {
        self.registry = self.registry.activity(name, function);
        self
    }

    /// Adds an activity that blocks its thread, see [`Registry::blocking_activity`].
    #[must_use]
    pub fn blocking_activity<F, I, O, E>(mut self, name: impl DefineActivity<I, O>, function: F) -> Self
    where
        F: Fn(ActivityContext, I) -> Result<O, E> + Send + Sync + 'static,
        I: FromPayload + 'static,
        O: IntoPayload + 'static,
        E: IntoError + 'static,
    {
        self.registry = self.registry.blocking_activity(name, function);
        self
    }

    /// Gives an activity that was added before limits of its own, see [`Registry::activity_options`].
    #[must_use]
    pub fn activity_options(mut self, name: impl Named, options: ActivityOptions) -> Self {
        self.registry = self.registry.activity_options(name, options);
        self
    }

    /// Blocking activities that may run at once; 64 unless said otherwise.
    #[must_use]
    pub fn blocking_max(mut self, calls_max: usize) -> Self {
        self.worker.blocking_max = calls_max;
        self
    }

    /// Activities that may run at once; 1 000 unless said otherwise. Limits of single ones are in
    /// [`ActivityOptions`].
    #[must_use]
    pub fn activities_max(mut self, calls_max: usize) -> Self {
        self.options.activities_max = calls_max;
        self
    }

    /// Partitions, if the hub is created now; 8 unless said otherwise (A15).
    #[must_use]
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.options.partitions = partitions;
        self
    }

    /// Threads that run orchestrators; 1 unless said otherwise.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// Budget of instances in memory, in bytes. What is idle beyond it is read again when needed.
    #[must_use]
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.options.memory_bytes_max = bytes;
        self
    }

    /// Budget of live orchestrators between turns, in bytes per thread. What is idle beyond it is replayed
    /// when needed.
    #[must_use]
    pub fn live_bytes_max(mut self, bytes: usize) -> Self {
        self.worker.live_bytes_max = bytes;
        self
    }

    /// Runs every turn a second time by replay and compares (A28): for development and tests.
    #[must_use]
    pub fn check_replay(mut self, check: bool) -> Self {
        self.worker.check_replay = check;
        self
    }

    /// What becomes of an instance whose code does not repeat its history, or whose orchestrator is not registered; it
    /// fails unless said otherwise.
    #[must_use]
    pub fn on_nondeterminism(mut self, reaction: OnNonDeterminism) -> Self {
        self.worker.on_nondeterminism = reaction;
        self
    }

    /// How long a turn may block its thread before the thread is given up and the instance set aside;
    /// 10 s unless said otherwise (A33).
    #[must_use]
    pub fn turn_limit(mut self, limit: Duration) -> Self {
        self.options.turn_limit = limit;
        self
    }

    /// Where the time comes from; the machine's clock unless said otherwise. Hubs that are open in one store go by the clock
    /// of the one that was opened first. It may be set back and forth: a hub goes by a
    /// steady time that follows it, never goes back and never stands still, so timers last as long as they should.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.options.clock = clock;
        self
    }

    /// Opens the hub on the embedded store in a folder, creating the folder if necessary. Only one process at a time
    /// can open it.
    ///
    /// # Errors
    ///
    /// `store-locked` if a process has the folder, `store-format`, `store-corrupt`, and as [`HubBuilder::open_in`].
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with time enabled, on which activities run.
    pub async fn open(self, folder: impl AsRef<Path>) -> Result<Hub, HubError> {
        let store = Store::open(folder).await?;
        self.open_in(&store).await
    }

    /// Opens the hub in memory; nothing outlives it. For tests and trials.
    ///
    /// # Errors
    ///
    /// As [`HubBuilder::open_in`].
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with time enabled.
    pub async fn in_memory(self) -> Result<Hub, HubError> {
        self.open_in(&Store::in_memory()).await
    }

    /// Opens the hub in a store, creating it if necessary. Several hubs can be open in one store at the same time.
    ///
    /// # Errors
    ///
    /// `invalid-hub-name`, a name registered twice, or an error of the store.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with time enabled.
    pub fn open_in(self, store: &Store) -> impl Future<Output = Result<Hub, HubError>> + use<> {
        self.opened(store.clone())
    }

    async fn opened(mut self, store: Store) -> Result<Hub, HubError> {
        let name = HubName::new(&self.name)?;
        if !self.registry.problems().is_empty() {
            let problems = self.registry.problems().join("; ");
            return Err(HubError::Registry { problems });
        }
        self.options.activities_by_name = self.registry.activity_limits().collect();
        if self.worker.on_nondeterminism == OnNonDeterminism::Block {
            let names = self.registry.orchestrators().filter_map(|name| Name::new(name).ok());
            self.options.orchestrators_offered = Some(names.map(FoldedName::new).collect());
        }
        let front = Front::default();
        let functions = Arc::new(RegisteredFunctions::new(self.registry, self.worker).behind(front.clone()));
        let engine = store.open_hub(name, self.options, functions).await?;
        Ok(Hub { engine, front, store })
    }
}
