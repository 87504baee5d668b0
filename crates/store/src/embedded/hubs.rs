//! The hubs and partitions of a store. There is one writer, so what it remembers of them is true; it
//! forgets what a transaction did not bring to disk.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use taskhub_core::id::{Epoch, HubName, InstanceNumber, Seq};
use taskhub_core::time::Timestamp;

use super::record::{Key, int, uint};
use super::trouble::Trouble;
use crate::fence::no_such_partition;
use crate::{Error, HubInfo, Lease, PartitionKey, first_number};

/// All hubs.
#[derive(Debug, Default)]
pub(super) struct Hubs(BTreeMap<HubName, Hub>);

/// A hub.
#[derive(Debug)]
struct Hub {
    row: i64,
    info: HubInfo,
    parts: Vec<Part>,
}

/// A partition.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) row: i64,
    /// Row of its hub.
    pub(super) hub: i64,
    pub(super) epoch: Epoch,
    pub(super) is_clean: bool,
    pub(super) counters: Counters,
}

/// Where counting goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) next_seq: Seq,
    pub(super) next_number: InstanceNumber,
}

/// Number of the first commit: 0 says "nothing yet".
const FIRST_SEQ: Seq = Seq(1);

/// Tables with rows of instances.
const INSTANCE_TABLES: [&str; 5] = ["instance", "payload", "history", "pending", "seen_key"];

impl Hubs {
    pub(super) fn load(connection: &Connection) -> Result<Self, Trouble> {
        let mut hubs = BTreeMap::new();
        let mut statement = connection.prepare("SELECT hub, name, created_at FROM hub")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name = HubName::new(row.get_ref(1)?.as_str()?)
                .map_err(|refusal| Trouble::Contradiction(refusal.to_string()))?;
            let parts = parts(connection, row.get(0)?)?;
            let partitions = u16::try_from(parts.len()).unwrap_or(u16::MAX);
            let info = HubInfo {
                name: name.clone(),
                partitions,
                created_at: Timestamp::from_ticks(row.get(2)?),
            };
            hubs.insert(
                name,
                Hub {
                    row: row.get(0)?,
                    info,
                    parts,
                },
            );
        }
        Ok(Self(hubs))
    }

    pub(super) fn infos(&self) -> Vec<HubInfo> {
        self.0.values().map(|hub| hub.info.clone()).collect()
    }

    pub(super) fn part(&self, key: &PartitionKey) -> Result<&Part, Error> {
        let hub = self
            .0
            .get(&key.hub)
            .ok_or_else(|| Error::NoSuchHub { hub: key.hub.clone() })?;
        hub.parts
            .get(usize::from(key.index))
            .ok_or_else(|| no_such_partition(key))
    }

    /// Takes over what a sealed group counted.
    pub(super) fn count(&mut self, counters: &BTreeMap<i64, Counters>) {
        for part in self.0.values_mut().flat_map(|hub| &mut hub.parts) {
            if let Some(counters) = counters.get(&part.row) {
                part.counters = *counters;
            }
        }
    }
}

fn parts(connection: &Connection, hub: i64) -> Result<Vec<Part>, Trouble> {
    let mut statement = connection
        .prepare("SELECT part, epoch, is_clean, next_seq, next_number FROM part WHERE hub = ?1 ORDER BY ix")?;
    let mut rows = statement.query([hub])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let counters = Counters {
            next_seq: Seq(uint(row.get(3)?)),
            next_number: InstanceNumber(uint(row.get(4)?)),
        };
        parts.push(Part {
            row: row.get(0)?,
            hub,
            epoch: Epoch(row.get(1)?),
            is_clean: row.get(2)?,
            counters,
        });
    }
    Ok(parts)
}

