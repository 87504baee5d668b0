//! What a bad disk does to a store: bits that flip, pages that are emptied, swapped or cut off, files that are gone. Nothing
//! that is read is ever wrong, nothing is written by what is wrong, and the check finds all that has an effect (A47, P7).
//!
//! `INSTANCES` and `MUTATIONS` make the store and the runs larger.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{IdempotencyKey, InstanceId};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::{Filter, Payloads};
use taskhub_core::status::InstanceInfo;
use taskhub_store::conformance::{Owner, block_on, done, instance, name};
use taskhub_store::embedded::{EmbeddedStore, repair};
use taskhub_store::{
    Error, ExecutionKey, Group, HistoryRange, InstancePage, Lease, PartitionKey, Recovered, Selection, Store,
    decode_history, partition_of,
};

use crate::common::{OFF, call_with};
use crate::damage::without_bytes;
use crate::scratch::Scratch;

const PAGE: usize = 8 << 10;
const PARTITIONS: u16 = 2;
const FILES: [&str; 2] = ["store.db", "store.db-wal"];

#[expect(clippy::disallowed_methods, reason = "asked for by the person who runs the tests")]
fn asked(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// Random numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % bound as u64).unwrap()
    }
}

/// What is known of an instance: its state and the history of its last execution; `None` if it is purged.
type Truth = BTreeMap<InstanceId, Option<(InstanceState, Vec<HistoryEvent>)>>;

/// Files of a store, by their names.
type Files = BTreeMap<&'static str, Vec<u8>>;

/// What a killed process leaves, and what is true of it.
struct Image {
    files: Files,
    truth: Truth,
    recovered: Vec<Vec<Recovered>>,
    leases: Vec<Lease>,
    /// Groups that go on from there, and what is true of the instances they touch once each is durable.
    groups: Vec<(Arc<Group>, Truth)>,
}

fn call() -> ActionKind {
    call_with(Some(Payload::text("\"Tokyo\"")))
}

/// An instance in one of the states that there are, by its number.
fn make(owner: &mut Owner<'_>, number: usize) {
    let id = instance(&format!("order-{number}"));
    let length = [3, 200, 3_000, 9_000][number / 8 % 4];
    owner.start_with(&StartRequest {
        input: Some(Payload::new(format!("\"{number}{}\"", "x".repeat(length)).into_bytes())),
        key: (number.is_multiple_of(5)).then(|| IdempotencyKey::new(&format!("key-{number}")).unwrap()),
        ..Owner::request(&id)
    });
    if number.is_multiple_of(8) {
        return;
    }
    let timer = ActionKind::CreateTimer {
        fire_at: owner.now.plus(Duration::from_mins(1)),
    };
    let event = ActionKind::SendEvent {
        instance: instance("nobody"),
        name: name("Hi"),
        input: None,
    };
    owner.turn(&id, vec![call(), timer, event]);
    match number % 8 {
        1 => {}
        2 => drop(owner.with(&id, |state, now| {
            control::raise_event(state, name("Go"), Some(Payload::text("1")), None, now).unwrap()
        })),
        3 => {
            owner.answer_task(&id, Outcome::Completed(None));
            let next = Completion::ContinuedAsNew {
                input: Some(Payload::new(vec![b'n'; length])),
                version: None,
                carried: Vec::new(),
            };
            owner.turn(&id, vec![ActionKind::CompleteOrchestration(next)]);
            owner.turn(&id, vec![call()]);
        }
        _ => {
            owner.answer_task(&id, Outcome::Completed(Some(Payload::text("\"Hello\""))));
            owner.complete(&id, Some(Payload::text(&format!("{number}"))));
        }
    }
}

fn key_of(state: &InstanceState, partition: &PartitionKey) -> ExecutionKey {
    ExecutionKey {
        partition: partition.clone(),
        number: state.number,
        ordinal: state.info.ordinal,
    }
}

/// The state of an instance and its history, as far as they can be read.
fn read(
    store: &dyn Store,
    leases: &[Lease],
    id: &InstanceId,
) -> Result<Option<(InstanceState, Vec<HistoryEvent>)>, Error> {
    let partition = &leases[usize::from(partition_of(id, PARTITIONS))].partition;
    let Some(state) = block_on(store.load(partition, std::slice::from_ref(id)))?.remove(0) else {
        return Ok(None);
    };
    let events = decode_history(&block_on(store.history(&key_of(&state, partition), HistoryRange::ALL))?)?;
    Ok(Some((state, events)))
}

