//! Calls of the store that are no groups: they may fail, or be made without an answer. Reads take their time, and their answers
//! may come when nobody wants them any more.

use std::ops::Range;

use taskhub_core::id::{Epoch, Fence, InstanceId, InstanceNumber};
use taskhub_engine::io::Input;
use taskhub_store::blocking::{Reader, Writer};
use taskhub_store::{Error, ExecutionKey, FingerprintPage, HistoryRange, decode_history};

use super::lives::is_passing;
use super::work::JobKind;
use super::{Bug, Halt, ReplyTo, World};
use crate::disk::{Disk, Trouble};
use crate::fault::Fault;

/// Rows of a page, so few that there are several.
const PAGE_ROWS: usize = 3;

/// Pause before a read is made again that failed, in microseconds.
const READ_PAUSE: Range<u64> = 10_000..1_000_000;

impl World {
    /// A call of the writing half.
    pub(super) fn write<T>(&mut self, call: impl FnOnce(&mut dyn Writer) -> Result<T, Error>) -> Result<T, Trouble> {
        self.call(|disk| disk.write(call))
    }

    /// A call of the reading half.
    pub(super) fn read<T>(&mut self, call: impl FnOnce(&mut dyn Reader) -> Result<T, Error>) -> Result<T, Trouble> {
        self.call(|disk| disk.read(call))
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Disk) -> Result<T, Trouble>) -> Result<T, Trouble> {
        if self.strikes(Fault::CallFailed) {
            let source = "the simulated store is out of reach".into();
            return Err(Trouble::Store(Error::Unavailable { source }));
        }
        let is_lost = self.strikes(Fault::CallUnanswered);
        let answer = call(&mut self.disk)?;
        if is_lost {
            let source = "the answer of the simulated store is lost".into();
            return Err(Trouble::Store(Error::Unknown { source }));
        }
        Ok(answer)
    }

    /// A read whose failure is no reason to give up: whoever waits for it is served later, if it still waits.
    fn again_later<T>(
        &mut self,
        read: Result<T, Trouble>,
        index: u16,
        epoch: Epoch,
        kind: JobKind,
    ) -> Result<Option<T>, Halt> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(Trouble::Store(error)) if is_passing(&error) => {
                if self.epoch_of(index) == epoch && self.bug != Some(Bug::FailedReadIsForgotten) {
                    self.after(READ_PAUSE, kind);
                }
                Ok(None)
            }
            Err(trouble) => Err(self.halt(trouble)),
        }
    }

    pub(super) fn load(&mut self, index: u16, epoch: Epoch, instance: InstanceId) -> Result<(), Halt> {
        let key = self.partition_key(index);
        let asked = std::slice::from_ref(&instance);
        let loaded = self.read(|reader| reader.load(&key, asked));
        let again = JobKind::Load {
            index,
            epoch,
            instance: instance.clone(),
        };
        let Some(states) = self.again_later(loaded, index, epoch, again)? else {
            return Ok(());
        };
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
        let read = self.read(|reader| decode_history(&reader.history(execution, HistoryRange::ALL)?));
        let again = JobKind::History {
            instance: instance.clone(),
            fence,
            execution: execution.clone(),
        };
        let index = execution.partition.index;
        let Some(events) = self.again_later(read, index, fence.epoch, again)? else {
            return Ok(());
        };
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
        let page = self.read(|reader| reader.fingerprints(&partition, after, PAGE_ROWS));
        let FingerprintPage { fingerprints, next } = match page {
            Ok(page) => page,
            // Without the filter each look-up of an unknown id reads the table, which is slower and never wrong.
            Err(Trouble::Store(error)) if is_passing(&error) => return Ok(()),
            Err(trouble) => return Err(self.halt(trouble)),
        };
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
