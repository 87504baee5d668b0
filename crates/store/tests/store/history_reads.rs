//! A page of a history costs no more than the chunks it is in, however long the history is.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use taskhub_core::id::InstanceId;
use taskhub_core::message::Outcome;
use taskhub_store::blocking::Reader as _;
use taskhub_store::conformance::{Owner, instance};
use taskhub_store::embedded::{SqliteReader, SqliteWriter, pages_read};
use taskhub_store::inline::Inline;
use taskhub_store::{ExecutionKey, HistoryChunk, HistoryRange, decode_history};

use crate::common::{OFF, call};
use crate::scratch::Scratch;

const EVENTS: u32 = 100_000;
/// Activities of one turn; each is an event when it begins and another when it ends.
const WIDTH: usize = 500;

/// An instance with as many events, in many groups.
fn long(owner: &mut Owner<'_>, id: &InstanceId) -> ExecutionKey {
    owner.start(id);
    while owner.state(id).unwrap().history_events < EVENTS {
        owner.turn(id, (0..WIDTH).map(|_| call()).collect());
        while owner.open_task(id).is_some() {
            owner.answer_task(id, Outcome::Completed(None));
        }
        owner.flush();
    }
    ExecutionKey {
        partition: owner.lease(owner.partition_of(id)).partition.clone(),
        number: owner.state(id).unwrap().number,
        ordinal: 0,
    }
}

/// Chunks that a reader without anything in memory finds, and how many pages it reads for that.
fn read(scratch: &Scratch, of: &ExecutionKey, range: HistoryRange) -> (Vec<HistoryChunk>, u64) {
    let mut reader = SqliteReader::open(scratch.path()).unwrap();
    let before = pages_read();
    let chunks = reader.history(of, range).unwrap();
    (chunks, pages_read() - before)
}

#[test]
fn a_page_of_a_long_history_reads_its_chunks_and_no_others() {
    let scratch = Scratch::new();
    let writer = SqliteWriter::open(scratch.path(), OFF).unwrap();
    let store = Inline::new(writer, SqliteReader::open(scratch.path()).unwrap());
    let mut owner = Owner::new(&store, "Long", 1);
    let key = long(&mut owner, &instance("order-1"));
    let (all, pages_of_all) = read(&scratch, &key, HistoryRange::ALL);
    let events = decode_history(&all).unwrap();
    assert!(events.len() >= EVENTS as usize, "{}", events.len());
    assert!(
        all.len() > 90 && pages_of_all > 300,
        "{} chunks, {pages_of_all} pages",
        all.len()
    );

    for from in [0, 1, EVENTS / 3, EVENTS / 2, EVENTS - 100] {
        let range = HistoryRange {
            from,
            events_max: 100,
            bytes_max: usize::MAX,
        };
        let (chunks, pages) = read(&scratch, &key, range);
        assert!(chunks.len() <= 2, "{} chunks from {from} on", chunks.len());
        let page = decode_history(&chunks).unwrap();
        let first = from as usize;
        assert_eq!(page[..100], events[first..first + 100]);
        // Of what is above the chunks in the tree there is a page for each level.
        let bytes: usize = all
            .iter()
            .filter(|chunk| chunk.first < from + 100 && chunk.first + chunk.events > from)
            .map(|chunk| chunk.body.len())
            .sum();
        let needed = (bytes / (8 << 10)) as u64;
        assert!(
            pages <= needed + 12,
            "{pages} pages from {from} on, and {needed} have its chunks"
        );
        assert!(
            pages * 10 < pages_of_all,
            "{pages} of {pages_of_all} pages from {from} on"
        );
    }
}
