//! Orchestrators that do not give their thread back, and those that panic: each is set aside by itself,
//! and the hub goes on (R184, A33, A38). And: one process at a time has a store.

#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use taskhub::{ActivityContext, Client, Hub, HubBuilder, InstanceId, OrchestrationContext, Result, RuntimeStatus};

const TURN_LIMIT: Duration = Duration::from_millis(400);

/// A folder for a store, which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        // One that an earlier process with our id left behind.
        let _none = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _in_use = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends the loops when the test does, so that no thread of them burns on.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

async fn say_hello(_: ActivityContext, city: String) -> Result<String> {
    Ok(format!("Hello {city}!"))
}

async fn hello(ctx: OrchestrationContext, city: String) -> Result<String> {
    Ok(ctx.call_activity("SayHello", city).await?)
}

async fn panics(ctx: OrchestrationContext, (): ()) -> Result<()> {
    let _: String = ctx.call_activity("SayHello", "Tokyo").await?;
    panic!("no such city");
}

async fn sleeps(_: OrchestrationContext, (): ()) -> Result<()> {
    std::thread::sleep(TURN_LIMIT * 4);
    Ok(())
}

fn builder(is_over: &Arc<AtomicBool>) -> HubBuilder {
    let is_over = Arc::clone(is_over);
    let spins = move |_: OrchestrationContext, (): ()| {
        let is_over = Arc::clone(&is_over);
        async move {
            while !is_over.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            Ok::<_, taskhub::Error>(())
        }
    };
    Hub::builder("SampleHub")
        .orchestrator("Hello", hello)
        .orchestrator("Panics", panics)
        .orchestrator("Sleeps", sleeps)
        .orchestrator("Spins", spins)
        .activity("SayHello", say_hello)
        .turn_limit(TURN_LIMIT)
}

/// Other instances complete, those that are under way as well as new ones.
async fn goes_on(client: &Client) {
    let id = client.start_new("Hello", "Oslo").await.unwrap();
    let greeting: String = client.wait_for_completion(&id).await.unwrap();
    assert_eq!(greeting, "Hello Oslo!");
}

/// Waits until an instance is set aside, and answers why.
async fn set_aside(client: &Client, id: &InstanceId) -> String {
    loop {
        let status = client.get_status(id).await.unwrap().unwrap();
        assert!(!status.info.status.is_terminal(), "`{id}` is {}", status.info.status);
        if let Some(stall) = status.info.stalled {
            return stall.reason;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn is_terminated(client: &Client, id: &InstanceId) {
    client.terminate(id, "it will not end").await.unwrap();
    let info = client.wait_for_end(id).await.unwrap();
    assert_eq!((info.status, info.stalled), (RuntimeStatus::Terminated, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_blocks_or_panics_is_set_aside_by_itself_and_can_be_terminated() {
    let folder = Folder::new("blocked");
    let is_over = Arc::new(AtomicBool::new(false));
    let _release = Release(Arc::clone(&is_over));
    let hub = builder(&is_over).open(&folder.0).await.unwrap();
    let client = hub.client();
    goes_on(&client).await;

    let cases = [
        ("Spins", "a turn did not return within", 1),
        ("Panics", "orchestrator `Panics` panicked: no such city", 1),
        ("Sleeps", "a turn did not return within", 2),
    ];
    let mut stuck = Vec::new();
    for (name, wanted, reloads) in cases {
        let id = client.start_new(name, ()).await.unwrap();
        let reason = set_aside(&client, &id).await;
        assert!(reason.contains(wanted), "{name}: {reason}");
        assert_eq!(hub.engine().reloads(), reloads, "{name}");
        goes_on(&client).await;
        stuck.push(id);
    }
    // A thread that comes back late finds that nobody listens any more.
    tokio::time::sleep(TURN_LIMIT * 4).await;
    for id in &stuck {
        let status = client.get_status(id).await.unwrap().unwrap();
        assert!(status.info.stalled.is_some(), "`{id}` is {status:?}");
        is_terminated(&client, id).await;
    }
    goes_on(&client).await;
    assert!(!hub.engine().is_unhealthy());
    hub.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_folder_in_use_is_refused_with_the_process_that_has_it() {
    let folder = Folder::new("in-use");
    let is_over = Arc::new(AtomicBool::new(false));
    let first = builder(&is_over).open(&folder.0).await.unwrap();
    let error = builder(&is_over).open(&folder.0).await.unwrap_err();
    assert_eq!(error.code(), "store-locked");
    assert!(
        error.to_string().contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    goes_on(&first.client()).await;
}
