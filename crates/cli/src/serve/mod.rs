//! `taskhub serve` and `taskhub dev` (L60): a store, its hubs, a server in front of them, and word of it.
//!
//! ```text
//!   find (which store, which hub) ─▶ store ─▶ hub + functions ─▶ taskhub_server ─▶ ready file, first line
//! ```

mod functions;
mod keys;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::id::HubName;
use taskhub_samples::Files;
use taskhub_server::logs::{self, LogFormat};
use taskhub_server::{Config, Error as ServerError, Listening, OpenHub, Opening, Reuse, Server, Tls};
use taskhub_store::embedded::{EmbeddedStore, Watch};
use taskhub_store::{Error as StoreError, Store};
use tokio::time::sleep;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Format, Level, Serve};
use crate::find::running::{self, Notice, Project, Running};
use crate::find::{self, Found, HubSelector, hub_name};
use crate::hub_access::Patience;
use crate::screen::{Colour, Screen};
use crate::stop::{Result, Stop, exit};
use crate::world::World;
use functions::Offer;

/// Pause between two looks at whether the store is still there.
const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// How long running activities may take to end when the server stops (R206).
const GRACE: Duration = Duration::from_secs(10);

/// How the two commands differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// For a project on this machine.
    Dev,
    /// For production.
    Serve,
}

/// Serves until a signal comes.
pub(crate) async fn run(mode: Mode, args: &Serve, world: &World, screen: &mut Screen) -> Result<()> {
    log(mode, args);
    let mut world = world.clone();
    if let Some(project) = &args.project {
        world.folder = world.folder.join(project).canonicalize().map_err(|error| {
            Stop::error(
                exit::FAILED,
                "failed",
                format!("cannot use the project {}: {error}", project.display()),
            )
        })?;
    }
    raise_files_max();
    let signals = Signals::new()?;
    let ready_file = args.ready_file.as_ref().map(|path| world.folder.join(path));
    if let Some(path) = &ready_file {
        check_ready_file(path)?;
    }
    let found = find_hub(mode, args, &world, screen)?;
    let temporary = temporary_folder(args)?;
    let folder = match &temporary {
        Some(folder) => folder.path(),
        None => found.place.folder()?,
    };
    let folder = folder.to_owned();
    let served = RunningServer::open(&Setup {
        mode,
        args,
        world: &world,
        found: &found,
        folder: &folder,
    })
    .await?;
    let (running, _notice) = served.announce(ready_file.as_deref(), &world)?;
    let line = first_line(&running, &world);
    screen.say(Colour::Plain, &line)?;
    screen.flush()?;
    let code = served.until(signals).await;
    Err(Stop::silent(code?))
}

fn log(mode: Mode, args: &Serve) {
    let format = match args.log_format {
        Some(Format::Json) => LogFormat::Json,
        None if mode == Mode::Serve => LogFormat::Json,
        Some(Format::Text) | None => LogFormat::Text,
    };
    let level = match args.log_level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // Set once, before anything else of this command; a second logger would be a bug that costs only lines.
    let _is_first = tracing::subscriber::set_global_default(logs::subscriber(format, level, std::io::stderr));
}

/// Each connection is a file, and the limit that programs begin with is often 1,024; the system lets them raise it.
#[cfg(unix)]
fn raise_files_max() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::info!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(not(unix))]
fn raise_files_max() {}

/// A process that waits for the ready file must not wait for a server that cannot write it.
fn check_ready_file(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) if !folder.is_dir() => {
            let why = format!("there is no folder {}", folder.display());
            Err(no_ready_file(path, &why).hint("make the folder first, or name another file"))
        }
        _ if path.is_dir() => Err(no_ready_file(path, "it is a folder")),
        _ => Ok(()),
    }
}

fn no_ready_file(path: &Path, why: &str) -> Stop {
    let message = format!("cannot write the ready file {}: {why}", path.display());
    Stop::error(exit::FAILED, "failed", message)
}

fn find_hub(mode: Mode, args: &Serve, world: &World, screen: &mut Screen) -> Result<Found> {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let selector = HubSelector {
        store: args.store.as_ref().map(text),
        hub: args.hub.clone(),
        is_for_server: true,
        ..HubSelector::default()
    };
    let found = find::find(world, &selector, screen)?;
    if mode == Mode::Serve && found.store_is_default && !args.ephemeral {
        return Err(Stop::usage("`serve` needs a store").hint("name one with `--store DIR`, or run `taskhub dev`"));
    }
    Ok(found)
}

