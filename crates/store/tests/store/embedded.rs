//! What the embedded store does that others need not: rows that are never written, syncs that are
//! counted, a disk that fills up, damage that is found.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::sync::Arc;

use crate::common::{OFF, call};
use crate::scratch::Scratch;
use rusqlite::Connection;
use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::id::{HubName, InstanceId};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::Filter;
use taskhub_core::time::Timestamp;
use taskhub_store::blocking::{Reader, Writer};
use taskhub_store::conformance::{NODE, Owner, block_on, done, instance, name};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, SqliteReader, SqliteWriter, refuse_reserves, resum};
use taskhub_store::mem::MemStore;
use taskhub_store::{Claim, Error, ExecutionKey, Group, HistoryRange, Room, Section, Store};

fn open(scratch: &Scratch, options: EmbeddedOptions) -> EmbeddedStore {
    EmbeddedStore::open(scratch.path(), options).unwrap()
}

fn complete() -> ActionKind {
    ActionKind::CompleteOrchestration(Completion::Completed(None))
}

fn rows(store: &dyn Store, owner: &mut Owner<'_>) -> u64 {
    let before = store.work().rows;
    owner.flush();
    store.work().rows - before
}

#[test]
fn what_comes_and_goes_within_a_group_makes_no_row() {
    let scratch = Scratch::new();
    let store = open(&scratch, OFF);
    let mut owner = Owner::new(&store, "Rows", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, vec![call()]);
    owner.answer_task(&id, Outcome::Completed(None));
    owner.turn(&id, vec![complete()]);
    assert_eq!(rows(&store, &mut owner), 4, "instance, history, status count, counters");
    let id = instance("order-2");
    owner.start(&id);
    owner.turn(&id, vec![call()]);
    assert_eq!(rows(&store, &mut owner), 5, "and the open task");
    owner.answer_task(&id, Outcome::Completed(None));
    owner.turn(&id, vec![call()]);
    assert_eq!(
        rows(&store, &mut owner),
        5,
        "instance, history, one task goes, one comes, counters"
    );
    owner.answer_task(&id, Outcome::Completed(None));
    owner.turn(&id, vec![complete()]);
    assert_eq!(
        rows(&store, &mut owner),
        6,
        "instance, history, task, two counts, counters"
    );
    owner.start(&instance("order-3"));
    owner.complete(&instance("order-3"), None);
    owner.with(&instance("order-3"), |state, _| control::purge(state).ok());
    assert_eq!(
        rows(&store, &mut owner),
        1,
        "the counters know that there was something"
    );
    owner.check();
}

#[test]
fn there_is_one_sync_for_each_group() {
    let scratch = Scratch::new();
    let store = open(&scratch, EmbeddedOptions::default());
    let mut owner = Owner::new(&store, "Syncs", 4);
    let before = store.work();
    for group in 0..20 {
        for number in 0..30 {
            owner.start(&instance(&format!("order-{group}-{number}")));
        }
        owner.flush();
    }
    let work = store.work();
    assert_eq!(work.groups - before.groups, 20);
    assert_eq!(work.commits - before.commits, 600);
    assert_eq!(work.syncs - before.syncs, 20);
    done(store.commit(Arc::new(Group::default())));
    assert_eq!(store.work().syncs, work.syncs, "nothing to write, nothing to wait for");
}

#[test]
fn without_syncs_nothing_is_promised() {
    let scratch = Scratch::new();
    let store = open(&scratch, OFF);
    let mut owner = Owner::new(&store, "Syncs", 1);
    owner.start(&instance("order-1"));
    owner.check();
    assert_eq!(store.work().syncs, 0);
}

/// A group with this much in it.
fn large(owner: &mut Owner<'_>, id: &InstanceId, bytes: usize) {
    owner.start_with(&StartRequest {
        input: Some(Payload::new(vec![7; bytes])),
        ..Owner::request(id)
    });
}

#[test]
fn the_log_stays_short() {
    let scratch = Scratch::new();
    let store = open(&scratch, OFF);
    let mut owner = Owner::new(&store, "Log", 1);
    for number in 0..40 {
        large(&mut owner, &instance(&format!("order-{number}")), 2 << 20);
        owner.flush();
        let log = std::fs::metadata(scratch.path().join("store.db-wal")).unwrap().len();
        assert!(log < 32 << 20, "{log} bytes after {number} groups of 4 MiB");
    }
    owner.check();
}

