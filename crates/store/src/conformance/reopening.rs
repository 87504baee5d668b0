//! What a store holds outlives the value that opened it.

use taskhub_core::action::ActionKind;
use taskhub_core::message::Outcome;
use taskhub_core::time::Timestamp;

use super::commits::call;
use super::{Owner, done, hub, instance, name};
use crate::{Claim, NodeId, Previous, Store};

/// When the lease of the first owner is over.
const LATER: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// States, histories, open work and listings of a busy hub.
pub fn everything_is_there_after_reopening<S: Store, G>(store: S, guard: G, reopen: impl FnOnce(G) -> (S, G)) {
    let mut owner = Owner::new(&store, "Reopened", 3);
    for number in 0..40 {
        let id = instance(&format!("order-{number}"));
        owner.start(&id);
        owner.wait(1);
        if number % 2 == 0 {
            let event = ActionKind::SendEvent {
                instance: instance("nobody"),
                name: name("Hi"),
                input: None,
            };
            owner.turn(&id, vec![call("One"), call("Two"), event]);
        }
        if number % 4 == 0 {
            owner.answer_task(&id, Outcome::Completed(None));
            owner.complete(&id, None);
        }
        if number % 7 == 0 {
            owner.flush();
        }
    }
    owner.check();
    // The owner knows nothing of the store it is moved from.
    let none = crate::mem::MemStore::empty();
    let parked = owner.over(&none);
    drop(store);
    let (store, _guard) = reopen(guard);
    let mut owner = parked.over(&store);
    owner.check();
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
    owner.claim();
    owner.check();
    owner.start(&instance("order-new"));
    owner.check();
}

/// No fence is issued twice, whatever happened in between (A21).
pub fn epochs_go_on_after_reopening<S: Store, G>(store: S, guard: G, reopen: impl FnOnce(G) -> (S, G)) {
    let owner = Owner::new(&store, "Reopened", 1);
    let old = owner.lease(0).clone();
    drop(store);
    let (store, _guard) = reopen(guard);
    let claim = Claim::new(NodeId(8), std::slice::from_ref(&old.partition), LATER);
    let new = done(store.claim(&claim)).leases;
    assert_eq!(new[0].epoch, old.epoch.next());
    assert_eq!(new[0].previous, Previous::Other, "the first owner never gave it back");
}

/// A release is as durable as a commit (A18).
pub fn a_clean_stop_is_remembered<S: Store, G>(store: S, guard: G, reopen: impl FnOnce(G) -> (S, G)) {
    let owner = Owner::new(&store, "Reopened", 2);
    let leases = owner.leases();
    done(store.release(&leases));
    drop(store);
    let (store, _guard) = reopen(guard);
    let keys: Vec<_> = leases.iter().map(|lease| lease.partition.clone()).collect();
    let new = done(store.claim(&Claim::new(NodeId(8), &keys, LATER))).leases;
    assert!(new.iter().all(|lease| lease.previous == Previous::Nobody));
}

/// And its rows do not come back either.
pub fn a_deleted_hub_stays_deleted<S: Store, G>(store: S, guard: G, reopen: impl FnOnce(G) -> (S, G)) {
    let mut owner = Owner::new(&store, "Deleted", 2);
    owner.start(&instance("order-1"));
    owner.flush();
    done(store.delete_hub(&hub("Deleted")));
    drop(store);
    let (store, _guard) = reopen(guard);
    assert_eq!(done(store.list_hubs()), []);
    Owner::new(&store, "Deleted", 2).check();
}
