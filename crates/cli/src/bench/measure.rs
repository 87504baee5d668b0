//! Readings of the process and the machine: time, processor, bytes, allocations, syncs.

use std::alloc::System;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use taskhub_store::{Store, Work};

/// Counts allocations, which a benchmark of a hot path must report; the cost is one counter per call.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Instant,
    cpu: Duration,
    bytes_written: u64,
    allocations: usize,
    work: Work,
}

/// What was used between two readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) bytes_written: u64,
    pub(crate) allocations: usize,
    pub(crate) groups: u64,
    pub(crate) commits: u64,
    pub(crate) rows: u64,
    pub(crate) syncs: u64,
}

impl Reading {
    pub(crate) fn now(store: &dyn Store) -> Self {
        Self {
            at: now(),
            cpu: cpu(),
            bytes_written: bytes_written(),
            allocations: ALLOCATOR.stats().allocations,
            work: store.work(),
        }
    }

    /// What was used since.
    pub(crate) fn until_now(&self, store: &dyn Store) -> Used {
        let end = Self::now(store);
        Used {
            wall: end.at - self.at,
            cpu: end.cpu.saturating_sub(self.cpu),
            bytes_written: end.bytes_written - self.bytes_written,
            allocations: end.allocations - self.allocations,
            groups: end.work.groups - self.work.groups,
            commits: end.work.commits - self.work.commits,
            rows: end.work.rows - self.work.rows,
            syncs: end.work.syncs - self.work.syncs,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Processor time of the process, user and system. Zero where the system does not tell.
fn cpu() -> Duration {
    // Fields 14 and 15 of `/proc/self/stat`, in hundredths of a second on every Linux.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Bytes handed to the file system by the process so far.
fn bytes_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Resident memory of the process, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    kib * 1024
}

/// Bytes that are allocated and not freed.
pub(crate) fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Durations, sorted when they are asked about.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    samples: Vec<Duration>,
}

impl Spread {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.samples.push(sample);
    }

    pub(crate) fn count(&self) -> usize {
        self.samples.len()
    }

    /// The smallest duration that so many per cent of the samples do not exceed.
    pub(crate) fn percentile(&mut self, percent: usize) -> Duration {
        self.samples.sort_unstable();
        let index = (self.samples.len() * percent).div_ceil(100).saturating_sub(1);
        self.samples.get(index).copied().unwrap_or_default()
    }
}

/// How long the machine takes to sync 4 KiB written over a file that has its size already, which is what
/// a commit to a settled write-ahead log does.
pub(crate) fn fdatasync(folder: &Path, samples: usize) -> io::Result<Spread> {
    use std::io::{Seek, SeekFrom};
    let path = folder.join("fdatasync-probe");
    let mut file = File::create(&path)?;
    file.write_all(&vec![0; 1 << 20])?;
    file.sync_all()?;
    let mut spread = Spread::default();
    for index in 0..samples {
        let start = now();
        file.seek(SeekFrom::Start((index as u64 % 256) * 4096))?;
        file.write_all(&[u8::try_from(index % 251).unwrap_or(0); 4096])?;
        file.sync_data()?;
        spread.add(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(spread)
}
