//! The driver: starts `kill-target`, kills it at random moments, starts it again, and checks what is left
//! (reliability: C1, and C8 for the locks that killed programs leave).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;

use crate::Result;
use crate::checker::{self, Checked, Expected};
use crate::facts::Fact;
use crate::life::Life;
use crate::table::Kill;
use crate::target::Target;
use crate::workload::Job;

/// How long after the line that decides about a kill it comes, in microseconds.
const DELAY_MICROS: Range<u64> = 0..4_000;
/// What a program said before it was paused is read by then; what comes later is heard after the kill.
const DRAIN: Duration = Duration::from_millis(5);
/// One kill in so many comes at any other moment.
const RANDOM_EVERY: u32 = 5;

/// When a job was found live by so many runs, the next one starts nothing and is killed only once all such jobs have
/// ended. What is cut off ten times fails, as it must (R184), and on a slow machine any job can be; that is not what is
/// tested here.
const RUNS_MAX: u32 = 6;

/// What is done, and how hard it must be.
#[derive(Clone, Debug)]
pub struct KillSettings {
    /// `kill-target`.
    pub program: PathBuf,
    /// Folder for the store and the lists of starts.
    pub folder: PathBuf,
    /// Jobs in all.
    pub instances: u32,
    /// Kills that must hit the program at work.
    pub rounds: usize,
    /// Kills after which it is given up.
    pub rounds_max: usize,
    /// Starts without an answer at such a kill, at least.
    pub unanswered_min: usize,
    /// Instances in mid-activity at such a kill, at least.
    pub active_min: usize,
    /// Decides when the program is killed.
    pub seed: u64,
    /// The options of the program except the folder and the starts.
    pub target: Target,
    /// Whether the first violation ends it.
    pub stops_at_violation: bool,
}

impl KillSettings {
    /// What the promise asks for: ten kills, each with 50 starts without an answer and 500 instances in
    /// mid-activity.
    pub fn new(program: &Path, folder: &Path, instances: u32, seed: u64) -> Self {
        let mut target = Target::new(folder.join("store"));
        (target.wave, target.step_waves) = (200, 3);
        Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            instances,
            rounds: 10,
            rounds_max: 60,
            unanswered_min: 50,
            active_min: 500,
            seed,
            target,
            stops_at_violation: false,
        }
    }

    /// Whether a kill hits the program at work: so many starts are without an answer, so many jobs in an activity.
    fn is_hit(&self, unanswered: usize, active: usize) -> bool {
        unanswered >= self.unanswered_min && active >= self.active_min
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct KillReport {
    pub kills: Vec<Kill>,
    /// What the checker found in the end; the violations are those of all checks.
    pub checked: Checked,
    /// Time of the last check.
    pub check_time: Duration,
    /// Starts that were acknowledged in the end.
    pub acked: usize,
    /// Starts with an id whose answer was lost.
    pub lost: usize,
    /// How many of them had not taken effect, and were repeated in the end.
    pub repeated: usize,
}

impl KillReport {
    /// Kills that hit the program at work.
    pub fn hits(&self) -> usize {
        self.kills.iter().filter(|kill| kill.is_hit).count()
    }
}

/// What the driver knows from the reported facts.
#[derive(Debug, Default)]
struct Ledger {
    /// Starts still to be sent, or to be sent again.
    remaining: VecDeque<u32>,
    acked: BTreeMap<u32, String>,
    /// Asked in an earlier run, without an answer.
    unknown: BTreeSet<u32>,
    /// Asked in this run, without an answer yet.
    asked: BTreeSet<u32>,
    asked_total: usize,
    /// Activities that run, by job and step.
    active: BTreeSet<(u32, u32)>,
    /// How many runs found a job live.
    runs: BTreeMap<u32, u32>,
    /// Jobs that this run found live, as many did before it.
    endangered: BTreeSet<u32>,
    troubles: Vec<String>,
}

impl Ledger {
    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Asked(job) => {
                self.asked.insert(job);
                self.asked_total += 1;
            }
            Fact::Acked(job, instance) => {
                self.asked.remove(&job);
                self.unknown.remove(&job);
                self.acked.insert(job, instance);
            }
            Fact::Live(job) => {
                let runs = self.runs.entry(job).or_default();
                *runs += 1;
                if *runs >= RUNS_MAX {
                    self.endangered.insert(job);
                }
            }
            Fact::Begun(job, step, _) => {
                self.active.insert((job, step));
            }
            Fact::Done(job, step) => {
                self.active.remove(&(job, step));
            }
            Fact::Ended(job, _) => {
                self.endangered.remove(&job);
            }
            Fact::Failed(job, code) => self.troubles.push(format!("a call about job {job} gave {code}")),
            Fact::Closed(code, text) => self
                .troubles
                .push(format!("the hub could not be opened: {code}: {text}")),
            Fact::Ready | Fact::Listed | Fact::Raised(_) | Fact::Finished | Fact::Stopping | Fact::Stopped => {}
        }
    }

    /// A run begins: what it is told to start is no longer to be sent by another one. It is told nothing if it
    /// is to be killed and jobs must end first.
    fn begin(&mut self, is_killed: bool) -> Vec<u32> {
        self.asked_total = 0;
        let endangered = std::mem::take(&mut self.endangered);
        if endangered.is_empty() || !is_killed {
            self.remaining.iter().copied().collect()
        } else {
            Vec::new()
        }
    }

    /// A run was killed. What it did not answer is unknown; if it has a key, it is sent again.
    fn killed(&mut self) -> (usize, usize) {
        let asked = std::mem::take(&mut self.asked);
        let counts = (asked.len(), self.jobs_active());
        self.unknown.extend(asked);
        self.active.clear();
        let is_open = |job: &u32| !self.acked.contains_key(job);
        let is_sent_again = |job: &u32| is_open(job) && (has_key(*job) || !self.unknown.contains(job));
        self.remaining.retain(is_sent_again);
        counts
    }

    /// Jobs that are in an activity.
    fn jobs_active(&self) -> usize {
        let jobs: BTreeSet<u32> = self.active.iter().map(|(job, _)| *job).collect();
        jobs.len()
    }

    fn expected(&self, is_finished: bool) -> Expected {
        Expected {
            acked: self.acked.clone(),
            unknown: self.unknown.clone(),
            is_finished,
        }
    }
}

