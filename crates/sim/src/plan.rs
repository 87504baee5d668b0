//! What an orchestrator of the simulation does: a small program that travels as its input.
//!
//! A plan is text, so that it is the same for the scripted worker and for the library's, and so that a
//! trace shows it: `n4/0/2/|aecho;t250;w0;` starts as `n4`, is the first of two executions, runs an
//! activity, sleeps, and waits for event `0`.

use std::fmt;
use std::fmt::Write as _;

use fastrand::Rng;
use taskhub_core::payload::Payload;

/// Names of events that plans wait for.
pub(crate) const EVENTS: u8 = 3;
/// Instances that clients start by name.
pub(crate) const ROOTS: u8 = 5;

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Calls an activity and goes on with whatever comes of it.
    Activity(Act),
    /// Calls an activity up to so many times, with a timer in between, until it succeeds.
    Retry(Act, u8),
    /// Calls so many activities at once and waits for all.
    FanOut(u8),
    /// An activity, a timer and a child at once; waits for all.
    Mixed(u16, Vec<Step>),
    /// Sleeps, in milliseconds.
    Timer(u16),
    /// Waits for an event, however long it takes.
    Wait(u8),
    /// Waits for an event or until so many milliseconds are over.
    Race(u8, u16),
    /// Runs a child and waits for it, whatever comes of it. With a number, the child's id is a shared one.
    Child(Option<u8>, Vec<Step>),
    /// Starts a child that does not report back.
    Detached(Vec<Step>),
    /// Sends an event to a root.
    Send(u8, u8),
    /// Terminates a root; the scripted worker only.
    Terminate(u8),
    /// Shows how far it is.
    Status,
    /// Fails.
    Fail,
}

/// Which activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Succeeds.
    Echo,
    /// Fails now and then.
    Flaky,
    /// Always fails.
    Broken,
}

impl Act {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Flaky => "flaky",
            Self::Broken => "broken",
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Echo => 'e',
            Self::Flaky => 'f',
            Self::Broken => 'b',
        }
    }
}

/// A plan on its way through the executions of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Names this start among all of the simulation; what the instance sends carries it.
    pub(crate) tag: String,
    /// Ordinal of the execution that gets this as its input.
    pub(crate) round: u8,
    /// How many executions there are.
    pub(crate) rounds: u8,
    /// Payloads of the events consumed by earlier executions.
    pub(crate) seen: Vec<String>,
    /// What each execution does.
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// Draws a plan for a root.
    pub(crate) fn random(rng: &mut Rng, tag: &str) -> Self {
        let rounds = if rng.u8(..4) == 0 { rng.u8(2..=4) } else { 1 };
        Self {
            tag: tag.to_owned(),
            round: 0,
            rounds,
            seen: Vec::new(),
            steps: random_steps(rng, 0),
        }
    }

    /// The plan of a child that an action starts.
    pub(crate) fn child(&self, action: &str, steps: &[Step]) -> Self {
        Self {
            tag: format!("{}.{}.{action}", self.tag, self.round),
            round: 0,
            rounds: 1,
            seen: Vec::new(),
            steps: steps.to_vec(),
        }
    }

    /// The plan as the input of the next execution, if there is one.
    pub(crate) fn next(&self, seen: Vec<String>) -> Option<Self> {
        (self.round + 1 < self.rounds).then(|| Self {
            round: self.round + 1,
            seen,
            ..self.clone()
        })
    }

    /// Its steps, those of its children included.
    pub(crate) fn len(&self) -> usize {
        steps_in(&self.steps)
    }

    /// Plans like this one that do less, the simplest first. None is as it was.
    pub(crate) fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        if self.rounds > 1 {
            all.push(Self {
                rounds: self.rounds / 2,
                ..self.clone()
            });
        }
        all.extend(
            simpler_steps(&self.steps)
                .into_iter()
                .map(|steps| Self { steps, ..self.clone() }),
        );
        all
    }

    /// Reads a plan; `None` if the payload is none.
    pub(crate) fn read(payload: Option<&Payload>) -> Option<Self> {
        Self::parse(&text(payload))
    }

    /// Reads a plan from its text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once('|')?;
        let mut parts = head.split('/');
        let plan = Self {
            tag: parts.next()?.to_owned(),
            round: parts.next()?.parse().ok()?,
            rounds: parts.next()?.parse().ok()?,
            seen: parts
                .next()?
                .split(',')
                .filter(|seen| !seen.is_empty())
                .map(str::to_owned)
                .collect(),
            steps: Reader(body).steps()?,
        };
        Some(plan)
    }

    /// The plan as payload.
    pub(crate) fn payload(&self) -> Payload {
        quoted(&self.to_string())
    }
}

