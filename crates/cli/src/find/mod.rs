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

use std::fs::Metadata;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use taskhub_core::id::HubName;

use crate::screen::Screen;
use crate::stop::{Result, Stop, exit};
use crate::world::World;
use connection::Place;
use host_json::Host;
use running::{Project, Running};
use settings::Settings;

/// Name of the setting that holds the connection, unless something says otherwise (L18).
pub(crate) const SETTING: &str = "AzureWebJobsStorage";
/// Setting of a hosted scheduler (L22).
const SCHEDULER_SETTING: &str = "DURABLE_TASK_SCHEDULER_CONNECTION_STRING";
/// Folder of a project's store (A12).
pub(crate) const STORE_FOLDER: &str = ".taskhub";
/// Servers that a hint names, at most.
const SERVERS_SHOWN: usize = 5;

/// What the command line says of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct HubSelector {
    pub(crate) server: Option<String>,
    pub(crate) store: Option<String>,
    /// `--connection-string-setting`.
    pub(crate) setting: Option<String>,
    /// `--task-hub-name`.
    pub(crate) hub: Option<String>,
    /// Whether to print which store and hub are used.
    pub(crate) is_verbose: bool,
    /// The key of the server.
    pub(crate) key: Option<GivenKey>,
    /// File with the authorities that are trusted beside those of the system.
    pub(crate) ca_file: Option<PathBuf>,
    /// Whether this is for a server, which is not looked for at another one.
    pub(crate) is_for_server: bool,
}

/// A key for a server.
#[derive(Clone, Debug)]
pub(crate) struct GivenKey {
    pub(crate) value: String,
    /// Whether the key comes from the environment instead of an option of this command.
    pub(crate) is_of_environment: bool,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where the hub is.
    pub(crate) place: Place,
    pub(crate) hub: HubName,
    /// The key that was given for a server.
    key: Option<GivenKey>,
    /// File with the authorities that are trusted beside those of the system.
    pub(crate) ca_file: Option<PathBuf>,
    /// Whether the name is the default (L24).
    pub(crate) hub_is_default: bool,
    /// Whether a running server is used only because it was started for this folder (L15).
    pub(crate) is_found_by_default: bool,
    /// Whether nothing said which store is meant.
    pub(crate) store_is_default: bool,
    /// The project's host.json.
    pub(crate) host: Host,
    /// The project's settings.
    pub(crate) settings: Settings,
}

impl Found {
    /// The key that is sent to a server. That of the environment goes to no address that only a file told that was found
    /// somewhere, since anybody may have put it there, and in clear to no other machine.
    pub(crate) fn key_for(&self, url: &str, is_told_by_file: bool) -> Result<Option<String>> {
        match &self.key {
            Some(key) if key.is_of_environment && is_told_by_file => Ok(None),
            Some(key) if key.is_of_environment && !is_private(url) => {
                let message =
                    format!("the key in TASKHUB_KEY is not sent to {url}, where others may read it on its way");
                let stop = Stop::error(exit::NOT_ALLOWED, "configuration", message);
                Err(stop.hint("if the way there is safe, say so for this command: `--key-file FILE`"))
            }
            key => Ok(key.as_ref().map(|key| key.value.clone())),
        }
    }
}

/// Whether what is sent to a server stays on this machine, or is encrypted.
fn is_private(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return true;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let ip = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Whether a file or folder above the working folder is trusted: another user who could create it would control this
/// command.
fn is_trusted(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| is_own(&metadata))
}

/// Whether something is of this user or of the system.
#[cfg(unix)]
fn is_own(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid())
}

#[cfg(not(unix))]
fn is_own(_metadata: &Metadata) -> bool {
    true
}

/// Finds store and hub.
pub(crate) fn find(world: &World, selector: &HubSelector, screen: &mut Screen) -> Result<Found> {
    if world.filled("TASKHUB_PROFILE").is_some() {
        return Err(Stop::not_yet("a profile (TASKHUB_PROFILE)"));
    }
    let project = project(&world.folder);
    let settings = Settings::read(world, project.as_deref());
    let host = Host::read(world, project.as_deref(), &settings)?;
    let search = Search {
        world,
        selector,
        project: project.as_deref(),
        host: &host,
        settings: &settings,
    };
    if selector.is_verbose {
        search.tell_of_files(screen);
    }
    let said = hub_name::said(world, selector.hub.as_deref(), &host)?;
    let (place, origin) = search.place(screen)?;
    let (hub, hub_is_default) = hub_name::or_default(said, &place)?;
    if selector.is_verbose {
        let place = place.shown();
        screen.tell(&format!("using task hub {hub} {place}"));
    }
    // Another user may have written where it is; no secret follows that.
    let is_doubtful = origin == Origin::Project && search.has_foreign_files();
    let key = selector.key.clone();
    let key = key.filter(|key| !(key.is_of_environment && is_doubtful));
    Ok(Found {
        place,
        hub,
        hub_is_default,
        key,
        ca_file: selector.ca_file.clone(),
        is_found_by_default: origin == Origin::Server,
        store_is_default: origin == Origin::Default,
        host,
        settings,
    })
}