fn has_key(number: u32) -> bool {
    Job { number, step_waves: 0 }.has_key()
}

/// When a kill comes: so many starts were asked for, and then a little later.
#[derive(Clone, Copy, Debug)]
struct Moment {
    starts: usize,
    delay: Duration,
    /// And when it hits the program at work.
    is_aimed: bool,
}

/// Kills and checks.
///
/// # Errors
///
/// The program hangs or cannot be run, or the store cannot be read at all.
pub fn run(settings: &KillSettings) -> Result<KillReport> {
    let mut rng = Rng::with_seed(settings.seed);
    let mut report = KillReport::default();
    let mut ledger = Ledger {
        remaining: (0..settings.instances).collect(),
        ..Ledger::default()
    };
    while report.hits() < settings.rounds && report.kills.len() < settings.rounds_max && !ledger.remaining.is_empty() {
        let moment = moment(settings, &ledger, report.hits(), &mut rng);
        let killed = match life(settings, &mut ledger, Some(moment)) {
            // A job that never ends is a finding too.
            Err(error) if settings.stops_at_violation => {
                report.checked.violations.push(error.to_string());
                return Ok(report);
            }
            killed => killed?,
        };
        let Some(mut kill) = killed else { break };
        let found = checker::check_copy(&settings.target.folder, &ledger.expected(false))?;
        kill.violations = found.violations.len();
        report.checked.violations.extend(found.violations);
        report.kills.push(kill);
        if settings.stops_at_violation && !report.checked.violations.is_empty() {
            return Ok(report);
        }
    }
    life(settings, &mut ledger, None)?;
    finish(settings, &mut ledger, &mut report)?;
    Ok(report)
}

/// As many starts per run as leave enough for the runs to come.
fn moment(settings: &KillSettings, ledger: &Ledger, hits: usize, rng: &mut Rng) -> Moment {
    let is_aimed = rng.u32(..RANDOM_EVERY) != 0;
    let share = ledger.remaining.len() / (settings.rounds - hits + 1).max(2);
    let starts = if is_aimed {
        share * 3 / 4..=share * 5 / 4
    } else {
        1..=share.max(1)
    };
    Moment {
        starts: rng.usize(starts).clamp(1, ledger.remaining.len()),
        delay: Duration::from_micros(rng.u64(DELAY_MICROS)),
        is_aimed,
    }
}

