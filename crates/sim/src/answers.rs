//! Whether an answer is true of what is durable at the moment it is given (A24, I1).

use taskhub_core::message::{ReusePolicy, StartRequest};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_engine::io::{Reply, Request, WaitFor};

use crate::Violation;
use crate::journal::Journal;
use crate::plan::text;
use crate::world::Op;

/// Checks an answer against the status records the instance durably had since it was asked for.
pub(crate) fn check(journal: &Journal, op: &Op, reply: &Reply) -> Result<(), Violation> {
    let seen = journal.since(&op.instance, op.issued);
    let had = |wanted: &dyn Fn(&InstanceInfo) -> bool| seen.iter().flatten().any(|info| wanted(info));
    let was_absent = seen.iter().any(Option::is_none);
    let holds = match (&op.request, reply) {
        (Request::Info, Reply::Info(Some(info))) => had(&|had| had == &**info),
        (Request::Wait(wait), Reply::Info(Some(info))) => may_be_met(*wait, info) && had(&|had| had == &**info),
        (Request::Start(_), Reply::Done) => journal.started.contains_key(&op.tag),
        (Request::Start(start), Reply::Refused(Refusal::InstanceExists { status, .. })) => {
            had(&|info| info.status == *status) && !allows(start, *status)
        }
        (Request::Raise { .. }, Reply::Done) => arrived(journal, op),
        (Request::Terminate { reason, .. }, Reply::Done) => {
            had(&|info| info.status == RuntimeStatus::Terminated && info.output == *reason)
        }
        (Request::Suspend { .. }, Reply::Done) => had(&|info| info.status == RuntimeStatus::Suspended),
        (Request::Resume { .. }, Reply::Done) => {
            had(&|info| !info.status.is_terminal() && info.status != RuntimeStatus::Suspended)
        }
        (Request::Purge, Reply::Refused(Refusal::InstanceLive { status, .. })) => {
            !status.is_terminal() && had(&|info| info.status == *status)
        }
        (
            Request::Raise { .. } | Request::Terminate { .. } | Request::Suspend { .. } | Request::Resume { .. },
            Reply::Refused(Refusal::InstanceNotLive { status, .. }),
        ) => status.is_terminal() && had(&|info| info.status == *status),
        (Request::Start(_) | Request::Info, Reply::Refused(_)) => false,
        (Request::Info | Request::Wait(_), Reply::Info(None))
        | (Request::Purge, Reply::Purged { .. })
        | (_, Reply::Refused(Refusal::InstanceNotFound { .. })) => was_absent,
        _ => false,
    };
    if holds {
        return Ok(());
    }
    let what = format!("the answer {reply:?} to {op:?} does not hold; durable since then: {seen:?}");
    Err(Violation::new("I1", what))
}

/// Whether an instance with this record may have got so far; one that is suspended may or may not have begun.
fn may_be_met(wait: WaitFor, info: &InstanceInfo) -> bool {
    info.status.is_terminal() || wait == WaitFor::Started && info.status != RuntimeStatus::Pending
}

/// Whether the policy lets an instance in this status be replaced (R136).
fn allows(start: &StartRequest, status: RuntimeStatus) -> bool {
    match &start.reuse {
        ReusePolicy::ReplaceAny => true,
        ReusePolicy::Replace(statuses) => statuses.contains(&status),
        ReusePolicy::ReplaceEnded => status.is_terminal(),
    }
}

/// Whether the event reached an instance with the id.
fn arrived(journal: &Journal, op: &Op) -> bool {
    let Request::Raise { name, input, .. } = &op.request else {
        return false;
    };
    let wanted = (name.as_str().to_owned(), text(input.as_ref()));
    let books = journal
        .books
        .values()
        .filter(|book| book.state.info.instance == op.instance);
    books.into_iter().any(|book| book.arrivals.contains(&wanted))
}
