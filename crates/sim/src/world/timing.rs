//! Timers fire not before they are due and, once faults have stopped, on time.

use std::time::Duration;

use taskhub_core::event::EventKind;
use taskhub_core::time::Timestamp;
use taskhub_store::Group;

use super::World;
use crate::Violation;

/// What a timer may be late where nothing goes wrong: the scheduler takes a fraction of a millisecond for each move, and there may
/// be as many moves before the timer's as there is other work.
const TIMER_LATE_MAX: Duration = Duration::from_secs(1);

impl World {
    /// Holds the timers that a durable group says have fired against the node's time (I6).
    pub(super) fn timers_fire_on_time(&self, group: &Group) -> Result<(), Violation> {
        let now = self.node_time();
        let commits = group.sections.iter().flat_map(|section| &section.commits);
        for (instance, update) in commits.filter_map(|commit| Some((&commit.instance, commit.update()?))) {
            for message in &update.inbox_added {
                let EventKind::TimerFired { fire_at, .. } = &message.event.kind else {
                    continue;
                };
                let is_early = *fire_at > now;
                let is_late = self.was_set_in_calm(*fire_at) && now.since(*fire_at) > TIMER_LATE_MAX;
                if is_early || is_late {
                    let what = format!("a timer of `{instance}` is due at {fire_at} and fires at {now}");
                    return Err(Violation::new("I6", what));
                }
            }
        }
        Ok(())
    }

    fn was_set_in_calm(&self, fire_at: Timestamp) -> bool {
        self.settled_at.is_some_and(|settled_at| fire_at > settled_at)
    }
}
