//! Listings and counts against the reference.

use std::collections::BTreeMap;

use taskhub_core::query::{Filter, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;
use taskhub_store::Selection;

use crate::Violation;
use crate::checks::store_failed;
use crate::library::LIBRARY;
use crate::machine::SCRIPTED;
use crate::world::World;

/// Lists and counts are those of what is durable (I8, R13).
pub(crate) fn agree(world: &mut World) -> Result<(), Violation> {
    let statuses: Vec<RuntimeStatus> = if world.rng.bool() {
        Vec::new()
    } else {
        RuntimeStatus::ALL.into_iter().filter(|_| world.rng.bool()).collect()
    };
    let name = [None, Some(SCRIPTED), Some(LIBRARY)];
    let prefix = [None, Some("i"), Some("i1"), Some("shared")];
    let now = world.node_time();
    let mut some_time = || {
        world
            .rng
            .bool()
            .then(|| Timestamp::from_micros(now.micros() - world.rng.i64(0..1_000_000)))
    };
    let (created_from, created_before) = (some_time(), some_time());
    let filter = Filter {
        created_from,
        created_before,
        statuses,
        name: world.rng.choice(name).flatten().map(str::to_owned),
        id_prefix: world.rng.choice(prefix).flatten().map(str::to_owned),
    };
    let rows_max = world.rng.usize(1..=5);
    let (hub, mut after, mut rows) = (world.hub.clone(), None, Vec::new());
    loop {
        let which = Selection {
            hub: hub.clone(),
            filter: filter.clone(),
            after,
            rows_max,
        };
        let found = world.disk.look(|reader| reader.list(&which, Payloads::ALL));
        let page = found.map_err(|error| store_failed(&error))?.page;
        rows.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let infos = world.journal.present().map(|book| &book.state.info);
    let mut wanted: Vec<&InstanceInfo> = infos.filter(|info| filter.matches(info)).collect();
    wanted.sort_by_key(|info| (info.created_at, info.instance.clone()));
    if !rows.iter().eq(wanted.iter().copied()) {
        return Err(Violation::new(
            "I8",
            format!("{filter:?} lists {rows:?} and should list {wanted:?}"),
        ));
    }
    counts(world)
}

fn counts(world: &mut World) -> Result<(), Violation> {
    let hub = world.hub.clone();
    let counts = world.disk.look(|reader| reader.counts(&hub));
    let counts: BTreeMap<_, _> = counts.map_err(|error| store_failed(&error))?.into_iter().collect();
    let mut wanted: BTreeMap<RuntimeStatus, u64> = BTreeMap::new();
    for book in world.journal.present() {
        *wanted.entry(book.state.info.status).or_default() += 1;
    }
    if counts == wanted {
        return Ok(());
    }
    Err(Violation::new(
        "I8",
        format!("the store counts {counts:?}, and there are {wanted:?}"),
    ))
}
