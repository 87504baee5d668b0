//! The store and the whole run against the reference: after each recovery, at random moments, at the end.

use std::collections::{BTreeMap, BTreeSet};

use taskhub_core::failure::{INVALID_RESPONSE, NON_DETERMINISM};
use taskhub_core::id::InstanceId;
use taskhub_engine::io::{Reply, Request, TaskOffer};
use taskhub_store::{Error, ExecutionKey, HistoryRange, Lease, Recovered};

use crate::Violation;
use crate::fault::Fault;
use crate::journal::{Book, Journal};
use crate::machine::{Machine, SCRIPTED};
use crate::plan::Plan;
use crate::world::{Op, OpState, World};
use crate::{library, lists};

pub(crate) fn store_failed(error: &Error) -> Violation {
    Violation::new("store", format!("{error} ({error:?})"))
}

/// What was recovered is what became durable (I1, I10).
pub(crate) fn recovered(world: &mut World, all: &[(Lease, Vec<Recovered>)]) -> Result<(), Violation> {
    for (lease, items) in all {
        let index = lease.partition.index;
        match items.first() {
            Some(Recovered::Counters {
                next_seq,
                next_instance,
                horizon,
            }) if *next_seq == world.journal.next_seq(index)
                && world.journal.goes_on_with(index, *next_instance)
                && (0..world.partitions)
                    .map(|index| world.journal.next_seq(index))
                    .eq(horizon.iter().copied()) => {}
            other => return Err(Violation::new("I10", format!("partition {index} recovers {other:?}"))),
        }
        let known = items.iter().skip(1).cloned().map(Recovered::without_size);
        let found: BTreeSet<String> = known.map(|item| format!("{item:?}")).collect();
        let wanted = world.journal.recoverable(index);
        if found != wanted || found.len() + 1 != items.len() {
            let missing: Vec<_> = wanted.difference(&found).collect();
            let surplus: Vec<_> = found.difference(&wanted).collect();
            let what = format!("partition {index} recovers without {missing:?}, and with {surplus:?}");
            return Err(Violation::new("I10", what));
        }
    }
    states(world)
}

/// Every state that can be loaded is the fold of its commits, and nothing else is there (I1).
fn states(world: &mut World) -> Result<(), Violation> {
    for index in 0..world.partitions {
        let key = world.partition_key(index);
        let of_partition = |(partition, _): &(u16, _)| *partition == index;
        let books = world.journal.books.iter().filter(|(key, _)| of_partition(key));
        let ids: BTreeSet<InstanceId> = books.map(|(_, book)| book.state.info.instance.clone()).collect();
        let ids: Vec<InstanceId> = ids.into_iter().collect();
        let loaded = world
            .disk
            .look(|reader| reader.load(&key, &ids))
            .map_err(|error| store_failed(&error))?;
        for (id, stored) in ids.iter().zip(loaded) {
            let book = world.journal.book(id);
            let difference = match (&stored, book) {
                (None, None) => None,
                (Some(stored), Some(book)) => book.state.difference(stored, book.events()),
                (Some(_), None) | (None, Some(_)) => Some("whether it is there"),
            };
            if let Some(part) = difference {
                let wanted = book.map(|book| &book.state);
                let what = format!("{part} differs of `{id}`, which is stored as {stored:?} and should be {wanted:?}");
                return Err(Violation::new("I1", what));
            }
        }
    }
    Ok(())
}

/// An activity is offered only if its call is durable (A36).
pub(crate) fn offered(world: &World, offer: &TaskOffer) -> Result<(), Violation> {
    let key = &offer.key;
    let book = world.journal.books.get(&(key.partition.index, key.number));
    let is_durable = book.is_some_and(|book| key.occurrence < book.state.next_occurrence);
    if is_durable {
        return Ok(());
    }
    Err(Violation::new(
        "I1",
        format!("{key:?} is handed out before its call is durable"),
    ))
}

