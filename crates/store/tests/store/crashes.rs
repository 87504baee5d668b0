//! A crash at every call to the store: what was acknowledged is there, and what was not is there as a
//! whole or not at all (I1, I10).
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::sync::Arc;

use crate::common::{OFF, call};
use crate::scratch::Scratch;
use taskhub_core::action::ActionKind;
use taskhub_core::event::Tags;
use taskhub_core::id::{InstanceId, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;
use taskhub_core::query::{Filter, Page, Payloads};
use taskhub_core::status::RuntimeStatus;
use taskhub_store::blocking::{Reader, Writer};
use taskhub_store::conformance::{NODE, Owner, block_on, done, instance, name};
use taskhub_store::embedded::{Access, EmbeddedOptions, Lie, SqliteReader, SqliteWriter, fail_access, lie_about_write};
use taskhub_store::faulty::{Fault, Faults, FaultyReader, FaultyWriter, Rates, StoreCall};
use taskhub_store::inline::Inline;
use taskhub_store::mem::{MemData, MemStore};
use taskhub_store::{Claim, Error, Group, Lease, Recovered, Selection, Store};

const HUB: &str = "Crashes";
const PARTITIONS: u16 = 2;

/// Something that outlives a process.
trait Medium {
    type Writer: Writer + 'static;
    type Reader: Reader + 'static;
    fn open(&self) -> (Self::Writer, Self::Reader);
}

impl Medium for MemData {
    type Writer = taskhub_store::mem::MemWriter;
    type Reader = taskhub_store::mem::MemReader;

    fn open(&self) -> (Self::Writer, Self::Reader) {
        (self.writer(), self.reader())
    }
}

impl Medium for Scratch {
    type Writer = SqliteWriter;
    type Reader = SqliteReader;

    fn open(&self) -> (Self::Writer, Self::Reader) {
        let writer = SqliteWriter::open(self.path(), OFF).unwrap_or_else(|error| panic!("{error}"));
        let reader = SqliteReader::open(self.path()).unwrap_or_else(|error| panic!("{error}"));
        (writer, reader)
    }
}

type FaultyStore<M> = Inline<FaultyWriter<<M as Medium>::Writer>, FaultyReader<<M as Medium>::Reader>>;

fn open<M: Medium>(medium: &M, faults: &Faults) -> FaultyStore<M> {
    let (writer, reader) = medium.open();
    Inline::new(faults.writer(writer), faults.reader(reader))
}

/// Groups of a small plan with parents, children, events and ends, and what they lead to.
fn plan() -> (Vec<Group>, MemData) {
    let data = MemData::new();
    let store = MemStore::over(&data);
    let mut owner = Owner::new(&store, HUB, PARTITIONS);
    let mut groups = Vec::new();
    for number in 0..2 {
        let (parent, child) = (
            instance(&format!("parent-{number}")),
            instance(&format!("child-{number}")),
        );
        owner.start(&parent);
        owner.turn(&parent, vec![call(), start(&child)]);
        take(&mut owner, &store, &mut groups);
        owner.deliver();
        owner.answer_task(&parent, Outcome::Completed(Some(Payload::text("1"))));
        take(&mut owner, &store, &mut groups);
        owner.complete(&child, None);
        owner.deliver();
        take(&mut owner, &store, &mut groups);
        owner.complete(&parent, None);
        if number % 2 == 0 {
            owner.with(&child, |state, _| taskhub_core::control::purge(state).ok());
        }
        take(&mut owner, &store, &mut groups);
    }
    (groups, data)
}

fn start(child: &InstanceId) -> ActionKind {
    ActionKind::CreateSubOrchestration {
        instance: Some(child.clone()),
        name: name("Child"),
        version: None,
        input: None,
        tags: Tags::new(),
    }
}

fn take(owner: &mut Owner<'_>, store: &dyn Store, groups: &mut Vec<Group>) {
    let group = owner.take_group();
    let copy = Group {
        sections: group.sections.clone(),
    };
    done(store.commit(Arc::new(copy)));
    groups.push(group);
}

/// The same group under the fences of now.
fn under(group: &Group, leases: &[Lease]) -> Arc<Group> {
    let mut sections = group.sections.clone();
    for section in &mut sections {
        let lease = leases.iter().find(|lease| lease.partition == section.partition);
        section.epoch = lease.map_or(section.epoch, |lease| lease.epoch);
    }
    Arc::new(Group { sections })
}

/// Next numbers of the partitions before each group and after the last.
fn positions(groups: &[Group]) -> Vec<Vec<Seq>> {
    let mut next = vec![Seq(1); usize::from(PARTITIONS)];
    let mut positions = vec![next.clone()];
    for section in groups.iter().map(|group| &group.sections) {
        for section in section {
            next[usize::from(section.partition.index)].0 += section.commits.len() as u64;
        }
        positions.push(next.clone());
    }
    positions
}

struct Run<'p> {
    groups: &'p [Group],
    positions: Vec<Vec<Seq>>,
    acknowledged: usize,
}

