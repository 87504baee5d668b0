//! What an owner needs before its first step, row by row: one that cannot be read is reported and left
//! where it is, and those behind it are read on (R187).

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use taskhub_core::commit::OpenKind;
use taskhub_core::id::{InstanceId, Seq};
use taskhub_core::message::{OutboxItem, OutboxRef};

use super::folder::Pages;
use super::hubs;
use super::reader::instance_id;
use super::record::{INFO, KIND_CHILD, Key, LANE_INBOX, PENDING, Pending, PendingRow, Stored, outbox_words, uint};
use super::trouble::{Trouble, damaged_page};
use crate::fence::check_epoch;
use crate::{Lease, Recovered};

/// Columns of an outbox row, in the order [`outbox_item`] expects.
pub(super) const OUTBOX: &str = "part, seq, ix, sum, body";

pub(super) fn recover(connection: &Connection, lease: &Lease, pages: Pages) -> Result<Vec<Recovered>, Trouble> {
    let part = hubs::find_part(connection, &lease.partition)?;
    check_epoch(&lease.partition, lease.epoch, part.epoch)?;
    let counters = part.counters;
    let mut items = vec![Recovered::Counters {
        next_seq: counters.next_seq,
        next_instance: counters.next_number,
    }];
    let scan = Scan { connection, pages };
    scan.open_work(part.row, &mut items)?;
    scan.inboxes(part.row, &mut items)?;
    let sent = scan.outbox(part.row, lease.partition.index, &mut items)?;
    if sent != part.items {
        let what = format!("of {} messages on their way {sent} are there", part.items);
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

/// Goes through rows of a partition.
struct Scan<'c> {
    connection: &'c Connection,
    pages: Pages,
}

impl Scan<'_> {
    /// Hands on each row, by its key. Where a page keeps it from going on it goes the other way as well, from the end, and
    /// leaves out what is between.
    fn rows<K: Ord>(
        &self,
        sql: &str,
        order: &[&str],
        range: (i64, i64),
        mut read: impl FnMut(&Row<'_>) -> Result<K, Trouble>,
    ) -> Result<(), Trouble> {
        let mut walk = |order: String, until: Option<&K>| -> Result<Option<K>, (Option<K>, Trouble)> {
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
            match run() {
                Ok(()) => Ok(last),
                Err(trouble) => Err((last, trouble)),
            }
        };
        let Err((reached, trouble)) = walk(order.join(", "), None) else {
            return Ok(());
        };
        if self.pages == Pages::Strict || !trouble.is_of_pages() {
            return Err(trouble);
        }
        match walk(format!("{} DESC", order.join(" DESC, ")), reached.as_ref()) {
            Err((_, trouble)) if !trouble.is_of_pages() => Err(trouble),
            _ => Ok(()),
        }
    }

    /// Activities and timers. Children answer by themselves, so their rows are only read with their instance.
    fn open_work(&self, part: i64, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
        let sql = format!(
            "SELECT pending.inst, id, {PENDING} FROM pending LEFT JOIN instance USING (inst) \
             WHERE pending.inst >= ?1 AND pending.inst < ?2 AND lane <> {LANE_INBOX} AND kind <> {KIND_CHILD}"
        );
        let order = ["pending.inst", "lane", "ev"];
        self.rows(&sql, &order, Key::range(part), |row| {
            let key = (row.get::<_, i64>(0)?, row.get::<_, i64>(3)?, row.get::<_, i64>(4)?);
            items.push(match open_item(row) {
                Ok(item) => item,
                Err(trouble) => damaged(
                    instance_id(row, 1).ok(),
                    format!("row {}/{}/{} of `pending`", key.0, key.1, key.2),
                    trouble.of_row()?,
                ),
            });
            Ok(key)
        })
    }

    /// Instances with messages, which are read with their instance.
    fn inboxes(&self, part: i64, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
        let sql = format!(
            "SELECT inst, id FROM (SELECT DISTINCT inst FROM pending WHERE inst >= ?1 AND inst < ?2 \
             AND lane = {LANE_INBOX}) LEFT JOIN instance USING (inst)"
        );
        self.rows(&sql, &["inst"], Key::range(part), |row| {
            let key: i64 = row.get(0)?;
            items.push(match owner(row) {
                Ok(instance) => Recovered::Inbox { instance },
                Err(trouble) => damaged(
                    None,
                    format!("row {key} of `instance`, which has messages in `pending`"),
                    trouble.of_row()?,
                ),
            });
            Ok(key)
        })
    }

    /// Messages on their way; answers how many rows there are.
    fn outbox(&self, part: i64, partition: u16, items: &mut Vec<Recovered>) -> Result<u64, Trouble> {
        let sql = format!("SELECT {OUTBOX} FROM outbox WHERE part >= ?1 AND part < ?2");
        let mut count = 0;
        self.rows(&sql, &["part", "seq", "ix"], (part, part + 1), |row| {
            let key = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            count += 1;
            items.push(match outbox_item(row) {
                Ok((seq, index, item)) => Recovered::Outbox {
                    at: OutboxRef { partition, seq, index },
                    item,
                },
                // Whom it is for and whose it is stands in what cannot be read.
                Err(trouble) => damaged(
                    None,
                    format!("row {part}/{}/{} of `outbox`", key.0, key.1),
                    trouble.of_row()?,
                ),
            });
            Ok(key)
        })?;
        Ok(count)
    }

    /// Instances that have fewer rows in a damaged file than they should, or whose own row cannot be read: none of them
    /// may be run by what is left.
    fn missing(&self, part: i64, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
        let sql = format!("SELECT {INFO} FROM instance WHERE inst >= ?1 AND inst < ?2");
        let what = damaged_page();
        self.rows(&sql, &["inst"], Key::range(part), |row| {
            let key: i64 = row.get(0)?;
            let expected = Stored::read(row).map(|(_, stored)| i64::from(stored.head.waits));
            let sql = "SELECT count(*) FROM pending WHERE inst = ?1";
            let count = self.connection.prepare_cached(sql)?.query_row([key], |row| row.get(0));
            let there = match count.map_err(Trouble::from) {
                Ok(there) => there,
                Err(trouble) if trouble.is_of_pages() => -1,
                Err(trouble) => return Err(trouble),
            };
            if expected.ok() != Some(there) {
                let place = format!("rows of {key} in `instance` and `pending`");
                items.push(damaged(instance_id(row, 1).ok(), place, what.clone()));
            }
            Ok(key)
        })
    }
}

fn open_item(row: &Row<'_>) -> Result<Recovered, Trouble> {
    let number = Key(row.get(0)?).number();
    let instance = owner(row)?;
    let open = match PendingRow::read(row, 2)?.decode()? {
        Pending::Open(open) => open,
        Pending::Message(..) => return Err(Trouble::Contradiction("a message is no open work".to_owned())),
    };
    match open.kind {
        OpenKind::Task { .. } => Ok(Recovered::Task { instance, number, open }),
        OpenKind::Timer { .. } => Ok(Recovered::Timer { instance, number, open }),
        OpenKind::Child { .. } => Err(Trouble::Contradiction("a child has another kind".to_owned())),
    }
}

/// Reads a row of [`OUTBOX`].
pub(super) fn outbox_item(row: &Row<'_>) -> Result<(Seq, u32, OutboxItem), Trouble> {
    let (part, seq, index) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let body = row.get_ref(4)?.as_blob()?;
    outbox_words(part, seq, index).check(body, row.get(3)?, "an outbox item")?;
    Ok((Seq(uint(seq)), index, taskhub_proto::decode_outbox_item(body)?))
}

/// The instance that a row belongs to.
fn owner(row: &Row<'_>) -> Result<InstanceId, Trouble> {
    if row.get_ref(1)? == ValueRef::Null {
        return Err(Trouble::Contradiction("it belongs to no instance".to_owned()));
    }
    instance_id(row, 1)
}
