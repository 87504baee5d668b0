//! The commit loop: takes the batches of the partition threads, makes them durable as one group, and then releases the
//! effects that waited for it (A1, A24).
//!
//! While groups queue up, a separate thread releases effects, so that the next group is written meanwhile. If no group
//! waits, the commit thread releases them itself, which saves the switch to another thread.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use taskhub_core::commit::Change;
use taskhub_core::id::Seq;
use taskhub_store::{Error as StoreError, Extent, Group, Section};
use tokio::time::sleep;

use crate::attempt::{self, Attempt, Next};
use crate::error::{Error, chain};
use crate::group::{At, Batch, Release, Taken, Ticket};
use crate::io::Input;
use crate::node::Common;
use crate::run::now;
use crate::supervision::{Broken, BrokenBy};
use crate::thread::ThreadInput;

/// Commits refused in a row for damaged pages after which nothing more is tried.
const REFUSALS_MAX: u32 = 8;
/// Partitions that are remembered before those of closed hubs are forgotten.
const LEDGER_MAX: usize = 4_096;

/// A group that is durable.
struct Written {
    /// Dropped by the thread that releases the effects, because dropping a large group takes time.
    _group: Arc<Group>,
    releases: Vec<(u32, Vec<Release>)>,
    upto: Vec<At>,
    under_way: UnderWay,
}

/// The batches of a group that is being written. Dropping this marks them as finished, even after a panic.
struct UnderWay {
    node: Arc<Common>,
    tickets: Vec<Ticket>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.node.group.end(&self.tickets);
    }
}

/// Starts two threads: one that writes groups, which a store may block, and one that releases their effects.
pub(crate) fn spawn(node: &Arc<Common>) -> Result<(), StoreError> {
    let (written, to_release) = channel();
    let releasing = Arc::clone(node);
    node.spawn_thread("releases", usize::MAX - 1, move || release_all(&releasing, &to_release))?;
    let writing = Arc::clone(node);
    node.spawn_thread("commits", usize::MAX, move || {
        let write = || writing.runtime.block_on(commit_groups(&writing, &written));
        // After a panic during a write, the outcome of the group is unknown (A1).
        while catch_unwind(AssertUnwindSafe(write)).is_err() {
            tracing::error!(
                "an internal assertion failed while writing a group; reloading all partitions from the store"
            );
            drop(give_up_group(&writing));
        }
    })
}

/// Writes groups until the node is closed and everything handed over is written.
async fn commit_groups(node: &Arc<Common>, to_release: &Sender<Written>) {
    let mut ledger = Ledger::default();
    while let Some(taken) = node.group.take().await {
        write(node, taken, &mut ledger, to_release).await;
    }
}

async fn write(node: &Arc<Common>, taken: Taken, ledger: &mut Ledger, to_release: &Sender<Written>) {
    let ahead = Ahead(node, taken.bytes);
    let under_way = UnderWay {
        node: Arc::clone(node),
        tickets: taken.tickets.clone(),
    };
    if !taken.group.sections.is_empty() {
        ledger.expect(node, taken.hubs.iter().copied().zip(&taken.group.sections));
        if let Err(error) = commit(node, &taken.group).await {
            tracing::error!(error = %chain(&error), "cannot make a group of commits durable");
            let failed = match error {
                StoreError::Full => Some(Failed::Full),
                StoreError::Corrupt { .. } => find_refused(node, &taken, ledger).await,
                // The outcome is unknown.
                _ => None,
            };
            let discarded = give_up_group(node);
            let Some(failed) = failed else {
                discarded.into_iter().for_each(Batch::turn_away);
                return;
            };
            for (_, releases) in taken.releases {
                turn_away(releases, ledger, &failed);
            }
            for batch in discarded {
                ledger.expect(node, batch.sections.iter().map(|section| (batch.hub, section)));
                turn_away(batch.releases, ledger, &failed);
            }
            return;
        }
    }
    drop(ahead);
    node.failed_groups.store(0, Ordering::Release);
    let upto = taken.upto();
    ledger.note(&upto);
    let written = Written {
        upto,
        _group: taken.group,
        releases: taken.releases,
        under_way,
    };
    if node.group.begin_release() {
        if let Err(unsent) = to_release.send(written) {
            // The other thread has ended; releasing here keeps the order.
            release(node, unsent.0);
        }
    } else {
        release(node, written);
    }
}

