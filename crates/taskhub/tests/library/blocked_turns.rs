//! Orchestrators that do not give their thread back, and those that panic: each is set aside by itself,
//! and the hub goes on (R184, A33, A38). And: one process at a time has a store.

#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use taskhub::{ActivityContext, Client, Error, Hub, HubBuilder, Instance, OrchestrationContext, Result, RuntimeStatus};

/// So long that no turn that returns is taken for one that does not, whatever else the machine has to do.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// What the blocking turns share with the test.
#[derive(Default)]
struct Turns {
    /// Ends their blocking.
    is_over: Mutex<bool>,
    ended: Condvar,
    /// Turns that came back.
    late: AtomicUsize,
}

impl Turns {
    fn is_over(&self) -> bool {
        *self.is_over.lock().unwrap()
    }

    fn wait(&self) {
        let is_over = self.is_over.lock().unwrap();
        drop(self.ended.wait_while(is_over, |is_over| !*is_over).unwrap());
    }

    fn end(&self) {
        *self.is_over.lock().unwrap() = true;
        self.ended.notify_all();
    }
}

/// Ends the blocking when the test ends, so that no thread burns on.
struct Release(Arc<Turns>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn say_hello(_: ActivityContext, city: String) -> Result<String> {
    Ok(format!("Hello {city}!"))
}

async fn hello(ctx: OrchestrationContext, city: String) -> Result<String> {
    Ok(ctx.call_activity("SayHello", city).await?)
}

/// Is under way all the while.
async fn waits(ctx: OrchestrationContext, (): ()) -> Result<String> {
    let city: String = ctx.wait_for_external_event("City").await?;
    Ok(ctx.call_activity("SayHello", city).await?)
}

async fn panics(ctx: OrchestrationContext, (): ()) -> Result<()> {
    let _: String = ctx.call_activity("SayHello", "Tokyo").await?;
    panic!("no such city");
}

fn builder(turns: &Arc<Turns>) -> HubBuilder {
    let (spun, slept) = (Arc::clone(turns), Arc::clone(turns));
    let spins = move |_: OrchestrationContext, (): ()| {
        let turns = Arc::clone(&spun);
        async move {
            while !turns.is_over() {
                std::hint::spin_loop();
            }
            turns.late.fetch_add(1, Ordering::AcqRel);
            Ok::<_, Error>(())
        }
    };
    let sleeps = move |_: OrchestrationContext, (): ()| {
        let turns = Arc::clone(&slept);
        async move {
            turns.wait();
            turns.late.fetch_add(1, Ordering::AcqRel);
            Ok::<_, Error>(())
        }
    };
    Hub::builder("SampleHub")
        .orchestrator("Hello", hello)
        .orchestrator("Waits", waits)
        .orchestrator("Panics", panics)
        .orchestrator("Sleeps", sleeps)
        .orchestrator("Spins", spins)
        .activity("SayHello", say_hello)
        .turn_limit(TURN_LIMIT)
}

/// Another instance completes.
async fn goes_on(client: &Client) {
    let id = client.start_new("Hello", "Oslo").await.unwrap();
    let greeting: String = client.wait_for_completion(&id).await.unwrap();
    assert_eq!(greeting, "Hello Oslo!");
}

/// Waits until an instance is set aside, and answers why.
async fn set_aside(client: &Client, id: &Instance) -> String {
    loop {
        let status = client.get_status(id).await.unwrap().unwrap();
        assert!(!status.info.status.is_terminal(), "`{id}` is {}", status.info.status);
        if let Some(stall) = status.info.stalled {
            return stall.reason;
        }
        tokio::task::yield_now().await;
    }
}

async fn is_terminated(client: &Client, id: &Instance) {
    client.terminate(id).reason("it will not end").await.unwrap();
    let info = client.wait_for_end(id).await.unwrap();
    assert_eq!((info.status, info.stalled), (RuntimeStatus::Terminated, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_blocks_or_panics_is_set_aside_by_itself_and_can_be_terminated() {
    let folder = tempfile::tempdir().unwrap();
    let turns = Arc::<Turns>::default();
    let _release = Release(Arc::clone(&turns));
    let hub = builder(&turns).open(folder.path()).await.unwrap();
    let client = hub.client();
    goes_on(&client).await;
    let waiting = client.start_new("Waits", ()).await.unwrap();
    client.wait_for_start(&waiting).await.unwrap();

    let cases = [
        ("Spins", "a turn did not return within"),
        ("Panics", "orchestrator `Panics` panicked: no such city"),
        ("Sleeps", "a turn did not return within"),
    ];
    let mut stuck = Vec::new();
    for (name, wanted) in cases {
        let id = client.start_new(name, ()).await.unwrap();
        let reason = set_aside(&client, &id).await;
        assert!(reason.contains(wanted), "{name}: {reason}");
        goes_on(&client).await;
        stuck.push(id);
    }
    // Threads that come back late find that nobody listens to them any more.
    turns.end();
    while turns.late.load(Ordering::Acquire) < 2 {
        tokio::task::yield_now().await;
    }
    goes_on(&client).await;
    for id in &stuck {
        let status = client.get_status(id).await.unwrap().unwrap();
        assert!(status.info.stalled.is_some(), "`{id}` is {status:?}");
        is_terminated(&client, id).await;
    }
    client.raise_event(&waiting, "City", "Tokyo").await.unwrap();
    let greeting: String = client.wait_for_completion(&waiting).await.unwrap();
    assert_eq!(greeting, "Hello Tokyo!");
    assert!(!hub.engine().is_unhealthy());
    hub.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_folder_in_use_is_refused_with_the_process_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let turns = Arc::<Turns>::default();
    let first = builder(&turns).open(folder.path()).await.unwrap();
    let error = builder(&turns).open(folder.path()).await.unwrap_err();
    assert_eq!(error.code(), "store-locked");
    assert!(
        error.to_string().contains(&format!("process {}", std::process::id())), // tidy:allow: it was told
        "{error}"
    );
    goes_on(&first.client()).await;
}
