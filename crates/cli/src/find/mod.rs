//! Which store and which hub a command is about (cli.md §3). It reads settings and folders and decides; it
//! opens nothing.
//!
//! ```text
//!   options · environment · host.json · local.settings.json ──▶ Found { where, hub, settings of the host }
//! ```

pub(crate) mod connection;
pub(crate) mod host_json;
pub(crate) mod hub_name;
pub(crate) mod jsonc;
pub(crate) mod running;
pub(crate) mod settings;

use std::path::{Path, PathBuf};

use taskhub_core::id::HubName;

use crate::screen::Screen;
use crate::stop::{Result, Stop, exit};
use crate::world::World;
use connection::Place;
use host_json::Host;
use settings::Settings;

/// Name of the setting that holds the connection, unless something says otherwise (L18).
pub(crate) const SETTING: &str = "AzureWebJobsStorage";
/// Setting of a hosted scheduler (L22).
const SCHEDULER_SETTING: &str = "DURABLE_TASK_SCHEDULER_CONNECTION_STRING";
/// Folder of a project's store (A12).
pub(crate) const STORE_FOLDER: &str = ".taskhub";

/// What the command line says of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// `--server`.
    pub(crate) server: Option<String>,
    /// `--store`.
    pub(crate) store: Option<String>,
    /// `--connection-string-setting`.
    pub(crate) setting: Option<String>,
    /// `--task-hub-name`.
    pub(crate) hub: Option<String>,
    /// Whether what was used is said.
    pub(crate) is_verbose: bool,
    /// The key of the server.
    pub(crate) key: Option<String>,
    /// Whether this is for a server, which is not looked for at another one.
    pub(crate) is_for_server: bool,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where the hub is.
    pub(crate) place: Place,
    /// Its name.
    pub(crate) hub: HubName,
    /// The key that was given for a server.
    pub(crate) key: Option<String>,
    /// Whether nobody said the name (L24).
    pub(crate) hub_is_default: bool,
    /// Whether a running server is used only because it is the only one (L15).
    pub(crate) is_by_chance: bool,
    /// Whether nothing said which store is meant.
    pub(crate) store_is_default: bool,
    /// The project's host.json.
    pub(crate) host: Host,
    /// The project's settings.
    pub(crate) settings: Settings,
}

/// Finds store and hub.
pub(crate) fn find(world: &World, wishes: &Wishes, screen: &mut Screen) -> Result<Found> {
    if world.filled("TASKHUB_PROFILE").is_some() {
        return Err(Stop::not_yet("a profile (TASKHUB_PROFILE)"));
    }
    let project = project(&world.folder);
    let settings = Settings::read(world, project.as_deref());
    let host = Host::read(world, project.as_deref(), &settings)?;
    let search = Search {
        world,
        wishes,
        project: project.as_deref(),
        host: &host,
        settings: &settings,
    };
    if wishes.is_verbose {
        search.tell_of_files(screen);
    }
    let (place, origin) = search.place(screen)?;
    let (hub, hub_is_default) = hub_name::find(world, wishes.hub.as_deref(), &host, &settings, &place)?;
    if wishes.is_verbose {
        let place = place.shown();
        screen.tell(&format!("using task hub {hub} {place}"));
    }
    Ok(Found {
        place,
        hub,
        hub_is_default,
        key: wishes.key.clone(),
        is_by_chance: origin == Origin::OnlyServer,
        store_is_default: origin == Origin::Default,
        host,
        settings,
    })
}

/// What said where the hub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Somebody.
    Said,
    /// A server is the only one that runs here.
    OnlyServer,
    /// Nobody.
    Default,
}

/// The nearest folder, upwards, with host.json or local.settings.json (L17).
fn project(from: &Path) -> Option<PathBuf> {
    let is_root = |folder: &&Path| {
        ["host.json", "local.settings.json"]
            .iter()
            .any(|file| folder.join(file).is_file())
    };
    from.ancestors().find(is_root).map(Path::to_owned)
}

struct Search<'a> {
    world: &'a World,
    wishes: &'a Wishes,
    project: Option<&'a Path>,
    host: &'a Host,
    settings: &'a Settings,
}

