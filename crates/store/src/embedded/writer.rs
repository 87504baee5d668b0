//! The writing half: one transaction for each group.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use taskhub_core::id::HubName;
use taskhub_core::time::Timestamp;

use super::disk_space::DiskSpace;
use super::folder::Folder;
use super::store_file::{Staged, StoreFile};
use super::trouble::Trouble;
use super::watch::Watch;
use super::{EmbeddedOptions, disk_space, hubs, rows};
use crate::blocking::Writer;
use crate::sql::fold;
use crate::{Beat, Claim, Claimed, Error, Group, HubInfo, Lease, NodeId, NodeLease, Room, Space, Work};

/// The one writer of a store. Until it is dropped, the folder is its own.
///
/// Dropping it between `stage` and `seal` is what a crash there would be: SQLite takes the open
/// transaction back.
#[derive(Debug)]
pub struct SqliteWriter {
    file: StoreFile,
    space: DiskSpace,
    /// Which node has claimed each partition, by its row, since the store was opened; it did not give it back.
    owners: BTreeMap<i64, NodeId>,
}

impl SqliteWriter {
    /// Opens a store, which is made if the folder holds none.
    ///
    /// # Errors
    ///
    /// `Locked` if the folder is in use, `Format` if a newer version wrote the file, `Corrupt` if it is
    /// damaged or not a store at all, `Unavailable` if the folder cannot be used.
    pub fn open(folder: &Path, options: EmbeddedOptions) -> Result<Self, Error> {
        let mut folder = Folder::take(folder)?;
        let mut space = DiskSpace::new(folder.reserve(), options.free_bytes_max);
        let connection = match folder.open(&options) {
            // Opening needs some room too (A43).
            Err(Error::Unavailable { .. } | Error::Full) if space.give_up() => folder.open(&options)?,
            opened => opened?,
        };
        let mut writer = Self {
            file: StoreFile::new(folder, connection, options)?,
            space,
            owners: BTreeMap::new(),
        };
        writer.limit(options.bytes_max)?;
        writer.mark_open()?;
        writer.space.begin(&writer.file);
        Ok(writer)
    }

    /// Marks the file as open before anything is acknowledged, so that a log which is missing later is recognised as a
    /// loss.
    fn mark_open(&mut self) -> Result<(), Error> {
        match self.with_reserve(Room::Kept, |writer| writer.file.begin()) {
            // The store opens without the mark, and writes it when there is space.
            Err(Error::Full) => {
                let place = self.file.folder.file();
                tracing::info!(
                    place,
                    "the disk is full, so the store cannot record that it has a log; losing the log now would go \
                    unnoticed"
                );
                Ok(())
            }
            marked => marked,
        }
    }

    /// Limits the size of the file; what does not fit is refused as `Full`. A file that is larger already
    /// does not shrink.
    ///
    /// # Errors
    ///
    /// `Unavailable` if SQLite cannot be asked.
    pub fn limit(&mut self, bytes_max: Option<u64>) -> Result<(), Error> {
        self.space.limit(&self.file, bytes_max)
    }

    /// A look at whether its files are still there.
    pub(super) fn watch(&self) -> &Watch {
        self.file.watch()
    }

    /// Makes a group durable; on a full disk, with the part of the reserve that the group may use.
    pub(super) fn commit(&mut self, group: &Group) -> Result<(), Error> {
        let attempt = |writer: &mut Self| {
            writer.stage(group)?;
            writer.seal()
        };
        match group.room() {
            Room::Free => attempt(self),
            room @ (Room::Share | Room::Kept) => self.with_reserve(room, attempt),
        }
    }

    /// Runs an operation that must be possible on a full disk (A43): first without the reserve, then with the share of
    /// the reserve that is not only for purges, and finally, if `most` allows it, with all of it.
    fn with_reserve<T>(&mut self, most: Room, run: impl Fn(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let mut result = run(self);
        for room in [Room::Share, Room::Kept] {
            if room > most || !matches!(result, Err(Error::Full)) {
                break;
            }
            self.space.lend(room, &mut self.file);
            result = run(self);
            self.space.end_loan(&self.file);
        }
        if self.space.regain(&mut self.file).is_err() {
            tracing::debug!("not enough disk space yet for anything but purges");
        }
        result
    }

    /// Whether the caller should begin to call [`SqliteWriter::shrink_some`]; true only once per surplus.
    pub(super) fn is_to_shrink(&mut self) -> bool {
        self.space.is_to_shrink()
    }

    /// Returns a few free pages to the disk if the file has more than it keeps for reuse; returns whether there are
    /// more.
    pub(super) fn shrink_some(&mut self) -> bool {
        self.space.shrink_some(&mut self.file)
    }

    /// Writes a group in a transaction that is left open.
    fn write(&self, group: &Group) -> Result<Staged, Trouble> {
        let StoreFile {
            connection,
            hubs,
            recent,
            ..
        } = &self.file;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut lookup = |key| match recent.get(key) {
            None => rows::stored(connection, key),
            recent => Ok(recent),
        };
        let folded = fold(group, hubs, &mut lookup)?;
        let (rows, changes) = rows::write(connection, &folded)?;
        Ok(Staged {
            has_removed: !folded.removed.is_empty(),
            parts: folded.parts,
            changes,
            commits: folded.commits,
            rows,
        })
    }
}

impl Drop for SqliteWriter {
    /// Marks the store as closed. SQLite may remove the log only after that, because an unmarked store without its log
    /// is refused.
    fn drop(&mut self) {
        self.file.abandon();
        let marked = self.with_reserve(Room::Kept, |writer| writer.file.mark_closed());
        match marked.and_then(|()| self.file.drop_log()) {
            Ok(()) => {}
            // The next opener finds the log and recovers from it.
            Err(error @ Error::Full) => {
                tracing::info!(%error, "the store was not marked as cleanly closed; its log is kept");
            }
            Err(error) => tracing::warn!(%error, "cannot mark the store as cleanly closed; its log is kept"),
        }
    }
}

impl Writer for SqliteWriter {
    fn list_hubs(&mut self) -> Result<Vec<HubInfo>, Error> {
        Ok(self.file.hubs.infos())
    }

