//! The end of a simulation: faults stop, clients help, and everything must finish.

use taskhub_core::id::InstanceId;
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::io::Request;

use super::World;
use super::groups::HUB;
use super::lives::SWEEP_MIN;
use crate::Violation;
use crate::journal::Book;
use crate::library::{AWAITS, LIBRARY};
use crate::machine::{Machine, event_name};
use crate::plan::{quoted, text};

/// Rounds of help after which an instance that is still live hangs.
const ROUNDS_MAX: u32 = 300;

/// Entries that a partition keeps for each of its instances: some are swept away only when there are twice as many as are in use.
const ENTRIES_PER_INSTANCE_MAX: usize = 3;
/// And what it keeps however few there are.
const ENTRIES_BESIDES_MAX: usize = 2 * SWEEP_MIN;

/// What an instance needs from outside to go on.
enum Need {
    Resume,
    Event(u8),
    /// It was set aside for good, which its status says; an operator ends it.
    End,
}

impl World {
    /// Lets everything finish, with the help that plans need from outside.
    pub(super) fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.is_calm = true;
        self.ops_left = 0;
        if self.has_faults {
            self.disk.crash_at = None;
        }
        self.full_until = self.now;
        self.disk.heal();
        self.trace.line(|| format!("{} calm", self.now));
        // Work for orchestrators that do not run on this node waits for one that has them.
        if self.node.lost_activities > 0
            || !self.node.broken.is_empty()
            || self.node.is_damaged
            || !self.node.offers_all()
        {
            self.crash()?;
        }
        for _ in 0..ROUNDS_MAX {
            while self.step()? {}
            let live = self.journal.present().filter(|book| book.state.is_live());
            let live: Vec<(InstanceId, Option<Need>)> = live
                .map(|book| (book.state.info.instance.clone(), need(book)))
                .collect();
            if live.is_empty() {
                return self.gives_memory_back();
            }
            let now = self.node_time();
            self.settled_at.get_or_insert(now);
            if live.iter().all(|(_, need)| need.is_none()) {
                let named: Vec<&InstanceId> = live.iter().map(|(instance, _)| instance).collect();
                return Err(Violation::new(
                    "liveness",
                    format!("nothing moves, and {named:?} have not ended"),
                ));
            }
            for (instance, need) in live {
                self.help(instance, need.as_ref());
            }
        }
        Err(Violation::new(
            "liveness",
            format!("some instances have not ended after {ROUNDS_MAX} rounds of help"),
        ))
    }

    /// What has ended and is durable leaves memory when the budget asks for it (A39), and nothing else is left of it either.
    fn gives_memory_back(&mut self) -> Result<(), Violation> {
        let now = self.node_time();
        for (index, partition) in &mut self.node.partitions {
            partition.balance(now, &mut Vec::new());
            let (_, bytes) = partition.memory();
            if bytes > self.memory_bytes_max {
                let (what, most) = (partition.key(), self.memory_bytes_max);
                return Err(Violation::new(
                    "P8",
                    format!("partition {what} keeps {bytes} bytes in memory, and {most} may stay"),
                ));
            }
            let present = self
                .journal
                .books
                .iter()
                .filter(|((of, _), book)| of == index && !book.is_gone);
            let present = present.count();
            let (timers, waits, ids) = partition.entries();
            let most = ENTRIES_PER_INSTANCE_MAX * present + ENTRIES_BESIDES_MAX;
            if timers.max(waits).max(ids) > most {
                let what = format!(
                    "partition {} has {present} instances, and keeps {timers} timers, {waits} waits and {ids} ids",
                    partition.key()
                );
                return Err(Violation::new("P8", what));
            }
        }
        let node = &self.node;
        let queued: usize = node.queues.values().map(std::collections::VecDeque::len).sum();
        let unwritten = usize::from(!node.batch.is_empty() || !node.gathering.is_flushed(HUB, u64::MAX));
        let left = [queued, unwritten, node.turns_out.len()];
        if left.iter().any(|count| *count > 0) {
            let what = format!("[inputs, sections, effects, turns] that nobody waits for any more: {left:?}");
            return Err(Violation::new("P8", what));
        }
        Ok(())
    }

    fn help(&mut self, instance: InstanceId, need: Option<&Need>) {
        // Other than those of clients, which a smaller scenario has fewer of.
        let tag = format!("h{}", self.ops.len());
        let payload = Some(quoted(&tag));
        let request = match need {
            None => return,
            Some(Need::Resume) => Request::Resume { reason: payload },
            Some(Need::Event(event)) => Request::Raise {
                name: event_name(*event),
                input: payload,
                key: None,
            },
            Some(Need::End) => Request::Terminate {
                reason: payload,
                recurse: false,
            },
        };
        self.ask(instance, request, tag);
    }
}

/// What an instance waits for that nothing in the hub brings about.
fn need(book: &Book) -> Option<Need> {
    let state = &book.state;
    if state.info.status == RuntimeStatus::Suspended {
        return Some(Need::Resume);
    }
    if state.info.stalled.as_ref().is_some_and(|stall| stall.is_final()) {
        return Some(Need::End);
    }
    // With unread messages it is the hub's turn to do something.
    if !state.inbox.is_empty() {
        return None;
    }
    if state.info.name.as_str() == LIBRARY {
        return text(state.info.custom_status.as_ref())
            .strip_prefix(AWAITS)?
            .parse()
            .ok()
            .map(Need::Event);
    }
    let record = book.records.last()?;
    let mut machine = Machine::new();
    machine.replay(&record.events).ok()?;
    machine.awaited_event().map(Need::Event)
}
