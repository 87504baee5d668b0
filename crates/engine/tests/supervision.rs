//! The supervision of a hub alone: what it orders, one thing after the other.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::time::Duration;

use taskhub_core::id::{Epoch, HubName, InstanceId};
use taskhub_engine::supervision::{
    Broken, BrokenBy, Happening, Order, Scope, Service, Supervision, Surroundings, Unclaimed,
};
use taskhub_store::{Lease, PartitionKey, Previous, partition_of};

const PARTITIONS: u16 = 3;

struct Bench {
    supervision: Supervision,
    around: Surroundings,
    previous: Previous,
}

fn leases(indexes: &[u16], previous: Previous) -> Vec<Lease> {
    let lease = |index: &u16| Lease {
        partition: PartitionKey {
            hub: HubName::new("TestHub").unwrap(),
            index: *index,
        },
        epoch: Epoch(1),
        previous,
    };
    indexes.iter().map(lease).collect()
}

impl Bench {
    /// A hub whose partitions were all served.
    fn serving(around: Surroundings) -> (Self, Vec<Service>) {
        let (supervision, first) = Supervision::new(PARTITIONS, around);
        let mut bench = Self {
            supervision,
            around,
            previous: Previous::Other,
        };
        assert_eq!(first, Order::Claim(vec![0, 1, 2]));
        let served = bench.claimed(&[0, 1, 2]);
        bench.previous = Previous::ThisNode;
        (bench, served)
    }

    fn tell(&mut self, happened: Happening) -> Option<Order> {
        self.supervision.step(happened, self.around)
    }

    /// The claim that was ordered succeeds, and what it gives is read.
    fn claimed(&mut self, indexes: &[u16]) -> Vec<Service> {
        let leases = leases(indexes, self.previous);
        let read = self.tell(Happening::Claimed(Ok(leases.clone())));
        assert_eq!(read, Some(Order::Read(leases)));
        match self.tell(Happening::Read(Ok(()))) {
            Some(Order::Serve(services)) => services,
            other => panic!("{other:?}"),
        }
    }

    /// Time passes until something is to be done.
    fn wake(&mut self) -> Option<Order> {
        self.around.now = self.around.now.max(self.supervision.wakes_at()?);
        self.tell(Happening::Time)
    }

    /// What was ordered to be dropped is read anew.
    fn read_anew(&mut self, dropped: Option<Order>, expected: &Scope) -> Vec<Service> {
        match dropped {
            Some(Order::Drop(scope)) => assert_eq!(scope, *expected),
            other => panic!("{other:?}"),
        }
        let accepts = *expected == Scope::All;
        assert_eq!(self.tell(Happening::Dropped), Some(Order::Flush { accepts }));
        let wanted = expected.of(PARTITIONS);
        assert_eq!(self.tell(Happening::Flushed), Some(Order::Claim(wanted.clone())));
        self.claimed(&wanted)
    }

    fn breaks(&mut self, instance: &InstanceId, by: BrokenBy) -> Vec<Service> {
        let broken = Broken {
            instance: Some(instance.clone()),
            what: "it broke".to_owned(),
            by,
        };
        assert_eq!(self.tell(Happening::Broke(broken)), None);
        let scope = Scope::one(partition_of(instance, PARTITIONS));
        let ordered = self.tell(Happening::Lost(scope.clone()));
        let ordered = ordered.or_else(|| self.wake());
        self.read_anew(ordered, &scope)
    }
}

fn full() -> Surroundings {
    Surroundings {
        is_full: true,
        ..Surroundings::default()
    }
}

#[test]
fn what_an_unclean_owner_left_may_be_running_until_it_is_served() {
    let (mut bench, first) = Bench::serving(Surroundings::default());
    assert!(first.iter().all(|service| service.may_be_running && !service.is_idle));
    let lost = bench.tell(Happening::Lost(Scope::All));
    let again = bench.read_anew(lost, &Scope::All);
    assert!(again.iter().all(|service| !service.may_be_running));
}

#[test]
fn one_partition_is_read_anew_and_the_others_are_not_touched() {
    let (mut bench, _) = Bench::serving(Surroundings::default());
    let lost = bench.tell(Happening::Lost(Scope::one(1)));
    let served = bench.read_anew(lost, &Scope::one(1));
    assert_eq!(served.iter().map(|service| service.index).collect::<Vec<_>>(), [1]);
    assert_eq!(bench.wake(), None);
}

#[test]
fn what_is_lost_while_partitions_are_read_is_read_anew_next() {
    let (mut bench, _) = Bench::serving(Surroundings::default());
    assert_eq!(
        bench.tell(Happening::Lost(Scope::one(0))),
        Some(Order::Drop(Scope::one(0)))
    );
    assert_eq!(bench.tell(Happening::Lost(Scope::one(2))), None, "one thing at a time");
    assert_eq!(bench.tell(Happening::Dropped), Some(Order::Flush { accepts: false }));
    assert_eq!(bench.tell(Happening::Lost(Scope::one(0))), None);
    assert_eq!(bench.tell(Happening::Flushed), Some(Order::Claim(vec![0])));
    bench.claimed(&[0]);
    let next = bench.wake();
    bench.read_anew(next, &Scope::Some([0, 2].into()));
    assert_eq!(bench.wake(), None);
}

