//! Who may write: claims, epochs, releases, and groups that are refused as a whole.

use std::sync::Arc;

use taskhub_core::id::{Epoch, InstanceId, Seq};
use taskhub_core::time::Timestamp;

use super::{NODE, Owner, done, hub, instance, refused};
use crate::{Claim, Error, Group, Lease, NodeId, PartitionKey, Previous, Store};

const NOW: Timestamp = Timestamp::from_micros(1);

/// Claims partitions for the node that every [`Owner`] is.
fn claim(store: &dyn Store, partitions: &[PartitionKey]) -> Vec<Lease> {
    done(store.claim(&Claim::new(NODE, partitions, NOW))).leases
}

/// An id in a partition.
fn instance_in(owner: &Owner<'_>, partition: u16, salt: &str) -> InstanceId {
    let mut candidates = (0..).map(|number| instance(&format!("{salt}-{number}")));
    candidates
        .find(|id| owner.partition_of(id) == partition)
        .unwrap_or_else(|| unreachable!("the range has no end"))
}

/// Also one's own partition is taken anew under a higher fence (A21).
pub fn every_claim_raises_the_epoch(store: &dyn Store) {
    let owner = Owner::new(store, "Claims", 2);
    let key = owner.lease(1).partition.clone();
    let mut last = owner.lease(1).epoch;
    assert!(last > Epoch(0), "0 is nobody's");
    for _ in 0..3 {
        let leases = claim(store, std::slice::from_ref(&key));
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].partition, key);
        assert!(leases[0].epoch > last);
        last = leases[0].epoch;
    }
    let other = claim(store, &[owner.lease(0).partition.clone()]);
    assert_eq!(
        other[0].epoch,
        owner.lease(0).epoch.next(),
        "the neighbour was not touched"
    );
}

/// A claim that names something missing takes nothing.
pub fn a_claim_takes_all_or_nothing(store: &dyn Store) {
    let owner = Owner::new(store, "Claims", 1);
    let own = owner.lease(0).partition.clone();
    let missing = PartitionKey {
        hub: hub("Missing"),
        index: 0,
    };
    let error = refused(store.claim(&Claim::new(NODE, &[own.clone(), missing], NOW)));
    assert!(matches!(error, Error::NoSuchHub { .. }), "{error}");
    let beyond = PartitionKey {
        hub: own.hub.clone(),
        index: 1,
    };
    refused(store.claim(&Claim::new(NODE, &[own.clone(), beyond], NOW)));
    assert_eq!(claim(store, &[own])[0].epoch, owner.lease(0).epoch.next());
    assert_eq!(claim(store, &[]), []);
}

/// Each claim of a call counts like one of its own: the last one's fence is the partition's, and the ones before it were the
/// same node's.
pub fn a_partition_that_a_claim_names_twice_is_claimed_twice(store: &dyn Store) {
    let owner = Owner::new(store, "Twice", 2);
    done(store.release(&owner.leases()));
    let key = owner.lease(1).partition.clone();
    let leases = claim(store, &[key.clone(), key.clone()]);
    assert_eq!(leases[1].epoch, leases[0].epoch.next());
    let previous: Vec<Previous> = leases.iter().map(|lease| lease.previous).collect();
    assert_eq!(previous, [Previous::Nobody, Previous::ThisNode]);
    let error = refused(store.recover(&leases[0]));
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    done(store.recover(&leases[1]));
}

/// What an old owner still sends has no effect (R190).
pub fn an_old_epoch_is_fenced_and_leaves_nothing(store: &dyn Store) {
    let mut owner = Owner::new(store, "Fences", 1);
    owner.start(&instance("order-1"));
    owner.flush();
    let mut late = owner.over(store);
    late.start(&instance("order-2"));
    late.complete(&instance("order-1"), None);
    let group = late.take_group();
    let newer = claim(store, &[late.lease(0).partition.clone()]);
    let error = refused(store.commit(Arc::new(group)));
    let Error::Fenced { partition, by } = error else {
        panic!("{error}")
    };
    assert_eq!((partition, by), (newer[0].partition.clone(), Some(newer[0].epoch)));
    let found = done(store.load(&newer[0].partition, &[instance("order-1"), instance("order-2")]));
    assert_eq!(
        found[0].as_ref().map(|state| state.history_events),
        Some(0),
        "the turn left nothing"
    );
    assert_eq!(found[1], None, "the start left nothing");
}

