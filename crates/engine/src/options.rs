//! How a hub and its node are run.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::fold::FoldedName;
use taskhub_store::PARTITIONS_DEFAULT;

use crate::clock::{Clock, SystemClock};
use crate::group::{AHEAD_BYTES_MAX, GROUP_BYTES_MAX};

/// How a hub is run.
#[derive(Clone)]
pub struct Options {
    /// Partitions of a hub that is created now; an existing one keeps its number (A15).
    pub partitions: u16,
    /// Threads that serve the partitions of all hubs (of the node).
    pub threads: usize,
    /// Activities that may run at once.
    pub activities_max: usize,
    /// Limits of single activities.
    pub activities_by_name: HashMap<FoldedName, usize>,
    /// Names of the activities this node has; calls of others wait. Absent: all.
    pub activities_offered: Option<BTreeSet<FoldedName>>,
    /// Names of the orchestrators this node has; instances of others wait in the store, and the reason is in their
    /// status (R164, A51). Absent: all.
    pub orchestrators_offered: Option<BTreeSet<FoldedName>>,
    /// Budget of instances in memory, in bytes; what is idle beyond it is read again when needed.
    pub memory_bytes_max: usize,
    /// Bytes of commits that run ahead of the disk, roughly (of the node); above it no turn begins, and starts and events wait.
    pub ahead_bytes_max: usize,
    /// Bytes written together, roughly (of the node). A single commit may be larger.
    pub group_bytes_max: usize,
    /// A turn that takes longer costs its thread (A33; of the node).
    pub turn_limit: Duration,
    /// Duration of the node's lease if other nodes use the same store (a setting of the node). The node renews it five
    /// times as often, and takes a hub only if no living node has it. Until then it stands by: it answers reads and
    /// changes nothing. Absent: no other node uses the store, so earlier owners of a hub are dead.
    pub lease: Option<Duration>,
    /// Where the time comes from (of the node). It may be set back and forth: the hub goes by the steady time that is made of it.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: PARTITIONS_DEFAULT,
            threads: 1,
            activities_max: 1_000,
            activities_by_name: HashMap::new(),
            activities_offered: None,
            orchestrators_offered: None,
            memory_bytes_max: 512 << 20,
            ahead_bytes_max: AHEAD_BYTES_MAX,
            group_bytes_max: GROUP_BYTES_MAX,
            turn_limit: Duration::from_secs(10),
            lease: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Options")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