/// What said where the hub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The user of the command.
    Said,
    Project,
    /// A server that was started for this folder.
    Server,
    /// Nobody.
    Default,
}

/// The project that a server is for: its root, or the folder it was started in.
pub(crate) fn served_project(world: &World) -> Project {
    Project::of(&served_folder(world))
}

pub(crate) fn served_folder(world: &World) -> PathBuf {
    project(&world.folder).unwrap_or_else(|| world.folder.clone())
}

/// The nearest folder, upwards, with host.json or local.settings.json (L17).
fn project(from: &Path) -> Option<PathBuf> {
    let is_root = |folder: &&Path| {
        ["host.json", "local.settings.json"]
            .iter()
            .any(|file| counts(folder, file, from))
    };
    from.ancestors().find(is_root).map(Path::to_owned)
}

/// Whether a folder has such a file, and it is trusted for commands in `from`.
fn counts(folder: &Path, file: &str, from: &Path) -> bool {
    let file = folder.join(file);
    is_there(&file) && (folder == from || is_trusted(&file))
}

/// Whether there is something of that name, be it a link that leads nowhere or a folder: what is there and cannot be read
/// is an error, not an absence.
pub(super) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// A place, and what is to be said if it is used.
struct Chosen {
    place: Place,
    note: Option<String>,
}

impl From<Place> for Chosen {
    fn from(place: Place) -> Self {
        Self { place, note: None }
    }
}

impl Chosen {
    fn used(self, screen: &mut Screen) -> Place {
        if let Some(note) = &self.note {
            screen.note(note);
        }
        self.place
    }
}

struct Search<'a> {
    world: &'a World,
    selector: &'a HubSelector,
    project: Option<&'a Path>,
    host: &'a Host,
    settings: &'a Settings,
}

