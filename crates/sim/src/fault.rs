//! What goes wrong in a simulation, how often, and how often it did.

use std::collections::BTreeMap;

use fastrand::Rng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A group fails and leaves nothing behind.
    GroupLost,
    /// A group fails though it became durable.
    GroupUnknown,
    /// The store refuses whatever is written of an instance, because something of it is damaged.
    CommitRefused,
    /// A call of the store other than a group is not made.
    CallFailed,
    /// A call of the store other than a group is made, and its answer lost.
    CallUnanswered,
    /// The disk below the store refuses to read, from a file or a log.
    DiskReadFailed,
    /// It refuses to write, be it for a commit or for a checkpoint.
    DiskWriteFailed,
    /// It refuses to sync.
    DiskSyncFailed,
    /// The node crashes at a store call, before it does anything.
    CrashBeforeCall,
    /// The node crashes at a store call that was done.
    CrashAfterCall,
    /// The node crashes between staging a group and sealing it.
    CrashInGroup,
    /// The node crashes between two steps.
    Crash,
    /// The memory of all partitions is dropped and read anew; activities go on.
    Reload,
    /// An assertion breaks in a partition: its memory is dropped and read anew, while the others go on.
    PartitionBroken,
    /// Another node takes all partitions, as it may when this one has not renewed its lease.
    ClaimLost,
    /// A turn does not return: its thread is given up, and its instance set aside (A33).
    TurnBlocked,
    /// The node stops cleanly and starts again.
    CleanRestart,
    /// The store has no space for a while.
    Full,
    /// The store has no space for longer than a commit waits (A43).
    FullForLong,
    /// A turn panics.
    TurnPanicked,
    /// A turn's answer takes long.
    AnswerDelayed,
    /// A turn's answer comes twice.
    AnswerDoubled,
    /// A turn's answer never comes; its worker is found gone.
    AnswerLost,
    /// A turn's worker asks for the history again, as one does that was started anew (R27).
    HistoryDemanded,
    /// A turn's answer comes after the memory it was made from was dropped.
    StaleAnswer,
    /// A turn's answer takes only a part of the batch (R25).
    PartialAnswer,
    /// An activity gives its result twice.
    ActivityTwice,
    /// An activity never gives its result: its worker is gone until the node restarts.
    ActivityGone,
    /// The hub is deleted with all that is in it, and one with its name is made, with another number of partitions.
    HubMadeAnew,
    /// The machine's clock is set back.
    ClockBack,
    /// The machine's clock is set forth.
    ClockForth,
    /// Nothing happens for a day, so that idempotency keys expire.
    LongPause,
    /// An instance is evicted from memory.
    Evicted,
    /// What was read comes late.
    ReadDelayed,
    /// What was read comes after the memory that wants it was dropped.
    StaleRead,
    /// Reading a history takes long.
    HistoryDelayed,
    /// Reading a state takes long.
    LoadDelayed,
    /// A client sends a request twice, with the same key.
    RequestDoubled,
    /// A client sends a request again whose outcome it does not know.
    RequestRepeated,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 39] = [
        Self::GroupLost,
        Self::GroupUnknown,
        Self::CommitRefused,
        Self::CallFailed,
        Self::CallUnanswered,
        Self::DiskReadFailed,
        Self::DiskWriteFailed,
        Self::DiskSyncFailed,
        Self::CrashBeforeCall,
        Self::CrashAfterCall,
        Self::CrashInGroup,
        Self::Crash,
        Self::Reload,
        Self::PartitionBroken,
        Self::ClaimLost,
        Self::TurnBlocked,
        Self::CleanRestart,
        Self::Full,
        Self::FullForLong,
        Self::TurnPanicked,
        Self::AnswerDelayed,
        Self::AnswerDoubled,
        Self::AnswerLost,
        Self::HistoryDemanded,
        Self::StaleAnswer,
        Self::PartialAnswer,
        Self::ActivityTwice,
        Self::ActivityGone,
        Self::HubMadeAnew,
        Self::ClockBack,
        Self::LongPause,
        Self::Evicted,
        Self::ReadDelayed,
        Self::StaleRead,
        Self::HistoryDelayed,
        Self::LoadDelayed,
        Self::RequestDoubled,
        Self::RequestRepeated,
        Self::ClockForth,
    ];

    /// Whether it takes a disk.
    pub fn is_of_disk(self) -> bool {
        matches!(
            self,
            Self::DiskReadFailed | Self::DiskWriteFailed | Self::DiskSyncFailed
        )
    }

    /// Highest rate that is drawn, in strikes per 10 000 chances.
    fn rate_max(self) -> u32 {
        match self {
            // Chances are steps.
            Self::Crash
            | Self::Reload
            | Self::ClaimLost
            | Self::PartitionBroken
            | Self::CleanRestart
            | Self::DiskReadFailed
            | Self::DiskWriteFailed
            | Self::DiskSyncFailed
            | Self::ClockBack
            | Self::ClockForth => 20,
            Self::HubMadeAnew | Self::Full | Self::FullForLong | Self::LongPause | Self::TurnBlocked => 8,
            // Chances are groups.
            Self::GroupLost | Self::GroupUnknown | Self::CrashInGroup => 150,
            Self::CommitRefused => 60,
            // Chances are calls.
            Self::CallFailed | Self::CallUnanswered => 800,
            // Chances are items of work.
            Self::AnswerLost | Self::ActivityGone | Self::TurnPanicked => 300,
            Self::AnswerDelayed
            | Self::AnswerDoubled
            | Self::HistoryDemanded
            | Self::PartialAnswer
            | Self::ActivityTwice
            | Self::ReadDelayed
            | Self::HistoryDelayed
            | Self::LoadDelayed => 2_500,
            Self::RequestDoubled | Self::RequestRepeated => 1_500,
            // These are drawn as points, not as rates, or follow from others.
            Self::CrashBeforeCall | Self::CrashAfterCall | Self::StaleAnswer | Self::StaleRead | Self::Evicted => 0,
        }
    }
}

