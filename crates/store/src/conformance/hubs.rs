//! Hubs come, are listed, and go with everything in them.

use std::sync::Arc;

use taskhub_core::query::{Filter, Payloads};
use taskhub_core::time::Timestamp;

use super::owner::counters;
use super::{NODE, Owner, done, hub, instance, refused};
use crate::{Claim, Error, HubInfo, PartitionKey, Selection, Store};

const CREATED_AT: Timestamp = Timestamp::from_micros(1_700_000_000_123_456);

fn info(name: &str) -> HubInfo {
    HubInfo {
        name: hub(name),
        partitions: 3,
        created_at: CREATED_AT,
    }
}

/// A hub is listed as it was created.
pub fn a_created_hub_is_listed(store: &dyn Store) {
    assert_eq!(done(store.list_hubs()), []);
    assert_eq!(done(store.create_hub(&hub("Second"), 3, CREATED_AT)), info("Second"));
    assert_eq!(done(store.create_hub(&hub("First"), 3, CREATED_AT)), info("First"));
    let listed = done(store.list_hubs());
    assert_eq!(listed, [info("First"), info("Second")]);
    assert_eq!(listed[1].name.as_str(), "Second", "in the case it was given");
}

/// Names are compared without case (A6).
pub fn a_hub_exists_once_whatever_its_case(store: &dyn Store) {
    done(store.create_hub(&hub("Orders"), 3, CREATED_AT));
    let error = refused(store.create_hub(&hub("ORDERS"), 3, CREATED_AT));
    assert!(
        matches!(&error, Error::HubExists { hub: name } if *name == hub("orders")),
        "{error}"
    );
    let owned = PartitionKey {
        hub: hub("oRdErS"),
        index: 0,
    };
    let claim = Claim::new(NODE, &[owned], CREATED_AT);
    assert_eq!(done(store.claim(&claim)).leases.len(), 1);
}

/// After a deletion nothing of the hub answers, to its owner neither.
pub fn a_deleted_hub_is_gone(store: &dyn Store) {
    let mut owner = Owner::new(store, "Gone", 2);
    let id = instance("order-1");
    owner.start(&id);
    owner.flush();
    owner.wait(1);
    owner.start(&instance("order-2"));
    assert_eq!(done(store.delete_hub(&hub("Gone"))).name, hub("Gone"));
    assert_eq!(done(store.list_hubs()), []);
    let lease = owner.lease(owner.partition_of(&id)).clone();
    let is_missing = |error: Error| {
        assert!(
            matches!(&error, Error::NoSuchHub { hub: name } if *name == hub("Gone")),
            "{error}"
        );
    };
    is_missing(refused(store.commit(Arc::new(owner.take_group()))));
    let claim = Claim::new(NODE, std::slice::from_ref(&lease.partition), CREATED_AT);
    is_missing(refused(store.claim(&claim)));
    is_missing(refused(store.recover(&lease)));
    is_missing(refused(store.load(&lease.partition, &[id])));
    let page = Selection {
        hub: hub("Gone"),
        filter: Filter::default(),
        after: None,
        rows_max: 10,
    };
    is_missing(refused(store.list(&page, Payloads::ALL)));
    done(store.release(&[lease]));
}

/// Deleting what is not there is refused.
pub fn deleting_a_missing_hub_says_so(store: &dyn Store) {
    let error = refused(store.delete_hub(&hub("Missing")));
    assert!(matches!(error, Error::NoSuchHub { .. }), "{error}");
}

/// Two hubs may hold the same ids.
pub fn hubs_do_not_see_each_other(store: &dyn Store) {
    let mut first = Owner::new(store, "First", 2);
    let mut second = Owner::new(store, "Second", 3);
    let id = instance("order-1");
    first.start(&id);
    first.flush();
    second.check();
    second.wait(5);
    second.start(&id);
    second.complete(&id, None);
    second.check();
    first.check();
}

/// A deletion touches one hub only.
pub fn deleting_a_hub_leaves_the_others(store: &dyn Store) {
    let mut kept = Owner::new(store, "Kept", 2);
    let mut gone = Owner::new(store, "Gone", 2);
    for number in 0..20 {
        let id = instance(&format!("order-{number}"));
        kept.start(&id);
        gone.start(&id);
    }
    gone.flush();
    kept.flush();
    done(store.delete_hub(&hub("gone")));
    kept.check();
}

/// A new hub with an old name knows neither the data nor the fences of the old one.
pub fn a_hub_made_anew_is_empty_and_knows_no_old_fence(store: &dyn Store) {
    let mut old = Owner::new(store, "Again", 1);
    let old_number = counters(store, old.lease(0)).1;
    old.claim();
    old.start(&instance("order-1"));
    old.flush();
    old.start(&instance("order-2"));
    let late = old.take_group();
    old.start(&instance("order-3"));
    done(store.delete_hub(&hub("Again")));
    done(store.create_hub(&hub("Again"), 1, CREATED_AT));
    let error = refused(store.commit(Arc::new(late)));
    assert!(
        matches!(error, Error::Fenced { .. }),
        "before anybody has claimed it: {error}"
    );
    done(store.delete_hub(&hub("Again")));
    let mut new = Owner::new(store, "Again", 1);
    new.claim();
    assert!(
        new.lease(0).epoch > old.lease(0).epoch,
        "no fence is issued twice (A21)"
    );
    let first_number = counters(store, new.lease(0)).1;
    assert_ne!(
        first_number, old_number,
        "no activity of one life of the hub has the key of another's (P4)"
    );
    let error = refused(store.commit(Arc::new(old.take_group())));
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    new.check();
    new.start(&instance("order-1"));
    new.check();
}