impl Run<'_> {
    /// Creates the hub if need be, claims, finds out how far the store is, and commits the rest.
    fn go_on(&mut self, store: &dyn Store) -> Result<(), Error> {
        let now = taskhub_core::time::Timestamp::from_micros(1);
        let name = taskhub_store::conformance::hub(HUB);
        if block_on(store.list_hubs())?.is_empty() {
            block_on(store.create_hub(&name, PARTITIONS, now))?;
        }
        let keys: Vec<_> = (0..PARTITIONS)
            .map(|index| taskhub_store::PartitionKey {
                hub: name.clone(),
                index,
            })
            .collect();
        let leases = block_on(store.claim(&Claim::new(NODE, &keys, now)))?.leases;
        let mut found = Vec::new();
        for lease in &leases {
            match block_on(store.recover(lease))?.first() {
                Some(Recovered::Counters { next_seq, .. }) => found.push(*next_seq),
                other => panic!("counters come first, not {other:?}"),
            }
        }
        let at = self.positions.iter().position(|position| *position == found);
        let Some(at) = at else {
            panic!("half a group is there: {found:?}")
        };
        assert!(at >= self.acknowledged, "an acknowledged group is gone");
        assert!(at <= self.acknowledged + 1, "a group is there that was never sent");
        self.acknowledged = at;
        while let Some(group) = self.groups.get(self.acknowledged) {
            block_on(store.commit(under(group, &leases)))?;
            self.acknowledged += 1;
        }
        Ok(())
    }
}

/// A page, the counts, and the states of each partition.
type Told = (Page, Vec<(RuntimeStatus, u64)>, Vec<Vec<Option<InstanceState>>>);

/// What two stores tell of the hub.
fn told(store: &dyn Store) -> Told {
    let hub = taskhub_store::conformance::hub(HUB);
    let all = Selection {
        hub: hub.clone(),
        filter: Filter::default(),
        after: None,
        rows_max: 1000,
    };
    let page = done(store.list(&all, Payloads::ALL)).page;
    let ids: Vec<InstanceId> = page.rows.iter().map(|row| row.instance.clone()).collect();
    let states = (0..PARTITIONS)
        .map(|index| {
            let partition = taskhub_store::PartitionKey {
                hub: hub.clone(),
                index,
            };
            let own: Vec<InstanceId> = ids
                .iter()
                .filter(|id| taskhub_store::partition_of(id, PARTITIONS) == index)
                .cloned()
                .collect();
            done(store.load(&partition, &own))
        })
        .collect();
    (page, done(store.counts(&hub)), states)
}

/// Runs the plan with faults until it is through; answers how many processes that took.
fn survive<M: Medium>(medium: &M, faults: &Faults, groups: &[Group], expected: &MemData) -> usize {
    let mut run = Run {
        groups,
        positions: positions(groups),
        acknowledged: 0,
    };
    let mut processes = 0;
    loop {
        processes += 1;
        let store = open(medium, faults);
        let result = run.go_on(&store);
        drop(store);
        match result {
            Ok(()) => break,
            Err(Error::Unknown { .. } | Error::Unavailable { .. } | Error::Full) => faults.restart(),
            Err(error) => panic!("{error}"),
        }
    }
    let store = open(medium, &Faults::none());
    assert_eq!(told(&store), told(&MemStore::over(expected)));
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
    processes
}

const FAULTS: [Fault; 5] = [
    Fault::FailBefore,
    Fault::Full,
    Fault::FailAfter,
    Fault::CrashInside,
    Fault::CrashAfter,
];

fn sweep<M: Medium>(medium: impl Fn() -> M) {
    let (groups, expected) = plan();
    let calm = Faults::none();
    assert_eq!(survive(&medium(), &calm, &groups, &expected), 1);
    assert_eq!(calm.calls(), 1 + 1 + 1 + 2 + 2 * groups.len() as u64);
    for nth in 0..calm.calls() {
        for fault in FAULTS {
            let faults = Faults::at(nth, fault);
            let processes = survive(&medium(), &faults, &groups, &expected);
            let is_harmless = processes == 1;
            let is_read = matches!(nth, 0 | 3 | 4);
            assert_eq!(is_harmless, fault == Fault::Full && is_read, "{fault:?} at call {nth}");
        }
    }
}

