//! The writing of one group, as a value: its inputs are the answers of the store, its outputs are the next offer to the
//! store or the outcome of the group. The commit loop carries them out; the simulator drives the same value.
//!
//! After `Full` and `Unavailable` nothing was changed, so the same group is offered again for a limited time (A43).
//! After any other error the outcome is unknown, so the hubs must reload. If the store refuses a group as damaged, one
//! of its commits is the cause. A binary search finds that commit, and its instance is set aside. Otherwise the
//! partitions would reload and produce the same commits again, so the whole node would retry the same group forever
//! because of one instance.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::commit::{Change, Commit};
use taskhub_core::id::Seq;
use taskhub_store::{Error as StoreError, Extent, Group, Section};

use crate::group::{At, Batch, Release, Taken, Ticket};
use crate::io::Reply;
use crate::supervision::{Broken, BrokenBy};

/// Time limit for retries while the store is unreachable.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);
/// Time limit for retries while the store is full. After it, the waiting callers get `Full`.
const FULL_MAX: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Number of consecutive commits refused because of damaged pages after which the node accepts no more work.
const REFUSALS_MAX: u32 = 8;
/// Number of remembered partitions above which those of closed hubs are removed.
const LEDGER_MAX: usize = 4_096;

/// The attempts to make one group durable.
#[derive(Debug)]
pub struct Writing<A> {
    taken: Taken<A>,
    offered: Arc<Group>,
    /// Absent while the whole group is offered.
    search: Option<Search>,
    /// When the current offer was first made.
    began: Duration,
    has_waited: bool,
}

/// The range that contains the refused commit, by the positions of commits in the group.
#[derive(Clone, Copy, Debug)]
struct Search {
    /// All commits before this position are durable.
    from: usize,
    /// The refused commit is before this position.
    to: usize,
    /// The end of the offered range.
    offered_to: usize,
}

/// The next step.
#[derive(Debug)]
pub enum Next<A> {
    /// Offer [`Writing::offered`] to the store after this pause, and pass its answer to [`Writing::answered`].
    Offer(Writing<A>, Duration),
    /// The whole group is durable.
    Durable(Written<A>),
    /// The group failed, at least in part.
    Failed(Failure<A>),
}

/// A group that is durable.
#[derive(Debug)]
pub struct Written<A> {
    /// Dropped by the thread that releases the effects, because dropping a large group takes time.
    _group: Arc<Group>,
    /// The effects that waited for it, by batch, with the number of the hub.
    pub releases: Vec<(u32, Vec<Release<A>>)>,
    /// The last commit of each partition in it.
    pub upto: Vec<At>,
    /// The batches in it.
    pub tickets: Vec<Ticket>,
}

/// A group that is not durable, durable only in part, or of unknown outcome.
#[derive(Debug)]
pub struct Failure<A> {
    /// The error of the store.
    pub error: StoreError,
    /// The instance because of which the store refuses the group, and its hub.
    pub blamed: Option<(u32, Broken)>,
    /// Other commits would meet the same damage, so the node must accept no more work.
    pub is_hopeless: bool,
    /// The batches in it.
    pub tickets: Vec<Ticket>,
    why: Why,
    releases: Vec<(u32, Vec<Release<A>>)>,
}

/// Why it failed.
#[derive(Debug)]
enum Why {
    /// The store was full for the last offer. Everything that the ledger does not record as durable was not written.
    Full,
    /// The store refused this commit, if any. Nothing after it was written; all commits before it are durable.
    Refused(Option<At>),
    /// The outcome is unknown.
    Unknown,
}

/// The result for a caller whose commit was in a failed group or after one.
#[derive(Debug)]
pub enum Told {
    /// The commit is durable nevertheless.
    Answer(Reply),
    /// The store refuses it.
    Refused(StoreError),
    /// The commit had no effect.
    Displaced,
}

impl<A> Writing<A> {
    /// Begins to write a group. `now` is measured from any fixed moment.
    pub fn begin(taken: Taken<A>, ledger: &mut Ledger, now: Duration) -> Next<A> {
        if taken.group.sections.is_empty() {
            return Self::durable(taken, ledger);
        }
        ledger.expect(taken.hubs.iter().copied().zip(&taken.group.sections));
        let offered = Arc::clone(&taken.group);
        let writing = Self {
            taken,
            offered,
            search: None,
            began: now,
            has_waited: false,
        };
        Next::Offer(writing, Duration::ZERO)
    }

    /// The current offer to the store: the group or a part of it.
    pub fn offered(&self) -> &Arc<Group> {
        &self.offered
    }

