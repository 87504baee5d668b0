//! Which rows a listing reads, and in which order it takes them.
//!
//! A listing is a merge of cursors over an index, each in the order of the listing: one cursor for each wanted status where
//! these have an index, else one over all. Rows are counted before they are filtered. A backend reads: it steps the cursor that
//! the merge wants, or sends for the next rows of it, and hands them on.

use taskhub_core::fold;
use taskhub_core::id::InstanceId;
use taskhub_core::query::{Cursor, Filter};
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use super::Contradiction;
use super::record::{InfoRow, Key};
use crate::Selection;

/// A row as the index and a look at the table give it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) key: Key,
    pub(crate) created_at: Timestamp,
    pub(crate) id: InstanceId,
    pub(crate) status: RuntimeStatus,
    pub(crate) name: String,
}

impl Candidate {
    fn place(&self) -> (i64, &str) {
        (self.created_at.ticks(), self.id.as_str())
    }

    /// The position after which a listing continues.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            instance: self.id.clone(),
        }
    }
}

/// An index that has the order of a listing: by time of creation, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    /// Over all instances of a hub.
    All,
    /// Over live instances, of which one status is read.
    Open(RuntimeStatus),
    /// Over instances that failed, were cancelled or were terminated, of which one status is read.
    Bad(RuntimeStatus),
}

/// A selection as ranges of indexes.
#[derive(Debug)]
pub(crate) struct Listing<'q> {
    /// Row of the hub.
    pub(crate) hub: i64,
    filter: &'q Filter,
    /// Rows count behind this place: ticks and id.
    pub(crate) begin: (i64, &'q str),
    /// And were created before this, in ticks.
    pub(crate) end: i64,
}

impl<'q> Listing<'q> {
    pub(crate) fn new(hub: i64, which: &'q Selection) -> Self {
        let filter = &which.filter;
        // An id is never empty, so an empty one is before all of a moment.
        let from = (filter.created_from.map_or(i64::MIN, Timestamp::ticks), "");
        let after = which.after.as_ref();
        let after = after.map(|after| (after.created_at.ticks(), after.instance.as_str()));
        Self {
            hub,
            filter,
            begin: after.map_or(from, |after| after.max(from)),
            end: filter.created_before.map_or(i64::MAX, Timestamp::ticks),
        }
    }

    /// What there is a cursor over. No index has those that completed alone, since most instances do.
    pub(crate) fn indexes(&self) -> Vec<Index> {
        let statuses = &self.filter.statuses;
        if statuses.is_empty() || statuses.contains(&RuntimeStatus::Completed) {
            return vec![Index::All];
        }
        let mut statuses = statuses.clone();
        statuses.sort_unstable();
        statuses.dedup();
        statuses.into_iter().map(index).collect()
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

    /// Whether it is within the range that cursors of [`Index`] have.
    fn is_in_range(&self, row: &Candidate) -> bool {
        row.place() > self.begin && row.created_at.ticks() < self.end
    }

    /// The first rows that match, in order, of so many cursors.
    pub(crate) fn merge(&self, cursors: usize, rows_max: usize) -> Merge<'_> {
        Merge {
            listing: self,
            heads: (0..cursors).map(|_| Head::Unread).collect(),
            found: Vec::new(),
            rows_max,
        }
    }

    /// Another way to the same rows, if only ids with a prefix are wanted: over the index of ids.
    pub(crate) fn by_prefix(&self, rows_max: usize) -> Option<ByPrefix<'_>> {
        let prefix = self.filter.id_prefix.as_ref().filter(|prefix| !prefix.is_empty())?;
        Some(ByPrefix {
            listing: self,
            prefix,
            found: Vec::new(),
            left: 2 * rows_max + 17,
        })
    }

    /// Refuses a row that an index has led to and that is not what the index says.
    pub(crate) fn check(&self, candidate: &Candidate, row: Option<InfoRow>) -> Result<InfoRow, Contradiction> {
        let row = row.ok_or_else(|| Contradiction("an index entry has no row".to_owned()))?;
        let found = (&row.info.instance, row.info.created_at, row.info.status, row.hub);
        if found == (&candidate.id, candidate.created_at, candidate.status, self.hub) {
            return Ok(row);
        }
        let id = &row.info.instance;
        Err(Contradiction(format!("an index entry of `{id}` contradicts its row")))
    }
}