/// A text as JSON, which the library's typed inputs want. Texts of the simulation need no escapes.
pub(crate) fn quoted(text: &str) -> Payload {
    Payload::text(&format!("\"{text}\""))
}

/// The text of such a payload; empty if there is none.
pub(crate) fn text(payload: Option<&Payload>) -> String {
    payload
        .map(Payload::to_text)
        .unwrap_or_default()
        .trim_matches('"')
        .to_owned()
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}/{}/{}/{}|",
            self.tag,
            self.round,
            self.rounds,
            self.seen.join(",")
        )?;
        write_steps(&self.steps, out)
    }
}

fn write_steps(steps: &[Step], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for step in steps {
        match step {
            Step::Activity(act) => write!(out, "a{}", act.letter())?,
            Step::Retry(act, times) => write!(out, "r{}{times}", act.letter())?,
            Step::FanOut(count) => write!(out, "f{count}")?,
            Step::Mixed(ms, child) => {
                write!(out, "m{ms}{{")?;
                write_steps(child, out)?;
                out.write_char('}')?;
            }
            Step::Timer(ms) => write!(out, "t{ms}")?,
            Step::Wait(event) => write!(out, "w{event}")?,
            Step::Race(event, ms) => write!(out, "v{event},{ms}")?,
            Step::Child(id, child) => {
                match id {
                    Some(id) => write!(out, "k{id}{{")?,
                    None => out.write_str("c{")?,
                }
                write_steps(child, out)?;
                out.write_char('}')?;
            }
            Step::Detached(child) => {
                out.write_str("d{")?;
                write_steps(child, out)?;
                out.write_char('}')?;
            }
            Step::Send(target, event) => write!(out, "s{target},{event}")?,
            Step::Terminate(target) => write!(out, "z{target}")?,
            Step::Status => out.write_char('u')?,
            Step::Fail => out.write_char('x')?,
        }
        out.write_char(';')?;
    }
    Ok(())
}

struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn steps(&mut self) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        while !self.0.is_empty() && !self.0.starts_with('}') {
            steps.push(self.step()?);
            self.expect(';')?;
        }
        Some(steps)
    }

    fn step(&mut self) -> Option<Step> {
        Some(match self.take()? {
            'a' => Step::Activity(self.act()?),
            'r' => Step::Retry(self.act()?, self.number()?),
            'f' => Step::FanOut(self.number()?),
            'm' => Step::Mixed(self.number()?, self.block()?),
            't' => Step::Timer(self.number()?),
            'w' => Step::Wait(self.number()?),
            'v' => {
                let event = self.number()?;
                self.expect(',')?;
                Step::Race(event, self.number()?)
            }
            'c' => Step::Child(None, self.block()?),
            'k' => Step::Child(Some(self.number()?), self.block()?),
            'd' => Step::Detached(self.block()?),
            's' => {
                let target = self.number()?;
                self.expect(',')?;
                Step::Send(target, self.number()?)
            }
            'z' => Step::Terminate(self.number()?),
            'u' => Step::Status,
            'x' => Step::Fail,
            _ => return None,
        })
    }

    fn block(&mut self) -> Option<Vec<Step>> {
        self.expect('{')?;
        let steps = self.steps()?;
        self.expect('}')?;
        Some(steps)
    }

    fn act(&mut self) -> Option<Act> {
        Some(match self.take()? {
            'e' => Act::Echo,
            'f' => Act::Flaky,
            'b' => Act::Broken,
            _ => return None,
        })
    }

    fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        digits.parse().ok()
    }

    fn take(&mut self) -> Option<char> {
        let first = self.0.chars().next()?;
        self.0 = self.0.get(first.len_utf8()..)?;
        Some(first)
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        (self.take()? == wanted).then_some(())
    }
}

fn steps_in(steps: &[Step]) -> usize {
    steps.iter().map(|step| 1 + step.children().map_or(0, steps_in)).sum()
}

/// All lists of steps that have one step less, or a simpler one. None is as it was.
fn simpler_steps(steps: &[Step]) -> Vec<Vec<Step>> {
    let with = |index: usize, instead: Vec<Step>| {
        let mut changed = steps.to_vec();
        changed.splice(index..=index, instead);
        changed
    };
    let mut all = Vec::new();
    if steps.len() > 2 {
        let (first, second) = steps.split_at(steps.len() / 2);
        all.extend([first.to_vec(), second.to_vec()]);
    }
    all.extend((0..steps.len()).map(|index| with(index, Vec::new())));
    for (index, step) in steps.iter().enumerate() {
        all.extend(step.children().map(|children| with(index, children.to_vec())));
        all.extend(step.simpler().into_iter().map(|simpler| with(index, vec![simpler])));
    }
    all
}

