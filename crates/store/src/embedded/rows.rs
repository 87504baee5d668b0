//! Writes the net effect of a group, table by table and in the order of the keys.

use std::collections::BTreeMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::columns::{self, INFO, PENDING};
use super::hubs;
use super::trouble::Trouble;
use crate::sql::{
    Change, ChunkRow, Folded, Key, LANE_OPEN, Origin, PendingRow, Stored, count_sum, key_words, outbox_words, write_key,
};

pub(super) const INSERT_HISTORY: &str = "INSERT INTO history (inst, ordinal, first, events, is_cut, sum, body) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const INSERT_PENDING: &str = "INSERT INTO pending (inst, lane, ev, kind, due_at, deliveries, is_cut, sum, body) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
pub(super) const INSERT_KEY: &str = "INSERT INTO seen_key (inst, seq, key, until, sum) VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const INSERT_COUNT: &str = "INSERT INTO status_count (part, status, n, sum) VALUES (?1, ?2, ?3, ?4)";
pub(super) const INSERT_OUTBOX: &str = "INSERT INTO outbox (part, seq, ix, sum, body) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Tables with rows of instances, but their own.
const DEPENDENT: [&str; 4] = [
    "DELETE FROM payload WHERE inst = ?1",
    "DELETE FROM history WHERE inst = ?1",
    "DELETE FROM pending WHERE inst = ?1",
    "DELETE FROM seen_key WHERE inst = ?1",
];

/// Looks up the stored head of an instance, for folding.
pub(super) fn stored(connection: &Connection, key: Key) -> Result<Option<Stored>, Trouble> {
    let mut statement = connection.prepare_cached(&format!("SELECT {INFO} FROM instance WHERE inst = ?1"))?;
    let mut rows = statement.query([key.0])?;
    let stored = rows.next()?.map(columns::stored).transpose()?;
    Ok(stored.map(|(_, stored)| stored))
}

/// Writes a folded group in the open transaction; returns the number of rows written or deleted, and the new heads of
/// the instances.
pub(super) fn write(connection: &Connection, folded: &Folded<'_>) -> Result<(u64, Vec<Change>), Trouble> {
    let mut tables = Tables { connection, rows: 0 };
    tables.remove(folded)?;
    let keys = tables.keys(folded)?;
    tables.keep_inputs(folded)?;
    let mut changes = tables.instances(folded, &keys)?;
    changes.extend(folded.removed.keys().map(|key| (*key, None)));
    tables.payloads(folded)?;
    tables.history(folded)?;
    tables.done_with(folded)?;
    tables.pending(folded)?;
    tables.outbox(folded)?;
    tables.counters(folded)?;
    Ok((tables.rows, changes))
}

/// How many rows of `seen_key` instances have whose keys have changed.
pub(super) type KeyCounts = BTreeMap<Key, u32>;

pub(super) struct Tables<'c> {
    pub(super) connection: &'c Connection,
    rows: u64,
}

