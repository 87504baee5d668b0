//! Pages, counts and fingerprints: what may look at many instances reads few rows.
//!
//! A listing is a merge of cursors over an index, each in the order of the listing: one cursor for each
//! wanted status where these have an index, else one over all. Rows are counted before they are filtered.

use std::cell::Cell;
use std::collections::BTreeMap;

use rusqlite::{CachedStatement, Connection, Row, Rows, params};
use taskhub_core::fold;
use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::limits;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;

use super::hubs;
use super::reader::{after, complete, info, instance_id};
use super::record::{InfoRow, Key, Place, count_sum, int, read_status, uint};
use super::trouble::Trouble;
use crate::{FingerprintPage, IdPage, InstancePage, PartitionKey, Selection, fingerprint};

const CANDIDATE: &str = "inst, created_at, id, status, name";

pub(super) fn list(connection: &Connection, which: &Selection, payloads: Payloads) -> Result<InstancePage, Trouble> {
    Scan::new(connection, which)?.page(which.rows_max.min(limits::PAGE_ROWS_MAX), payloads)
}

pub(super) fn list_ids(connection: &Connection, which: &Selection) -> Result<IdPage, Trouble> {
    Scan::new(connection, which)?.ids(which.rows_max.min(limits::PAGE_ROWS_MAX))
}

/// A row as the index and a look at the table give it.
struct Candidate {
    key: Key,
    created_at: Timestamp,
    id: InstanceId,
    status: RuntimeStatus,
    name: String,
}

impl Candidate {
    fn read(row: &Row<'_>) -> Result<Self, Trouble> {
        Ok(Self {
            key: Key(row.get(0)?),
            created_at: Timestamp::from_ticks(row.get(1)?),
            id: instance_id(row, 2)?,
            status: read_status(row.get(3)?)?,
            name: row.get(4)?,
        })
    }

    fn place(&self) -> (Timestamp, &str) {
        (self.created_at, self.id.as_str())
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            instance: self.id.clone(),
        }
    }
}

struct Scan<'q> {
    connection: &'q Connection,
    hub: i64,
    filter: &'q Filter,
    after: Option<&'q Cursor>,
    rows_read: Cell<u64>,
}

impl<'q> Scan<'q> {
    fn new(connection: &'q Connection, which: &'q Selection) -> Result<Self, Trouble> {
        Ok(Self {
            connection,
            hub: hubs::find(connection, &which.hub)?,
            filter: &which.filter,
            after: which.after.as_ref(),
            rows_read: Cell::new(0),
        })
    }

    fn page(self, rows_max: usize, payloads: Payloads) -> Result<InstancePage, Trouble> {
        let (found, mut next) = self.found(rows_max)?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut left = found.into_iter().peekable();
        while let Some(row) = left.next() {
            let Some(info) = self.readable(&row, payloads)? else {
                continue;
            };
            bytes += info.size();
            rows.push(info);
            if bytes >= limits::PAGE_BYTES_MAX && left.peek().is_some() {
                next = Some(row.cursor());
                break;
            }
        }
        Ok(InstancePage {
            page: Page { rows, next },
            rows_read: self.rows_read.get(),
        })
    }

    fn ids(self, rows_max: usize) -> Result<IdPage, Trouble> {
        let (found, next) = self.found(rows_max)?;
        let mut ids = Vec::with_capacity(found.len());
        for row in found {
            // Whoever asks for ids purges what they name.
            match self.row(&row) {
                Ok(_) => ids.push(row.id),
                Err(trouble) => left_out(row.key, &trouble.of_row()?),
            }
        }
        Ok(IdPage {
            ids,
            next,
            rows_read: self.rows_read.get(),
        })
    }

    /// The rows of a page, and where the next one begins.
    fn found(&self, rows_max: usize) -> Result<(Vec<Candidate>, Option<Cursor>), Trouble> {
        // One more, to know whether this is the last page.
        let mut found = match self.by_prefix(rows_max)? {
            Some(found) => found,
            None => self.in_order(rows_max + 1)?,
        };
        let is_last = found.len() <= rows_max;
        found.truncate(rows_max);
        let last = if is_last { None } else { found.last() };
        let next = last.map(Candidate::cursor);
        Ok((found, next))
    }

