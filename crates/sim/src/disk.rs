//! The store under the simulation's hand: every call is counted, and the node can crash before it, after
//! it, and between staging and sealing a group.

use std::fmt;

use taskhub_store::blocking::{Reader, Writer};
use taskhub_store::embedded::{Access, EmbeddedOptions, SqliteReader, SqliteWriter, Synchronous, fail_access};
use taskhub_store::mem::MemData;
use taskhub_store::{Error, Group};
use tempfile::TempDir;

/// Where a simulation keeps its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// The reference store in memory.
    Mem,
    /// The embedded store in a temporary folder.
    Embedded,
}

/// Why a call gave no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The node is dead.
    Crash {
        /// Whether the call was done.
        is_after: bool,
    },
    /// The store refused or failed.
    Store(Error),
}

/// The call at which the node crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrashPoint {
    /// Its number, from 1.
    pub(crate) call: u64,
    /// Whether it is done first.
    pub(crate) is_after: bool,
}

/// What outlives a process.
enum Kept {
    Mem(MemData),
    Folder(TempDir),
}

/// Both halves of an open store.
struct Open {
    writer: Box<dyn Writer>,
    reader: Box<dyn Reader>,
}

/// The store of one simulation, over all lives of its node.
pub(crate) struct Disk {
    // Before what it is open over.
    open: Option<Open>,
    kept: Kept,
    /// Calls so far.
    pub(crate) calls: u64,
    pub(crate) crash_at: Option<CrashPoint>,
    /// What the node's calls are to find that the disk below the store refuses, after so many accesses of the kind.
    fails: Option<(Access, u64)>,
    /// Accesses that were refused and not counted yet.
    failed: Vec<Access>,
}

impl Disk {
    pub(crate) fn new(medium: Medium) -> Result<Self, Error> {
        let kept = match medium {
            Medium::Mem => Kept::Mem(MemData::new()),
            Medium::Embedded => Kept::Folder(folder()?),
        };
        let open = Some(kept.open()?);
        Ok(Self {
            open,
            kept,
            calls: 0,
            crash_at: None,
            fails: None,
            failed: Vec::new(),
        })
    }

    /// Opens the store again, as the next process does. What was staged and not sealed is gone.
    pub(crate) fn reopen(&mut self) -> Result<(), Error> {
        self.open = None;
        self.open = Some(self.kept.open()?);
        Ok(())
    }

    fn opened(&mut self) -> &mut Open {
        match &mut self.open {
            Some(open) => open,
            None => unreachable!("a store that does not open again ends the simulation"),
        }
    }

    fn counted<T>(&mut self, call: impl FnOnce(&mut Open) -> Result<T, Error>) -> Result<T, Trouble> {
        self.calls += 1;
        let point = self.crash_at.filter(|point| point.call == self.calls);
        if point.is_some_and(|point| !point.is_after) {
            return Err(Trouble::Crash { is_after: false });
        }
        let result = self.over_a_bad_disk(call);
        if point.is_some() {
            return Err(Trouble::Crash { is_after: true });
        }
        result.map_err(Trouble::Store)
    }

    /// Has the disk refuse an access of the node's, after so many others of the kind. A store in memory has none.
    pub(crate) fn fail(&mut self, access: Access, after: u64) {
        if matches!(self.kept, Kept::Folder(_)) {
            self.fails = Some((access, after));
        }
    }

    /// Has the disk be a good one from now on.
    pub(crate) fn heal(&mut self) {
        self.fails = None;
    }

    /// What the disk has refused since this was last asked.
    pub(crate) fn take_failed(&mut self) -> Vec<Access> {
        std::mem::take(&mut self.failed)
    }

    fn over_a_bad_disk<T>(&mut self, call: impl FnOnce(&mut Open) -> T) -> T {
        let Some((access, after)) = self.fails.take() else {
            return call(self.opened());
        };
        fail_access(Some((access, after)));
        let result = call(self.opened());
        self.fails = fail_access(None);
        if self.fails.is_none() {
            self.failed.push(access);
        }
        result
    }

    /// A call of the writing half.
    pub(crate) fn write<T>(&mut self, call: impl FnOnce(&mut dyn Writer) -> Result<T, Error>) -> Result<T, Trouble> {
        self.counted(|open| call(open.writer.as_mut()))
    }

    /// A call of the reading half.
    pub(crate) fn read<T>(&mut self, call: impl FnOnce(&mut dyn Reader) -> Result<T, Error>) -> Result<T, Trouble> {
        self.counted(|open| call(open.reader.as_mut()))
    }

    /// A look by the checker, which is no part of the node.
    pub(crate) fn look<T>(&mut self, call: impl FnOnce(&mut dyn Reader) -> Result<T, Error>) -> Result<T, Error> {
        call(self.opened().reader.as_mut())
    }

    /// Writes a group behind the node's back, as a store that is not atomic would.
    pub(crate) fn force(&mut self, group: &Group) -> Result<(), Error> {
        let writer = &mut self.opened().writer;
        writer.stage(group)?;
        writer.seal()
    }
}

impl Kept {
    fn open(&self) -> Result<Open, Error> {
        Ok(match self {
            Self::Mem(data) => Open {
                writer: Box::new(data.writer()),
                reader: Box::new(data.reader()),
            },
            Self::Folder(folder) => {
                let path = folder.path();
                let options = EmbeddedOptions {
                    synchronous: Synchronous::Full,
                    ..EmbeddedOptions::default()
                };
                let writer = SqliteWriter::open(path, options)?;
                Open {
                    writer: Box::new(writer),
                    reader: Box::new(SqliteReader::open(path)?),
                }
            }
        })
    }
}

/// A folder of its own that is removed at the end; where it is in memory, it costs the disk nothing.
fn folder() -> Result<TempDir, Error> {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    made.map_err(|error| Error::Unavailable { source: error.into() })
}

impl fmt::Debug for Disk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Disk({} calls)", self.calls)
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Mem => "mem",
            Self::Embedded => "embedded",
        })
    }
}