fn temporary_folder(args: &Serve) -> Result<Option<tempfile::TempDir>> {
    let make = || {
        let cannot = |error| {
            Stop::error(
                exit::FAILED,
                "failed",
                format!("cannot make a temporary folder: {error}"),
            )
        };
        tempfile::tempdir().map_err(cannot)
    };
    args.ephemeral.then(make).transpose()
}

/// What a server is made of.
struct Setup<'a> {
    mode: Mode,
    args: &'a Serve,
    world: &'a World,
    found: &'a Found,
    folder: &'a Path,
}

/// A server that listens, with its hubs.
pub(crate) struct RunningServer {
    listening: Listening,
    offer: Arc<Offer>,
    hub: HubName,
    folder: PathBuf,
    token: Option<String>,
    is_tls: bool,
    /// What it was started for.
    project: Option<Project>,
    /// Whether its store is still there.
    watch: Watch,
}

impl RunningServer {
    async fn open(setup: &Setup<'_>) -> Result<Self> {
        let Setup {
            args, found, folder, ..
        } = setup;
        // Invalid settings are reported before anything is created.
        let (config, token) = config(setup)?;
        let partitions = crate::hub_access::partitions(found)?;
        let store = open_store(folder).await?;
        let watch = store.watch().clone();
        let store: Arc<dyn Store> = store;
        check_default(found, store.as_ref(), config.auto_create_hubs).await?;
        let files = args.samples.as_ref().map(|folder| {
            let project = find::served_folder(setup.world);
            Files::below(project.join(folder)).without(setup.folder)
        });
        let offer = Arc::new(Offer::new(store, files, partitions));
        let hub = offer.open(&found.hub).await;
        let hub = hub.map_err(|error| Stop::from_hub("cannot open the hub", &error))?;
        let opener = Arc::new(Opener(Arc::clone(&offer)));
        let server = Server::new(Arc::clone(&hub), config).with_hubs(opener);
        let listening = server
            .bind()
            .await
            .map_err(|error| cannot_listen(&error, setup.world))?;
        offer.serve(listening.client_bindings());
        Ok(Self {
            listening,
            hub: hub.name().clone(),
            offer,
            folder: folder.to_path_buf(),
            token,
            is_tls: args.cert.is_some(),
            project: Some(find::served_project(setup.world)),
            watch,
        })
    }

