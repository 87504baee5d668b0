//! The hubs and partitions of a store. There is one writer, so what it remembers of them is true; it
//! forgets what a transaction did not bring to disk.

use std::collections::BTreeMap;

use rusqlite::{Connection, params, params_from_iter};
use taskhub_core::id::{Epoch, HubName, InstanceNumber, Seq};
use taskhub_core::time::Timestamp;

use super::frames::ROUNDS_MAX;
use super::trouble::Trouble;
use crate::fence::no_such_partition;
use crate::sql::{Counters, Hub, Hubs, Key, Part, Words, hub_sum, uint};
use crate::{Claim, Error, HubInfo, Lease, NodeId, PartitionKey, Previous, first_number};

/// The one row about the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    /// Above the epochs of all deleted hubs.
    pub(super) epoch_floor: u32,
    /// Somebody has the store, or had it and did not close it.
    pub(super) is_open: bool,
    /// The first salt of the log that goes with the file, or that of an earlier round; absent until it is known.
    pub(super) log_salt: Option<u32>,
    /// What that was before this log was begun.
    pub(super) log_before: Option<u32>,
}

impl About {
    pub(super) fn read(connection: &Connection) -> Result<Self, Trouble> {
        let sql = "SELECT epoch_floor, is_open, log_salt, log_before, sum FROM store";
        let (about, sum) = connection.query_row(sql, [], |row| Ok((Self::of(row)?, row.get::<_, i64>(4)?)))?;
        if about.sum() == sum {
            return Ok(about);
        }
        let what = "wrong checksum in the row of table `store`";
        Err(Trouble::Contradiction(what.to_owned()))
    }

    /// From its columns.
    pub(super) fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        // Below 0 stands for none.
        let salt = |column| -> rusqlite::Result<_> { Ok(u32::try_from(row.get::<_, i64>(column)?).ok()) };
        Ok(Self {
            epoch_floor: row.get(0)?,
            is_open: row.get(1)?,
            log_salt: salt(2)?,
            log_before: salt(3)?,
        })
    }

    /// Its columns, but for the checksum.
    fn columns(self) -> [i64; 4] {
        let salt = |salt: Option<u32>| salt.map_or(-1, i64::from);
        [
            i64::from(self.epoch_floor),
            i64::from(self.is_open),
            salt(self.log_salt),
            salt(self.log_before),
        ]
    }

    pub(super) fn sum(self) -> i64 {
        Words::new(self.columns()).sum(&[])
    }

    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO store (only, epoch_floor, is_open, log_salt, log_before, sum) \
             VALUES (1, ?1, ?2, ?3, ?4, ?5)";
        let columns = self.columns().into_iter().chain([self.sum()]);
        connection.execute(sql, params_from_iter(columns))?;
        Ok(())
    }

    /// The same, in front of a log that is yet to be begun: it says which one it follows, and its salt is not known.
    pub(super) fn begin_log(self) -> Self {
        Self {
            log_salt: None,
            log_before: self.log_salt.or(self.log_before),
            ..self
        }
    }

    /// The same with a log that has come to this salt.
    pub(super) fn follow_log(self, found: u32) -> Self {
        if self.log_salt == Some(found) {
            return self;
        }
        Self {
            log_salt: Some(found),
            ..self.begin_log()
        }
    }

    /// Whether its log has not come far since this was written.
    pub(super) fn is_near(self, found: u32) -> bool {
        self.log_salt
            .is_some_and(|salt| found.wrapping_sub(salt) <= ROUNDS_MAX / 4)
    }
}

/// Number of the first commit: 0 says "nothing yet".
const FIRST_SEQ: Seq = Seq(1);

/// Tables with rows of instances.
pub(super) const INSTANCE_TABLES: [&str; 5] = ["instance", "payload", "history", "pending", "seen_key"];

