//! `/healthz`, `/readyz` and `/metrics`, for monitoring (R181).

use std::time::Duration;

use http::StatusCode;
use taskhub_api::status::word;
use taskhub_core::id::InstanceId;
use taskhub_engine::{Hub, Report, Trouble};
use tokio::time::timeout;

use super::respond::{self, Response};
use crate::app::App;
use crate::metrics::Text;

/// A hub that takes longer to answer is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the process had better be restarted (A33).
pub(super) fn health(app: &App) -> Response {
    if app.hubs.all_open().iter().any(|hub| hub.is_unhealthy()) {
        let why = "unhealthy: blocked turns have used up the hub's threads; restart the process\n";
        return respond::text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, why.to_owned());
    }
    respond::text(StatusCode::OK, PLAIN, "healthy\n".to_owned())
}

/// Whether requests are served: every hub answers a question and can make work durable, and the server is not stopping.
pub(super) async fn ready(app: &App) -> Response {
    let not_ready = |why: &str| respond::text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("not ready: {why}\n"));
    if app.is_closing() {
        return not_ready("the server is stopping");
    }
    for hub in app.hubs.all_open() {
        let name = hub.name();
        match hub.trouble() {
            Some(Trouble::Full) => return not_ready(&format!("the store of hub {name} is full")),
            Some(Trouble::Failing) => return not_ready(&format!("the store of hub {name} cannot write")),
            Some(Trouble::Damaged) => {
                return not_ready(&format!("the store of hub {name} is damaged and must be repaired"));
            }
            None => {}
        }
        if !answers(&hub).await {
            return not_ready(&format!("hub {name} does not respond"));
        }
    }
    respond::text(StatusCode::OK, PLAIN, "ready\n".to_owned())
}

/// Asks for an instance that need not exist: the question goes the way of every other.
async fn answers(hub: &Hub) -> bool {
    let Ok(instance) = InstanceId::new("readyz") else {
        return false;
    };
    matches!(timeout(READY_TIMEOUT, hub.info(&instance)).await, Ok(Ok(_)))
}

/// A figure of a hub: name, kind, meaning, and how it is read.
type OfAHub = (&'static str, &'static str, &'static str, fn(&Hub, &Report) -> u64);

const OF_A_HUB: [OfAHub; 7] = [
    ("taskhub_turns_total", "counter", "Turns begun.", |_, report| {
        report.counts.turns
    }),
    (
        "taskhub_turns_failed_total",
        "counter",
        "Turns that failed without a result.",
        |_, report| report.counts.failed_turns,
    ),
    (
        "taskhub_replays_total",
        "counter",
        "Turns that needed the history.",
        |_, report| report.counts.replays,
    ),
    (
        "taskhub_dropped_total",
        "counter",
        "Results of turns and activities that came too late.",
        |_, report| report.counts.dropped,
    ),
    (
        "taskhub_reloads_total",
        "counter",
        "Reloads of partitions from the store.",
        |hub, _| hub.reloads(),
    ),
    (
        "taskhub_instances_in_memory",
        "gauge",
        "Instances in memory.",
        |_, report| report.instances as u64,
    ),
    (
        "taskhub_memory_bytes",
        "gauge",
        "Approximate bytes of instances and live orchestrators in memory.",
        |_, report| (report.instance_bytes + report.live_bytes) as u64,
    ),
];

/// All figures there are, in the text form of Prometheus.
pub(super) async fn metrics(app: &App) -> Response {
    let mut text = app.metrics.text();
    of_store(app, &mut text);
    let hubs = app.hubs.all_open();
    let mut reports = Vec::with_capacity(hubs.len());
    for hub in &hubs {
        reports.push((hub, hub.figures()));
    }
    for (name, kind, help, value) in OF_A_HUB {
        text.family(name, kind, help);
        for (hub, report) in &reports {
            text.sample(name, &format!("hub=\"{}\"", hub.name()), value(hub, report));
        }
    }
    text.family("taskhub_instances", "gauge", "Instances by status.");
    for hub in &hubs {
        // A store in trouble must not take the other figures away.
        for (status, count) in hub.counts().await.unwrap_or_default() {
            let labels = format!("hub=\"{}\",status=\"{}\"", hub.name(), word(status));
            text.sample("taskhub_instances", &labels, count);
        }
    }
    respond::text(StatusCode::OK, PROMETHEUS, text.into_string())
}

fn of_store(app: &App, text: &mut Text) {
    let work = app.hubs.store().work();
    for (name, help, value) in [
        (
            "taskhub_store_groups_total",
            "Groups of commits made durable.",
            work.groups,
        ),
        ("taskhub_store_commits_total", "Commits in them.", work.commits),
        ("taskhub_store_rows_total", "Rows written or deleted.", work.rows),
        ("taskhub_store_syncs_total", "Syncs of the store's files.", work.syncs),
    ] {
        text.family(name, "counter", help);
        text.sample(name, "", value);
    }
}
