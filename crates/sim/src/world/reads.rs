//! Reads of the store, which take their time, and whose answers may come when nobody wants them any more.

use taskhub_core::id::{Epoch, Fence, InstanceId, InstanceNumber};
use taskhub_engine::io::Input;
use taskhub_store::{ExecutionKey, FingerprintPage, HistoryRange, decode_history};

use super::work::JobKind;
use super::{Halt, ReplyTo, World};
use crate::fault::Fault;

/// Rows of a page, so few that there are several.
const PAGE_ROWS: usize = 3;

impl World {
    pub(super) fn load(&mut self, index: u16, epoch: Epoch, instance: InstanceId) -> Result<(), Halt> {
        let key = self.partition_key(index);
        let asked = std::slice::from_ref(&instance);
        let loaded = self.disk.read(|reader| reader.load(&key, asked));
        let states = loaded.map_err(|trouble| self.halt(trouble))?;
        let state = states.into_iter().flatten().next().map(Box::new);
        self.has_read(index, epoch, Input::Loaded { instance, state, epoch });
        Ok(())
    }

    pub(super) fn read_history(
        &mut self,
        instance: InstanceId,
        fence: Fence,
        execution: &ExecutionKey,
    ) -> Result<(), Halt> {
        let read = self
            .disk
            .read(|reader| decode_history(&reader.history(execution, HistoryRange::ALL)?));
        let events = read.map_err(|trouble| self.halt(trouble))?;
        let input = Input::History {
            instance,
            fence,
            events,
        };
        self.has_read(execution.partition.index, fence.epoch, input);
        Ok(())
    }

    /// Hands on what was read; now and then only after the memory that wants it is gone.
    fn has_read(&mut self, index: u16, epoch: Epoch, input: Input<ReplyTo>) {
        let is_late = self.strikes(Fault::ReadDelayed);
        let input = Box::new(input);
        self.later(is_late, JobKind::Read { index, epoch, input });
    }

    /// The epoch of a partition that is served now.
    pub(super) fn epoch_of(&self, index: u16) -> Epoch {
        let partition = self.node.partitions.get(&index);
        partition.map_or_else(Epoch::default, |partition| partition.lease().epoch)
    }

    /// Fills a partition's filter of ids, page by page (A40). The pages come in order, since the next one is
    /// asked for when this one is handed on.
    pub(super) fn fill(&mut self, index: u16, epoch: Epoch, after: Option<InstanceNumber>) -> Result<(), Halt> {
        if self.epoch_of(index) != epoch {
            self.tally.count(Fault::StaleRead);
        }
        let partition = self.partition_key(index);
        let page = self
            .disk
            .read(|reader| reader.fingerprints(&partition, after, PAGE_ROWS));
        let FingerprintPage { fingerprints, next } = page.map_err(|trouble| self.halt(trouble))?;
        let is_last = next.is_none();
        self.send_to(
            index,
            Input::Fingerprints {
                fingerprints,
                is_last,
                epoch,
            },
        );
        if next.is_some() {
            self.fill_later(index, epoch, next);
        }
        Ok(())
    }

    /// Has a partition's filter filled from there on.
    pub(super) fn fill_later(&mut self, index: u16, epoch: Epoch, after: Option<InstanceNumber>) {
        let is_late = self.strikes(Fault::ReadDelayed);
        self.later(is_late, JobKind::Fill { index, epoch, after });
    }
}
