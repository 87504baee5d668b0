//! External events, timers, and races between them.

use std::time::Duration;

use taskhub::testing::TestHub;
use taskhub::{
    Error, EventKind, First, InstanceId, OrchestrationContext, Registry, Result, RuntimeStatus, join, join_all, select,
};

const HOUR: Duration = Duration::from_hours(1);

fn count(hub: &TestHub, id: &InstanceId, kind: &str) -> usize {
    hub.history(id).iter().filter(|event| event.kind.name() == kind).count()
}

async fn wait_twice(ctx: OrchestrationContext, (): ()) -> Result<Vec<String>> {
    Ok(vec![
        ctx.wait_for_external_event("Go").await?,
        ctx.wait_for_external_event("Go").await?,
    ])
}

#[test]
fn s_event_before_wait() {
    let late = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        ctx.create_timer(HOUR).await;
        Ok(ctx.wait_for_external_event("Go").await?)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Late", late));
    let id = hub.start("Late", ());
    hub.settle();
    hub.raise_event(&id, "Go", "early").unwrap();
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "early");
}

#[test]
fn s_event_before_start() {
    let mut hub = TestHub::new(Registry::new().orchestrator("WaitTwice", wait_twice));
    let id = hub.start("WaitTwice", ());
    hub.raise_event(&id, "Go", "1").unwrap();
    hub.raise_event(&id, "Go", "2").unwrap();
    hub.run();
    assert_eq!(hub.output::<Vec<String>>(&id).unwrap(), ["1", "2"]);
}

#[test]
fn s_event_case() {
    let mut hub = TestHub::new(Registry::new().orchestrator("WaitTwice", wait_twice));
    let id = hub.start("WaitTwice", ());
    hub.settle();
    hub.raise_event(&id, "GO", "1").unwrap();
    hub.settle();
    hub.raise_event(&id, "go", "2").unwrap();
    hub.settle();
    assert_eq!(hub.output::<Vec<String>>(&id).unwrap(), ["1", "2"]);
    let stored = hub.history(&id).iter().find_map(|event| match &event.kind {
        EventKind::EventRaised { name, .. } => Some(name.to_string()),
        _ => None,
    });
    assert_eq!(stored.unwrap(), "GO", "the stored name keeps its case");
}

#[test]
fn events_whose_names_differ_in_case_only_are_one_in_every_script() {
    let wait = async |ctx: OrchestrationContext, name: String| -> Result<u32> {
        Ok(ctx.wait_for_external_event(&name).await?)
    };
    for (waited, raised) in [
        ("ΤΕΛΟΣ", "τελος"),
        ("\u{b5}s", "\u{39c}S"),
        ("ſtop", "STOP"),
        ("\u{212a}", "k"),
        ("Straẞe", "straße"),
        ("ᏸ", "Ᏸ"),
        ("𐐀", "𐐨"),
    ] {
        for (waited, raised) in [(waited, raised), (raised, waited)] {
            let mut hub = TestHub::new(Registry::new().orchestrator("Wait", wait));
            let id = hub.start("Wait", waited);
            hub.settle();
            hub.raise_event(&id, raised, 7).unwrap();
            hub.restart().run();
            assert_eq!(hub.output::<u32>(&id).unwrap(), 7, "{waited} {raised}");
        }
    }
    for (waited, raised) in [("ı", "i"), ("İ", "i"), ("İ", "i\u{307}"), ("ß", "ss")] {
        let mut hub = TestHub::new(Registry::new().orchestrator("Wait", wait));
        let id = hub.start("Wait", waited);
        hub.settle();
        hub.raise_event(&id, raised, 7).unwrap();
        hub.run();
        assert_eq!(hub.status(&id), RuntimeStatus::Running, "{waited} {raised}");
    }
}

#[test]
fn s_event_fifo() {
    let reader = async |ctx: OrchestrationContext, count: usize| -> Result<Vec<usize>> {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(ctx.wait_for_external_event("Item").await?);
        }
        Ok(seen)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Reader", reader));
    let id = hub.start("Reader", 1000);
    for item in 0..1000 {
        hub.raise_event(&id, "Item", item).unwrap();
        if item % 100 == 0 {
            hub.restart().settle();
        }
    }
    hub.run();
    assert_eq!(hub.output::<Vec<usize>>(&id).unwrap(), (0..1000).collect::<Vec<_>>());
}