fn image(instances: usize) -> Image {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Faults", PARTITIONS);
    for number in 0..instances {
        make(&mut owner, number);
        if number.is_multiple_of(7) {
            owner.flush();
        }
        if number == instances * 3 / 4 {
            owner.flush();
            // Some pages are free, and most of it is in the file.
            for gone in (4..number).step_by(40) {
                let id = instance(&format!("order-{gone}"));
                owner.with(&id, |state, _| control::purge(state).ok());
            }
            owner.flush();
            done(store.compact());
        }
    }
    owner.check();
    let leases = owner.leases();
    let ids = owner.ids();
    let know = |ids: &[InstanceId]| -> Truth {
        let known = |id: &InstanceId| (id.clone(), read(&store, &leases, id).unwrap());
        ids.iter().map(known).collect()
    };
    let recovered = leases.iter().map(|lease| done(store.recover(lease))).collect();
    let files = FILES.map(|name| (name, std::fs::read(scratch.path().join(name)).unwrap()));
    let truth = know(&ids);
    let mut groups = Vec::new();
    for step in 0..3 {
        let touched: Vec<InstanceId> = match step {
            0 => (0..30).map(|number| instance(&format!("new-{number}"))).collect(),
            1 => ids
                .iter()
                .filter(|id| truth[*id].as_ref().unwrap().0.info.completed_at.is_none())
                .step_by(7)
                .cloned()
                .collect(),
            _ => ids
                .iter()
                .filter(|id| truth[*id].as_ref().unwrap().0.info.completed_at.is_some())
                .step_by(11)
                .cloned()
                .collect(),
        };
        for id in &touched {
            match step {
                0 => owner.start_with(&StartRequest {
                    input: Some(Payload::new(vec![b'y'; 3_000])),
                    ..Owner::request(id)
                }),
                1 => drop(owner.with(id, |state, now| control::terminate(state, None, false, now).ok())),
                _ => drop(owner.with(id, |state, _| control::purge(state).ok())),
            }
        }
        let group = Arc::new(owner.take_group());
        done(store.commit(Arc::clone(&group)));
        groups.push((group, know(&touched)));
    }
    Image {
        files: files.into(),
        truth,
        recovered,
        leases,
        groups,
    }
}

/// What came of one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// The store is not opened.
    Refused,
    /// Something could not be read, and that was said.
    Told,
    /// The last group was left out, as after a crash, with a warning.
    Torn,
    /// All is as it was.
    None,
}

struct Run<'i> {
    image: &'i Image,
    what: String,
    is_told: bool,
    /// Something was left out when the store was written anew, and that was said.
    is_less: bool,
}

