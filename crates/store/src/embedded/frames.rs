//! The log, looked at before SQLite opens it.
//!
//! SQLite treats the first invalid frame as the end of the log and silently ignores everything after it. After a crash
//! this is correct: the last group was torn and never acknowledged. But if complete groups follow an invalid frame,
//! acknowledged work is lost, and the store must report that (A18).
//!
//! The format is SQLite's (<https://sqlite.org/fileformat2.html#walformat>): a header of 32 bytes, then frames of 24
//! bytes and a page each. The checksum of a frame continues from the checksum stored in the previous frame, so frames
//! after a damaged one can be checked too. Frames from before the last restart of the log have other salts.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Of the log, before its first frame.
pub(super) const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 24;
/// The header begins with this, and one more if its numbers are summed as big-endian.
const MAGIC: u32 = 0x377f_0682;

/// What a log is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// The log does not exist or is empty.
    Absent,
    /// All groups in it are whole.
    Whole,
    /// The last group is not whole, as a crash leaves it.
    Torn {
        /// Offset of the byte where the intact part ends.
        at: u64,
    },
    /// Something is wrong before the last group.
    Damaged {
        /// Byte of the frame that is damaged; 0 for the header.
        at: u64,
        /// Groups from there on, as far as their frames tell.
        groups: u64,
    },
    /// It belongs to another file, or to another time of this one.
    Foreign {
        /// The file has a log of its own, which is not there.
        was_open: bool,
    },
}

/// Rounds after which a frame that is left of one is not believed to be: each round writes over those before it. The row
/// about a store follows its log long before.
pub(super) const ROUNDS_MAX: u32 = 1 << 16;

/// A running checksum.
type Sum = (u32, u32);

fn add(sum: Sum, bytes: &[u8], is_big: bool) -> Sum {
    let (mut one, mut other) = sum;
    for pair in bytes.chunks_exact(8) {
        let (left, right) = (number(pair, 0, is_big), number(pair, 4, is_big));
        one = one.wrapping_add(left).wrapping_add(other);
        other = other.wrapping_add(right).wrapping_add(one);
    }
    (one, other)
}

fn number(bytes: &[u8], at: usize, is_big: bool) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let four = four.unwrap_or([0; 4]);
    if is_big {
        u32::from_be_bytes(four)
    } else {
        u32::from_le_bytes(four)
    }
}

/// The fields of headers are big-endian always.
fn field(bytes: &[u8], at: usize) -> u32 {
    number(bytes, at, true)
}

/// The header of a log.
struct Header {
    is_right: bool,
    is_big: bool,
    page_bytes: usize,
    salts: (u32, u32),
    sum: Sum,
}

impl Header {
    /// `page_bytes` is what the file says, for a header that cannot be believed.
    fn read(bytes: &[u8; HEADER_BYTES], page_bytes: usize) -> Self {
        let magic = field(bytes, 0);
        let is_big = magic == MAGIC + 1;
        let sum = (field(bytes, 24), field(bytes, 28));
        let own = field(bytes, 8) as usize;
        let is_right = magic & !1 == MAGIC
            && add((0, 0), &bytes[..24], is_big) == sum
            && own.is_power_of_two()
            && (512..=65_536).contains(&own);
        Self {
            is_right,
            is_big: if is_right { is_big } else { cfg!(target_endian = "big") },
            page_bytes: if is_right { own } else { page_bytes },
            salts: (field(bytes, 16), field(bytes, 20)),
            sum,
        }
    }
}

/// Looks at a log. `page_bytes` is the length of the pages of the file it belongs to.
///
/// # Errors
///
/// If it cannot be read.
pub(super) fn look(place: &Path, page_bytes: usize) -> io::Result<Log> {
    let (mut from, header) = match open(place, page_bytes)? {
        Opened::Absent => return Ok(Log::Absent),
        Opened::NoHeader => return Ok(Log::Torn { at: 0 }),
        Opened::Begun(from, header) => (from, header),
    };
    let mut scan = Scan::new(&header);
    let mut frame = vec![0; FRAME_BYTES + header.page_bytes];
    loop {
        let read = read_full(&mut from, &mut frame)?;
        if read < frame.len() {
            return Ok(scan.end(read > 0));
        }
        scan.frame(&frame);
    }
}

