//! Names and the functions behind them.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use taskhub_core::action::ActionKind;
use taskhub_core::failure::Failure;
use taskhub_core::fold::FoldedName;
use taskhub_core::id::Name;
use taskhub_core::payload::Payload;

use crate::activity::{ActivityContext, ActivityOptions};
use crate::codec::{self, FromPayload, IntoPayload};
use crate::error::Error;
use crate::names::{DefineActivity, DefineOrchestrator, Named};
use crate::orchestrator::OrchestrationContext;
use crate::replay::OrchestratorFuture;

type OrchestratorFn = dyn Fn(OrchestrationContext, Option<Payload>) -> OrchestratorFuture + Send + Sync;
type AsyncResult = Pin<Box<dyn Future<Output = Result<Option<Payload>, Failure>> + Send>>;
type AsyncFn = dyn Fn(ActivityContext, Option<Payload>) -> AsyncResult + Send + Sync;
type BlockingFn = dyn Fn(ActivityContext, Option<Payload>) -> Result<Option<Payload>, Failure> + Send + Sync;

/// What a function may fail with: any standard error, text, a boxed error, [`Error`], or a type such as
/// `anyhow::Error`.
pub trait IntoError: Into<Box<dyn StdError + Send + Sync>> {}

impl<E: Into<Box<dyn StdError + Send + Sync>>> IntoError for E {}

/// Orchestrators and activities by name. Names are compared without case (R77): two that differ in nothing else
/// are refused, and a call finds its function by any spelling. Histories and status records keep the one under
/// which it is registered.
///
/// ```
/// use taskhub::{ActivityContext, OrchestrationContext, Registry, Result};
///
/// async fn greet(ctx: OrchestrationContext, name: String) -> Result<String> {
///     Ok(ctx.call_activity("SayHello", name).await?)
/// }
/// async fn say_hello(_: ActivityContext, name: String) -> Result<String> {
///     Ok(format!("Hello {name}!"))
/// }
/// let registry = Registry::new().orchestrator("Greet", greet).activity("SayHello", say_hello);
/// assert_eq!(registry.problems(), [] as [String; 0]);
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    orchestrators: BTreeMap<FoldedName, Arc<OrchestratorFn>>,
    activities: BTreeMap<FoldedName, Arc<ActivityEntry>>,
    problems: Vec<String>,
}

/// An activity and how it runs.
pub(crate) struct ActivityEntry {
    pub(crate) function: ActivityFn,
    pub(crate) options: ActivityOptions,
}

