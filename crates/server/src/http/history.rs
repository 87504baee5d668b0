//! How much of a history a caller of the management API is shown (H57).

use taskhub_api::history::full;
use taskhub_api::instance::History;
use taskhub_api::merged::{Shows, records};
use taskhub_core::event::HistoryEvent;

use super::payload::apart;
use super::query::Query;

/// How much of a history is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryView {
    /// As clients know it: calls and their results are one record, and numbers are left out.
    Merged(Shows),
    /// Every event with its number and all members, for tools.
    Full,
}

impl HistoryView {
    /// The view that a query asks for, if it asks for one.
    pub(crate) fn of_query(query: &Query) -> Option<Self> {
        let is_full = |text: &str| text.eq_ignore_ascii_case("full");
        if query.bare("showHistory").is_some_and(is_full) {
            return Some(Self::Full);
        }
        query.flag("showHistory")?.then(|| {
            Self::Merged(Shows {
                results: query.flag("showHistoryOutput").unwrap_or_default(),
                inputs: query.flag("showInput").unwrap_or(true),
            })
        })
    }

    /// A history in this view.
    pub(crate) fn of(self, events: &[HistoryEvent]) -> History<'_> {
        match self {
            Self::Full => History::Full(full(events)),
            Self::Merged(shows) => {
                let bytes = events.iter().map(HistoryEvent::size).sum();
                apart(bytes, || History::Merged(records(events, shows)))
            }
        }
    }
}
