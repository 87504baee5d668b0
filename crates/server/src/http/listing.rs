//! A list whose rows are too large to be held at once: sent while it is read. Its range is known beforehand, since the
//! token of the next one stands in the head; the rows are read page by page, each when its turn to be sent has come.

use std::sync::Arc;

use bytes::Bytes;
use taskhub_api::instance::InstanceStatus;
use taskhub_core::limits;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::status::InstanceInfo;
use taskhub_engine::{Error as EngineError, Hub, chain};

use super::payload::look_through;
use super::respond::{Cut, Parts};
use crate::answers::Room;

/// Bytes after which a part of the answer is sent. A row is never divided, so the largest row decides how much is held:
/// that, and what is left of a page of [`limits::PAGE_BYTES_MAX`].
const PART_BYTES: usize = 64 << 10;

/// What is asked of the hub.
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

    /// Adds the text of a row.
    fn write(&self, info: &InstanceInfo, text: &mut Vec<u8>) {
        let status = look_through(info, || InstanceStatus::new(info, self.payloads.input));
        // Made of texts, numbers and JSON that was checked, which can always be written.
        let _written = serde_json::to_writer(text, &status);
    }
}

/// A list on its way.
pub(super) struct Listing {
    wanted: Wanted,
    /// Rows that were read and not sent.
    rows: std::vec::IntoIter<InstanceInfo>,
    /// Where the next ones begin; absent behind the last one.
    after: Option<Cursor>,
    /// The last row that belongs to the list.
    last: Cursor,
    is_begun: bool,
    /// What its first page takes, which those behind it are not much larger than.
    _room: Room,
}

impl Listing {
    /// A list from its first page on, up to a row.
    pub(super) fn new(wanted: Wanted, first: Page, last: Cursor, room: Room) -> Self {
        Self {
            wanted,
            rows: first.rows.into_iter(),
            after: first.next,
            last,
            is_begun: false,
            _room: room,
        }
    }

    /// Its text, part by part.
    pub(super) fn parts(self) -> Parts {
        Parts::new(async move {
            match self.part().await {
                Ok((part, rest)) => Ok((part, rest.map(Self::parts))),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "a list is cut, since its rows cannot be read on");
                    Err(Cut)
                }
            }
        })
    }

    /// The next part, and what is left behind it.
    async fn part(mut self) -> Result<(Bytes, Option<Self>), EngineError> {
        let mut part = Vec::new();
        while part.len() < PART_BYTES {
            let Some(info) = self.row().await? else {
                part.extend_from_slice(if self.is_begun { b"]" } else { b"[]" });
                return Ok((part.into(), None));
            };
            part.push(if self.is_begun { b',' } else { b'[' });
            self.wanted.write(&info, &mut part);
            self.is_begun = true;
        }
        Ok((part.into(), Some(self)))
    }

    /// The next row of the list. What has come into it since its range was read is shown, what has gone is not.
    async fn row(&mut self) -> Result<Option<InstanceInfo>, EngineError> {
        loop {
            if let Some(info) = self.rows.next() {
                if Cursor::of(&info) <= self.last {
                    return Ok(Some(info));
                }
                self.after = None;
            }
            let Some(after) = self.after.take().filter(|after| *after < self.last) else {
                self.rows = Vec::new().into_iter();
                return Ok(None);
            };
            let page = self.wanted.page(Some(after), limits::PAGE_ROWS_MAX).await?;
            self.rows = page.rows.into_iter();
            self.after = page.next;
        }
    }
}