/// A claim fences one partition only.
pub fn fences_are_per_partition(store: &dyn Store) {
    let mut owner = Owner::new(store, "Fences", 2);
    claim(store, &[owner.lease(0).partition.clone()]);
    let id = instance_in(&owner, 1, "order");
    owner.start(&id);
    owner.flush();
    assert!(done(store.load(&owner.lease(1).partition.clone(), &[id]))[0].is_some());
}

/// A group counts as a whole, also across partitions.
pub fn a_bad_section_fails_the_whole_group(store: &dyn Store) {
    let mut owner = Owner::new(store, "Groups", 3);
    let ids: Vec<InstanceId> = (0..3)
        .map(|partition| instance_in(&owner, partition, "order"))
        .collect();
    let mut ghost = Owner::new(store, "Ghosts", 1);
    for id in &ids {
        owner.start(id);
    }
    ghost.start(&ids[0]);
    let mut group = owner.take_group();
    group.sections.extend(ghost.take_group().sections);
    let good = Group {
        sections: group.sections[..3].to_vec(),
    };
    // The last section is the bad one, and comes after three good ones.
    claim(store, &[ghost.lease(0).partition.clone()]);
    let error = refused(store.commit(Arc::new(group)));
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    for (partition, id) in (0..).zip(&ids) {
        let found = done(store.load(&owner.lease(partition).partition, std::slice::from_ref(id)));
        assert_eq!(found, [None], "nothing of the group is left");
    }
    // And so the same commits can still be made.
    done(store.commit(Arc::new(good)));
    owner.check();
}

/// A hole in the numbers means that a commit was lost on the way, which must not be hidden.
pub fn a_gap_in_the_numbers_is_refused(store: &dyn Store) {
    let mut owner = Owner::new(store, "Gaps", 1);
    owner.start(&instance("order-1"));
    let mut group = owner.take_group();
    let first = group.sections[0].first_seq;
    for wrong in [first.next(), Seq(first.0 - 1)] {
        group.sections[0].first_seq = wrong;
        let error = refused(store.commit(Arc::new(Group {
            sections: group.sections.clone(),
        })));
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    group.sections[0].first_seq = first;
    done(store.commit(Arc::new(group)));
    owner.check();
}

/// Sections of one partition follow each other (A33).
pub fn a_partition_may_have_several_sections_in_a_group(store: &dyn Store) {
    let mut owner = Owner::new(store, "Sections", 2);
    let (first, second) = (instance_in(&owner, 0, "order"), instance_in(&owner, 1, "order"));
    for id in [&first, &second] {
        owner.start(id);
    }
    for id in [&first, &second] {
        owner.complete(id, None);
    }
    let group = owner.take_group();
    assert_eq!(group.sections.len(), 4);
    done(store.commit(Arc::new(group)));
    owner.check();
}

/// An old owner is not told what it could go on with.
pub fn recovering_under_an_old_epoch_is_refused(store: &dyn Store) {
    let owner = Owner::new(store, "Fences", 1);
    let newer = claim(store, &[owner.lease(0).partition.clone()]);
    let error = refused(store.recover(owner.lease(0)));
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    done(store.recover(&newer[0]));
}

/// Whether activities may still be running from before (A18, A35).
pub fn a_release_marks_the_partition_clean_and_a_claim_clears_it(store: &dyn Store) {
    let mut owner = Owner::new(store, "Releases", 2);
    assert_eq!(owner.lease(0).previous, Previous::Nobody);
    owner.claim();
    assert_eq!(owner.lease(0).previous, Previous::ThisNode, "it did not give it back");
    done(store.release(&[owner.lease(0).clone()]));
    owner.claim();
    assert_eq!(owner.lease(0).previous, Previous::Nobody);
    assert_eq!(owner.lease(1).previous, Previous::ThisNode);
    let old = owner.lease(0).clone();
    owner.claim();
    done(store.release(&[old]));
    owner.claim();
    assert_eq!(
        owner.lease(0).previous,
        Previous::ThisNode,
        "an old owner cannot give back what it lost"
    );
    let of_another = Claim::new(NodeId(8), &[owner.lease(0).partition.clone()], owner.now).steal();
    assert_eq!(done(store.claim(&of_another)).leases[0].previous, Previous::Other);
}

/// The mark would be worth nothing otherwise.
pub fn nothing_is_committed_after_a_release(store: &dyn Store) {
    let mut owner = Owner::new(store, "Releases", 1);
    done(store.release(&owner.leases()));
    owner.start(&instance("order-1"));
    let error = refused(store.commit(Arc::new(owner.take_group())));
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
}
