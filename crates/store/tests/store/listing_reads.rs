//! How many rows a listing reads: counted, never timed.

use crate::common::OFF;
use crate::scratch::Scratch;
use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::failure::Failure;
use taskhub_core::id::InstanceId;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;
use taskhub_store::conformance::{Owner, done, instance};
use taskhub_store::embedded::EmbeddedStore;
use taskhub_store::{Selection, Store};

/// All but one in a thousand have completed.
const INSTANCES: u32 = 100_000;
const RARE: u32 = 1_000;
const ROWS_MAX: usize = 100;

/// Rows read for a page, and the page.
fn page(store: &dyn Store, owner: &Owner<'_>, filter: &Filter, after: Option<Cursor>) -> (Page, u64) {
    let found = done(store.list(&selection(owner, filter, after), Payloads::ALL));
    (found.page, found.rows_read)
}

fn selection(owner: &Owner<'_>, filter: &Filter, after: Option<Cursor>) -> Selection {
    Selection {
        hub: owner.hub().clone(),
        filter: filter.clone(),
        after,
        rows_max: ROWS_MAX,
    }
}

fn id(number: u32) -> InstanceId {
    // Not in the order of creation.
    instance(&format!("{:08x}-{number}", number.wrapping_mul(0x9e37_79b9)))
}

fn rare(owner: &mut Owner<'_>, id: &InstanceId, which: u32) {
    let failed = Completion::Failed(Box::new(Failure::new("Error", "no")));
    match which % 5 {
        0 => owner.turn(id, vec![ActionKind::CompleteOrchestration(failed)]),
        1 => drop(owner.with(id, |state, now| control::terminate(state, None, false, now).ok())),
        2 => drop(owner.with(id, |state, now| control::suspend(state, None, now).unwrap_or(None))),
        3 => owner.turn(id, Vec::new()),
        _ => {}
    }
}

#[test]
fn a_page_reads_at_most_five_rows_for_each_it_shows() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Listing", 8);
    let begin = owner.now;
    for number in 0..INSTANCES {
        let id = id(number);
        owner.start(&id);
        if number % RARE == 0 {
            rare(&mut owner, &id, number / RARE);
        } else {
            owner.complete(&id, None);
        }
        owner.wait(1_000);
        if number % 5_000 == 4_999 {
            owner.flush();
        }
    }
    let at = |number: u32| begin.plus(std::time::Duration::from_millis(u64::from(number)));
    let created = |from: u32, before: u32| (Some(at(from)), Some(at(before)));
    let all = (None, None);
    let middle = created(INSTANCES / 2, INSTANCES);
    let narrow = created(INSTANCES / 2, INSTANCES / 2 + 10_000);
    check(&store, &owner, &[], all, None);
    check(&store, &owner, &[], middle, None);
    for status in RuntimeStatus::ALL {
        for range in [all, middle, narrow] {
            check(&store, &owner, &[status], range, None);
        }
    }
    check(
        &store,
        &owner,
        &[RuntimeStatus::Failed, RuntimeStatus::Terminated],
        all,
        None,
    );
    check(
        &store,
        &owner,
        &[RuntimeStatus::Pending, RuntimeStatus::Running],
        middle,
        None,
    );
    for prefix in ["9e3779b9-1", "0000", "fff"] {
        check(&store, &owner, &[], all, Some(prefix));
        check(&store, &owner, &[RuntimeStatus::Completed], narrow, Some(prefix));
    }
}

type Range = (Option<Timestamp>, Option<Timestamp>);

/// Reads all pages, or the first ten, of a filter.
fn check(store: &dyn Store, owner: &Owner<'_>, statuses: &[RuntimeStatus], range: Range, prefix: Option<&str>) {
    let filter = Filter {
        statuses: statuses.to_vec(),
        created_from: range.0,
        created_before: range.1,
        id_prefix: prefix.map(str::to_owned),
        name: None,
    };
    let mut after = None;
    for _ in 0..10 {
        let (page, rows_read) = page(store, owner, &filter, after.clone());
        let shown = page.rows.len() as u64;
        assert!(
            rows_read <= 5 * shown.max(10),
            "{filter:?}: {rows_read} rows read, {shown} shown"
        );
        assert!(rows_read >= shown, "{filter:?}: {rows_read} rows read, {shown} shown");
        let found = done(store.list_ids(&selection(owner, &filter, after.clone())));
        let ids_read = (found.ids.len() as u64, found.rows_read);
        assert_eq!(ids_read, (shown, rows_read), "{filter:?}: as many for the ids alone");
        after = page.next;
        if after.is_none() {
            return;
        }
        assert_eq!(shown, ROWS_MAX as u64);
    }
}
