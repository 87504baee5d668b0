//! The name of the hub (L23, L26). The server uses the same function, so that both always agree.

use taskhub_core::id::HubName;

use super::connection::Place;
use super::host_json::Host;
use crate::stop::{Result, Stop, exit};
use crate::world::World;

/// The default name.
pub(crate) const DEFAULT: &str = "DurableFunctionsHub";

/// The name that an option, the environment or host.json says.
pub(crate) fn said(world: &World, option: Option<&str>, host: &Host) -> Result<Option<HubName>> {
    if let Some(name) = option {
        return check(name).map(Some);
    }
    if let Some(name) = world.filled("TASKHUB_NAME") {
        let told = |stop: Stop| stop.hint("the name comes from the variable TASKHUB_NAME");
        return check(name).map(Some).map_err(told);
    }
    // An override by the environment is part of it (L54).
    let name = host.text("hubName")?.filter(|name| !name.is_empty());
    let told = |stop: Stop| stop.hint("the name comes from host.json, or from a variable that overrides it");
    name.map(|name| check(&name)).transpose().map_err(told)
}

/// The name, and whether it is the default; the connection string of a hosted scheduler can contain a name (L20).
pub(crate) fn or_default(said: Option<HubName>, place: &Place) -> Result<(HubName, bool)> {
    let said = match (said, place.hub()) {
        (None, Some(name)) => {
            let told = |stop: Stop| stop.hint("the name comes from the connection string");
            Some(check(name).map_err(told)?)
        }
        (said, _) => said,
    };
    match said {
        Some(name) => Ok((name, false)),
        None => Ok((check(DEFAULT)?, true)),
    }
}

/// The error for a missing default hub in a store with other hubs, such as `first`, so that it is not created by
/// mistake (L24). `option` is the option that names a hub.
pub(crate) fn none_by_default(hub: &HubName, others: &str, first: &HubName, option: &str) -> Stop {
    let message = format!("task hub '{hub}' does not exist here, and nothing names another; this store has {others}");
    Stop::error(exit::NOT_FOUND, "hub-not-found", message)
        .hint(format!("say which is meant, such as `{option} {first}`"))
        .hint(format!("to make a new one as well, say `{option} {hub}`"))
}

/// Checks a name; the error text is that of Core Tools (L26).
pub(crate) fn check(name: &str) -> Result<HubName> {
    HubName::new(name).map_err(|_| {
        let message = format!(
            "Task hub name '{name}' should contain only alphanumeric characters, start with a letter, and have length \
             between 3 and 45."
        );
        Stop::plain(exit::USAGE, "invalid-hub-name", message)
    })
}
