//! Maps paths to operations (H1–H7). There is no "method not allowed": an unknown route is "not found" (H6).

use http::Method;

use super::path::{Segment, is};
use crate::auth::Need;

/// By which door a call came (H1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// `/runtime/webhooks/durabletask`.
    Webhook,
    /// `/admin/extensions/DurableTaskExtension`.
    Classic,
    /// `/durabletask`, for client libraries on the same machine.
    Rpc,
    /// `/orchestrators`, also under `/api` (H96).
    FrontDoor,
}

/// The segments of a path after the prefix of its surface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) surface: Surface,
    /// The key in the path of the RPC surface (H4).
    pub(crate) key: Option<String>,
    /// The hub in the path of the RPC surface (H4).
    pub(crate) hub: Option<String>,
    pub(crate) rest: Vec<Segment>,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The management API of Durable Functions.
    Management(Call),
    /// `/api/v1`.
    Own(Vec<Segment>),
    /// `/healthz`: is the process alive?
    Health,
    /// `/readyz`: does the hub answer?
    Ready,
    /// `/metrics`.
    Metrics,
    /// Nowhere.
    Nowhere,
}

impl Place {
    pub(crate) fn find(segments: Vec<Segment>) -> Self {
        let starts = |words: &[&str]| {
            words
                .iter()
                .enumerate()
                .all(|(index, word)| is(segments.get(index), word))
        };
        let management = |surface, skipped| {
            Self::Management(Call {
                surface,
                key: None,
                hub: None,
                rest: without_leading_slashes(segments.iter().skip(skipped).cloned().collect()),
            })
        };
        if starts(&["runtime", "webhooks", "durabletask"]) {
            management(Surface::Webhook, 3)
        } else if starts(&["admin", "extensions", "durabletaskextension"]) {
            management(Surface::Classic, 3)
        } else if starts(&["durabletask"]) {
            Self::Management(rpc(segments.into_iter().skip(1).collect()))
        } else if starts(&["orchestrators"]) {
            management(Surface::FrontDoor, 0)
        } else if starts(&["api", "orchestrators"]) {
            management(Surface::FrontDoor, 1)
        } else if starts(&["api", "v1"]) {
            Self::Own(segments.into_iter().skip(2).collect())
        } else {
            match segments.as_slice() {
                [one] if is(Some(one), "healthz") => Self::Health,
                [one] if is(Some(one), "readyz") => Self::Ready,
                [one] if is(Some(one), "metrics") => Self::Metrics,
                _ => Self::Nowhere,
            }
        }
    }
}

/// What stands behind a prefix, without slashes before it (H5): a base that ends in one, and a path that begins with
/// one, are easily put together.
fn without_leading_slashes(rest: Vec<Segment>) -> Vec<Segment> {
    let is_empty = |segment: &Segment| segment.as_deref() == Some("");
    rest.into_iter().skip_while(is_empty).collect()
}

/// Takes the options out of a path of the RPC surface (H4).
fn rpc(rest: Vec<Segment>) -> Call {
    let mut rest = without_leading_slashes(rest);
    let mut option = |mark| {
        let first = rest.first()?.as_deref()?;
        let value = first.strip_prefix(mark)?.to_owned();
        rest.remove(0);
        Some(value)
    };
    let key = option('~');
    let hub = option('@');
    Call {
        surface: Surface::Rpc,
        key,
        hub,
        rest: without_leading_slashes(rest),
    }
}

/// The requested operation; `O…` are the numbers in H5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// O1, and the first form of O16.
    Start { name: String, instance: Option<String> },
    /// The second form of O16.
    StartAndWait { name: String },
    /// O2.
    Status { instance: String },
    /// O3.
    List,
    /// O4.
    RaiseEvent { instance: String, event: String },
    /// O5.
    Terminate { instance: String },
    /// O6.
    Suspend { instance: String },
    /// O7.
    Resume { instance: String },
    /// O8 and O9, which this version cannot do.
    NotYet { what: &'static str },
    /// O10.
    PurgeOne { instance: String },
    /// O11.
    PurgeMany,
    /// O12: always "not found", because entities do not exist yet.
    ReadEntity,
    /// O13, likewise.
    ListEntities,
    /// O15.
    MakePrimary,
    /// O17.
    ClientBinding,
    /// O18.
    DeleteHub { hub: String },
}