#[derive(Clone)]
pub(crate) enum ActivityFn {
    Async(Arc<AsyncFn>),
    Blocking(Arc<BlockingFn>),
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an orchestrator: an async function of its context and its input. Its future need not be `Send`.
    ///
    /// The name is plain text or an [`Orchestrator`](crate::Orchestrator), which knows the types.
    #[must_use]
    pub fn orchestrator<F, Fut, I, O, E>(self, name: impl DefineOrchestrator<I, O>, function: F) -> Self
    where
        F: Fn(OrchestrationContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + 'static,
        I: FromPayload + 'static,
        O: IntoPayload + 'static,
        E: IntoError + 'static,
    {
        let name = name.name();
        let shown = name.to_owned();
        self.add_orchestrator(name, move |ctx, input: Option<Payload>| {
            let started = codec::decode(input.as_ref(), format_args!("the input of orchestrator `{shown}`"))
                .map(|input| function(ctx.clone(), input));
            Box::pin(async move {
                let output = started.map_err(Error::from_failure)?.await.map_err(Error::of)?;
                codec::encode(output, format_args!("the output of orchestrator `{}`", ctx.name()))
                    .map_err(Error::from_failure)
            })
        })
    }

    /// Adds an activity: an async function of its context and its input.
    ///
    /// The name is plain text or an [`Activity`](crate::Activity), which knows the types.
    #[must_use]
    pub fn activity<F, Fut, I, O, E>(self, name: impl DefineActivity<I, O>, function: F) -> Self
    where
        F: Fn(ActivityContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: FromPayload + 'static,
        O: IntoPayload + 'static,
        E: IntoError + 'static,
    {
        let run = move |context: ActivityContext, input: Option<Payload>| -> AsyncResult {
            let name = context.name().to_owned();
            match read_input(&name, input.as_ref()) {
                Ok(input) => {
                    let running = function(context, input);
                    Box::pin(async move { write_output(&name, running.await) })
                }
                Err(failure) => Box::pin(std::future::ready(Err(failure))),
            }
        };
        self.add_activity(name.name(), ActivityFn::Async(Arc::new(run)))
    }

    /// Adds an activity that blocks its thread. It runs on Tokio's threads for blocking work, so many at once as
    /// [`HubBuilder::blocking_max`](crate::HubBuilder::blocking_max) says.
    #[must_use]
    pub fn blocking_activity<F, I, O, E>(self, name: impl DefineActivity<I, O>, function: F) -> Self
    where
        F: Fn(ActivityContext, I) -> Result<O, E> + Send + Sync + 'static,
        I: FromPayload + 'static,
        O: IntoPayload + 'static,
        E: IntoError + 'static,
    {
        let run = move |context: ActivityContext, input: Option<Payload>| {
            let name = context.name().to_owned();
            let input = read_input(&name, input.as_ref())?;
            write_output(&name, function(context, input))
        };
        self.add_activity(name.name(), ActivityFn::Blocking(Arc::new(run)))
    }

    /// Gives an activity that was added before limits of its own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use taskhub::{ActivityContext, ActivityOptions, Registry, Result};
    ///
    /// async fn charge(_: ActivityContext, cents: u32) -> Result<u32> {
    ///     Ok(cents)
    /// }
    /// let limits = ActivityOptions::new().concurrency(8).start_to_close(Duration::from_secs(30));
    /// let registry = Registry::new().activity("Charge", charge).activity_options("Charge", limits);
    /// assert_eq!(registry.problems(), [] as [String; 0]);
    /// ```
    #[must_use]
    pub fn activity_options(mut self, name: impl Named, options: ActivityOptions) -> Self {
        let name = name.name();
        let entry = Name::new(name).ok().map(FoldedName::new);
        match entry.and_then(|name| self.activities.get_mut(&name)) {
            Some(entry) => {
                let function = entry.function.clone();
                *entry = Arc::new(ActivityEntry { function, options });
            }
            None => self.problems.push(format!(
                "options are given for activity `{name}`, which is not registered"
            )),
        }
        self
    }

    /// What is wrong with the names: none at all, or one used twice, be it in another case. A hub does not open with such a registry.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Names of the orchestrators.
    pub fn orchestrators(&self) -> impl Iterator<Item = &str> {
        self.orchestrators.keys().map(|name| name.name().as_str())
    }

    /// Names of the activities.
    pub fn activities(&self) -> impl Iterator<Item = &str> {
        self.activities.keys().map(|name| name.name().as_str())
    }

    fn add_orchestrator(
        mut self,
        name: &str,
        function: impl Fn(OrchestrationContext, Option<Payload>) -> OrchestratorFuture + Send + Sync + 'static,
    ) -> Self {
        match new_name("orchestrator", name, self.orchestrators.keys()) {
            Ok(name) => {
                self.orchestrators.insert(name, Arc::new(function));
            }
            Err(problem) => self.problems.push(problem),
        }
        self
    }

    fn add_activity(mut self, name: &str, function: ActivityFn) -> Self {
        let options = ActivityOptions::new();
        match new_name("activity", name, self.activities.keys()) {
            Ok(name) => {
                self.activities
                    .insert(name, Arc::new(ActivityEntry { function, options }));
            }
            Err(problem) => self.problems.push(problem),
        }
        self
    }

    pub(crate) fn find_orchestrator(&self, name: &Name) -> Option<&OrchestratorFn> {
        self.orchestrators
            .get(&FoldedName::from(name))
            .map(|function| &**function)
    }

    /// The registered spelling of an orchestrator's name, if it is registered.
    pub(crate) fn orchestrator_name(&self, name: &Name) -> Option<&Name> {
        let (registered, _) = self.orchestrators.get_key_value(&FoldedName::from(name))?;
        Some(registered.name())
    }

    /// Puts registered names in the place of other spellings in what an orchestrator asks for.
    pub(crate) fn spell(&self, action: &mut ActionKind) {
        let (name, registered) = match action {
            ActionKind::ScheduleTask { name, .. } => {
                let found = self.activities.get_key_value(&FoldedName::from(&*name));
                (name, found.map(|(registered, _)| registered.name()))
            }
            ActionKind::CreateSubOrchestration { name, .. } => {
                let registered = self.orchestrator_name(name);
                (name, registered)
            }
            ActionKind::CreateTimer { .. }
            | ActionKind::CancelTimer { .. }
            | ActionKind::SendEvent { .. }
            | ActionKind::TerminateOrchestration { .. }
            | ActionKind::CompleteOrchestration(_) => return,
        };
        if let Some(registered) = registered {
            name.clone_from(registered);
        }
    }

    /// Activities that have a limit of their own, with it.
    pub(crate) fn activity_limits(&self) -> impl Iterator<Item = (FoldedName, usize)> {
        let limited = self.activities.iter();
        limited.filter_map(|(name, entry)| Some((name.clone(), entry.options.concurrency?)))
    }

    pub(crate) fn find_activity(&self, name: &Name) -> Option<&Arc<ActivityEntry>> {
        self.activities.get(&FoldedName::from(name))
    }

    /// Says that a name is missing and which are there (R166).
    pub(crate) fn orchestrator_missing(&self, name: &Name) -> String {
        missing("orchestrator", name, self.orchestrators())
    }

    /// Says that a name is missing and which are there (R58).
    pub(crate) fn activity_missing(&self, name: &Name) -> String {
        missing("activity", name, self.activities())
    }
}

/// A name that nothing is registered under yet, or what is wrong with it.
fn new_name<'a>(what: &str, name: &str, mut known: impl Iterator<Item = &'a FoldedName>) -> Result<FoldedName, String> {
    let new = FoldedName::new(Name::new(name).map_err(|refusal| format!("{what}: {refusal}"))?);
    match known.find(|known| **known == new).map(FoldedName::name) {
        None => Ok(new),
        Some(known) if known.as_str() == name => Err(format!("{what} `{name}` is registered twice")),
        Some(known) => Err(format!(
            "{what} `{name}` differs from `{known}` only in case, and names are case-insensitive; choose another name"
        )),
    }
}

fn missing<'a>(what: &str, name: &Name, registered: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<String> = registered.map(|name| format!("`{name}`")).collect();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    format!("no {what} `{name}` is registered; registered: {known}")
}

fn read_input<I: FromPayload>(name: &str, input: Option<&Payload>) -> Result<I, Failure> {
    codec::decode(input, format_args!("the input of activity `{name}`"))
}

fn write_output<O: IntoPayload, E: IntoError>(name: &str, ended: Result<O, E>) -> Result<Option<Payload>, Failure> {
    let output = ended.map_err(|error| Error::of(error).into_failure())?;
    codec::encode(output, format_args!("the output of activity `{name}`"))
}

impl fmt::Debug for Registry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Registry")
            .field("orchestrators", &self.orchestrators.keys())
            .field("activities", &self.activities.keys())
            .field("problems", &self.problems)
            .finish()
    }
}
