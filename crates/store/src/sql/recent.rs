//! A bounded cache of the instance heads that a writer has written recently. Only the owner of a partition writes its
//! instances, so a cached head always equals the stored one, and the next group that changes the instance need not read
//! it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::record::{Key, Stored};

/// Instances of each half: some 8 MB in all.
const HALF: usize = 16_384;

/// Rows of `instance`, by their keys, in two halves: when the younger one is full it becomes the older one.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    young: Half,
    old: Half,
}

type Half = HashMap<Key, Stored, BuildHasherDefault<Spread>>;

/// Hashes keys for a table. The store assigns the keys, so no caller can choose colliding ones.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a key is one number")
    }

    fn write_i64(&mut self, key: i64) {
        let product = key.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Its lower half does not know the upper one of the key, which is the partition.
        self.0 = product ^ product.rotate_right(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a group makes of an instance; absent if it removes it.
pub(crate) type Change = (Key, Option<Stored>);

impl Recent {
    pub(crate) fn get(&self, key: Key) -> Option<Stored> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    /// Takes in what a durable group has made. An instance that has ended is seldom changed again.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for (key, stored) in changes {
            if let Some(stored) = stored.filter(|stored| stored.head.completed_at.is_none()) {
                if self.young.len() >= HALF && !self.young.contains_key(&key) {
                    self.old = std::mem::take(&mut self.young);
                }
                self.young.insert(key, stored);
            } else {
                self.young.remove(&key);
                self.old.remove(&key);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use taskhub_core::id::{MessageNumber, Occurrence};
    use taskhub_core::status::RuntimeStatus;
    use taskhub_core::time::Timestamp;

    use super::*;
    use crate::sql::record::{Head, Prints};

    fn row(ordinal: u32, is_over: bool) -> Stored {
        let now = Timestamp::from_micros(1);
        Stored {
            hub: 1,
            created_at: now,
            head: Head {
                status: RuntimeStatus::Running,
                ordinal,
                updated_at: now,
                completed_at: is_over.then_some(now),
                history_events: 0,
                history_bytes: 0,
                next_message: MessageNumber(0),
                next_occurrence: Occurrence(0),
                waits: 0,
                keys: 0,
            },
            prints: Prints::default(),
        }
    }

    #[test]
    fn the_latest_is_kept_and_the_oldest_goes() {
        let mut recent = Recent::default();
        let half = i64::try_from(HALF).unwrap();
        recent.apply((0..half).map(|key| (Key(key), Some(row(1, false)))).collect());
        // Changed again when others have come, which moves it to the front.
        recent.apply(vec![(Key(half), Some(row(1, false))), (Key(0), Some(row(2, false)))]);
        assert_eq!(recent.get(Key(0)), Some(row(2, false)));
        assert_eq!(recent.get(Key(1)), Some(row(1, false)));
        recent.apply((half..2 * half).map(|key| (Key(key), Some(row(3, false)))).collect());
        assert_eq!(recent.get(Key(1)), None, "it has not been changed for long");
        assert_eq!(recent.get(Key(0)), Some(row(2, false)));
        assert!(recent.young.len() <= HALF && recent.old.len() <= HALF);
        // One that has ended or is gone is in neither half.
        recent.apply(vec![(Key(0), Some(row(2, true))), (Key(half), None)]);
        assert_eq!((recent.get(Key(0)), recent.get(Key(half))), (None, None));
    }
}
