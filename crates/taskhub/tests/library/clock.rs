//! A hub whose clock is set back and forth: timers and ids hold all the same (R52, R195).

#![expect(clippy::unwrap_used, reason = "a hub that fails fails its test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use taskhub::{
    ActivityContext, Client, Clock, Error, EventKind, Hub, Instance, OrchestrationContext, Result, RetryPolicy,
    Timestamp,
};

const SECOND: i64 = 1_000_000;

/// A machine whose clocks stand still but for what the test does to them, in microseconds.
#[derive(Default)]
struct Machine {
    wall: AtomicI64,
    elapsed: AtomicU64,
}

impl Machine {
    fn new() -> Arc<Self> {
        let machine = Self::default();
        machine.set(1_800_000_000 * SECOND);
        Arc::new(machine)
    }

    /// Somebody sets the wall clock forth or back.
    fn set(&self, micros: i64) {
        self.wall.fetch_add(micros, Ordering::SeqCst);
    }

    fn pass(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.elapsed.fetch_add(micros, Ordering::SeqCst);
        self.set(i64::try_from(micros).unwrap_or(i64::MAX));
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.elapsed.load(Ordering::SeqCst)))
    }
}

async fn sleeper(ctx: OrchestrationContext, ms: u64) -> Result<u64> {
    let before = ctx.now();
    ctx.create_timer(Duration::from_millis(ms)).await;
    Ok(u64::try_from(ctx.now().since(before).as_millis()).unwrap_or(u64::MAX))
}

async fn nothing(_: OrchestrationContext, (): ()) -> Result<()> {
    Ok(())
}

/// Starts one instance in each of so many generations.
async fn generations(ctx: OrchestrationContext, left: u32) -> Result<u32> {
    ctx.start_new("Nothing", ()).await?;
    if left > 1 {
        ctx.continue_as_new(left - 1)?;
    }
    Ok(left)
}

/// Fails the first time it is called in a test.
async fn retrying(ctx: OrchestrationContext, (): ()) -> Result<u32> {
    let policy = RetryPolicy::new(2, Duration::from_secs(5));
    Ok(ctx.call_activity("Flaky", ()).retry(policy).await?)
}

async fn hub(machine: &Arc<Machine>) -> Hub {
    let clock: Arc<dyn Clock> = Arc::<Machine>::clone(machine);
    let calls = AtomicU32::new(0);
    Hub::builder("Clocks")
        .orchestrator("Sleeper", sleeper)
        .orchestrator("Nothing", nothing)
        .orchestrator("Generations", generations)
        .orchestrator("Retrying", retrying)
        .activity("Flaky", move |_: ActivityContext, (): ()| {
            let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                if call == 1 {
                    Err(Error::new("Flaky", "once"))
                } else {
                    Ok(call)
                }
            }
        })
        .clock(clock)
        .check_replay(true)
        .in_memory()
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Starts an orchestration and waits until it waits.
async fn begun(client: &Client, name: &str, input: impl serde::Serialize) -> Instance {
    let id = client.start_new(name, input).await.unwrap();
    client.wait_for_start(&id).await.unwrap();
    id
}

/// The result of an instance; a test that waits for ever fails.
async fn result<T: DeserializeOwned>(client: &Client, id: &Instance) -> T {
    const SAFETY_NET: Duration = Duration::from_mins(1);
    let ended = tokio::time::timeout(SAFETY_NET, client.wait_for_completion(id)).await;
    ended.unwrap_or_else(|_| panic!("`{id}` waits for ever")).unwrap()
}

#[tokio::test]
async fn a_timer_is_not_late_by_the_step_when_the_clock_is_set_back() {
    let machine = Machine::new();
    let hub = hub(&machine).await;
    let client = hub.client();
    let id = begun(&client, "Sleeper", 500).await;
    machine.set(-8 * SECOND);
    machine.pass(Duration::from_millis(520));
    let slept: u64 = result(&client, &id).await;
    assert!((500..520).contains(&slept), "{slept}");
    // Those that begin while the clock is behind are not late either.
    let id = begun(&client, "Sleeper", 500).await;
    machine.set(-3_600 * SECOND);
    machine.pass(Duration::from_millis(520));
    let slept: u64 = result(&client, &id).await;
    assert!((500..520).contains(&slept), "{slept}");
}

#[tokio::test]
async fn a_clock_that_is_set_forth_by_mistake_and_back_again_leaves_no_trace_in_timers() {
    let machine = Machine::new();
    let hub = hub(&machine).await;
    let client = hub.client();
    let early = begun(&client, "Sleeper", 1_000_000).await;
    machine.set(3_600 * SECOND);
    // What is due then is due (R52).
    let slept: u64 = result(&client, &early).await;
    assert!(slept >= 1_000_000, "{slept}");
    machine.set(-3_600 * SECOND);
    let id = begun(&client, "Sleeper", 500).await;
    machine.pass(Duration::from_millis(520));
    let slept: u64 = result(&client, &id).await;
    assert!((500..520).contains(&slept), "{slept}");
}

#[tokio::test]
async fn a_retry_is_not_late_by_the_step_when_the_clock_is_set_back() {
    let machine = Machine::new();
    let hub = hub(&machine).await;
    let client = hub.client();
    let id = client.start_new("Retrying", ()).await.unwrap();
    // The activity has failed when the timer of the pause is there.
    loop {
        let status = client.get_status(&id).with_history().await.unwrap().unwrap();
        let events = status.history.unwrap_or_default();
        if events
            .iter()
            .any(|event| matches!(event.kind, EventKind::TimerCreated { .. }))
        {
            break;
        }
        tokio::task::yield_now().await;
    }
    machine.set(-60 * SECOND);
    machine.pass(Duration::from_millis(5_200));
    assert_eq!(result::<u32>(&client, &id).await, 2);
}

#[tokio::test]
async fn made_up_ids_differ_between_executions_whatever_the_clock_does() {
    let machine = Machine::new();
    let hub = hub(&machine).await;
    let client = hub.client();
    machine.set(-10 * SECOND);
    // The clock stands still from here on, so every execution begins at the same moment.
    let id = client.start_new("Generations", 5).await.unwrap();
    result::<u32>(&client, &id).await;
    let started = client.instances().name("Nothing").await.unwrap();
    assert_eq!(started.len(), 5);
}