/// A writer with the hub of an owner whose own store is in memory, so that its groups fit.
fn writer(scratch: &Scratch, owner: &Owner<'_>) -> SqliteWriter {
    let mut writer = SqliteWriter::open(scratch.path(), OFF).unwrap();
    let keys: Vec<_> = owner.leases().into_iter().map(|lease| lease.partition).collect();
    let partitions = u16::try_from(keys.len()).unwrap();
    writer.create_hub(owner.hub(), partitions, owner.now).unwrap();
    let claimed = writer.claim(&Claim::new(NODE, &keys, owner.now)).unwrap();
    assert_eq!(claimed.leases, owner.leases());
    writer
}

/// What the check finds.
fn problems(scratch: &Scratch) -> Vec<String> {
    SqliteReader::open(scratch.path()).unwrap().verify().unwrap().problems
}

fn count(scratch: &Scratch, table: &str) -> i64 {
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
        .unwrap()
}

/// An earlier version may have given it.
#[test]
fn an_id_that_is_given_to_no_new_instance_is_read() {
    let scratch = Scratch::new();
    let store = open(&scratch, OFF);
    let mut owner = Owner::new(&store, "Dots", 1);
    owner.start(&instance("order-1"));
    owner.flush();
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    file.execute("UPDATE instance SET id = '..'", []).unwrap();
    resum(&file);
    let (ids, _) = owner.ids_of_page(&Filter::default(), None, 10);
    assert_eq!(ids, [instance("..")]);
    let partition = owner.leases().remove(0).partition;
    let states = done(store.load(&partition, &ids));
    assert_eq!(states[0].as_ref().unwrap().info.instance, instance(".."));
}

#[test]
fn a_full_disk_refuses_the_group_and_is_over_when_there_is_room() {
    let (scratch, mem) = (Scratch::new(), MemStore::empty());
    let mut owner = Owner::new(&mem, "Full", 1);
    let mut writer = writer(&scratch, &owner);
    let mut reader = SqliteReader::open(scratch.path()).unwrap();
    writer.limit(Some(3 << 20)).unwrap();
    let small = instance("small");
    large(&mut owner, &small, 1_000_000);
    owner.complete(&small, None);
    let group = owner.take_group();
    writer.stage(&group).unwrap();
    writer.seal().unwrap();
    large(&mut owner, &instance("large"), 3 << 20);
    let refused = owner.take_group();
    for _ in 0..3 {
        let error = writer.stage(&refused).unwrap_err();
        assert!(matches!(error, Error::Full), "{error}");
        assert_eq!(error.code(), "store-full");
    }
    let partition = owner.lease(0).partition.clone();
    let ids = [instance("large"), small.clone()];
    let found = reader.load(&partition, &ids).unwrap();
    assert!(found[0].is_none(), "nothing is half there");
    assert_eq!(found[1].as_ref(), owner.state(&small), "reads go on");
    writer.limit(Some(16 << 20)).unwrap();
    writer.stage(&refused).unwrap();
    writer.seal().unwrap();
    assert_eq!(
        reader.load(&partition, &ids[..1]).unwrap()[0].as_ref(),
        owner.state(&ids[0])
    );
    assert_eq!(problems(&scratch), Vec::<String>::new());
}

#[test]
fn purging_makes_room_on_a_full_disk() {
    let (scratch, mem) = (Scratch::new(), MemStore::empty());
    let mut owner = Owner::new(&mem, "Full", 1);
    let mut writer = writer(&scratch, &owner);
    let mut commit = |owner: &mut Owner<'_>| {
        writer.stage(&owner.take_group()).unwrap();
        writer.seal().unwrap();
    };
    let ids: Vec<InstanceId> = (0..9).map(|number| instance(&format!("order-{number}"))).collect();
    for id in &ids {
        large(&mut owner, id, 500_000);
        owner.complete(id, None);
        if id != &ids[8] {
            commit(&mut owner);
        }
    }
    let waiting = owner.take_group();
    let size = writer.compact().unwrap().bytes;
    writer.limit(Some(size)).unwrap();
    assert!(matches!(writer.stage(&waiting), Err(Error::Full)));
    let first_seq = waiting.sections[0].first_seq;
    owner.with(&ids[0], |state, _| control::purge(state).ok());
    let mut purge = owner.take_group();
    // The refused group took two numbers, which are still to be given.
    purge.sections[0].first_seq = first_seq;
    writer.stage(&purge).unwrap();
    writer.seal().unwrap();
    let mut waiting = waiting;
    waiting.sections[0].first_seq = first_seq.next();
    writer.stage(&waiting).unwrap();
    writer.seal().unwrap();
    assert_eq!(count(&scratch, "instance"), 8);
    assert_eq!(problems(&scratch), Vec::<String>::new());
}