#[test]
fn a_fault_at_any_call_loses_nothing_in_memory() {
    sweep(MemData::new);
}

#[test]
fn a_fault_at_any_call_loses_nothing_in_the_embedded_store() {
    sweep(Scratch::new);
}

#[test]
fn many_faults_lose_nothing() {
    let (groups, expected) = plan();
    let rates = Rates {
        fail_before: 20,
        full: 20,
        fail_after: 40,
        crash_inside: 60,
        crash_after: 60,
    };
    let mut most = 0;
    for seed in 1..40_u64 {
        let mut state = seed;
        let draw = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let faults = Faults::with_rates(rates, draw);
        most = most.max(survive(&Scratch::new(), &faults, &groups, &expected));
    }
    assert!(most > 5, "the faults happened: {most} processes at most");
}

#[test]
fn after_a_crash_nothing_answers_until_the_restart() {
    let data = MemData::new();
    let faults = Faults::new(|call| {
        if call == StoreCall::Claim {
            Fault::CrashInside
        } else {
            Fault::None
        }
    });
    let store = open(&data, &faults);
    let list = |store: &dyn Store| block_on(store.list_hubs());
    assert!(list(&store).is_ok());
    assert!(matches!(
        block_on(store.claim(&Claim::new(NODE, &[], taskhub_core::time::Timestamp::default()))),
        Err(Error::Unknown { .. })
    ));
    assert!(faults.is_crashed());
    assert!(matches!(list(&store), Err(Error::Unknown { .. })));
    faults.restart();
    assert!(list(&open(&data, &faults)).is_ok());
}

/// How many groups of the plan a copied folder holds, after the check found it in order.
fn groups_in(folder: &Scratch, groups: &[Group]) -> usize {
    let store = open(folder, &Faults::none());
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
    let keys: Vec<_> = (0..PARTITIONS)
        .map(|index| taskhub_store::PartitionKey {
            hub: taskhub_store::conformance::hub(HUB),
            index,
        })
        .collect();
    if done(store.list_hubs()).is_empty() {
        return 0;
    }
    let leases = done(store.claim(&Claim::new(NODE, &keys, taskhub_core::time::Timestamp::default()))).leases;
    let counters = |lease: &Lease| match done(store.recover(lease)).first() {
        Some(Recovered::Counters { next_seq, .. }) => *next_seq,
        other => panic!("counters come first, not {other:?}"),
    };
    let found: Vec<Seq> = leases.iter().map(counters).collect();
    match positions(groups).iter().position(|position| *position == found) {
        Some(at) => at,
        None => panic!("half a group is there: {found:?}"),
    }
}

/// A copy of the files as a power cut would leave them, with the log as given.
fn after_power_cut(folder: &Scratch, log: &[u8]) -> Scratch {
    let copy = Scratch::new();
    let paths = |name: &str| (folder.path().join(name), copy.path().join(name));
    let (from, to) = paths("store.db");
    std::fs::copy(from, to).unwrap();
    std::fs::write(paths("store.db-wal").1, log).unwrap();
    copy
}

#[test]
fn a_log_cut_short_or_torn_holds_whole_groups_only() {
    const CUTS: usize = 60;
    let (groups, expected) = plan();
    let folder = Scratch::new();
    let (writer, reader) = Medium::open(&folder);
    let store = Inline::new(writer, reader);
    let mut run = Run {
        groups: &groups,
        positions: positions(&groups),
        acknowledged: 0,
    };
    run.go_on(&store).unwrap();
    let log = std::fs::read(folder.path().join("store.db-wal")).unwrap();
    assert_eq!(
        groups_in(&after_power_cut(&folder, &log), &groups),
        groups.len(),
        "a kill loses nothing"
    );
    let mut last = 0;
    let mut seen = std::collections::BTreeSet::new();
    // Without its header a log is none, and one was there before anything was acknowledged.
    for none in [&log[..0], &log[..31]] {
        let error = SqliteWriter::open(after_power_cut(&folder, none).path(), OFF).unwrap_err();
        assert!(error.to_string().contains("its log is missing or empty"), "{error}");
    }
    for cut in 1..=CUTS {
        let length = log.len() * cut / CUTS;
        let short = groups_in(&after_power_cut(&folder, &log[..length]), &groups);
        assert!(short >= last, "more of the log, and fewer groups");
        // The same, but what was not written yet is there as something else.
        let mut torn = log.clone();
        torn[length..].fill(0x5a);
        assert_eq!(groups_in(&after_power_cut(&folder, &torn), &groups), short);
        last = short;
        seen.insert(short);
    }
    assert_eq!(last, groups.len());
    assert!(seen.len() > groups.len() / 2, "the cuts lie between groups: {seen:?}");
    assert_eq!(told(&store), told(&MemStore::over(&expected)));
}