impl Step {
    /// The steps of the child that it starts.
    fn children(&self) -> Option<&[Self]> {
        match self {
            Self::Mixed(_, steps) | Self::Child(_, steps) | Self::Detached(steps) => Some(steps),
            _ => None,
        }
    }

    /// What takes its place and does less.
    fn simpler(&self) -> Vec<Self> {
        let halves = |count: u8, least: u8| (count > least).then(|| least.max(count / 2));
        match self {
            Self::Retry(act, times) => {
                let fewer = halves(*times, 1).map(|times| Self::Retry(*act, times));
                [Self::Activity(*act)].into_iter().chain(fewer).collect()
            }
            Self::FanOut(count) => halves(*count, 1).map(Self::FanOut).into_iter().collect(),
            Self::Timer(ms) if *ms > 0 => vec![Self::Timer(ms / 2)],
            Self::Race(event, ms) if *ms > 0 => vec![Self::Race(*event, ms / 2)],
            Self::Mixed(ms, steps) => {
                let child = Self::Child(None, steps.clone());
                let steps = simpler_steps(steps).into_iter();
                [child]
                    .into_iter()
                    .chain(steps.map(|steps| Self::Mixed(*ms, steps)))
                    .collect()
            }
            Self::Child(id, steps) => {
                let unnamed = id.map(|_| Self::Child(None, steps.clone()));
                let steps = simpler_steps(steps).into_iter();
                unnamed
                    .into_iter()
                    .chain(steps.map(|steps| Self::Child(*id, steps)))
                    .collect()
            }
            Self::Detached(steps) => simpler_steps(steps).into_iter().map(Self::Detached).collect(),
            _ => Vec::new(),
        }
    }
}

fn random_steps(rng: &mut Rng, depth: u8) -> Vec<Step> {
    let count = if depth == 0 { rng.u8(1..=6) } else { rng.u8(1..=3) };
    (0..count).map(|_| random_step(rng, depth)).collect()
}

fn random_step(rng: &mut Rng, depth: u8) -> Step {
    let nests = depth < 2;
    let act = *rng
        .choice(&[Act::Echo, Act::Echo, Act::Flaky, Act::Broken])
        .unwrap_or(&Act::Echo);
    match rng.u8(..24) {
        0..=4 => Step::Activity(act),
        5 => Step::Retry(act, rng.u8(2..=3)),
        6..=7 => Step::FanOut(rng.u8(2..=5)),
        8 if nests => Step::Mixed(rng.u16(0..400), random_steps(rng, depth + 1)),
        8..=10 => Step::Timer(rng.u16(0..800)),
        11..=12 => Step::Wait(rng.u8(..EVENTS)),
        13..=15 => Step::Race(rng.u8(..EVENTS), rng.u16(0..600)),
        16..=17 if nests => Step::Child(None, random_steps(rng, depth + 1)),
        18 if nests => Step::Child(Some(rng.u8(..2)), random_steps(rng, depth + 1)),
        19 if nests => Step::Detached(random_steps(rng, depth + 1)),
        16..=21 => Step::Send(rng.u8(..ROOTS), rng.u8(..EVENTS)),
        22 => Step::Status,
        _ if rng.u8(..4) == 0 => Step::Terminate(rng.u8(..ROOTS)),
        _ if rng.u8(..3) == 0 => Step::Fail,
        _ => Step::Status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simpler_plan_is_another_one_until_nothing_is_left() {
        let weight = |plan: &Plan| (plan.len(), plan.to_string().len(), plan.to_string());
        for seed in 0..100 {
            let mut plan = Plan::random(&mut Rng::with_seed(seed), "n1");
            let mut rounds = 0;
            while let Some(simplest) = plan.simpler().into_iter().min_by_key(weight) {
                assert!(plan.simpler().iter().all(|simpler| *simpler != plan));
                plan = simplest;
                rounds += 1;
                assert!(rounds < 1_000, "{plan} never ends");
            }
            assert_eq!((plan.len(), plan.rounds), (0, 1));
        }
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        for seed in 0..200 {
            let mut plan = Plan::random(&mut Rng::with_seed(seed), "n1");
            plan.seen = vec!["a".to_owned(), "b".to_owned()];
            assert_eq!(Plan::read(Some(&plan.payload())), Some(plan));
        }
    }
}