/// What ends instances on a full disk uses up its share of the room that is kept, and no more.
#[test]
fn ending_uses_a_share_of_the_kept_room_and_a_purge_finds_the_rest() {
    let (scratch, mem) = (Scratch::new(), MemStore::empty());
    let mut owner = Owner::new(&mem, "Share", 1);
    let mut first = writer(&scratch, &owner);
    let ids: Vec<InstanceId> = (0..200).map(|number| instance(&format!("order-{number}"))).collect();
    for id in &ids {
        owner.start(id);
    }
    first.stage(&owner.take_group()).unwrap();
    first.seal().unwrap();
    let size = Some(first.compact().unwrap().bytes);
    drop(first);
    let full = open(&scratch, EmbeddedOptions { bytes_max: size, ..OFF });
    assert!(matches!(block_on(full.find_room()), Err(Error::Full)));
    let reason = Payload::new(vec![7; 30_000]);
    let mut ended = 0;
    let refused = loop {
        owner.with(&ids[ended], |state, now| {
            control::terminate(state, Some(&reason), false, now).ok()
        });
        let group = Arc::new(owner.take_group());
        assert_eq!(group.room(), Room::Share);
        match block_on(full.commit(Arc::clone(&group))) {
            Ok(()) => ended += 1,
            Err(Error::Full) => break group,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(ended > 2, "{ended} were ended in the share");
    owner.with(&ids[0], |state, _| control::purge(state).ok());
    let mut purge = owner.take_group();
    assert_eq!(purge.room(), Room::Kept);
    // The refused group took a number, which is still to be given.
    purge.sections[0].first_seq = refused.sections[0].first_seq;
    block_on(full.commit(Arc::new(purge))).unwrap();
    assert_eq!(count(&scratch, "instance"), 199);
    drop(full);
    let larger = open(&scratch, OFF);
    block_on(larger.find_room()).unwrap();
    assert_eq!(block_on(larger.verify()).unwrap().problems, Vec::<String>::new());
}

/// A part of a history costs no more than the part.
#[test]
fn a_history_is_read_no_further_than_is_asked_for() {
    let scratch = Scratch::new();
    let store = open(&scratch, OFF);
    let mut owner = Owner::new(&store, "Parts", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, vec![call(), call()]);
    block_on(store.commit(Arc::new(owner.take_group()))).unwrap();
    owner.with(&id, |state, now| control::terminate(state, None, false, now).ok());
    block_on(store.commit(Arc::new(owner.take_group()))).unwrap();
    let state = owner.state(&id).unwrap();
    let key = ExecutionKey {
        partition: owner.lease(0).partition.clone(),
        number: state.number,
        ordinal: 0,
    };
    let all = block_on(store.history(&key, HistoryRange::ALL)).unwrap();
    assert_eq!(all.len(), 2);
    let part = |from, events_max, bytes_max| {
        let range = HistoryRange {
            from,
            events_max,
            bytes_max,
        };
        block_on(store.history(&key, range)).unwrap()
    };
    assert_eq!(part(0, 1, usize::MAX), all[..1]);
    assert_eq!(part(0, all[0].events + 1, usize::MAX), all);
    assert_eq!(part(0, u32::MAX, 1), all[..1]);
    assert_eq!(part(all[1].first, 1, 1), all[1..]);
    assert_eq!(part(0, u32::MAX, usize::MAX), all);
    assert_eq!(part(all[1].first + all[1].events, 1, 1), []);
}

/// What adds work, or takes much room, is not made in the room that is kept.
#[test]
fn only_what_is_small_and_adds_no_work_may_use_a_share() {
    let mem = MemStore::empty();
    let mut owner = Owner::new(&mem, "Rooms", 1);
    let id = instance("id");
    owner.start(&id);
    let start = owner.take_group();
    assert_eq!((start.room(), Group::default().room()), (Room::Free, Room::Free));
    owner.with(&id, |state, now| control::suspend(state, None, now).ok().flatten());
    let suspend = owner.take_group();
    owner.with(&id, |state, now| control::resume(state, None, now).ok().flatten());
    let resume = owner.take_group();
    assert_eq!((suspend.room(), resume.room()), (Room::Share, Room::Share));
    owner.with(&id, |state, now| {
        control::raise_event(state, name("Go"), None, None, now).ok().flatten()
    });
    assert_eq!(owner.take_group().room(), Room::Free);
    let large = Payload::new(vec![7; 70_000]);
    owner.with(&id, |state, now| {
        control::suspend(state, Some(large), now).ok().flatten()
    });
    assert_eq!(owner.take_group().room(), Room::Free);
    owner.with(&id, |state, now| control::terminate(state, None, false, now).ok());
    let mut end = owner.take_group();
    owner.with(&id, |state, _| control::purge(state).ok());
    let purge = owner.take_group();
    assert_eq!(purge.room(), Room::Kept);
    end.sections.extend(purge.sections);
    assert_eq!(end.room(), Room::Free, "the reason that it takes over is large");
    end.sections.remove(0);
    end.sections.extend(resume.sections);
    assert_eq!(end.room(), Room::Share);
}

/// A disk on which no room can be kept.
#[cfg(target_os = "linux")]
#[test]
fn without_the_room_that_is_kept_nothing_is_made_but_purges_and_claims() {
    let (scratch, mem) = (Scratch::new(), MemStore::empty());
    let mut owner = Owner::new(&mem, "Kept", 1);
    let mut first = writer(&scratch, &owner);
    let (ended, id) = (instance("ended"), instance("id"));
    owner.start(&ended);
    owner.complete(&ended, None);
    first.stage(&owner.take_group()).unwrap();
    first.seal().unwrap();
    drop(first);
    let kept = scratch.path().join("reserve");
    assert_eq!(std::fs::metadata(&kept).unwrap().len(), 1 << 20);
    std::fs::remove_file(&kept).unwrap();
    refuse_reserves(true);

    let mut writer = SqliteWriter::open(scratch.path(), OFF).unwrap();
    owner.with(&ended, |state, _| control::purge(state).ok());
    let purge = owner.take_group();
    owner.start(&id);
    let start = owner.take_group();
    let both = Group {
        sections: [&purge, &start].map(|group| group.sections[0].clone()).into(),
    };
    let other = HubName::new("Other").unwrap();
    assert!(matches!(writer.stage(&both), Err(Error::Full)));
    assert!(matches!(writer.create_hub(&other, 1, owner.now), Err(Error::Full)));
    writer.stage(&purge).unwrap();
    writer.seal().unwrap();
    assert_eq!(count(&scratch, "instance"), 0);
    assert!(
        matches!(writer.stage(&start), Err(Error::Full)),
        "it would use up what the next purge needs"
    );
    let key = owner.lease(0).partition.clone();
    let claimed = writer.claim(&Claim::new(NODE, &[key], owner.now)).unwrap();
    writer.release(&claimed.leases).unwrap();

    refuse_reserves(false);
    writer.create_hub(&other, 1, owner.now).unwrap();
    assert_eq!(std::fs::metadata(&kept).unwrap().len(), 1 << 20, "it is kept again");
    assert_eq!(problems(&scratch), Vec::<String>::new());
}

/// Half as much is kept as the file has, up to a bound, without the store being opened anew.
#[test]
fn the_room_that_is_kept_grows_with_the_file() {
    const MIB: u64 = 1 << 20;
    let scratch = Scratch::new();
    let bytes = |file: &str| std::fs::metadata(scratch.path().join(file)).unwrap().len();
    let store = open(&scratch, OFF);
    let mut owner = Owner::new(&store, "Grows", 1);
    assert_eq!(bytes("reserve"), MIB);
    let mut number = 0;
    while bytes("store.db") < 17 * MIB {
        assert!(number < 100, "the log is written back long before");
        let wanted = (bytes("store.db") / 2).clamp(MIB, 8 * MIB);
        owner.start_with(&StartRequest {
            input: Some(Payload::new(vec![7; 1 << 20])),
            ..Owner::request(&instance(&format!("order-{number}")))
        });
        owner.flush();
        assert_eq!(bytes("reserve"), wanted, "after {number} groups");
        number += 1;
    }
    owner.start(&instance("last"));
    owner.flush();
    assert_eq!(bytes("reserve"), 8 * MIB, "no more is kept of a larger file");
}

#[test]
fn what_is_staged_and_not_sealed_is_gone_with_its_writer() {
    let (scratch, mem) = (Scratch::new(), MemStore::empty());
    let mut owner = Owner::new(&mem, "Staged", 2);
    let mut first = writer(&scratch, &owner);
    let mut reader = SqliteReader::open(scratch.path()).unwrap();
    let id = instance("order-1");
    owner.start(&id);
    let group = owner.take_group();
    first.stage(&group).unwrap();
    let partition = owner.lease(owner.partition_of(&id)).partition.clone();
    assert_eq!(
        reader.load(&partition, std::slice::from_ref(&id)).unwrap(),
        [None],
        "nobody sees it yet"
    );
    drop(first);
    let mut second = SqliteWriter::open(scratch.path(), OFF).unwrap();
    assert_eq!(count(&scratch, "instance"), 0);
    second.stage(&group).unwrap();
    // Another call instead of the seal takes it back as well.
    second.stage(&group).unwrap();
    second.compact().unwrap();
    assert_eq!(count(&scratch, "instance"), 0);
    second.stage(&group).unwrap();
    second.seal().unwrap();
    assert_eq!(count(&scratch, "instance"), 1);
}

/// A group of one section under an owner's fence.
fn refused_as_corrupt(writer: &mut SqliteWriter, group: &Group, expected: &str) {
    match writer.stage(group) {
        Err(Error::Corrupt { what, .. }) => assert!(what.contains(expected), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_that_was_not_made_from_what_is_stored_is_refused() {
    let (scratch, mem) = (Scratch::new(), MemStore::empty());
    let mut owner = Owner::new(&mem, "Wrong", 1);
    let mut writer = writer(&scratch, &owner);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, vec![call()]);
    let start = owner.take_group();
    owner.answer_task(&id, Outcome::Completed(None));
    let answer = owner.take_group();
    owner.turn(&id, vec![complete()]);
    let turn = owner.take_group();
    let at = |group: &Group, seq: u64| {
        let section = Section {
            first_seq: taskhub_core::id::Seq(seq),
            ..group.sections[0].clone()
        };
        Group {
            sections: vec![section],
        }
    };
    refused_as_corrupt(&mut writer, &at(&answer, 1), "does not exist");
    writer.stage(&start).unwrap();
    writer.seal().unwrap();
    refused_as_corrupt(&mut writer, &at(&turn, 3), "which does not exist");
    writer.stage(&answer).unwrap();
    writer.seal().unwrap();
    refused_as_corrupt(&mut writer, &at(&answer, 4), "which does not exist");
    writer.stage(&turn).unwrap();
    writer.seal().unwrap();
    refused_as_corrupt(&mut writer, &at(&turn, 5), "extends a history of 3 events");
    refused_as_corrupt(&mut writer, &at(&start, 5), "UNIQUE");
    // The number of one instance, and the name of another.
    let mut other = at(&turn, 5);
    other.sections[0].commits[0].instance = instance("order-2");
    refused_as_corrupt(&mut writer, &other, "does not belong to `order-2`");
    let stall = |state: &InstanceState, now| control::stall(state, None, now);
    owner.with(&id, stall);
    let late = owner.take_group();
    owner.with(&id, |state, _| control::purge(state).ok());
    let purge = owner.take_group();
    let commits = [&purge, &late].map(|group| group.sections[0].commits[0].clone());
    let mut both = at(&purge, 5);
    both.sections[0].commits = commits.into();
    refused_as_corrupt(&mut writer, &both, "does not exist");
    both.sections[0].commits.reverse();
    writer.stage(&both).unwrap();
    writer.seal().unwrap();
    assert_eq!(problems(&scratch), Vec::<String>::new());
}

#[test]
fn calls_are_made_when_they_are_called_and_in_that_order() {
    let scratch = Scratch::new();
    let store = open(&scratch, OFF);
    let names = ["CallsOne", "CallsOther"].map(|name| HubName::new(name).unwrap());
    let first = store.create_hub(&names[0], 1, Timestamp::default());
    let second = store.create_hub(&names[1], 1, Timestamp::default());
    // Waited for in the other order, and the first not at all.
    block_on(second).unwrap();
    drop(first);
    assert_eq!(block_on(store.list_hubs()).unwrap().len(), 2);
}

#[test]
fn readers_and_a_writer_work_at_the_same_time() {
    let scratch = Scratch::new();
    let store = Arc::new(open(&scratch, OFF));
    let mut owner = Owner::new(&*store, "Busy", 2);
    let partition = owner.lease(0).partition.clone();
    let is_done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, partition, is_done) = (Arc::clone(&store), partition.clone(), Arc::clone(&is_done));
            std::thread::spawn(move || {
                let mut seen = 0;
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    let counts = done(store.counts(&partition.hub));
                    let all = counts.iter().map(|(_, count)| count).sum::<u64>();
                    assert!(
                        all >= seen && all.is_multiple_of(10),
                        "a group is seen as a whole: {all} after {seen}"
                    );
                    seen = all;
                }
            })
        })
        .collect();
    for group in 0..200 {
        for number in 0..10 {
            owner.start(&instance(&format!("order-{group}-{number}")));
        }
        owner.flush();
    }
    is_done.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    owner.check();
}
