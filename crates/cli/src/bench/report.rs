//! Figures of a benchmark, as one table for people and one JSON array for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::measure::Used;

/// One run: what was measured, under which settings, and its figures in the order they were added.
#[derive(Debug)]
pub(crate) struct Run {
    name: String,
    figures: Vec<(&'static str, f64, &'static str)>,
}

impl Run {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            figures: Vec::new(),
        }
    }

    /// Adds a figure with its unit.
    pub(crate) fn add(&mut self, what: &'static str, value: f64, unit: &'static str) -> &mut Self {
        self.figures.push((what, value, unit));
        self
    }

    pub(crate) fn add_ms(&mut self, what: &'static str, value: Duration) -> &mut Self {
        self.add(what, value.as_secs_f64() * 1e3, "ms")
    }

    /// Adds what `count` orchestrations used, for each of them.
    pub(crate) fn add_used(&mut self, used: &Used, count: usize) -> &mut Self {
        let each = |total: f64| total / to_f64(count);
        self.add("orchestrations", to_f64(count) / used.wall.as_secs_f64(), "/s")
            .add("cpu", each(used.cpu.as_secs_f64() * 1e6), "us each")
            .add("allocations", each(to_f64(used.allocations)), "each")
            .add("written", each(to_f64(used.bytes_written)), "bytes each")
            .add("rows", each(to_f64(used.rows)), "each")
            .add("commits", each(to_f64(used.commits)), "each")
            .add("groups", each(to_f64(used.groups)), "each")
            .add("syncs", each(to_f64(used.syncs)), "each")
    }

    fn json(&self) -> Value {
        let mut map = Map::new();
        map.insert("run".to_owned(), json!(self.name));
        for (what, value, unit) in &self.figures {
            map.insert((*what).to_owned(), json!({ "value": value, "unit": unit }));
        }
        Value::Object(map)
    }
}

/// Counts are far below the precision of a float.
#[expect(clippy::cast_precision_loss, reason = "figures of a benchmark stay far below 2^52")]
pub(crate) fn to_f64(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}

pub(crate) fn table(runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        let _never_fails = writeln!(text, "{}", run.name);
        for (what, value, unit) in &run.figures {
            let digits = if value.abs() >= 100.0 { 0 } else { 4 };
            let _never_fails = writeln!(text, "  {what:<34} {value:>14.digits$} {unit}");
        }
    }
    text
}

/// The JSON array, one object per run.
pub(crate) fn json_text(runs: &[Run]) -> String {
    Value::Array(runs.iter().map(Run::json).collect()).to_string()
}
