//! A damaged page costs what is on it: the rest is recovered and saved, and what cannot be seen is told.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;
use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::message::Outcome;
use taskhub_core::time::Timestamp;
use taskhub_store::conformance::{NODE, Owner, block_on, done, instance};
use taskhub_store::embedded::{EmbeddedStore, repair};
use taskhub_store::{Claim, Error, PartitionKey, Recovered, Store};

use crate::common::{OFF, call};
use crate::scratch::Scratch;

const PAGE: usize = 8 << 10;

/// A store of one partition with instances that each wait for two activities, closed.
fn waiting(instances: usize) -> (Scratch, PartitionKey) {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Pages", 1);
    for number in 0..instances {
        let id = instance(&format!("order-{number}"));
        owner.start(&id);
        owner.turn(&id, vec![call(), call()]);
    }
    owner.flush();
    let partition = owner.lease(0).partition.clone();
    (scratch, partition)
}

/// Leaves of a table or an index, in their order.
fn leaves(folder: &Path, of: &str) -> Vec<usize> {
    let file = Connection::open(folder.join("store.db")).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path";
    let mut pages = file.prepare(sql).unwrap();
    let pages = pages.query_map([of], |row| row.get::<_, i64>(0)).unwrap();
    pages.map(|page| usize::try_from(page.unwrap()).unwrap()).collect()
}

fn change(folder: &Path, page: usize, change: impl FnOnce(&mut [u8])) {
    let file = folder.join("store.db");
    let mut bytes = std::fs::read(&file).unwrap();
    change(&mut bytes[(page - 1) * PAGE..page * PAGE]);
    std::fs::write(file, bytes).unwrap();
}

/// The page says that it has fewer rows than it has: nothing that is read contradicts it but the rows of instances.
#[test]
fn instances_of_which_rows_cannot_be_seen_are_named_when_work_is_recovered() {
    let (scratch, partition) = waiting(200);
    let pages = leaves(scratch.path(), "pending");
    assert!(pages.len() > 2, "{pages:?}");
    change(scratch.path(), pages[1], |page| {
        let rows = u16::from_be_bytes([page[3], page[4]]) - 9;
        page[3..5].copy_from_slice(&rows.to_be_bytes());
    });
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let claim = Claim::new(NODE, &[partition], Timestamp::default());
    let lease = done(store.claim(&claim)).leases.remove(0);
    let (mut tasks, mut named) = (std::collections::BTreeMap::new(), BTreeSet::new());
    for item in done(store.recover(&lease)) {
        match item {
            Recovered::Task { instance, .. } => *tasks.entry(instance).or_insert(0) += 1,
            Recovered::Damaged { instance, .. } => named.extend(instance),
            _ => {}
        }
    }
    let missing: BTreeSet<_> = (0..200)
        .map(|number| instance(&format!("order-{number}")))
        .filter(|id| tasks.get(id) != Some(&2))
        .collect();
    assert!((5..=9).contains(&missing.len()), "{missing:?}");
    assert_eq!(named, missing);
}

/// The page says that it has one count fewer than it has.
#[test]
fn counts_of_which_some_may_be_missing_are_refused() {
    let (scratch, partition) = waiting(20);
    let pages = leaves(scratch.path(), "status_count");
    change(scratch.path(), pages[0], |page| {
        let rows = u16::from_be_bytes([page[3], page[4]]) - 1;
        page[3..5].copy_from_slice(&rows.to_be_bytes());
    });
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let counts = block_on(store.counts(&partition.hub));
    assert!(matches!(counts, Err(Error::Corrupt { .. })), "{counts:?}");
}

#[test]
fn what_lies_behind_a_damaged_page_is_saved() {
    let (scratch, _) = waiting(600);
    let pages = leaves(scratch.path(), "instance");
    assert!(pages.len() > 4, "{pages:?}");
    for page in [pages[1], pages[3]] {
        change(scratch.path(), page, |page| page.fill(0));
    }
    let mut saved = BTreeSet::new();
    let mut each = |instance: repair::Saved| {
        saved.insert(instance.state.info.instance.to_string());
        Ok(())
    };
    let lost = repair::save(scratch.path(), &mut each).unwrap();
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(
        saved.contains("order-0") && saved.contains("order-599"),
        "{}",
        saved.len()
    );
    assert!((300..600).contains(&saved.len()), "{}", saved.len());
}

#[test]
fn all_executions_that_are_kept_are_saved() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Pages", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, vec![call()]);
    owner.flush();
    owner.answer_task(&id, Outcome::Completed(None));
    let next = Completion::ContinuedAsNew {
        input: None,
        version: None,
        carried: Vec::new(),
    };
    owner.turn(&id, vec![ActionKind::CompleteOrchestration(next)]);
    owner.turn(&id, vec![call()]);
    owner.flush();
    drop(store);
    let mut ordinals = Vec::new();
    let mut each = |saved: repair::Saved| {
        ordinals.extend(
            saved
                .histories
                .iter()
                .map(|(ordinal, events)| (*ordinal, events.is_empty())),
        );
        Ok(())
    };
    assert_eq!(repair::save(scratch.path(), &mut each).unwrap(), Vec::<String>::new());
    assert_eq!(ordinals, [(0, false), (1, false)]);
}

/// An index that says something else than the table is not believed, and what is not found is not taken for absent.
#[test]
fn a_damaged_index_gives_nobody_elses_instance() {
    let (scratch, partition) = waiting(9);
    let pages = leaves(scratch.path(), "instance_id");
    assert_eq!(pages.len(), 1);
    change(scratch.path(), pages[0], |page| {
        let at = page.windows(7).position(|part| part == b"order-8").unwrap();
        page[at + 6] = b'9';
    });
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    for (id, expected) in [
        ("order-8", "cannot determine whether"),
        ("order-9", "wrong checksum in its row"),
    ] {
        match block_on(store.load(&partition, &[instance(id)])) {
            Err(Error::Corrupt { what, .. }) => assert!(what.contains(expected), "{id}: {what}"),
            found => panic!("{id}: {found:?}"),
        }
    }
    let loaded = done(store.load(&partition, &[instance("order-7")]));
    assert_eq!(loaded[0].as_ref().unwrap().info.instance, instance("order-7"));
}
