//! Places limit concurrent connections and requests. When all are taken, the longest idle connection is closed to free
//! its place. No address gets more than its share. A few places are reserved for health probes, which must work even on
//! a full server. A connection has one place; over HTTP/2, each concurrent request after the first takes another one,
//! so that HTTP/2 gives a client no more concurrency than HTTP/1.1.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::guess::network;

/// Additional places, reserved for probes.
pub(crate) const SPARE: usize = 16;

/// All places.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    most_of_address: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The next number, for connections and for the order in which they become idle.
    next: u64,
    taken: HashMap<u64, Taken>,
    /// Connections by the moment since which they are idle.
    idle: BTreeMap<u64, u64>,
    /// Places of each address.
    of_address: HashMap<IpAddr, usize>,
    /// Requests other than the first one of their connection.
    further: usize,
}

#[derive(Debug)]
struct Taken {
    address: IpAddr,
    idle_since: Option<u64>,
    /// Requests that are answered.
    requests: usize,
    ends: Arc<Notify>,
}

/// The place of a connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    ends: Arc<Notify>,
}

impl Places {
    pub(crate) fn new(most: usize, most_of_address: usize) -> Self {
        Self {
            most: most.max(1),
            most_of_address: most_of_address.max(1),
            state: Mutex::default(),
            freed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a place is available. Until then, new connections wait in the system's accept queue.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            {
                let state = self.lock();
                if state.all() < self.most + SPARE || !state.idle.is_empty() {
                    return;
                }
            }
            freed.await;
        }
    }

    /// A place for a connection from an address; none if the address has its share, or all are at work.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut state = self.lock();
        if state.of_address.get(&address).copied().unwrap_or(0) >= self.most_of_address {
            let own = |number: &u64| state.taken.get(number).is_some_and(|taken| taken.address == address);
            let oldest = state.idle.values().copied().find(own)?;
            state.end(oldest);
        } else if state.all() >= self.most
            && let Some((_, oldest)) = state.idle.first_key_value()
        {
            let oldest = *oldest;
            state.end(oldest);
        }
        if state.at_work() >= self.most + SPARE {
            return None;
        }
        let number = state.next();
        let ends = Arc::new(Notify::new());
        let idle_since = state.next();
        state.idle.insert(idle_since, number);
        *state.of_address.entry(address).or_default() += 1;
        let taken = Taken {
            address,
            idle_since: Some(idle_since),
            requests: 0,
            ends: Arc::clone(&ends),
        };
        state.taken.insert(number, taken);
        Some(Place {
            places: Arc::clone(self),
            number,
            ends,
        })
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Places that are taken.
    fn all(&self) -> usize {
        self.taken.len() + self.further
    }

    /// Places of connections that are busy or already shutting down.
    fn at_work(&self) -> usize {
        self.all() - self.idle.len()
    }

    /// Takes places of an address back.
    fn give_back(&mut self, address: IpAddr, places: usize) {
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= places;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }

    /// Tells an idle connection to end.
    fn end(&mut self, number: u64) {
        if let Some(taken) = self.taken.get_mut(&number)
            && let Some(since) = taken.idle_since.take()
        {
            taken.ends.notify_one();
            self.idle.remove(&since);
        }
    }
}

impl Place {
    /// Called when a request arrives. Returns whether it got a place; without a place, only probes are answered.
    pub(crate) fn begin(&self) -> bool {
        let mut guard = self.places.lock();
        let state = &mut *guard;
        let Some(taken) = state.taken.get_mut(&self.number) else {
            return false;
        };
        taken.requests += 1;
        if taken.requests == 1 {
            let since = taken.idle_since.take();
            since.map(|since| state.idle.remove(&since));
            return state.at_work() <= self.places.most;
        }
        let of_address = state.of_address.entry(taken.address).or_default();
        *of_address += 1;
        let is_within_share = *of_address <= self.places.most_of_address;
        state.further += 1;
        is_within_share && state.at_work() <= self.places.most
    }