    /// Whether this is a retry.
    pub fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// Takes the answer of the store. Partitions in limited service, because the store is already full, do not wait for
    /// space.
    pub fn answered(
        mut self,
        answer: Result<(), StoreError>,
        ledger: &mut Ledger,
        now: Duration,
        is_out_of_room: bool,
    ) -> Next<A> {
        let error = match answer {
            Ok(()) => return self.taken_in(ledger, now),
            Err(error @ StoreError::Corrupt { .. }) => return self.refused(error, ledger, now),
            Err(error) => error,
        };
        let patience = match error {
            StoreError::Full if is_out_of_room => Duration::ZERO,
            StoreError::Full => FULL_MAX,
            StoreError::Unavailable { .. } => UNAVAILABLE_MAX,
            // The outcome is unknown, or the store would refuse the group again.
            _ => Duration::ZERO,
        };
        if now.saturating_sub(self.began) < patience {
            self.has_waited = true;
            return Next::Offer(self, PAUSE);
        }
        let why = match error {
            StoreError::Full => Why::Full,
            _ => Why::Unknown,
        };
        Next::Failed(self.failed(error, why))
    }

    /// The offered commits are durable.
    fn taken_in(mut self, ledger: &mut Ledger, now: Duration) -> Next<A> {
        let Some(search) = &mut self.search else {
            return Self::durable(self.taken, ledger);
        };
        for (at, _) in commits(&self.taken).take(search.offered_to).skip(search.from) {
            ledger.note(at);
        }
        search.from = search.offered_to;
        if search.from == search.to {
            // The last candidate was accepted alone, so the cause of the refusal may be after it: search the rest.
            search.to = commits(&self.taken).count();
        }
        if search.from == search.to {
            let error = StoreError::Unknown {
                source: "the store refused a group but accepted each part of it".into(),
            };
            return Next::Failed(self.failed(error, Why::Refused(None)));
        }
        self.offer_half(now)
    }

    /// The store refuses the offered commits.
    fn refused(mut self, error: StoreError, ledger: &mut Ledger, now: Duration) -> Next<A> {
        match &mut self.search {
            None => {
                let to = commits(&self.taken).count();
                self.search = Some(Search {
                    from: 0,
                    to,
                    offered_to: to,
                });
                self.offer_half(now)
            }
            Some(search) if search.offered_to - search.from > 1 => {
                search.to = search.offered_to;
                self.offer_half(now)
            }
            Some(search) => {
                let from = search.from;
                Next::Failed(self.found(from, error, ledger))
            }
        }
    }

    /// The single commit at this position is refused.
    fn found(self, place: usize, error: StoreError, ledger: &mut Ledger) -> Failure<A> {
        let (Some((at, commit)), StoreError::Corrupt { what, extent, .. }) = (commits(&self.taken).nth(place), &error)
        else {
            unreachable!("the search asks for one commit that there is, and goes on for damage alone");
        };
        // If a damaged page causes the refusal, even the mark "set aside" cannot be written. If such a page prevents
        // the creation of an instance, or the changes of several instances in a row, then probably every new commit
        // would fail in the same way.
        let is_unwritable = *extent == Extent::Pages;
        let is_new = matches!(commit.change, Some(Change::Create(_)));
        ledger.refusals += u32::from(is_unwritable);
        let is_hopeless = is_unwritable && (is_new || ledger.refusals >= REFUSALS_MAX);
        let broken = Broken {
            instance: Some(commit.instance.clone()),
            what: format!("the store refused to write the instance: {what}"),
            by: if is_unwritable {
                BrokenBy::Writing
            } else {
                BrokenBy::Running
            },
        };
        let blamed = (!(is_unwritable && is_new)).then_some((at.hub, broken));
        Failure {
            blamed,
            is_hopeless,
            ..self.failed(error, Why::Refused(Some(at)))
        }
    }

    /// Offers the first half of the range that contains the refused commit.
    fn offer_half(mut self, now: Duration) -> Next<A> {
        if let Some(search) = &mut self.search {
            search.offered_to = search.from + (search.to - search.from).div_ceil(2);
            self.offered = Arc::new(part(&self.taken.group, search.from..search.offered_to));
        }
        self.began = now;
        self.has_waited = false;
        Next::Offer(self, Duration::ZERO)
    }

    fn durable(taken: Taken<A>, ledger: &mut Ledger) -> Next<A> {
        let upto = taken.upto();
        ledger.refusals = 0;
        ledger
            .durable
            .extend(upto.iter().map(|at| ((at.hub, at.partition), at.seq)));
        Next::Durable(Written {
            _group: taken.group,
            releases: taken.releases,
            upto,
            tickets: taken.tickets,
        })
    }