impl Operation {
    /// The operation of a method and the rest of a path, decoded.
    pub(crate) fn find(surface: Surface, method: &Method, rest: &[String]) -> Option<Self> {
        let words: Vec<&str> = rest.iter().map(String::as_str).collect();
        let (noun, rest) = words.split_first()?;
        let noun = noun.to_ascii_lowercase();
        if surface == Surface::FrontDoor {
            return front_door(method, &noun, rest);
        }
        let owned = |text: &str| text.to_owned();
        match (method.as_str(), noun.as_str(), rest) {
            ("POST", "orchestrators", [name]) if !name.is_empty() => Some(Self::Start {
                name: owned(name),
                instance: None,
            }),
            ("POST", "orchestrators", [name, instance]) if !name.is_empty() => Some(Self::Start {
                name: owned(name),
                instance: Some(owned(instance)),
            }),
            (_, "instances", rest) => on_instances(method, rest),
            ("GET", "entities", [_name, _key]) => Some(Self::ReadEntity),
            ("GET", "entities", [] | [_]) => Some(Self::ListEntities),
            ("POST" | "DELETE", "entities", [_name, _key]) => Some(Self::NotYet { what: "Signal entity" }),
            (_, "makeprimary", []) => Some(Self::MakePrimary),
            ("GET", "clientbinding", []) => Some(Self::ClientBinding),
            ("DELETE", "taskhubs", [hub]) => Some(Self::DeleteHub { hub: owned(hub) }),
            _ => None,
        }
    }

    /// What the caller's key must open (H32).
    pub(crate) fn need(&self) -> Need {
        match self {
            Self::Status { .. } | Self::List | Self::ReadEntity | Self::ListEntities => Need::Read,
            Self::ClientBinding | Self::DeleteHub { .. } => Need::Master,
            Self::Start { .. }
            | Self::StartAndWait { .. }
            | Self::RaiseEvent { .. }
            | Self::Terminate { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::NotYet { .. }
            | Self::PurgeOne { .. }
            | Self::PurgeMany
            | Self::MakePrimary => Need::Write,
        }
    }

    /// Its name in logs and metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::StartAndWait { .. } => "start_and_wait",
            Self::Status { .. } => "status",
            Self::List => "list",
            Self::RaiseEvent { .. } => "raise_event",
            Self::Terminate { .. } => "terminate",
            Self::Suspend { .. } => "suspend",
            Self::Resume { .. } => "resume",
            Self::NotYet { .. } => "not_yet",
            Self::PurgeOne { .. } => "purge",
            Self::PurgeMany => "purge_many",
            Self::ReadEntity => "read_entity",
            Self::ListEntities => "list_entities",
            Self::MakePrimary => "make_primary",
            Self::ClientBinding => "client_binding",
            Self::DeleteHub { .. } => "delete_hub",
        }
    }
}

fn front_door(method: &Method, noun: &str, rest: &[&str]) -> Option<Operation> {
    match (method.as_str(), noun, rest) {
        ("POST", "orchestrators", [name]) if !name.is_empty() => Some(Operation::Start {
            name: (*name).to_owned(),
            instance: None,
        }),
        ("POST", "orchestrators", [name, word]) if !name.is_empty() && word.eq_ignore_ascii_case("wait") => {
            Some(Operation::StartAndWait {
                name: (*name).to_owned(),
            })
        }
        _ => None,
    }
}