/// A log, read up to its first frame.
enum Opened {
    Absent,
    NoHeader,
    Begun(BufReader<File>, Header),
}

fn open(place: &Path, page_bytes: usize) -> io::Result<Opened> {
    let file = match super::own::open(place, File::options().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Absent),
        file => file?,
    };
    let mut header = [0; HEADER_BYTES];
    Ok(match read_full(&mut &file, &mut header)? {
        0 => Opened::Absent,
        HEADER_BYTES => {
            let from = BufReader::with_capacity(1 << 20, file);
            Opened::Begun(from, Header::read(&header, page_bytes))
        }
        _ => Opened::NoHeader,
    })
}

/// The first salt of a log, if its header is there and right: SQLite draws it for a new log, and adds one with each round.
///
/// # Errors
///
/// If it cannot be read.
pub(super) fn salt(place: &Path) -> io::Result<Option<u32>> {
    let Opened::Begun(_, header) = open(place, 0)? else {
        return Ok(None);
    };
    Ok(header.is_right.then_some(header.salts.0))
}

/// Numbers of the pages, from 1, that a log has a version of: what the file says of them does not count.
///
/// # Errors
///
/// If it cannot be read.
pub(super) fn pages(place: &Path, page_bytes: usize) -> io::Result<BTreeSet<u64>> {
    let mut pages = BTreeSet::new();
    let Opened::Begun(mut from, header) = open(place, page_bytes)? else {
        return Ok(pages);
    };
    let mut frame = vec![0; FRAME_BYTES + header.page_bytes];
    while read_full(&mut from, &mut frame)? == frame.len() {
        if (field(&frame, 8), field(&frame, 12)) == header.salts {
            pages.insert(u64::from(field(&frame, 0)));
        }
    }
    Ok(pages)
}

/// Reads until the buffer is full or the file ends.
fn read_full(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = into.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

struct Scan<'h> {
    header: &'h Header,
    /// Number of the next frame.
    number: u64,
    /// Those of this round: of a header that is not right, the first frame's.
    salts: (u32, u32),
    /// The checksum stored in the previous frame, and the computed one if that frame belongs to the current round.
    before: Option<[Sum; 2]>,
    /// The first frame that is not right.
    bad: Option<u64>,
    /// A group ends at the invalid frame or after it.
    has_ended: bool,
    /// A frame is right that is behind the end of the bad frame's group, or behind a bad header.
    is_followed: bool,
    groups: u64,
    /// The rest is of an earlier round.
    is_over: bool,
}

impl<'h> Scan<'h> {
    fn new(header: &'h Header) -> Self {
        Self {
            header,
            number: 0,
            salts: header.salts,
            before: Some([header.sum; 2]),
            bad: None,
            has_ended: !header.is_right,
            is_followed: false,
            groups: 0,
            is_over: false,
        }
    }

