//! What the owner holds against the store.

use taskhub_core::commit::OpenKind;
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{InstanceId, InstanceNumber};
use taskhub_core::message::OutboxRef;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};

use super::Owner;
use crate::conformance::done;
use crate::{ExecutionKey, HistoryRange, Recovered, Selection};

impl Owner<'_> {
    /// Compares everything the store can tell with what should be there.
    pub fn check(&mut self) {
        if !self.open.is_empty() {
            self.flush();
        }
        self.check_states();
        self.check_histories();
        self.check_recovery();
        self.check_listing(&Filter::default());
        self.check_counts();
    }

    fn check_states(&self) {
        for partition in &self.partitions {
            let key = &partition.lease.partition;
            let ids: Vec<InstanceId> = self
                .known
                .keys()
                .filter(|id| self.partition_of(id) == key.index)
                .cloned()
                .collect();
            let loaded = done(self.store.load(key, &ids));
            assert_eq!(loaded.len(), ids.len(), "one answer for each id");
            for (id, found) in ids.iter().zip(loaded) {
                assert_eq!(found.as_ref(), self.state(id), "the stored state of `{id}`");
            }
        }
    }

    /// The events of an execution as the store has them, from an event on.
    pub fn stored_history(
        &self,
        id: &InstanceId,
        number: InstanceNumber,
        ordinal: u32,
        from: u32,
    ) -> Vec<HistoryEvent> {
        let partition = self.lease(self.partition_of(id)).partition.clone();
        let chunks = done(self.store.history(
            &ExecutionKey {
                partition,
                number,
                ordinal,
            },
            HistoryRange::from(from),
        ));
        let mut events = Vec::new();
        for chunk in chunks {
            assert_eq!(chunk.first as usize, from as usize + events.len(), "chunks join (I4)");
            let decoded = chunk.decode().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(chunk.events as usize, decoded.len(), "a chunk holds what it says");
            events.extend(decoded);
        }
        events
    }

    fn check_histories(&self) {
        for (id, known) in &self.known {
            for ordinal in 0..=known.state.info.ordinal {
                let expected = known.history.get(&ordinal).map_or(&[][..], Vec::as_slice);
                let found = self.stored_history(id, known.state.number, ordinal, 0);
                assert_eq!(found, expected, "the history of `{id}`, execution {ordinal}");
            }
        }
    }

    fn check_recovery(&self) {
        for partition in &self.partitions {
            let items = done(self.store.recover(&partition.lease));
            let counters = Recovered::Counters {
                next_seq: partition.next_seq,
                next_instance: partition.ids.next_number,
                horizon: self.partitions.iter().map(|partition| partition.next_seq).collect(),
            };
            assert_eq!(items.first(), Some(&counters), "counters come first");
            let index = partition.lease.partition.index;
            let mut expected = self.expected_recovery(index);
            let mut found: Vec<Recovered> = items.into_iter().skip(1).map(Recovered::without_size).collect();
            let from = |item: &Recovered| match item {
                Recovered::Message { at, .. } => Some(*at),
                _ => None,
            };
            let messages: Vec<OutboxRef> = found.iter().filter_map(from).collect();
            assert!(
                messages.is_sorted(),
                "messages of a sender come in their order: {messages:?}"
            );
            expected.sort_by_cached_key(recovery_key);
            found.sort_by_cached_key(recovery_key);
            assert_eq!(found, expected, "what partition {index} recovers");
        }
    }

    fn expected_recovery(&self, partition: u16) -> Vec<Recovered> {
        let mut expected = Vec::new();
        for (id, known) in self.known.iter().filter(|(id, _)| self.partition_of(id) == partition) {
            let (instance, number) = (id.clone(), known.state.number);
            for open in known.state.open.values().cloned() {
                let (instance, number) = (instance.clone(), number);
                match open.kind {
                    OpenKind::Task { .. } => expected.push(Recovered::Task { instance, number, open }),
                    OpenKind::Timer { .. } => expected.push(Recovered::Timer { instance, number, open }),
                    OpenKind::Child { .. } => {}
                }
            }
            if !known.state.inbox.is_empty() {
                let name = known.state.info.name.clone();
                expected.push(Recovered::Inbox {
                    instance,
                    name,
                    bytes: 0,
                });
            }
        }
        let outbox = self
            .outbox
            .iter()
            .filter(|(_, item)| self.partition_of(&item.target) == partition);
        expected.extend(outbox.map(|(at, item)| Recovered::Message {
            at: *at,
            item: item.clone(),
        }));
        expected
    }

    /// One page from the store.
    pub fn page(&self, filter: &Filter, after: Option<&Cursor>, rows_max: usize) -> Page {
        done(self.store.list(&self.selection(filter, after, rows_max), Payloads::ALL)).page
    }

    fn selection(&self, filter: &Filter, after: Option<&Cursor>, rows_max: usize) -> Selection {
        Selection {
            hub: self.hub.clone(),
            filter: filter.clone(),
            after: after.cloned(),
            rows_max,
        }
    }

    /// The ids of one page from the store, and where the next one begins.
    pub fn ids_of_page(
        &self,
        filter: &Filter,
        after: Option<&Cursor>,
        rows_max: usize,
    ) -> (Vec<InstanceId>, Option<Cursor>) {
        let page = done(self.store.list_ids(&self.selection(filter, after, rows_max)));
        (page.ids, page.next)
    }

    /// All rows of a filter, page by page; their ids alone are the same.
    pub fn listed(&self, filter: &Filter, rows_max: usize) -> Vec<InstanceInfo> {
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let page = self.page(filter, after.as_ref(), rows_max);
            assert!(page.rows.len() <= rows_max, "a page is no longer than asked for");
            // A page of large records is shorter than one of ids.
            let count = page.rows.len().max(1);
            let ids = page.rows.iter().map(|row| row.instance.clone()).collect();
            assert_eq!(
                self.ids_of_page(filter, after.as_ref(), count),
                (ids, page.next.clone()),
                "the ids of a page are those of its rows"
            );
            rows.extend(page.rows);
            if page.next.is_none() {
                return rows;
            }
            assert!(page.next > after, "a page begins behind the one before");
            after = page.next;
        }
    }

    /// Compares a listing, in pages of several sizes, with a naive one.
    pub fn check_listing(&self, filter: &Filter) {
        let mut expected: Vec<InstanceInfo> = self
            .known
            .values()
            .map(|known| known.state.info.clone())
            .filter(|info| filter.matches(info))
            .collect();
        expected.sort_by(|one, other| (one.created_at, &one.instance).cmp(&(other.created_at, &other.instance)));
        for rows_max in [1, 3, 1000] {
            assert_eq!(
                self.listed(filter, rows_max),
                expected,
                "the rows of {filter:?} by {rows_max}"
            );
        }
    }

    fn check_counts(&self) {
        let count = |status| {
            self.known
                .values()
                .filter(|known| known.state.info.status == status)
                .count() as u64
        };
        let expected: Vec<(RuntimeStatus, u64)> = RuntimeStatus::ALL
            .into_iter()
            .map(|status| (status, count(status)))
            .filter(|(_, n)| *n > 0)
            .collect();
        let found = done(self.store.counts(&self.hub));
        assert_eq!(found, expected, "counts equal a full count (I8)");
    }
}

fn recovery_key(item: &Recovered) -> (u8, u64, u64) {
    match item {
        Recovered::Counters { next_seq, .. } => (0, next_seq.0, 0),
        Recovered::Task { number, open, .. } | Recovered::Timer { number, open, .. } => {
            (1, number.0, open.occurrence.0)
        }
        Recovered::Message { at, .. } => (2, at.seq.0, u64::from(at.index)),
        Recovered::Inbox { instance, .. } => (3, crate::fingerprint(instance), 0),
        // Never expected, so its place does not matter.
        Recovered::Damaged { .. } => (4, 0, 0),
    }
}
