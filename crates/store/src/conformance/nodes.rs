//! Several nodes over one store: who may take what, and when.

use std::sync::Arc;
use std::time::Duration;

use taskhub_core::time::Timestamp;

use super::{NODE, Owner, done, instance, refused};
use crate::{Claim, Claimed, Error, LEASE_DEFAULT, NodeId, Ownership, PartitionKey, Previous, Store};

/// Another node than that of every [`Owner`].
const OTHER: NodeId = NodeId(8);

fn keys(owner: &Owner<'_>) -> Vec<PartitionKey> {
    owner.leases().into_iter().map(|lease| lease.partition).collect()
}

/// What another node gets of a hub at a moment.
fn claim(store: &dyn Store, owner: &Owner<'_>, now: Timestamp) -> Claimed {
    done(store.claim(&Claim::new(OTHER, &keys(owner), now)))
}

/// The last moment at which the lease of the owner is not over, if nothing has renewed it.
fn end(owner: &Owner<'_>) -> Timestamp {
    owner.now.plus(LEASE_DEFAULT.saturating_sub(Duration::from_micros(1)))
}

/// A claim of it takes nothing, raises no epoch, and says whose it is.
pub fn what_a_living_node_owns_is_left_alone(store: &dyn Store) {
    let mut owner = Owner::new(store, "Nodes", 2);
    let claimed = claim(store, &owner, end(&owner));
    assert_eq!(claimed.leases, []);
    let held = |partition: u16| Ownership {
        partition: owner.lease(partition).partition.clone(),
        node: Some(NODE),
        epoch: owner.lease(partition).epoch,
    };
    assert_eq!(claimed.held, [held(0), held(1)]);
    owner.start(&instance("order-1"));
    owner.check();
}

/// Then it is taken, and its owner is fenced.
pub fn what_a_node_owned_is_free_when_its_lease_is_over(store: &dyn Store) {
    let mut owner = Owner::new(store, "Nodes", 1);
    let claimed = claim(store, &owner, owner.now.plus(LEASE_DEFAULT));
    assert_eq!(claimed.held, []);
    assert_eq!(claimed.leases[0].epoch, owner.lease(0).epoch.next());
    assert_eq!(claimed.leases[0].previous, Previous::Other);
    owner.start(&instance("order-1"));
    let error = refused(store.commit(Arc::new(owner.take_group())));
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
}

/// A node that beats loses nothing, and sees who else is there.
pub fn beats_keep_a_lease_and_tell_of_others(store: &dyn Store) {
    let owner = Owner::new(store, "Nodes", 1);
    let mut now = owner.now;
    for _ in 0..3 {
        now = now.plus(LEASE_DEFAULT / 2);
        let beat = done(store.beat(NODE, LEASE_DEFAULT, now));
        assert!(beat.nodes.iter().any(|lease| lease.node == NODE), "{beat:?}");
        let own = beat
            .owners
            .iter()
            .find(|owned| owned.partition == owner.lease(0).partition);
        assert_eq!(
            own.map(|own| (own.node, own.epoch)),
            Some((Some(NODE), owner.lease(0).epoch))
        );
        assert_eq!(claim(store, &owner, now).leases, []);
    }
    let nodes = done(store.beat(NODE, LEASE_DEFAULT, now)).nodes;
    assert_eq!(nodes.iter().map(|lease| lease.node).collect::<Vec<_>>(), [NODE, OTHER]);
    let later = now.plus(LEASE_DEFAULT / 2);
    done(store.beat(NODE, LEASE_DEFAULT, later));
    let after = later.plus(LEASE_DEFAULT / 2);
    let nodes = done(store.beat(NODE, LEASE_DEFAULT, after)).nodes;
    assert_eq!(nodes.len(), 1, "the other has not beaten since: {nodes:?}");
}

/// A node that was away for too long does not believe that it owns anything (P32).
pub fn a_beat_after_the_lease_is_refused(store: &dyn Store) {
    let owner = Owner::new(store, "Nodes", 1);
    let error = refused(store.beat(NODE, LEASE_DEFAULT, owner.now.plus(LEASE_DEFAULT)));
    assert!(matches!(error, Error::LeaseOver { node } if node == NODE), "{error}");
    let error = refused(store.beat(OTHER, LEASE_DEFAULT, owner.now));
    assert!(matches!(error, Error::LeaseOver { node } if node == OTHER), "{error}");
}

/// Whoever knows that an owner is dead need not wait.
pub fn what_is_stolen_is_fenced(store: &dyn Store) {
    let mut owner = Owner::new(store, "Nodes", 2);
    let key = owner.lease(1).partition.clone();
    let stolen = done(store.claim(&Claim::new(OTHER, std::slice::from_ref(&key), owner.now).steal()));
    assert_eq!(stolen.held, []);
    assert_eq!(stolen.leases[0].previous, Previous::Other);
    let mut ids = (0..100).map(|number| instance(&format!("order-{number}")));
    let Some(id) = ids.find(|id| owner.partition_of(id) == 1) else {
        unreachable!("half of them are in it")
    };
    owner.start(&id);
    let error = refused(store.commit(Arc::new(owner.take_group())));
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    let old = owner.lease(1).clone();
    done(store.release(&[old]));
    let held = done(store.claim(&Claim::new(NODE, &[key], owner.now))).held;
    assert_eq!(held[0].node, Some(OTHER), "the old owner cannot give it back");
}

/// The next owner does not wait for the end of a lease, and knows that nothing of the old one is left.
pub fn what_is_given_back_is_free_at_once(store: &dyn Store) {
    let owner = Owner::new(store, "Nodes", 2);
    done(store.release(&[owner.lease(0).clone()]));
    let claimed = claim(store, &owner, owner.now);
    assert_eq!(claimed.leases[0].partition, owner.lease(0).partition);
    assert_eq!(claimed.leases[0].previous, Previous::Nobody);
    assert_eq!(claimed.held.len(), 1);
}