fn on_instances(method: &Method, rest: &[&str]) -> Option<Operation> {
    let verb = rest.get(1).map(|verb| verb.to_ascii_lowercase());
    let instance = (*rest.first().unwrap_or(&"")).to_owned();
    match (method.as_str(), rest, verb.as_deref()) {
        ("GET", [], _) => Some(Operation::List),
        ("DELETE", [], _) => Some(Operation::PurgeMany),
        ("GET", [_], _) => Some(Operation::Status { instance }),
        ("DELETE", [_], _) => Some(Operation::PurgeOne { instance }),
        ("POST", [_, _, event], Some("raiseevent")) if !event.is_empty() => Some(Operation::RaiseEvent {
            instance,
            event: (*event).to_owned(),
        }),
        ("POST", [_, _], Some("terminate")) => Some(Operation::Terminate { instance }),
        ("POST", [_, _], Some("suspend")) => Some(Operation::Suspend { instance }),
        ("POST", [_, _], Some("resume")) => Some(Operation::Resume { instance }),
        ("POST", [_, _], Some("rewind")) => Some(Operation::NotYet { what: "Rewind" }),
        ("POST", [_, _], Some("restart")) => Some(Operation::NotYet { what: "Restart" }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::split;
    use super::*;

    fn call(path: &str) -> Option<Call> {
        match Place::find(split(path)) {
            Place::Management(call) => Some(call),
            Place::Own(_) | Place::Health | Place::Ready | Place::Metrics | Place::Nowhere => None,
        }
    }

    fn operation(method: &Method, path: &str) -> Option<Operation> {
        let call = call(path)?;
        let rest: Vec<String> = call.rest.into_iter().map(|segment| segment.unwrap()).collect();
        Operation::find(call.surface, method, &rest)
    }

    #[test]
    fn prefixes_and_words_match_in_any_case() {
        for (path, surface) in [
            ("/runtime/webhooks/durableTask/instances", Surface::Webhook),
            ("/ADMIN/Extensions/durabletaskextension/Instances/", Surface::Classic),
            ("/DurableTask//Instances", Surface::Rpc),
        ] {
            let call = call(path).unwrap();
            assert_eq!(call.surface, surface);
            assert_eq!(operation(&Method::GET, path), Some(Operation::List));
        }
    }

    #[test]
    fn slashes_matter_between_the_words_of_a_route_alone() {
        for path in [
            "//durabletask///instances//",
            "/runtime/webhooks/durabletask//instances",
            "/durabletask//~key/@TestHub//instances",
        ] {
            assert_eq!(operation(&Method::GET, path), Some(Operation::List), "{path}");
        }
        for path in ["/runtime//webhooks/durabletask/instances", "/durabletask/instances//x"] {
            assert_eq!(operation(&Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn the_rpc_surface_takes_key_and_hub_out_of_its_path() {
        let call = call("/durabletask/~s%2Fecret/@TestHub/instances/").unwrap();
        assert_eq!(
            (call.key.as_deref(), call.hub.as_deref()),
            (Some("s/ecret"), Some("TestHub"))
        );
        assert_eq!(call.rest, [Some("instances".to_owned())]);
    }

    #[test]
    fn wait_is_an_id_behind_a_prefix_and_a_verb_at_the_front_door() {
        let id = operation(&Method::POST, "/durabletask/orchestrators/X/wait");
        let instance = Some("wait".to_owned());
        assert_eq!(
            id,
            Some(Operation::Start {
                name: "X".to_owned(),
                instance
            })
        );
        for path in ["/orchestrators/X/wait", "/api/orchestrators/X/WAIT/"] {
            let verb = operation(&Method::POST, path);
            assert_eq!(verb, Some(Operation::StartAndWait { name: "X".to_owned() }));
        }
        assert_eq!(operation(&Method::POST, "/orchestrators/X/other"), None);
    }

    #[test]
    fn other_methods_and_words_are_no_routes() {
        for (method, path) in [
            (Method::GET, "/durabletask/orchestrators/X"),
            (Method::POST, "/durabletask/instances"),
            (Method::PUT, "/durabletask/instances/x"),
            (Method::POST, "/durabletask/instances/x/raiseEvent"),
            (Method::POST, "/durabletask/instances/x/raiseEvent/"),
            (Method::POST, "/durabletask/instances/x/reboot"),
            (Method::GET, "/durabletask/instances/x/terminate"),
            (Method::POST, "/durabletask/orchestrators//x"),
            (Method::GET, "/durabletask"),
        ] {
            assert_eq!(operation(&method, path), None, "{method} {path}");
        }
    }
}
