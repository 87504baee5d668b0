//! Asking for one instance, and for many.

use std::future::IntoFuture;

use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;

use super::{Answer, Client, Whose};
use crate::hub_error::HubError;

/// Rows that a listing without pages reads at a time.
const PAGE_ROWS: usize = 1_000;

/// An instance's status record, and its history if asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The record.
    pub info: InstanceInfo,
    /// The history of the current execution.
    pub history: Option<Vec<HistoryEvent>>,
}

/// A question for an instance, asked by awaiting it; see [`Client::get_status`]. Unless said otherwise the answer is the
/// status record with the input, and no history.
#[derive(Debug)]
#[must_use = "nothing is asked until this is awaited"]
pub struct GetStatus {
    whose: Whose,
    shown: Shown,
}

/// What of an instance is shown besides its record.
#[derive(Clone, Copy, Debug)]
struct Shown {
    history: bool,
    history_output: bool,
    input: bool,
}

impl GetStatus {
    pub(crate) fn new(whose: Whose) -> Self {
        let shown = Shown {
            history: false,
            history_output: false,
            input: true,
        };
        Self { whose, shown }
    }

    /// The history too, without results: the instance's own is in the status record in any case, and failures are in the
    /// history.
    pub fn with_history(mut self) -> Self {
        self.shown.history = true;
        self
    }

    /// The history too, with results: of activities, of children, and of the execution.
    pub fn with_history_output(mut self) -> Self {
        self.shown.history_output = true;
        self.with_history()
    }

    /// No inputs: neither that of the instance nor, in its history, those of calls and events.
    pub fn without_input(mut self) -> Self {
        self.shown.input = false;
        self
    }

    async fn send(self) -> Result<Option<Status>, HubError> {
        let ((Client { engine, .. }, id), shown) = (self.whose?, self.shown);
        let Some(mut info) = engine.info(&id).await? else {
            return Ok(None);
        };
        if !shown.input {
            info.input = None;
        }
        let mut history = if shown.history {
            engine.history(&id).await?
        } else {
            None
        };
        for event in history.iter_mut().flatten() {
            hide(&mut event.kind, shown);
        }
        Ok(Some(Status { info, history }))
    }
}

impl IntoFuture for GetStatus {
    type Output = Result<Option<Status>, HubError>;
    type IntoFuture = Answer<Option<Status>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Some instances of a hub: all of them, unless restricted; see [`Client::instances`]. Awaiting it lists them,
/// [`Instances::page`] lists a part, and [`Instances::purge`] removes those that have ended.
///
/// ```
/// # use taskhub::{Hub, Result, RuntimeStatus};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// # let hub = Hub::builder("Orders").in_memory().await?;
/// # let client = hub.client();
/// let failed = client.instances().name("Order").statuses([RuntimeStatus::Failed]);
/// for order in failed.clone().without_input().await? {
///     println!("{}: {:?}", order.instance, order.failure);
/// }
/// let count = failed.purge().await?;
/// # assert_eq!(count, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is asked until this is awaited"]
pub struct Instances {
    client: Client,
    filter: Filter,
    payloads: Payloads,
}

impl Instances {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            filter: Filter::default(),
            payloads: Payloads {
                input: true,
                output: true,
            },
        }
    }

    /// Created at this moment or later.
    pub fn created_from(mut self, moment: Timestamp) -> Self {
        self.filter.created_from = Some(moment);
        self
    }

    /// Created before this moment.
    pub fn created_to(mut self, moment: Timestamp) -> Self {
        self.filter.created_before = Some(moment);
        self
    }

    /// In one of these statuses.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = RuntimeStatus>) -> Self {
        self.filter.statuses = statuses.into_iter().collect();
        self
    }

    /// Of this orchestrator; the case of its name does not matter.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.filter.name = Some(name.into());
        self
    }

    /// With an id that starts so.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.filter.id_prefix = Some(prefix.into());
        self
    }

    /// Lists them without their inputs. What is purged is the same either way.
    pub fn without_input(mut self) -> Self {
        self.payloads.input = false;
        self
    }

    /// Lists them without their outputs. What is purged is the same either way.
    pub fn without_output(mut self) -> Self {
        self.payloads.output = false;
        self
    }

    /// A page of their status records, by created time, then id. The next one begins where [`Page::next`] says; a page may
    /// hold fewer rows than asked for. An instance that is there all the while is on exactly one page (R13).
    ///
    /// # Errors
    ///
    /// The hub's trouble.
    pub async fn page(self, after: Option<Cursor>, rows_max: usize) -> Result<Page, HubError> {
        let Self {
            client,
            filter,
            payloads,
        } = self;
        Ok(client.engine.query_with(filter, after, rows_max, payloads).await?)
    }

    /// Purges the ended instances among them, and returns their number. Without a filter by status, purges all ended
    /// ones (R130).
    ///
    /// # Errors
    ///
    /// The hub's trouble; what was removed before stays so.
    pub async fn purge(self) -> Result<u64, HubError> {
        Ok(self.client.engine.purge_where(self.filter).await?.count)
    }

    async fn list(self) -> Result<Vec<InstanceInfo>, HubError> {
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let page = self.clone().page(after, PAGE_ROWS).await?;
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(rows);
            }
        }
    }
}

impl IntoFuture for Instances {
    type Output = Result<Vec<InstanceInfo>, HubError>;
    type IntoFuture = Answer<Vec<InstanceInfo>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.list())
    }
}

/// Takes out of an event what was not asked for.
fn hide(kind: &mut EventKind, shown: Shown) {
    let (payload, is_shown) = match kind {
        EventKind::ExecutionStarted(started) => (&mut started.input, shown.input),
        EventKind::TaskScheduled { input, .. }
        | EventKind::SubOrchestrationInstanceCreated { input, .. }
        | EventKind::EventSent { input, .. }
        | EventKind::EventRaised { input, .. } => (input, shown.input),
        EventKind::TaskCompleted { result, .. }
        | EventKind::SubOrchestrationInstanceCompleted { result, .. }
        | EventKind::ExecutionCompleted { result, .. } => (result, shown.history_output),
        EventKind::OrchestratorStarted
        | EventKind::TaskFailed { .. }
        | EventKind::TimerCreated { .. }
        | EventKind::TimerFired { .. }
        | EventKind::SubOrchestrationInstanceFailed { .. }
        | EventKind::ExecutionSuspended { .. }
        | EventKind::ExecutionResumed { .. }
        | EventKind::ExecutionTerminated { .. } => return,
    };
    if !is_shown {
        *payload = None;
    }
}