/// Reads all hubs, and refuses them if one of their rows or one of a partition is not what was written.
pub(super) fn load(connection: &Connection) -> Result<Hubs, Trouble> {
    let mut hubs = BTreeMap::new();
    let mut statement = connection.prepare("SELECT hub, folded, name, partitions, created_at, sum FROM hub")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let (folded, name) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        let (partitions, created_at): (u16, i64) = (row.get(3)?, row.get(4)?);
        if hub_sum(number, folded, name, partitions, created_at) != row.get::<_, i64>(5)? {
            return Err(Trouble::Contradiction(format!(
                "wrong checksum in the row of hub `{}`",
                name.escape_debug()
            )));
        }
        let name = HubName::new(name).map_err(|refusal| Trouble::Contradiction(refusal.to_string()))?;
        let parts = parts(connection, number)?;
        if parts.len() != usize::from(partitions) {
            let what = format!(
                "hub `{name}` should have {partitions} partitions, found {}",
                parts.len()
            );
            return Err(Trouble::Contradiction(what));
        }
        let info = HubInfo {
            name: name.clone(),
            partitions,
            created_at: Timestamp::from_ticks(created_at),
        };
        let row = number;
        hubs.insert(name, Hub { row, info, parts });
    }
    Ok(Hubs(hubs))
}

/// Writes them all to another store, whose `outbox` is written already.
pub(super) fn copy(hubs: &Hubs, new: &Connection) -> Result<(), Trouble> {
    for hub in hubs.0.values() {
        let created_at = hub.info.created_at.ticks();
        insert_hub(new, hub.row, &hub.info.name, hub.info.partitions, created_at)?;
        for part in &hub.parts {
            let sql = "SELECT count(*) FROM outbox WHERE part = ?1";
            let items = new.query_row(sql, [part.row], |row| row.get(0))?;
            let items = uint(items);
            insert(&Part { items, ..part.clone() }, new)?;
        }
    }
    Ok(())
}

/// Writes the row of a partition.
pub(super) fn update(part: &Part, connection: &Connection) -> Result<usize, Trouble> {
    let sql = "UPDATE part SET epoch = ?4, is_clean = ?5, next_seq = ?6, next_number = ?7, items = ?8, sum = ?9 \
         WHERE part = ?1";
    write(part, connection, sql)
}

/// Inserts the row of a partition.
pub(super) fn insert(part: &Part, connection: &Connection) -> Result<(), Trouble> {
    let sql = "INSERT INTO part (part, hub, ix, epoch, is_clean, next_seq, next_number, items, sum) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    write(part, connection, sql).map(drop)
}

fn write(part: &Part, connection: &Connection, sql: &str) -> Result<usize, Trouble> {
    let columns = part.columns().into_iter().chain([part.sum()]);
    Ok(connection.prepare_cached(sql)?.execute(params_from_iter(columns))?)
}

