//! Pages, filters, counts, fingerprints.

use std::collections::BTreeSet;

use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::failure::Failure;
use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::limits;
use taskhub_core::message::{Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::{Cursor, Filter, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;

use super::commits::call;
use super::{Owner, done, hub, instance, name, refused};
use crate::{Error, FingerprintPage, PartitionKey, Selection, Store, fingerprint};

/// Instances of several statuses, names and created times; some were created at the same moment.
fn populated<'s>(store: &'s dyn Store, hub: &str, count: u32) -> Owner<'s> {
    let mut owner = Owner::new(store, hub, 3);
    for number in 0..count {
        // Ids in another order than created times.
        let id = instance(&format!(
            "{}-{number}",
            ["order", "a%b", "a_b", "axb"][number as usize % 4]
        ));
        let named = StartRequest {
            name: name(["Hello", "World"][number as usize % 2]),
            ..Owner::request(&id)
        };
        owner.start_with(&named);
        let failed = || Completion::Failed(Box::new(Failure::new("Error", "no")));
        match number % 7 {
            0 => {}
            1 => owner.turn(&id, vec![call("One")]),
            2 => owner.turn(&id, vec![ActionKind::CompleteOrchestration(failed())]),
            3 => drop(owner.with(&id, |state, now| control::terminate(state, None, false, now).ok())),
            4 => drop(owner.with(&id, |state, now| control::suspend(state, None, now).unwrap_or(None))),
            _ => owner.complete(&id, None),
        }
        if number % 3 > 0 {
            owner.wait(1);
        }
        if number % 5 == 0 {
            owner.flush();
        }
    }
    owner.flush();
    owner
}

/// Pages have a fixed order, so that a cursor neither skips nor repeats rows (R13).
pub fn a_page_is_ordered_by_created_time_then_id(store: &dyn Store) {
    let owner = populated(store, "Pages", 40);
    let rows = owner.listed(&Filter::default(), 1000);
    assert_eq!(rows.len(), 40);
    let places: Vec<_> = rows.iter().map(|row| (row.created_at, row.instance.clone())).collect();
    assert!(places.is_sorted());
}

/// Whatever the size of the pages.
pub fn pages_join_without_gap_or_overlap(store: &dyn Store) {
    let owner = populated(store, "Pages", 40);
    for rows_max in 1..45 {
        let rows = owner.listed(&Filter::default(), rows_max);
        let ids: BTreeSet<&InstanceId> = rows.iter().map(|row| &row.instance).collect();
        assert_eq!((rows.len(), ids.len()), (40, 40), "by {rows_max}");
    }
    let last = owner.page(&Filter::default(), None, 40);
    assert_eq!(last.next, None, "a page that holds all is the last one");
}

