//! Who may do what: keys, compared in constant time and never logged (H30–H33).

use std::hint::black_box;

use taskhub_core::id::HubName;

use crate::config::Key;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Looks at instances.
    Read,
    /// Changes them.
    Write,
    /// Changes the hub, or shows keys.
    Master,
}

/// Why a call may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No key, or one that opens nothing: 401.
    Unknown,
    /// A valid key that does not open this: 403.
    NotAllowed,
}

/// What the caller may do.
#[derive(Clone, Debug)]
pub(crate) enum Grant {
    /// No keys are configured.
    Open,
    /// On this machine, without a key: everything but what needs the master key.
    Local,
    /// A key.
    Key(Key),
}

impl Grant {
    /// Whether no key was needed.
    pub(crate) fn is_keyless(&self) -> bool {
        matches!(self, Self::Open | Self::Local)
    }

    /// Whether it opens what a call needs, in this hub.
    pub(crate) fn check(&self, need: Need, hub: &HubName) -> Result<(), Denied> {
        let key = match self {
            // A call that requires the master key has no key.
            Self::Local if need == Need::Master => return Err(Denied::Unknown),
            Self::Open | Self::Local => return Ok(()),
            Self::Key(key) => key,
        };
        // A system key is simply the wrong one where the master key is wanted.
        if need == Need::Master && !key.is_master {
            return Err(Denied::Unknown);
        }
        let hub_fits = key.hub.as_ref().is_none_or(|only| only == hub);
        if !hub_fits || (key.is_read_only && need != Need::Read) {
            return Err(Denied::NotAllowed);
        }
        Ok(())
    }
}

/// The keys that are valid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Vec<Key>);

impl Keys {
    pub(crate) fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the key in this place opens, which is the one that was presented.
    pub(crate) fn admit(&self, place: Option<usize>) -> Result<Grant, Denied> {
        if self.is_empty() {
            return Ok(Grant::Open);
        }
        let key = place.and_then(|place| self.0.get(place));
        key.cloned().map(Grant::Key).ok_or(Denied::Unknown)
    }

    /// The place of a key among the valid ones. All of them are compared, so that time tells nothing.
    pub(crate) fn place(&self, presented: &str) -> Option<usize> {
        let mut found = None;
        for (place, key) in self.0.iter().enumerate() {
            if is_same(key.value.as_bytes(), presented.as_bytes()) && !key.value.is_empty() {
                found = Some(place);
            }
        }
        found
    }

    /// The key that links carry: the first system key that opens the hub, and no more than the caller's own does (H31).
    /// Links are handed on; neither the caller's key nor the master key is.
    pub(crate) fn for_links(&self, hub: &HubName, grant: &Grant) -> Option<&str> {
        let fits = |key: &&Key| {
            let opens = !key.is_master && key.hub.as_ref().is_none_or(|only| only == hub);
            opens
                && match grant {
                    Grant::Key(own) => {
                        let is_within = own.hub.is_none() || key.hub == own.hub;
                        is_within && key.is_read_only == own.is_read_only
                    }
                    Grant::Open | Grant::Local => !key.is_read_only,
                }
        };
        self.0.iter().find(fits).map(|key| key.value.as_str())
    }
}

/// Compares without stopping at the first difference.
fn is_same(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = u8::from(secret.len() != given.len());
    for (index, byte) in secret.iter().enumerate() {
        let other = given.get(index).copied().unwrap_or_default();
        difference |= black_box(byte ^ other);
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(name: &str) -> HubName {
        HubName::new(name).unwrap()
    }

    #[test]
    fn without_keys_everything_is_open() {
        let grant = Keys::default().admit(None).unwrap();
        assert_eq!(grant.check(Need::Master, &hub("HubA")), Ok(()));
    }

    #[test]
    fn a_key_opens_what_it_is_for() {
        let keys = Keys::new(vec![
            Key::system("s1"),
            Key::system("reader").read_only(),
            Key::system("a-only").for_hub(hub("HubA")),
            Key::master("m"),
        ]);
        let can = |key: &str, need, name: &str| {
            keys.admit(keys.place(key))
                .and_then(|grant| grant.check(need, &hub(name)))
        };
        assert_eq!(can("s1", Need::Write, "HubB"), Ok(()));
        assert_eq!(can("s1", Need::Master, "HubB"), Err(Denied::Unknown));
        assert_eq!(can("m", Need::Master, "HubB"), Ok(()));
        assert_eq!(can("reader", Need::Read, "HubB"), Ok(()));
        assert_eq!(can("reader", Need::Write, "HubB"), Err(Denied::NotAllowed));
        assert_eq!(can("a-only", Need::Write, "huba"), Ok(()));
        assert_eq!(can("a-only", Need::Write, "HubB"), Err(Denied::NotAllowed));
        for wrong in ["", "s", "s11", "S1"] {
            assert_eq!(can(wrong, Need::Read, "HubA"), Err(Denied::Unknown));
        }
        let link = |key: &str, name: &str| {
            let grant = keys.admit(keys.place(key)).unwrap();
            keys.for_links(&hub(name), &grant).map(str::to_owned)
        };
        assert_eq!(keys.for_links(&hub("HubB"), &Grant::Local), Some("s1"));
        for (caller, carried) in [("s1", "s1"), ("m", "s1"), ("reader", "reader"), ("a-only", "a-only")] {
            assert_eq!(link(caller, "HubA").as_deref(), Some(carried), "{caller}");
        }
        let keys = Keys::new(vec![Key::master("m"), Key::system("reader").read_only()]);
        let grant = keys.admit(keys.place("m")).unwrap();
        assert_eq!(keys.for_links(&hub("HubA"), &grant), None, "never the master key");
    }

    #[test]
    fn an_empty_key_opens_nothing() {
        let keys = Keys::new(vec![Key::system("")]);
        assert_eq!(keys.admit(None).unwrap_err(), Denied::Unknown);
    }
}
