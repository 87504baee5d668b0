//! `durable rewind` (cli.md §6.7), which is not there yet.

use clap::Args;

use super::common::{Common, DONE, FAILED, NOT_FOUND, Subject, UNAVAILABLE, USAGE, example_and_exits};
use crate::stop::Stop;

const EXAMPLE: &str = "\
Example:
  func durable rewind --id 0ab8c55a66644d68a3a8b220b12d209c \\
      --reason \"Orchestrator failed and needs to be revived.\"";

/// Rewind a failed instance to before its failure. Not available yet.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, &[DONE, FAILED, USAGE, UNAVAILABLE, NOT_FOUND])
)]
pub(crate) struct Rewind {
    #[command(flatten)]
    subject: Subject,
    /// Why it is rewound.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// The article's line must be understood (L88), and told why it does nothing.
pub(super) fn refuse() -> Stop {
    Stop::not_yet("rewind").hint("terminate the instance if it still runs, and start it anew")
}
