//! The job that driven programs run many times: three activities, a timer, an event.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskhub::{ActivityContext, Client, OrchestrationContext, Payload, Registry, Result, Start, join};
use tokio::sync::watch;

use crate::facts::Fact;

/// The hub in the store.
pub const HUB: &str = "EndToEnd";
/// Name of the orchestrator.
pub const JOB: &str = "Job";
/// Name of the activity.
pub const STEP: &str = "Step";
/// Name of the event.
pub const EVENT: &str = "Go";
/// Activity calls of a job.
pub const STEPS: u32 = 3;

/// Pause between two looks for a file.
const LOOK: Duration = Duration::from_millis(10);
/// Long enough to lie in another turn than what comes before it.
const TIMER: Duration = Duration::from_millis(15);

/// The input of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub number: u32,
    /// How many waves of starts its activities last, more or less.
    pub step_waves: u64,
}

#[derive(Serialize, Deserialize)]
struct Step {
    job: u32,
    index: u32,
    waves: u64,
}

/// What decides when activities end: none of it is how fast the machine is.
#[derive(Clone, Debug)]
pub struct Pace {
    /// A file until which they do not end, but the first of each job.
    pub hold: Option<PathBuf>,
    /// Waves of starts so far. When nobody counts them any more, all activities end.
    pub waves: watch::Receiver<u64>,
}

impl Pace {
    /// All end at once.
    pub fn none() -> Self {
        Self {
            hold: None,
            waves: watch::channel(0).1,
        }
    }
}

impl Job {
    /// The job an instance was started with.
    pub fn read(input: Option<&Payload>) -> Option<Self> {
        serde_json::from_slice(input?.bytes()).ok()
    }

    /// What it answers.
    pub fn output(self) -> u64 {
        let steps = (0..STEPS).map(|step| result(self.number, step));
        steps.sum::<u64>() + u64::from(self.number)
    }

    /// How long an activity of it lasts: half as long to half as long again, so that jobs that started
    /// together do not stay together.
    fn waves(self) -> u64 {
        self.step_waves / 2 + self.step_waves * (u64::from(self.number) * 7919 % 101) / 100
    }

    /// Whether its start carries a key and no id, so that it may be repeated when its answer was lost.
    pub fn has_key(self) -> bool {
        self.number.is_multiple_of(2)
    }

    pub fn start(self, client: &Client) -> Start {
        let (start, number) = (client.start(JOB, self), self.number);
        if self.has_key() {
            start.key(format!("start-{number}"))
        } else {
            start.id(format!("job-{number}"))
        }
    }

    /// The key of its event, which is raised again after each restart until it has ended.
    pub fn event_key(self) -> String {
        format!("go-{}", self.number)
    }
}

fn result(job: u32, step: u32) -> u64 {
    u64::from(job) * 10 + u64::from(step)
}

async fn job(ctx: OrchestrationContext, job: Job) -> Result<u64> {
    let step = |index| {
        let call = Step {
            job: job.number,
            index,
            waves: job.waves(),
        };
        ctx.call_activity::<u64, _>(STEP, call)
    };
    let first = step(0).await?;
    let (second, third) = join(step(1), step(2)).await;
    ctx.create_timer(TIMER).await;
    let event: u64 = ctx.wait_for_external_event(EVENT).await?;
    Ok(first + second? + third? + event)
}

async fn step(ctx: ActivityContext, call: Step, mut pace: Pace) -> Result<u64> {
    Fact::Begun(call.job, call.index, ctx.delivery()).tell();
    let last = *pace.waves.borrow() + call.waves;
    // An error says that nobody counts.
    drop(pace.waves.wait_for(|waves| *waves >= last).await);
    let hold = pace.hold.filter(|_| call.index > 0);
    while hold.as_ref().is_some_and(|file| !file.exists()) {
        tokio::time::sleep(LOOK).await;
    }
    Fact::Done(call.job, call.index).tell();
    Ok(result(call.job, call.index))
}

/// Its functions.
pub fn registry(pace: Pace) -> Registry {
    let step = move |ctx, call| step(ctx, call, pace.clone());
    Registry::new().orchestrator(JOB, job).activity(STEP, step)
}
