//! Reads the state that an owner needs before its first step, row by row. A damaged row is reported and left in place,
//! and the rows after it are still read, so that damage stops only the instances concerned (R187).

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};
use taskhub_core::commit::OpenKind;
use taskhub_core::id::{InstanceId, Name};
use taskhub_core::message::OutboxRef;

use super::columns::{INFO, OUTBOX, OUTBOX_BODY, PENDING, instance_id, outbox_item, pending_row, stored};
use super::hubs;
use super::layout::Pages;
use super::trouble::Trouble;
use crate::fence::check_epoch;
use crate::sql::{KIND_CHILD, Key, LANE_INBOX, Part, Pending, uint};
use crate::{Lease, Recovered, partition_of};

pub(super) fn recover(connection: &Connection, lease: &Lease, pages: Pages) -> Result<Vec<Recovered>, Trouble> {
    let parts = hubs::find_parts(connection, &lease.partition.hub)?;
    let part = hubs::part_of(&parts, &lease.partition)?;
    check_epoch(&lease.partition, lease.epoch, part.epoch)?;
    let counters = part.counters;
    let mut items = vec![Recovered::Counters {
        next_seq: counters.next_seq,
        next_instance: counters.next_number,
        horizon: parts.iter().map(|part| part.counters.next_seq).collect(),
    }];
    let scan = Scan { connection, pages };
    scan.open_work(part.row, &mut items)?;
    scan.inboxes(part.row, &mut items)?;
    let mut sent = 0;
    for sender in &parts {
        let is_own = sender.index == part.index;
        let rows = scan.outbox(sender, &parts, part.index, is_own, &mut items)?;
        sent = if is_own { rows } else { sent };
    }
    if sent != part.items {
        let what = format!("expected {} messages in the outbox, found {sent}", part.items);
        let place = format!("`outbox` of partition {}", part.row);
        items.push(damaged(None, place, what));
    }
    if pages == Pages::Lenient {
        scan.missing(part.row, &mut items)?;
    }
    Ok(items)
}

fn damaged(instance: Option<InstanceId>, place: String, what: String) -> Recovered {
    Recovered::Damaged { instance, place, what }
}

/// The facts that an owner needs about an instance with open work.
struct Owner {
    id: InstanceId,
    name: Name,
    bytes: u64,
}

/// Scans the rows of a partition.
pub(super) struct Scan<'c> {
    pub(super) connection: &'c Connection,
    pub(super) pages: Pages,
}

