//! Filters and pages of listings (R13).

use crate::id::InstanceId;
use crate::status::{InstanceInfo, RuntimeStatus};
use crate::time::Timestamp;

/// Which instances; members that are absent or empty do not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Created at this moment or later.
    pub created_from: Option<Timestamp>,
    /// Created before this moment.
    pub created_before: Option<Timestamp>,
    /// In one of these statuses.
    pub statuses: Vec<RuntimeStatus>,
    /// Of this orchestrator; the case of its name does not matter (R77).
    pub name: Option<String>,
    /// With an id that starts so.
    pub id_prefix: Option<String>,
}

impl Filter {
    /// Whether the instance is among them.
    pub fn matches(&self, info: &InstanceInfo) -> bool {
        self.created_from.is_none_or(|from| info.created_at >= from)
            && self.created_before.is_none_or(|before| info.created_at < before)
            && (self.statuses.is_empty() || self.statuses.contains(&info.status))
            && self.name.as_ref().is_none_or(|name| info.name.eq_ignore_case(name))
            && self
                .id_prefix
                .as_ref()
                .is_none_or(|prefix| info.instance.as_str().starts_with(prefix))
    }
}

/// Which payloads the rows of a page come with. One that is left out is not read, and does not count for the size of the
/// page; custom statuses are small and always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payloads {
    /// Inputs.
    pub input: bool,
    /// Outputs.
    pub output: bool,
}

impl Payloads {
    /// Both.
    pub const ALL: Self = Self {
        input: true,
        output: true,
    };
    /// Neither.
    pub const NONE: Self = Self {
        input: false,
        output: false,
    };

    /// Takes out of a status record what is not wanted.
    pub fn restrict(self, info: &mut InstanceInfo) {
        if !self.input {
            info.input = None;
        }
        if !self.output {
            info.output = None;
        }
    }
}

/// The last row of a page; the next page begins after it. The order is created time, then id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Created time of the row.
    pub created_at: Timestamp,
    /// Its id.
    pub instance: InstanceId,
}

impl Cursor {
    /// The place of a row.
    pub fn of(info: &InstanceInfo) -> Self {
        Self {
            created_at: info.created_at,
            instance: info.instance.clone(),
        }
    }
}

/// One page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its rows, in order; fewer than were asked for where their payloads are large
    /// ([`crate::limits::PAGE_BYTES_MAX`]).
    pub rows: Vec<InstanceInfo>,
    /// Where the next page begins; absent on the last one.
    pub next: Option<Cursor>,
}
