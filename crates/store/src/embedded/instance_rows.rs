//! Writes rows of `instance`, and the payloads that are too large for them.

use std::borrow::Cow;

use rusqlite::{CachedStatement, ToSql, params};
use taskhub_core::id::Name;
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, Stall};
use taskhub_core::time::Timestamp;

use super::fold::{Folded, Instance, Origin};
use super::reader::info;
use super::recent::Change;
use super::record::{
    Head, INPUT_ONCE_BYTES_MIN, Key, Place, Prints, Stored, column, int, is_apart, payload_print, payload_sum,
    stall_print, write_blob,
};
use super::rows::{KeyCounts, Tables};
use super::sums::{print, print_option};
use super::trouble::Trouble;

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
    /// Answers the rows as they are afterwards.
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
                        let info = created_info(instance, &creation.info);
                        insert_instance(&mut insert, key, hub, &head, &info)?
                    }
                    Origin::Stored(stored) => {
                        let prints = self.extras(key, instance, stored.prints)?;
                        let stored = Stored { head, prints, ..stored };
                        if update.execute(key, instance, &stored)? != 1 {
                            let what = format!("instance number {} is gone", key.number());
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

    /// Columns that change seldom, each by a statement of its own; answers the fingerprints as they are afterwards.
    fn extras(&self, key: Key, instance: &Instance<'_>, mut prints: Prints) -> Result<Prints, Trouble> {
        // First: it reads the row, whose checksum is right until something is changed.
        if let Some(failure) = instance.ending.and_then(|ending| ending.failure.as_ref()) {
            prints.info = self.change_blob(key, |info| info.failure = Some(failure.clone()))?;
        }
        if let Some(custom) = instance.custom {
            self.prepare("UPDATE instance SET custom = ?2 WHERE inst = ?1")?
                .execute(params![key.0, column(custom)])?;
            prints.custom = payload_print(custom);
        }
        if let Some(next) = instance.continued {
            let version = next.version.as_ref().map(Name::as_str);
            let input = column(next.input.as_ref());
            let execution = next.execution.bytes();
            self.prepare("UPDATE instance SET execution = ?2, version = ?3, input = ?4 WHERE inst = ?1")?
                .execute(params![key.0, execution, version, input])?;
            prints.execution = print(execution);
            prints.version = print_option(version.map(str::as_bytes));
            prints.input = payload_print(next.input.as_ref());
        }
        if let (Some(stalled), None) = (instance.stalled, instance.ending) {
            let (since, attempts, reason) = stall_columns(stalled);
            self.prepare(UPDATE_STALL)?
                .execute(params![key.0, since, attempts, reason])?;
            prints.stall = print_of_stall(stalled);
        }
        if let Some(ending) = instance.ending {
            prints.output = payload_print(ending.output.as_ref());
            prints.stall = 0;
        }
        Ok(prints)
    }

    /// Changes a member of the status record that has no column; answers the fingerprint of what has none.
    fn change_blob(&self, key: Key, change: impl FnOnce(&mut InstanceInfo)) -> Result<u64, Trouble> {
        let Some(found) = info(self.connection, key)? else {
            return Err(Trouble::Contradiction("a row is gone that was there before".to_owned()));
        };
        let mut info = found.info;
        change(&mut info);
        let blob = write_blob(&info);
        self.prepare("UPDATE instance SET info = ?2 WHERE inst = ?1")?
            .execute(params![key.0, blob])?;
        Ok(print_option(blob.as_deref()))
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
            for (place, payload) in changed_payloads(instance) {
                let ordinal = if place == Place::Input {
                    instance.head.ordinal
                } else {
                    0
                };
                if let Origin::Stored(_) = instance.origin {
                    let sql = "DELETE FROM payload WHERE inst = ?1 AND place = ?2 AND ordinal = ?3";
                    changed += self.prepare(sql)?.execute(params![key.0, place.number(), ordinal])?;
                }
                if let Some(payload) = payload.filter(|payload| is_apart(payload)) {
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
        let output = column(instance.ending.and_then(|ending| ending.output.as_ref()));
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

/// The status record of an instance that the group brings, as it is by the end of the group.
fn created_info<'i>(instance: &Instance<'_>, created: &'i InstanceInfo) -> Cow<'i, InstanceInfo> {
    let mut info = Cow::Borrowed(created);
    if let Some(custom) = instance.custom {
        info.to_mut().custom_status = custom.cloned();
    }
    if let Some(stalled) = instance.stalled
        && stalled != info.stalled.as_deref()
    {
        info.to_mut().stalled = stalled.cloned().map(Box::new);
    }
    if let Some(next) = instance.continued {
        let info = info.to_mut();
        info.execution = next.execution;
        info.version.clone_from(&next.version);
        info.input.clone_from(&next.input);
    }
    if let Some(ending) = instance.ending {
        let info = info.to_mut();
        info.output.clone_from(&ending.output);
        info.failure.clone_from(&ending.failure);
    }
    info
}

/// Writes the row of an instance that has none, and answers what it is.
pub(super) fn insert_instance(
    insert: &mut CachedStatement<'_>,
    key: Key,
    hub: i64,
    head: &Head,
    info: &InstanceInfo,
) -> Result<Stored, Trouble> {
    let (since, attempts, reason) = stall_columns(info.stalled.as_deref());
    let (execution, version) = (info.execution.bytes(), info.version.as_ref().map(Name::as_str));
    let blob = write_blob(info);
    let stored = Stored {
        hub,
        created_at: info.created_at,
        head: *head,
        prints: Prints {
            id: print(info.instance.as_str().as_bytes()),
            execution: print(execution),
            name: print(info.name.as_str().as_bytes()),
            version: print_option(version.map(str::as_bytes)),
            stall: print_of_stall(info.stalled.as_deref()),
            info: print_option(blob.as_deref()),
            custom: payload_print(info.custom_status.as_ref()),
            output: payload_print(info.output.as_ref()),
            input: payload_print(info.input.as_ref()),
        },
    };
    insert.execute(params![
        key.0,
        hub,
        info.instance.as_str(),
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
        execution,
        info.name.as_str(),
        version,
        since,
        attempts,
        reason,
        blob,
        column(info.custom_status.as_ref()),
        column(info.output.as_ref()),
        column(info.input.as_ref()),
        stored.sum(key),
    ])?;
    Ok(stored)
}

fn print_of_stall(stall: Option<&Stall>) -> u64 {
    let (since, attempts, reason) = stall_columns(stall);
    stall_print(since, attempts, reason.map(str::as_bytes))
}

fn stall_columns(stall: Option<&Stall>) -> (Option<i64>, Option<u32>, Option<&str>) {
    match stall {
        Some(stall) => (Some(stall.since.ticks()), Some(stall.attempts), Some(&stall.reason)),
        None => (None, None, None),
    }
}

/// Payloads of the status record that the group sets, with what they are set to.
fn changed_payloads<'i>(instance: &'i Instance<'_>) -> impl Iterator<Item = (Place, Option<&'i Payload>)> {
    let input = match (instance.continued, &instance.origin) {
        (Some(next), _) => Some(next.input.as_ref()),
        (None, Origin::Created { creation, .. }) => Some(creation.info.input.as_ref()),
        (None, Origin::Stored(_)) => None,
    };
    let output = instance.ending.map(|ending| ending.output.as_ref());
    let places = [
        (Place::Input, input),
        (Place::Output, output),
        (Place::Custom, instance.custom),
    ];
    places.into_iter().filter_map(|(place, set)| Some((place, set?)))
}
