//! Looks at a store that nobody runs: whether it holds what was acknowledged, and agrees with itself.
//!
//! Some of it must hold at any moment, also just after a kill; the rest when every job has ended.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use taskhub_core::id::{HubName, InstanceId};
use taskhub_core::instance::InstanceState;
use taskhub_core::query::{Filter, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};
use taskhub_store::{
    Claim, ExecutionKey, HistoryRange, NodeId, PartitionKey, Recovered, Selection, Store, partition_of,
};

use crate::Result;
use crate::workload::{HUB, Job};

/// Rows of a page, and states that are read at once.
const PAGE_ROWS: usize = 500;
/// A store with a flaw could have one for every instance.
const VIOLATIONS_MAX: usize = 50;

/// What the driver knows of the starts.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Acknowledged, with the instance that was named.
    pub acked: BTreeMap<u32, String>,
    /// Asked for without an answer: there once, or not at all (I10).
    pub unknown: BTreeSet<u32>,
    /// Whether all that is there must have ended.
    pub is_finished: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What must not be, each as a line for people.
    pub violations: Vec<String>,
    /// Instances that were looked at.
    pub instances: usize,
    /// Events in their histories.
    pub events: usize,
    /// Starts without an answer that did not take effect.
    pub absent: Vec<u32>,
}

impl Checked {
    fn violation(&mut self, line: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(line);
        }
    }
}

/// Checks the store in a folder.
///
/// # Errors
///
/// The store cannot be opened or read at all.
pub fn check_folder(folder: &Path, expected: &Expected) -> Result<Checked> {
    let store = EmbeddedStore::open(folder, EmbeddedOptions::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(check(&store, expected))
}

/// Checks the store in a folder as it would be found by the next program, and leaves it to that one:
/// looking into a store writes its log back to its file.
///
/// # Errors
///
/// The folder cannot be copied, and as [`check_folder`].
pub fn check_copy(folder: &Path, expected: &Expected) -> Result<Checked> {
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        // The index of the log is made anew from the log, and the lock is the owner's.
        let is_content = name.to_string_lossy().starts_with("store.db") && !name.to_string_lossy().ends_with("-shm");
        if is_content {
            std::fs::copy(entry.path(), copy.path().join(name))?;
        }
    }
    check_folder(copy.path(), expected)
}

/// Checks a store.
///
/// # Errors
///
/// The store cannot be read at all.
pub async fn check(store: &dyn Store, expected: &Expected) -> Result<Checked> {
    let mut checked = Checked::default();
    let verified = store.verify().await?;
    for problem in verified.problems {
        checked.violation(format!("verify: {problem} (I12)"));
    }
    let Some(hub) = store
        .list_hubs()
        .await?
        .into_iter()
        .find(|hub| hub.name.as_str() == HUB)
    else {
        if !expected.acked.is_empty() {
            checked.violation("the hub does not exist (I1)".to_owned());
        }
        return Ok(checked);
    };
    let rows = rows(store, &hub.name).await?;
    counts(store, &hub.name, &rows, &mut checked).await?;
    starts(&rows, expected, &mut checked);
    let mut by_partition: BTreeMap<u16, Vec<InstanceId>> = BTreeMap::new();
    for row in &rows {
        let index = partition_of(&row.instance, hub.partitions);
        by_partition.entry(index).or_default().push(row.instance.clone());
    }
    for (index, ids) in by_partition {
        let partition = PartitionKey {
            hub: hub.name.clone(),
            index,
        };
        for some in ids.chunks(PAGE_ROWS) {
            for (id, state) in some.iter().zip(store.load(&partition, some).await?) {
                match state {
                    Some(state) => instance(store, &partition, &state, expected, &mut checked).await?,
                    None => checked.violation(format!("`{id}` is listed but cannot be loaded")),
                }
            }
        }
    }
    if expected.is_finished {
        let all: Vec<_> = (0..hub.partitions)
            .map(|index| PartitionKey {
                hub: hub.name.clone(),
                index,
            })
            .collect();
        leftovers(store, &all, &mut checked).await?;
    }
    Ok(checked)
}