    /// The status record of a row, without which the others are still worth showing if it is damaged (R187).
    fn readable(&self, row: &Candidate, payloads: Payloads) -> Result<Option<InstanceInfo>, Trouble> {
        match self.info(row, payloads) {
            Ok(info) => Ok(Some(info)),
            Err(trouble) => {
                left_out(row.key, &trouble.of_row()?);
                Ok(None)
            }
        }
    }

    fn info(&self, row: &Candidate, payloads: Payloads) -> Result<InstanceInfo, Trouble> {
        let mut row = self.row(row)?;
        row.apart.retain(|(place, _)| match place {
            Place::Custom => true,
            Place::Output => payloads.output,
            Place::Input => payloads.input,
        });
        payloads.restrict(&mut row.info);
        complete(self.connection, row)
    }

    /// The row that an index has led to, which must be what the index says.
    fn row(&self, candidate: &Candidate) -> Result<InfoRow, Trouble> {
        let Some(row) = info(self.connection, candidate.key)? else {
            let what = "an index names a row that is not there".to_owned();
            return Err(Trouble::Contradiction(what));
        };
        let found = (&row.info.instance, row.info.created_at, row.info.status, row.hub);
        if found != (&candidate.id, candidate.created_at, candidate.status, self.hub) {
            let what = format!("an index says of `{}` what its row does not", row.info.instance);
            return Err(Trouble::Contradiction(what));
        }
        Ok(row)
    }

    fn matches(&self, row: &Candidate) -> bool {
        let filter = self.filter;
        (filter.statuses.is_empty() || filter.statuses.contains(&row.status))
            && filter.name.as_ref().is_none_or(|name| fold::is_same(name, &row.name))
            && filter
                .id_prefix
                .as_ref()
                .is_none_or(|prefix| row.id.as_str().starts_with(prefix))
    }

    /// The place behind which rows count: an id is never empty, so an empty one is before all of a moment.
    fn begin(&self) -> (i64, &str) {
        let from = (self.filter.created_from.map_or(i64::MIN, Timestamp::ticks), "");
        let after = self
            .after
            .map(|after| (after.created_at.ticks(), after.instance.as_str()));
        after.map_or(from, |after| after.max(from))
    }

    fn end(&self) -> i64 {
        self.filter.created_before.map_or(i64::MAX, Timestamp::ticks)
    }

    /// The first matching rows, in order.
    fn in_order(&self, rows_max: usize) -> Result<Vec<Candidate>, Trouble> {
        let statuses = indexed_statuses(self.filter);
        let mut statements = Vec::new();
        for status in &statuses {
            statements.push((self.prepare(*status)?, *status));
        }
        let mut cursors = Vec::new();
        for (statement, status) in &mut statements {
            let (created_at, id) = self.begin();
            let rows = match status {
                Some(status) => statement.query(params![self.hub, created_at, id, self.end(), status.number()])?,
                None => statement.query(params![self.hub, created_at, id, self.end()])?,
            };
            cursors.push((rows, None));
        }
        let mut found = Vec::new();
        for (rows, head) in &mut cursors {
            *head = self.step(rows)?;
        }
        while found.len() < rows_max {
            let first = cursors.iter_mut().filter(|(_, head)| head.is_some());
            let first = first.min_by(|(_, one), (_, other)| place(one.as_ref()).cmp(&place(other.as_ref())));
            let Some((rows, head)) = first else { break };
            if let Some(row) = head.take().filter(|row| self.matches(row)) {
                found.push(row);
            }
            if found.len() < rows_max {
                *head = self.step(rows)?;
            }
        }
        Ok(found)
    }

    /// The next row that can be read.
    fn step(&self, rows: &mut Rows<'_>) -> Result<Option<Candidate>, Trouble> {
        while let Some(row) = rows.next()? {
            self.rows_read.set(self.rows_read.get() + 1);
            match Candidate::read(row) {
                Ok(candidate) => return Ok(Some(candidate)),
                Err(trouble) => left_out(Key(row.get(0)?), &trouble.of_row()?),
            }
        }
        Ok(None)
    }