    /// A server on a store that is there already, for the demo: loopback, the samples, the next free port.
    pub(crate) async fn of_demo(store: Arc<EmbeddedStore>, folder: &Path, files: &Path, hub: &HubName) -> Result<Self> {
        let (files, watch) = (Files::below(files), store.watch().clone());
        let offer = Arc::new(Offer::new(store, Some(files), taskhub_store::PARTITIONS_DEFAULT));
        let opened = offer
            .open(hub)
            .await
            .map_err(|error| Stop::from_hub("cannot open the hub", &error))?;
        let first = taskhub_server::PORT_DEFAULT;
        for port in (first..first + 100).chain([0]) {
            let config = Config {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                auto_create_hubs: true,
                ..Config::default()
            };
            let others = Arc::new(Opener(Arc::clone(&offer)));
            let server = Server::new(Arc::clone(&opened), config).with_hubs(others);
            let bound = server.bind().await;
            match bound {
                Err(ServerError::Address { .. }) if port != 0 => {}
                Err(error) => return Err(Stop::error(exit::UNAVAILABLE, error.code(), error.to_string())),
                Ok(listening) => {
                    offer.serve(listening.client_bindings());
                    return Ok(Self {
                        listening,
                        offer,
                        hub: hub.clone(),
                        folder: folder.to_path_buf(),
                        token: None,
                        is_tls: false,
                        project: None,
                        watch,
                    });
                }
            }
        }
        unreachable!("port 0 is bound or told about")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Writes the file by which commands find the server, and the ready file for the process that started it.
    pub(crate) fn announce(&self, ready_file: Option<&Path>, world: &World) -> Result<(Running, Notice)> {
        let running = Running {
            http: self.address().to_string(),
            pid: std::process::id(), // tidy:allow: it is told
            hub: self.hub.to_string(),
            store: self.folder.to_string_lossy().into_owned(),
            token: self.token.clone(),
            tls: self.is_tls,
            project: self.project.clone(),
        };
        let cannot = |error: std::io::Error| {
            Stop::error(
                exit::FAILED,
                "failed",
                format!("cannot leave word of the server: {error}"),
            )
        };
        let notice = running::announce(world, &running).map_err(cannot)?;
        if let Some(path) = ready_file {
            // What it tells is for everybody who may read the folder.
            let open = Running {
                token: None,
                project: None,
                ..running.clone()
            };
            let text = serde_json::to_string(&open).unwrap_or_default();
            running::write_unless_full(path, &(text + "\n"))
                .map_err(|error| no_ready_file(path, &error.to_string()))?;
        }
        Ok((running, notice))
    }

    /// Serves until a signal arrives, then stops gracefully; returns the exit code (L37).
    ///
    /// # Errors
    ///
    /// If the store is taken away meanwhile: what is acknowledged could not be found again.
    pub(crate) async fn until(self, mut signals: Signals) -> Result<u8> {
        let mut code = exit::INTERRUPTED;
        tokio::select! {
            () = self.listening.serve_until(async { code = signals.next().await }) => {}
            // Running requests get no time to finish: their results would be written to files that are lost.
            why = lost(&self.watch) => {
                let folder = self.watch.folder().display().to_string();
                return Err(Stop::from_store("the server ends", &StoreError::Lost { folder, why }));
            }
        }
        let stopped = self.offer.stop(GRACE).await;
        stopped.map_err(|error| Stop::from_hub("cannot stop the hub in order", &error))?;
        Ok(code)
    }
}

/// Waits until the store is not there any more; answers why.
async fn lost(watch: &Watch) -> String {
    loop {
        if let Some(why) = watch.lost() {
            return why;
        }
        sleep(WATCH_PAUSE).await;
    }
}

/// Opens further hubs of the store with the same functions.
struct Opener(Arc<Offer>);

impl OpenHub for Opener {
    fn open<'a>(&'a self, name: &'a HubName) -> Opening<'a> {
        Box::pin(self.0.open(name))
    }
}

/// The default hub is not created beside others by mistake (L24). `dev`, which creates hubs on demand, creates it and
/// prints a note.
async fn check_default(found: &Found, store: &dyn Store, creates_hubs: bool) -> Result<()> {
    if !found.hub_is_default {
        return Ok(());
    }
    let listed = store.list_hubs().await;
    let listed = listed.map_err(|error| Stop::from_store("the store cannot be used", &error))?;
    let hubs: Vec<&HubName> = listed.iter().map(|hub| &hub.name).collect();
    let Some(first) = hubs.first().filter(|_| !hubs.contains(&&found.hub)) else {
        return Ok(());
    };
    let list: Vec<&str> = hubs.iter().map(|hub| hub.as_str()).collect();
    let list = list.join(", ");
    if !creates_hubs {
        return Err(hub_name::none_by_default(&found.hub, &list, first, "--hub"));
    }
    let hub = &found.hub;
    tracing::warn!(%hub, others = %list, "a new task hub is made beside others, since nothing names one; say `--hub {first}` if that is meant");
    Ok(())
}

/// Opens the store. A command that is at work with it is soon done; another server is not.
async fn open_store(folder: &Path) -> Result<Arc<EmbeddedStore>> {
    let mut patience = Patience::default();
    loop {
        let error = match EmbeddedStore::open(folder, taskhub_store::embedded::EmbeddedOptions::default()) {
            Ok(store) => return Ok(Arc::new(store)),
            Err(error) => error,
        };
        let StoreError::Locked { pid, .. } = error else {
            return Err(refused(&error));
        };
        if running::of_store(folder).is_some_and(|running| running.pid == pid) {
            return Err(refused(&error));
        }
        if patience.is_new() {
            tracing::info!(pid, "another process has the store, and is waited for");
        }
        if !patience.wait(pid).await {
            return Err(refused(&error));
        }
    }
}

fn refused(error: &StoreError) -> Stop {
    Stop::from_store("cannot open the store", error)
}

/// The server's settings: options, then the project's files, then what the mode has.
fn config(setup: &Setup<'_>) -> Result<(Config, Option<String>)> {
    let Setup {
        mode,
        args,
        world,
        found,
        ..
    } = setup;
    let address = args.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port = match args.port {
        Some(port) => port,
        None if *mode == Mode::Dev => found.settings.local_port()?.unwrap_or(taskhub_server::PORT_DEFAULT),
        None => taskhub_server::PORT_DEFAULT,
    };
    let (keys, token) = keys::read(args, world)?;
    let keys_are_absent = keys.is_empty();
    let reuse = match found.host.text("overridableExistingInstanceStates")? {
        Some(states) if states.eq_ignore_ascii_case("AnyState") => Reuse::AnyState,
        _ => Reuse::NonRunningStates,
    };
    let tls = match (&args.cert, &args.cert_key) {
        (Some(certificate), Some(key)) => Some(Tls {
            certificate: world.folder.join(certificate),
            key: world.folder.join(key),
        }),
        (None, None) => None,
        _ => return Err(Stop::usage("`--cert` and `--cert-key` need each other")),
    };
    let config = Config {
        address: SocketAddr::from((address, port)),
        keys,
        no_auth: args.no_auth,
        tls,
        rpc_open_loopback: Some((*mode == Mode::Dev && keys_are_absent) || args.rpc_open_loopback),
        use_forwarded_host: found.host.flag("httpSettings.useForwardedHost")?,
        public_url: match &args.public_url {
            Some(url) => Some(url.clone()),
            None => found.settings.value("TASKHUB_PUBLIC_URL")?,
        },
        allow_hosts: args.allow_host.clone(),
        cors: args.cors.clone(),
        default_version: found.host.text("defaultVersion")?,
        auto_create_hubs: args.auto_create_hubs.unwrap_or(*mode == Mode::Dev),
        reuse,
        ..Config::default()
    };
    Ok((config, token))
}

/// Says why the server cannot listen, and who holds the port if that is one of ours (L60).
fn cannot_listen(error: &ServerError, world: &World) -> Stop {
    let stop = Stop::error(exit::UNAVAILABLE, error.code(), error.to_string());
    match error {
        ServerError::Address { address, .. } => {
            let port = format!(":{}", address.port());
            let holder = running::all(world).into_iter().find(|one| one.http.ends_with(&port));
            let held = holder.map(|one| format!("process {} of task hub {} has the port", one.pid, one.hub));
            let next = address
                .port()
                .checked_add(1)
                .map(|port| format!("take another port: `--port {port}`"));
            held.into_iter().chain(next).fold(stop, Stop::hint)
        }
        ServerError::Setting {
            setting,
            given,
            expected,
        } => {
            let option = match *setting {
                "allow_hosts" => "`--allow-host`",
                "cors" => "`--cors`",
                _ => "`--public-url`, or the setting TASKHUB_PUBLIC_URL,",
            };
            Stop::usage(format!("{option} takes {expected}, not `{given}`"))
        }
        ServerError::Unprotected { .. } => {
            stop.hint("give a key with `--key-file FILE`, or say `--no-auth` if everybody may call")
        }
        _ => stop,
    }
}

/// The first line, whose form is a promise (L60).
fn first_line(running: &Running, world: &World) -> String {
    let folder = Path::new(&running.store);
    let folder = folder.strip_prefix(&world.folder).unwrap_or(folder);
    format!(
        "listening http={} hub={} store={}",
        running.http,
        running.hub,
        folder.display()
    )
}

/// Hears the signals that end a server, from when it is made.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Begins to hear.
    pub(crate) fn new() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let hear = |kind| {
                let cannot = |error| Stop::error(exit::FAILED, "failed", format!("cannot hear signals: {error}"));
                signal(kind).map_err(cannot)
            };
            Ok(Self {
                interrupt: hear(SignalKind::interrupt())?,
                terminate: hear(SignalKind::terminate())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// The exit code that belongs to the next one.
    async fn next(&mut self) -> u8 {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => exit::INTERRUPTED,
            _ = self.terminate.recv() => exit::TERMINATED,
        }
        #[cfg(not(unix))]
        {
            let _heard = tokio::signal::ctrl_c().await;
            exit::INTERRUPTED
        }
    }
}
