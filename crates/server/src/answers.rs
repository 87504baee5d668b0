//! Memory for answers: large ones are counted until they are sent, and wait for each other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::Limits;

/// Smaller answers are not counted: the number of connections bounds them.
const COUNTED_BYTES_MIN: usize = 64 << 10;
/// What is counted in.
const UNIT_BYTES: usize = 1 << 10;

/// Room for large answers.
#[derive(Debug)]
pub(crate) struct Answers {
    units: Arc<Semaphore>,
    units_max: u32,
    patience: Duration,
}

/// What an answer takes of it until it is sent.
#[derive(Debug, Default)]
pub(crate) struct Room(Option<OwnedSemaphorePermit>);

impl Answers {
    pub(crate) fn new(limits: &Limits) -> Self {
        let units = (limits.answers_bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let units_max = u32::try_from(units).unwrap_or(u32::MAX);
        Self {
            units: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
            patience: limits.answer_patience,
        }
    }

    /// What so many bytes take: all of it if they are more.
    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes / UNIT_BYTES).map_or(self.units_max, |units| units.min(self.units_max))
    }

    /// Room for so many bytes, if there is some now.
    pub(crate) fn take_now(&self, bytes: usize) -> Option<Room> {
        if bytes < COUNTED_BYTES_MIN {
            return Some(Room::default());
        }
        let taken = Arc::clone(&self.units).try_acquire_many_owned(self.units_of(bytes));
        taken.ok().map(|taken| Room(Some(taken)))
    }

    /// Room for so many bytes, if there is some before patience ends.
    pub(crate) async fn take(&self, bytes: usize) -> Option<Room> {
        let taken = Arc::clone(&self.units).acquire_many_owned(self.units_of(bytes));
        let taken = timeout(self.patience, taken).await.ok()?;
        taken.ok().map(|taken| Room(Some(taken)))
    }
}

impl Answers {
    /// Reserves bytes if they are available now. A response that is larger than the whole budget is allowed while no
    /// other is counted.
    pub(crate) fn grow(&self, room: &mut Room, bytes: usize) -> bool {
        let (own, left) = (
            room.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits),
            self.units.available_permits(),
        );
        let is_alone = own + left >= self.units_max as usize;
        let bytes = if is_alone { bytes.min(left * UNIT_BYTES) } else { bytes };
        self.take_now(bytes).map(|more| room.add(more)).is_some()
    }
}

impl Room {
    /// Adds what another one has.
    fn add(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(own), Some(more)) => own.merge(more),
            (own @ None, more) => *own = more,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_answers_wait_for_each_other_and_small_ones_for_nobody() {
        let answers = Answers::new(&Limits {
            answers_bytes_max: 1 << 20,
            ..Limits::default()
        });
        let mut first = answers.take_now(600 << 10).unwrap();
        assert!(answers.take_now(600 << 10).is_none());
        assert!(answers.take(600 << 10).await.is_none(), "patience ends");
        first.add(answers.take_now(400 << 10).unwrap());
        assert!(answers.take_now(100 << 10).is_none());
        let _small = answers.take_now(1_000).unwrap();
        drop(first);
        let larger_than_all = answers.take(1 << 30).await.unwrap();
        assert!(answers.take_now(64 << 10).is_none());
        drop(larger_than_all);
        let mut grown = Room::default();
        assert!(
            (0..20).all(|_| answers.grow(&mut grown, 100 << 10)),
            "there is no other"
        );
        assert!(answers.take_now(64 << 10).is_none());
        let mut other = Room::default();
        assert!(!answers.grow(&mut other, 100 << 10));
        drop(grown);
        assert!(answers.take_now(1 << 20).is_some());
    }
}