    /// Its answer is sent.
    pub(crate) fn rest(&self) {
        let mut guard = self.places.lock();
        let state = &mut *guard;
        let since = state.next();
        let Some(taken) = state.taken.get_mut(&self.number) else {
            return;
        };
        taken.requests -= 1;
        if taken.requests > 0 {
            state.further -= 1;
            let address = taken.address;
            state.give_back(address, 1);
        } else if taken.idle_since.is_none() {
            taken.idle_since = Some(since);
            state.idle.insert(since, self.number);
        }
        drop(guard);
        self.places.freed.notify_one();
    }

    /// Waits until another connection needs this place.
    pub(crate) async fn ended(&self) {
        self.ends.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        if let Some(taken) = state.taken.remove(&self.number) {
            taken.idle_since.map(|since| state.idle.remove(&since));
            let further = taken.requests.saturating_sub(1);
            state.further -= further;
            state.give_back(taken.address, 1 + further);
        }
        drop(state);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_ready(future: impl Future<Output = ()>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_ended(place: &Place) -> bool {
        is_ready(place.ended())
    }

    #[test]
    fn the_one_that_is_idle_longest_makes_room() {
        let places = Arc::new(Places::new(3, 3));
        let [first, second, third] = [1, 2, 3].map(|last| places.take(address(last)).unwrap());
        first.begin();
        first.rest();
        second.begin();
        let _fourth = places.take(address(4)).unwrap();
        assert!(is_ended(&third) && !is_ended(&first) && !is_ended(&second));
        drop(third);
        let _fifth = places.take(address(5)).unwrap();
        assert!(is_ended(&first) && !is_ended(&second));
    }

    #[test]
    fn an_address_has_its_share_and_its_own_idle_one_makes_room() {
        let places = Arc::new(Places::new(10, 2));
        let [own, second] = [0, 0].map(|_| places.take(address(1)).unwrap());
        let other = places.take(address(2)).unwrap();
        own.begin();
        let third = places.take(address(1)).unwrap();
        assert!(is_ended(&second) && !is_ended(&own) && !is_ended(&other));
        third.begin();
        drop(second);
        assert!(places.take(address(1)).is_none(), "both are at work");
        assert!(places.take(address(2)).is_some());
        drop(own);
        assert!(places.take(address(1)).is_some());
        assert_eq!(places.lock().of_address.len(), 2);
    }

    #[test]
    fn the_further_requests_of_a_connection_take_places_like_the_first() {
        let places = Arc::new(Places::new(4, 3));
        let one = places.take(address(1)).unwrap();
        assert!([(); 3].iter().all(|()| one.begin()));
        assert!(!one.begin(), "the address has its share");
        one.rest();
        assert!(places.take(address(1)).is_none());
        let other = places.take(address(2)).unwrap();
        assert!(other.begin());
        assert!(!other.begin(), "all are taken");
        other.rest();
        one.rest();
        assert!(other.begin());
        let state = || {
            let state = places.lock();
            (state.further, state.of_address.values().sum::<usize>(), state.at_work())
        };
        assert_eq!(state(), (2, 4, 4));
        drop((one, other));
        assert_eq!(state(), (0, 0, 0));
        assert!(places.lock().of_address.is_empty());
    }

    #[test]
    fn when_all_are_at_work_some_are_kept_for_probes() {
        let places = Arc::new(Places::new(2, 100));
        let at_work: Vec<Place> = (0..2).map(|_| places.take(address(1)).unwrap()).collect();
        assert!(at_work.iter().all(Place::begin));
        let spare: Vec<Place> = (0..SPARE).map(|_| places.take(address(1)).unwrap()).collect();
        assert!(!spare.iter().any(Place::begin), "there is none but for probes");
        assert!(places.take(address(1)).is_none());
        assert!(!is_ready(places.room()));
        at_work.iter().for_each(Place::rest);
        assert!(is_ready(places.room()));
        assert!(places.take(address(1)).is_some());
        drop((at_work, spare));
        assert!(places.lock().taken.is_empty() && places.lock().idle.is_empty() && places.lock().of_address.is_empty());
    }
}