/// The commit loop's record of what is durable.
#[derive(Debug, Default)]
struct Ledger {
    /// The last durable commit of each partition, by hub and partition number.
    durable: BTreeMap<(u32, u16), Seq>,
    /// Commits refused because of damaged pages since the last successful one.
    refusals: u32,
}

impl Ledger {
    /// The commits of a partition have no gaps, so all commits before the first one of a section are durable.
    fn expect<'g>(&mut self, node: &Common, sections: impl IntoIterator<Item = (u32, &'g Section)>) {
        if self.durable.len() > LEDGER_MAX {
            self.durable.retain(|(hub, _), _| node.hub(*hub).is_some());
        }
        for (hub, section) in sections {
            let before = Seq(section.first_seq.0.saturating_sub(1));
            self.durable.entry((hub, section.partition.index)).or_insert(before);
        }
    }

    fn note(&mut self, upto: &[At]) {
        self.refusals = 0;
        self.durable
            .extend(upto.iter().map(|at| ((at.hub, at.partition), at.seq)));
    }

    /// Whether a commit is durable; `None` if unknown.
    fn is_durable(&self, at: &At) -> Option<bool> {
        self.durable
            .get(&(at.hub, at.partition))
            .map(|durable| at.seq <= *durable)
    }
}

/// Why a group did not become durable, if its outcome is certain.
#[derive(Debug)]
enum Failed {
    /// The store was full, so nothing was written.
    Full,
    /// The store refused this commit, if any. Nothing after it was written; all commits before it are durable.
    Refused(Option<(At, StoreError)>),
}

/// Bytes of a group that is being written. When the group is durable or lost, dropping this subtracts them from the
/// bytes ahead of the disk, and wakes threads that wait for that.
struct Ahead<'n>(&'n Common, usize);

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        if self.0.group.settle(self.1) {
            for link in self.0.links() {
                link.inputs.push(ThreadInput::Room);
            }
        }
    }
}

fn release_all(node: &Arc<Common>, to_release: &Receiver<Written>) {
    while let Ok(written) = to_release.recv() {
        if catch_unwind(AssertUnwindSafe(|| release(node, written))).is_err() {
            tracing::error!(
                "an internal assertion failed while releasing the effects of a group; reloading all partitions from the store"
            );
            node.lose_all();
        }
    }
}

/// Releases the effects that waited for a group. A hub that was closed meanwhile is skipped.
fn release(node: &Common, written: Written) {
    let _under_way = written.under_way;
    let _ended = EndOfRelease(node);
    for (hub, releases) in written.releases {
        if let Some(hub) = node.hub(hub) {
            hub.release(releases);
        }
    }
    for at in written.upto {
        if let Some(hub) = node.hub(at.hub) {
            hub.send(at.partition, Input::Durable(at.seq));
        }
    }
}

/// Marks the release of a group's effects as finished, even after a panic.
struct EndOfRelease<'n>(&'n Common);

impl Drop for EndOfRelease<'_> {
    fn drop(&mut self) {
        self.0.group.end_release();
    }
}

/// Makes all hubs drop their memory; returns the discarded batches.
fn give_up_group(node: &Common) -> VecDeque<Batch> {
    node.failed_groups.fetch_add(1, Ordering::AcqRel);
    let hubs = node.all_hubs();
    let forgotten = node.group.discard(hubs.iter().map(|hub| hub.number));
    node.lose_all();
    forgotten
}

/// Answers callers whose outcome is certain. All other effects are dropped, because releasing an effect whose commit
/// may be lost would make it visible before it is durable (A1).
fn turn_away(forgotten: Vec<Release>, ledger: &Ledger, failed: &Failed) {
    for release in forgotten {
        let Release::Reply(to, reply, at) = release else {
            continue;
        };
        match (failed, ledger.is_durable(&at)) {
            (_, None) => {}
            (_, Some(true)) => to.answer(reply),
            (Failed::Full, Some(false)) => to.refuse(StoreError::Full),
            (Failed::Refused(Some((refused, error))), Some(false)) if *refused == at => to.refuse(again(error)),
            (Failed::Refused(_), Some(false)) => to.refuse(Error::Displaced),
        }
    }
}