impl Run<'_> {
    fn told(&mut self) {
        self.is_told = true;
    }

    /// Compares all that can be read with what is true.
    fn compare(&mut self, store: &dyn Store, truth: &Truth) {
        for (id, expected) in truth {
            match read(store, &self.image.leases, id) {
                Ok(None) if self.is_less => {}
                Ok(found) => assert!(found == *expected, "{}: `{id}` is another one than it was", self.what),
                Err(Error::Corrupt { .. }) => self.told(),
                Err(error) => panic!("{}: {error}", self.what),
            }
        }
    }

    fn compare_lists(&mut self, store: &dyn Store) {
        let image = self.image;
        let whole: BTreeMap<&InstanceId, &InstanceInfo> = image
            .truth
            .values()
            .flatten()
            .map(|(state, _)| (&state.info.instance, &state.info))
            .collect();
        let all = Selection {
            hub: self.image.leases[0].partition.hub.clone(),
            filter: Filter::default(),
            after: None,
            rows_max: 1_000,
        };
        match block_on(store.list(&all, Payloads::ALL)) {
            Ok(InstancePage { page, .. }) => {
                for row in &page.rows {
                    assert_eq!(Some(&row), whole.get(&row.instance), "{}: a row of a list", self.what);
                }
                if page.next.is_none() && page.rows.len() < whole.len() && !self.is_less {
                    self.is_told = true;
                }
            }
            Err(Error::Corrupt { .. }) => self.is_told = true,
            Err(error) => panic!("{}: {error}", self.what),
        }
        match block_on(store.counts(&all.hub)) {
            Ok(counts) => {
                let total: u64 = counts.iter().map(|(_, count)| count).sum();
                let is_right = total == whole.len() as u64 || self.is_less && total < whole.len() as u64;
                assert!(is_right, "{}: counts", self.what);
            }
            Err(Error::Corrupt { .. }) => self.is_told = true,
            Err(error) => panic!("{}: {error}", self.what),
        }
    }

    /// What an owner is given to go on from: nothing that was not there, and what is missing is told.
    fn compare_recovered(&mut self, store: &dyn Store) {
        for (lease, expected) in self.image.leases.iter().zip(&self.image.recovered) {
            match block_on(store.recover(lease)) {
                Ok(found) => {
                    let (damaged, whole): (Vec<_>, Vec<_>) = found
                        .into_iter()
                        .partition(|item| matches!(item, Recovered::Damaged { .. }));
                    let expected: Vec<Recovered> = expected.iter().map(without_bytes).collect();
                    assert!(
                        whole.iter().all(|item| expected.contains(&without_bytes(item))),
                        "{}: recovered",
                        self.what
                    );
                    if whole.len() < expected.len() {
                        assert!(
                            !damaged.is_empty() || self.is_less,
                            "{}: something is missing and nobody says so",
                            self.what
                        );
                    }
                    self.is_told |= !damaged.is_empty();
                }
                Err(Error::Corrupt { .. }) => self.is_told = true,
                Err(error) => panic!("{}: {error}", self.what),
            }
        }
    }

    /// Goes on from there; what is not touched stays as it was.
    fn go_on(&mut self, store: &dyn Store) {
        let mut truth = self.image.truth.clone();
        for (group, touched) in &self.image.groups {
            match block_on(store.commit(Arc::clone(group))) {
                Ok(()) => truth.extend(touched.clone()),
                Err(Error::Corrupt { .. }) => {
                    self.told();
                    break;
                }
                Err(error) => panic!("{}: {error}", self.what),
            }
        }
        self.compare(store, &truth);
    }
}

/// Looks at what comes of a store whose files are these; says also whether it could be written anew.
fn run(image: &Image, what: &str, files: &Files) -> (Effect, bool) {
    let scratch = Scratch::new();
    for (name, bytes) in files {
        std::fs::write(scratch.path().join(name), bytes).unwrap();
    }
    let problems = match repair::verify(scratch.path(), &mut |_| {}) {
        Ok(report) => report.problems,
        Err(error) => vec![error.to_string()],
    };
    let is_torn = problems.iter().any(|problem| problem.contains("is incomplete"));
    let outcome = outcome(image, what, scratch.path(), is_torn);
    if outcome != Effect::None {
        assert!(!problems.is_empty(), "{what}: {outcome:?}, and the check finds nothing");
    }
    let is_rebuilt = write_anew(image, what, files, is_torn);
    if outcome == Effect::None {
        assert!(is_rebuilt, "{what}: a store that can be used cannot be written anew");
    }
    (outcome, is_rebuilt)
}

