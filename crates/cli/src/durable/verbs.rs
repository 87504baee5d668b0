//! The `durable` verbs. The options that all of them take are in `common`, and those of one verb in its file.

use clap::{Args, Subcommand};

use super::common::Common;
use super::delete_task_hub::DeleteTaskHub;
use super::get_history::GetHistory;
use super::get_instances::GetInstances;
use super::get_runtime_status::GetRuntimeStatus;
use super::purge_history::PurgeHistory;
use super::raise_event::RaiseEvent;
use super::rewind::Rewind;
use super::start_new::StartNew;
use super::terminate::Terminate;

/// Start, query and manage instances, with the commands of `func durable`.
#[derive(Debug, Args)]
#[command(after_help = "Add --help to a command for its options, an example and its exit codes.")]
pub(crate) struct Durable {
    /// Without one, the verbs are listed (L5).
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// The nine verbs of Core Tools, in the order of its documentation.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    StartNew(StartNew),
    GetRuntimeStatus(GetRuntimeStatus),
    GetHistory(GetHistory),
    GetInstances(GetInstances),
    Terminate(Terminate),
    RaiseEvent(RaiseEvent),
    Rewind(Rewind),
    PurgeHistory(PurgeHistory),
    DeleteTaskHub(DeleteTaskHub),
}

impl Verb {
    /// The options that every verb takes.
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::StartNew(verb) => &verb.common,
            Self::GetRuntimeStatus(verb) => &verb.common,
            Self::GetHistory(verb) => &verb.common,
            Self::GetInstances(verb) => &verb.common,
            Self::Terminate(verb) => &verb.common,
            Self::RaiseEvent(verb) => &verb.common,
            Self::Rewind(verb) => &verb.common,
            Self::PurgeHistory(verb) => &verb.common,
            Self::DeleteTaskHub(verb) => &verb.common,
        }
    }
}
