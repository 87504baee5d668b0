//! Slows down guessing of keys: an address that presents too many wrong keys must wait before its next key is checked.
//!
//! Right and wrong keys wait equally long, and a wrong key counts on arrival, so that a client cannot guess faster by
//! not waiting for the answer. Callers with a key that opened something from this address before are not slowed down,
//! since a program with an old key must not lock out the others of its machine; but where very many wrong ones come,
//! somebody is trying, and they wait as well.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong keys that an address may present in a window without being slowed down.
const WRONG_MAX: u32 = 10;
/// Wrong keys in a window from which on even a key that is known from there waits.
const TRIED_MAX: u32 = 100;
const WINDOW: Duration = Duration::from_mins(1);
/// Keys of an address that may be waited with at once.
const WAITING_MAX: u32 = 10;
/// Addresses that are remembered; beyond, the one whose window is oldest is forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// What addresses presented.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<HashMap<IpAddr, Seen>>);

/// What one address presented.
#[derive(Debug)]
struct Seen {
    since: Instant,
    wrong: u32,
    waiting: u32,
    /// Places of the keys that opened something for it.
    opened: Vec<usize>,
}

/// What to do with a key before it is checked.
#[derive(Debug)]
pub(crate) enum Turn<'g> {
    /// Nothing.
    Now,
    /// It is waited with; then this is dropped.
    Wait(Waiting<'g>),
    /// Too many are waited with already.
    TooMany,
}

/// A key that is waited with.
#[derive(Debug)]
pub(crate) struct Waiting<'g> {
    guesses: &'g Guesses,
    address: IpAddr,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(seen) = self.guesses.lock().get_mut(&self.address) {
            seen.waiting = seen.waiting.saturating_sub(1);
        }
    }
}

impl Guesses {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Seen>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a key from an address may be checked; `place` is the index of the key, if it is valid. A wrong key
    /// counts even if its request is aborted.
    pub(crate) fn turn(&self, address: IpAddr, place: Option<usize>, now: Instant) -> Turn<'_> {
        let address = network(address);
        let mut all = self.lock();
        let seen = find(&mut all, address, now);
        let wrong = seen.wrong;
        if place.is_none() {
            seen.wrong = seen.wrong.saturating_add(1);
            if seen.wrong == 1 {
                tracing::warn!(%address, "a request presented a wrong key; not logging further ones for a minute");
            }
        }
        let is_known = place.is_some_and(|place| seen.opened.contains(&place));
        if wrong < WRONG_MAX || (is_known && wrong < TRIED_MAX) {
            return Turn::Now;
        }
        if seen.waiting >= WAITING_MAX {
            return Turn::TooMany;
        }
        seen.waiting += 1;
        Turn::Wait(Waiting { guesses: self, address })
    }

    /// Remembers that a key opened something for an address; `place` is that of the key.
    pub(crate) fn opened(&self, address: IpAddr, place: usize, now: Instant) {
        let mut all = self.lock();
        let seen = find(&mut all, network(address), now);
        if !seen.opened.contains(&place) {
            seen.opened.push(place);
        }
    }
}

/// What an address presented within this window.
fn find(all: &mut HashMap<IpAddr, Seen>, address: IpAddr, now: Instant) -> &mut Seen {
    if !all.contains_key(&address) && all.len() >= ADDRESSES_MAX {
        let oldest = all.iter().min_by_key(|(_, seen)| seen.since);
        let oldest = oldest.map(|(address, _)| *address);
        oldest.map(|oldest| all.remove(&oldest));
    }
    let seen = all.entry(address).or_insert_with(|| Seen {
        since: now,
        wrong: 0,
        waiting: 0,
        opened: Vec::new(),
    });
    if now.duration_since(seen.since) >= WINDOW {
        (seen.since, seen.wrong) = (now, 0);
    }
    seen
}

/// The time by which windows are measured.
#[expect(
    clippy::disallowed_methods,
    reason = "how fast somebody guesses is measured on the machine, not in a hub"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Whom an address belongs to: the system that has it, or in IPv6 the network, whose addresses are without number.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_now(guesses: &Guesses, from: &str, place: Option<usize>, now: Instant) -> bool {
        matches!(guesses.turn(address(from), place, now), Turn::Now)
    }

    #[test]
    fn the_eleventh_wrong_key_within_a_minute_waits_and_a_right_one_as_well() {
        let (guesses, now) = (Guesses::default(), super::now());
        guesses.opened(address("192.0.2.1"), 3, now);
        for _ in 0..10 {
            assert!(is_now(&guesses, "192.0.2.1", None, now));
        }
        assert!(!is_now(&guesses, "192.0.2.1", None, now));
        assert!(
            !is_now(&guesses, "192.0.2.1", Some(4), now),
            "a right key tells nothing by its speed"
        );
        assert!(
            is_now(&guesses, "192.0.2.1", Some(3), now),
            "one that is known from there does not wait"
        );
        assert!(is_now(&guesses, "192.0.2.2", None, now), "nor does another address");
        assert!(!is_now(&guesses, "::ffff:192.0.2.1", None, now));
        assert!(!is_now(&guesses, "192.0.2.1", None, now + Duration::from_secs(59)));
        for _ in 0..100 {
            // Their requests are given up at once.
            drop(guesses.turn(address("192.0.2.1"), None, now));
        }
        assert!(
            !is_now(&guesses, "192.0.2.1", Some(3), now),
            "where somebody tries, it is not told from others either"
        );
        assert!(is_now(&guesses, "192.0.2.1", None, now + WINDOW), "it begins anew");
        assert!(is_now(&guesses, "192.0.2.1", Some(3), now + WINDOW));
    }

    #[test]
    fn no_more_than_ten_of_an_address_wait_at_once() {
        let (guesses, now) = (Guesses::default(), super::now());
        for _ in 0..10 {
            assert!(is_now(&guesses, "2001:db8:1:2::3", None, now));
        }
        let next = || guesses.turn(address("2001:db8:1:2::4"), None, now);
        let waiting: Vec<Turn<'_>> = (0..10).map(|_| next()).collect();
        assert!(waiting.iter().all(|turn| matches!(turn, Turn::Wait(_))));
        assert!(matches!(next(), Turn::TooMany));
        drop(waiting);
        assert!(matches!(next(), Turn::Wait(_)));
        assert!(is_now(&guesses, "2001:db8:1:3::4", None, now));
    }

    #[test]
    fn so_many_addresses_are_remembered_and_no_more() {
        let (guesses, now) = (Guesses::default(), super::now());
        for number in 0..20_000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            drop(guesses.turn(address, None, now + Duration::from_micros(number.into())));
        }
        assert_eq!(guesses.lock().len(), ADDRESSES_MAX);
        assert!(
            guesses
                .lock()
                .contains_key(&IpAddr::V4((0x0a00_0000_u32 + 19_999).into()))
        );
    }
}