    fn create_hub(&mut self, name: &HubName, partitions: u16, now: Timestamp) -> Result<HubInfo, Error> {
        let info = HubInfo {
            name: name.clone(),
            partitions: partitions.max(1),
            created_at: now,
        };
        self.space.regain(&mut self.file)?;
        self.file
            .change(|connection, hubs| hubs::create(connection, hubs, &info))?;
        Ok(info)
    }

    fn delete_hub(&mut self, name: &HubName) -> Result<HubInfo, Error> {
        let deleted = self.with_reserve(Room::Kept, |writer| {
            writer
                .file
                .change(|connection, hubs| hubs::delete(connection, hubs, name))
        })?;
        self.space.look_for_surplus(&self.file);
        Ok(deleted)
    }

    /// The lock on the folder keeps other processes out, so the leases of this process never expire while the store is
    /// open.
    fn beat(&mut self, node: NodeId, _lasts: Duration, now: Timestamp) -> Result<Beat, Error> {
        Ok(Beat {
            now,
            nodes: vec![NodeLease { node, ends_at: None }],
            owners: self.file.hubs.owners(&self.owners),
        })
    }

    /// Takes every partition that the claim names, even from another node: all nodes of this store are in this process,
    /// which coordinates them itself.
    fn claim(&mut self, claim: &Claim) -> Result<Claimed, Error> {
        let owners = self.owners.clone();
        let leases = self.with_reserve(Room::Kept, |writer| {
            writer
                .file
                .change(|connection, hubs| hubs::claim(connection, hubs, claim, &owners))
        })?;
        let parts = leases
            .iter()
            .filter_map(|lease| self.file.hubs.part(&lease.partition).ok());
        self.owners.extend(parts.map(|part| (part.row, claim.node)));
        let held = Vec::new();
        Ok(Claimed { leases, held })
    }

    fn release(&mut self, leases: &[Lease]) -> Result<(), Error> {
        self.with_reserve(Room::Kept, |writer| {
            writer
                .file
                .change(|connection, hubs| hubs::release(connection, hubs, leases))
        })?;
        for lease in leases {
            if let Ok(part) = self.file.hubs.part(&lease.partition)
                && part.is_clean
            {
                self.owners.remove(&part.row);
            }
        }
        Ok(())
    }

    fn stage(&mut self, group: &Group) -> Result<(), Error> {
        self.file.abandon();
        self.file.be_ready()?;
        if group.room() == Room::Free {
            // Without a complete reserve, this group could use up the space that the next purge needs.
            self.space.regain(&mut self.file)?;
        }
        let staged = self.write(group).map_err(|trouble| self.file.fail(trouble))?;
        self.file.staged = Some(staged);
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Error> {
        let file = &mut self.file;
        let Some(staged) = file.staged.take() else {
            unreachable!("a group is staged before it is sealed")
        };
        let commit = file
            .connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]));
        if let Err(error) = commit {
            return Err(file.fail(error));
        }
        file.hubs.count(&staged.parts);
        file.recent.apply(staged.changes);
        file.check_there()?;
        file.work.groups += 1;
        file.work.commits += staged.commits;
        file.work.rows += staged.rows;
        file.count_sync(staged.rows > 0);
        self.space.keep_log_short(file, staged.has_removed);
        Ok(())
    }

    fn compact(&mut self) -> Result<Space, Error> {
        self.file.abandon();
        self.file.settle()?;
        disk_space::compact(&mut self.file)
    }

    fn find_room(&mut self) -> Result<(), Error> {
        self.file.abandon();
        self.file.settle()?;
        self.space.find(&mut self.file)
    }

    fn work(&self) -> Work {
        self.file.work
    }
}
