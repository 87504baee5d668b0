//! Streams a list page by page, reading each page only when it is about to be sent, so that the server holds one page.
//! The management API sends a fixed number of rows and must know their range beforehand, because the continuation token
//! is in the head; Taskhub's own API can send all rows.

use std::sync::Arc;

use taskhub_core::limits;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::status::InstanceInfo;
use taskhub_engine::{Error as EngineError, Hub};

use super::streamed::{Broken, Text};
use crate::answers::Room;

/// The query for the hub.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) hub: Arc<Hub>,
    pub(super) filter: Filter,
    pub(super) payloads: Payloads,
}

impl Wanted {
    /// Rows behind a place.
    pub(super) async fn page(&self, after: Option<Cursor>, rows_max: usize) -> Result<Page, EngineError> {
        let filter = self.filter.clone();
        self.hub.query_with(filter, after, rows_max, self.payloads).await
    }

    /// The same rows without inputs and outputs, so that many of them are read at once.
    pub(super) async fn outline(&self, after: Cursor, rows_max: usize) -> Result<Page, EngineError> {
        let filter = self.filter.clone();
        self.hub.query_with(filter, Some(after), rows_max, Payloads::NONE).await
    }
}

/// Adds the text of a row; the flag is whether it is the first.
type WriteRow = Box<dyn Fn(&InstanceInfo, &mut Vec<u8>, &mut bool) + Send + Sync>;

/// How a list is written.
pub(super) struct Form {
    /// What stands before its first row.
    pub(super) open: &'static str,
    /// How each of its rows is.
    pub(super) row: WriteRow,
    /// The text after the last row.
    pub(super) close: &'static str,
}

/// A list on its way.
pub(super) struct Listing {
    wanted: Wanted,
    /// Rows that were read and not sent.
    rows: std::vec::IntoIter<InstanceInfo>,
    /// Where the next ones begin; absent behind the last one.
    after: Option<Cursor>,
    /// The last row that belongs to the list; absent if all do that there are.
    last: Option<Cursor>,
    form: Form,
    is_begun: bool,
    is_first: bool,
    /// What a page takes.
    _room: Room,
}

impl Listing {
    /// A list from its first page on, up to a row if one is given.
    pub(super) fn new(wanted: Wanted, first: Page, last: Option<Cursor>, form: Form, room: Room) -> Self {
        Self {
            wanted,
            rows: first.rows.into_iter(),
            after: first.next,
            last,
            form,
            is_begun: false,
            is_first: true,
            _room: room,
        }
    }

    /// The next row of the list. What has come into it since its range was read is shown, what has gone is not.
    async fn row(&mut self) -> Result<Option<InstanceInfo>, EngineError> {
        loop {
            if let Some(info) = self.rows.next() {
                if self.last.as_ref().is_none_or(|last| Cursor::of(&info) <= *last) {
                    return Ok(Some(info));
                }
                self.after = None;
            }
            let is_within = |after: &Cursor| self.last.as_ref().is_none_or(|last| after < last);
            let Some(after) = self.after.take().filter(is_within) else {
                self.rows = Vec::new().into_iter();
                return Ok(None);
            };
            let page = self.wanted.page(Some(after), limits::PAGE_ROWS_MAX).await?;
            self.rows = page.rows.into_iter();
            self.after = page.next;
        }
    }
}

impl Text for Listing {
    async fn write(&mut self, text: &mut Vec<u8>) -> Result<bool, Broken> {
        if !std::mem::replace(&mut self.is_begun, true) {
            text.extend_from_slice(self.form.open.as_bytes());
        }
        let Some(info) = self.row().await? else {
            text.extend_from_slice(self.form.close.as_bytes());
            return Ok(false);
        };
        (self.form.row)(&info, text, &mut self.is_first);
        Ok(true)
    }
}
