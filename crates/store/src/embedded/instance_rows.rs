//! Writes rows of `instance`, and the payloads that are too large for them.

use rusqlite::{CachedStatement, ToSql, params};
use taskhub_core::id::Name;
use taskhub_core::status::InstanceInfo;
use taskhub_core::time::Timestamp;

use super::columns::find_info;
use super::rows::{KeyCounts, Tables};
use super::trouble::Trouble;
use crate::sql::{
    Change, Folded, Head, INPUT_ONCE_BYTES_MIN, Instance, Key, Origin, PayloadColumn, Place, StallColumns, Stored,
    Texts, encode_rest, int, payload_sum, print, print_option,
};

pub(super) const INSERT: &str = "INSERT INTO instance (inst, hub, id, status, ordinal, created_at, updated_at, \
     completed_at, history_events, history_bytes, next_message, next_occurrence, waits, keys, execution, name, version, \
     stalled_at, stalled_attempts, stalled_reason, info, custom, output, input, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, \
     ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)";
pub(super) const INSERT_PAYLOAD: &str =
    "INSERT INTO payload (inst, place, ordinal, sum, body) VALUES (?1, ?2, ?3, ?4, ?5)";
// Without the status, so that no index is touched.
const UPDATE: &str = "UPDATE instance SET ordinal = ?2, updated_at = ?3, completed_at = ?4, history_events = ?5, \
     history_bytes = ?6, next_message = ?7, next_occurrence = ?8, waits = ?9, keys = ?10, sum = ?11 WHERE inst = ?1";
const UPDATE_STATUS: &str = "UPDATE instance SET ordinal = ?2, updated_at = ?3, completed_at = ?4, \
     history_events = ?5, history_bytes = ?6, next_message = ?7, next_occurrence = ?8, waits = ?9, keys = ?10, \
     sum = ?11, status = ?12 WHERE inst = ?1";
// Most instances end but once, and with a status change.
const UPDATE_END: &str = "UPDATE instance SET ordinal = ?2, updated_at = ?3, completed_at = ?4, \
     history_events = ?5, history_bytes = ?6, next_message = ?7, next_occurrence = ?8, waits = ?9, keys = ?10, \
     sum = ?11, status = ?12, output = ?13, stalled_at = NULL, stalled_attempts = NULL, stalled_reason = NULL \
     WHERE inst = ?1";
const UPDATE_STALL: &str =
    "UPDATE instance SET stalled_at = ?2, stalled_attempts = ?3, stalled_reason = ?4 WHERE inst = ?1";