fn parts(connection: &Connection, hub: i64) -> Result<Vec<Part>, Trouble> {
    let sql = "SELECT part, ix, epoch, is_clean, next_seq, next_number, items, sum FROM part NOT INDEXED WHERE hub = ?1 ORDER BY ix";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([hub])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let counters = Counters {
            next_seq: Seq(uint(row.get(4)?)),
            next_number: InstanceNumber(uint(row.get(5)?)),
        };
        let part = Part {
            row: row.get(0)?,
            hub,
            index: row.get(1)?,
            epoch: Epoch(row.get(2)?),
            is_clean: row.get(3)?,
            counters,
            items: uint(row.get(6)?),
        };
        if part.sum() != row.get::<_, i64>(7)? || usize::from(part.index) != parts.len() {
            let what = format!("wrong checksum in the row of partition {} of hub {hub}", part.index);
            return Err(Trouble::Contradiction(what));
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Creates a hub; the caller reloads the hubs when the change is durable.
pub(super) fn create(connection: &Connection, hubs: &Hubs, info: &HubInfo) -> Result<(), Trouble> {
    let HubInfo {
        name,
        partitions,
        created_at,
    } = info;
    if hubs.0.contains_key(name) {
        return Err(Error::HubExists { hub: name.clone() }.into());
    }
    let floor = Epoch(About::read(connection)?.epoch_floor);
    let next = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let row = next("SELECT coalesce(max(hub), 0) + 1 FROM hub")?;
    let first_part = next("SELECT coalesce(max(part), 0) + 1 FROM part")?;
    insert_hub(connection, row, name, *partitions, created_at.ticks())?;
    let number = first_number(*created_at, floor);
    for index in 0..*partitions {
        let part = Part {
            row: first_part + i64::from(index),
            hub: row,
            index,
            epoch: floor,
            is_clean: true,
            counters: Counters {
                next_seq: FIRST_SEQ,
                next_number: number,
            },
            items: 0,
        };
        insert(&part, connection)?;
    }
    Ok(())
}

/// Writes the row of a hub.
pub(super) fn insert_hub(
    connection: &Connection,
    row: i64,
    name: &HubName,
    partitions: u16,
    created_at: i64,
) -> Result<(), Trouble> {
    let sum = hub_sum(row, &name.folded(), name.as_str(), partitions, created_at);
    let sql = "INSERT INTO hub (hub, folded, name, partitions, created_at, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.execute(
        sql,
        params![row, name.folded(), name.as_str(), partitions, created_at, sum],
    )?;
    Ok(())
}

/// Deletes a hub and everything in it, in the caller's transaction; returns the deleted hub.
pub(super) fn delete(connection: &Connection, hubs: &Hubs, name: &HubName) -> Result<HubInfo, Trouble> {
    let hub = hubs.0.get(name).ok_or_else(|| Error::NoSuchHub { hub: name.clone() })?;
    let newest = hub.parts.iter().map(|part| part.epoch).max().unwrap_or_default();
    let mut about = About::read(connection)?;
    about.epoch_floor = about.epoch_floor.max(newest.next().0);
    about.write(connection)?;
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

/// Raises the epochs of partitions (A21). `owners` are those that have claimed them since the store was opened.
pub(super) fn claim(
    connection: &Connection,
    hubs: &Hubs,
    claim: &Claim,
    owners: &BTreeMap<i64, NodeId>,
) -> Result<Vec<Lease>, Trouble> {
    let mut leases = Vec::with_capacity(claim.partitions.len());
    let mut claimed = BTreeMap::new();
    for key in &claim.partitions {
        let part = hubs.part(key)?;
        let is_again = claimed.contains_key(&part.row);
        let part: &mut Part = claimed.entry(part.row).or_insert_with(|| part.clone());
        let previous = if std::mem::replace(&mut part.is_clean, false) {
            Previous::Nobody
        } else if is_again || owners.get(&part.row) == Some(&claim.node) {
            Previous::ThisNode
        } else {
            Previous::Other
        };
        part.epoch = part.epoch.next();
        update(part, connection)?;
        leases.push(Lease {
            partition: key.clone(),
            epoch: part.epoch,
            previous,
        });
    }
    Ok(leases)
}

/// Marks partitions clean, and fences their owner: the mark is worth something only if nothing can be
/// written after it. What another owner has taken is left alone.
pub(super) fn release(connection: &Connection, hubs: &Hubs, leases: &[Lease]) -> Result<(), Trouble> {
    let mut released = BTreeMap::new();
    for lease in leases {
        if let Ok(part) = hubs.part(&lease.partition) {
            let part: &mut Part = released.entry(part.row).or_insert_with(|| part.clone());
            if part.epoch == lease.epoch {
                part.epoch = part.epoch.next();
                part.is_clean = true;
                update(part, connection)?;
            }
        }
    }
    Ok(())
}

/// Row of a hub, for readers.
pub(super) fn find(connection: &Connection, name: &HubName) -> Result<i64, Trouble> {
    let sql = "SELECT hub, folded, name, partitions, created_at, sum FROM hub WHERE folded = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([name.folded()])?;
    let Some(row) = rows.next()? else {
        return Err(Error::NoSuchHub { hub: name.clone() }.into());
    };
    let number: i64 = row.get(0)?;
    let (folded, stored) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
    let is_right =
        folded == name.folded() && hub_sum(number, folded, stored, row.get(3)?, row.get(4)?) == row.get(5)?;
    if is_right {
        return Ok(number);
    }
    Err(Trouble::Contradiction(format!(
        "wrong checksum in the row of hub `{name}`"
    )))
}

/// A partition, for readers.
pub(super) fn find_part(connection: &Connection, key: &PartitionKey) -> Result<Part, Trouble> {
    part_of(&find_parts(connection, &key.hub)?, key).cloned()
}

/// All partitions of a hub, in order.
pub(super) fn find_parts(connection: &Connection, hub: &HubName) -> Result<Vec<Part>, Trouble> {
    parts(connection, find(connection, hub)?)
}

pub(super) fn part_of<'p>(parts: &'p [Part], key: &PartitionKey) -> Result<&'p Part, Trouble> {
    let part = parts.get(usize::from(key.index));
    part.ok_or_else(|| no_such_partition(key).into())
}
