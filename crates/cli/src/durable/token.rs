//! Continuation tokens: where a listing goes on, and which listing it was (cli.md §6.4, H77).
//!
//! Letters, digits, `-` and `_`, at most 512 characters: base64url of a version, a hash of the filter, the
//! created time and the id of the last row, and a check that tells damage from another listing.

use taskhub_core::id::InstanceId;
use taskhub_core::query::{Cursor, Filter};
use taskhub_core::time::Timestamp;

use crate::stop::{Result, Stop};

/// Version of the form.
const VERSION: u8 = 1;
/// Bytes of an id that fit: 512 characters hold 384 bytes, 21 of which are other things.
const ID_BYTES_MAX: usize = 363;
/// What Core Tools prints on the last page; given back it must not begin anew.
pub(crate) const LAST_OF_CORE_TOOLS: &str = "bnVsbA==";

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The form of a token.
#[derive(Debug)]
pub(crate) struct Token;

impl Token {
    /// The token of a place in a listing.
    pub(crate) fn write(cursor: &Cursor, filter: &Filter) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(fingerprint(filter).to_be_bytes());
        bytes.extend(cursor.created_at.ticks().to_be_bytes());
        bytes.extend(fit(cursor.instance.as_str()).bytes());
        bytes.extend(check(&bytes));
        encode(&bytes)
    }

    /// The place a token stands for in this listing.
    pub(crate) fn read(token: &str, filter: &Filter) -> Result<Cursor> {
        let damaged = || Stop::usage("the continuation token is damaged, or is none of this program");
        let bytes = decode(token).ok_or_else(damaged)?;
        let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if *sum != check(bytes) {
            return Err(damaged());
        }
        let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
        let (hash, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (ticks, id) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        if *version != VERSION {
            return Err(damaged());
        }
        let id = std::str::from_utf8(id).map_err(|_| damaged())?;
        let instance = InstanceId::new(id).map_err(|_| damaged())?;
        if u64::from_be_bytes(*hash) != fingerprint(filter) {
            return Err(Stop::usage("the token belongs to a different query"));
        }
        Ok(Cursor {
            created_at: Timestamp::from_ticks(i64::from_be_bytes(*ticks)),
            instance,
        })
    }
}

/// An id of more bytes than fit is cut; the letter above all others then stands for what was cut off, so that
/// the listing goes on behind the row and does not show it again.
fn fit(id: &str) -> String {
    if id.len() <= ID_BYTES_MAX {
        return id.to_owned();
    }
    let room = ID_BYTES_MAX - char::MAX.len_utf8();
    let cut = (0..=room).rev().find(|at| id.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{}", &id[..cut], char::MAX)
}

fn check(bytes: &[u8]) -> [u8; 4] {
    let hash = add(START, bytes);
    let [a, b, c, d, ..] = hash.to_be_bytes();
    [a, b, c, d]
}

/// FNV-1a, the start of it and a step.
const START: u64 = 0xcbf2_9ce4_8422_2325;

fn add(hash: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let length = (bytes.len() as u64).to_be_bytes();
    length.iter().chain(bytes).fold(hash, step)
}

/// A hash of what a filter says, the same on every machine and in every version.
fn fingerprint(filter: &Filter) -> u64 {
    let mut hash = START;
    let mut add = |bytes: &[u8]| hash = add(hash, bytes);
    for moment in [filter.created_from, filter.created_before] {
        add(&moment.map_or(i64::MIN, Timestamp::ticks).to_be_bytes());
    }
    let mut statuses: Vec<u8> = filter.statuses.iter().map(|status| status.number()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    add(&statuses);
    for text in [&filter.name, &filter.id_prefix] {
        add(text.as_deref().unwrap_or_default().as_bytes());
    }
    hash
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let at = |index: usize| u32::from(part.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..=part.len() {
            let six = bits >> (18 - 6 * index) & 63;
            text.push(char::from(LETTERS[six as usize]));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for letter in part {
            let six = LETTERS.iter().position(|known| known == letter)?;
            bits = bits << 6 | u32::try_from(six).ok()?;
        }
        bits <<= 6 * (4 - part.len());
        let count = part.len().checked_sub(1).filter(|count| *count > 0)?;
        bytes.extend(bits.to_be_bytes().iter().skip(1).take(count));
    }
    // Bits too many would make several tokens of one place.
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use taskhub_core::status::RuntimeStatus;

    use super::*;

    fn cursor(id: &str) -> Cursor {
        Cursor {
            created_at: Timestamp::parse("2026-11-22T23:40:12.1234567Z").unwrap(),
            instance: InstanceId::new(id).unwrap(),
        }
    }

    #[test]
    fn a_token_leads_back_to_its_place_and_to_no_other_listing() {
        let filter = Filter {
            statuses: vec![RuntimeStatus::Failed],
            ..Filter::default()
        };
        for id in ["a", "ab", "abc", &"x".repeat(256), "ключ"] {
            let token = Token::write(&cursor(id), &filter);
            assert!(
                token.len() <= 512 && token.bytes().all(|b| LETTERS.contains(&b)),
                "{token}"
            );
            assert_eq!(Token::read(&token, &filter), Ok(cursor(id)));
            let other = Token::read(&token, &Filter::default()).unwrap_err();
            assert_eq!(
                (other.message.as_str(), other.exit),
                ("the token belongs to a different query", 2)
            );
        }
    }

    #[test]
    fn a_token_of_a_long_id_is_short_enough_and_leads_behind_it() {
        let long = cursor(&"é€".repeat(128));
        let token = Token::write(&long, &Filter::default());
        assert!(token.len() <= 512, "{}", token.len());
        let read = Token::read(&token, &Filter::default()).unwrap();
        assert!(
            read > long && read < cursor(&"é€".repeat(80).replace('€', "ﬀ")),
            "{read:?}"
        );
    }

    #[test]
    fn a_damaged_token_is_refused() {
        let token = Token::write(&cursor("order-17"), &Filter::default());
        for broken in [
            &token[1..],
            &token[..token.len() - 20],
            &token[..token.len() - 1],
            "x",
            "",
            "a b",
            "bnVsbA",
            &token.replace('A', "*"),
        ] {
            assert_eq!(Token::read(broken, &Filter::default()).unwrap_err().exit, 2, "{broken}");
        }
    }
}
