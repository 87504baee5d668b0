//! Errors of ours that others hold without showing them: a box made from one of `anyhow`, an `io::Error`, an enum with
//! `#[error(transparent)]`. Asked for its source, such an error asks the one that it holds, and that is when ours says
//! who it is. What is kept for that belongs to the thread and does not outlive the question.

use std::cell::RefCell;
use std::error::Error as StdError;

use crate::error::Error;

enum Asked {
    Nobody,
    Whoever,
    Answered(Error),
}

thread_local! {
    static ASKED: RefCell<Asked> = const { RefCell::new(Asked::Nobody) };
}

/// The source of an error, and the error of ours that was asked for it in its place.
pub(crate) fn source_of<'e>(
    error: &'e (dyn StdError + 'static),
) -> (Option<&'e (dyn StdError + 'static)>, Option<Error>) {
    ASKED.replace(Asked::Whoever);
    let source = error.source();
    match ASKED.replace(Asked::Nobody) {
        Asked::Answered(held) => (source, Some(held)),
        Asked::Nobody | Asked::Whoever => (source, None),
    }
}

/// An error of ours is asked for its source.
pub(crate) fn answer(who: impl FnOnce() -> Error) {
    ASKED.with_borrow_mut(|asked| {
        if matches!(asked, Asked::Whoever) {
            *asked = Asked::Answered(who());
        }
    });
}
