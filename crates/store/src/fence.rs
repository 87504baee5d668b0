//! The checks every backend makes before any of a group counts.

use taskhub_core::id::{Epoch, Seq};

use crate::{Error, Extent, PartitionKey, Section};

/// Refuses a fence that is not the current one (R190).
pub(crate) fn check_epoch(partition: &PartitionKey, given: Epoch, current: Epoch) -> Result<(), Error> {
    if given == current {
        return Ok(());
    }
    Err(Error::Fenced {
        partition: partition.clone(),
        by: Some(current),
    })
}

/// Refuses a gap: a commit was lost on its way here, and going on would hide it.
pub(crate) fn check_seq(section: &Section, next: Seq) -> Result<(), Error> {
    if section.first_seq == next {
        return Ok(());
    }
    Err(Error::Corrupt {
        place: format!("partition {}", section.partition),
        what: format!("got commit {} but expected commit {next}", section.first_seq),
        extent: Extent::Rows,
    })
}

/// The answer to a partition number beyond what the hub was created with.
pub(crate) fn no_such_partition(key: &PartitionKey) -> Error {
    Error::Corrupt {
        place: format!("partition {key}"),
        what: "the hub has no partition of this number".to_owned(),
        extent: Extent::Rows,
    }
}
