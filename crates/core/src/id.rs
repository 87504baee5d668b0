//! Names and numbers: checked newtypes, so that no bare `String` travels past the door.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::fnv::hash_128;
use crate::limits;
use crate::refusal::Refusal;

/// Name of a task hub: 3–50 ASCII letters and digits, the first a letter, compared without case (A6).
#[derive(Clone)]
pub struct HubName(Arc<str>);

impl HubName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// `invalid-hub-name` if the text breaks the rule above.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let length_fits = (limits::HUB_NAME_CHARS_MIN..=limits::HUB_NAME_CHARS_MAX).contains(&text.len());
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        if length_fits && starts_well && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text.into()))
        } else {
            Err(Refusal::InvalidHubName { given: clip(text) })
        }
    }

    /// The form that is compared and stored as key.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for HubName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for HubName {}

impl Hash for HubName {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for byte in self.0.bytes() {
            hasher.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl PartialOrd for HubName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HubName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(&other.folded())
    }
}

/// Declares a cheap-to-clone text type with the usual traits.
macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The text, byte for byte as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{:?}", &*self.0)
            }
        }
    };
}

/// Id of an instance within its hub: 1–256 characters, no control characters, not starting with
/// `@`, compared byte for byte (R1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

/// Characters that are kept of the id of a child that would be too long: there is room for a hash, and for some levels
/// below.
const DERIVED_CHARS_KEPT: usize = 200;

impl InstanceId {
    /// Checks an id.
    ///
    /// # Errors
    ///
    /// `invalid-instance-id` if the text breaks R1.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let why = if text.is_empty() {
            "it is empty"
        } else if text.chars().count() > limits::INSTANCE_ID_CHARS_MAX {
            "it has more than 256 characters"
        } else if text.chars().any(char::is_control) {
            "it contains a control character"
        } else if text.starts_with('@') {
            "ids that start with `@` are reserved for entities"
        } else {
            return Ok(Self(text.into()));
        };
        Err(Refusal::InvalidInstanceId { given: clip(text), why })
    }

    /// Checks that a new instance may have this id. `.` and `..` may be ids of stored instances, which can be looked at
    /// and removed, but not of new ones: clients take such segments out of a path, so no URL would lead to them.
    ///
    /// # Errors
    ///
    /// `invalid-instance-id` for these two.
    pub fn check_new(&self) -> Result<(), Refusal> {
        if matches!(self.as_str(), "." | "..") {
            let why = "clients take `.` and `..` out of a URL, so that none leads to the instance";
            return Err(Refusal::InvalidInstanceId {
                given: self.to_string(),
                why,
            });
        }
        Ok(())
    }

    /// The default id of a child: `parent:%04x` with the id of the action. After the first continue-as-new, the
    /// execution's ordinal and a point come before it. So neither executions nor actions collide (R70): digits before a
    /// point are an ordinal, all others an action. In a deep tree the id would become too long; then a hash replaces
    /// its end.
    pub fn derived_child(parent: &Self, ordinal: u32, action_id: i32) -> Self {
        let text = if ordinal == 0 {
            format!("{parent}:{action_id:04x}")
        } else {
            format!("{parent}:{ordinal}.{action_id:04x}")
        };
        if text.chars().count() <= limits::INSTANCE_ID_CHARS_MAX {
            return Self(text.into());
        }
        let kept: String = text.chars().take(DERIVED_CHARS_KEPT).collect();
        Self(format!("{kept}~{:032x}", hash_128(&[text.as_bytes()])).into())
    }
}

text_type!(HubName);
text_type!(InstanceId);

/// Name of an orchestrator, an activity or an event, or a version text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks a name: 1–1024 characters, none of them a control character.
    ///
    /// # Errors
    ///
    /// `invalid-name` if the text breaks the rule above.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let fits = !text.is_empty() && text.chars().count() <= limits::NAME_CHARS_MAX;
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(Refusal::InvalidName { given: clip(text) })
        }
    }

    /// A text that was checked when it was accepted and now comes back from storage.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }
}

text_type!(Name);

/// Id of one execution of an instance: 128 random bits, shown as 32 lower-case hex digits (R3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId([u8; 16]);

impl ExecutionId {
    /// Wraps 16 random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the 32-digit form; anything else is `None` (R3: such a proposal is ignored).
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32 || digits.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let value = u128::from_str_radix(text, 16).ok()?;
        Some(Self(value.to_be_bytes()))
    }

    /// The 16 bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Declares a counter that is never reset.
macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

