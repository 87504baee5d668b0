//! What the verbs work with: the hub that the options name, the form of the answer, and Ctrl-C.

use std::future::Future;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskhub_core::id::{HubName, InstanceId};
use taskhub_core::query::Filter;
use taskhub_core::time::Timestamp;

use super::common::{Common, Created, Form};
use super::json::Json;
use super::{dates, native, statuses};
use crate::files;
use crate::find::{self, Found, GivenKey, HubSelector, hub_name};
use crate::hub_access::{self, Intent, Record, Target};
use crate::screen::{Colour, Screen};
use crate::stop::{Result, Stop, exit};
use crate::usage::Usage;
use crate::world::World;

/// Other hubs that a hint names, at most.
const HUBS_SHOWN: usize = 10;

/// What a command works with.
pub(super) struct Job<'a> {
    pub(super) common: &'a Common,
    pub(super) usage: &'a Usage,
    pub(super) world: &'a World,
    pub(super) screen: &'a mut Screen,
    pub(super) form: Form,
    pub(super) is_strict: bool,
    /// `--yes`.
    pub(super) is_sure: bool,
    /// A hint to print after all other output.
    pub(super) last_word: Option<String>,
}

impl Job<'_> {
    /// Which hub this is about.
    pub(super) fn find(&mut self) -> Result<Found> {
        let common = self.common;
        let selector = HubSelector {
            server: common.server.clone(),
            store: common.store.clone(),
            setting: common.connection_string_setting.clone(),
            hub: common.task_hub_name.clone(),
            is_verbose: self.is_verbose(),
            key: self.key()?,
            ca_file: self.ca_file(),
            is_for_server: false,
        };
        find::find(self.world, &selector, self.screen)
    }

    /// The key of the server: on the line, in a file, in the environment (L57).
    fn key(&self) -> Result<Option<GivenKey>> {
        let file = self.common.key_file.as_deref();
        let file = file.or_else(|| self.world.filled("TASKHUB_KEY_FILE").map(Path::new));
        let of_file = || file.map(|path| key_of_file(&self.world.path(path))).transpose();
        let said = self.common.key.clone().map(|key| Ok(Some(key)));
        let said = said.unwrap_or_else(of_file)?;
        let is_of_environment = said.is_none();
        let value = said.or_else(|| self.world.filled("TASKHUB_KEY").map(str::to_owned));
        Ok(value.map(|value| GivenKey {
            value,
            is_of_environment,
        }))
    }

    /// File with the authorities that are trusted beside those of the system; it is read once they are needed.
    fn ca_file(&self) -> Option<PathBuf> {
        let file = self.common.ca_file.as_deref();
        let file = file.or_else(|| self.world.filled("TASKHUB_CA_FILE").map(Path::new));
        file.map(|file| self.world.path(file))
    }

    fn is_verbose(&self) -> bool {
        self.common.verbose == Some(true)
    }

    /// The hub, ready for work.
    async fn open(&mut self, found: &Found, intent: Intent) -> Result<Target> {
        let target = hub_access::open(found, intent).await?;
        if self.is_verbose() && target.has_server() {
            self.screen.tell("a server uses the store; the command is sent to it");
        }
        Ok(target)
    }

    /// Opens the hub for commands on existing instances. If no option named the hub and it does not exist, a note lists
    /// the existing hubs, because the user may have meant another one (L24).
    pub(super) async fn open_existing(&mut self, found: &Found) -> Result<Target> {
        let mut target = self.open(found, Intent::Use).await?;
        if let Some((_, others)) = other_hubs(found, &mut target).await? {
            let hub = &found.hub;
            self.last_word = Some(format!(
                "hint: task hub '{hub}' does not exist here; this store has {others} — use --task-hub-name"
            ));
        }
        Ok(target)
    }

    /// Opens the hub to start an instance in it, creating it if necessary. If no option named the hub and the store has
    /// others, the command fails instead, because the user probably meant one of them (L24).
    pub(super) async fn open_or_create(&mut self, found: &Found) -> Result<Target> {
        let partitions = hub_access::partitions(found)?;
        let mut target = self.open(found, Intent::Create).await?;
        let made = match other_hubs(found, &mut target).await {
            Ok(None) => target.create_hub(partitions).await,
            Ok(Some((first, others))) => Err(hub_name::none_by_default(
                &found.hub,
                &others,
                &first,
                "--task-hub-name",
            )),
            Err(stop) => Err(stop),
        };
        match made {
            Ok(()) => Ok(target),
            Err(stop) => {
                target.close().await;
                Err(stop)
            }
        }
    }

    /// A server that the user did not name must not lose data by mistake (L15).
    pub(super) fn refuse_default_server(&self, found: &Found) -> Result<()> {
        if !found.is_found_by_default || self.is_sure {
            return Ok(());
        }
        let place = found.place.shown();
        let what = format!(
            "cannot delete from task hub {} {place}: the server was not named",
            found.hub
        );
        Err(Stop::usage(what).hint("name it with `--server URL`, or accept it with `--yes`"))
    }

    /// A moment (L10).
    fn moment(&self, text: Option<&str>, option: &str) -> Result<Option<Timestamp>> {
        let Some(text) = text else { return Ok(None) };
        let wrong = || {
            let what = format!(
                "invalid value '{text}' for '{option} <DATE>': expected a date such as 2018-03-10T13:57:31Z or 7d"
            );
            self.usage.error(what)
        };
        dates::read(text, self.world.now).map(Some).ok_or_else(wrong)
    }

    /// The first and the last moment of a time.
    pub(super) fn times(&self, created: &Created) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
        let before = self.moment(created.created_before.as_deref(), "--created-before")?;
        let after = self.moment(created.created_after.as_deref(), "--created-after")?;
        Ok((after, before))
    }

    /// The filter that the options say; both ends of the time are included.
    pub(super) fn filter(&self, created: &Created, statuses: &[String]) -> Result<Filter> {
        let (after, before) = self.times(created)?;
        Ok(Filter {
            created_from: after,
            // As the server does it, since tokens tell filters apart.
            created_before: before.map(|before| before.plus(Duration::from_nanos(100))),
            statuses: statuses::read(statuses).map_err(|what| self.usage.error(what))?,
            name: None,
            id_prefix: None,
        })
    }

    /// An answer that is one object in our own JSON.
    pub(super) fn answer(&mut self, value: &Json, id: Option<&str>) -> Result<()> {
        match (self.form, id) {
            (Form::Ids, Some(id)) => self.screen.say(Colour::Plain, id),
            (Form::Ids, None) => Ok(()),
            (Form::Json, _) => self.screen.say(Colour::Plain, &value.pretty(0)),
            (Form::JsonLines | Form::Compat, _) => self.screen.say(Colour::Plain, &value.compact()),
        }
    }

    /// An answer that is one instance in our own JSON.
    pub(super) fn answer_instance(&mut self, hub: &HubName, record: &Record) -> Result<()> {
        self.answer(&native::instance(hub, record), Some(record.info.instance.as_str()))
    }

    /// Whether what does not exist is an error: to strict callers, and in our own forms, which know no other answer
    /// (L38).
    pub(super) fn needs_what_it_names(&self) -> bool {
        self.is_strict || self.form != Form::Compat
    }

    /// The end of a command about an unknown instance: Core Tools reports success, strict callers do not (L38).
    pub(super) fn missing(&self) -> Result<()> {
        if self.is_strict {
            Err(Stop::silent(exit::NOT_FOUND))
        } else {
            Ok(())
        }
    }

    /// Reports an unknown instance: for people on standard output, for programs as an error.
    pub(super) fn not_found(&mut self, line: &str, colour: Colour) -> Result<()> {
        if self.form != Form::Compat {
            return Err(Stop::plain(exit::NOT_FOUND, "instance-not-found", line));
        }
        self.screen.say(colour, line)?;
        self.missing()
    }
}