    fn frame(&mut self, frame: &[u8]) {
        let number = self.number;
        self.number += 1;
        let salts = (field(frame, 8), field(frame, 12));
        // A restart of the log increments the first salt and draws the second one, so a frame in which one salt matches
        // does not belong to an earlier round.
        if number == 0 && !self.header.is_right {
            self.salts = salts;
        }
        let is_of_round = salts == self.salts;
        let is_other = salts.0 != self.salts.0 && salts.1 != self.salts.1;
        // Zeros and other garbage do not count as frames of an earlier round.
        let is_of_earlier = is_other && self.salts.0.wrapping_sub(salts.0) <= ROUNDS_MAX && field(frame, 0) > 0;
        if self.bad.is_none() && self.header.is_right && is_of_earlier && !self.is_over {
            self.is_over = true;
        }
        let stored = (field(frame, 16), field(frame, 20));
        let sums = self.before.map(|[said, come_to]| {
            let sum = self.sum(said, frame);
            [sum, if said == come_to { sum } else { self.sum(come_to, frame) }]
        });
        let is_right = is_of_round && sums.is_some_and(|sums| sums.contains(&stored));
        let come_to = sums.map_or(stored, |[sum, _]| sum);
        // Also behind a frame that is damaged in just what tells its round.
        self.before = (!is_other).then_some([stored, come_to]);
        if self.is_over {
            // Nothing of this round should come any more, nor anything that is of none.
            if !is_of_earlier && !is_of_round {
                self.bad = self.bad.or(Some(number));
            }
            if is_right {
                self.bad = self.bad.or(Some(number.saturating_sub(1)));
                self.has_ended = true;
                self.is_followed = true;
            }
            return;
        }
        if self.bad.is_none() && !is_right {
            self.bad = Some(number);
        }
        if self.bad.is_some() || !self.header.is_right {
            self.is_followed |= is_right && self.has_ended;
            let ends_group = field(frame, 4) != 0;
            if ends_group && !is_other {
                self.has_ended = true;
                self.groups += 1;
            }
        }
    }

    fn sum(&self, before: Sum, frame: &[u8]) -> Sum {
        let (head, page) = frame.split_at_checked(FRAME_BYTES).unwrap_or_default();
        let sum = add(before, head.get(..8).unwrap_or_default(), self.header.is_big);
        add(sum, page, self.header.is_big)
    }

