//! The dispatcher alone: fairness, limits, redelivery, reloads.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use taskhub_core::event::Tags;
use taskhub_core::failure;
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{HubName, InstanceId, InstanceNumber, Name, Occurrence};
use taskhub_core::limits::DELIVERIES_MAX;
use taskhub_core::message::Outcome;
use taskhub_engine::dispatcher::{Capacity, Dispatcher, Event, Order};
use taskhub_engine::io::TaskOffer;
use taskhub_engine::worker::TaskKey;
use taskhub_store::PartitionKey;

fn partition() -> PartitionKey {
    PartitionKey {
        hub: HubName::new("TestHub").unwrap(),
        index: 0,
    }
}

fn key(instance: &str, occurrence: u64) -> TaskKey {
    TaskKey {
        partition: partition(),
        number: InstanceNumber(1),
        occurrence: Occurrence(occurrence),
        instance: InstanceId::new(instance).unwrap(),
    }
}

fn offer(instance: &str, occurrence: u64, name: &str) -> TaskOffer {
    TaskOffer {
        key: key(instance, occurrence),
        event_id: 0,
        name: Name::new(name).unwrap(),
        version: None,
        input: None,
        tags: Tags::new(),
        deliveries: 0,
        may_be_running: false,
    }
}

struct Bench {
    dispatcher: Dispatcher,
    orders: Vec<Order>,
}

impl Bench {
    fn new(overall: usize, by_name: &[(&str, usize)]) -> Self {
        let by_name = by_name
            .iter()
            .map(|(name, limit)| (FoldedName::new(Name::new(name).unwrap()), *limit))
            .collect();
        Self {
            dispatcher: Dispatcher::new(Capacity { overall, by_name }),
            orders: Vec::new(),
        }
    }

    fn tell(&mut self, event: Event) -> Vec<String> {
        self.dispatcher.step(event, &mut self.orders);
        let shown = std::mem::take(&mut self.orders).into_iter().map(|order| match order {
            Order::Run { call, token } => {
                format!(
                    "run {}#{} delivery {} token {token}",
                    call.key.instance, call.key.occurrence, call.delivery
                )
            }
            Order::Result {
                key,
                outcome: Outcome::Completed(_),
            } => format!("result {}#{}", key.instance, key.occurrence),
            Order::Result {
                key,
                outcome: Outcome::Failed(failure),
            } => {
                format!("failure {}#{} {}", key.instance, key.occurrence, failure.error_type)
            }
            Order::Redeliver { key, deliveries } => {
                format!("redeliver {}#{} {deliveries}", key.instance, key.occurrence)
            }
        });
        shown.collect()
    }

    fn done(&mut self, key: TaskKey, token: u64) -> Vec<String> {
        self.tell(Event::Done {
            key,
            token,
            outcome: Outcome::Completed(None),
        })
    }
}

#[test]
fn s_fanout_fair() {
    let mut bench = Bench::new(1, &[]);
    assert_eq!(
        bench.tell(Event::Offer(offer("big", 0, "A"))),
        ["run big#0 delivery 1 token 0"]
    );
    for occurrence in 1..100 {
        assert!(bench.tell(Event::Offer(offer("big", occurrence, "A"))).is_empty());
    }
    assert!(bench.tell(Event::Offer(offer("small", 0, "A"))).is_empty());
    assert_eq!(
        bench.done(key("big", 0), 0),
        ["result big#0", "run big#1 delivery 1 token 1"]
    );
    assert_eq!(
        bench.done(key("big", 1), 1),
        ["result big#1", "run small#0 delivery 1 token 2"]
    );
}

#[test]
fn a_name_at_its_limit_does_not_hold_up_others() {
    let mut bench = Bench::new(10, &[("Slow", 1)]);
    assert_eq!(bench.tell(Event::Offer(offer("i", 0, "Slow"))).len(), 1);
    assert!(bench.tell(Event::Offer(offer("i", 1, "Slow"))).is_empty());
    assert_eq!(
        bench.tell(Event::Offer(offer("i", 2, "Quick"))),
        ["run i#2 delivery 1 token 1"]
    );
    assert_eq!(bench.done(key("i", 0), 0), ["result i#0", "run i#1 delivery 1 token 2"]);
}

#[test]
fn other_limits_hold_for_what_is_handed_out_from_then_on() {
    let mut bench = Bench::new(10, &[("Slow", 2)]);
    for occurrence in 0..5 {
        bench.tell(Event::Offer(offer("i", occurrence, "Slow")));
    }
    let by_name = [(FoldedName::new(Name::new("Slow").unwrap()), 1)].into();
    bench.dispatcher.set_capacity(Capacity { overall: 10, by_name });
    assert_eq!(bench.done(key("i", 0), 0), ["result i#0"]);
    assert_eq!(bench.done(key("i", 1), 1), ["result i#1", "run i#2 delivery 1 token 2"]);
    let (overall, by_name) = (10, [].into());
    bench.dispatcher.set_capacity(Capacity { overall, by_name });
    assert_eq!(bench.done(key("i", 2), 2).len(), 3, "both that wait");
}