    fn prepare(&self, status: Option<RuntimeStatus>) -> Result<CachedStatement<'_>, Trouble> {
        // The partial indexes serve only where their condition is written out.
        let (index, condition) = match status {
            None => ("instance_created", ""),
            Some(status) if is_open(status) => ("instance_open", "AND status = ?5 AND status IN (0, 2, 6, 7)"),
            Some(_) => ("instance_bad", "AND status = ?5 AND status IN (3, 4, 5)"),
        };
        let sql = format!(
            "SELECT {CANDIDATE} FROM instance INDEXED BY {index} WHERE hub = ?1 AND (created_at, id) > (?2, ?3) \
             AND created_at < ?4 {condition} ORDER BY created_at, id"
        );
        Ok(self.connection.prepare_cached(&sql)?)
    }

    /// All matching rows, if few ids have the prefix; the order of ids is not that of the listing.
    fn by_prefix(&self, rows_max: usize) -> Result<Option<Vec<Candidate>>, Trouble> {
        let Some(prefix) = self.filter.id_prefix.as_ref().filter(|prefix| !prefix.is_empty()) else {
            return Ok(None);
        };
        let sql =
            format!("SELECT {CANDIDATE} FROM instance INDEXED BY instance_id WHERE hub = ?1 AND id >= ?2 ORDER BY id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![self.hub, prefix])?;
        let begin = self.begin();
        let mut found = Vec::new();
        for _ in 0..=2 * rows_max + 16 {
            let Some(row) = self.step(&mut rows)?.filter(|row| row.id.as_str().starts_with(prefix)) else {
                found.sort_unstable_by(|one: &Candidate, other| one.place().cmp(&other.place()));
                return Ok(Some(found));
            };
            let is_behind = (row.created_at.ticks(), row.id.as_str()) > begin;
            if is_behind && row.created_at.ticks() < self.end() && self.matches(&row) {
                found.push(row);
            }
        }
        Ok(None)
    }
}

fn left_out(key: Key, what: &str) {
    let Key(row) = key;
    tracing::error!(
        row,
        what,
        "a row of `instance` cannot be read and is left out of a listing"
    );
}

/// Where a cursor stands.
fn place(head: Option<&Candidate>) -> Option<(Timestamp, &str)> {
    head.map(Candidate::place)
}

/// One cursor for each of these; `None` stands for all rows.
fn indexed_statuses(filter: &Filter) -> Vec<Option<RuntimeStatus>> {
    if filter.statuses.is_empty() || filter.statuses.contains(&RuntimeStatus::Completed) {
        return vec![None];
    }
    let mut statuses = filter.statuses.clone();
    statuses.sort_unstable();
    statuses.dedup();
    statuses.into_iter().map(Some).collect()
}

fn is_open(status: RuntimeStatus) -> bool {
    use RuntimeStatus::{ContinuedAsNew, Pending, Running, Suspended};
    matches!(status, Running | ContinuedAsNew | Pending | Suspended)
}

pub(super) fn counts(connection: &Connection, hub: &HubName) -> Result<Vec<(RuntimeStatus, u64)>, Trouble> {
    let hub = hubs::find(connection, hub)?;
    let sql = "SELECT part, status, n, sum FROM status_count WHERE part IN (SELECT part FROM part WHERE hub = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([hub])?;
    let mut counts: BTreeMap<RuntimeStatus, u64> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (part, status, n) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if count_sum(part, status, n) != row.get::<_, i64>(3)? {
            return Err(Trouble::Contradiction(
                "the checksum of a count of instances is wrong".to_owned(),
            ));
        }
        *counts.entry(read_status(status)?).or_default() += uint(n);
    }
    counts.retain(|_, n| *n > 0);
    Ok(counts.into_iter().collect())
}

pub(super) fn fingerprints(
    connection: &Connection,
    partition: &PartitionKey,
    behind: Option<InstanceNumber>,
    rows_max: usize,
) -> Result<FingerprintPage, Trouble> {
    let rows_max = rows_max.min(limits::PAGE_ROWS_MAX);
    let part = hubs::find_part(connection, partition)?;
    let (first, end) = after(part.row, behind);
    let sql = "SELECT inst, id FROM instance WHERE inst >= ?1 AND inst < ?2 ORDER BY inst LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([first, end, int(rows_max as u64 + 1)])?;
    let (mut fingerprints, mut last, mut next) = (Vec::new(), None, None);
    while let Some(row) = rows.next()? {
        if fingerprints.len() == rows_max {
            next = last;
            break;
        }
        last = Some(Key(row.get(0)?).number());
        fingerprints.push(fingerprint(&instance_id(row, 1)?));
    }
    Ok(FingerprintPage { fingerprints, next })
}