/// How often each fault strikes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates(BTreeMap<Fault, u32>);

impl Rates {
    /// Draws rates; half of the faults never strike, so that each is also seen without the others.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut rates = BTreeMap::new();
        for fault in Fault::ALL {
            let rate = rng.u32(..=fault.rate_max());
            if rng.bool() {
                rates.insert(fault, rate);
            }
        }
        Self(rates)
    }

    /// Sets one rate.
    pub(crate) fn set(&mut self, fault: Fault, rate: u32) {
        self.0.insert(fault, rate);
    }

    /// Those that are not zero.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Fault, u32)> {
        self.0
            .iter()
            .filter(|(_, rate)| **rate > 0)
            .map(|(fault, rate)| (*fault, *rate))
    }

    /// Draws whether the fault strikes.
    pub(crate) fn strikes(&self, fault: Fault, rng: &mut Rng) -> bool {
        self.0
            .get(&fault)
            .is_some_and(|rate| *rate > 0 && rng.u32(..10_000) < *rate)
    }
}

/// What happened in one or more simulations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often each fault struck.
    pub faults: BTreeMap<Fault, u64>,
    /// Simulations.
    pub runs: u64,
    /// Steps of the scheduler.
    pub steps: u64,
    /// Turns that workers ran.
    pub turns: u64,
    /// Commits that became durable.
    pub commits: u64,
    /// Groups that became durable.
    pub groups: u64,
    /// How often memory was dropped and read anew.
    pub reloads: u64,
    /// How often the node crashed.
    pub crashes: u64,
    /// Instances that were created, children included.
    pub instances: u64,
    /// Requests of clients.
    pub requests: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// How often a fault struck.
    pub fn of(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// Adds what happened in another simulation.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        self.runs += other.runs;
        self.steps += other.steps;
        self.turns += other.turns;
        self.commits += other.commits;
        self.groups += other.groups;
        self.reloads += other.reloads;
        self.crashes += other.crashes;
        self.instances += other.instances;
        self.requests += other.requests;
    }
}
