//! Writes rows of `instance`, and the payloads that are too large for them.

use std::borrow::Cow;

use rusqlite::{CachedStatement, OptionalExtension, ToSql, params};
use taskhub_core::id::Name;
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, Stall};
use taskhub_core::time::Timestamp;

use super::fold::{Folded, Instance, Origin};
use super::record::{Head, INFO, Key, Place, column, int, is_apart, read_info, sum, write_blob};
use super::rows::Tables;
use super::trouble::Trouble;

const INSERT: &str = "INSERT INTO instance (inst, hub, id, status, ordinal, created_at, updated_at, completed_at, \
     history_events, history_bytes, next_message, next_occurrence, execution, name, version, stalled_at, \
     stalled_attempts, stalled_reason, info, custom, output, input) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
     ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)";
// Without the status, so that no index is touched.
const UPDATE: &str = "UPDATE instance SET ordinal = ?2, updated_at = ?3, completed_at = ?4, history_events = ?5, \
     history_bytes = ?6, next_message = ?7, next_occurrence = ?8 WHERE inst = ?1";
const UPDATE_STATUS: &str = "UPDATE instance SET ordinal = ?2, updated_at = ?3, completed_at = ?4, \
     history_events = ?5, history_bytes = ?6, next_message = ?7, next_occurrence = ?8, status = ?9 WHERE inst = ?1";
// Most instances end but once, and with a status change.
const UPDATE_END: &str = "UPDATE instance SET ordinal = ?2, updated_at = ?3, completed_at = ?4, \
     history_events = ?5, history_bytes = ?6, next_message = ?7, next_occurrence = ?8, status = ?9, output = ?10, \
     stalled_at = NULL, stalled_attempts = NULL, stalled_reason = NULL WHERE inst = ?1";
const UPDATE_STALL: &str =
    "UPDATE instance SET stalled_at = ?2, stalled_attempts = ?3, stalled_reason = ?4 WHERE inst = ?1";

impl Tables<'_> {
    pub(super) fn instances(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        {
            let mut insert = self.prepare(INSERT)?;
            let mut update = Updates {
                plain: self.prepare(UPDATE)?,
                status: self.prepare(UPDATE_STATUS)?,
                end: self.prepare(UPDATE_END)?,
            };
            for (key, instance) in &folded.instances {
                changed += match instance.origin {
                    Origin::Created { hub, creation } => {
                        let info = created_info(instance, &creation.info);
                        insert_instance(&mut insert, *key, hub, &instance.head, &info)?
                    }
                    Origin::Stored(_) => {
                        self.extras(*key, instance)?;
                        update.execute(*key, instance)?
                    }
                };
            }
        }
        self.count(changed);
        Ok(())
    }

    /// Columns that change seldom, each by a statement of its own.
    fn extras(&self, key: Key, instance: &Instance<'_>) -> Result<(), Trouble> {
        if let Some(custom) = instance.custom {
            self.prepare("UPDATE instance SET custom = ?2 WHERE inst = ?1")?
                .execute(params![key.0, column(custom)])?;
        }
        if let Some(next) = instance.continued {
            let version = next.version.as_ref().map(Name::as_str);
            let input = column(next.input.as_ref());
            self.prepare("UPDATE instance SET execution = ?2, version = ?3, input = ?4 WHERE inst = ?1")?
                .execute(params![key.0, next.execution.bytes(), version, input])?;
        }
        if let (Some(stalled), None) = (instance.stalled, instance.ending) {
            let (since, attempts, reason) = stall_columns(stalled);
            self.prepare(UPDATE_STALL)?
                .execute(params![key.0, since, attempts, reason])?;
        }
        if let Some(failure) = instance.ending.and_then(|ending| ending.failure.as_ref()) {
            self.change_blob(key, |info| info.failure = Some(failure.clone()))?;
        }
        Ok(())
    }

    /// Changes a member of the status record that has no column.
    fn change_blob(&self, key: Key, change: impl FnOnce(&mut InstanceInfo)) -> Result<(), Trouble> {
        let sql = format!("SELECT {INFO} FROM instance WHERE inst = ?1");
        let mut select = self.prepare(&sql)?;
        let found = select.query_row([key.0], |row| Ok(read_info(row))).optional()?;
        let Some(found) = found else {
            return Err(Trouble::Contradiction("a row is gone that was there before".to_owned()));
        };
        let mut info = found?.info;
        change(&mut info);
        self.prepare("UPDATE instance SET info = ?2 WHERE inst = ?1")?
            .execute(params![key.0, write_blob(&info)])?;
        Ok(())
    }

    /// Payloads of status records that are too large for their column.
    pub(super) fn payloads(&mut self, folded: &Folded<'_>) -> Result<(), Trouble> {
        let mut changed = 0;
        for (key, instance) in &folded.instances {
            for (place, payload) in changed_payloads(instance) {
                if let Origin::Stored(_) = instance.origin {
                    let mut delete = self.prepare("DELETE FROM payload WHERE inst = ?1 AND place = ?2")?;
                    changed += delete.execute([key.0, place.number()])?;
                }
                if let Some(payload) = payload.filter(|payload| is_apart(payload)) {
                    let mut insert =
                        self.prepare("INSERT INTO payload (inst, place, sum, body) VALUES (?1, ?2, ?3, ?4)")?;
                    let body: &[u8] = payload.bytes();
                    changed += insert.execute(params![key.0, place.number(), sum(body), body])?;
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
    fn execute(&mut self, key: Key, instance: &Instance<'_>) -> Result<usize, Trouble> {
        let head = &instance.head;
        let completed_at = head.completed_at.map(Timestamp::ticks);
        let (updated_at, bytes) = (head.updated_at.ticks(), int(head.history_bytes));
        let (message, occurrence) = (int(head.next_message.0), int(head.next_occurrence.0));
        let status = head.status.number();
        let output = column(instance.ending.and_then(|ending| ending.output.as_ref()));
        let params: [&dyn ToSql; 10] = [
            &key.0,
            &head.ordinal,
            &updated_at,
            &completed_at,
            &head.history_events,
            &bytes,
            &message,
            &occurrence,
            &status,
            &output,
        ];
        let changed = if instance.ending.is_some() {
            self.end.execute(params)?
        } else if instance.changes_status() {
            self.status.execute(&params[..9])?
        } else {
            self.plain.execute(&params[..8])?
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

fn insert_instance(
    insert: &mut CachedStatement<'_>,
    key: Key,
    hub: i64,
    head: &Head,
    info: &InstanceInfo,
) -> Result<usize, Trouble> {
    let (since, attempts, reason) = stall_columns(info.stalled.as_deref());
    let inserted = insert.execute(params![
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
        info.execution.bytes(),
        info.name.as_str(),
        info.version.as_ref().map(Name::as_str),
        since,
        attempts,
        reason,
        write_blob(info),
        column(info.custom_status.as_ref()),
        column(info.output.as_ref()),
        column(info.input.as_ref()),
    ])?;
    Ok(inserted)
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