#[test]
fn s_event_two_waiters() {
    let two = async |ctx: OrchestrationContext, (): ()| -> Result<(String, String)> {
        let (older, newer) = (ctx.wait_for_external_event("Go"), ctx.wait_for_external_event("Go"));
        let (older, newer) = join(older, newer).await;
        Ok((older?, newer?))
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Two", two));
    let id = hub.start("Two", ());
    hub.settle();
    hub.raise_event(&id, "Go", "1").unwrap();
    hub.settle();
    hub.raise_event(&id, "Go", "2").unwrap();
    hub.settle();
    assert_eq!(
        hub.output::<(String, String)>(&id).unwrap(),
        ("1".to_owned(), "2".to_owned())
    );
}

#[test]
fn a_wait_that_was_dropped_takes_no_event() {
    let loser = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        for _ in 0..3 {
            let timer = ctx.create_timer(HOUR);
            if let First::One(event) = select(ctx.wait_for_external_event("Go"), timer).await {
                return Ok(event?);
            }
        }
        Ok("never".to_owned())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Loser", loser));
    let id = hub.start("Loser", ());
    hub.advance(HOUR * 2 + Duration::from_mins(1));
    hub.raise_event(&id, "Go", "at last").unwrap();
    hub.settle();
    assert_eq!(hub.output::<String>(&id).unwrap(), "at last");
}

#[test]
fn s_event_timeout_then_event() {
    let patient = async |ctx: OrchestrationContext, (): ()| -> Result<(Option<u32>, u32)> {
        let first = ctx.wait_for_external_event("Go").timeout(HOUR).await?;
        ctx.create_timer(HOUR).await;
        Ok((first, ctx.wait_for_external_event("Go").await?))
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Patient", patient));
    let id = hub.start("Patient", ());
    hub.advance(HOUR + Duration::from_mins(1));
    hub.raise_event(&id, "Go", 5).unwrap();
    hub.run();
    assert_eq!(hub.output::<(Option<u32>, u32)>(&id).unwrap(), (None, 5));
}

#[test]
fn of_an_event_and_a_time_out_in_one_turn_the_first_in_history_wins() {
    let patient = async |ctx: OrchestrationContext, (): ()| -> Result<Option<u32>> {
        Ok(ctx.wait_for_external_event("Go").timeout(HOUR).await?)
    };
    // Both come while the instance is suspended, so that they arrive in the same turn.
    for (event_is_first, wanted) in [(true, Some(5)), (false, None)] {
        let mut hub = TestHub::new(Registry::new().orchestrator("Patient", patient));
        let id = hub.start("Patient", ());
        hub.settle();
        hub.suspend(&id).unwrap();
        if event_is_first {
            hub.raise_event(&id, "Go", 5).unwrap();
            hub.advance(HOUR * 2);
        } else {
            hub.advance(HOUR * 2);
            hub.raise_event(&id, "Go", 5).unwrap();
        }
        hub.resume(&id).unwrap();
        hub.run();
        assert_eq!(hub.output::<Option<u32>>(&id).unwrap(), wanted);
    }
}

/// The code comes to it when both are there.
#[test]
fn of_an_event_and_a_time_out_that_were_not_awaited_the_first_in_history_wins() {
    let busy = async |ctx: OrchestrationContext, (): ()| -> Result<Option<u32>> {
        let go = ctx.wait_for_external_event("Go").timeout(HOUR);
        ctx.wait_for_external_event::<()>("Next").await?;
        Ok(go.await?)
    };
    for (event_is_first, wanted) in [(true, Some(5)), (false, None)] {
        let mut hub = TestHub::new(Registry::new().orchestrator("Busy", busy));
        let id = hub.start("Busy", ());
        hub.settle();
        if event_is_first {
            hub.raise_event(&id, "Go", 5).unwrap();
            hub.advance(HOUR * 2);
        } else {
            hub.advance(HOUR * 2);
            hub.raise_event(&id, "Go", 5).unwrap();
        }
        hub.raise_event(&id, "Next", ()).unwrap();
        hub.run();
        assert_eq!(hub.output::<Option<u32>>(&id).unwrap(), wanted);
    }
}

#[test]
fn s_timer_cancel() {
    let race = async |ctx: OrchestrationContext, (): ()| -> Result<Option<u32>> {
        let answer = ctx.wait_for_external_event("Go").timeout(HOUR).await?;
        ctx.wait_for_external_event::<()>("End").await?;
        Ok(answer)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Race", race));
    let id = hub.start("Race", ());
    hub.settle();
    assert_eq!(hub.pending_count(), 1);
    hub.raise_event(&id, "Go", 1).unwrap();
    hub.settle();
    assert_eq!(hub.pending_count(), 0, "the timer is gone though the instance lives");
    hub.restart().raise_event(&id, "End", ()).unwrap();
    hub.run();
    assert_eq!(hub.output::<Option<u32>>(&id).unwrap(), Some(1));
    assert_eq!(
        (count(&hub, &id, "TimerCreated"), count(&hub, &id, "TimerFired")),
        (1, 0)
    );
}

#[test]
fn a_timer_dropped_in_the_turn_that_made_it_was_never_asked_for() {
    let fickle = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        drop(ctx.create_timer(HOUR));
        let event = ctx.wait_for_external_event::<u32>("Go").timeout(HOUR).await?;
        assert_eq!(event, Some(1));
        ctx.call_activity::<(), _>("Work", ()).await?;
        Ok(())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Fickle", fickle));
    hub.fake_activity_taking("Work", HOUR, |(): ()| Ok::<_, Error>(()));
    let id = hub.start("Fickle", ());
    hub.raise_event(&id, "Go", 1).unwrap();
    hub.settle();
    assert_eq!(count(&hub, &id, "TimerCreated"), 0);
    hub.restart().run();
    hub.output::<()>(&id).unwrap();
}

#[test]
fn s_timer_left_open() {
    let open = async |ctx: OrchestrationContext, (): ()| -> Result<u8> {
        let _timer = ctx.create_timer(HOUR);
        ctx.create_timer(Duration::from_secs(1)).await;
        Ok(1)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Open", open));
    let before = hub.now();
    assert_eq!(hub.run_orchestrator::<u8, _>("Open", ()).unwrap(), 1);
    assert!(hub.now().since(before) < Duration::from_secs(2));
}

#[test]
fn s_timer_past() {
    let past = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        ctx.create_timer(Duration::ZERO).await;
        ctx.create_timer_at(taskhub::Timestamp::from_micros(0)).await;
        Ok(())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Past", past));
    hub.run_orchestrator::<(), _>("Past", ()).unwrap();
}

#[test]
fn s_timer_year_9999() {
    let eternal = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        ctx.create_timer(Duration::MAX).await;
        Ok(ctx.now().to_string())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Eternal", eternal));
    let id = hub.start("Eternal", ());
    hub.settle();
    let EventKind::TimerCreated { fire_at } = hub.history(&id)[2].kind else {
        panic!()
    };
    assert_eq!(fire_at, taskhub::Timestamp::MAX);
}

#[test]
fn s_virtual_clock() {
    let yearly = async |ctx: OrchestrationContext, (): ()| -> Result<u64> {
        let begun = ctx.now();
        for _ in 0..10 {
            ctx.create_timer(HOUR * 24 * 365).await;
        }
        Ok(ctx.now().since(begun).as_secs() / (24 * 3600))
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Yearly", yearly));
    assert_eq!(hub.run_orchestrator::<u64, _>("Yearly", ()).unwrap(), 3650);
}

#[test]
fn s_timers_in_parallel_chains() {
    let chains = async |ctx: OrchestrationContext, (): ()| -> Result<usize> {
        let chain = |place: u64| {
            let ctx = ctx.clone();
            async move {
                ctx.call_activity::<u64, _>("Work", place).await?;
                ctx.create_timer(Duration::from_secs(place)).await;
                Ok::<_, Error>(ctx.call_activity::<u64, _>("Work", place).await?)
            }
        };
        let ended = join_all((0..10).map(chain)).await;
        Ok(ended.into_iter().flatten().count())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Chains", chains));
    hub.fake_activity("Work", |place: u64| Ok::<_, Error>(place));
    assert_eq!(hub.run_orchestrator::<usize, _>("Chains", ()).unwrap(), 10);
    assert_eq!(hub.call_count("Work"), 20);
}

#[test]
fn s_suspend_cycle() {
    let mut hub = TestHub::new(Registry::new().orchestrator("WaitTwice", wait_twice));
    let id = hub.start("WaitTwice", ());
    hub.settle();
    for cycle in 0..100 {
        hub.suspend(&id).unwrap();
        hub.settle();
        assert_eq!(hub.status(&id), RuntimeStatus::Suspended);
        hub.resume(&id).unwrap();
        if cycle % 10 == 0 {
            hub.restart();
        }
        hub.settle();
        assert_eq!(hub.status(&id), RuntimeStatus::Running);
    }
    assert_eq!(count(&hub, &id, "ExecutionResumed"), 100);
    hub.raise_event(&id, "Go", "1").unwrap();
    hub.raise_event(&id, "Go", "2").unwrap();
    hub.run();
    assert_eq!(hub.output::<Vec<String>>(&id).unwrap(), ["1", "2"]);
}

#[test]
fn s_suspend_event() {
    let mut hub = TestHub::new(Registry::new().orchestrator("WaitTwice", wait_twice));
    let id = hub.start("WaitTwice", ());
    hub.settle();
    hub.suspend(&id).unwrap();
    hub.raise_event(&id, "Go", "1").unwrap();
    hub.raise_event(&id, "Go", "2").unwrap();
    hub.settle();
    assert_eq!(count(&hub, &id, "EventRaised"), 0);
    hub.resume(&id).unwrap();
    hub.settle();
    assert_eq!(hub.output::<Vec<String>>(&id).unwrap(), ["1", "2"]);
}

#[test]
fn s_suspend_no_refire() {
    let worker = async |ctx: OrchestrationContext, (): ()| -> Result<()> { Ok(ctx.call_activity("Work", ()).await?) };
    let mut hub = TestHub::new(Registry::new().orchestrator("Worker", worker));
    hub.fake_activity_taking("Work", HOUR, |(): ()| Ok::<_, Error>(()));
    let id = hub.start("Worker", ());
    hub.settle();
    for _ in 0..5 {
        hub.suspend(&id).unwrap();
        hub.resume(&id).unwrap();
        hub.restart().settle();
    }
    hub.run();
    hub.output::<()>(&id).unwrap();
    assert_eq!(hub.call_count("Work"), 1);
}

async fn adding(ctx: OrchestrationContext, sum: u64) -> Result<u64> {
    let step: u64 = ctx.wait_for_external_event("Add").await?;
    if step == 0 {
        return Ok(sum);
    }
    ctx.continue_as_new(sum + step)
}

#[test]
fn s_can_basic() {
    let mut hub = TestHub::new(Registry::new().orchestrator("Adding", adding));
    let id = hub.start("Adding", 0);
    let first = hub.info(&id).execution;
    for step in [1, 2, 3, 0] {
        hub.raise_event(&id, "Add", step).unwrap();
        hub.settle();
    }
    assert_eq!(hub.output::<u64>(&id).unwrap(), 6);
    assert_ne!(hub.info(&id).execution, first);
    assert_eq!(hub.earlier_histories(&id).len(), 3);
    assert_eq!(hub.history(&id)[1].kind.name(), "ExecutionStarted");
}

#[test]
fn s_can_event_storm() {
    let mut hub = TestHub::new(Registry::new().orchestrator("Adding", adding));
    hub.check_replay(false);
    let id = hub.start("Adding", 0);
    for _ in 0..10_000 {
        hub.raise_event(&id, "Add", 1).unwrap();
    }
    hub.raise_event(&id, "Add", 0).unwrap();
    hub.run();
    assert_eq!(hub.output::<u64>(&id).unwrap(), 10_000);
    assert_eq!(hub.earlier_histories(&id).len(), 10_000);
}

#[test]
fn s_can_no_preserve() {
    let forgetful = async |ctx: OrchestrationContext, is_second: bool| -> Result<String> {
        if is_second {
            return Ok(ctx.wait_for_external_event("Item").await?);
        }
        ctx.wait_for_external_event::<()>("Next").await?;
        ctx.next_execution().drop_unprocessed_events().continue_as_new(true)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Forgetful", forgetful));
    let id = hub.start("Forgetful", false);
    hub.raise_event(&id, "Item", "received, not consumed").unwrap();
    hub.settle();
    hub.raise_event(&id, "Next", ()).unwrap();
    hub.settle();
    assert_eq!(hub.status(&id), RuntimeStatus::Running);
    hub.raise_event(&id, "Item", "later").unwrap();
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "later");
}

#[test]
fn an_event_that_comes_after_the_end_is_kept_even_by_those_who_drop_events() {
    let forgetful = async |ctx: OrchestrationContext, is_second: bool| -> Result<String> {
        if is_second {
            return Ok(ctx.wait_for_external_event("Item").await?);
        }
        ctx.wait_for_external_event::<()>("Next").await?;
        ctx.next_execution().drop_unprocessed_events().continue_as_new(true)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Forgetful", forgetful));
    let id = hub.start("Forgetful", false);
    hub.settle();
    // One turn sees all three, and the code ends at the second.
    hub.raise_event(&id, "Item", "received").unwrap();
    hub.raise_event(&id, "Next", ()).unwrap();
    hub.raise_event(&id, "Item", "never seen").unwrap();
    hub.settle();
    assert_eq!(hub.output::<String>(&id).unwrap(), "never seen");
}

#[test]
fn events_not_consumed_go_along_in_their_order() {
    let collecting = async |ctx: OrchestrationContext, is_second: bool| -> Result<Vec<u32>> {
        if is_second {
            let (b, a) = (
                ctx.wait_for_external_event("B").await?,
                ctx.wait_for_external_event("A").await?,
            );
            return Ok(vec![a, b, ctx.wait_for_external_event("A").await?]);
        }
        let _never_awaited = ctx.wait_for_external_event::<u32>("A");
        ctx.wait_for_external_event::<()>("Next").await?;
        ctx.continue_as_new(true)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Collecting", collecting));
    let id = hub.start("Collecting", false);
    hub.settle();
    for (name, value) in [("A", 1), ("B", 2), ("A", 3)] {
        hub.raise_event(&id, name, value).unwrap();
    }
    hub.settle();
    hub.raise_event(&id, "Next", ()).unwrap();
    hub.run();
    assert_eq!(hub.output::<Vec<u32>>(&id).unwrap(), [1, 2, 3]);
}

/// Such a wait is never withdrawn, and nobody has its event all the same.
#[test]
fn an_event_of_a_wait_that_was_forgotten_goes_along() {
    let forgetful = async |ctx: OrchestrationContext, is_second: bool| -> Result<u32> {
        if is_second {
            return Ok(ctx.wait_for_external_event("A").await?);
        }
        std::mem::forget(ctx.wait_for_external_event::<u32>("A"));
        ctx.wait_for_external_event::<()>("Next").await?;
        ctx.continue_as_new(true)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Forgetful", forgetful));
    let id = hub.start("Forgetful", false);
    hub.settle();
    hub.raise_event(&id, "A", 1).unwrap();
    hub.raise_event(&id, "Next", ()).unwrap();
    hub.run();
    assert_eq!(hub.output::<u32>(&id).unwrap(), 1);
}

#[test]
fn an_execution_that_asked_for_the_next_one_goes_on_whatever_it_returns() {
    let returning = async |ctx: OrchestrationContext, is_second: bool| -> Result<String> {
        if is_second {
            return Ok("the second".to_owned());
        }
        let _error_that_is_to_be_returned = ctx.continue_as_new::<()>(true);
        Ok("the first".to_owned())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Returning", returning));
    let id = hub.start("Returning", false);
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "the second");
}

#[test]
fn s_custom_status() {
    let shown = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        ctx.set_custom_status("one")?;
        ctx.set_custom_status(serde_json::json!({"step": 1}))?;
        ctx.wait_for_external_event::<()>("Go").await?;
        ctx.wait_for_external_event::<()>("Go").await?;
        ctx.clear_custom_status();
        ctx.wait_for_external_event::<()>("Go").await?;
        ctx.set_custom_status("last")?;
        Ok(())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Shown", shown));
    let id = hub.start("Shown", ());
    hub.settle();
    let mut seen = vec![hub.custom_status(&id)];
    for _ in 0..3 {
        hub.restart().raise_event(&id, "Go", ()).unwrap();
        hub.settle();
        seen.push(hub.custom_status(&id));
    }
    let wanted = [Some(r#"{"step":1}"#), Some(r#"{"step":1}"#), None, Some("\"last\"")];
    assert_eq!(seen, wanted.map(|status| status.map(str::to_owned)));
}

/// 16 KB of UTF-16, of which the Functions extension counts whole KB: 8,703 code units, two of them quotes.
#[test]
fn a_custom_status_is_measured_as_the_extension_does() {
    let loud = async |ctx: OrchestrationContext, text: String| ctx.set_custom_status(text);
    let units = 8_701;
    for (letter, count) in [
        ("x", units),
        ("状", 6_000),
        ("状", units),
        ("é", units),
        ("😀", units / 2),
        ("\u{1}", units / 6),
    ] {
        let mut hub = TestHub::new(Registry::new().orchestrator("Loud", loud));
        let id = hub.start("Loud", letter.repeat(count));
        hub.run();
        hub.output::<()>(&id).unwrap();
        let shown: String = serde_json::from_str(&hub.custom_status(&id).unwrap()).unwrap();
        assert_eq!(shown, letter.repeat(count));
        let mut hub = TestHub::new(Registry::new().orchestrator("Loud", loud));
        let failure = hub
            .run_orchestrator::<(), _>("Loud", letter.repeat(units + 1))
            .unwrap_err();
        assert_eq!(failure.error_type, "PayloadTooLarge", "{letter}");
    }
}

#[test]
fn a_custom_status_above_the_limit_is_refused_where_it_is_set_and_the_code_goes_on() {
    let careful = async |ctx: OrchestrationContext, (): ()| -> Result<Vec<String>> {
        let mut said = Vec::new();
        ctx.set_custom_status("small")?;
        for text in ["状".repeat(9_000), "x".repeat(100_000)] {
            let refused = ctx.set_custom_status(text).unwrap_err();
            said.push(refused.to_string());
            ctx.wait_for_external_event::<()>("Go").await?;
        }
        Ok(said)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Careful", careful));
    let id = hub.start("Careful", ());
    for _ in 0..2 {
        hub.restart().settle();
        assert_eq!(hub.custom_status(&id).unwrap(), "\"small\"");
        hub.raise_event(&id, "Go", ()).unwrap();
    }
    hub.restart().run();
    let said = |units: usize| format!("the custom status has {units} UTF-16 code units, and at most 8703 are accepted");
    assert_eq!(hub.output::<Vec<String>>(&id).unwrap(), [said(9_002), said(100_002)]);
}

#[test]
fn s_event_orchestrator_to_orchestrator() {
    let sender = async |ctx: OrchestrationContext, to: String| -> Result<()> {
        ctx.raise_event(&InstanceId::new(&to)?, "Go", "from afar")?;
        ctx.raise_event(&InstanceId::new("nobody")?, "Go", ())?;
        ctx.create_timer(HOUR).await;
        ctx.raise_event(&InstanceId::new(&to)?, "Go", "again")
    };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Sender", sender)
            .orchestrator("WaitTwice", wait_twice),
    );
    let receiver = hub.start_as("receiver", "WaitTwice", ());
    let sender = hub.start("Sender", "receiver");
    hub.settle();
    hub.restart().run();
    hub.output::<()>(&sender).unwrap();
    assert_eq!(hub.output::<Vec<String>>(&receiver).unwrap(), ["from afar", "again"]);
}

#[test]
fn s_terminate() {
    let mut hub = TestHub::new(Registry::new().orchestrator("WaitTwice", wait_twice));
    let id = hub.start("WaitTwice", ());
    hub.settle();
    hub.terminate(&id, "enough").unwrap();
    hub.run();
    assert_eq!(hub.status(&id), RuntimeStatus::Terminated);
    assert_eq!(hub.raise_event(&id, "Go", ()).unwrap_err().code(), "instance-not-live");
}

#[test]
fn s_detached_child() {
    let parent = async |ctx: OrchestrationContext, (): ()| -> Result<Vec<String>> {
        let named = ctx.start_new("WaitTwice", ()).id("named").await?;
        let unnamed = ctx.start_new("WaitTwice", ()).await?;
        Ok(vec![named.to_string(), unnamed.to_string()])
    };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Parent", parent)
            .orchestrator("WaitTwice", wait_twice),
    );
    let ids: Vec<String> = hub.run_orchestrator("Parent", ()).unwrap();
    for id in ids {
        let id = InstanceId::new(&id).unwrap();
        assert_eq!(hub.status(&id), RuntimeStatus::Running);
        assert_eq!(hub.info(&id).parent, None);
    }
}