/// What came of the plan on a disk that lied about one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Believed {
    /// The disk was not asked as often.
    Never,
    /// Everything is there.
    Nothing,
    /// An error or the check says that something is wrong.
    Told,
    /// A group that was acknowledged is not there, and nothing says so.
    Lie,
}

fn over_a_lying_disk(lie: Lie, nth: u64, groups: &[Group], expected: &MemData) -> Believed {
    let scratch = Scratch::new();
    let run = || -> Result<(), Error> {
        let writer = SqliteWriter::open(scratch.path(), EmbeddedOptions::default())?;
        let store = Inline::new(writer, SqliteReader::open(scratch.path())?);
        let positions = positions(groups);
        let acknowledged = 0;
        let mut run = Run {
            groups,
            positions,
            acknowledged,
        };
        run.go_on(&store)
    };
    lie_about_write(Some((lie, nth)));
    let went = run();
    if lie_about_write(None).is_some() {
        return Believed::Never;
    }
    let look = || -> Result<bool, Error> {
        went?;
        let writer = SqliteWriter::open(scratch.path(), EmbeddedOptions::default())?;
        let store = Inline::new(writer, SqliteReader::open(scratch.path())?);
        let verified = block_on(store.verify())?;
        let is_clean = verified.problems.is_empty();
        Ok(is_clean && told(&store) == told(&MemStore::over(expected)))
    };
    match look() {
        Ok(true) => Believed::Nothing,
        Err(_) => Believed::Told,
        Ok(false) => {
            let problems = taskhub_store::embedded::repair::verify(scratch.path(), &mut |_| {});
            let is_told = problems.map_or(true, |verified| !verified.problems.is_empty());
            if is_told { Believed::Told } else { Believed::Lie }
        }
    }
}

#[test]
fn a_disk_that_lies_about_a_write_is_not_believed() {
    let (groups, expected) = plan();
    for lie in [Lie::Lost, Lie::Torn, Lie::Misdirected, Lie::Flipped] {
        let mut outcomes = Vec::new();
        loop {
            match over_a_lying_disk(lie, outcomes.len() as u64, &groups, &expected) {
                Believed::Never => break,
                outcome => outcomes.push(outcome),
            }
        }
        assert!(outcomes.len() > groups.len(), "{lie:?}: {outcomes:?}");
        assert!(!outcomes.contains(&Believed::Lie), "{lie:?}: {outcomes:?}");
    }
}

#[test]
fn a_disk_that_refuses_an_access_loses_nothing_that_was_acknowledged() {
    let (groups, expected) = plan();
    for access in [Access::Read, Access::Write, Access::Sync] {
        let mut refused = 0;
        for nth in 0.. {
            let scratch = Scratch::new();
            let mut run = Run {
                groups: &groups,
                positions: positions(&groups),
                acknowledged: 0,
            };
            let mut left = Some((access, nth));
            // Another process goes on where the first one could not, perhaps a third.
            for _ in 0..3 {
                fail_access(left);
                let opened = SqliteWriter::open(scratch.path(), EmbeddedOptions::default());
                let both = opened.and_then(|writer| Ok(Inline::new(writer, SqliteReader::open(scratch.path())?)));
                let went = both.as_ref().map_or(Ok(()), |store| run.go_on(store));
                // The writer is closed before the reader, which keeps SQLite from removing the log.
                let went = both.map(drop).and(went);
                left = fail_access(None);
                match went {
                    Ok(()) | Err(Error::Unknown { .. } | Error::Unavailable { .. } | Error::Full) => {}
                    Err(error) => panic!("{access:?} {nth}: {error}"),
                }
            }
            if left.is_some() {
                break;
            }
            refused += 1;
            let opened = SqliteWriter::open(scratch.path(), EmbeddedOptions::default());
            let writer = opened.unwrap_or_else(|error| panic!("{access:?} {nth}: {error}"));
            let store = Inline::new(writer, SqliteReader::open(scratch.path()).unwrap());
            assert_eq!(told(&store), told(&MemStore::over(&expected)), "{access:?} {nth}");
            assert_eq!(done(store.verify()).problems, Vec::<String>::new(), "{access:?} {nth}");
        }
        assert!(refused > 5, "{access:?}: {refused}");
    }
}