async fn rows(store: &dyn Store, hub: &HubName) -> Result<Vec<InstanceInfo>> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let which = Selection {
            hub: hub.clone(),
            filter: Filter::default(),
            after,
            rows_max: PAGE_ROWS,
        };
        let page = store.list(&which, Payloads::ALL).await?.page;
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}

/// The store's counts are those of a scan (I8).
async fn counts(store: &dyn Store, hub: &HubName, rows: &[InstanceInfo], checked: &mut Checked) -> Result<()> {
    let mut scanned: BTreeMap<RuntimeStatus, u64> = BTreeMap::new();
    for row in rows {
        *scanned.entry(row.status).or_default() += 1;
    }
    let counted: BTreeMap<_, _> = store.counts(hub).await?.into_iter().collect();
    if counted != scanned {
        checked.violation(format!(
            "the store counts {counted:?}, but a scan finds {scanned:?} (I8)"
        ));
    }
    Ok(())
}

/// What was acknowledged is there, once and under the id that was named; what was not answered is there
/// once or not at all; nothing else is there (I1, I10).
fn starts(rows: &[InstanceInfo], expected: &Expected, checked: &mut Checked) {
    let mut found: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for row in rows {
        match Job::read(row.input.as_ref()) {
            Some(job) => found.entry(job.number).or_default().push(row.instance.as_str()),
            None => checked.violation(format!("`{}` has lost its input (I1)", row.instance)),
        }
    }
    for (job, instance) in &expected.acked {
        match found.get(job).map(Vec::as_slice) {
            Some([only]) if only == instance => {}
            other => checked.violation(format!(
                "start {job} was acknowledged as `{instance}`, and there is {other:?} (I1)"
            )),
        }
    }
    for job in &expected.unknown {
        match found.get(job).map(Vec::as_slice) {
            None => checked.absent.push(*job),
            Some([_]) => {}
            Some(several) => checked.violation(format!("start {job} took effect more than once: {several:?} (I10)")),
        }
    }
    for (job, instances) in found {
        if !expected.acked.contains_key(&job) && !expected.unknown.contains(&job) {
            checked.violation(format!("start {job} was never requested, but {instances:?} exist"));
        }
    }
}

async fn instance(
    store: &dyn Store,
    partition: &PartitionKey,
    state: &InstanceState,
    expected: &Expected,
    checked: &mut Checked,
) -> Result<()> {
    let id = &state.info.instance;
    let execution = ExecutionKey {
        partition: partition.clone(),
        number: state.number,
        ordinal: state.info.ordinal,
    };
    let mut events = Vec::new();
    for chunk in store.history(&execution, HistoryRange::ALL).await? {
        if chunk.first as usize != events.len() {
            checked.violation(format!(
                "`{id}`: its history has a gap before event {} (I4)",
                chunk.first
            ));
        }
        events.extend(chunk.decode()?);
    }
    checked.instances += 1;
    checked.events += events.len();
    let mut found = history::consistent(state, &events);
    if expected.is_finished {
        found.extend(history::finished(state, &events));
    }
    for what in found {
        checked.violation(format!("`{id}`: {what}"));
    }
    Ok(())
}

/// When all has ended, there is nothing left to do (I5).
async fn leftovers(store: &dyn Store, partitions: &[PartitionKey], checked: &mut Checked) -> Result<()> {
    // Nobody owns the partitions any more, so the time of the claim means nothing.
    let claim = Claim::new(NodeId(1), partitions, Timestamp::default()).steal();
    for lease in store.claim(&claim).await?.leases {
        let recovered = store.recover(&lease).await?;
        for item in recovered
            .iter()
            .filter(|item| !matches!(item, Recovered::Counters { .. }))
        {
            checked.violation(format!(
                "partition {} still has open work {item:?} (I5)",
                lease.partition
            ));
        }
    }
    Ok(())
}