    fn failed(self, error: StoreError, why: Why) -> Failure<A> {
        Failure {
            error,
            blamed: None,
            is_hopeless: false,
            tickets: self.taken.tickets,
            why,
            releases: self.taken.releases,
        }
    }
}

impl<A> Failure<A> {
    /// The results for the callers whose outcome is certain, including those that wait for batches that were
    /// [discarded](crate::group::Gathering::discard) after the group. The others get no result here, and all other
    /// effects are dropped: releasing an effect whose commit may be lost would make it visible before it is durable
    /// (A1).
    pub fn settle(self, discarded: VecDeque<Batch<A>>, ledger: &mut Ledger) -> Vec<(A, Told)> {
        let Self {
            why, releases, error, ..
        } = self;
        let mut told = Vec::new();
        if matches!(why, Why::Unknown) {
            // The store has never seen the batches after the group.
            let turned_away = discarded.into_iter().flat_map(Batch::turn_away);
            told.extend(turned_away.map(|to| (to, Told::Displaced)));
            return told;
        }
        let mut forgotten: Vec<Release<A>> = releases.into_iter().flat_map(|(_, releases)| releases).collect();
        for batch in discarded {
            let (hub, sections, releases) = batch.into_parts();
            ledger.expect(sections.iter().map(|section| (hub, section)));
            forgotten.extend(releases);
        }
        for release in forgotten {
            let Release::Reply(to, reply, at) = release else {
                continue;
            };
            let Some(is_durable) = ledger.is_durable(&at) else {
                continue;
            };
            let tells = match &why {
                _ if is_durable => Told::Answer(reply),
                Why::Full => Told::Refused(StoreError::Full),
                Why::Refused(Some(refused)) if *refused == at => Told::Refused(again(&error)),
                Why::Refused(_) | Why::Unknown => Told::Displaced,
            };
            told.push((to, tells));
        }
        told
    }
}

/// The commit loop's record of what is durable.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The last durable commit of each partition, by hub and partition number.
    durable: BTreeMap<(u32, u16), Seq>,
    /// Commits refused because of damaged pages since the last durable group.
    refusals: u32,
}

impl Ledger {
    /// Removes closed hubs when the ledger is large.
    pub fn forget_closed(&mut self, is_open: impl Fn(u32) -> bool) {
        if self.durable.len() > LEDGER_MAX {
            self.durable.retain(|(hub, _), _| is_open(*hub));
        }
    }

    /// The commits of a partition have no gaps, so all commits before the first one of a section are durable.
    fn expect<'g>(&mut self, sections: impl IntoIterator<Item = (u32, &'g Section)>) {
        for (hub, section) in sections {
            let before = Seq(section.first_seq.0.saturating_sub(1));
            self.durable.entry((hub, section.partition.index)).or_insert(before);
        }
    }

    fn note(&mut self, at: At) {
        self.refusals = 0;
        self.durable.insert((at.hub, at.partition), at.seq);
    }

    /// Whether a commit is durable; `None` if its partition is unknown.
    fn is_durable(&self, at: &At) -> Option<bool> {
        let durable = self.durable.get(&(at.hub, at.partition));
        durable.map(|durable| at.seq <= *durable)
    }
}

/// The commits of a group, in order.
fn commits<A>(taken: &Taken<A>) -> impl Iterator<Item = (At, &Commit)> {
    let sections = taken.hubs.iter().zip(&taken.group.sections);
    sections.flat_map(|(hub, section)| {
        (section.first_seq.0..).zip(&section.commits).map(|(seq, commit)| {
            let at = At {
                hub: *hub,
                partition: section.partition.index,
                seq: Seq(seq),
            };
            (at, commit)
        })
    })
}

/// The part of a group with the commits at these positions.
fn part(group: &Group, places: Range<usize>) -> Group {
    let mut sections = Vec::new();
    let mut first = 0;
    for section in &group.sections {
        let of_it = |place: usize| place.clamp(first, first + section.commits.len()) - first;
        let (from, to) = (of_it(places.start), of_it(places.end));
        first += section.commits.len();
        if from < to {
            sections.push(Section {
                partition: section.partition.clone(),
                epoch: section.epoch,
                first_seq: Seq(section.first_seq.0 + from as u64),
                commits: section.commits.iter().take(to).skip(from).cloned().collect(),
            });
        }
    }
    Group { sections }
}

/// Copies a refusal for another caller.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Corrupt { place, what, extent } => StoreError::Corrupt {
            place: place.clone(),
            what: what.clone(),
            extent: *extent,
        },
        _ => unreachable!("only damage refuses a single commit"),
    }
}