/// Writes a store with these files anew, after which it is whole, and has all that was whole. If that cannot be done it is as
/// it was. Whether it was done.
fn write_anew(image: &Image, what: &str, files: &Files, is_torn: bool) -> bool {
    let scratch = Scratch::new();
    for (name, bytes) in files {
        std::fs::write(scratch.path().join(name), bytes).unwrap();
    }
    let rebuilt = match repair::rebuild(scratch.path(), &mut |_| {}) {
        Ok(rebuilt) => rebuilt,
        Err(Error::Corrupt { .. } | Error::Unavailable { .. } | Error::Format { .. }) => {
            for (name, bytes) in files {
                let now = std::fs::read(scratch.path().join(name)).unwrap();
                assert!(now == *bytes, "{what}: {name} is not as it was");
            }
            return false;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    let problems = repair::verify(scratch.path(), &mut |_| {}).unwrap().problems;
    assert!(problems.is_empty(), "{what}, written anew: {problems:?}");
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    if is_torn {
        return true;
    }
    let mut run = Run {
        image,
        what: format!("{what}, written anew"),
        is_told: false,
        is_less: !rebuilt.left_out.is_empty(),
    };
    run.compare(&store, &image.truth);
    run.compare_lists(&store);
    run.compare_recovered(&store);
    let (new, started) = &image.groups[0];
    block_on(store.commit(Arc::clone(new))).unwrap();
    run.is_less = false;
    run.compare(&store, started);
    assert!(!run.is_told, "{}: some of it is damaged", run.what);
    true
}

fn outcome(image: &Image, what: &str, folder: &Path, is_torn: bool) -> Effect {
    let store = match EmbeddedStore::open(folder, OFF) {
        Ok(store) => store,
        Err(error) => {
            assert!(
                matches!(
                    error,
                    Error::Corrupt { .. } | Error::Unavailable { .. } | Error::Format { .. }
                ),
                "{what}: {error}"
            );
            return Effect::Refused;
        }
    };
    // Then the last group is not there, with which all of this could be compared.
    if is_torn {
        return Effect::Torn;
    }
    let mut run = Run {
        image,
        what: what.to_owned(),
        is_told: false,
        is_less: false,
    };
    run.compare(&store, &image.truth);
    run.compare_lists(&store);
    run.compare_recovered(&store);
    run.go_on(&store);
    if run.is_told { Effect::Told } else { Effect::None }
}

/// Has as many faults happen as there are runs, on two threads.
#[expect(clippy::print_stderr, reason = "figures for whoever asks for them")]
fn faults(
    kind: &str,
    image: &Image,
    runs: usize,
    fault: impl Fn(&mut Random, &mut Files) -> String + Sync,
) -> BTreeMap<Effect, usize> {
    let done = AtomicUsize::new(0);
    let once = |number: usize| {
        let mut random = Random(number as u64 * 77 + kind.len() as u64);
        let mut files = image.files.clone();
        let what = fault(&mut random, &mut files);
        let effect = run(image, &format!("{kind} {number}: {what}"), &files);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(250) {
            eprintln!("{kind}: {done} of {runs} are done");
        }
        effect
    };
    let half = |first: usize| (first..runs).step_by(2).map(once).collect::<Vec<_>>();
    let all = std::thread::scope(|scope| {
        let odd = scope.spawn(|| half(1));
        let mut all = half(0);
        all.extend(odd.join().unwrap());
        all
    });
    let mut tally = BTreeMap::new();
    for (effect, _) in &all {
        *tally.entry(*effect).or_default() += 1;
    }
    let rebuilt = all.iter().filter(|(_, is_rebuilt)| *is_rebuilt).count();
    eprintln!("{kind}: {tally:?}, {rebuilt} of {runs} written anew");
    tally
}

#[test]
fn a_bad_disk_is_never_believed() {
    let image = image(asked("INSTANCES", 120));
    let runs = asked("MUTATIONS", 96);
    let whole = run(&image, "nothing", &image.files);
    assert_eq!(whole, (Effect::None, true), "without a fault nothing is told");
    let length: usize = image.files.values().map(Vec::len).sum();
    let flips = faults("a flipped bit", &image, runs, |random, files| {
        let mut at = random.below(length);
        let bit = random.below(8);
        for (name, bytes) in files {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
                return format!("{name}, byte {at}, bit {bit}");
            }
            at -= bytes.len();
        }
        unreachable!("a byte of all")
    });
    assert!(
        flips.get(&Effect::Told).is_some_and(|told| *told > runs / 20),
        "{flips:?}"
    );
    let few = runs.div_ceil(8);
    let pages = |files: &Files| files["store.db"].len() / PAGE;
    faults("an emptied page", &image, few, |random, files| {
        let page = random.below(pages(files));
        files.get_mut("store.db").unwrap()[page * PAGE..(page + 1) * PAGE].fill(0);
        format!("page {}", page + 1)
    });
    faults("two swapped pages", &image, few, |random, files| {
        let (one, other) = (random.below(pages(files)), random.below(pages(files)));
        let file = files.get_mut("store.db").unwrap();
        for byte in 0..PAGE {
            file.swap(one * PAGE + byte, other * PAGE + byte);
        }
        format!("pages {} and {}", one + 1, other + 1)
    });
    faults("a file cut short", &image, few, |random, files| {
        let name = FILES[random.below(2)];
        let file = files.get_mut(name).unwrap();
        let length = random.below(file.len());
        file.truncate(length);
        format!("{name} to {length}")
    });
    for name in FILES {
        let mut files = image.files.clone();
        files.remove(name);
        assert_eq!(run(&image, name, &files), (Effect::Refused, false), "{name} is gone");
    }
}
