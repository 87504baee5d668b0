//! Continuation tokens: where the next page begins, as opaque text that survives restarts (H77).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use taskhub_core::id::InstanceId;
use taskhub_core::query::Cursor;
use taskhub_core::time::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

/// Form of the token. A later version that needs another one reads both.
const FORM: u8 = 1;

const TICKS_BYTES: usize = 8;
const CHECK_BYTES: usize = 4;

/// The token of a place between two rows.
pub(crate) fn write(cursor: &Cursor) -> String {
    let mut bytes = vec![FORM];
    bytes.extend(cursor.created_at.ticks().to_be_bytes());
    bytes.extend(cursor.instance.as_str().as_bytes());
    bytes.extend(check(&bytes));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place a token stands for; absent if it is none of ours, or altered.
pub(crate) fn read(token: &str) -> Option<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
    let [FORM, rest @ ..] = body else { return None };
    let (ticks, id) = rest.split_first_chunk::<TICKS_BYTES>()?;
    if check(body) != sum {
        return None;
    }
    Some(Cursor {
        created_at: Timestamp::from_ticks(i64::from_be_bytes(*ticks)),
        instance: InstanceId::new(std::str::from_utf8(id).ok()?).ok()?,
    })
}

/// Tells a token that was cut or changed on its way.
fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let [a, b, c, d, ..] = xxh3_64(bytes).to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_the_place_it_was_made_of() {
        let cursor = Cursor {
            created_at: Timestamp::from_micros(1_700_000_000_000_001),
            instance: InstanceId::new("order-17 ü").unwrap(),
        };
        let token = write(&cursor);
        assert!(
            token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert_eq!(read(&token), Some(cursor));
    }

    #[test]
    fn the_longest_plain_id_fits_into_the_limit() {
        let cursor = Cursor {
            created_at: Timestamp::MAX,
            instance: InstanceId::new(&"x".repeat(256)).unwrap(),
        };
        assert!(write(&cursor).len() <= 512);
    }

    #[test]
    fn altered_tokens_are_none() {
        let cursor = Cursor {
            created_at: Timestamp::from_micros(7),
            instance: InstanceId::new("a").unwrap(),
        };
        let token = write(&cursor);
        for at in 0..token.len() {
            let mut altered: Vec<u8> = token.bytes().collect();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(read(&String::from_utf8(altered).unwrap()), None, "at {at}");
        }
        for other in ["", "!", "AAAA", &token[1..]] {
            assert_eq!(read(other), None);
        }
    }
}