fn index(status: RuntimeStatus) -> Index {
    use RuntimeStatus::{Canceled, Completed, ContinuedAsNew, Failed, Pending, Running, Suspended, Terminated};
    match status {
        Running | ContinuedAsNew | Pending | Suspended => Index::Open(status),
        Failed | Canceled | Terminated => Index::Bad(status),
        Completed => Index::All,
    }
}

/// Where a cursor stands.
#[derive(Debug)]
enum Head {
    /// Its next row is not read yet.
    Unread,
    At(Candidate),
    AtEnd,
}

/// A merge of cursors that are each in the order of the listing.
#[derive(Debug)]
pub(crate) struct Merge<'l> {
    listing: &'l Listing<'l>,
    heads: Vec<Head>,
    found: Vec<Candidate>,
    rows_max: usize,
}

impl Merge<'_> {
    /// The cursor whose next row it needs; `None` if it has what it looks for, or all are at their end.
    pub(crate) fn wants(&mut self) -> Option<usize> {
        while self.found.len() < self.rows_max {
            if let Some(unread) = self.heads.iter().position(|head| matches!(head, Head::Unread)) {
                return Some(unread);
            }
            let rows = self.heads.iter_mut().filter_map(|head| match head {
                Head::At(_) => Some(head),
                Head::Unread | Head::AtEnd => None,
            });
            let first = rows.min_by(|one, other| place(one).cmp(&place(other)))?;
            if let Head::At(row) = std::mem::replace(first, Head::Unread)
                && self.listing.matches(&row)
            {
                self.found.push(row);
            }
        }
        None
    }

    /// The next row of a cursor; `None` if it has no more.
    pub(crate) fn give(&mut self, cursor: usize, row: Option<Candidate>) {
        if let Some(head) = self.heads.get_mut(cursor) {
            *head = row.map_or(Head::AtEnd, Head::At);
        }
    }

    pub(crate) fn found(self) -> Vec<Candidate> {
        self.found
    }
}

fn place(head: &Head) -> Option<(i64, &str)> {
    match head {
        Head::At(row) => Some(row.place()),
        Head::Unread | Head::AtEnd => None,
    }
}

/// The rows whose ids have a prefix, by way of the index of ids, whose order is not that of the listing. So it looks at all of
/// them, and gives up if they are many.
#[derive(Debug)]
pub(crate) struct ByPrefix<'l> {
    listing: &'l Listing<'l>,
    pub(crate) prefix: &'l str,
    found: Vec<Candidate>,
    left: usize,
}

impl ByPrefix<'_> {
    /// Whether it needs another row; if not, it has looked at too many.
    pub(crate) fn wants(&self) -> bool {
        self.left > 0
    }

    /// Reads the next row of the index after the prefix; returns whether it is the last row needed.
    pub(crate) fn give(&mut self, row: Option<Candidate>) -> bool {
        self.left = self.left.saturating_sub(1);
        let Some(row) = row.filter(|row| row.id.as_str().starts_with(self.prefix)) else {
            return true;
        };
        if self.listing.is_in_range(&row) && self.listing.matches(&row) {
            self.found.push(row);
        }
        false
    }

    /// What it found, in the order of the listing.
    pub(crate) fn found(mut self) -> Vec<Candidate> {
        self.found
            .sort_unstable_by(|one, other| one.place().cmp(&other.place()));
        self.found
    }
}

#[cfg(test)]
mod tests {
    use taskhub_core::id::HubName;

    use super::*;

    fn selection(filter: Filter) -> Selection {
        Selection {
            hub: HubName::new("Merging").unwrap(),
            filter,
            after: None,
            rows_max: 10,
        }
    }

    fn row(at: i64, id: &str, status: RuntimeStatus) -> Candidate {
        Candidate {
            key: Key(at),
            created_at: Timestamp::from_ticks(at),
            id: InstanceId::new(id).unwrap(),
            status,
            name: "Hello".to_owned(),
        }
    }