impl Scan<'_> {
    /// Calls `read` for each row; `read` returns the key of the row. SQLite cannot step over a damaged page: a scan in
    /// key order ends there. With lenient pages, a second scan therefore runs from the last key backwards until it
    /// reaches the last key of the first scan or the damage, so that only rows on damaged pages between the two are
    /// left out. Returns whether rows were left out.
    pub(super) fn rows<K: Ord>(
        &self,
        sql: &str,
        order: &[&str],
        range: (i64, i64),
        mut read: impl FnMut(&Row<'_>) -> Result<K, Trouble>,
    ) -> Result<bool, Trouble> {
        let mut walk = |order: String, until: Option<&K>| -> Result<(), (Option<K>, Trouble)> {
            let mut last = None;
            let mut run = || -> Result<(), Trouble> {
                let mut statement = self.connection.prepare_cached(&format!("{sql} ORDER BY {order}"))?;
                let mut rows = statement.query([range.0, range.1])?;
                while let Some(row) = rows.next()? {
                    let key = read(row)?;
                    if until.is_some_and(|until| key <= *until) {
                        break;
                    }
                    last = Some(key);
                }
                Ok(())
            };
            run().map_err(|trouble| (last, trouble))
        };
        let Err((reached, trouble)) = walk(order.join(", "), None) else {
            return Ok(false);
        };
        if self.pages == Pages::Strict || !trouble.is_of_pages() {
            return Err(trouble);
        }
        match walk(format!("{} DESC", order.join(" DESC, ")), reached.as_ref()) {
            Err((_, trouble)) if !trouble.is_of_pages() => Err(trouble),
            _ => Ok(true),
        }
    }

    /// Looks up the id and name of an instance and the size of its payloads by its key; `None` if the row is missing or
    /// damaged.
    fn owner(&self, key: i64) -> Result<Option<Owner>, Trouble> {
        let find = || -> Result<Option<Owner>, Trouble> {
            let sql = format!("SELECT {INFO} FROM instance WHERE inst = ?1");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([key])?;
            let Some(row) = rows.next()?.filter(|row| stored(row).is_ok()) else {
                return Ok(None);
            };
            let inline = |column| row.get_ref(column).ok()?.as_blob().ok().map(<[u8]>::len);
            Ok(Some(Owner {
                id: instance_id(row, 1)?,
                name: Name::stored(row.get_ref(14)?.as_str()?),
                bytes: (20..23).filter_map(inline).sum::<usize>() as u64,
            }))
        };
        match find() {
            Err(trouble) if self.pages == Pages::Lenient && trouble.is_of_pages() => Ok(None),
            found => found,
        }
    }

    /// Reads open activities and timers. A child sends its result by itself, so rows of children are only read together
    /// with their instance.
    fn open_work(&self, part: i64, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
        let sql = format!(
            "SELECT {PENDING} FROM pending WHERE inst >= ?1 AND inst < ?2 AND lane <> {LANE_INBOX} \
             AND kind <> {KIND_CHILD}"
        );
        // The rows of one instance are adjacent, so its id is looked up once.
        let mut last: Option<(i64, Option<InstanceId>)> = None;
        let is_broken = self.rows(&sql, &["inst", "lane", "ev"], Key::range(part), |row| {
            let key = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            let id = match &last {
                Some((owner, id)) if *owner == key.0 => id.clone(),
                _ => self.owner(key.0)?.map(|owner| owner.id),
            };
            last = Some((key.0, id.clone()));
            items.push(match open_item(row, id.clone()) {
                Ok(item) => item,
                Err(trouble) => {
                    let place = format!("row {}/{}/{} of `pending`", key.0, key.1, key.2);
                    damaged(id, place, trouble.of_row()?)
                }
            });
            Ok(key)
        })?;
        tell_break(is_broken, "pending", items);
        Ok(())
    }

    /// Finds instances with messages and the size of the messages. The messages themselves are loaded later with their
    /// instance; here SQLite does not even read their overflow pages, because the length of a body is stored in front
    /// of it.
    fn inboxes(&self, part: i64, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
        let sql = format!(
            "SELECT inst, sum(length(body)), \
             (SELECT sum(length(payload.body)) FROM payload WHERE payload.inst = pending.inst) \
             FROM pending WHERE inst >= ?1 AND inst < ?2 GROUP BY inst HAVING sum(lane = {LANE_INBOX}) > 0"
        );
        let is_broken = self.rows(&sql, &["inst"], Key::range(part), |row| {
            let key: i64 = row.get(0)?;
            let apart: Option<i64> = row.get(2)?;
            let bytes = uint(row.get(1)?) + uint(apart.unwrap_or(0));
            items.push(match self.owner(key)? {
                Some(owner) => Recovered::Inbox {
                    instance: owner.id,
                    name: owner.name,
                    bytes: bytes + owner.bytes,
                },
                None => damaged(
                    None,
                    format!("row {key} of `instance`, which has messages in `pending`"),
                    NO_INSTANCE.to_owned(),
                ),
            });
            Ok(key)
        })?;
        tell_break(is_broken, "pending", items);
        Ok(())
    }

    /// Reads the messages of one sender to this partition; returns how many messages the sender has in its outbox for
    /// all receivers. A damaged message has no known receiver, so it is reported only when the sender is this partition
    /// itself; otherwise each partition would report it.
    fn outbox(
        &self,
        sender: &Part,
        parts: &[Part],
        to: u16,
        is_own: bool,
        items: &mut Vec<Recovered>,
    ) -> Result<u64, Trouble> {
        let partitions = u16::try_from(parts.len()).unwrap_or(u16::MAX);
        let is_for_it = |target: &InstanceId| partition_of(target, partitions) == to;
        let sql = format!("SELECT {OUTBOX} FROM outbox WHERE part >= ?1 AND part < ?2");
        let mut count = 0;
        let range = (sender.row, sender.row + 1);
        let is_broken = self.rows(&sql, &["part", "seq", "ix"], range, |row| {
            let key = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            count += 1;
            // Most messages are for other partitions, so only their target is decoded.
            if !is_own {
                let body = row.get_ref(OUTBOX_BODY)?.as_blob()?;
                if !taskhub_proto::decode_outbox_target(body).is_ok_and(|target| is_for_it(&target)) {
                    return Ok(key);
                }
            }
            match outbox_item(row) {
                Ok((_, _, item)) if !is_for_it(&item.target) => {}
                Ok((seq, index, item)) => items.push(Recovered::Message {
                    at: OutboxRef {
                        partition: sender.index,
                        seq,
                        index,
                    },
                    item,
                }),
                Err(trouble) => {
                    let what = trouble.of_row()?;
                    if is_own {
                        let place = format!("row {}/{}/{} of `outbox`", sender.row, key.0, key.1);
                        items.push(damaged(None, place, what));
                    }
                }
            }
            Ok(key)
        })?;
        if is_own {
            tell_break(is_broken, "outbox", items);
        }
        Ok(count)
    }

    /// Finds instances with missing rows in a damaged file. Such an instance must not run, because it would act on
    /// incomplete state.
    fn missing(&self, part: i64, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
        let mut seen: BTreeMap<i64, u32> = BTreeMap::new();
        // Selecting `sum`, which the index does not have, makes SQLite read the table: a damaged index may list rows
        // that the table lacks.
        let sql = "SELECT inst, lane, ev, sum FROM pending WHERE inst >= ?1 AND inst < ?2";
        self.rows(sql, &["inst", "lane", "ev"], Key::range(part), |row| {
            let key = (row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            *seen.entry(key.0).or_default() += 1;
            Ok(key)
        })?;
        let sql = format!("SELECT {INFO} FROM instance WHERE inst >= ?1 AND inst < ?2");
        let is_broken = self.rows(&sql, &["inst"], Key::range(part), |row| {
            let key: i64 = row.get(0)?;
            let expected = stored(row).map(|(_, stored)| stored.head.waits);
            let there = seen.get(&key).copied().unwrap_or(0);
            if expected.ok() != Some(there) {
                let place = format!("rows of {key} in `instance` and `pending`");
                let what = "some rows are unreadable or missing".to_owned();
                items.push(damaged(instance_id(row, 1).ok(), place, what));
            }
            Ok(key)
        })?;
        tell_break(is_broken, "instance", items);
        Ok(())
    }
}

/// Reports that some rows of a table could not be reached.
fn tell_break(is_broken: bool, table: &str, items: &mut Vec<Recovered>) {
    if is_broken {
        let what = "a damaged page makes some of its rows unreadable".to_owned();
        items.push(damaged(None, format!("table `{table}`"), what));
    }
}

const NO_INSTANCE: &str = "its instance is missing or unreadable";

/// Decodes a row of [`PENDING`] that belongs to this instance.
fn open_item(row: &Row<'_>, instance: Option<InstanceId>) -> Result<Recovered, Trouble> {
    let number = Key(row.get(0)?).number();
    let open = match pending_row(row)?.decode()? {
        Pending::Open(open) => open,
        Pending::Message(..) => return Err(Trouble::Contradiction("a message has the key of open work".to_owned())),
    };
    let instance = instance.ok_or_else(|| Trouble::Contradiction(NO_INSTANCE.to_owned()))?;
    match open.kind {
        OpenKind::Task { .. } => Ok(Recovered::Task { instance, number, open }),
        OpenKind::Timer { .. } => Ok(Recovered::Timer { instance, number, open }),
        OpenKind::Child { .. } => Err(Trouble::Contradiction(
            "a row has another kind than its key says".to_owned(),
        )),
    }
}
