//! Rows of `seen_key`: idempotency keys, and what they were used for (R83).

use taskhub_core::fold::FoldedName;
use taskhub_core::id::{IdempotencyKey, Name};
use taskhub_core::seen::{KeyUse, Operation, SeenKey};
use taskhub_core::time::Timestamp;

use super::Contradiction;
use super::record::Key;
use super::sums::Words;

/// The checksum of an idempotency key.
pub(crate) fn key_words(key: Key, seq: i64, until: i64) -> Words<3> {
    Words::new([key.0, seq, until])
}

/// Separates the parts of a stored key. Names have no control characters, and the key itself comes last.
const KEY_MARK: char = '\u{1}';

/// A key with what it was used for: mark, letter of the operation, digest, mark, name, mark, key. A text without the
/// mark in front is a bare key, which is all that was stored at first.
pub(crate) fn write_key(seen: &SeenKey) -> String {
    let key = seen.key.as_str();
    let Some(used) = &seen.used else {
        return key.to_owned();
    };
    let operation = match used.operation {
        Operation::Start => 's',
        Operation::Raise => 'r',
    };
    let (name, digest) = (used.name.name(), used.digest);
    format!("{KEY_MARK}{operation}{digest:016x}{KEY_MARK}{name}{KEY_MARK}{key}")
}

/// Reads a stored key.
pub(crate) fn read_key(text: &str, until: i64) -> Result<SeenKey, Contradiction> {
    let bad = |what: &str| Contradiction(format!("a stored idempotency key {what}"));
    let (used, key) = match text.strip_prefix(KEY_MARK) {
        None => (None, text),
        Some(marked) => {
            let mut parts = marked.splitn(3, KEY_MARK);
            let (Some(head), Some(name), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(bad("lacks a part"));
            };
            let (operation, digest) = match head.split_at_checked(1) {
                Some(("s", digest)) => (Operation::Start, digest),
                Some(("r", digest)) => (Operation::Raise, digest),
                _ => return Err(bad("has no operation")),
            };
            let digest = u64::from_str_radix(digest, 16).map_err(|_| bad("has no digest"))?;
            let name = FoldedName::new(Name::stored(name));
            (
                Some(KeyUse {
                    operation,
                    name,
                    digest,
                }),
                key,
            )
        }
    };
    let key = IdempotencyKey::new(key).map_err(|refusal| bad(&format!("is invalid: {refusal}")))?;
    Ok(SeenKey {
        key,
        used,
        until: Timestamp::from_ticks(until),
    })
}