/// Creates a hub; the caller loads the hubs anew when it is durable.
pub(super) fn create(connection: &Connection, hubs: &Hubs, info: &HubInfo) -> Result<(), Trouble> {
    let HubInfo {
        name,
        partitions,
        created_at,
    } = info;
    if hubs.0.contains_key(name) {
        return Err(Error::HubExists { hub: name.clone() }.into());
    }
    let floor: u32 = connection.query_row("SELECT epoch_floor FROM store", [], |row| row.get(0))?;
    let insert = "INSERT INTO hub (folded, name, created_at) VALUES (?1, ?2, ?3)";
    connection.execute(insert, params![name.folded(), name.as_str(), created_at.ticks()])?;
    let hub = connection.last_insert_rowid();
    let insert = "INSERT INTO part (hub, ix, epoch, is_clean, next_seq, next_number) VALUES (?1, ?2, ?3, 1, ?4, ?5)";
    let mut insert = connection.prepare_cached(insert)?;
    let number = first_number(*created_at, Epoch(floor));
    for index in 0..*partitions {
        insert.execute(params![hub, index, floor, int(FIRST_SEQ.0), int(number.0)])?;
    }
    Ok(())
}

/// Deletes a hub and everything in it, in the caller's transaction; answers what it was.
pub(super) fn delete(connection: &Connection, hubs: &Hubs, name: &HubName) -> Result<HubInfo, Trouble> {
    let hub = hubs.0.get(name).ok_or_else(|| Error::NoSuchHub { hub: name.clone() })?;
    let newest = hub.parts.iter().map(|part| part.epoch).max().unwrap_or_default();
    connection.execute("UPDATE store SET epoch_floor = max(epoch_floor, ?1)", [newest.next().0])?;
    for part in &hub.parts {
        let (first, end) = Key::range(part.row);
        for table in INSTANCE_TABLES {
            connection.execute(
                &format!("DELETE FROM {table} WHERE inst >= ?1 AND inst < ?2"),
                [first, end],
            )?;
        }
        for table in ["outbox", "status_count", "part"] {
            connection.execute(&format!("DELETE FROM {table} WHERE part = ?1"), [part.row])?;
        }
    }
    connection.execute("DELETE FROM hub WHERE hub = ?1", [hub.row])?;
    Ok(hub.info.clone())
}

/// Raises the epochs of partitions (A21).
pub(super) fn claim(connection: &Connection, hubs: &Hubs, partitions: &[PartitionKey]) -> Result<Vec<Lease>, Trouble> {
    let mut leases = Vec::with_capacity(partitions.len());
    let mut update = connection.prepare_cached("UPDATE part SET epoch = ?2, is_clean = 0 WHERE part = ?1")?;
    for key in partitions {
        let part = hubs.part(key)?;
        let epoch = part.epoch.next();
        update.execute(params![part.row, epoch.0])?;
        leases.push(Lease {
            partition: key.clone(),
            epoch,
            is_clean: part.is_clean,
        });
    }
    Ok(leases)
}

/// Marks partitions clean, and fences their owner: the mark is worth something only if nothing can be
/// written after it. What another owner has taken is left alone.
pub(super) fn release(connection: &Connection, hubs: &Hubs, leases: &[Lease]) -> Result<(), Trouble> {
    let mut update =
        connection.prepare_cached("UPDATE part SET epoch = epoch + 1, is_clean = 1 WHERE part = ?1 AND epoch = ?2")?;
    for lease in leases {
        if let Ok(part) = hubs.part(&lease.partition) {
            update.execute(params![part.row, lease.epoch.0])?;
        }
    }
    Ok(())
}

/// Row of a hub, for readers.
pub(super) fn find(connection: &Connection, name: &HubName) -> Result<i64, Trouble> {
    let mut statement = connection.prepare_cached("SELECT hub FROM hub WHERE folded = ?1")?;
    let found = statement.query_row([name.folded()], |row| row.get(0)).optional()?;
    found.ok_or_else(|| Error::NoSuchHub { hub: name.clone() }.into())
}

/// A partition, for readers.
pub(super) fn find_part(connection: &Connection, key: &PartitionKey) -> Result<Part, Trouble> {
    let hub = find(connection, &key.hub)?;
    let part = parts(connection, hub)?.into_iter().nth(usize::from(key.index));
    part.ok_or_else(|| no_such_partition(key).into())
}