/// Copies a refusal for another caller.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Corrupt { place, what, extent } => StoreError::Corrupt {
            place: place.clone(),
            what: what.clone(),
            extent: *extent,
        },
        _ => unreachable!("only damage refuses a single commit"),
    }
}

/// Commits a group. Retries for a limited time, but only after `Full` and `Unavailable`, which promise that nothing was
/// changed, so that the same group can be offered again. After any other error the outcome is unknown or the error
/// would recur, so the caller must reload. `attempt` makes this decision, because the simulator drives it too.
/// Reporting `failing` or `full` here, before the deadline, lets `/readyz` and admission react while the group is still
/// being retried (A43).
async fn commit(node: &Common, group: &Arc<Group>) -> Result<(), StoreError> {
    let began = now();
    let mut attempt = Attempt::new(Duration::ZERO);
    loop {
        let result = node.store.commit(Arc::clone(group)).await;
        match &result {
            Ok(()) | Err(StoreError::Corrupt { .. }) => {}
            Err(StoreError::Full) => node.note_room(true),
            Err(_) => node.note_failing(true),
        }
        match attempt.answered(result.as_ref().copied(), began.elapsed(), node.is_out_of_room()) {
            Next::Again => sleep(attempt::PAUSE).await,
            Next::Failed => return result,
            Next::Durable => {
                // Without a retry, the node's state has not changed.
                if attempt.has_waited() {
                    node.note_failing(false);
                    if !node.is_out_of_room() {
                        node.note_room(false);
                    }
                }
                return result;
            }
        }
    }
}

/// Finds the commit because of which the store refuses a group, by writing the commits one by one, and sets its
/// instance aside. Otherwise the partitions would reload, produce the same commits again, and the whole node would
/// retry the same group forever because of one instance. The commits before the refused one become durable. Returns
/// `None` if the outcome is unknown.
///
/// If a damaged page causes the refusal, even the mark "set aside" cannot be written, so the instance is only taken out
/// of service in memory. If such a page prevents the creation of an instance, or the changes of several instances in a
/// row, then probably every new commit would fail in the same way, so the node stops accepting work (`note_damage`).
async fn find_refused(node: &Common, taken: &Taken, ledger: &mut Ledger) -> Option<Failed> {
    for (hub, section) in taken.hubs.iter().zip(&taken.group.sections) {
        for (seq, made) in (section.first_seq.0..).zip(&section.commits) {
            let alone = Group {
                sections: vec![Section {
                    partition: section.partition.clone(),
                    epoch: section.epoch,
                    first_seq: Seq(seq),
                    commits: vec![made.clone()],
                }],
            };
            let at = At {
                hub: *hub,
                partition: section.partition.index,
                seq: Seq(seq),
            };
            match commit(node, &Arc::new(alone)).await {
                Ok(()) => ledger.note(&[at]),
                Err(StoreError::Corrupt { place, what, extent }) => {
                    let is_unwritable = extent == Extent::Pages;
                    let is_new = matches!(made.change, Some(Change::Create(_)));
                    ledger.refusals += u32::from(is_unwritable);
                    if is_unwritable && (is_new || ledger.refusals >= REFUSALS_MAX) {
                        node.note_damage(&what);
                    }
                    if !(is_unwritable && is_new)
                        && let Some(hub) = node.hub(*hub)
                    {
                        hub.blame(Broken {
                            instance: Some(made.instance.clone()),
                            what: format!("the store refused to write the instance: {what}"),
                            by: if is_unwritable {
                                BrokenBy::Writing
                            } else {
                                BrokenBy::Running
                            },
                        });
                    }
                    return Some(Failed::Refused(Some((at, StoreError::Corrupt { place, what, extent }))));
                }
                Err(_) => return None,
            }
        }
    }
    Some(Failed::Refused(None))
}