    fn ids(rows: &[Candidate]) -> Vec<&str> {
        rows.iter().map(|row| row.id.as_str()).collect()
    }

    /// Runs a merge over lists as cursors; returns the merged rows, and how many rows of each list were read.
    fn run(listing: &Listing<'_>, cursors: Vec<Vec<Candidate>>, rows_max: usize) -> (Vec<Candidate>, Vec<usize>) {
        let mut asked = vec![0; cursors.len()];
        let mut cursors: Vec<_> = cursors.into_iter().map(Vec::into_iter).collect();
        let mut merge = listing.merge(cursors.len(), rows_max);
        while let Some(wanted) = merge.wants() {
            asked[wanted] += 1;
            merge.give(wanted, cursors[wanted].next());
        }
        (merge.found(), asked)
    }

    #[test]
    fn a_merge_takes_rows_in_order_and_asks_for_no_more_than_it_needs() {
        use RuntimeStatus::{Failed, Pending, Running};
        let statuses = vec![Failed, Running, Pending, Running];
        let which = selection(Filter {
            statuses,
            ..Filter::default()
        });
        let listing = Listing::new(1, &which);
        let expected = [Index::Open(Running), Index::Bad(Failed), Index::Open(Pending)];
        assert_eq!(listing.indexes().len(), expected.len());
        assert!(expected.iter().all(|index| listing.indexes().contains(index)));
        let cursors = || {
            let one = vec![row(1, "a", Running), row(3, "c", Running), row(3, "e", Running)];
            let other = vec![row(2, "b", Failed), row(3, "d", Failed), row(9, "z", Failed)];
            vec![one, other, Vec::new()]
        };
        let (found, asked) = run(&listing, cursors(), 4);
        assert_eq!(ids(&found), ["a", "b", "c", "d"]);
        // Behind the last one it asks for none.
        assert_eq!(asked, [3, 2, 1]);
        let (found, asked) = run(&listing, cursors(), 10);
        assert_eq!(ids(&found), ["a", "b", "c", "d", "e", "z"]);
        assert_eq!(asked, [4, 4, 1]);
    }

    #[test]
    fn rows_that_do_not_match_are_passed_over() {
        let which = selection(Filter {
            id_prefix: Some("x".to_owned()),
            statuses: vec![RuntimeStatus::Completed, RuntimeStatus::Running],
            ..Filter::default()
        });
        let listing = Listing::new(1, &which);
        assert_eq!(listing.indexes(), [Index::All], "most instances have completed");
        let rows = || {
            vec![
                row(1, "x1", RuntimeStatus::Failed),
                row(2, "y", RuntimeStatus::Running),
                row(3, "x3", RuntimeStatus::Completed),
            ]
        };
        assert_eq!(ids(&run(&listing, vec![rows()], 10).0), ["x3"]);
    }

    #[test]
    fn a_prefix_that_many_ids_have_is_given_up() {
        let which = selection(Filter {
            id_prefix: Some("x".to_owned()),
            created_from: Some(Timestamp::from_ticks(2)),
            ..Filter::default()
        });
        let listing = Listing::new(1, &which);
        // In the order of ids, which is not that of the listing.
        let few = vec![
            row(1, "x0", RuntimeStatus::Running),
            row(5, "x1", RuntimeStatus::Running),
            row(4, "x2", RuntimeStatus::Running),
            row(2, "y", RuntimeStatus::Running),
        ];
        let mut by_prefix = listing.by_prefix(1).unwrap();
        let is_done: Vec<bool> = few.into_iter().map(|row| by_prefix.give(Some(row))).collect();
        assert_eq!(is_done, [false, false, false, true]);
        assert_eq!(ids(&by_prefix.found()), ["x2", "x1"]);

        let mut by_prefix = listing.by_prefix(1).unwrap();
        let mut given = 0;
        while by_prefix.wants() {
            assert!(!by_prefix.give(Some(row(2, "x", RuntimeStatus::Running))));
            given += 1;
        }
        assert_eq!(given, 19, "the page twice, and some");
    }
}
