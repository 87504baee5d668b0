//! Ids of new instances: which are made, and which are accepted over HTTP.

use taskhub_core::id::InstanceId;
use taskhub_core::refusal::Refusal;
use uuid::Uuid;

/// The id of an instance that was given none: random, or the same for the same idempotency key, so that a repetition meets
/// the same partition (H22, A31).
///
/// # Errors
///
/// None in fact: 32 hexadecimal digits are an id.
pub fn fresh(key: Option<&str>) -> Result<InstanceId, Refusal> {
    let id = key.map_or_else(Uuid::new_v4, |key| Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()));
    InstanceId::new(&id.simple().to_string())
}

/// Why a text cannot be the id of a new instance over HTTP (R1, H21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadId {
    /// It begins with `@`, which is for entities.
    Entity,
    /// It has a character that would break a path, or a control character.
    Character(char),
    /// It is `.` or `..`, to which no URL leads.
    Dots,
    /// It is empty or longer than an id may be.
    Length,
}

/// The id that a text is for a new instance.
///
/// # Errors
///
/// If the id is invalid, or if no URL could address it.
pub fn check(text: &str) -> Result<InstanceId, BadId> {
    if text.starts_with('@') {
        return Err(BadId::Entity);
    }
    if let Some(character) = forbidden(text) {
        return Err(BadId::Character(character));
    }
    if matches!(text, "." | "..") {
        return Err(BadId::Dots);
    }
    InstanceId::new(text).map_err(|_| BadId::Length)
}

/// The first character of a text that ids may not have over HTTP, where it would break paths (H21).
pub fn forbidden(text: &str) -> Option<char> {
    let breaks_paths = |character: &char| "/\\#?".contains(*character) || character.is_control();
    text.chars().find(breaks_paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_checked_for_what_a_url_cannot_hold() {
        assert_eq!(check("order 17 ü"), Ok(InstanceId::new("order 17 ü").unwrap()));
        for (text, why) in [
            ("@counter@1", BadId::Entity),
            ("a/b", BadId::Character('/')),
            ("a\\b", BadId::Character('\\')),
            ("a#", BadId::Character('#')),
            ("?", BadId::Character('?')),
            ("a\nb", BadId::Character('\n')),
            ("..", BadId::Dots),
            ("", BadId::Length),
            (&"x".repeat(257), BadId::Length),
        ] {
            assert_eq!(check(text), Err(why), "{text}");
        }
    }

    #[test]
    fn an_id_is_random_or_follows_from_the_key() {
        assert_eq!(fresh(Some("one")), fresh(Some("one")));
        assert_ne!(fresh(Some("one")), fresh(Some("other")));
        assert_ne!(fresh(None), fresh(None));
        assert_eq!(fresh(None).unwrap().as_str().len(), 32);
    }
}