impl Tables<'_> {
    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, Trouble> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    pub(super) fn count(&mut self, changed: usize) {
        self.rows += changed as u64;
    }

    /// Must come first: an instance with the same id may be on its way in.
    fn remove(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        if folded.removed.is_empty() {
            return Ok(());
        }
        let mut changed = 0;
        for sql in DEPENDENT.into_iter().chain(["DELETE FROM instance WHERE inst = ?1"]) {
            let mut delete = self.prepare(sql)?;
            for key in folded.removed.keys() {
                changed += delete.execute([key.0])?;
            }
        }
        self.count(changed);
        Ok(())
    }

    /// Chunks for each execution and group (A3), without those that are too old by the end of it (R134).
    fn history(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        {
            let mut insert = self.prepare(INSERT_HISTORY)?;
            for (key, instance) in folded.instances() {
                let oldest = instance.oldest();
                if instance.continued.is_some() && oldest > 0 && matches!(instance.origin, Origin::Stored(_)) {
                    let mut delete = self.prepare("DELETE FROM history WHERE inst = ?1 AND ordinal < ?2")?;
                    changed += delete.execute(params![key.0, oldest])?;
                }
                instance.each_chunk(key, |chunk| -> Result<(), Trouble> {
                    let ChunkRow {
                        ordinal,
                        first,
                        events,
                        is_cut,
                        sum,
                        body,
                    } = chunk;
                    changed += insert.execute(params![key.0, ordinal, first, events, is_cut, sum, &*body])?;
                    Ok(())
                })?;
            }
        }
        self.count(changed);
        Ok(())
    }

    /// Stored messages that were taken, stored occurrences that were closed.
    fn done_with(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        {
            let mut delete = self.prepare("DELETE FROM pending WHERE inst = ?1 AND lane = ?2 AND ev = ?3")?;
            for (key, instance) in folded.instances() {
                for (lane, ev) in instance.done_with() {
                    if delete.execute([key.0, lane, ev])? != 1 {
                        let number = key.number();
                        let what = format!("instance number {number} finishes {lane}/{ev}, which does not exist");
                        return Err(Trouble::Contradiction(what));
                    }
                    changed += 1;
                }
            }
        }
        self.count(changed);
        Ok(())
    }

    fn pending(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        {
            let mut insert = self.prepare(INSERT_PENDING)?;
            for (key, instance) in folded.instances() {
                instance.each_pending(key, |columns, body| -> Result<(), Trouble> {
                    changed += insert.execute(params![
                        columns.key.0,
                        columns.lane,
                        columns.ev,
                        columns.kind,
                        columns.due_at,
                        columns.deliveries,
                        columns.is_cut,
                        columns.sum(body),
                        body
                    ])?;
                    Ok(())
                })?;
                for (occurrence, count) in &instance.deliveries {
                    changed += self.delivered(key, *occurrence, *count)?;
                }
            }
        }
        self.count(changed);
        Ok(())
    }

    /// A new count of deliveries of something that is stored as open.
    fn delivered(&self, key: Key, occurrence: i64, count: u32) -> Result<usize, Trouble> {
        let sql = format!("SELECT {PENDING} FROM pending WHERE inst = ?1 AND lane = {LANE_OPEN} AND ev = ?2");
        let mut select = self.prepare(&sql)?;
        let mut rows = select.query([key.0, occurrence])?;
        let Some(row) = rows.next()? else { return Ok(0) };
        let PendingRow { mut columns, body } = columns::pending_row(row)?;
        columns.deliveries = Some(count);
        let sql =
            format!("UPDATE pending SET deliveries = ?3, sum = ?4 WHERE inst = ?1 AND lane = {LANE_OPEN} AND ev = ?2");
        let sum = columns.sum(&body);
        Ok(self.prepare(&sql)?.execute(params![key.0, occurrence, count, sum])?)
    }

    /// Idempotency keys (R83); they are forgotten when the next one comes, as core does.
    fn keys(&mut self, folded: &Folded<'_>) -> Result<KeyCounts, Trouble> {
        let (mut changed, mut counts) = (0, KeyCounts::new());
        for (key, instance) in folded.instances() {
            let mut gone = 0;
            if let (Some(after), Origin::Stored(_)) = (instance.keys_after, &instance.origin) {
                let mut delete = self.prepare("DELETE FROM seen_key WHERE inst = ?1 AND until <= ?2")?;
                gone = delete.execute([key.0, after.ticks()])?;
            }
            for (seq, seen) in &instance.keys {
                let (text, until) = (write_key(seen), seen.until.ticks());
                let sum = key_words(key, *seq, until).sum(text.as_bytes());
                self.prepare(INSERT_KEY)?
                    .execute(params![key.0, seq, text, until, sum])?;
            }
            changed += gone + instance.keys.len();
            if gone + instance.keys.len() > 0 {
                let there = (instance.head.keys as usize + instance.keys.len()).saturating_sub(gone);
                counts.insert(key, u32::try_from(there).unwrap_or(u32::MAX));
            }
        }
        self.count(changed);
        Ok(counts)
    }

    fn outbox(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        for consumed in &folded.consumed {
            let (part, seq, index) = consumed.key;
            let mut delete = self.prepare("DELETE FROM outbox WHERE part = ?1 AND seq = ?2 AND ix = ?3")?;
            if delete.execute(params![part, seq, index])? != 1 {
                return Err(consumed.stale().into());
            }
            changed += 1;
        }
        for ((part, seq, index), item) in &folded.outbox {
            let body = taskhub_proto::encode_outbox_item(item);
            let sum = outbox_words(*part, *seq, *index).sum(&body);
            changed += self
                .prepare(INSERT_OUTBOX)?
                .execute(params![part, seq, index, sum, body])?;
        }
        self.count(changed);
        Ok(())
    }

    fn counters(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        for ((part, status), by) in folded.count_changes() {
            let status = status.number();
            let n = self.status_count(part, status)?.saturating_add(by);
            if n < 0 {
                let what = format!("partition {part} would have {n} instances in status {status} (I8)");
                return Err(Trouble::Contradiction(what));
            }
            let sql = "INSERT INTO status_count (part, status, n, sum) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET n = excluded.n, sum = excluded.sum";
            changed += self
                .prepare(sql)?
                .execute(params![part, status, n, count_sum(part, status, n)])?;
        }
        for part in folded.parts.values() {
            changed += hubs::update(part, self.connection)?;
        }
        self.count(changed);
        Ok(())
    }

    fn status_count(&self, part: i64, status: u8) -> Result<i64, Trouble> {
        let mut select = self.prepare("SELECT n, sum FROM status_count WHERE part = ?1 AND status = ?2")?;
        let found: Option<(i64, i64)> = select
            .query_row(params![part, status], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            None => Ok(0),
            Some((n, sum)) if count_sum(part, status, n) == sum => Ok(n),
            Some(_) => {
                let what = format!("wrong checksum in the count of instances in status {status}");
                Err(Trouble::Contradiction(what))
            }
        }
    }
}
