//! Format, size and contents of a store, for operators.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use taskhub_core::status::RuntimeStatus;

use super::layout::{self, FORMAT, LOG, Pages};
use super::repair::{connect, take};
use super::trouble::{During, Trouble};
use super::{hubs, listing, verify};
use crate::{Error, HubInfo, Space};

/// The figures of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Format of the file.
    pub format: u32,
    /// Its size.
    pub space: Space,
    /// Size of the log in bytes.
    pub log_bytes: u64,
    /// Its hubs, by name.
    pub hubs: Vec<HubFigures>,
}

/// The figures of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFigures {
    pub hub: HubInfo,
    /// How many instances are in each status that some are in.
    pub counts: Vec<(RuntimeStatus, u64)>,
}

/// Reads the figures of a store from a few rows, so the time does not depend on its size. Works while another process
/// has the store open.
///
/// # Errors
///
/// As [`verify`](super::repair::verify).
pub fn figures(path: &Path) -> Result<Figures, Error> {
    // Held for as long as is read.
    let (_folder, connection) = match take(path) {
        Err(Error::Locked { .. }) => (None, layout::connect_reader(path, Pages::Strict)?),
        taken => {
            let (folder, log) = taken?;
            (Some(folder), connect(path, &log)?)
        }
    };
    let log_bytes = fs::metadata(path.join(LOG)).map_or(0, |log| log.len());
    read(&connection, log_bytes).map_err(|trouble| trouble.during(During::Read, &layout::file(path)))
}

fn read(connection: &Connection, log_bytes: u64) -> Result<Figures, Trouble> {
    let snapshot = connection.unchecked_transaction()?;
    let of_hub = |hub: HubInfo| -> Result<HubFigures, Trouble> {
        let counts = listing::counts(&snapshot, &hub.name)?;
        Ok(HubFigures { hub, counts })
    };
    let hubs = hubs::load(&snapshot)?.infos();
    Ok(Figures {
        format: FORMAT,
        space: verify::space(&snapshot)?,
        log_bytes,
        hubs: hubs.into_iter().map(of_hub).collect::<Result<_, _>>()?,
    })
}
