//! Where a command does its work: in a store that no server holds, or at a server. Commands are written once,
//! against [`Target`] (L27).

pub(crate) mod http;
mod server;
pub(crate) mod stopped;

use std::path::Path;
use std::time::Duration;

use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{HubName, IdempotencyKey, InstanceId, Name};
use taskhub_core::message::StartRequest;
use taskhub_core::payload::Payload;
use taskhub_core::query::Filter;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_server::token;
use taskhub_store::Error as StoreError;
use taskhub_store::embedded::EmbeddedStore;
use tokio::time::timeout;

use crate::find::Found;
use crate::find::connection::Place;
use crate::find::running;
use crate::stop::{Result, Stop, exit};
use http::Credentials;
use server::Served;
use stopped::Stopped;

/// How long a command that holds the store is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// Pause between looks at such a store.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Polling interval for an instance in a store without a server.
const PAUSE: Duration = Duration::from_millis(500);
/// Most instances on one page.
pub(crate) const PAGE_ROWS: usize = 1_000;

/// What a command means to do with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Look, or change what is there; makes no store.
    Use,
    /// Make the store if it is missing.
    Create,
}

/// A hub a command works on.
#[derive(Debug)]
pub(crate) enum Target {
    /// In a store that is ours for the moment.
    Stopped(Box<Stopped>),
    /// At a server.
    Served(Box<Served>),
}

/// An instance, with what a store knows besides its status record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The status record.
    pub(crate) info: InstanceInfo,
    /// Events in the history of its current execution; 0 if unknown.
    pub(crate) history_events: u64,
    /// Bytes of that history; 0 if unknown.
    pub(crate) history_bytes: u64,
}

/// One page of instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<InstanceInfo>,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
}

/// What became of a request about one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was accepted.
    Done,
    /// There is no such instance.
    Missing,
    /// The instance has ended.
    Ended(RuntimeStatus),
}

/// What a purge removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Purged {
    pub(crate) instances: u64,
    /// Rows, as Core Tools counts (cli.md §6.8).
    pub(crate) rows: u64,
}

/// A hub and how much is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubSize {
    pub(crate) name: HubName,
    pub(crate) instances: u64,
    /// Those of them that have not ended.
    pub(crate) active: u64,
}

/// Opens the hub that was found. If a server has the store open, the command calls it; otherwise it opens the store and
/// keeps its lock until the command ends (L27).
pub(crate) async fn open(found: &Found, intent: Intent) -> Result<Target> {
    match &found.place {
        Place::Server { url, token, .. } => {
            let key = found.key_for(url, found.is_found_by_default)?.or_else(|| token.clone());
            let served = Served::new(url, &credentials(found, key), found.hub.clone())?;
            Ok(Target::Served(Box::new(served)))
        }
        Place::Embedded { folder } => open_folder(found, folder, intent).await,
    }
}

fn credentials(found: &Found, key: Option<String>) -> Credentials {
    let ca_file = found.ca_file.clone();
    Credentials { key, ca_file }
}

async fn open_folder(found: &Found, folder: &Path, intent: Intent) -> Result<Target> {
    // A read on nothing leaves nothing behind (L15). A store that cannot be seen is not nothing: opening it tells why.
    if intent == Intent::Use && !folder.join("store.db").try_exists().unwrap_or(true) {
        return Ok(Target::Stopped(Box::new(Stopped::empty(found.hub.clone()))));
    }
    let mut patience = Patience::default();
    loop {
        let pid = match EmbeddedStore::open(folder, taskhub_store::embedded::EmbeddedOptions::default()) {
            Ok(store) => {
                let stopped = Stopped::open(store, found.hub.clone()).await?;
                return Ok(Target::Stopped(Box::new(stopped)));
            }
            Err(StoreError::Locked { pid, .. }) => pid,
            Err(error) => return Err(Stop::from_store("cannot open the store", &error)),
        };
        if let Some(running) = running::of_store(folder).filter(|running| pid == 0 || running.pid == pid) {
            let key = found.key_for(&running.url(), true)?.or_else(|| running.token.clone());
            let served = Served::of_store(&running, &credentials(found, key), found.hub.clone())?;
            match timeout(LOCK_PATIENCE, served.reach()).await {
                Ok(Ok(())) => return Ok(Target::Served(Box::new(served))),
                // It is on its way out, or was killed, and its store is soon free.
                Ok(Err(_)) => {}
                Err(_) => patience = Patience::ended(pid),
            }
        }
        if !patience.wait(pid).await {
            let folder = folder.display();
            let message = format!("the store in {folder} is held by process {pid}, which does not answer");
            return Err(Stop::error(exit::UNAVAILABLE, "store-locked", message));
        }
    }
}

/// Partitions of a hub that is created now: as host.json says (cli.md §8).
pub(crate) fn partitions(found: &Found) -> Result<u16> {
    const NAMES: [&str; 2] = ["storageProvider.partitionCount", "partitionCount"];
    for name in NAMES {
        if let Some(text) = found.host.text(name)? {
            let number = text.parse::<u16>().ok().filter(|number| (1..=16).contains(number));
            let wrong = || Stop::configuration(format!("host.json: {name} is {text}, and must be between 1 and 16"));
            return number.ok_or_else(wrong);
        }
    }
    Ok(taskhub_store::PARTITIONS_DEFAULT)
}

/// The error for an invalid continuation token.
fn refused_token(refused: token::Refused) -> Stop {
    Stop::usage(match refused {
        token::Refused::Unreadable => "invalid continuation token: damaged, or not issued by Taskhub",
        token::Refused::OtherFilter => "the token belongs to a different query",
    })
}

