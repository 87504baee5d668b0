//! Idempotency keys: which requests an instance has accepted, so that a repetition changes nothing (R83, R139).
//!
//! A key identifies one request: its operation, instance, name and payload. The same key with a different request is a
//! conflict: answering it as a repetition would silently drop that request.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::fnv;
use crate::fold::FoldedName;
use crate::id::{IdempotencyKey, InstanceId, Name};
use crate::limits;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::time::Timestamp;

const KEY_LIFE: Duration = Duration::from_hours(limits::KEY_HOURS);

/// What a key was used for. Each kind of request has a name space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// To start the instance.
    Start,
    /// To raise an event.
    Raise,
}

/// The request of a key, with everything that distinguishes two requests. As everywhere, names are case-insensitive
/// (R77).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// What was asked.
    pub operation: Operation,
    /// Name of the orchestrator or of the event.
    pub name: FoldedName,
    /// [`KeyUse::digest_of`] the input.
    pub digest: u64,
}

impl KeyUse {
    /// The use of a key for a request.
    pub fn new(operation: Operation, name: &Name, input: Option<&Payload>) -> Self {
        Self {
            operation,
            name: FoldedName::new(name.clone()),
            digest: Self::digest_of(input),
        }
    }

    /// 64-bit FNV-1a of an input; an absent one differs from an empty one.
    pub fn digest_of(input: Option<&Payload>) -> u64 {
        input.map_or(!fnv::BASIS_64, |input| fnv::hash_64(fnv::BASIS_64, input.bytes()))
    }

    /// Describes the earlier use of the key, for a refused request `other`.
    fn told(&self, other: &Self) -> String {
        let what = match self.operation {
            Operation::Start => format!("to start `{}`", self.name.name()),
            Operation::Raise => format!("to raise the event `{}`", self.name.name()),
        };
        if self.name == other.name {
            format!("{what} with another payload")
        } else {
            what
        }
    }
}

/// An idempotency key, what it was used for, and until when it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenKey {
    /// The key.
    pub key: IdempotencyKey,
    /// The earlier use of the key. Keys stored by versions that did not record it match every request.
    pub used: Option<KeyUse>,
    /// From then on it is forgotten.
    pub until: Timestamp,
}

impl SeenKey {
    /// A key that is used now.
    pub fn now(key: &IdempotencyKey, used: KeyUse, now: Timestamp) -> Self {
        Self {
            key: key.clone(),
            used: Some(used),
            until: now.plus(KEY_LIFE),
        }
    }

    /// Whether it was used at this moment.
    pub fn was_used_at(&self, moment: Timestamp) -> bool {
        self.until == moment.plus(KEY_LIFE)
    }

    /// Whether it is the same key for the same kind of request.
    pub fn is_same(&self, other: &Self) -> bool {
        self.place() == other.place()
    }

    fn place(&self) -> Place {
        (self.used.as_ref().map(|used| used.operation), self.key.clone())
    }
}

/// Where a key is kept: name spaces do not meet.
type Place = (Option<Operation>, IdempotencyKey);

/// The keys of one instance. None is forgotten within its time.
#[derive(Clone, Debug, Default)]
pub struct SeenKeys {
    /// In the order in which they came, which is that in which they are forgotten.
    order: VecDeque<Place>,
    by_place: BTreeMap<Place, SeenKey>,
    /// Bytes of the keys and names.
    bytes: usize,
}

impl PartialEq for SeenKeys {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SeenKeys {}

impl FromIterator<SeenKey> for SeenKeys {
    /// Keeps keys that come oldest first.
    fn from_iter<I: IntoIterator<Item = SeenKey>>(keys: I) -> Self {
        let mut seen = Self::default();
        keys.into_iter().for_each(|key| seen.push(key));
        seen
    }
}

impl SeenKeys {
    /// The key, if this very request was accepted under it within its time.
    ///
    /// # Errors
    ///
    /// `idempotency-conflict` if another one was accepted under the key.
    pub fn seen(
        &self,
        key: &IdempotencyKey,
        wanted: &KeyUse,
        instance: &InstanceId,
        now: Timestamp,
    ) -> Result<Option<&SeenKey>, Refusal> {
        let valid = |operation| {
            let seen = self.by_place.get(&(operation, key.clone()));
            seen.filter(|seen| seen.until > now)
        };
        let Some(seen) = valid(Some(wanted.operation)).or_else(|| valid(None)) else {
            return Ok(None);
        };
        match &seen.used {
            Some(used) if used != wanted => Err(Refusal::IdempotencyConflict {
                key: key.clone(),
                instance: instance.clone(),
                used: used.told(wanted),
            }),
            Some(_) | None => Ok(Some(seen)),
        }
    }

    /// Adds a key, after forgetting those whose time is over.
    pub fn add(&mut self, key: SeenKey, now: Timestamp) {
        while let Some(oldest) = self.order.front() {
            if self.by_place.get(oldest).is_some_and(|seen| seen.until > now) {
                break;
            }
            if let Some(forgotten) = self.order.pop_front().and_then(|place| self.by_place.remove(&place)) {
                self.bytes -= bytes_of(&forgotten);
            }
        }
        self.push(key);
    }