/// So that a list takes no more memory than its answer may. Ids alone are as many as were asked for.
pub fn a_page_of_large_records_is_short_and_says_where_the_next_begins(store: &dyn Store) {
    let mut owner = Owner::new(store, "Large", 1);
    let input = Payload::text(&"x".repeat(limits::PAGE_BYTES_MAX / 2));
    for number in 0..5 {
        owner.start_with(&StartRequest {
            input: Some(input.clone()),
            ..Owner::request(&instance(&format!("order-{number}")))
        });
        owner.wait(1);
    }
    owner.flush();
    let (mut sizes, mut ids, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = owner.page(&Filter::default(), after.as_ref(), 100);
        sizes.push(page.rows.len());
        ids.extend(page.rows.into_iter().map(|row| row.instance.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(ids, ["order-0", "order-1", "order-2", "order-3", "order-4"]);
    let (ids, next) = owner.ids_of_page(&Filter::default(), None, 100);
    assert_eq!((ids.len(), next), (5, None));
}

/// So that what nobody wants to see keeps no row from the page.
pub fn payloads_that_are_not_wanted_are_left_out_and_do_not_count(store: &dyn Store) {
    let mut owner = Owner::new(store, "Payloads", 1);
    let large = Payload::text(&"x".repeat(limits::PAGE_BYTES_MAX));
    let small = Payload::text("small");
    for number in 0..3 {
        let id = instance(&format!("order-{number}"));
        let payload = if number == 2 { &small } else { &large };
        owner.start_with(&StartRequest {
            input: Some(payload.clone()),
            ..Owner::request(&id)
        });
        owner.complete(&id, Some(payload.clone()));
        owner.wait(1);
    }
    owner.flush();
    for (payloads, rows) in [
        (Payloads::ALL, 1),
        (
            Payloads {
                input: true,
                output: false,
            },
            1,
        ),
        (
            Payloads {
                input: false,
                output: true,
            },
            1,
        ),
        (Payloads::NONE, 3),
    ] {
        let page = done(store.list(&all(owner.hub()), payloads)).page;
        assert_eq!(page.rows.len(), rows, "{payloads:?}");
        assert_eq!(page.next.is_none(), rows == 3);
        for row in page.rows {
            assert_eq!(
                (row.input.is_some(), row.output.is_some()),
                (payloads.input, payloads.output)
            );
        }
    }
}

/// S-list-filters.
pub fn each_filter_alone_and_combined_agrees_with_a_naive_one(store: &dyn Store) {
    use RuntimeStatus::{Canceled, Completed, ContinuedAsNew, Failed, Pending, Running, Suspended, Terminated};
    let owner = populated(store, "Filters", 120);
    let at = |row: usize| owner.listed(&Filter::default(), 1000)[row].created_at;
    let times = [
        None,
        Some(Timestamp::from_micros(0)),
        Some(at(30)),
        Some(at(31)),
        Some(at(90)),
        Some(Timestamp::MAX),
    ];
    let statuses: [&[RuntimeStatus]; 9] = [
        &[],
        &[Pending],
        &[Running, Failed],
        &[Completed],
        &[Completed, Failed, Terminated],
        &[Suspended, Suspended],
        &[Canceled, ContinuedAsNew],
        &[Terminated, Canceled],
        &[Pending, Running, Suspended, Failed, Terminated, Completed],
    ];
    for statuses in statuses {
        for created_from in times {
            for created_before in [None, Some(at(31)), Some(at(90))] {
                let (name, id_prefix) = (None, None);
                let statuses = statuses.to_vec();
                let filter = Filter {
                    created_from,
                    created_before,
                    statuses,
                    name,
                    id_prefix,
                };
                owner.check_listing(&filter);
            }
        }
        for (name, id_prefix) in [
            (Some("World"), None),
            (Some("wORLD"), None),
            (None, Some("order-1")),
            (Some("Hello"), Some("a")),
        ] {
            for (created_from, created_before) in [(None, None), (Some(at(30)), Some(at(90)))] {
                owner.check_listing(&Filter {
                    created_from,
                    created_before,
                    statuses: statuses.to_vec(),
                    name: name.map(str::to_owned),
                    id_prefix: id_prefix.map(str::to_owned),
                });
            }
        }
    }
}

/// Names of functions are compared without case (R77).
pub fn a_filter_by_name_finds_every_spelling(store: &dyn Store) {
    let owner = populated(store, "Spellings", 20);
    let named = |text: &str| Filter {
        name: Some(text.to_owned()),
        ..Filter::default()
    };
    let all = owner.listed(&named("World"), 1000);
    assert_eq!(all.len(), 10);
    for spelling in ["world", "WORLD", "WorLd"] {
        assert_eq!(owner.listed(&named(spelling), 1000), all);
    }
    assert!(owner.listed(&named("Worlds"), 1000).is_empty());
}

/// A page may begin at any place, also where no row is, and outside of what the filter takes.
pub fn a_page_begins_behind_any_place(store: &dyn Store) {
    let owner = populated(store, "Places", 60);
    let all = owner.listed(&Filter::default(), 1000);
    let filter = Filter {
        created_from: Some(all[20].created_at),
        created_before: Some(all[40].created_at),
        ..Filter::default()
    };
    let inside: Vec<&InstanceInfo> = all.iter().filter(|row| filter.matches(row)).collect();
    for row in &all {
        for id in [row.instance.clone(), instance("!"), instance("~")] {
            let created_at = row.created_at;
            let after = Cursor {
                created_at,
                instance: id,
            };
            let found = owner.page(&filter, Some(&after), 1000).rows;
            let place = |row: &InstanceInfo| Cursor {
                created_at: row.created_at,
                instance: row.instance.clone(),
            };
            let expected: Vec<&InstanceInfo> = inside.iter().copied().filter(|row| place(row) > after).collect();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "behind {after:?}");
        }
    }
}

/// `%` and `_` are two of the characters an id may have.
pub fn wildcards_in_a_prefix_are_plain_characters(store: &dyn Store) {
    let owner = populated(store, "Prefixes", 40);
    let found = |prefix: &str| {
        let filter = Filter {
            id_prefix: Some(prefix.to_owned()),
            ..Filter::default()
        };
        owner.check_listing(&filter);
        owner.listed(&filter, 1000).len()
    };
    assert_eq!(
        ["a%b", "a_b", "axb", "a", "", "A", "order-1", "\u{10ffff}", "*"].map(found),
        [10, 10, 10, 30, 40, 0, 2, 0, 0]
    );
}

/// Paging on while instances are created, change and are purged skips and repeats nothing.
pub fn s_list_stable(store: &dyn Store) {
    let mut owner = populated(store, "Stable", 200);
    let before: BTreeSet<InstanceId> = owner.ids().into_iter().collect();
    let mut purged = BTreeSet::new();
    let mut seen = Vec::new();
    let mut after = None;
    for round in 0.. {
        let page = owner.page(&Filter::default(), after.as_ref(), 7);
        seen.extend(page.rows.into_iter().map(|row| row.instance));
        after = page.next;
        if after.is_none() {
            break;
        }
        owner.wait(1);
        owner.start(&instance(&format!("new-{round}")));
        // One that was seen, perhaps the last one of the page, and one that was not.
        let ended = |owner: &Owner<'_>, id: &InstanceId| owner.state(id).is_some_and(|state| !state.is_live());
        let of_the_page = seen.last().filter(|id| ended(&owner, id)).cloned();
        let ahead = before
            .iter()
            .rev()
            .find(|id| !seen.contains(id) && ended(&owner, id))
            .cloned();
        for id in of_the_page.into_iter().chain(ahead.filter(|_| round % 3 == 0)) {
            owner.with(&id, |state, _| control::purge(state).ok());
            purged.insert(id);
        }
        owner.flush();
    }
    let unique: BTreeSet<InstanceId> = seen.iter().cloned().collect();
    assert_eq!(unique.len(), seen.len(), "nothing is shown twice");
    assert!(!purged.is_empty());
    for id in &before {
        assert!(
            unique.contains(id) || purged.contains(id),
            "`{id}` was there all the time and was skipped"
        );
    }
}

/// Counts are part of the commit that changes them (I8).
pub fn counts_follow_every_change(store: &dyn Store) {
    let mut owner = populated(store, "Counts", 30);
    owner.check();
    for id in owner.ids() {
        owner.with(&id, |state, now| control::terminate(state, None, false, now).ok());
        owner.check();
    }
    for id in owner.ids() {
        owner.with(&id, |state, _| control::purge(state).ok());
    }
    owner.check();
    assert_eq!(done(store.counts(owner.hub())), []);
}

/// All ids of a partition, for the filter that tells which do not exist (A40).
pub fn fingerprints_are_paged_by_number(store: &dyn Store) {
    let mut owner = populated(store, "Prints", 30);
    let gone = owner
        .ids()
        .into_iter()
        .find(|id| owner.state(id).is_some_and(|state| !state.is_live()));
    owner.with(&gone.unwrap_or_else(|| panic!("some have ended")), |state, _| {
        control::purge(state).ok()
    });
    owner.flush();
    for partition in 0..3 {
        let mut own: Vec<(InstanceNumber, u64)> = owner
            .ids()
            .iter()
            .filter(|id| owner.partition_of(id) == partition)
            .filter_map(|id| Some((owner.state(id)?.number, fingerprint(id))))
            .collect();
        own.sort_unstable();
        let expected: Vec<u64> = own.into_iter().map(|(_, print)| print).collect();
        let key = owner.lease(partition).partition.clone();
        for rows_max in [1, 4, 1000] {
            assert_eq!(
                fingerprints_of(store, &key, rows_max),
                expected,
                "partition {partition} by {rows_max}"
            );
        }
    }
}

fn fingerprints_of(store: &dyn Store, partition: &PartitionKey, rows_max: usize) -> Vec<u64> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = done(store.fingerprints(partition, after, rows_max));
        let FingerprintPage { fingerprints, next } = page;
        assert!(fingerprints.len() <= rows_max);
        found.extend(fingerprints);
        after = next;
        if after.is_none() {
            return found;
        }
    }
}

