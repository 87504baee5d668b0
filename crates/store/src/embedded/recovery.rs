//! What an owner needs before its first step, row by row: one that cannot be read is reported and left
//! where it is, and those behind it are read on (R187).

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use taskhub_core::commit::OpenKind;
use taskhub_core::id::{InstanceId, Seq};
use taskhub_core::message::{OutboxItem, OutboxRef};

use super::hubs;
use super::reader::instance_id;
use super::record::{KIND_CHILD, Key, LANE_INBOX, PENDING, Pending, PendingRow, checked, uint};
use super::trouble::Trouble;
use crate::fence::check_epoch;
use crate::{Lease, Recovered};

/// Columns of an outbox row, in the order [`outbox_item`] expects.
pub(super) const OUTBOX: &str = "seq, ix, sum, body";

pub(super) fn recover(connection: &Connection, lease: &Lease) -> Result<Vec<Recovered>, Trouble> {
    let part = hubs::find_part(connection, &lease.partition)?;
    check_epoch(&lease.partition, lease.epoch, part.epoch)?;
    let counters = part.counters;
    let mut items = vec![Recovered::Counters {
        next_seq: counters.next_seq,
        next_instance: counters.next_number,
    }];
    open_work(connection, part.row, &mut items)?;
    inboxes(connection, part.row, &mut items)?;
    outbox(connection, part.row, lease.partition.index, &mut items)?;
    Ok(items)
}

/// Activities and timers. Children answer by themselves, so their rows are only read with their instance.
fn open_work(connection: &Connection, part: i64, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
    let sql = format!(
        "SELECT pending.inst, id, {PENDING} FROM pending LEFT JOIN instance USING (inst) \
         WHERE pending.inst >= ?1 AND pending.inst < ?2 AND lane <> {LANE_INBOX} AND kind <> {KIND_CHILD} \
         ORDER BY pending.inst, lane, ev"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (first, end) = Key::range(part);
    let mut rows = statement.query([first, end])?;
    while let Some(row) = rows.next()? {
        let item = match open_item(row) {
            Ok(item) => item,
            Err(trouble) => Recovered::Damaged {
                instance: instance_id(row, 1).ok(),
                place: format!("row {}/{}/{} of `pending`", show(row, 0), show(row, 2), show(row, 3)),
                what: trouble.of_row()?,
            },
        };
        items.push(item);
    }
    Ok(())
}

fn open_item(row: &Row<'_>) -> Result<Recovered, Trouble> {
    let number = Key(row.get(0)?).number();
    let instance = owner(row)?;
    let open = match PendingRow::read(row, 2)?.decode()? {
        Pending::Open(open) => open,
        Pending::Message(_) => return Err(Trouble::Contradiction("a message is no open work".to_owned())),
    };
    match open.kind {
        OpenKind::Task { .. } => Ok(Recovered::Task { instance, number, open }),
        OpenKind::Timer { .. } => Ok(Recovered::Timer { instance, number, open }),
        OpenKind::Child { .. } => Err(Trouble::Contradiction("a child has another kind".to_owned())),
    }
}

/// Instances with messages, which are read with their instance.
fn inboxes(connection: &Connection, part: i64, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
    let sql = format!(
        "SELECT inst, id FROM (SELECT DISTINCT inst FROM pending WHERE inst >= ?1 AND inst < ?2 AND lane = {LANE_INBOX}) \
         LEFT JOIN instance USING (inst)"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (first, end) = Key::range(part);
    let mut rows = statement.query([first, end])?;
    while let Some(row) = rows.next()? {
        let item = match owner(row) {
            Ok(instance) => Recovered::Inbox { instance },
            Err(trouble) => Recovered::Damaged {
                instance: None,
                place: format!("row {} of `instance`, which has messages in `pending`", show(row, 0)),
                what: trouble.of_row()?,
            },
        };
        items.push(item);
    }
    Ok(())
}

fn outbox(connection: &Connection, part: i64, partition: u16, items: &mut Vec<Recovered>) -> Result<(), Trouble> {
    let sql = format!("SELECT {OUTBOX} FROM outbox WHERE part = ?1 ORDER BY seq, ix");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([part])?;
    while let Some(row) = rows.next()? {
        let item = match outbox_item(row) {
            Ok((seq, index, item)) => Recovered::Outbox {
                at: OutboxRef { partition, seq, index },
                item,
            },
            // Whom it is for and whose it is stands in what cannot be read.
            Err(trouble) => Recovered::Damaged {
                instance: None,
                place: format!("row {part}/{}/{} of `outbox`", show(row, 0), show(row, 1)),
                what: trouble.of_row()?,
            },
        };
        items.push(item);
    }
    Ok(())
}

/// Reads a row of [`OUTBOX`].
pub(super) fn outbox_item(row: &Row<'_>) -> Result<(Seq, u32, OutboxItem), Trouble> {
    let body = checked(row.get_ref(3)?.as_blob()?, row.get(2)?, "an outbox item")?;
    Ok((
        Seq(uint(row.get(0)?)),
        row.get(1)?,
        taskhub_proto::decode_outbox_item(&body)?,
    ))
}

/// The instance that a row belongs to.
fn owner(row: &Row<'_>) -> Result<InstanceId, Trouble> {
    if row.get_ref(1)? == ValueRef::Null {
        return Err(Trouble::Contradiction("it belongs to no instance".to_owned()));
    }
    instance_id(row, 1)
}

/// A number of a key, whatever is there.
fn show(row: &Row<'_>, column: usize) -> String {
    row.get::<_, i64>(column)
        .map_or_else(|_| "?".to_owned(), |number| number.to_string())
}