/// The id of an existing instance. One that breaks the rules cannot be the id of any.
pub(super) fn id_of(text: &str) -> Option<InstanceId> {
    InstanceId::new(text).ok()
}

/// The first existing hub, and a list of all for people, if no option named a hub and the default hub does not exist.
async fn other_hubs(found: &Found, target: &mut Target) -> Result<Option<(HubName, String)>> {
    if !found.hub_is_default {
        return Ok(None);
    }
    let hubs = target.hubs().await?;
    let Some(first) = hubs.first().filter(|_| !hubs.contains(&found.hub)) else {
        return Ok(None);
    };
    let mut list = Vec::new();
    for hub in hubs.iter().take(HUBS_SHOWN) {
        let size = target.size(hub).await?;
        list.extend(size.map(|size| format!("{} ({} instances)", size.name, size.instances)));
    }
    Ok(Some((first.clone(), list.join(", "))))
}

/// Hears Ctrl-C from when it is made, so that none is missed.
pub(super) struct Interrupt {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Interrupt {
    pub(super) fn new() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let cannot =
                |error: std::io::Error| Stop::error(exit::FAILED, "failed", format!("cannot hear signals: {error}"));
            let signal = signal(SignalKind::interrupt()).map_err(cannot)?;
            Ok(Self { signal })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Ends early when Ctrl-C comes; `None` then.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        #[cfg(unix)]
        let interrupt = self.signal.recv();
        #[cfg(not(unix))]
        let interrupt = tokio::signal::ctrl_c();
        tokio::select! {
            biased;
            _ = interrupt => None,
            done = work => Some(done),
        }
    }
}

/// The key in a file (L81).
pub(crate) fn key_of_file(path: &Path) -> Result<String> {
    let wrong = |message: String| Stop::error(exit::FAILED, "configuration", message);
    let unread = |error: std::io::Error| wrong(format!("cannot read the key in {}: {error}", path.display()));
    let mut file = files::open(path).map_err(unread)?;
    if let Some(mode) = files::open_to_others(&file, path) {
        let path = path.display();
        let message = format!("others can read the key in {path} (mode {mode:04o})");
        return Err(wrong(message).hint(format!("restrict access to it: `chmod 600 {path}`")));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unread)?;
    match text.trim() {
        // No request could present an empty key, so it would lock everyone out.
        "" => Err(wrong(format!("there is no key in {}", path.display()))),
        key => Ok(key.to_owned()),
    }
}