#[test]
fn s_stale_token() {
    let mut bench = Bench::new(10, &[]);
    bench.tell(Event::Offer(offer("i", 0, "A")));
    assert!(bench.done(key("i", 0), 7).is_empty(), "an old token has no effect");
    assert_eq!(bench.done(key("i", 0), 0), ["result i#0"]);
    assert!(bench.done(key("i", 0), 0).is_empty(), "an answer counts once");
}

#[test]
fn a_result_is_told_again_until_it_is_durable() {
    let mut bench = Bench::new(10, &[]);
    bench.tell(Event::Offer(offer("i", 0, "A")));
    bench.done(key("i", 0), 0);
    // The partition lost its memory before the result was durable, and announces the call as still open.
    bench.tell(Event::Reset(partition()));
    assert_eq!(bench.tell(Event::Offer(offer("i", 0, "A"))), ["result i#0"]);
    bench.tell(Event::Announced(partition()));
    bench.tell(Event::Settled(key("i", 0)));
    assert!(bench.dispatcher.is_empty());
}

#[test]
fn what_runs_goes_on_over_a_reload_and_what_is_not_named_again_is_forgotten() {
    let mut bench = Bench::new(1, &[]);
    bench.tell(Event::Offer(offer("i", 0, "A")));
    bench.tell(Event::Offer(offer("i", 1, "A")));
    bench.tell(Event::Reset(partition()));
    assert!(bench.tell(Event::Offer(offer("i", 0, "A"))).is_empty());
    bench.tell(Event::Announced(partition()));
    assert_eq!(bench.done(key("i", 0), 0), ["result i#0"]);
    bench.tell(Event::Settled(key("i", 0)));
    assert!(bench.dispatcher.is_empty(), "the second call was not named again");
}

#[test]
fn a_withdrawn_call_is_cancelled_and_its_result_dropped() {
    let mut bench = Bench::new(1, &[]);
    bench.tell(Event::Offer(offer("i", 0, "A")));
    bench.tell(Event::Offer(offer("j", 0, "A")));
    assert!(
        bench.tell(Event::Withdraw(key("i", 0))).is_empty(),
        "its place is free when it ends"
    );
    assert_eq!(bench.done(key("i", 0), 0), ["run j#0 delivery 1 token 1"]);
}

#[test]
fn a_call_that_its_worker_cancels_has_a_result_all_the_same() {
    let mut bench = Bench::new(1, &[]);
    bench
        .dispatcher
        .step(Event::Offer(offer("i", 0, "A")), &mut bench.orders);
    let Some(Order::Run { call, token }) = bench.orders.pop() else {
        panic!("it runs at once")
    };
    // What a start-to-close time-out does.
    call.cancellation.cancel();
    assert_eq!(bench.done(call.key, token), ["result i#0"]);
}

#[test]
fn what_is_cancelled_at_the_end_of_a_stop_has_no_result() {
    let mut bench = Bench::new(1, &[]);
    bench.tell(Event::Offer(offer("i", 0, "A")));
    bench.tell(Event::Drain);
    bench.dispatcher.cancel_all();
    assert!(bench.done(key("i", 0), 0).is_empty());
}

#[test]
fn a_call_that_may_be_running_elsewhere_is_put_down_before_it_is_handed_out() {
    let mut bench = Bench::new(1, &[]);
    let recovered = TaskOffer {
        may_be_running: true,
        deliveries: 1,
        ..offer("i", 0, "A")
    };
    assert_eq!(bench.tell(Event::Offer(recovered)), ["redeliver i#0 2"]);
    let again = TaskOffer {
        deliveries: 2,
        ..offer("i", 0, "A")
    };
    assert_eq!(bench.tell(Event::Offer(again)), ["run i#0 delivery 3 token 0"]);
}

#[test]
fn a_redelivery_that_was_not_put_down_before_a_reload_is_put_down_after_it() {
    let mut bench = Bench::new(1, &[]);
    let recovered = TaskOffer {
        may_be_running: true,
        ..offer("i", 0, "A")
    };
    assert_eq!(bench.tell(Event::Offer(recovered)), ["redeliver i#0 1"]);
    bench.tell(Event::Reset(partition()));
    // After the first recovery of a process nothing may be running elsewhere, but this call was.
    assert_eq!(bench.tell(Event::Offer(offer("i", 0, "A"))), ["redeliver i#0 1"]);
    let put_down = TaskOffer {
        deliveries: 1,
        ..offer("i", 0, "A")
    };
    assert_eq!(bench.tell(Event::Offer(put_down)), ["run i#0 delivery 2 token 0"]);
}

