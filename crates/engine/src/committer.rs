//! The commit loop: takes what the partition threads have handed over, has the store make it durable as one
//! group, and then lets go what waited for it (A1, A24).
//!
//! While groups queue up, effects are let go by a thread of their own, so that the next group is written
//! meanwhile. A group that nobody waits behind is not worth the way to another thread.

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
    /// Kept to be dropped by whoever lets its effects go.
    _group: Arc<Group>,
    releases: Vec<(u32, Vec<Release>)>,
    upto: Vec<At>,
    under_way: UnderWay,
}

/// Batches of a group, which are done with when this is dropped, however that comes.
struct UnderWay {
    node: Arc<Common>,
    tickets: Vec<Ticket>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.node.group.end(&self.tickets);
    }
}

/// Starts the thread that writes groups, which is one of its own because a store may block it, and the one
/// that lets their effects go.
pub(crate) fn spawn(node: &Arc<Common>) -> Result<(), StoreError> {
    let (written, to_release) = channel();
    let releasing = Arc::clone(node);
    node.spawn_thread("releases", usize::MAX - 1, move || release_all(&releasing, &to_release))?;
    let writing = Arc::clone(node);
    node.spawn_thread("commits", usize::MAX, move || {
        let write = || writing.runtime.block_on(commit_groups(&writing, &written));
        // What breaks while a group is written leaves its outcome unknown (A1).
        while catch_unwind(AssertUnwindSafe(write)).is_err() {
            tracing::error!("an assertion broke while a group was written");
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
            tracing::error!(error = %chain(&error), "a group could not be made durable");
            let failed = match error {
                StoreError::Full => Some(Failed::Full),
                StoreError::Corrupt { .. } => find_refused(node, &taken, ledger).await,
                // What was done is not known.
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
            // The other thread is gone; the order is the same.
            release(node, unsent.0);
        }
    } else {
        release(node, written);
    }
}

/// What the commit loop has seen of the store.
#[derive(Debug, Default)]
struct Ledger {
    /// Up to which commit each partition, by its hub and number, is durable.
    durable: BTreeMap<(u32, u16), Seq>,
    /// Commits refused for damaged pages since one was taken.
    refusals: u32,
}

impl Ledger {
    /// The commits of a partition come without a gap, so those before its first ones are durable.
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

    /// Whether a commit is durable; `None` if nobody has told yet.
    fn is_durable(&self, at: &At) -> Option<bool> {
        self.durable
            .get(&(at.hub, at.partition))
            .map(|durable| at.seq <= *durable)
    }
}

/// Why a group did not become durable, if that is certain.
#[derive(Debug)]
enum Failed {
    /// There was no room, so nothing was done.
    Full,
    /// This commit was refused, if one was, and so nothing behind it was done; those before it are durable.
    Refused(Option<(At, StoreError)>),
}

/// Bytes of a group that is being written. Once it is durable or lost they are not ahead of the disk any more, which
/// threads may wait for.
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
            tracing::error!("an assertion broke while the effects of a group were let go");
            node.lose_all();
        }
    }
}

/// Lets go what waited for a group. A hub that is closed by now wants nothing of it.
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

/// Says that the effects of a group are let go, also when that breaks.
struct EndOfRelease<'n>(&'n Common);

impl Drop for EndOfRelease<'_> {
    fn drop(&mut self) {
        self.0.group.end_release();
    }
}

/// Has the memory of all hubs dropped; answers what is forgotten with it.
fn give_up_group(node: &Common) -> VecDeque<Batch> {
    node.failed_groups.fetch_add(1, Ordering::AcqRel);
    let hubs = node.all_hubs();
    let forgotten = node.group.discard(hubs.iter().map(|hub| hub.number));
    node.lose_all();
    forgotten
}

/// Tells callers what became of that which they wait for, where that is certain. Nothing else is let go (A1).
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

/// The same refusal for one more caller.
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

/// Commits a group; a store that is full or out of reach is tried again for a while (A43).
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
                // Without that it is known already.
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

/// Finds the commit for which the store refuses a group, and has its instance set aside; without that the
/// same group would be made again for ever. The commits before it become durable. Absent if what was done is not known.
///
/// If what refuses it is a damaged page, not even that it is set aside can be written. An instance of its own cannot be
/// made because of such a page, or several in a row cannot be changed: then any other may meet the same.
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
                            what: format!("the store refuses to write it: {what}"),
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
