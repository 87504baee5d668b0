//! The job that driven programs run many times: three activities, a timer, an event.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskhub::{ActivityContext, OrchestrationContext, Payload, Registry, Result, StartOptions, join};

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

/// Long enough to lie in another turn than what comes before it.
const TIMER: Duration = Duration::from_millis(15);

/// The input of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which one.
    pub number: u32,
    /// How long its activities take, more or less.
    pub step_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Step {
    job: u32,
    index: u32,
    pause_ms: u64,
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

    /// How long an activity of it takes: half as long to half as long again, so that jobs that started
    /// together do not stay together.
    fn pause_ms(self) -> u64 {
        self.step_ms / 2 + self.step_ms * (u64::from(self.number) * 7919 % 101) / 100
    }

    /// Whether its start carries a key and no id, so that it may be repeated when its answer was lost.
    pub fn has_key(self) -> bool {
        self.number.is_multiple_of(2)
    }

    /// How it is started.
    pub fn start(self) -> StartOptions {
        let number = self.number;
        if self.has_key() {
            StartOptions::new().idempotency_key(&format!("start-{number}"))
        } else {
            StartOptions::new().instance_id(&format!("job-{number}"))
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
            pause_ms: job.pause_ms(),
        };
        ctx.call_activity::<u64>(STEP, call)
    };
    let first = step(0).await?;
    let (second, third) = join(step(1), step(2)).await;
    ctx.create_timer(TIMER).await;
    let event: u64 = ctx.wait_for_external_event(EVENT).await?;
    Ok(first + second? + third? + event)
}

async fn step(ctx: ActivityContext, call: Step) -> Result<u64> {
    Fact::Begun(call.job, call.index, ctx.attempt()).tell();
    tokio::time::sleep(Duration::from_millis(call.pause_ms)).await;
    Fact::Done(call.job, call.index).tell();
    Ok(result(call.job, call.index))
}

/// Its functions.
pub fn registry() -> Registry {
    Registry::new().orchestrator(JOB, job).activity(STEP, step)
}
