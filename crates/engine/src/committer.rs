//! The commit loop: takes the batches of the partition threads, makes them durable as one group, and then releases the
//! effects that waited for it (A1, A24).
//!
//! While groups queue up, a separate thread releases effects, so that the next group is written meanwhile. If no group
//! waits, the commit thread releases them itself, which saves the switch to another thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use taskhub_store::Error as StoreError;
use tokio::time::sleep;

use crate::clock::now;
use crate::common::Common;
use crate::error::{Error, chain};
use crate::group::{ReleaseOn, Ticket};
use crate::io::Input;
use crate::link::ThreadInput;
use crate::open_group::{Batch, Taken};
use crate::reply::To;
use crate::writing::{Failure, Ledger, Next, Told, Writing, Written};

/// A durable group, which is finished only after its effects are released.
struct Ended {
    written: Written<To>,
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
async fn commit_groups(node: &Arc<Common>, to_release: &Sender<Ended>) {
    let mut ledger = Ledger::default();
    while let Some(taken) = node.group.take().await {
        ledger.forget_closed(|hub| node.hub(hub).is_some());
        write(node, taken, &mut ledger, to_release).await;
    }
}

async fn write(node: &Arc<Common>, taken: Taken, ledger: &mut Ledger, to_release: &Sender<Ended>) {
    let ahead = Ahead(node, taken.bytes());
    let under_way = UnderWay {
        node: Arc::clone(node),
        tickets: taken.tickets().to_vec(),
    };
    let written = match offer(node, taken, ledger).await {
        Ok(written) => written,
        Err(failure) => {
            fail(node, failure, ledger);
            return;
        }
    };
    drop(ahead);
    node.failed_groups.store(0, Ordering::Release);
    let ended = Ended { written, under_way };
    match node.group.begin_release() {
        ReleaseOn::Here => release(node, ended),
        ReleaseOn::OtherThread => {
            if let Err(unsent) = to_release.send(ended) {
                // The other thread has ended; releasing here keeps the order.
                release(node, unsent.0);
            }
        }
    }
}

/// Makes the offers of the value to the store, until the outcome of the group is known.
async fn offer(node: &Common, taken: Taken, ledger: &mut Ledger) -> Result<Written<To>, Failure<To>> {
    let began = now();
    let mut next = Writing::begin(taken, ledger, Duration::ZERO);
    loop {
        let (writing, pause) = match next {
            Next::Offer(writing, pause) => (writing, pause),
            Next::Durable(written) => return Ok(written),
            Next::Failed(failure) => return Err(failure),
        };
        if pause > Duration::ZERO {
            sleep(pause).await;
        }
        let answer = node.store.commit(Arc::clone(writing.offered())).await;
        note(node, answer.as_ref().err(), writing.has_waited());
        next = writing.answered(answer, ledger, began.elapsed(), node.is_out_of_room());
    }
}

/// Records the state of the store in the node. This happens before the deadline, so that `/readyz` and admission react
/// while the group is still being retried.
fn note(node: &Common, error: Option<&StoreError>, has_waited: bool) {
    match error {
        // Without a retry, the node's state has not changed.
        None if has_waited => {
            node.note_failing(false);
            if !node.is_out_of_room() {
                node.note_room(false);
            }
        }
        None | Some(StoreError::Corrupt { .. }) => {}
        Some(StoreError::Full) => node.note_room(true),
        Some(_) => node.note_failing(true),
    }
}

/// Makes all hubs drop their memory, and answers the callers whose outcome is certain.
fn fail(node: &Common, failure: Failure<To>, ledger: &mut Ledger) {
    tracing::error!(error = %chain(&failure.error), "cannot make a group of commits durable");
    if failure.is_hopeless {
        node.note_damage(&failure.error.to_string());
    }
    if let Some((hub, broken)) = &failure.blamed
        && let Some(hub) = node.hub(*hub)
    {
        hub.blame(broken.clone());
    }
    let discarded = give_up_group(node);
    for (to, told) in failure.settle(discarded, ledger) {
        match told {
            Told::Answer(reply) => to.answer(reply),
            Told::Refused(error) => to.refuse(error),
            Told::Displaced => to.refuse(Error::Displaced),
        }
    }
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

fn release_all(node: &Arc<Common>, to_release: &Receiver<Ended>) {
    while let Ok(ended) = to_release.recv() {
        if catch_unwind(AssertUnwindSafe(|| release(node, ended))).is_err() {
            tracing::error!(
                "an internal assertion failed while releasing the effects of a group; reloading all partitions from the store"
            );
            node.lose_all();
        }
    }
}

/// Releases the effects that waited for a group. A hub that was closed meanwhile is skipped.
fn release(node: &Common, ended: Ended) {
    let Ended { written, under_way } = ended;
    let _under_way = under_way;
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
