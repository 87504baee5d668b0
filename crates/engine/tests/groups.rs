//! Group commit as values: what goes into a group, what is waited for, and what becomes of a group that the store does not take.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::collections::BTreeSet;
use std::time::Duration;

use taskhub_core::Ids;
use taskhub_core::commit::{Change, Commit, Update};
use taskhub_core::control::{self, Started};
use taskhub_core::event::Tags;
use taskhub_core::id::{Epoch, ExecutionId, HubName, InstanceId, InstanceNumber, Name, Seq};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::time::Timestamp;
use taskhub_engine::group::{At, Batch, Gathering, HandedOver, Limits, Release, ReleaseOn};
use taskhub_engine::io::Reply;
use taskhub_engine::supervision::BrokenBy;
use taskhub_engine::writing::{Failure, Ledger, Next, Told, Writing, Written};
use taskhub_store::{Error, Extent, Group, PartitionKey};

/// Who waits for an answer.
type Caller = u64;
/// What became of a group.
type Ended = Result<Written<Caller>, Failure<Caller>>;

const LIMITS: Limits = Limits {
    commits_max: 4,
    group_max: 1 << 20,
    ahead_max: usize::MAX,
};

fn partition(index: u16) -> PartitionKey {
    PartitionKey {
        hub: HubName::new("hub").unwrap(),
        index,
    }
}

fn commit(seq: u64, change: Change) -> Commit {
    Commit {
        instance: InstanceId::new(&format!("i{seq}")).unwrap(),
        number: InstanceNumber(seq),
        change: Some(change),
        outbox: Vec::new(),
        consumed: None,
    }
}

/// Commits of partition 0 with these numbers, each of which a caller with its number waits for.
fn batch(hub: u32, numbers: impl IntoIterator<Item = u64>) -> Batch<Caller> {
    let mut batch = Batch::new(hub);
    for seq in numbers {
        let update = Change::Update(Box::<Update>::default());
        batch.push(&partition(0), Epoch(1), Seq(seq), commit(seq, update));
        let at = At {
            hub,
            partition: 0,
            seq: Seq(seq),
        };
        batch.hold(Release::Reply(seq, Reply::Done, at));
    }
    batch
}

struct Counted(u64);

impl Ids for Counted {
    fn execution(&mut self) -> ExecutionId {
        ExecutionId::new([7; 16])
    }

    fn instance_number(&mut self) -> InstanceNumber {
        self.0 += 1;
        InstanceNumber(self.0)
    }
}

/// The first commit of an instance.
fn created() -> Commit {
    let request = StartRequest {
        instance: InstanceId::new("new").unwrap(),
        name: Name::stored("Anything"),
        version: None,
        input: None,
        tags: Tags::new(),
        scheduled_start: None,
        execution: None,
        reuse: ReusePolicy::default(),
        key: None,
        repeats: Repeats::default(),
    };
    match control::create(None, &request, &mut Counted(0), Timestamp::default()) {
        Ok(Started::New(commit)) => *commit,
        other => panic!("{other:?}"),
    }
}

fn gathering(hubs: impl IntoIterator<Item = u32>) -> Gathering<Caller> {
    let mut gathering = Gathering::new(LIMITS);
    hubs.into_iter().for_each(|hub| gathering.enter(hub));
    gathering
}

fn numbers(group: &Group) -> Vec<u64> {
    let of_section = |section: &taskhub_store::Section| {
        let first = section.first_seq.0;
        first..first + section.commits.len() as u64
    };
    group.sections.iter().flat_map(of_section).collect()
}

fn damaged(extent: Extent) -> Error {
    Error::Corrupt {
        place: "here".into(),
        what: "it is damaged".into(),
        extent,
    }
}

fn unreachable() -> Error {
    Error::Unavailable {
        source: "out of reach".into(),
    }
}

/// Begins with the next group.
fn begin(gathering: &mut Gathering<Caller>, ledger: &mut Ledger) -> Next<Caller> {
    Writing::begin(gathering.take().unwrap(), ledger, Duration::ZERO)
}