number_type!(
    /// Key of an instance within its partition; handed out at creation, so that rows arrive in key order.
    InstanceNumber, u64
);
number_type!(
    /// Number of an inbox message, per instance and never reset (A30).
    MessageNumber, u64
);
number_type!(
    /// Number of one dispatch of a task, timer or child, per instance and never reset (R34, A30).
    Occurrence, u64
);
number_type!(
    /// Number of a commit within its partition; the partition counts, ahead of the disk (A1).
    Seq, u64
);
number_type!(
    /// The fence of a partition; grows with every claim (A21).
    Epoch, u32
);

/// Token of one hand-out of work: a number handed out before a reload is never issued again (A21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The partition's fence when the work was handed out.
    pub epoch: Epoch,
    /// Counts hand-outs within the epoch.
    pub counter: u64,
}

impl fmt::Display for Fence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.epoch, self.counter)
    }
}

/// A client's key that makes a repeated start or event a no-op within 24 hours (R83, R139).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// Checks a key: 1–256 characters.
    ///
    /// # Errors
    ///
    /// `invalid-idempotency-key` if it is empty or too long.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let chars = text.chars().count();
        if chars == 0 || chars > limits::IDEMPOTENCY_KEY_CHARS_MAX {
            return Err(Refusal::InvalidIdempotencyKey {
                given: clip(text),
                chars,
            });
        }
        Ok(Self(text.into()))
    }
}

text_type!(IdempotencyKey);

/// Shortens a caller's text for a message.
fn clip(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_id_rules() {
        assert!(InstanceId::new(&"x".repeat(256)).is_ok());
        for bad in ["", "@x", "a\nb", &"x".repeat(257)] {
            assert_eq!(InstanceId::new(bad).unwrap_err().code(), "invalid-instance-id");
        }
        assert_ne!(InstanceId::new("a").unwrap(), InstanceId::new("A").unwrap());
    }

    #[test]
    fn no_new_instance_has_an_id_that_no_url_leads_to() {
        for bad in [".", ".."] {
            let stored = InstanceId::new(bad).unwrap();
            assert_eq!(stored.check_new().unwrap_err().code(), "invalid-instance-id");
        }
        for good in ["...", ".a", "a.", "a..b", " .", "%2e"] {
            assert_eq!(InstanceId::new(good).unwrap().check_new(), Ok(()));
        }
    }

    #[test]
    fn hub_names_are_letters_and_digits_compared_without_case() {
        assert_eq!(HubName::new("SampleHub").unwrap(), HubName::new("samplehub").unwrap());
        for bad in ["ab", "1hub", "my-hub", &"x".repeat(51)] {
            assert_eq!(HubName::new(bad).unwrap_err().code(), "invalid-hub-name");
        }
    }

    #[test]
    fn execution_ids_round_trip_and_other_forms_are_ignored() {
        let id = ExecutionId::new([0x0f; 16]);
        assert_eq!(ExecutionId::parse(&id.to_string()), Some(id));
        assert_eq!(ExecutionId::parse("0F0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"), None);
        assert_eq!(ExecutionId::parse("short"), None);
    }

    #[test]
    fn a_child_without_an_id_gets_one_from_its_parent() {
        let parent = InstanceId::new("p").unwrap();
        assert_eq!(InstanceId::derived_child(&parent, 0, 26).as_str(), "p:001a");
        assert_eq!(InstanceId::derived_child(&parent, 2, 26).as_str(), "p:2.001a");
    }

    #[test]
    fn children_are_given_an_id_however_far_down_they_are() {
        for first in ["p".to_owned(), "漢".repeat(256)] {
            let mut parent = InstanceId::new(&first).unwrap();
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..1_000 {
                let children = [0, 1].map(|action| InstanceId::derived_child(&parent, 7, action));
                for child in &children {
                    assert_eq!(InstanceId::new(child.as_str()).as_ref(), Ok(child));
                    assert!(child.as_str().starts_with(&first[..1.max(first.len() / 2)]));
                    assert!(seen.insert(child.clone()), "`{child}` twice");
                }
                let [_, last] = children;
                parent = last;
            }
        }
    }

    #[test]
    fn ids_that_children_are_given_never_meet() {
        let mut parents = vec![InstanceId::new("p").unwrap(), InstanceId::new("q:1000").unwrap()];
        let mut seen: std::collections::BTreeSet<_> = parents.iter().cloned().collect();
        for depth in 0..2 {
            let mut children = Vec::new();
            for parent in &parents {
                for ordinal in [0, 1, 16, 1000, 4096, 0x1000_0001, u32::MAX] {
                    for action in [0, 1, 10, 16, 1000, 4096, 0x0010_0001, i32::MAX, -1, i32::MIN] {
                        let child = InstanceId::derived_child(parent, ordinal, action);
                        assert!(seen.insert(child.clone()), "`{child}` twice, at depth {depth}");
                        children.push(child);
                    }
                }
            }
            parents = children;
        }
    }
}