#[test]
fn an_instance_that_breaks_is_set_aside_and_then_not_touched_any_more() {
    let (mut bench, _) = Bench::serving(Surroundings::default());
    let instance = InstanceId::new("bad").unwrap();
    let reason = |all: &[(InstanceId, String)]| all.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let served = bench.breaks(&instance, BrokenBy::Running);
    assert_eq!(reason(&served[0].set_aside), std::slice::from_ref(&instance));
    assert!(served[0].out_of_service.is_empty());
    let served = bench.breaks(&instance, BrokenBy::Running);
    assert!(served[0].set_aside.is_empty());
    assert_eq!(reason(&served[0].out_of_service), std::slice::from_ref(&instance));
    let unwritable = InstanceId::new("unwritable").unwrap();
    let served = bench.breaks(&unwritable, BrokenBy::Writing);
    assert!(reason(&served[0].out_of_service).contains(&unwritable), "at once");
}

#[test]
fn assertions_that_break_one_after_the_other_make_it_pause_and_groups_that_fail_do_too() {
    let (mut bench, _) = Bench::serving(Surroundings::default());
    let pause = |bench: &mut Bench| {
        let began = bench.around.now;
        bench.breaks(&InstanceId::new("bad").unwrap(), BrokenBy::Running);
        bench.around.now.saturating_sub(began)
    };
    let pauses: Vec<Duration> = (0..3).map(|_| pause(&mut bench)).collect();
    assert_eq!(pauses, [1, 2, 3].map(|count| Duration::from_millis(100 * count)));
    bench.around.now += Duration::from_mins(2);
    assert_eq!(pause(&mut bench), Duration::from_millis(100), "that is long ago");
    bench.around.failed_groups = 4;
    assert_eq!(bench.tell(Happening::Lost(Scope::All)), None);
    assert_eq!(
        bench.supervision.wakes_at(),
        Some(bench.around.now + Duration::from_millis(300))
    );
}

#[test]
fn on_a_full_store_all_are_idle_until_a_look_finds_room() {
    let (mut bench, served) = Bench::serving(full());
    assert!(served.iter().all(|service| service.is_idle));
    let began = bench.around.now;
    assert_eq!(bench.wake(), Some(Order::Probe));
    assert_eq!(bench.around.now.saturating_sub(began), Duration::from_secs(1));
    assert_eq!(bench.tell(Happening::Room(false)), None);
    bench.around.is_purging = true;
    assert_eq!(bench.wake(), None, "a purge may need the room");
    bench.around.is_purging = false;
    assert_eq!(bench.wake(), Some(Order::Probe));
    bench.around.is_full = false;
    let dropped = bench.tell(Happening::Room(true));
    let served = bench.read_anew(dropped, &Scope::All);
    assert!(
        served.iter().all(|service| !service.is_idle && service.may_be_running),
        "nothing of what was left was begun before"
    );
    assert_eq!(bench.wake(), None);
}

#[test]
fn a_partition_is_not_read_anew_alone_while_there_is_no_room() {
    let (mut bench, _) = Bench::serving(Surroundings::default());
    bench.around.is_full = true;
    let dropped = bench.tell(Happening::Lost(Scope::one(0)));
    let served = bench.read_anew(dropped, &Scope::All);
    assert!(served.iter().all(|service| service.is_idle));
}

#[test]
fn claims_that_fail_are_tried_again_ever_more_rarely_and_a_deleted_hub_ends() {
    let (mut bench, _) = Bench::serving(Surroundings::default());
    bench.tell(Happening::Lost(Scope::All));
    bench.tell(Happening::Dropped);
    assert_eq!(bench.tell(Happening::Flushed), Some(Order::Claim(vec![0, 1, 2])));
    for count in 1..60_u32 {
        let began = bench.around.now;
        assert_eq!(bench.tell(Happening::Claimed(Err(Unclaimed::Later))), None);
        assert_eq!(bench.wake(), Some(Order::Claim(vec![0, 1, 2])));
        assert_eq!(
            bench.around.now.saturating_sub(began),
            Duration::from_millis(100) * count.min(50)
        );
    }
    assert_eq!(bench.tell(Happening::Claimed(Err(Unclaimed::Gone))), Some(Order::Close));
    assert_eq!(bench.tell(Happening::Lost(Scope::All)), None);
    assert_eq!(bench.supervision.wakes_at(), None);
}

#[test]
fn an_end_waits_until_what_is_read_is_served_and_not_for_what_fails_again_and_again() {
    let (mut bench, _) = Bench::serving(Surroundings::default());
    bench.tell(Happening::Lost(Scope::All));
    assert_eq!(bench.tell(Happening::Drain), None, "partitions are half read");
    bench.tell(Happening::Dropped);
    bench.tell(Happening::Flushed);
    bench.tell(Happening::Lost(Scope::All));
    bench.claimed(&[0, 1, 2]);
    assert_eq!(bench.wake(), Some(Order::GiveBack));
    assert_eq!(bench.wake(), None);

    let (mut bench, _) = Bench::serving(Surroundings::default());
    bench.tell(Happening::Lost(Scope::All));
    bench.tell(Happening::Dropped);
    bench.tell(Happening::Flushed);
    bench.tell(Happening::Claimed(Err(Unclaimed::Later)));
    assert_eq!(bench.tell(Happening::Drain), Some(Order::GiveBack));
}