#[test]
fn a_call_that_waits_for_its_place_is_not_counted_as_lost() {
    let mut bench = Bench::new(1, &[]);
    let recovered = |instance| TaskOffer {
        may_be_running: true,
        ..offer(instance, 0, "A")
    };
    let put_down = |instance| TaskOffer {
        deliveries: 1,
        ..offer(instance, 0, "A")
    };
    assert_eq!(bench.tell(Event::Offer(recovered("i"))), ["redeliver i#0 1"]);
    assert!(
        bench.tell(Event::Offer(recovered("j"))).is_empty(),
        "there is one place"
    );
    assert_eq!(bench.tell(Event::Offer(put_down("i"))), ["run i#0 delivery 2 token 0"]);
    let done = bench.done(key("i", 0), 0);
    assert_eq!(done, ["result i#0", "redeliver j#0 1"]);
    // Nobody wants it any more, so its place is free.
    assert!(bench.tell(Event::Withdraw(key("j", 0))).is_empty());
    assert_eq!(bench.dispatcher.running(), 0);
}

#[test]
fn what_is_put_down_while_draining_is_not_handed_out() {
    let mut bench = Bench::new(1, &[]);
    let recovered = TaskOffer {
        may_be_running: true,
        ..offer("i", 0, "A")
    };
    assert_eq!(bench.tell(Event::Offer(recovered)), ["redeliver i#0 1"]);
    bench.tell(Event::Drain);
    let put_down = TaskOffer {
        deliveries: 1,
        ..offer("i", 0, "A")
    };
    assert!(bench.tell(Event::Offer(put_down)).is_empty());
    assert_eq!(bench.dispatcher.running(), 0);
}

#[test]
fn s_poison_activity() {
    let mut bench = Bench::new(1, &[]);
    let recovered = TaskOffer {
        may_be_running: true,
        deliveries: DELIVERIES_MAX - 1,
        ..offer("i", 0, "A")
    };
    assert_eq!(
        bench.tell(Event::Offer(recovered)),
        [format!("failure i#0 {}", failure::POISON)]
    );
}

#[test]
fn nothing_is_handed_out_while_draining() {
    let mut bench = Bench::new(1, &[]);
    bench.tell(Event::Offer(offer("i", 0, "A")));
    bench.tell(Event::Offer(offer("i", 1, "A")));
    bench.tell(Event::Drain);
    assert_eq!(bench.done(key("i", 0), 0), ["result i#0"]);
    assert_eq!(bench.dispatcher.running(), 0);
}

#[test]
fn calls_of_functions_that_the_node_does_not_have_wait_and_nothing_is_counted_for_them() {
    let mut bench = Bench::new(10, &[]);
    let ours = std::collections::BTreeSet::from([FoldedName::new(Name::new("Ours").unwrap())]);
    let capacity = Capacity {
        overall: 10,
        ..Capacity::default()
    };
    bench.dispatcher = Dispatcher::new(capacity).offering(Some(ours));
    let lost = TaskOffer {
        deliveries: taskhub_core::limits::DELIVERIES_MAX,
        may_be_running: true,
        ..offer("i", 0, "Theirs")
    };
    assert!(bench.tell(Event::Offer(lost)).is_empty());
    assert_eq!(bench.tell(Event::Offer(offer("i", 1, "Ours"))).len(), 1);
    assert_eq!(bench.tell(Event::Offer(offer("i", 2, "oURS"))).len(), 1);
    assert_eq!(bench.dispatcher.len(), 3);
}

/// Orchestrators may call functions by names that they make up.
#[test]
fn a_name_that_has_nothing_left_is_forgotten() {
    let mut bench = Bench::new(10, &[]);
    let names = (0..100).map(|number| format!("Step{number}"));
    for (token, name) in (0..).zip(names) {
        assert_eq!(bench.tell(Event::Offer(offer("a", token, &name))).len(), 1);
        assert_eq!(bench.done(key("a", token), token).len(), 1);
        assert!(bench.tell(Event::Settled(key("a", token))).is_empty());
    }
    assert!(bench.dispatcher.is_empty());
    let shown = format!("{:?}", bench.dispatcher).to_lowercase();
    assert!(!shown.contains("step"), "{shown}");
}

#[test]
fn a_call_that_is_not_run_after_all_gives_its_place_back_and_is_offered_anew() {
    let mut bench = Bench::new(1, &[]);
    assert_eq!(
        bench.tell(Event::Offer(offer("a", 0, "A"))),
        ["run a#0 delivery 1 token 0"]
    );
    bench.dispatcher.forgo(&key("a", 0), 1);
    assert_eq!(bench.dispatcher.running(), 1, "another hand-out was meant");
    bench.dispatcher.forgo(&key("a", 0), 0);
    assert_eq!(bench.dispatcher.running(), 0);
    assert!(bench.done(key("a", 0), 0).is_empty());
    assert_eq!(
        bench.tell(Event::Offer(offer("a", 0, "A"))),
        ["run a#0 delivery 1 token 1"]
    );
}
