//! Which requests a partition thread takes in, and when: what adds work waits while too much is ahead of the disk, and
//! large ones let small ones pass, within a bounded delay. What waits here has changed nothing yet.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use taskhub_core::id::InstanceId;
use taskhub_core::time::Timestamp;

use crate::group::Limits;
use crate::io::Input;

/// A payload of more bytes makes a request a large one.
const LARGE_BYTES: usize = 64 << 10;
/// How long a large request lets others pass, if the disk keeps up.
const LARGE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The requests that wait.
#[derive(Debug)]
pub(crate) struct Admission<R> {
    small: VecDeque<(u16, Input<R>)>,
    large: VecDeque<Large<R>>,
    /// How many of the large ones are about each instance: what comes later about it stays behind them (R189).
    instances: HashMap<InstanceId, usize>,
}

#[derive(Debug)]
struct Large<R> {
    partition: u16,
    input: Input<R>,
    instance: InstanceId,
    bytes: usize,
    since: Timestamp,
}

impl<R> Default for Admission<R> {
    fn default() -> Self {
        Self {
            small: VecDeque::new(),
            large: VecDeque::new(),
            instances: HashMap::new(),
        }
    }
}

impl<R> Admission<R> {
    /// Keeps an input that adds work. Returns all other inputs, and small requests that need not wait, to be processed
    /// immediately.
    pub(crate) fn offer(
        &mut self,
        partition: u16,
        input: Input<R>,
        now: impl FnOnce() -> Timestamp,
        has_room: impl FnOnce() -> bool,
    ) -> Option<Input<R>> {
        let Input::Request { instance, request, .. } = &input else {
            return Some(input);
        };
        let Some(bytes) = request.added_bytes() else {
            return Some(input);
        };
        if bytes > LARGE_BYTES || self.instances.contains_key(instance) {
            let instance = instance.clone();
            *self.instances.entry(instance.clone()).or_default() += 1;
            self.large.push_back(Large {
                partition,
                input,
                instance,
                bytes,
                since: now(),
            });
        } else if !self.small.is_empty() || !has_room() {
            self.small.push_back((partition, input));
        } else {
            return Some(input);
        }
        None
    }

    /// The next one that may be taken in. `is_ahead` tells whether what is ahead of the disk, in bytes, is as wanted.
    pub(crate) fn next(
        &mut self,
        now: Timestamp,
        limits: Limits,
        is_ahead: impl Fn(&dyn Fn(usize) -> bool) -> bool,
    ) -> Option<(u16, Input<R>)> {
        if !self.small.is_empty() && is_ahead(&|ahead| ahead < limits.ahead_max) {
            return self.small.pop_front();
        }
        let first = self.large.front()?;
        let has_waited = now.since(first.since) >= LARGE_WAIT_MAX;
        let fits = |ahead: usize| {
            ahead == 0 || ahead + first.bytes <= limits.group_max || has_waited && ahead < limits.ahead_max
        };
        if !is_ahead(&fits) {
            return None;
        }
        let first = self.large.pop_front()?;
        if let Some(count) = self.instances.get_mut(&first.instance) {
            *count -= 1;
            if *count == 0 {
                self.instances.remove(&first.instance);
            }
        }
        Some((first.partition, first.input))
    }

    /// When a large one has waited for long enough.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        Some(self.large.front()?.since.plus(LARGE_WAIT_MAX))
    }

    /// Drops all that waits, which tells who asked.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Request;
    use taskhub_core::id::Name;
    use taskhub_core::payload::Payload;

    const LIMITS: Limits = Limits {
        commits_max: 1,
        group_max: 1 << 20,
        ahead_max: 4 << 20,
    };
    const LARGE: usize = 2 << 20;

    fn raise(instance: &str, bytes: usize, to: u32) -> Input<u32> {
        let (Ok(instance), Ok(name)) = (InstanceId::new(instance), Name::new("Told")) else {
            unreachable!("they are an id and a name")
        };
        let input = Some(Payload::new(vec![0; bytes]));
        Input::Request {
            instance,
            request: Request::Raise { name, input, key: None },
            to,
        }
    }

    fn number(input: &Input<u32>) -> Option<u32> {
        match input {
            Input::Request { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// Offers requests while so much is ahead, and says which are let in at once.
    fn offer(admission: &mut Admission<u32>, given: Vec<Input<u32>>, ahead: usize) -> Vec<u32> {
        let at = Timestamp::default();
        let passed = given
            .into_iter()
            .filter_map(|input| number(&admission.offer(0, input, || at, || ahead < LIMITS.ahead_max)?));
        passed.collect()
    }

    fn next(admission: &mut Admission<u32>, now: Duration, ahead: usize) -> Option<u32> {
        let next = admission.next(Timestamp::default().plus(now), LIMITS, |wanted| wanted(ahead));
        number(&next?.1)
    }

    #[test]
    fn small_requests_pass_large_ones_but_not_those_about_the_same_instance() {
        let mut admission = Admission::default();
        let given = vec![
            raise("a", LARGE, 1),
            raise("b", 10, 2),
            raise("a", 10, 3),
            raise("c", LARGE, 4),
        ];
        assert_eq!(offer(&mut admission, given, 1), [2]);
        assert_eq!(
            next(&mut admission, Duration::ZERO, 1),
            None,
            "a group is ahead already"
        );
        assert_eq!(next(&mut admission, Duration::ZERO, 0), Some(1));
        assert_eq!(next(&mut admission, Duration::ZERO, LARGE), None);
        assert_eq!(
            next(&mut admission, Duration::ZERO, 100),
            Some(3),
            "it fits beside what is ahead"
        );
        assert_eq!(next(&mut admission, Duration::ZERO, 0), Some(4));
        assert_eq!(
            offer(&mut admission, vec![raise("a", 10, 5)], 0),
            [5],
            "nothing of it waits any more"
        );
    }

    #[test]
    fn a_large_request_waits_no_longer_than_the_delay_unless_the_disk_is_behind() {
        let mut admission = Admission::default();
        offer(&mut admission, vec![raise("a", LARGE, 1)], 0);
        assert_eq!(admission.next_at(), Some(Timestamp::default().plus(LARGE_WAIT_MAX)));
        assert_eq!(next(&mut admission, LARGE_WAIT_MAX, LIMITS.ahead_max), None);
        assert_eq!(next(&mut admission, LARGE_WAIT_MAX, LIMITS.ahead_max - 1), Some(1));
    }

    #[test]
    fn while_the_disk_is_behind_small_requests_wait_in_order() {
        let mut admission = Admission::default();
        let behind = LIMITS.ahead_max;
        assert_eq!(offer(&mut admission, vec![raise("a", 10, 1)], behind), []);
        assert_eq!(offer(&mut admission, vec![raise("b", 10, 2)], 0), [], "none overtakes");
        assert_eq!(next(&mut admission, Duration::ZERO, behind), None);
        let passed = [0, 0].map(|ahead| next(&mut admission, Duration::ZERO, ahead));
        assert_eq!(passed, [Some(1), Some(2)]);
    }
}
