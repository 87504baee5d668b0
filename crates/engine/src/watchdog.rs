//! Looks after the partition threads of a node: a turn that does not return is named, and in the end its thread is left to it
//! and replaced (A33).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use taskhub_core::id::InstanceId;
use tokio::time::{Instant, sleep};

use crate::clock::now;
use crate::common::Common;
use crate::supervision::{Broken, BrokenBy};
use crate::thread::start;

/// A turn that takes longer is named in a warning (A33).
const TURN_WARN: Duration = Duration::from_secs(1);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Lost threads after which the process reports itself unhealthy (A33).
pub(crate) const LOST_THREADS_MAX: usize = 4;

/// A turn seen by the watchdog.
struct Watched {
    turn: u64,
    since: Instant,
    is_named: bool,
}

impl Watched {
    fn new(turn: u64) -> Self {
        Self {
            turn,
            since: now(),
            is_named: false,
        }
    }
}

/// A thread that is stuck in a turn.
struct Blocked {
    /// Its number.
    thread: usize,
    hub: u32,
    instance: InstanceId,
}

/// Watches until the node is closed.
pub(crate) async fn watch(node: Weak<Common>) {
    let mut watched = BTreeMap::new();
    loop {
        sleep(LOOK_PAUSE).await;
        let Some(node) = node.upgrade().filter(|node| !node.is_closed()) else {
            return;
        };
        for blocked in look(&node, &mut watched) {
            watched.remove(&blocked.thread);
            give_up(&node, blocked);
        }
    }
}

/// The threads that are stuck in one turn for too long. Names a slow turn once.
fn look(node: &Common, watched: &mut BTreeMap<usize, Watched>) -> Vec<Blocked> {
    let mut blocked = Vec::new();
    for (thread, link) in node.links().into_iter().enumerate() {
        let Some((turn, hub, instance)) = link.pulse.running() else {
            watched.remove(&thread);
            continue;
        };
        let entry = watched.entry(thread).or_insert_with(|| Watched::new(turn));
        if entry.turn != turn {
            *entry = Watched::new(turn);
        }
        let age = entry.since.elapsed();
        if age >= node.turn_limit {
            blocked.push(Blocked { thread, hub, instance });
        } else if age >= TURN_WARN && !entry.is_named {
            entry.is_named = true;
            let seconds = age.as_secs();
            tracing::warn!(hub = name(node, hub), %instance, seconds, "a turn has not returned; orchestrators must \
                not block");
        }
    }
    blocked
}

fn name(node: &Common, hub: u32) -> String {
    node.hub(hub)
        .map_or_else(|| "(closed)".to_owned(), |hub| hub.hub.to_string())
}

/// Abandons a thread that is blocked in a turn, and starts a new one in its place. All hubs had partitions on it, so
/// all reload.
fn give_up(node: &Arc<Common>, blocked: Blocked) {
    let Blocked { thread, hub, instance } = blocked;
    let lost = 1 + node.lost_threads.fetch_add(1, Ordering::AcqRel);
    tracing::error!(hub = name(node, hub), %instance, lost, "a turn blocks its thread; abandoning the thread");
    if let Some(hub) = node.hub(hub) {
        let limit = node.turn_limit;
        hub.blame(Broken {
            instance: Some(instance),
            what: format!(
                "a turn did not return within {limit:?}, so its thread was abandoned; the instance no longer runs in \
                this process"
            ),
            by: BrokenBy::Blocking,
        });
    }
    let fresh = start(node, thread).map(|fresh| node.replace_link(thread, fresh));
    if let Err(error) = fresh {
        tracing::error!(%error, "cannot start a new thread");
    }
    node.lose_all();
}
