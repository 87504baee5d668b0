//! `taskhub durable …`, and `func durable …`, which is the same (L1): the nine commands of Core Tools.
//!
//! ```text
//!   words ─▶ grammar ─▶ Given ─▶ find (which hub) ─▶ target (store or server) ─▶ one file per command
//! ```

pub(crate) mod compat;
mod completions;
pub(crate) mod dates;
mod delete_task_hub;
mod get_history;
mod get_instances;
mod get_runtime_status;
pub(crate) mod grammar;
mod help;
pub(crate) mod native;
mod payload;
mod purge_history;
mod raise_event;
pub(crate) mod shape;
mod start_new;
mod statuses;
mod terminate;
pub(crate) mod verbs;

use std::future::Future;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskhub_core::id::{HubName, InstanceId};
use taskhub_core::query::Filter;
use taskhub_core::time::Timestamp;

pub(crate) use completions::completions;

use crate::files;
use crate::find::{self, Found, GivenKey, Wishes, hub_name};
use crate::hub_access::{self, Intent, Record, Target};
use crate::screen::{Colour, Screen, When};
use crate::stop::{Result, Stop, exit};
use crate::world::World;
use grammar::{Asked, Given};
use shape::Shape;

/// Other hubs that a hint names, at most.
const HUBS_SHOWN: usize = 10;

/// Form of the answer (L31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The texts and the JSON of Core Tools.
    Compat,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    JsonLines,
    /// One id per line.
    Ids,
}

/// What a command works with.
struct Job<'a> {
    given: &'a Given,
    world: &'a World,
    screen: &'a mut Screen,
    form: Form,
    is_strict: bool,
    /// `--yes`.
    is_sure: bool,
    /// A hint that is said when all else is said.
    last_word: Option<String>,
}

/// Runs the words behind the program's name; answers the exit code.
pub(crate) fn run(world: &World, args: &[String], screen: &mut Screen) -> u8 {
    let program = world.program();
    let asked = match grammar::read(&program, args) {
        Ok(asked) => asked,
        Err(stop) => {
            // Nobody said yet in which form; a script that asked for JSON wants its errors so, too.
            screen.errors_are_json = asks_for_json(args, world);
            return screen.end(&stop);
        }
    };
    let ended = match asked {
        Asked::Help(verb) => screen.print(&help::page(&program, verb)),
        Asked::Version => screen.print(&crate::version_line()),
        Asked::Run(given) => begin(world, &given, screen),
    };
    let ended = ended.and_then(|()| screen.flush());
    match ended {
        Ok(()) => {
            screen.release();
            0
        }
        Err(stop) => screen.end(&stop),
    }
}

fn asks_for_json(args: &[String], world: &World) -> bool {
    let in_one = args.iter().filter_map(|arg| arg.split_once(['=', ':']));
    let in_two = args.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str()));
    let mut said = in_one.chain(in_two);
    let said = said.find(|(name, _)| *name == "-o" || *name == "--output");
    let form = said.map(|(_, form)| form).or_else(|| world.filled("TASKHUB_OUTPUT"));
    form.is_some_and(|form| form == "json" || form == "jsonl")
}

/// An option of every verb, or its twin in the environment (L57).
fn common<'v>(given: &'v Given, world: &'v World, name: &str) -> Option<&'v str> {
    given.text(name).or_else(|| {
        let twin = format!("TASKHUB_{}", name.to_ascii_uppercase().replace('-', "_"));
        world.filled(&twin)
    })
}

fn given_verbose(given: &Given) -> bool {
    given.flag("verbose") == Some(true)
}