/// The first ten instances of a hub.
fn all(hub: &HubName) -> Selection {
    Selection {
        hub: hub.clone(),
        filter: Filter::default(),
        after: None,
        rows_max: 10,
    }
}

/// Not an empty answer.
pub fn a_question_about_a_missing_hub_is_refused(store: &dyn Store) {
    let partition = PartitionKey {
        hub: hub("Missing"),
        index: 0,
    };
    let missing = all(&hub("Missing"));
    let errors = [
        refused(store.list(&missing, Payloads::ALL)),
        refused(store.list_ids(&missing)),
        refused(store.counts(&missing.hub)),
        refused(store.fingerprints(&partition, None, 1)),
    ];
    for error in errors {
        assert!(matches!(error, Error::NoSuchHub { .. }), "{error}");
    }
}

/// Also from the middle of what was committed at once; behind the end there is nothing.
pub fn history_can_be_read_from_any_event(store: &dyn Store) {
    let mut owner = Owner::new(store, "History", 1);
    let id = instance("order-1");
    owner.start(&id);
    for round in 0..6 {
        owner.turn(&id, vec![call("One")]);
        owner.answer_task(&id, Outcome::Completed(None));
        if round % 2 == 1 {
            owner.flush();
        }
    }
    owner.flush();
    let number = owner.state(&id).map(|state| state.number).unwrap_or_default();
    let all = owner.stored_history(&id, number, 0, 0);
    for from in 0..=all.len() + 1 {
        let rest = owner.stored_history(&id, number, 0, u32::try_from(from).unwrap_or(0));
        assert_eq!(rest, all.get(from..).unwrap_or_default(), "from event {from}");
    }
    assert_eq!(
        owner.stored_history(&id, number, 1, 0),
        [],
        "there is no second execution"
    );
    assert_eq!(
        owner.stored_history(&id, InstanceNumber(999), 0, 0),
        [],
        "there is no such instance"
    );
}
