//! Moments on the HTTP surfaces: two printed forms, and the one reader of both (H44).

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use std::borrow::Cow;
use std::time::Duration;

use taskhub_core::time::Timestamp;

/// The unit of [`Timestamp`].
const TICK: Duration = Duration::from_nanos(100);

/// A moment for tools: up to seven digits of a second, without zeros at the end.
pub fn fine(moment: Timestamp) -> String {
    let mut text = moment.to_string();
    let digits = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    text.truncate(digits.len());
    text.push('Z');
    text
}

/// A moment for people: whole seconds, cut and not rounded.
pub fn whole(moment: Timestamp) -> String {
    let mut text = moment.to_string();
    text.truncate(text.find('.').unwrap_or(text.len()));
    text.push('Z');
    text
}

/// The moment that a surface printed, in either form.
pub fn read(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text)
}

/// The first moment that is not included where `last` is the last one that is: what filters of lists count with.
pub fn just_after(last: Timestamp) -> Timestamp {
    last.plus(TICK)
}

/// The last moment that is included where `end` is the first one that is not.
pub fn just_before(end: Timestamp) -> Timestamp {
    Timestamp::from_ticks(end.ticks() - 1)
}

/// Writes a moment for tools.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands members over like this")]
pub(crate) fn serialize<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&fine(*moment))
}

/// Reads a moment.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    read(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "invalid time `{text}`: expected a time such as 2026-01-31T12:00:00Z"
        ))
    })
}

/// A moment that is written in whole seconds.
pub(crate) mod seconds {
    use super::{Serializer, Timestamp, whole};

    pub(crate) use super::deserialize;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands members over like this")]
    pub(crate) fn serialize<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&whole(*moment))
    }
}

/// A moment that may be absent, which is `null`.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    #[expect(clippy::ref_option, reason = "serde hands members over like this")]
    pub(crate) fn serialize<S: Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match moment {
            Some(moment) => super::serialize(moment, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        #[derive(Deserialize)]
        struct Read(#[serde(deserialize_with = "super::deserialize")] Timestamp);
        Ok(Option::<Read>::deserialize(deserializer)?.map(|Read(moment)| moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_for_people_and_kept_for_tools() {
        for (moment, shown, cut) in [
            (
                "2018-02-28T05:18:59.9990000Z",
                "2018-02-28T05:18:59.999Z",
                "2018-02-28T05:18:59Z",
            ),
            ("2018-02-28T05:10:00Z", "2018-02-28T05:10:00Z", "2018-02-28T05:10:00Z"),
            (
                "2018-02-28T05:10:00.0000001Z",
                "2018-02-28T05:10:00.0000001Z",
                "2018-02-28T05:10:00Z",
            ),
            (
                "9999-12-30T23:59:59.9999999Z",
                "9999-12-30T23:59:59.9999999Z",
                "9999-12-30T23:59:59Z",
            ),
        ] {
            let moment = Timestamp::parse(moment).unwrap();
            assert_eq!((fine(moment).as_str(), whole(moment).as_str()), (shown, cut));
            assert_eq!(read(&fine(moment)), Some(moment));
        }
    }

    #[test]
    fn an_inclusive_end_is_a_tick_before_the_exclusive_one() {
        let last = Timestamp::parse("2018-02-28T05:18:59Z").unwrap();
        assert_eq!(fine(just_after(last)), "2018-02-28T05:18:59.0000001Z");
        assert_eq!(just_before(just_after(last)), last);
    }
}