/// Waits for a process that has the store open.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    pid: u32,
    waited: Duration,
}

impl Patience {
    /// No more of it for this one.
    fn ended(pid: u32) -> Self {
        let waited = LOCK_PATIENCE;
        Self { pid, waited }
    }

    /// Whether this has not waited yet.
    pub(crate) fn is_new(&self) -> bool {
        self.waited.is_zero()
    }

    /// Lets a moment go by for a command that is at work, and soon done; false once it had enough of them.
    pub(crate) async fn wait(&mut self, pid: u32) -> bool {
        let goes_on = self.goes_on(pid);
        if goes_on {
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        goes_on
    }

    /// Each holder has its own time: of many commands at once the last ones wait for all the others.
    fn goes_on(&mut self, pid: u32) -> bool {
        if pid != 0 && pid != self.pid {
            self.pid = pid;
            self.waited = Duration::ZERO;
        }
        let goes_on = self.waited < LOCK_PATIENCE;
        self.waited += LOCK_PAUSE;
        goes_on
    }
}

impl Target {
    /// Whether a server does the work.
    pub(crate) fn has_server(&self) -> bool {
        matches!(self, Self::Served(_))
    }

    pub(crate) async fn record(&mut self, id: &InstanceId) -> Result<Option<Record>> {
        match self {
            Self::Stopped(stopped) => stopped.record(id).await,
            Self::Served(served) => served.record(id).await,
        }
    }

    /// The history of an instance's current execution, absent if there is no such instance.
    pub(crate) async fn history(&mut self, id: &InstanceId) -> Result<Option<Vec<HistoryEvent>>> {
        match self {
            Self::Stopped(stopped) => stopped.history(id).await,
            Self::Served(served) => served.history(id).await,
        }
    }

    /// A page of instances.
    pub(crate) async fn list(&mut self, filter: &Filter, after: Option<&str>, rows_max: usize) -> Result<Rows> {
        match self {
            Self::Stopped(stopped) => stopped.list(filter, after, rows_max).await,
            Self::Served(served) => served.list(filter, after, rows_max).await,
        }
    }

    /// Starts an instance. What becomes of an existing one a server decides by its settings, unless the policy
    /// is stated.
    pub(crate) async fn start(&mut self, request: StartRequest, is_stated: bool) -> Result<()> {
        match self {
            Self::Stopped(stopped) => stopped.start(request).await,
            Self::Served(served) => served.start(request, is_stated).await,
        }
    }

    /// Raises an event.
    pub(crate) async fn raise(
        &mut self,
        id: &InstanceId,
        name: Name,
        data: Option<Payload>,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome> {
        match self {
            Self::Stopped(stopped) => stopped.raise(id, name, data, key).await,
            Self::Served(served) => served.raise(id, &name, data.as_ref(), key.as_ref()).await,
        }
    }

    /// Ends an instance.
    pub(crate) async fn terminate(&mut self, id: &InstanceId, reason: Option<&str>) -> Result<Outcome> {
        match self {
            Self::Stopped(stopped) => stopped.terminate(id, reason).await,
            Self::Served(served) => served.terminate(id, reason).await,
        }
    }

    /// Removes some of the ended instances that a filter names; `None` when none is left. The cursor says
    /// where to go on.
    pub(crate) async fn purge_some(&mut self, filter: &Filter, after: &mut Option<String>) -> Result<Option<Purged>> {
        match self {
            Self::Stopped(stopped) => stopped.purge_some(filter, after).await,
            Self::Served(served) => served.purge_some(filter, after).await,
        }
    }

    /// Makes the hub if it does not exist. At a server that is the server's affair.
    pub(crate) async fn create_hub(&mut self, partitions: u16) -> Result<()> {
        match self {
            Self::Stopped(stopped) => stopped.create_hub(partitions).await,
            Self::Served(_) => Ok(()),
        }
    }

    /// The hubs of the store.
    pub(crate) async fn hubs(&mut self) -> Result<Vec<HubName>> {
        match self {
            Self::Stopped(stopped) => stopped.hubs().await,
            Self::Served(served) => served.hubs().await,
        }
    }

    /// How much is in a hub; absent if there is no such hub.
    pub(crate) async fn size(&mut self, hub: &HubName) -> Result<Option<HubSize>> {
        match self {
            Self::Stopped(stopped) => stopped.size(hub).await,
            Self::Served(served) => served.size(hub).await,
        }
    }

    /// Deletes the hub; says whether there was one.
    pub(crate) async fn delete_hub(&mut self) -> Result<bool> {
        match self {
            Self::Stopped(stopped) => stopped.delete_hub().await,
            Self::Served(served) => served.delete_hub().await,
        }
    }

    /// Waits for a while, or until the instance ends. A store is closed meanwhile, because the process that runs the
    /// instance needs it.
    pub(crate) async fn pause(self, id: &InstanceId) -> Result<()> {
        match self {
            Self::Stopped(stopped) => {
                stopped.close().await;
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            Self::Served(mut served) => served.wait_for_end(id).await,
        }
    }

    /// Gives back what was taken.
    pub(crate) async fn close(self) {
        if let Self::Stopped(stopped) = self {
            stopped.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_is_waited_for_some_time_and_each_of_many_as_long() {
        let looks = LOCK_PATIENCE.as_millis() / LOCK_PAUSE.as_millis();
        let mut patience = Patience::default();
        for pid in [1, 2, 1, 3] {
            assert!((1..looks).all(|_| patience.goes_on(pid)));
        }
        // A process that has not written its server file does not restart the wait.
        assert!(patience.goes_on(0));
        assert!(!patience.goes_on(0));
        assert!(!patience.goes_on(3));
    }
}
