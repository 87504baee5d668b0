//! A timer that comes again and again: every day at noon, what ended long ago is purged.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskhub::{Activity, Client, Error, Ncrontab, OrchestrationContext, Registry, Result, Timestamp};

const PURGE_OLD: Activity<String, u64> = Activity::new("PurgeOldInstances");

/// When to purge, and what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// An NCRONTAB expression ([`Ncrontab`]): second, minute, hour, day of the month, month, day of the week; in UTC.
    pub cron: String,
    /// Ended instances that were created so many days ago go.
    pub keep_days: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            cron: "0 0 12 * * *".to_owned(),
            keep_days: 30,
        }
    }
}

type Purging = Pin<Box<dyn Future<Output = Result<u64>> + Send>>;
type Purge = dyn Fn(Timestamp) -> Purging + Send + Sync;

/// What the activity calls. Functions are registered before a hub is open and its client exists, so this
/// is connected later; until then the activity fails, and its retries wait for it.
#[derive(Clone, Default)]
pub struct Purger {
    purge: Arc<OnceLock<Box<Purge>>>,
}

impl Purger {
    /// Connects a function that purges the ended instances created before a moment and counts them. The
    /// first connection stays.
    pub fn connect<F, Fut>(&self, purge: F)
    where
        F: Fn(Timestamp) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<u64>> + Send + 'static,
    {
        self.purge
            .get_or_init(|| Box::new(move |before| Box::pin(purge(before))));
    }

    /// Connects the client of a hub. The hub holds the purger, so the purger does not hold the hub.
    pub fn connect_client(&self, client: &Client) {
        let client = client.downgrade();
        self.connect(move |before| {
            let client = client.upgrade();
            async move {
                let Some(client) = client else {
                    return Err(Error::new("NotConnected", "the hub of the purger is gone"));
                };
                Ok(client.instances().created_to(before).purge().await?)
            }
        });
    }

    async fn purge(&self, before: &str) -> Result<u64> {
        let before =
            Timestamp::parse(before).ok_or_else(|| Error::msg(format!("`{before}` is no time")).non_retriable())?;
        let Some(purge) = self.purge.get() else {
            return Err(Error::new("NotConnected", "the purger is not connected to a hub yet"));
        };
        purge(before).await
    }
}

impl fmt::Debug for Purger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Purger(connected: {})", self.purge.get().is_some())
    }
}

/// Purges at each time of the schedule, for ever. Its custom status is the last count.
///
/// # Errors
///
/// If the cron expression is none, or a purge fails in spite of its retries.
pub async fn scheduled_purge(ctx: OrchestrationContext, schedule: Option<Schedule>) -> Result<()> {
    let schedule = schedule.unwrap_or_default();
    let next = next_time(&schedule.cron, ctx.now())?;
    ctx.create_timer_at(next).await;
    let before = days_before(ctx.now(), schedule.keep_days).to_string();
    let patient = taskhub::RetryPolicy::new(5, Duration::from_mins(1)).backoff_coefficient(2.0);
    let count = ctx.call_activity(PURGE_OLD, before).retry(patient).await?;
    ctx.set_custom_status(format!("{count} instances purged"))?;
    ctx.continue_as_new(schedule)
}

/// The first moment after `now` that an NCRONTAB expression names, in UTC.
///
/// # Errors
///
/// `BadSchedule` if the expression is none, or names no moment before the year 10000.
pub fn next_time(cron: &str, now: Timestamp) -> Result<Timestamp> {
    let bad = |why: &str| {
        let remedy = "write second, minute, hour, day of the month, month and day of the week, such as `0 0 12 * * *`";
        Error::new("BadSchedule", format!("`{cron}` is no schedule: {why}; {remedy}"))
    };
    let schedule = Ncrontab::parse(cron).map_err(|error| bad(&error.why))?;
    schedule
        .next_after(now)
        .ok_or_else(|| bad("it does not come before the years end"))
}

fn days_before(now: Timestamp, days: u64) -> Timestamp {
    const TICKS_PER_DAY: i64 = 24 * 3600 * 10_000_000;
    let ticks = i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(TICKS_PER_DAY);
    Timestamp::from_ticks(now.ticks().saturating_sub(ticks).max(0))
}

pub(crate) fn register(registry: Registry, purger: &Purger) -> Registry {
    let purger = purger.clone();
    registry
        .orchestrator("ScheduledPurge", scheduled_purge)
        .activity(PURGE_OLD, move |_, before| {
            let purger = purger.clone();
            async move { purger.purge(&before).await }
        })
}