    fn push(&mut self, key: SeenKey) {
        let place = key.place();
        self.bytes += bytes_of(&key);
        if let Some(earlier) = self.by_place.insert(place.clone(), key) {
            // Its time was over, or it would have been a repetition.
            self.bytes -= bytes_of(&earlier);
            self.order.retain(|other| *other != place);
        }
        self.order.push_back(place);
    }

    /// The one that came last for an operation.
    pub fn newest(&self, operation: Operation) -> Option<&SeenKey> {
        let places = self.order.iter().rev();
        let newest = places.into_iter().find(|(of, _)| *of == Some(operation));
        newest.and_then(|place| self.by_place.get(place))
    }

    /// Those that are kept, oldest first; they may include some whose time is over.
    pub fn iter(&self) -> impl Iterator<Item = &SeenKey> {
        self.order.iter().filter_map(|place| self.by_place.get(place))
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Bytes they take in memory, roughly.
    pub fn size(&self) -> usize {
        const ENTRY: usize = 2 * size_of::<Place>() + size_of::<SeenKey>();
        self.len() * ENTRY + self.bytes
    }
}

fn bytes_of(seen: &SeenKey) -> usize {
    seen.key.as_str().len() + seen.used.as_ref().map_or(0, |used| used.name.name().as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn use_of(operation: Operation, name: &str, input: &str) -> KeyUse {
        KeyUse::new(operation, &Name::new(name).unwrap(), Some(&Payload::text(input)))
    }

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::new(text).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_parts(seconds, 0)
    }

    fn asked(seen: &SeenKeys, name: &str, wanted: &KeyUse, now: Timestamp) -> Result<bool, String> {
        let instance = InstanceId::new("i").unwrap();
        seen.seen(&key(name), wanted, &instance, now)
            .map(|seen| seen.is_some())
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn keys_of_starts_and_of_events_do_not_meet() {
        let start = use_of(Operation::Start, "Echo", "1");
        let seen: SeenKeys = [SeenKey::now(&key("m1"), start.clone(), at(0))].into_iter().collect();
        assert_eq!(asked(&seen, "m1", &start, at(1)), Ok(true));
        assert_eq!(
            asked(&seen, "m1", &use_of(Operation::Raise, "Echo", "1"), at(1)),
            Ok(false)
        );
        assert_eq!(asked(&seen, "m2", &start, at(1)), Ok(false));
        assert_eq!(
            asked(&seen, "m1", &use_of(Operation::Start, "ECHO", "1"), at(1)),
            Ok(true)
        );
    }

    #[test]
    fn a_key_with_another_name_or_payload_is_a_conflict_that_says_what_it_was_used_for() {
        let raise = use_of(Operation::Raise, "Go", "1");
        let seen: SeenKeys = [SeenKey::now(&key("m1"), raise, at(0))].into_iter().collect();
        let conflict = |wanted| asked(&seen, "m1", &wanted, at(1)).unwrap_err();
        assert!(conflict(use_of(Operation::Raise, "Stop", "1")).contains("was used to raise the event `Go`: "));
        assert!(conflict(use_of(Operation::Raise, "Go", "2")).contains("`Go` with another payload"));
        let absent = KeyUse::new(Operation::Raise, &Name::new("Go").unwrap(), None);
        assert!(conflict(absent).contains("another payload"));
    }

    #[test]
    fn a_key_counts_for_its_time_however_many_others_come() {
        let use_one = use_of(Operation::Raise, "Go", "1");
        let mut seen = SeenKeys::default();
        for index in 0..20_000 {
            seen.add(
                SeenKey::now(&key(&index.to_string()), use_one.clone(), at(index)),
                at(index),
            );
        }
        assert_eq!(asked(&seen, "0", &use_one, at(86_399)), Ok(true));
        assert_eq!(asked(&seen, "0", &use_one, at(86_400)), Ok(false));
        seen.add(SeenKey::now(&key("last"), use_one.clone(), at(86_500)), at(86_500));
        assert_eq!(seen.len(), 20_000 - 101 + 1);
        let bytes: usize = seen.iter().map(bytes_of).sum();
        assert_eq!(seen.bytes, bytes);
    }

    #[test]
    fn a_key_may_be_used_again_for_something_else_when_its_time_is_over() {
        let mut seen: SeenKeys = [SeenKey::now(&key("m1"), use_of(Operation::Raise, "Go", "1"), at(0))]
            .into_iter()
            .collect();
        let other = use_of(Operation::Raise, "Stop", "1");
        assert_eq!(asked(&seen, "m1", &other, at(86_400)), Ok(false));
        seen.push(SeenKey::now(&key("m1"), other.clone(), at(86_400)));
        assert_eq!((seen.len(), seen.bytes), (1, "m1Stop".len()));
        assert_eq!(asked(&seen, "m1", &other, at(86_401)), Ok(true));
    }

    #[test]
    fn a_key_from_before_uses_were_put_down_counts_as_it_did() {
        let old = SeenKey {
            key: key("old"),
            used: None,
            until: at(10),
        };
        let seen: SeenKeys = [old].into_iter().collect();
        assert_eq!(
            asked(&seen, "old", &use_of(Operation::Start, "Any", ""), at(9)),
            Ok(true)
        );
        assert_eq!(
            asked(&seen, "old", &use_of(Operation::Raise, "Any", ""), at(10)),
            Ok(false)
        );
    }
}