    /// The result; the file may end in the middle of a frame.
    fn end(self, is_cut: bool) -> Log {
        let frame_bytes = (FRAME_BYTES + self.header.page_bytes) as u64;
        let place = |frame: u64| HEADER_BYTES as u64 + frame * frame_bytes;
        let groups = self.groups.max(1);
        if !self.header.is_right {
            return if self.is_followed {
                Log::Damaged { at: 0, groups }
            } else {
                Log::Torn { at: 0 }
            };
        }
        // Its header comes with its first group.
        if self.number == 0 {
            return Log::Torn { at: 0 };
        }
        match self.bad {
            Some(bad) if self.is_followed => Log::Damaged { at: place(bad), groups },
            Some(bad) => Log::Torn { at: place(bad) },
            None if is_cut && !self.is_over => Log::Torn { at: place(self.number) },
            None => Log::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rusqlite::Connection;

    use super::*;

    const PAGE: usize = 1024;

    /// A file with a log of three groups, of one frame each at least, that is not closed.
    fn logged(folder: &Path, rounds: usize) -> (Connection, PathBuf) {
        let connection = Connection::open(folder.join("test.db")).unwrap();
        connection.pragma_update(None, "page_size", 1024).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        connection.execute_batch("CREATE TABLE t (a BLOB)").unwrap();
        for round in 0..rounds {
            if round > 0 {
                let mut restart = connection.prepare("PRAGMA wal_checkpoint(RESTART)").unwrap();
                restart.query_row([], |_| Ok(())).unwrap();
            }
            // The first round is the longest.
            for group in 0..8 - 3 * round {
                let sql = "INSERT INTO t VALUES (zeroblob(?1))";
                connection
                    .execute(sql, [if group % 2 == 0 { 900 } else { 1800 }])
                    .unwrap();
            }
        }
        (connection, folder.join("test.db-wal"))
    }

    fn rows(log: &[u8], folder: &Path) -> i64 {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(folder.join("test.db"), copy.path().join("test.db")).unwrap();
        std::fs::write(copy.path().join("test.db-wal"), log).unwrap();
        let connection = Connection::open(copy.path().join("test.db")).unwrap();
        // What was not written back is not in the file: the table may be missing with the log.
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap_or(0)
    }

    #[test]
    fn every_flipped_bit_in_a_log_that_loses_a_group_is_seen() {
        for rounds in 1..=2 {
            let folder = tempfile::tempdir().unwrap();
            let (_open, place) = logged(folder.path(), rounds);
            let whole = std::fs::read(&place).unwrap();
            assert_eq!(look(&place, PAGE).unwrap(), Log::Whole, "{rounds}");
            let all = rows(&whole, folder.path());
            let changed = folder.path().join("changed");
            let (mut damaged, mut torn) = (0, 0);
            let frame = FRAME_BYTES + PAGE;
            let heads = (0..whole.len()).filter(|at| *at < HEADER_BYTES || (at - HEADER_BYTES) % frame < FRAME_BYTES);
            let pages = (HEADER_BYTES..whole.len()).step_by(301);
            for (at, bit) in heads.chain(pages).map(|at| (at, (at * 5) % 8)) {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                std::fs::write(&changed, &bytes).unwrap();
                let lost = all - rows(&bytes, folder.path());
                match look(&changed, PAGE).unwrap() {
                    Log::Whole => assert_eq!(lost, 0, "byte {at}, bit {bit}, {rounds} rounds"),
                    Log::Torn { .. } => {
                        torn += 1;
                        assert!(lost <= 1, "byte {at}, bit {bit}: {lost} groups are lost");
                    }
                    Log::Damaged { .. } => damaged += 1,
                    Log::Absent | Log::Foreign { .. } => panic!("byte {at}"),
                }
            }
            assert!(damaged > 100 && torn > 10, "{damaged} and {torn}, {rounds} rounds");
        }
    }

    /// The bytes after some frame are zeroed or replaced by garbage.
    #[test]
    fn a_log_whose_end_is_emptied_or_garbage_is_not_whole() {
        for rounds in 1..=2 {
            let folder = tempfile::tempdir().unwrap();
            let (_open, place) = logged(folder.path(), rounds);
            let whole = std::fs::read(&place).unwrap();
            let all = rows(&whole, folder.path());
            let changed = folder.path().join("changed");
            let frame = FRAME_BYTES + PAGE;
            for first in 0..(whole.len() - HEADER_BYTES) / frame {
                for garbage in [0_u8, 0x5a, 0xff] {
                    let mut bytes = whole.clone();
                    let mut word = u64::from(garbage);
                    for byte in &mut bytes[HEADER_BYTES + first * frame..] {
                        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(word);
                        *byte = u8::try_from(word >> 56).unwrap();
                    }
                    std::fs::write(&changed, &bytes).unwrap();
                    let is_lost = rows(&bytes, folder.path()) < all;
                    let found = look(&changed, PAGE).unwrap();
                    assert!(
                        !is_lost || found != Log::Whole,
                        "frame {first}, {garbage}, {rounds} rounds"
                    );
                }
            }
            std::fs::write(&changed, &whole[..HEADER_BYTES]).unwrap();
            assert_eq!(look(&changed, PAGE).unwrap(), Log::Torn { at: 0 }, "a header alone");
        }
    }

    #[test]
    fn a_log_that_is_cut_short_is_torn_but_between_its_frames() {
        let folder = tempfile::tempdir().unwrap();
        let (_open, place) = logged(folder.path(), 1);
        let whole = std::fs::read(&place).unwrap();
        let changed = folder.path().join("changed");
        assert_eq!(look(&changed, PAGE).unwrap(), Log::Absent);
        for length in 0..whole.len() {
            std::fs::write(&changed, &whole[..length]).unwrap();
            let is_between = length >= HEADER_BYTES && (length - HEADER_BYTES).is_multiple_of(FRAME_BYTES + PAGE);
            let found = look(&changed, PAGE).unwrap();
            match (length, is_between) {
                (0, _) => assert_eq!(found, Log::Absent),
                (HEADER_BYTES, _) => assert_eq!(found, Log::Torn { at: 0 }),
                (_, true) => assert_eq!(found, Log::Whole, "{length}"),
                (_, false) => assert!(matches!(found, Log::Torn { .. }), "{length}: {found:?}"),
            }
        }
    }
}