fn begin(world: &World, given: &Given, screen: &mut Screen) -> Result<()> {
    let flag = |name: &str| -> Result<bool> {
        match common(given, world, name) {
            None => Ok(false),
            Some(said) => {
                grammar::boolean(said).ok_or_else(|| given.usage(format!("`{said}` is neither true nor false")))
            }
        }
    };
    let when = match common(given, world, "color") {
        Some("always") => When::Always,
        Some("never") => When::Never,
        _ => When::Auto,
    };
    screen.colour_when(when, world);
    if flag("quiet")? {
        screen.be_quiet();
    }
    let form = read_form(given, common(given, world, "output"))?;
    screen.errors_are_json = matches!(form, Form::Json | Form::JsonLines);
    let mut world = world.clone();
    if let Some(root) = given.text("script-root") {
        world.folder = script_root(&world, root)?;
    }
    let mut job = Job {
        is_strict: flag("strict")?,
        is_sure: flag("yes")?,
        given,
        world: &world,
        screen,
        form,
        last_word: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Stop::error(exit::UNAVAILABLE, "failed", format!("cannot start: {error}")))?;
    let ended = runtime.block_on(job.run());
    if let Some(line) = job.last_word.take() {
        job.screen.flush()?;
        job.screen.note(&line);
    }
    if ended.is_err() && given.flag("pause-on-error") == Some(true) && world.asks {
        job.screen.ask("Press Enter to go on.");
        let _any = std::io::stdin().read_line(&mut String::new());
    }
    ended
}

fn read_form(given: &Given, word: Option<&str>) -> Result<Form> {
    match word {
        None | Some("compat") => Ok(Form::Compat),
        Some("json") => Ok(Form::Json),
        Some("jsonl") => Ok(Form::JsonLines),
        Some("ids") => Ok(Form::Ids),
        Some(other) if verbs::OUTPUTS.contains(&other) => Err(Stop::not_yet(&format!("`--output {other}`"))),
        Some(other) => Err(given.usage(format!(
            "`{other}` is no form of an answer; {} are",
            verbs::OUTPUTS[..verbs::OUTPUTS_HERE].join(", ")
        ))),
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
        return Err(wrong(message).hint(format!("keep it to yourself: `chmod 600 {path}`")));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unread)?;
    match text.trim() {
        // A key that nobody can present would lock everybody out.
        "" => Err(wrong(format!("there is no key in {}", path.display()))),
        key => Ok(key.to_owned()),
    }
}

/// `--script-root` (L14).
fn script_root(world: &World, root: &str) -> Result<PathBuf> {
    let folder = world.path(root);
    if folder.is_dir() {
        // Its real name, so that what is above it is what one thinks.
        return Ok(folder.canonicalize().unwrap_or(folder));
    }
    let message = format!("\"{}\" doesn't exist.", folder.display());
    Err(Stop::plain(exit::FAILED, "invalid-argument", message))
}