impl Tables<'_> {
    /// Returns the rows after the change.
    pub(super) fn instances(&mut self, folded: &Folded<'_>, keys: &KeyCounts) -> Result<Vec<Change>, Trouble> {
        let mut changes = Vec::with_capacity(folded.instances().len());
        {
            let mut insert = self.prepare(INSERT)?;
            let mut update = Updates {
                plain: self.prepare(UPDATE)?,
                status: self.prepare(UPDATE_STATUS)?,
                end: self.prepare(UPDATE_END)?,
            };
            for (key, instance) in folded.instances() {
                let mut head = instance.head;
                head.waits = instance.waits()?;
                head.keys = keys.get(&key).copied().unwrap_or(head.keys);
                let stored = match instance.origin {
                    Origin::Created { hub, creation } => {
                        let info = instance.created_info(&creation.info);
                        insert_instance(&mut insert, key, hub, &head, &info)?
                    }
                    Origin::Stored(stored) => {
                        let mut prints = stored.prints.after(instance);
                        if let Some(print) = self.extras(key, instance)? {
                            prints.info = print;
                        }
                        let stored = Stored { head, prints, ..stored };
                        if update.execute(key, instance, &stored)? != 1 {
                            let what = format!("the row of instance number {} is missing", key.number());
                            return Err(Trouble::Contradiction(what));
                        }
                        stored
                    }
                };
                changes.push((key, Some(stored)));
            }
        }
        self.count(changes.len());
        Ok(changes)
    }

    /// Writes columns that change seldom, each with its own statement; returns the fingerprint of the `info` column if
    /// that changed.
    fn extras(&self, key: Key, instance: &Instance<'_>) -> Result<Option<u64>, Trouble> {
        // First: it reads the row, whose checksum is right until something is changed.
        let failure = instance.ending.and_then(|ending| ending.failure.as_ref());
        let rest = failure.map(|failure| self.change_rest(key, |info| info.failure = Some(failure.clone())));
        let rest = rest.transpose()?;
        if let Some(custom) = instance.custom {
            self.prepare("UPDATE instance SET custom = ?2 WHERE inst = ?1")?
                .execute(params![key.0, PayloadColumn::of(custom)])?;
        }
        if let Some(next) = instance.continued {
            let version = next.version.as_ref().map(Name::as_str);
            let input = PayloadColumn::of(next.input.as_ref());
            self.prepare("UPDATE instance SET execution = ?2, version = ?3, input = ?4 WHERE inst = ?1")?
                .execute(params![key.0, next.execution.bytes(), version, input])?;
        }
        if let (Some(stalled), None) = (instance.stalled, instance.ending) {
            let StallColumns {
                since,
                attempts,
                reason,
            } = StallColumns::of(stalled);
            self.prepare(UPDATE_STALL)?
                .execute(params![key.0, since, attempts, reason])?;
        }
        Ok(rest)
    }

    /// Changes members of the status record that have no column of their own; returns the fingerprint of the `info`
    /// column.
    fn change_rest(&self, key: Key, change: impl FnOnce(&mut InstanceInfo)) -> Result<u64, Trouble> {
        let Some(found) = find_info(self.connection, key)? else {
            return Err(Trouble::Contradiction(
                "a row that existed before is missing".to_owned(),
            ));
        };
        let mut info = found.info;
        change(&mut info);
        let rest = encode_rest(&info);
        self.prepare("UPDATE instance SET info = ?2 WHERE inst = ?1")?
            .execute(params![key.0, rest])?;
        Ok(print_option(rest.as_deref()))
    }

    /// Sets aside the inputs of executions that come to an end here and whose history does without them: their place in
    /// the row of the instance is for the next one's.
    pub(super) fn keep_inputs(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        for (key, instance) in folded.instances() {
            let (Some(_), Origin::Stored(stored)) = (instance.continued, instance.origin) else {
                continue;
            };
            let (before, place) = (stored.head, Place::Input);
            if before.history_events == 0 {
                // All of its history is in this group, and has its input.
                let mut delete = self.prepare("DELETE FROM payload WHERE inst = ?1 AND place = ?2 AND ordinal = ?3")?;
                changed += delete.execute(params![key.0, place.number(), before.ordinal])?;
            } else {
                let sql = "INSERT INTO payload (inst, place, ordinal, sum, body) SELECT inst, ?2, ordinal, ?3, input \
                     FROM instance WHERE inst = ?1 AND typeof(input) = 'blob' AND length(input) >= ?4";
                let sum = payload_sum(key, place, before.ordinal, stored.prints.input);
                let shortest = int(INPUT_ONCE_BYTES_MIN as u64);
                changed += self.prepare(sql)?.execute([key.0, place.number(), sum, shortest])?;
            }
            let oldest = instance.oldest();
            if oldest > 0 {
                let mut delete = self.prepare("DELETE FROM payload WHERE inst = ?1 AND place = ?2 AND ordinal < ?3")?;
                changed += delete.execute(params![key.0, place.number(), oldest])?;
            }
        }
        self.count(changed);
        Ok(())
    }

    /// Payloads of status records that are too large for their column.
    pub(super) fn payloads(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        for (key, instance) in folded.instances() {
            for (place, payload) in instance.payloads_apart() {
                let ordinal = place.ordinal(instance.head.ordinal);
                if let Origin::Stored(_) = instance.origin {
                    let sql = "DELETE FROM payload WHERE inst = ?1 AND place = ?2 AND ordinal = ?3";
                    changed += self.prepare(sql)?.execute(params![key.0, place.number(), ordinal])?;
                }
                if let Some(payload) = payload {
                    let body: &[u8] = payload.bytes();
                    let sum = payload_sum(key, place, ordinal, print(body));
                    changed +=
                        self.prepare(INSERT_PAYLOAD)?
                            .execute(params![key.0, place.number(), ordinal, sum, body])?;
                }
            }
        }
        self.count(changed);
        Ok(())
    }
}

/// The three forms of an update.
struct Updates<'c> {
    plain: CachedStatement<'c>,
    status: CachedStatement<'c>,
    end: CachedStatement<'c>,
}

impl Updates<'_> {
    fn execute(&mut self, key: Key, instance: &Instance<'_>, stored: &Stored) -> Result<usize, Trouble> {
        let head = &stored.head;
        let completed_at = head.completed_at.map(Timestamp::ticks);
        let (updated_at, bytes) = (head.updated_at.ticks(), int(head.history_bytes));
        let (message, occurrence) = (int(head.next_message.0), int(head.next_occurrence.0));
        let (status, sum) = (head.status.number(), stored.sum(key));
        let output = PayloadColumn::of(instance.ending.and_then(|ending| ending.output.as_ref()));
        let params: [&dyn ToSql; 13] = [
            &key.0,
            &head.ordinal,
            &updated_at,
            &completed_at,
            &head.history_events,
            &bytes,
            &message,
            &occurrence,
            &head.waits,
            &head.keys,
            &sum,
            &status,
            &output,
        ];
        let changed = if instance.ending.is_some() {
            self.end.execute(params)?
        } else if instance.changes_status() {
            self.status.execute(&params[..12])?
        } else {
            self.plain.execute(&params[..11])?
        };
        Ok(changed)
    }
}

/// Inserts the row of a new instance and returns it.
pub(super) fn insert_instance(
    insert: &mut CachedStatement<'_>,
    key: Key,
    hub: i64,
    head: &Head,
    info: &InstanceInfo,
) -> Result<Stored, Trouble> {
    let rest = encode_rest(info);
    let texts = Texts::of(info, rest.as_deref());
    let stored = Stored {
        hub,
        created_at: info.created_at,
        head: *head,
        prints: texts.prints(),
    };
    insert.execute(params![
        key.0,
        hub,
        texts.id,
        head.status.number(),
        head.ordinal,
        info.created_at.ticks(),
        head.updated_at.ticks(),
        head.completed_at.map(Timestamp::ticks),
        head.history_events,
        int(head.history_bytes),
        int(head.next_message.0),
        int(head.next_occurrence.0),
        head.waits,
        head.keys,
        texts.execution,
        texts.name,
        texts.version,
        texts.stall.since,
        texts.stall.attempts,
        texts.stall.reason,
        texts.rest,
        texts.custom,
        texts.output,
        texts.input,
        stored.sum(key),
    ])?;
    Ok(stored)
}
