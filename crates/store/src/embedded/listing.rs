//! Reads what a listing has planned, and counts: what may look at many instances reads few rows.

use std::cell::Cell;
use std::collections::BTreeMap;

use rusqlite::{CachedStatement, Connection, Row, Rows, params};
use taskhub_core::id::{HubName, InstanceNumber};
use taskhub_core::limits;
use taskhub_core::query::{Cursor, Page, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;

use super::columns::{find_info, instance_id};
use super::hubs;
use super::reader::complete;
use super::trouble::Trouble;
use crate::sql::{Candidate, Index, InfoRow, Key, Listing, Place, count_sum, int, read_status, uint};
use crate::{FingerprintPage, IdPage, InstancePage, PartitionKey, Selection, fingerprint};

const CANDIDATE: &str = "inst, created_at, id, status, name";

pub(super) fn list(connection: &Connection, which: &Selection, payloads: Payloads) -> Result<InstancePage, Trouble> {
    Scan::new(connection, which)?.page(which.rows_max.min(limits::PAGE_ROWS_MAX), payloads)
}

pub(super) fn list_ids(connection: &Connection, which: &Selection) -> Result<IdPage, Trouble> {
    Scan::new(connection, which)?.ids(which.rows_max.min(limits::PAGE_ROWS_MAX))
}

fn candidate(row: &Row<'_>) -> Result<Candidate, Trouble> {
    Ok(Candidate {
        key: Key(row.get(0)?),
        created_at: Timestamp::from_ticks(row.get(1)?),
        id: instance_id(row, 2)?,
        status: read_status(row.get(3)?)?,
        name: row.get(4)?,
    })
}

struct Scan<'q> {
    connection: &'q Connection,
    listing: Listing<'q>,
    rows_read: Cell<u64>,
}

impl<'q> Scan<'q> {
    fn new(connection: &'q Connection, which: &'q Selection) -> Result<Self, Trouble> {
        Ok(Self {
            connection,
            listing: Listing::new(hubs::find(connection, &which.hub)?, which),
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
            // A caller that lists ids purges the instances, so it must not get an id from a damaged row.
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
        let mut found = match self.by_prefix(rows_max)? {
            Some(found) => found,
            // One more, to know whether this is the last page.
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

    /// The row that an index has led to.
    fn row(&self, candidate: &Candidate) -> Result<InfoRow, Trouble> {
        let row = find_info(self.connection, candidate.key)?;
        Ok(self.listing.check(candidate, row)?)
    }

    /// The first matching rows, in order.
    fn in_order(&self, rows_max: usize) -> Result<Vec<Candidate>, Trouble> {
        let mut statements = Vec::new();
        for index in self.listing.indexes() {
            statements.push(self.prepare(index)?);
        }
        let mut cursors = Vec::new();
        for (statement, status) in &mut statements {
            let Listing {
                hub,
                begin: (created_at, id),
                end,
                ..
            } = self.listing;
            cursors.push(match status {
                Some(status) => statement.query(params![hub, created_at, id, end, status.number()])?,
                None => statement.query(params![hub, created_at, id, end])?,
            });
        }
        let mut merge = self.listing.merge(cursors.len(), rows_max);
        while let Some(wanted) = merge.wants() {
            let row = cursors.get_mut(wanted).map(|rows| self.step(rows)).transpose()?;
            merge.give(wanted, row.flatten());
        }
        Ok(merge.found())
    }

    /// The next row that can be read.
    fn step(&self, rows: &mut Rows<'_>) -> Result<Option<Candidate>, Trouble> {
        while let Some(row) = rows.next()? {
            self.rows_read.set(self.rows_read.get() + 1);
            match candidate(row) {
                Ok(candidate) => return Ok(Some(candidate)),
                Err(trouble) => left_out(Key(row.get(0)?), &trouble.of_row()?),
            }
        }
        Ok(None)
    }

    /// The statement of a cursor, and the status that it takes as a parameter besides the range.
    fn prepare(&self, index: Index) -> Result<(CachedStatement<'_>, Option<RuntimeStatus>), Trouble> {
        // The partial indexes serve only where their condition is written out.
        let (index, condition, status) = match index {
            Index::All => ("instance_created", "", None),
            Index::Open(status) => (
                "instance_open",
                "AND status = ?5 AND status IN (0, 2, 6, 7)",
                Some(status),
            ),
            Index::Bad(status) => ("instance_bad", "AND status = ?5 AND status IN (3, 4, 5)", Some(status)),
        };
        let sql = format!(
            "SELECT {CANDIDATE} FROM instance INDEXED BY {index} WHERE hub = ?1 AND (created_at, id) > (?2, ?3) \
             AND created_at < ?4 {condition} ORDER BY created_at, id"
        );
        Ok((self.connection.prepare_cached(&sql)?, status))
    }

    /// All matching rows, if few ids have the prefix.
    fn by_prefix(&self, rows_max: usize) -> Result<Option<Vec<Candidate>>, Trouble> {
        let Some(mut by_prefix) = self.listing.by_prefix(rows_max) else {
            return Ok(None);
        };
        let sql =
            format!("SELECT {CANDIDATE} FROM instance INDEXED BY instance_id WHERE hub = ?1 AND id >= ?2 ORDER BY id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![self.listing.hub, by_prefix.prefix])?;
        while by_prefix.wants() {
            if by_prefix.give(self.step(&mut rows)?) {
                return Ok(Some(by_prefix.found()));
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
        "cannot read a row of `instance`; leaving it out of the listing"
    );
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
                "wrong checksum in a row of instance counts".to_owned(),
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
    let (first, end) = Key::range_behind(part.row, behind);
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