impl Job<'_> {
    async fn run(&mut self) -> Result<()> {
        match self.given.verb.name {
            "start-new" => start_new::run(self).await,
            "get-runtime-status" => get_runtime_status::run(self).await,
            "get-history" => get_history::run(self).await,
            "get-instances" => get_instances::run(self).await,
            "terminate" => terminate::run(self).await,
            "raise-event" => raise_event::run(self).await,
            "purge-history" => purge_history::run(self).await,
            "delete-task-hub" => delete_task_hub::run(self).await,
            "rewind" => Err(Stop::not_yet("rewind").hint("terminate the instance if it still runs, and start it anew")),
            other => unreachable!("the grammar knows no verb {other}"),
        }
    }

    /// Which hub this is about.
    fn find(&mut self) -> Result<Found> {
        let given = self.given;
        let owned = |name: &str| given.text(name).map(str::to_owned);
        let wishes = Wishes {
            server: owned("server"),
            store: owned("store"),
            setting: owned("connection-string-setting"),
            hub: owned("task-hub-name"),
            is_verbose: given_verbose(given),
            key: self.key()?,
            is_for_server: false,
        };
        find::find(self.world, &wishes, self.screen)
    }

    /// The key of the server: on the line, in a file, in the environment (L57).
    fn key(&self) -> Result<Option<GivenKey>> {
        let file = common(self.given, self.world, "key-file");
        let of_file = || file.map(|path| key_of_file(&self.world.path(path))).transpose();
        let said = self.given.text("key").map(|key| Ok(Some(key.to_owned())));
        let said = said.unwrap_or_else(of_file)?;
        let is_of_environment = said.is_none();
        let value = said.or_else(|| self.world.filled("TASKHUB_KEY").map(str::to_owned));
        Ok(value.map(|value| GivenKey {
            value,
            is_of_environment,
        }))
    }

    /// The hub, ready for work.
    async fn open(&mut self, found: &Found, intent: Intent) -> Result<Target> {
        let target = hub_access::open(found, intent).await?;
        if given_verbose(self.given) && target.has_server() {
            self.screen.tell("a server holds the store, and is asked");
        }
        Ok(target)
    }

    /// The hub, to work with what is in it. Whoever named none and finds nothing may look in the wrong one (L24).
    async fn open_existing(&mut self, found: &Found) -> Result<Target> {
        let mut target = self.open(found, Intent::Use).await?;
        if let Some((_, others)) = other_hubs(found, &mut target).await? {
            let hub = &found.hub;
            self.last_word = Some(format!(
                "hint: task hub '{hub}' does not exist here; this store has {others} — use --task-hub-name"
            ));
        }
        Ok(target)
    }

    /// The hub, to start something in it; it is made if need be, but not beside others by whoever named none (L24).
    async fn open_or_create(&mut self, found: &Found) -> Result<Target> {
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

    /// A server that was found only by chance is not what one deletes from (L15).
    fn refuse_chance(&self, found: &Found) -> Result<()> {
        if !found.is_by_chance || self.is_sure {
            return Ok(());
        }
        let place = found.place.shown();
        let what = format!("nothing says that the hub {} {place} is meant", found.hub);
        Err(Stop::usage(what).hint("name it with `--server URL`, or accept it with `--yes`"))
    }

    /// The id of an existing instance. One that breaks the rules cannot be the id of any.
    fn id(&self) -> Option<InstanceId> {
        InstanceId::new(self.given.text("id").unwrap_or_default()).ok()
    }

    /// The words of the id.
    fn id_text(&self) -> &str {
        self.given.text("id").unwrap_or_default()
    }

    /// A moment (L10).
    fn moment(&self, name: &str) -> Result<Option<Timestamp>> {
        let Some(text) = self.given.text(name) else {
            return Ok(None);
        };
        let wrong = || {
            let what = format!("`--{name}` takes a date such as 2018-03-10T13:57:31Z or 7d, not `{text}`");
            self.given.usage(what)
        };
        dates::read(text, self.world.now).map(Some).ok_or_else(wrong)
    }

    /// The filter that the options say; both ends of the time are included.
    fn filter(&self) -> Result<Filter> {
        let before = self.moment("created-before")?;
        Ok(Filter {
            created_from: self.moment("created-after")?,
            // As the server does it, since tokens tell filters apart.
            created_before: before.map(|before| before.plus(Duration::from_nanos(100))),
            statuses: statuses::read(self.given)?,
            name: self.given.text("name").map(str::to_owned),
            id_prefix: self.given.text("id-prefix").map(str::to_owned),
        })
    }

    /// An answer that is one object in our own JSON.
    fn answer(&mut self, shape: &Shape, id: Option<&str>) -> Result<()> {
        match (self.form, id) {
            (Form::Ids, Some(id)) => self.screen.say(Colour::Plain, id),
            (Form::Ids, None) => Ok(()),
            (Form::Json, _) => self.screen.say(Colour::Plain, &shape.pretty(0)),
            (Form::JsonLines | Form::Compat, _) => self.screen.say(Colour::Plain, &shape.compact()),
        }
    }

    /// An answer that is one instance in our own JSON.
    fn answer_instance(&mut self, hub: &HubName, record: &Record) -> Result<()> {
        self.answer(&native::instance(hub, record), Some(record.info.instance.as_str()))
    }

    /// Whether what does not exist is an error: to strict callers, and in our own forms, which know no other answer
    /// (L38).
    fn needs_what_it_names(&self) -> bool {
        self.is_strict || self.form != Form::Compat
    }

    /// The end of a command about an unknown instance: Core Tools reports success, strict callers do not (L38).
    fn missing(&self) -> Result<()> {
        if self.is_strict {
            Err(Stop::silent(exit::NOT_FOUND))
        } else {
            Ok(())
        }
    }

    /// What is said of an unknown instance, for people on standard output, for programs as an error.
    fn not_found(&mut self, line: &str, colour: Colour) -> Result<()> {
        if self.form != Form::Compat {
            return Err(Stop::plain(exit::NOT_FOUND, "instance-not-found", line));
        }
        self.screen.say(colour, line)?;
        self.missing()
    }
}

/// The first of the hubs there are, and all of them for people, if nobody named a hub and the one by default is not among
/// them.
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
struct Interrupt {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Interrupt {
    fn new() -> Result<Self> {
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
    async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
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
