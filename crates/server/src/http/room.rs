//! Reads what an answer shows, in the room that there is for answers.

use std::sync::Arc;

use taskhub_core::event::HistoryEvent;
use taskhub_core::id::InstanceId;
use taskhub_core::payload::Payload;
use taskhub_core::query::Page;
use taskhub_core::status::InstanceInfo;
use taskhub_engine::Hub;
use taskhub_engine::hub::{HistoryPart, HistoryRange};

use super::problem::Problem;
use super::streamed::Events;
use crate::answers::Room;
use crate::app::App;

/// Most bytes of a history that are read at once.
pub(super) const HISTORY_BYTES_MAX: usize = 16 << 20;
/// Estimated memory per stored byte of an event: the chunk, the decoded events, and their text, which the management
/// API contains twice.
const COPIES_OF_EVENTS: usize = 4;

/// The payloads of a record.
pub(super) fn payloads(info: &InstanceInfo) -> impl Iterator<Item = &Payload> {
    [&info.input, &info.output, &info.custom_status].into_iter().flatten()
}

/// Bytes that an answer shows.
pub(super) trait Weighed {
    fn bytes(&self) -> usize;
}

impl Weighed for InstanceInfo {
    fn bytes(&self) -> usize {
        payloads(self).map(Payload::len).sum()
    }
}

impl Weighed for Page {
    fn bytes(&self) -> usize {
        self.rows.iter().map(InstanceInfo::bytes).sum()
    }
}

impl Weighed for HistoryPart {
    fn bytes(&self) -> usize {
        self.bytes.saturating_mul(COPIES_OF_EVENTS)
    }
}

impl<T: Weighed> Weighed for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, T::bytes)
    }
}

/// Reads data together with a reservation for the response. If it must wait for the reservation, it drops the data
/// first and reads again afterwards, so that waiting requests hold no memory.
pub(super) async fn with_room<T: Weighed, E: From<Problem>, F: Future<Output = Result<T, E>>>(
    app: &App,
    read: impl Fn() -> F,
) -> Result<(T, Room), E> {
    let first = read().await?;
    let bytes = first.bytes();
    if let Some(room) = app.answers.take_now(bytes) {
        return Ok((first, room));
    }
    drop(first);
    let room = app.answers.take(bytes).await.ok_or_else(busy)?;
    let again = read().await?;
    if again.bytes() > bytes {
        return Err(busy().into());
    }
    Ok((again, room))
}

/// A history that an answer shows.
pub(super) enum History {
    /// All of its events.
    Whole(Vec<HistoryEvent>),
    /// One that is read while it is sent.
    Long(Events),
}

/// Reads the history of an instance, within the reservation for one part.
pub(super) async fn history(
    app: &App,
    hub: &Arc<Hub>,
    instance: &InstanceId,
    room: &mut Room,
) -> Result<Option<History>, Problem> {
    let range = HistoryRange {
        bytes_max: HISTORY_BYTES_MAX,
        ..HistoryRange::ALL
    };
    let Some(part) = hub.history_part(instance, range).await? else {
        return Ok(None);
    };
    if !app.answers.grow(room, part.bytes()) {
        return Err(busy());
    }
    if part.events.len() >= part.total as usize {
        return Ok(Some(History::Whole(part.events)));
    }
    let events = Events::new(Arc::clone(hub), instance.clone(), 0, part);
    Ok(Some(History::Long(events)))
}

/// Adds room to what an answer has.
pub(super) fn grow(app: &App, room: &mut Room, bytes: usize) -> Result<(), Problem> {
    app.answers.grow(room, bytes).then_some(()).ok_or_else(busy)
}

fn busy() -> Problem {
    Problem::busy("too many large answers are being sent")
}