impl Search<'_> {
    /// Whether a file of the project is another user's. In the working folder they count, but no secret follows them.
    fn has_foreign_files(&self) -> bool {
        let mut files = ["host.json", "local.settings.json"]
            .iter()
            .map(|file| self.at_project().join(file));
        files.any(|file| is_there(&file) && !is_trusted(&file))
    }

    fn tell_of_files(&self, screen: &mut Screen) {
        match self.project {
            Some(folder) if counts(folder, "host.json", &self.world.folder) => {
                screen.tell(&format!("using {}", folder.join("host.json").display()));
            }
            _ => screen.tell("Could not find local host metadata file 'host.json'"),
        }
        if let Some(folder) = self
            .project
            .filter(|folder| counts(folder, "local.settings.json", &self.world.folder))
        {
            screen.tell(&format!("using {}", folder.join("local.settings.json").display()));
        }
    }

    /// The first match (L15). If the user named nothing, a note lists running servers that may be meant.
    fn place(&self, screen: &mut Screen) -> Result<(Place, Origin)> {
        if let Some(chosen) = self.said(screen)? {
            return Ok((chosen.used(screen), Origin::Said));
        }
        let of_project = self.of_project(screen)?;
        let origin = of_project.as_ref().map_or(Origin::Default, |_| Origin::Project);
        let own_store = Place::embedded(self.own_store()?);
        let chosen = of_project.unwrap_or_else(|| own_store.clone().into());
        let is_absent = chosen.place == own_store && !self.own_store()?.is_dir();
        if self.selector.is_for_server {
            return Ok((chosen.used(screen), origin));
        }
        let servers = running::all(self.world);
        match self.own_servers(&servers).as_slice() {
            own if !is_absent => tell_of_another_store(&chosen.place, own, screen),
            [] => self.tell_of_others(&servers, screen),
            [only] => {
                screen.note(&format!("using the server at {}", only.shown()));
                return Ok((Place::of_running(only), Origin::Server));
            }
            several => {
                let list: Vec<String> = several.iter().map(|one| one.shown()).collect();
                let message = format!("{} servers run for this folder: {}", several.len(), list.join(", "));
                let stop = Stop::error(exit::FAILED, "configuration", message);
                return Err(stop.hint("name one with `--server URL`"));
            }
        }
        Ok((chosen.used(screen), origin))
    }

    /// What options and the environment say.
    fn said(&self, screen: &mut Screen) -> Result<Option<Chosen>> {
        let options = (self.selector.server.as_deref(), self.selector.store.as_deref());
        if let Some(place) = self.one_of(options, "`--server` and `--store`")? {
            return Ok(Some(place.into()));
        }
        if let Some(name) = &self.selector.setting {
            return self.of_setting(name, screen).map(Some);
        }
        let variables = (self.world.filled("TASKHUB_SERVER"), self.world.filled("TASKHUB_STORE"));
        let place = self.one_of(variables, "TASKHUB_SERVER and TASKHUB_STORE")?;
        Ok(place.map(Chosen::from))
    }

    /// A server or a store; at most one may be named.
    fn one_of(&self, given: (Option<&str>, Option<&str>), names: &str) -> Result<Option<Place>> {
        match given {
            (Some(_), Some(_)) => Err(Stop::usage(format!("{names} cannot be used together"))),
            (Some(url), None) => Place::server(url).map(Some),
            (None, Some(store)) => connection::of_store_option(store, self.world).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// What the project's settings say, or a store that is there.
    fn of_project(&self, screen: &mut Screen) -> Result<Option<Chosen>> {
        self.host.refuse_other_providers()?;
        if let Some(name) = self.host.setting_name()? {
            return self.of_setting(&name, screen).map(Some);
        }
        let is_hosted = self.host.is_hosted_scheduler()?;
        let name = if is_hosted { SCHEDULER_SETTING } else { SETTING };
        if is_hosted || self.settings.value(name)?.is_some() {
            return self.of_setting(name, screen).map(Some);
        }
        if self.host.data_path()?.is_some() {
            return Ok(Some(Place::embedded(self.own_store()?).into()));
        }
        let is_here = |folder: &Path| folder == self.world.folder;
        let store = self
            .own_folders()
            .map(|folder| (folder.join(STORE_FOLDER), is_here(folder)));
        let mut found = store
            .filter(|(store, is_here)| store.is_dir() && (*is_here || is_trusted(store)))
            .map(|(store, _)| store);
        Ok(found.next().map(Place::embedded).map(Chosen::from))
    }

    /// The folder of the project's own store, which is made if nothing says another.
    fn own_store(&self) -> Result<PathBuf> {
        let folder = self.host.data_path()?;
        let folder = folder.as_deref().unwrap_or(STORE_FOLDER);
        Ok(self.at_project().join(folder))
    }

    /// The working folder and those above it, up to the root of the project; what is beyond belongs to others.
    fn own_folders(&self) -> impl Iterator<Item = &Path> {
        let mut is_inside = true;
        self.world.folder.ancestors().take_while(move |folder| {
            let is_own = is_inside;
            is_inside = self.project != Some(*folder);
            is_own
        })
    }

    /// The running servers of the nearest folder that one was started for.
    fn own_servers<'r>(&self, servers: &'r [Running]) -> Vec<&'r Running> {
        let of_folder = |folder: &Path| -> Vec<&'r Running> {
            // What is started for nothing in particular runs in the root, which has everybody's folders in it.
            if folder.parent().is_none() && folder != self.world.folder {
                return Vec::new();
            }
            servers.iter().filter(|one| one.is_for(folder)).collect()
        };
        let mut found = self.own_folders().map(of_folder);
        found.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Without a store, the user may have meant a server or a store of another folder.
    fn tell_of_others(&self, servers: &[Running], screen: &mut Screen) {
        let here = self.at_project().display();
        if !servers.is_empty() {
            let shown = servers.iter().take(SERVERS_SHOWN);
            let list: Vec<String> = shown
                .map(|one| format!("{} for {}", one.shown(), one.purpose()))
                .collect();
            let url = match servers {
                [only] => only.url(),
                _ => "URL".to_owned(),
            };
            let list = list.join(", ");
            screen.note(&format!(
                "hint: there is no store in {here}, but other servers are running: {list} — to use one, add `--server {url}`"
            ));
        }
        let above = self.at_project().ancestors().skip(1);
        let mut above = above.map(|folder| folder.join(STORE_FOLDER));
        if let Some(store) = above.find(|store| store.is_dir()) {
            let store = store.display();
            screen.note(&format!(
                "hint: there is no store in {here}; the one in {store} belongs to another folder — to use it, add `--store {store}`"
            ));
        }
    }

    fn at_project(&self) -> &Path {
        self.project.unwrap_or(&self.world.folder)
    }

    fn of_setting(&self, name: &str, screen: &mut Screen) -> Result<Chosen> {
        self.host.refuse_other_providers()?;
        let Some(value) = self.settings.value(name)? else {
            return Err(self.no_connection(name));
        };
        if self.selector.is_verbose {
            screen.tell(&format!("using the connection in setting '{name}'"));
        }
        let read = connection::Reading {
            name,
            project: self.at_project(),
            own_folder: self.own_store()?,
            wants_azure: self.host.wants_azure()?,
        };
        let mut chosen = Chosen::from(read.place(&value)?);
        if let Place::Embedded { folder } = &chosen.place
            && connection::is_development(&value)
            && (self.selector.is_verbose || !folder.exists())
        {
            let folder = folder.display();
            chosen.note = Some(format!("UseDevelopmentStorage=true means the store in {folder}"));
        }
        Ok(chosen)
    }

    /// The error for a connection setting that does not exist; it lists where the command looked (L21).
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
}

/// A server of this very folder may be at work on another store than the one that is used: one that forgets all, say.
fn tell_of_another_store(place: &Place, own: &[&Running], screen: &mut Screen) {
    let Place::Embedded { folder } = place else { return };
    let store = Project::of(folder);
    if let Some(other) = own.iter().find(|one| !Project::of(Path::new(&one.store)).is(&store)) {
        let (shown, url) = (other.shown(), other.url());
        screen.note(&format!(
            "hint: the server at {shown} runs for this folder on another store — use `--server {url}` if that is meant"
        ));
    }
}
