//! Continuation tokens: where the next page begins, as opaque text that survives restarts (H77). The
//! command line gives out and takes the same ones, so this is open to it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use taskhub_core::id::{HubName, InstanceId};
use taskhub_core::query::{Cursor, Filter};
use taskhub_core::time::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

/// Form of the token. A later version that needs another one reads both.
const FORM: u8 = 1;

const TICKS_BYTES: usize = 8;
const CHECK_BYTES: usize = 4;

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The token was not issued by this program, or was truncated or altered.
    Unreadable,
    /// It was given out for another filter, or in another hub.
    OtherFilter,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Unreadable => "invalid continuation token: damaged, or not issued by Taskhub",
            Self::OtherFilter => "the continuation token belongs to a different query",
        })
    }
}

/// The token of a place between two rows of a listing of a hub.
pub fn write(cursor: &Cursor, hub: &HubName, filter: &Filter) -> String {
    let mut bytes = vec![FORM];
    bytes.extend(print(hub, filter));
    bytes.extend(cursor.created_at.ticks().to_be_bytes());
    bytes.extend(cursor.instance.as_str().as_bytes());
    bytes.extend(check(&bytes));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place a token stands for.
///
/// # Errors
///
/// If it is not one that was given out for this filter, in this hub.
pub fn read(token: &str, hub: &HubName, filter: &Filter) -> Result<Cursor, Refused> {
    let (printed, cursor) = parse(token).ok_or(Refused::Unreadable)?;
    if printed == print(hub, filter) {
        Ok(cursor)
    } else {
        Err(Refused::OtherFilter)
    }
}

fn parse(token: &str) -> Option<([u8; CHECK_BYTES], Cursor)> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
    let [FORM, rest @ ..] = body else { return None };
    let (printed, rest) = rest.split_first_chunk::<CHECK_BYTES>()?;
    let (ticks, id) = rest.split_first_chunk::<TICKS_BYTES>()?;
    if check(body) != sum {
        return None;
    }
    let cursor = Cursor {
        created_at: Timestamp::from_ticks(i64::from_be_bytes(*ticks)),
        instance: InstanceId::new(std::str::from_utf8(id).ok()?).ok()?,
    };
    Some((*printed, cursor))
}

/// What tells one query from another. The order in which statuses are named does not matter.
fn print(hub: &HubName, filter: &Filter) -> [u8; CHECK_BYTES] {
    let mut bytes = hub.folded().into_bytes();
    for moment in [filter.created_from, filter.created_before] {
        bytes.extend(moment.map_or(i64::MIN, Timestamp::ticks).to_be_bytes());
    }
    let mut statuses: Vec<u8> = filter.statuses.iter().map(|status| status.number()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    bytes.extend(statuses);
    for text in [&filter.name, &filter.id_prefix] {
        // 0xff is in no text, so two texts cannot be taken for two others.
        bytes.push(0xff);
        bytes.extend(text.iter().flat_map(|text| text.bytes()));
    }
    check(&bytes)
}

/// Tells a token that was cut or changed on its way.
fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let [a, b, c, d, ..] = xxh3_64(bytes).to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> HubName {
        HubName::new("Orders").unwrap()
    }

    #[test]
    fn a_token_comes_back_as_the_place_it_was_made_of() {
        let cursor = Cursor {
            created_at: Timestamp::from_micros(1_700_000_000_000_001),
            instance: InstanceId::new("order-17 ü").unwrap(),
        };
        let filter = Filter::default();
        let token = write(&cursor, &hub(), &filter);
        assert!(
            token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert_eq!(read(&token, &hub(), &filter), Ok(cursor));
    }

    #[test]
    fn the_longest_plain_id_fits_into_the_limit() {
        let cursor = Cursor {
            created_at: Timestamp::MAX,
            instance: InstanceId::new(&"x".repeat(256)).unwrap(),
        };
        assert!(write(&cursor, &hub(), &Filter::default()).len() <= 512);
    }

    #[test]
    fn altered_tokens_are_none() {
        let cursor = Cursor {
            created_at: Timestamp::from_micros(7),
            instance: InstanceId::new("a").unwrap(),
        };
        let filter = Filter::default();
        let token = write(&cursor, &hub(), &filter);
        for at in 0..token.len() {
            let mut altered: Vec<u8> = token.bytes().collect();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                read(&String::from_utf8(altered).unwrap(), &hub(), &filter),
                Err(Refused::Unreadable),
                "at {at}"
            );
        }
        for other in ["", "!", "AAAA", &token[1..]] {
            assert_eq!(read(other, &hub(), &filter), Err(Refused::Unreadable));
        }
    }

    #[test]
    fn a_token_belongs_to_its_filter() {
        let cursor = Cursor {
            created_at: Timestamp::from_micros(7),
            instance: InstanceId::new("a").unwrap(),
        };
        let named = |name: &str, prefix: &str| Filter {
            name: Some(name.to_owned()),
            id_prefix: Some(prefix.to_owned()),
            ..Filter::default()
        };
        let token = write(&cursor, &hub(), &named("ab", "c"));
        assert!(read(&token, &hub(), &named("ab", "c")).is_ok());
        for other in [named("a", "bc"), named("ab", ""), Filter::default()] {
            assert_eq!(read(&token, &hub(), &other), Err(Refused::OtherFilter));
        }
        let elsewhere = HubName::new("Others").unwrap();
        assert_eq!(read(&token, &elsewhere, &named("ab", "c")), Err(Refused::OtherFilter));
        let same = HubName::new("ORDERS").unwrap();
        assert!(read(&token, &same, &named("ab", "c")).is_ok());
    }
}