fn offered(next: Next<Caller>) -> Writing<Caller> {
    match next {
        Next::Offer(writing, _) => writing,
        other => panic!("it is not offered: {other:?}"),
    }
}

fn failed(next: Next<Caller>) -> Failure<Caller> {
    match next {
        Next::Failed(failure) => failure,
        other => panic!("it did not fail: {other:?}"),
    }
}

/// How a store answers that refuses whatever has one of these commits in it, and what it was offered.
fn offer(
    mut next: Next<Caller>,
    ledger: &mut Ledger,
    refused: &BTreeSet<u64>,
    extent: Extent,
) -> (Ended, Vec<Vec<u64>>) {
    let mut offered = Vec::new();
    loop {
        let writing = match next {
            Next::Durable(written) => return (Ok(written), offered),
            Next::Failed(failure) => return (Err(failure), offered),
            Next::Offer(writing, _) => writing,
        };
        let numbers = numbers(writing.offered());
        let answer = if numbers.iter().any(|number| refused.contains(number)) {
            Err(damaged(extent))
        } else {
            Ok(())
        };
        offered.push(numbers);
        next = writing.answered(answer, ledger, Duration::ZERO, false);
    }
}

fn told(failure: Failure<Caller>, gathering: &mut Gathering<Caller>, ledger: &mut Ledger) -> Vec<(Caller, String)> {
    let discarded = gathering.discard([0]);
    let told = failure.settle(discarded, ledger);
    let word = |told: Told| match told {
        Told::Answer(_) => "answered".to_owned(),
        Told::Refused(error) => error.code().to_owned(),
        Told::Displaced => "displaced".to_owned(),
    };
    told.into_iter().map(|(caller, told)| (caller, word(told))).collect()
}

#[test]
fn a_group_is_what_waits_up_to_its_limit_and_a_large_batch_goes_alone() {
    let mut gathering = gathering([0]);
    for numbers in [1..3, 3..5, 5..6] {
        assert!(matches!(
            gathering.hand_over(batch(0, numbers)),
            HandedOver::Waiting(1..)
        ));
    }
    let _waiting = gathering.hand_over(batch(0, 6..20));
    let mut taken = || gathering.take().map(|taken| numbers(taken.group()));
    assert_eq!(taken(), Some((1..5).collect()));
    assert_eq!(taken(), Some(vec![5]));
    assert_eq!(taken(), Some((6..20).collect()));
    assert_eq!(taken(), None);
}

#[test]
fn a_flush_waits_for_what_the_hub_handed_over_before_it_and_for_nothing_else() {
    let mut gathering = gathering([0, 1]);
    let _waiting = gathering.hand_over(batch(0, 1..2));
    let upto = gathering.next_ticket();
    // Another hub's, and one of the same hub behind the flush.
    let _waiting = gathering.hand_over(batch(1, 1..2));
    let _waiting = gathering.hand_over(batch(0, 2..9));
    assert!(!gathering.is_flushed(0, upto), "it is not taken yet");
    let taken = gathering.take().unwrap();
    assert_eq!(numbers(taken.group()), [1, 1], "the third has no room beside them");
    assert!(!gathering.is_flushed(0, upto), "its effects are not let go yet");
    gathering.end(taken.tickets());
    assert!(gathering.is_flushed(0, upto));
    assert!(
        !gathering.is_flushed(0, gathering.next_ticket()),
        "a later flush waits for more"
    );
}