/// One run, until it is killed or, without a moment for that, has done everything.
fn life(settings: &KillSettings, ledger: &mut Ledger, moment: Option<Moment>) -> Result<Option<Kill>> {
    let starts = ledger.begin(moment.is_some());
    let life = Life::begin(command(settings, &starts)?)?;
    let mut kill = Kill::default();
    // The first fact is that it is ready, or why it is not; then come the jobs that are live.
    while let Some(fact) = life.fact()? {
        let is_listed = fact == Fact::Listed;
        if fact == Fact::Ready {
            kill.ready = life.age();
        }
        ledger.take(fact);
        if is_listed {
            break;
        }
    }
    if let Some(moment) = moment {
        if starts.is_empty() {
            while !ledger.endangered.is_empty()
                && let Some(fact) = life.fact()?
            {
                ledger.take(fact);
            }
        } else {
            wait(&life, ledger, moment.starts, moment.delay)?;
        }
        while moment.is_aimed && ledger.asked_total < starts.len() {
            life.pause()?;
            while let Some(fact) = life.fact_before(life.age() + DRAIN) {
                ledger.take(fact);
            }
            if settings.is_hit(ledger.asked.len(), ledger.jobs_active()) {
                break;
            }
            // Too many were just answered, or too few jobs have come so far.
            life.resume()?;
            wait(
                &life,
                ledger,
                ledger.asked_total + settings.unanswered_min,
                moment.delay,
            )?;
        }
        kill.age = life.age();
        for fact in life.kill()? {
            ledger.take(fact);
        }
        kill.asked = ledger.asked_total;
        (kill.unanswered, kill.active) = ledger.killed();
        kill.is_hit = settings.is_hit(kill.unanswered, kill.active);
        return Ok(Some(kill));
    }
    let (status, facts) = life.end()?;
    let is_finished = facts.last() == Some(&Fact::Finished);
    for fact in facts {
        ledger.take(fact);
    }
    ledger.killed();
    if !status.success() || !is_finished {
        return Err(format!("the program ended with {status}: {:?}", ledger.troubles).into());
    }
    Ok(None)
}

/// Listens until so many starts were asked for and a little longer, or the program has ended.
fn wait(life: &Life, ledger: &mut Ledger, starts: usize, delay: Duration) -> Result<()> {
    while ledger.asked_total < starts.min(ledger.remaining.len()) {
        let Some(fact) = life.fact()? else { return Ok(()) };
        ledger.take(fact);
    }
    let until = life.age() + delay;
    while let Some(fact) = life.fact_before(until) {
        ledger.take(fact);
    }
    Ok(())
}

fn command(settings: &KillSettings, starts: &[u32]) -> Result<std::process::Command> {
    let mut list = String::new();
    for job in starts {
        writeln!(list, "{job}")?;
    }
    let path = settings.folder.join("starts");
    std::fs::write(&path, list)?;
    let mut target = settings.target.clone();
    target.starts = Some(path);
    Ok(target.command(&settings.program))
}

/// All have ended: checks them; repeats the starts that did not take effect, and checks again.
fn finish(settings: &KillSettings, ledger: &mut Ledger, report: &mut KillReport) -> Result<()> {
    let folder = &settings.target.folder;
    report.lost = ledger.unknown.len();
    let first = checker::check_folder(folder, &ledger.expected(true))?;
    report.checked.violations.extend(first.violations);
    report.repeated = first.absent.len();
    ledger.remaining = first.absent.iter().copied().collect();
    ledger.unknown.retain(|job| first.absent.contains(job));
    for job in (0..settings.instances).filter(|job| !first.absent.contains(job)) {
        // What is there without an answer stays there; the id is known from the number.
        ledger.acked.entry(job).or_insert_with(|| format!("job-{job}"));
    }
    if !ledger.remaining.is_empty() {
        life(settings, ledger, None)?;
    }
    let begun = crate::now();
    let last = checker::check_folder(folder, &ledger.expected(true))?;
    report.check_time = begun.elapsed();
    report.acked = ledger.acked.len();
    let mut violations = std::mem::take(&mut report.checked.violations);
    violations.extend(last.violations.iter().cloned());
    violations.append(&mut ledger.troubles);
    violations.sort();
    violations.dedup();
    report.checked = Checked { violations, ..last };
    Ok(())
}
