//! Writes what a group comes to, table by table and in the order of their keys.

use std::borrow::Cow;

use rusqlite::{CachedStatement, Connection, params};
use taskhub_core::event::HistoryEvent;
use taskhub_core::limits;

use super::fold::{Folded, Origin, Run};
use super::record::{HEAD, Head, KIND_MESSAGE, Key, LANE_INBOX, LANE_OPEN, int, open_columns, sum, write_key};
use super::trouble::Trouble;

/// Tables with rows of instances, but their own.
const DEPENDENT: [&str; 4] = [
    "DELETE FROM payload WHERE inst = ?1",
    "DELETE FROM history WHERE inst = ?1",
    "DELETE FROM pending WHERE inst = ?1",
    "DELETE FROM seen_key WHERE inst = ?1",
];

/// What is stored of an instance, for folding.
pub(super) fn head(connection: &Connection, key: Key) -> Result<Option<Head>, Trouble> {
    let mut statement = connection.prepare_cached(&format!("SELECT {HEAD} FROM instance WHERE inst = ?1"))?;
    let mut rows = statement.query([key.0])?;
    rows.next()?.map(|row| Head::read(row, 0)).transpose()
}

/// Writes a folded group in the open transaction; answers how many rows it wrote or deleted.
pub(super) fn write(connection: &Connection, folded: &Folded<'_>) -> Result<u64, Trouble> {
    let mut tables = Tables { connection, rows: 0 };
    tables.remove(folded)?;
    tables.instances(folded)?;
    tables.payloads(folded)?;
    tables.history(folded)?;
    tables.done_with(folded)?;
    tables.pending(folded)?;
    tables.keys(folded)?;
    tables.outbox(folded)?;
    tables.counters(folded)?;
    Ok(tables.rows)
}

pub(super) struct Tables<'c> {
    connection: &'c Connection,
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

    /// One chunk for each execution and group (A3), without those that are too old by the end of it (R134).
    fn history(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        {
            let sql = "INSERT INTO history (inst, ordinal, first, events, sum, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut insert = self.prepare(sql)?;
            for (key, instance) in &folded.instances {
                let oldest = instance.head.ordinal.saturating_sub(limits::ARCHIVED_EXECUTIONS_MAX);
                if instance.continued.is_some() && oldest > 0 && matches!(instance.origin, Origin::Stored(_)) {
                    let mut delete = self.prepare("DELETE FROM history WHERE inst = ?1 AND ordinal < ?2")?;
                    changed += delete.execute(params![key.0, oldest])?;
                }
                for run in instance.runs.iter().filter(|run| run.ordinal >= oldest) {
                    let body = taskhub_proto::encode_chunk(&run.in_one_piece());
                    let sum = sum(&body);
                    changed += insert.execute(params![key.0, run.ordinal, run.first, run.len(), sum, &body[..]])?;
                }
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
            for (key, instance) in &folded.instances {
                let taken = instance.taken.iter().map(|number| (LANE_INBOX, *number));
                let closed = instance.closed.iter().map(|occurrence| (LANE_OPEN, *occurrence));
                for (lane, ev) in taken.chain(closed) {
                    if delete.execute([key.0, lane, ev])? != 1 {
                        let number = key.number();
                        let what = format!("instance number {number} is done with {lane}/{ev}, which is not there");
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
            let sql = "INSERT INTO pending (inst, lane, ev, kind, due_at, deliveries, sum, body) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let mut insert = self.prepare(sql)?;
            for (key, instance) in &folded.instances {
                for (number, message) in &instance.added {
                    let body = taskhub_proto::encode_message(message);
                    let nothing: Option<i64> = None;
                    changed += insert.execute(params![
                        key.0,
                        LANE_INBOX,
                        number,
                        KIND_MESSAGE,
                        nothing,
                        nothing,
                        sum(&body),
                        body
                    ])?;
                }
                for (occurrence, (open, deliveries)) in &instance.opened {
                    let body = taskhub_proto::encode_open(open);
                    let (kind, due_at) = open_columns(open);
                    changed += insert.execute(params![
                        key.0,
                        LANE_OPEN,
                        occurrence,
                        kind,
                        due_at,
                        deliveries,
                        sum(&body),
                        body
                    ])?;
                }
                for (occurrence, count) in &instance.deliveries {
                    let sql = "UPDATE pending SET deliveries = ?3 WHERE inst = ?1 AND lane = 1 AND ev = ?2";
                    changed += self.prepare(sql)?.execute(params![key.0, occurrence, count])?;
                }
            }
        }
        self.count(changed);
        Ok(())
    }

    /// Idempotency keys (R83); they are forgotten when the next one comes, as core does.
    fn keys(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        for (key, instance) in &folded.instances {
            if let (Some(after), Origin::Stored(_)) = (instance.keys_after, &instance.origin) {
                let mut delete = self.prepare("DELETE FROM seen_key WHERE inst = ?1 AND until <= ?2")?;
                changed += delete.execute([key.0, after.ticks()])?;
            }
            for (seq, seen) in &instance.keys {
                let mut insert =
                    self.prepare("INSERT INTO seen_key (inst, seq, key, until) VALUES (?1, ?2, ?3, ?4)")?;
                changed += insert.execute(params![key.0, seq, write_key(seen), seen.until.ticks()])?;
            }
        }
        self.count(changed);
        Ok(())
    }

    fn outbox(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        for (part, seq, index) in &folded.consumed {
            let mut delete = self.prepare("DELETE FROM outbox WHERE part = ?1 AND seq = ?2 AND ix = ?3")?;
            if delete.execute(params![part, seq, index])? != 1 {
                let what = format!("outbox item {part}/{seq}/{index} is taken, which is not there (R188)");
                return Err(Trouble::Contradiction(what));
            }
            changed += 1;
        }
        for ((part, seq, index), item) in &folded.outbox {
            let sql = "INSERT INTO outbox (part, seq, ix, sum, body) VALUES (?1, ?2, ?3, ?4, ?5)";
            let body = taskhub_proto::encode_outbox_item(item);
            changed += self
                .prepare(sql)?
                .execute(params![part, seq, index, sum(&body), body])?;
        }
        self.count(changed);
        Ok(())
    }

    fn counters(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        for ((part, status), by) in folded.count_changes() {
            let sql = "INSERT INTO status_count (part, status, n) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET n = n + excluded.n";
            changed += self.prepare(sql)?.execute(params![part, status.number(), by])?;
        }
        for (part, counters) in &folded.counters {
            let sql = "UPDATE part SET next_seq = ?2, next_number = ?3 WHERE part = ?1";
            let (seq, number) = (int(counters.next_seq.0), int(counters.next_number.0));
            changed += self.prepare(sql)?.execute([*part, seq, number])?;
        }
        self.count(changed);
        Ok(())
    }
}

impl Run<'_> {
    /// The events as the encoder wants them. Copies share their payloads, and most runs are one piece.
    fn in_one_piece(&self) -> Cow<'_, [HistoryEvent]> {
        match self.events.as_slice() {
            [one] => Cow::Borrowed(one),
            several => Cow::Owned(several.concat()),
        }
    }
}
