//! What several of these tests begin with.

use taskhub_core::action::ActionKind;
use taskhub_core::event::Tags;
use taskhub_core::payload::Payload;
use taskhub_store::conformance::name;
use taskhub_store::embedded::{EmbeddedOptions, Synchronous};

/// No power is cut here, so nothing waits for the disk.
pub(crate) const OFF: EmbeddedOptions = EmbeddedOptions {
    synchronous: Synchronous::Off,
    bytes_max: None,
    free_bytes_max: None,
};

/// An activity.
pub(crate) fn call() -> ActionKind {
    call_with(None)
}

/// An activity with an input.
pub(crate) fn call_with(input: Option<Payload>) -> ActionKind {
    ActionKind::ScheduleTask {
        name: name("SayHello"),
        version: None,
        input,
        tags: Tags::new(),
    }
}
