//! Figures of the server, and how Prometheus reads them (R181). No label ever holds an id of an instance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

/// What the server counts itself.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    durations: Mutex<BTreeMap<&'static str, Durations>>,
    connections: AtomicI64,
}

#[derive(Clone, Debug, Default)]
struct Durations {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum_seconds: f64,
}

/// When a request began.
#[derive(Debug)]
pub(crate) struct Timer(Instant);

impl Timer {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a request took is measured here and decides nothing"
    )]
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }
}

impl Metrics {
    /// Puts a request down.
    pub(crate) fn end(&self, timer: &Timer, operation: &'static str, status: u16) {
        let seconds = timer.0.elapsed().as_secs_f64();
        *lock(&self.requests).entry((operation, status)).or_default() += 1;
        let mut durations = lock(&self.durations);
        let entry = durations.entry(operation).or_default();
        for (count, bound) in entry.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
        entry.count += 1;
        entry.sum_seconds += seconds;
    }

    /// Counts a connection while the answer lives.
    pub(crate) fn connection(&self) -> Connection<'_> {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Connection(self)
    }

    /// The text of the counters of this module.
    pub(crate) fn text(&self) -> Text {
        let mut text = Text::default();
        text.family("taskhub_http_requests_total", "counter", "Requests answered.");
        for ((operation, status), count) in lock(&self.requests).iter() {
            let labels = format!("operation=\"{operation}\",status=\"{status}\"");
            text.sample("taskhub_http_requests_total", &labels, count);
        }
        let name = "taskhub_http_request_duration_seconds";
        text.family(
            name,
            "histogram",
            "Seconds from reading the request head to sending the response head.",
        );
        for (operation, durations) in lock(&self.durations).iter() {
            let operation = format!("operation=\"{operation}\"");
            for (count, bound) in durations.counts.iter().zip(BUCKETS) {
                text.sample(&format!("{name}_bucket"), &format!("{operation},le=\"{bound}\""), count);
            }
            text.sample(
                &format!("{name}_bucket"),
                &format!("{operation},le=\"+Inf\""),
                durations.count,
            );
            text.sample(&format!("{name}_sum"), &operation, durations.sum_seconds);
            text.sample(&format!("{name}_count"), &operation, durations.count);
        }
        text.family("taskhub_http_connections", "gauge", "Open connections.");
        let connections = self.connections.load(Ordering::Acquire);
        text.sample("taskhub_http_connections", "", connections);
        text
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection<'a>(&'a Metrics);

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Figures in the text form of Prometheus.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a family of samples.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample; no labels are an empty text.
    pub(crate) fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// A panic while this was held leaves figures that are still figures.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status() {
        let metrics = Metrics::default();
        for status in [202, 202, 409] {
            metrics.end(&Timer::begin(), "start", status);
        }
        let open = metrics.connection();
        let text = metrics.text().into_string();
        for line in [
            "# TYPE taskhub_http_requests_total counter",
            "taskhub_http_requests_total{operation=\"start\",status=\"202\"} 2",
            "taskhub_http_requests_total{operation=\"start\",status=\"409\"} 1",
            "taskhub_http_request_duration_seconds_bucket{operation=\"start\",le=\"+Inf\"} 3",
            "taskhub_http_request_duration_seconds_count{operation=\"start\"} 3",
            "taskhub_http_connections 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        drop(open);
        assert!(metrics.text().into_string().contains("taskhub_http_connections 0"));
    }
}