/// All that must hold once everything has come to rest.
pub(crate) fn at_the_end(world: &mut World) -> Result<(), Violation> {
    lists::agree(world)?;
    states(world)?;
    histories(world)?;
    let verified = world
        .disk
        .look(|reader| reader.verify())
        .map_err(|error| store_failed(&error))?;
    if !verified.problems.is_empty() {
        return Err(Violation::new("I12", verified.problems.join("; ")));
    }
    if let Some((at, item)) = world.journal.outbox.first_key_value() {
        return Err(Violation::new(
            "I5",
            format!("{item:?} is left in the outbox at {at:?}"),
        ));
    }
    for ((partition, _), book) in &world.journal.books {
        repeats(world, *partition, book)?;
        consumed_in_order(book)?;
    }
    arrived_once(world)?;
    for (index, op) in world.ops.iter().enumerate() {
        asked(&world.journal, op)?;
        for earlier in world.ops.iter().take(index) {
            in_order(&world.journal, earlier, op)?;
        }
    }
    Ok(())
}

/// Stored histories are those of the reference, of earlier executions too.
fn histories(world: &mut World) -> Result<(), Violation> {
    let present: Vec<_> = world
        .journal
        .books
        .iter()
        .filter(|(_, book)| !book.is_gone)
        .map(|(key, _)| *key)
        .collect();
    for (index, number) in present {
        let partition = world.partition_key(index);
        let Some(book) = world.journal.books.get(&(index, number)) else {
            continue;
        };
        for (ordinal, record) in (0..).zip(&book.records) {
            let key = ExecutionKey {
                partition: partition.clone(),
                number,
                ordinal,
            };
            let chunks = world
                .disk
                .look(|reader| reader.history(&key, HistoryRange::ALL))
                .map_err(|error| store_failed(&error))?;
            let mut events = Vec::new();
            for chunk in chunks {
                if chunk.first as usize != events.len() {
                    return Err(Violation::new(
                        "I4",
                        format!("{key:?} has a gap before event {}", chunk.first),
                    ));
                }
                events.extend(chunk.decode().map_err(|error| store_failed(&error))?);
            }
            if events != record.events {
                return Err(Violation::new(
                    "I4",
                    format!("{key:?} is stored as {events:?} and is {:?}", record.events),
                ));
            }
        }
    }
    Ok(())
}

/// Replaying each history gives the actions it records (I9).
fn repeats(world: &World, partition: u16, book: &Book) -> Result<(), Violation> {
    let info = &book.state.info;
    let failure = info.failure.as_deref();
    let has = |error_type| failure.is_some_and(|failure| failure.error_type == error_type);
    if has(NON_DETERMINISM) || (has(INVALID_RESPONSE) && !book.asks_for_itself()) {
        return Err(Violation::new("I9", format!("`{}` failed: {failure:?}", info.instance)));
    }
    let replayed = if info.name.as_str() == SCRIPTED {
        book.records.iter().try_for_each(|record| {
            let mut machine = Machine::new();
            machine.replay(&record.events)?;
            // What the plan made of the messages that a terminate recorded was never asked for (A25).
            let is_whole = !record.was_terminated && !book.asks_for_itself();
            if is_whole { machine.nothing_unrecorded() } else { Ok(()) }
        })
    } else {
        library::repeats(book, &world.partition_key(partition))
    };
    replayed.map_err(|what| Violation::new("I9", format!("`{}`: {what}", info.instance)))
}

/// A plan consumes the events of a name oldest first, each once, over all of its executions (R89).
fn consumed_in_order(book: &Book) -> Result<(), Violation> {
    let info = &book.state.info;
    let Some(plan) = Plan::read(info.input.as_ref()) else {
        return Ok(());
    };
    let arrived: BTreeMap<&str, &str> = book
        .arrivals
        .iter()
        .map(|(name, payload)| (payload.as_str(), name.as_str()))
        .collect();
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for payload in &plan.seen {
        let name = arrived.get(payload.as_str()).copied().unwrap_or("?");
        let position = taken.entry(name).or_default();
        let mut of_name = book.arrivals.iter().filter(|(called, _)| called == name);
        if of_name.nth(*position).map(|(_, payload)| payload) != Some(payload) {
            let what = format!("`{}` consumed {:?} of {:?}", info.instance, plan.seen, book.arrivals);
            return Err(Violation::new("I11", what));
        }
        *position += 1;
    }
    Ok(())
}

