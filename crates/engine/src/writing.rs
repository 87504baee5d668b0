//! The writing of one group as a value: it is told how the store answered, and says what the store is offered next, or what
//! became of the group. The commit loop carries that out, and the simulator drives the same value.
//!
//! A store that is full or out of reach is offered the same again for a while (A43). A store that refuses a group as damaged
//! refuses it for one of its commits, which is searched for by halves: without that the same group would be made again for ever.

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

/// How long a group is offered again while the store is out of reach.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);
/// How long one is offered again while the store is full. Who waits for it hears then that there is no room.
const FULL_MAX: Duration = Duration::from_secs(1);
/// Pause before the same is offered again.
const PAUSE: Duration = Duration::from_millis(100);
/// Commits refused in a row for damaged pages after which nothing more is tried.
const REFUSALS_MAX: u32 = 8;
/// Partitions that are remembered before those of closed hubs are forgotten.
const LEDGER_MAX: usize = 4_096;

/// A group that the store is asked to make durable.
#[derive(Debug)]
pub struct Writing<A> {
    taken: Taken<A>,
    offered: Arc<Group>,
    /// Absent while the whole group is offered.
    search: Option<Search>,
    /// When what is offered was offered first.
    began: Duration,
    has_waited: bool,
}

/// Where the refused commit is, by the places of commits in the group.
#[derive(Clone, Copy, Debug)]
struct Search {
    /// Those before it are durable.
    from: usize,
    /// It is before this one.
    to: usize,
    /// Behind the last one that is offered.
    offered_to: usize,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next<A> {
    /// Offer [`Writing::offered`] to the store after this pause, and say how it answers.
    Offer(Writing<A>, Duration),
    /// All of it is durable.
    Durable(Written<A>),
    /// Not all of it is.
    Failed(Failure<A>),
}

/// A group that is durable.
#[derive(Debug)]
pub struct Written<A> {
    /// Kept to be dropped by whoever lets its effects go.
    _group: Arc<Group>,
    /// What waited for it, by batches and their hubs.
    pub releases: Vec<(u32, Vec<Release<A>>)>,
    /// The last commit in it of each partition.
    pub upto: Vec<At>,
    /// The batches in it.
    pub tickets: Vec<Ticket>,
}

/// A group of which some is not durable, or none, or nobody knows.
#[derive(Debug)]
pub struct Failure<A> {
    /// What the store said.
    pub error: StoreError,
    /// The instance for which it refuses the group, and its hub.
    pub blamed: Option<(u32, Broken)>,
    /// Whatever is written meets the same damage, so no work is to be tried any more.
    pub is_hopeless: bool,
    /// The batches in it.
    pub tickets: Vec<Ticket>,
    why: Why,
    releases: Vec<(u32, Vec<Release<A>>)>,
}

/// Why it failed.
#[derive(Debug)]
enum Why {
    /// There was no room for what was offered last. What the ledger does not know to be durable was not done.
    Full,
    /// This commit was refused, if one was, and so nothing behind it was done; those before it are durable.
    Refused(Option<At>),
    /// What was done is not known.
    Unknown,
}

/// What a caller hears whose commit was in a group that failed, or behind one.
#[derive(Debug)]
pub enum Told {
    /// The commit is durable all the same.
    Answer(Reply),
    /// The store refuses it.
    Refused(StoreError),
    /// Nothing came of it.
    Displaced,
}

impl<A> Writing<A> {
    /// Begins with a group, at a time since any moment that stays the same.
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

    /// What the store is offered now: the group, or a part of it.
    pub fn offered(&self) -> &Arc<Group> {
        &self.offered
    }

    /// Whether this was offered before.
    pub fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// The store has answered. Partitions that were claimed without room have nothing to wait for.
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
            // What was done is not known, or it will not be taken however often it is offered.
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

    /// What was offered is durable.
    fn taken_in(mut self, ledger: &mut Ledger, now: Duration) -> Next<A> {
        let Some(search) = &mut self.search else {
            return Self::durable(self.taken, ledger);
        };
        for (at, _) in commits(&self.taken).take(search.offered_to).skip(search.from) {
            ledger.note(at);
        }
        search.from = search.offered_to;
        if search.from == search.to {
            // It is taken now that it comes alone. What refused the group may be behind it.
            search.to = commits(&self.taken).count();
        }
        if search.from == search.to {
            let error = StoreError::Unknown {
                source: "the store refuses a group, and takes each part of it".into(),
            };
            return Next::Failed(self.failed(error, Why::Refused(None)));
        }
        self.offer_half(now)
    }

    /// The store refuses what was offered.
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

    /// The commit at this place is refused alone.
    fn found(self, place: usize, error: StoreError, ledger: &mut Ledger) -> Failure<A> {
        let (Some((at, commit)), StoreError::Corrupt { what, extent, .. }) = (commits(&self.taken).nth(place), &error)
        else {
            unreachable!("the search asks for one commit that there is, and goes on for damage alone");
        };
        // If what refuses it is a damaged page, not even that it is set aside can be written. An instance of its own cannot be
        // made because of such a page, or several in a row cannot be changed: then any other may meet the same.
        let is_unwritable = *extent == Extent::Pages;
        let is_new = matches!(commit.change, Some(Change::Create(_)));
        ledger.refusals += u32::from(is_unwritable);
        let is_hopeless = is_unwritable && (is_new || ledger.refusals >= REFUSALS_MAX);
        let broken = Broken {
            instance: Some(commit.instance.clone()),
            what: format!("the store refuses to write it: {what}"),
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

    /// Offers the first half of where the refused commit is.
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
    /// What callers hear, of those for whom it is certain what became of their commits; also of those who wait for batches
    /// that were [discarded](crate::group::Gathering::discard) behind the group. The others hear nothing, and nothing else
    /// is let go (A1).
    pub fn settle(self, discarded: VecDeque<Batch<A>>, ledger: &mut Ledger) -> Vec<(A, Told)> {
        let Self {
            why, releases, error, ..
        } = self;
        let mut told = Vec::new();
        if matches!(why, Why::Unknown) {
            // No store has seen what was behind it.
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

/// What the commit loop has seen of the store.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Up to which commit each partition, by its hub and number, is durable.
    durable: BTreeMap<(u32, u16), Seq>,
    /// Commits refused for damaged pages since a group was taken.
    refusals: u32,
}

impl Ledger {
    /// Forgets hubs that are closed, if there are so many that it is worth a look.
    pub fn forget_closed(&mut self, is_open: impl Fn(u32) -> bool) {
        if self.durable.len() > LEDGER_MAX {
            self.durable.retain(|(hub, _), _| is_open(*hub));
        }
    }

    /// The commits of a partition come without a gap, so those before its first ones are durable.
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

    /// Whether a commit is durable; `None` if nothing is known of its partition.
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

/// A group of the commits at these places.
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

/// The same refusal for one more caller.
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