#[test]
fn after_a_failed_group_batches_are_turned_away_until_they_are_accepted_again() {
    let mut gathering = gathering([0, 1]);
    let _waiting = gathering.hand_over(batch(0, 1..2));
    assert_eq!(gathering.discard([0]).len(), 1);
    assert!(
        gathering.is_flushed(0, u64::MAX),
        "what is thrown away is not waited for"
    );
    match gathering.hand_over(batch(0, 2..4)) {
        HandedOver::TurnedAway(callers) => assert_eq!(callers, [2, 3]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(gathering.hand_over(batch(1, 1..2)), HandedOver::Waiting(_)));
    gathering.accept(0);
    assert!(matches!(gathering.hand_over(batch(0, 1..2)), HandedOver::Waiting(_)));
    gathering.leave(0);
    assert!(matches!(gathering.hand_over(batch(0, 2..3)), HandedOver::Closed));
}

#[test]
fn a_caller_whose_commit_was_handed_over_before_is_not_told_that_nothing_came_of_it() {
    let mut batch = batch(0, 5..6);
    let at = At {
        hub: 0,
        partition: 0,
        seq: Seq(4),
    };
    batch.hold(Release::Reply(4, Reply::Done, at));
    assert_eq!(batch.turn_away(), [5]);
}

#[test]
fn effects_go_another_way_while_groups_queue_up() {
    let mut gathering = gathering([0]);
    assert_eq!(gathering.begin_release(), ReleaseOn::Here);
    assert_eq!(gathering.begin_release(), ReleaseOn::OtherThread, "behind the first");
    gathering.end_release();
    gathering.end_release();
    let _waiting = gathering.hand_over(batch(0, 1..2));
    assert_eq!(gathering.begin_release(), ReleaseOn::OtherThread, "a group waits");
}

#[test]
fn a_refused_commit_is_found_by_halves_and_those_before_it_become_durable() {
    for refused in 1..=100 {
        let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
        let _waiting = gathering.hand_over(batch(0, 1..101));
        let _waiting = gathering.hand_over(batch(0, 101..103));
        let next = begin(&mut gathering, &mut ledger);
        let (ended, offered) = offer(next, &mut ledger, &BTreeSet::from([refused]), Extent::Rows);
        let failure = ended.unwrap_err();
        assert!(offered.len() <= 16, "{} offers for 100 commits", offered.len());
        assert_eq!(offered.last().unwrap(), &[refused], "it is refused alone");
        let (hub, broken) = failure.blamed.clone().unwrap();
        assert_eq!((hub, broken.by), (0, BrokenBy::Running));
        assert_eq!(broken.instance.unwrap().as_str(), format!("i{refused}"));
        assert!(!failure.is_hopeless);
        let told = told(failure, &mut gathering, &mut ledger);
        let wanted = (1..103).map(|caller| {
            let word = match caller {
                _ if caller < refused => "answered",
                _ if caller == refused => "store-corrupt",
                _ => "displaced",
            };
            (caller, word.to_owned())
        });
        assert_eq!(told, wanted.collect::<Vec<_>>(), "commit {refused} was refused");
    }
}

#[test]
fn a_store_that_takes_each_part_of_what_it_refused_leaves_nothing_undone() {
    let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
    let _waiting = gathering.hand_over(batch(0, 1..4));
    let writing = offered(begin(&mut gathering, &mut ledger));
    let next = writing.answered(Err(damaged(Extent::Rows)), &mut ledger, Duration::ZERO, false);
    let (ended, offered) = offer(next, &mut ledger, &BTreeSet::new(), Extent::Rows);
    assert_eq!(offered.concat(), [1, 2, 3]);
    let failure = ended.unwrap_err();
    assert!(failure.blamed.is_none());
    let told = told(failure, &mut gathering, &mut ledger);
    assert!(told.iter().all(|(_, word)| word == "answered"), "{told:?}");
    assert_eq!(told.len(), 3);
}

#[test]
fn an_instance_that_cannot_be_made_or_eight_that_cannot_be_changed_mean_that_nothing_can_be_written() {
    let mut ledger = Ledger::default();
    for attempt in 1..=8 {
        let mut gathering = gathering([0]);
        let _waiting = gathering.hand_over(batch(0, 1..2));
        let next = begin(&mut gathering, &mut ledger);
        let (ended, _) = offer(next, &mut ledger, &BTreeSet::from([1]), Extent::Pages);
        let failure = ended.unwrap_err();
        assert_eq!(failure.is_hopeless, attempt == 8, "attempt {attempt}");
        assert_eq!(failure.blamed.unwrap().1.by, BrokenBy::Writing);
    }
    // One that is taken shows that not everything is refused.
    let mut gathering = gathering([0]);
    let _waiting = gathering.hand_over(batch(0, 1..2));
    let next = begin(&mut gathering, &mut ledger);
    assert!(offer(next, &mut ledger, &BTreeSet::new(), Extent::Pages).0.is_ok());
    let _waiting = gathering.hand_over(batch(0, 2..3));
    let next = begin(&mut gathering, &mut ledger);
    let (ended, _) = offer(next, &mut ledger, &BTreeSet::from([2]), Extent::Pages);
    assert!(!ended.unwrap_err().is_hopeless);
}

#[test]
fn what_cannot_be_known_is_not_tried_again() {
    let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
    let _waiting = gathering.hand_over(batch(0, 1..3));
    let writing = offered(begin(&mut gathering, &mut ledger));
    let unknown = Error::Unknown {
        source: "nobody knows".into(),
    };
    let next = writing.answered(Err(unknown), &mut ledger, Duration::ZERO, false);
    let failure = failed(next);
    assert_eq!(told(failure, &mut gathering, &mut ledger), []);
}

#[test]
fn an_instance_that_cannot_be_made_means_that_nothing_can_be_and_is_nobodys_fault() {
    let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
    let mut made = Batch::new(0);
    made.push(&partition(0), Epoch(1), Seq(1), created());
    let _waiting = gathering.hand_over(made);
    let next = begin(&mut gathering, &mut ledger);
    let (ended, _) = offer(next, &mut ledger, &BTreeSet::from([1]), Extent::Pages);
    let failure = ended.unwrap_err();
    assert!(failure.is_hopeless && failure.blamed.is_none(), "{failure:?}");
}

#[test]
fn hubs_with_the_same_numbers_are_told_apart() {
    let (mut gathering, mut ledger) = (gathering([0, 1, 2]), Ledger::default());
    for (hub, seq) in [(0, 7), (1, 3), (2, 5)] {
        let _waiting = gathering.hand_over(batch(hub, [seq]));
    }
    let next = begin(&mut gathering, &mut ledger);
    // Not in the group: a hub that nothing was written of yet.
    let mut behind = batch(0, 8..9);
    let at = At {
        hub: 0,
        partition: 0,
        seq: Seq(7),
    };
    behind.hold(Release::Reply(70, Reply::Done, at));
    let _waiting = gathering.hand_over(behind);
    let (ended, _) = offer(next, &mut ledger, &BTreeSet::from([3]), Extent::Rows);
    let failure = ended.unwrap_err();
    assert_eq!(failure.blamed.as_ref().map(|(hub, _)| *hub), Some(1));
    let wanted = [
        (7, "answered"),
        (3, "store-corrupt"),
        (5, "displaced"),
        (8, "displaced"),
        (70, "answered"),
    ];
    let wanted = wanted.map(|(caller, word)| (caller, word.to_owned()));
    assert_eq!(told(failure, &mut gathering, &mut ledger), wanted);
}

#[test]
fn callers_of_partitions_that_are_new_to_the_commit_loop_hear_what_became_of_theirs() {
    let (mut gathering, mut ledger) = (gathering([0, 1]), Ledger::default());
    let _waiting = gathering.hand_over(batch(0, 1..2));
    let writing = offered(begin(&mut gathering, &mut ledger));
    let _waiting = gathering.hand_over(batch(1, 9..10));
    let next = writing.answered(Err(Error::Full), &mut ledger, Duration::ZERO, true);
    let failure = failed(next);
    let full = |caller: u64| (caller, "store-full".to_owned());
    assert_eq!(told(failure, &mut gathering, &mut ledger), [full(1), full(9)]);
}

#[test]
fn a_full_store_is_offered_the_same_for_a_second_and_its_callers_hear_that_there_is_no_room() {
    let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
    let _waiting = gathering.hand_over(batch(0, 1..3));
    let mut next = begin(&mut gathering, &mut ledger);
    let _waiting = gathering.hand_over(batch(0, 3..4));
    let mut now = Duration::ZERO;
    let failure = loop {
        match next {
            Next::Offer(writing, pause) => {
                now += pause;
                assert_eq!(numbers(writing.offered()), [1, 2]);
                next = writing.answered(Err(Error::Full), &mut ledger, now, false);
            }
            Next::Failed(failure) => break failure,
            Next::Durable(_) => panic!("nobody took it"),
        }
    };
    assert_eq!(now, Duration::from_secs(1));
    let full = |caller: u64| (caller, "store-full".to_owned());
    assert_eq!(told(failure, &mut gathering, &mut ledger), [full(1), full(2), full(3)]);
}

#[test]
fn partitions_that_were_claimed_without_room_do_not_wait_for_any() {
    let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
    let _waiting = gathering.hand_over(batch(0, 1..3));
    let writing = offered(begin(&mut gathering, &mut ledger));
    let next = writing.answered(Err(Error::Full), &mut ledger, Duration::ZERO, true);
    assert!(matches!(next, Next::Failed(_)));
}

#[test]
fn a_store_out_of_reach_is_tried_for_half_a_minute_and_then_nobody_knows_but_those_behind() {
    let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
    let _waiting = gathering.hand_over(batch(0, 1..3));
    let mut next = begin(&mut gathering, &mut ledger);
    let _waiting = gathering.hand_over(batch(0, 3..4));
    let mut now = Duration::ZERO;
    let failure = loop {
        match next {
            Next::Offer(writing, pause) => {
                assert_eq!(writing.has_waited(), now > Duration::ZERO || pause > Duration::ZERO);
                now += pause;
                next = writing.answered(Err(unreachable()), &mut ledger, now, false);
            }
            Next::Failed(failure) => break failure,
            Next::Durable(_) => panic!("nobody took it"),
        }
    };
    assert_eq!(now, Duration::from_secs(30));
    let told = told(failure, &mut gathering, &mut ledger);
    assert_eq!(told, [(3, "displaced".to_owned())], "1 and 2 may be durable");
}

#[test]
fn room_that_ends_in_a_search_leaves_what_was_found_durable_answered() {
    let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
    let _waiting = gathering.hand_over(batch(0, 1..5));
    let writing = offered(begin(&mut gathering, &mut ledger));
    let next = writing.answered(Err(damaged(Extent::Rows)), &mut ledger, Duration::ZERO, false);
    let half = offered(next);
    assert_eq!(numbers(half.offered()), [1, 2]);
    let next = half.answered(Ok(()), &mut ledger, Duration::ZERO, false);
    let rest = offered(next);
    let next = rest.answered(Err(Error::Full), &mut ledger, Duration::ZERO, true);
    let failure = failed(next);
    let words: Vec<String> = told(failure, &mut gathering, &mut ledger)
        .into_iter()
        .map(|(_, word)| word)
        .collect();
    assert_eq!(words, ["answered", "answered", "store-full", "store-full"]);
}

#[test]
fn effects_alone_need_no_store() {
    let (mut gathering, mut ledger) = (gathering([0]), Ledger::default());
    let mut batch = Batch::new(0);
    let at = At {
        hub: 0,
        partition: 0,
        seq: Seq(1),
    };
    batch.hold(Release::Reply(1, Reply::Done, at));
    let _waiting = gathering.hand_over(batch);
    let next = begin(&mut gathering, &mut ledger);
    let Next::Durable(written) = next else {
        panic!("{next:?}")
    };
    assert_eq!(written.releases.len(), 1);
    assert!(written.upto.is_empty());
}
