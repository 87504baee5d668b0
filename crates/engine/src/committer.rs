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
use taskhub_store::{Error as StoreError, Extent, Group, PartitionKey, Section};
use tokio::time::sleep;

use crate::error::{Error, chain};
use crate::executor::ThreadInput;
use crate::group::{At, Batch, Release, Taken};
use crate::io::Input;
use crate::run::now;
use crate::shared::{Broken, Shared};

/// How long a group is tried again while the store is out of reach (A43).
const COMMIT_DEADLINE: Duration = Duration::from_secs(30);
/// How long one is tried again while the store is full. Who waits for it hears then that there is no room.
const FULL_DEADLINE: Duration = Duration::from_secs(1);
/// Commits refused in a row for damaged pages after which nothing more is tried.
const REFUSALS_MAX: u32 = 8;
/// Pause between such tries.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// A group that is durable.
struct Written {
    /// Kept to be dropped by whoever lets its effects go.
    _group: Arc<Group>,
    releases: Vec<Release>,
    upto: BTreeMap<PartitionKey, Seq>,
}

/// Starts the thread that writes groups, which is one of its own because a store may block it, and the one
/// that lets their effects go.
pub(crate) fn spawn(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let (written, to_release) = channel();
    let releasing = Arc::clone(shared);
    shared.spawn_thread("releases", usize::MAX - 1, move || {
        release_all(&releasing, &to_release);
    })?;
    let hub = Arc::clone(shared);
    shared.spawn_thread("commits", usize::MAX, move || {
        // What breaks while a group is written leaves its outcome unknown (A1).
        while catch_unwind(AssertUnwindSafe(|| hub.runtime.block_on(commit_groups(&hub, &written)))).is_err() {
            tracing::error!(hub = %hub.hub, "an assertion broke while a group was written");
            drop(give_up_group(&hub));
        }
    })
}

/// Writes groups until the hub is closed and everything handed over is written.
async fn commit_groups(shared: &Arc<Shared>, to_release: &Sender<Written>) {
    let mut ledger = Ledger::default();
    while let Some(taken) = shared.group.take().await {
        write(shared, taken, &mut ledger, to_release).await;
    }
}

async fn write(shared: &Arc<Shared>, taken: Taken, ledger: &mut Ledger, to_release: &Sender<Written>) {
    let ahead = Ahead(shared, taken.bytes);
    if !taken.group.sections.is_empty() {
        ledger.expect(&taken.group.sections);
        if let Err(error) = commit(shared, &taken.group).await {
            tracing::error!(hub = %shared.hub, error = %chain(&error), "a group could not be made durable");
            let failed = match error {
                StoreError::Full => Some(Failed::Full),
                StoreError::Corrupt { .. } => find_refused(shared, &taken.group, ledger).await,
                // What was done is not known.
                _ => None,
            };
            let discarded = give_up_group(shared);
            let Some(failed) = failed else {
                discarded.into_iter().for_each(Batch::turn_away);
                return;
            };
            turn_away(taken.releases, ledger, &failed);
            for batch in discarded {
                ledger.expect(&batch.sections);
                turn_away(batch.releases, ledger, &failed);
            }
            return;
        }
    }
    drop(ahead);
    shared.failed_groups.store(0, Ordering::Release);
    let upto = taken.upto();
    ledger.note(&upto);
    let written = Written {
        upto,
        _group: taken.group,
        releases: taken.releases,
    };
    if shared.group.begin_release() {
        if let Err(unsent) = to_release.send(written) {
            // The other thread is gone; the order is the same.
            release(shared, unsent.0);
        }
    } else {
        release(shared, written);
    }
}

/// What the commit loop has seen of the store.
#[derive(Debug, Default)]
struct Ledger {
    /// Up to which commit each partition is durable.
    durable: BTreeMap<u16, Seq>,
    /// Commits refused for damaged pages since one was taken.
    refusals: u32,
}

impl Ledger {
    /// The commits of a partition come without a gap, so those before its first ones are durable.
    fn expect(&mut self, sections: &[Section]) {
        for section in sections {
            let before = Seq(section.first_seq.0.saturating_sub(1));
            self.durable.entry(section.partition.index).or_insert(before);
        }
    }

    fn note(&mut self, upto: &BTreeMap<PartitionKey, Seq>) {
        self.refusals = 0;
        self.durable
            .extend(upto.iter().map(|(partition, seq)| (partition.index, *seq)));
    }