/// What a client sends arrives once per instance at most, what an orchestrator sends once per start of the
/// root it comes from; a keyed start may take place again when its key is forgotten with its instance (I5).
fn arrived_once(world: &World) -> Result<(), Violation> {
    let journal = &world.journal;
    let keys_expire = world.tally.of(Fault::LongPause) > 0;
    let mut sent: BTreeMap<&str, u32> = BTreeMap::new();
    for book in journal.books.values() {
        let mut here: BTreeSet<&str> = BTreeSet::new();
        for (_, payload) in &book.arrivals {
            let is_too_often = match payload.split_once('.') {
                None => !here.insert(payload) && !keys_expire,
                Some((root, _)) => {
                    let times = sent.entry(payload).or_default();
                    *times += 1;
                    *times > journal.started.get(root).copied().unwrap_or(0)
                }
            };
            if is_too_often {
                let what = format!("`{}` was sent {payload} too often", book.state.info.instance);
                return Err(Violation::new("I5", what));
            }
        }
    }
    Ok(())
}

/// What was acknowledged took place, and not more often than it may; what was refused did not (I1).
fn asked(journal: &Journal, op: &Op) -> Result<(), Violation> {
    let wrong = |what: &str| Err(Violation::new("I1", format!("{what}: {op:?}")));
    if matches!(op.state, OpState::Waiting) {
        return wrong("never answered");
    }
    match &op.request {
        Request::Start(start) => {
            let times = journal.started.get(&op.tag).copied().unwrap_or(0);
            // A key is forgotten with its instance (R137).
            if times > 1 && start.key.is_none() {
                return wrong("started more than once");
            }
            if matches!(op.state, OpState::Answered(_, Reply::Refused(_))) && start.key.is_none() && times > 0 {
                return wrong("refused and started");
            }
            if matches!(op.state, OpState::Displaced) && !op.is_repeated && times > 0 {
                return wrong("started, though its caller heard that nothing came of it");
            }
        }
        Request::Raise { key: None, .. } => {
            let is_it = |(_, payload): &&(String, String)| *payload == op.tag;
            let times: usize = journal
                .books
                .values()
                .map(|book| book.arrivals.iter().filter(is_it).count())
                .sum();
            let wanted = match &op.state {
                OpState::Answered(_, Reply::Done) => times == 1,
                OpState::Answered(..) | OpState::Displaced => times == 0,
                OpState::Waiting | OpState::Unknown => times <= 1,
            };
            if !wanted {
                return wrong("raised another number of times than it was accepted");
            }
        }
        _ => {}
    }
    Ok(())
}

/// An event raised after another one was acknowledged comes behind it (I11).
fn in_order(journal: &Journal, earlier: &Op, later: &Op) -> Result<(), Violation> {
    let (Request::Raise { .. }, Request::Raise { .. }) = (&earlier.request, &later.request) else {
        return Ok(());
    };
    let OpState::Answered(when, Reply::Done) = &earlier.state else {
        return Ok(());
    };
    // One that was repeated may have arrived at another time, or at an instance that was made anew.
    let is_repeated = earlier.is_repeated || later.is_repeated;
    if earlier.instance != later.instance || *when > later.issued || is_repeated {
        return Ok(());
    }
    for book in journal
        .books
        .values()
        .filter(|book| book.state.info.instance == earlier.instance)
    {
        let place = |op: &Op| book.arrivals.iter().position(|(_, payload)| *payload == op.tag);
        if let (Some(first), Some(second)) = (place(earlier), place(later))
            && first > second
        {
            return Err(Violation::new(
                "I11",
                format!("{} came behind {}", earlier.tag, later.tag),
            ));
        }
    }
    Ok(())
}