impl Search<'_> {
    fn tell_of_files(&self, screen: &mut Screen) {
        match self.project {
            Some(folder) if folder.join("host.json").is_file() => {
                screen.tell(&format!("using {}", folder.join("host.json").display()));
            }
            _ => screen.tell("Could not find local host metadata file 'host.json'"),
        }
        if let Some(folder) = self
            .project
            .filter(|folder| folder.join("local.settings.json").is_file())
        {
            screen.tell(&format!("using {}", folder.join("local.settings.json").display()));
        }
    }

    /// The first that matches (L15).
    fn place(&self, screen: &mut Screen) -> Result<(Place, Origin)> {
        let place = match (&self.wishes.server, &self.wishes.store) {
            (Some(_), Some(_)) => return Err(Stop::usage("`--server` and `--store` exclude each other")),
            (Some(url), None) => Some(Place::server(url)?),
            (None, Some(store)) => Some(connection::of_store_option(store, self.world)?),
            (None, None) => None,
        };
        if let Some(place) = place {
            return Ok((place, Origin::Said));
        }
        if let Some(name) = &self.wishes.setting {
            return Ok((self.of_setting(name, screen)?, Origin::Said));
        }
        match (self.world.filled("TASKHUB_SERVER"), self.world.filled("TASKHUB_STORE")) {
            (Some(_), Some(_)) => return Err(Stop::usage("TASKHUB_SERVER and TASKHUB_STORE exclude each other")),
            (Some(url), None) => return Ok((Place::server(url)?, Origin::Said)),
            (None, Some(store)) => return Ok((connection::of_store_option(store, self.world)?, Origin::Said)),
            (None, None) => {}
        }
        self.host.refuse_other_providers()?;
        if let Some(name) = self.host.setting_name()? {
            return Ok((self.of_setting(&name, screen)?, Origin::Said));
        }
        let is_hosted = self.host.is_hosted_scheduler()?;
        let name = if is_hosted { SCHEDULER_SETTING } else { SETTING };
        if is_hosted || self.settings.value(name)?.is_some() {
            return Ok((self.of_setting(name, screen)?, Origin::Said));
        }
        if let Some(folder) = self.host.data_path()? {
            return Ok((Place::embedded(self.at_project().join(folder)), Origin::Said));
        }
        let has_store = |folder: &&Path| folder.join(STORE_FOLDER).is_dir();
        if let Some(folder) = self.world.folder.ancestors().find(has_store) {
            return Ok((Place::embedded(folder.join(STORE_FOLDER)), Origin::Said));
        }
        if !self.wishes.is_for_server
            && let Some(place) = self.only_server(screen)?
        {
            return Ok((place, Origin::OnlyServer));
        }
        Ok((Place::embedded(self.at_project().join(STORE_FOLDER)), Origin::Default))
    }

    fn at_project(&self) -> &Path {
        self.project.unwrap_or(&self.world.folder)
    }

    fn of_setting(&self, name: &str, screen: &mut Screen) -> Result<Place> {
        self.host.refuse_other_providers()?;
        let Some(value) = self.settings.value(name)? else {
            return Err(self.no_connection(name));
        };
        if self.wishes.is_verbose {
            screen.tell(&format!("using the connection in setting '{name}'"));
        }
        let own_folder = self.host.data_path()?.unwrap_or_else(|| STORE_FOLDER.to_owned());
        let project = self.at_project();
        let read = connection::Reading {
            name,
            project,
            own_folder: project.join(own_folder),
            wants_azure: self.host.wants_azure()?,
        };
        let place = read.place(&value)?;
        let is_development = connection::is_development(&value);
        if let Place::Embedded { folder } = &place
            && is_development
            && (self.wishes.is_verbose || !folder.exists())
        {
            screen.note(&format!(
                "UseDevelopmentStorage=true means the store in {}",
                folder.display()
            ));
        }
        Ok(place)
    }

    /// L21.
    fn no_connection(&self, name: &str) -> Stop {
        let file = self.at_project().join("local.settings.json");
        let looked = format!(
            "looked for setting '{name}' in the environment and in {}",
            file.display()
        );
        let found = if self.settings.is_blank(name) {
            ", where it is empty"
        } else {
            ""
        };
        let stop = Stop::plain(exit::FAILED, "configuration", "No storage connection string found.");
        let stop = stop.hint(looked + found);
        if self.settings.has_identity(name) {
            stop.hint("identity-based connections are not supported")
        } else {
            stop
        }
    }

    /// The only running server of this user on this machine.
    fn only_server(&self, screen: &mut Screen) -> Result<Option<Place>> {
        let servers = running::all(self.world);
        match servers.as_slice() {
            [] => Ok(None),
            [only] => {
                let note = format!(
                    "using the server at {} (process {}, hub {})",
                    only.url(),
                    only.pid,
                    only.hub
                );
                screen.note(&note);
                Ok(Some(Place::of_running(only)))
            }
            several => {
                let list: Vec<String> = several
                    .iter()
                    .map(|one| format!("{} (process {}, hub {})", one.url(), one.pid, one.hub))
                    .collect();
                let message = format!("{} servers run here: {}", several.len(), list.join(", "));
                Err(Stop::error(exit::FAILED, "configuration", message).hint("name one with `--server URL`"))
            }
        }
    }
}