    /// Whether a commit is durable; `None` if nobody has told yet.
    fn is_durable(&self, at: &At) -> Option<bool> {
        self.durable.get(&at.partition).map(|durable| at.seq <= *durable)
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
struct Ahead<'s>(&'s Shared, usize);

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        if self.0.group.settle(self.1) {
            for link in self.0.links() {
                link.inputs.push(ThreadInput::Room);
            }
        }
    }
}

fn release_all(shared: &Arc<Shared>, to_release: &Receiver<Written>) {
    while let Ok(written) = to_release.recv() {
        if catch_unwind(AssertUnwindSafe(|| release(shared, written))).is_err() {
            tracing::error!(hub = %shared.hub, "an assertion broke while the effects of a group were let go");
            shared.reload.notify_one();
        }
    }
}

/// Lets go what waited for a group.
fn release(shared: &Arc<Shared>, written: Written) {
    let _ended = EndOfRelease(shared);
    shared.release(written.releases);
    for (partition, seq) in written.upto {
        shared.send(partition.index, Input::Durable(seq));
    }
}

/// Says that the effects of a group are let go, also when that breaks.
struct EndOfRelease<'s>(&'s Shared);

impl Drop for EndOfRelease<'_> {
    fn drop(&mut self) {
        self.0.group.end_release();
    }
}

/// Has memory dropped; answers what is forgotten with it.
fn give_up_group(shared: &Shared) -> VecDeque<Batch> {
    shared.failed_groups.fetch_add(1, Ordering::AcqRel);
    let forgotten = shared.group.discard();
    shared.reload.notify_one();
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
async fn commit(shared: &Shared, group: &Arc<Group>) -> Result<(), StoreError> {
    let began = now();
    let mut has_waited = false;
    loop {
        let result = shared.store.commit(Arc::clone(group)).await;
        let patience = match &result {
            Ok(()) => {
                // Without that it is known already.
                if has_waited {
                    shared.note_failing(false);
                }
                if has_waited && !shared.is_out_of_room() {
                    shared.note_room(false);
                }
                return result;
            }
            Err(StoreError::Full) => {
                shared.note_room(true);
                if shared.is_out_of_room() {
                    Duration::ZERO
                } else {
                    FULL_DEADLINE
                }
            }
            // That is for the commit which is refused.
            Err(StoreError::Corrupt { .. }) => return result,
            Err(error) => {
                shared.note_failing(true);
                if matches!(error, StoreError::Unavailable { .. }) {
                    COMMIT_DEADLINE
                } else {
                    Duration::ZERO
                }
            }
        };
        if began.elapsed() >= patience {
            return result;
        }
        has_waited = true;
        sleep(COMMIT_PAUSE).await;
    }
}

/// Finds the commit for which the store refuses a group, and has its instance set aside; without that the
/// same group would be made again for ever. The commits before it become durable. Absent if what was done is not known.
///
/// If what refuses it is a damaged page, not even that it is set aside can be written. An instance of its own cannot be
/// made because of such a page, or several in a row cannot be changed: then any other may meet the same.
async fn find_refused(shared: &Shared, group: &Group, ledger: &mut Ledger) -> Option<Failed> {
    for section in &group.sections {
        for (seq, made) in (section.first_seq.0..).zip(&section.commits) {
            let alone = Group {
                sections: vec![Section {
                    partition: section.partition.clone(),
                    epoch: section.epoch,
                    first_seq: Seq(seq),
                    commits: vec![made.clone()],
                }],
            };
            match commit(shared, &Arc::new(alone)).await {
                Ok(()) => ledger.note(&BTreeMap::from([(section.partition.clone(), Seq(seq))])),
                Err(StoreError::Corrupt { place, what, extent }) => {
                    let is_unwritable = extent == Extent::Pages;
                    let is_new = matches!(made.change, Some(Change::Create(_)));
                    ledger.refusals += u32::from(is_unwritable);
                    if is_unwritable && (is_new || ledger.refusals >= REFUSALS_MAX) {
                        shared.note_damage(&what);
                    }
                    if !(is_unwritable && is_new) {
                        shared.broken().push(Broken {
                            instance: Some(made.instance.clone()),
                            what: format!("the store refuses to write it: {what}"),
                            is_unwritable,
                        });
                    }
                    let at = At {
                        partition: section.partition.index,
                        seq: Seq(seq),
                    };
                    return Some(Failed::Refused(Some((at, StoreError::Corrupt { place, what, extent }))));
                }
                Err(_) => return None,
            }
        }
    }
    Some(Failed::Refused(None))
}
