//! The name of the hub (L23, L26). The server uses the same function, so that both always agree.

use taskhub_core::id::HubName;

use super::connection::Place;
use super::host_json::Host;
use super::settings::Settings;
use crate::stop::{Result, Stop, exit};
use crate::world::World;

/// The name when nobody says one.
pub(crate) const DEFAULT: &str = "DurableFunctionsHub";

/// The first that says a name, and whether nobody did.
pub(crate) fn find(
    world: &World,
    option: Option<&str>,
    host: &Host,
    _settings: &Settings,
    place: &Place,
) -> Result<(HubName, bool)> {
    let said = match option.or_else(|| world.filled("TASKHUB_NAME")) {
        Some(name) => Some(name.to_owned()),
        // An override by the environment is part of it (L54).
        None => host.text("hubName")?.filter(|name| !name.is_empty()),
    };
    // The connection of a hosted scheduler may name a hub (L20).
    let said = said.or_else(|| place.hub().map(str::to_owned));
    match said {
        Some(name) => Ok((check(&name)?, false)),
        None => Ok((check(DEFAULT)?, true)),
    }
}

/// Checks a name; what is said of a bad one is Core Tools' (L26).
pub(crate) fn check(name: &str) -> Result<HubName> {
    HubName::new(name).map_err(|_| {
        let message = format!(
            "Task hub name '{name}' should contain only alphanumeric characters, start with a letter, and have length \
             between 3 and 45."
        );
        Stop::plain(exit::USAGE, "invalid-hub-name", message)
    })
}
