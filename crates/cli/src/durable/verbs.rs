//! The `durable` verbs and their options, said once: the grammar, the help and the completions read these
//! tables (L77).

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A moment (L10).
    Date,
    /// A number of rows.
    Count,
    /// Statuses, as many words as follow (L11).
    Statuses,
    /// Yes or no (L7).
    Flag,
    /// Nothing: it is in the documents and not yet in this version.
    Later,
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    /// Its name, without dashes.
    pub(crate) name: &'static str,
    /// Other names.
    pub(crate) aliases: &'static [&'static str],
    /// Its one-letter name.
    pub(crate) short: Option<char>,
    /// What it takes.
    pub(crate) kind: Kind,
    /// Whether the verb needs it.
    pub(crate) is_required: bool,
    /// Its default, for people.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) about: &'static str,
}

const fn choice(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Choice {
    Choice {
        name,
        aliases: &[],
        short: None,
        kind,
        is_required: false,
        default,
        about,
    }
}

const fn needed(name: &'static str, about: &'static str) -> Choice {
    Choice {
        is_required: true,
        ..choice(name, Kind::Text, "", about)
    }
}

const fn later(name: &'static str) -> Choice {
    choice(name, Kind::Later, "", "not available yet")
}

/// A verb.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verb {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// Its own options.
    pub(crate) choices: &'static [Choice],
    /// A line of the article.
    pub(crate) example: &'static str,
    /// The exit codes it can give, with their meaning.
    pub(crate) exits: &'static [(u8, &'static str)],
}

/// Options of every verb (L14, L57).
pub(crate) const COMMON: &[Choice] = &[
    choice(
        "connection-string-setting",
        Kind::Text,
        "AzureWebJobsStorage",
        "name of the setting that holds the connection",
    ),
    Choice {
        aliases: &["hub"],
        short: Some('H'),
        ..choice(
            "task-hub-name",
            Kind::Text,
            "host.json, DurableFunctionsHub",
            "the task hub",
        )
    },
    Choice {
        aliases: &["prefix"],
        ..choice("script-root", Kind::Text, "", "act as if started in this folder")
    },
    choice("server", Kind::Text, "", "ask the server at this URL"),
    choice("store", Kind::Text, "", "use the store in this folder"),
    choice("key", Kind::Text, "", "key of the server"),
    choice("key-file", Kind::Text, "", "file that holds the key of the server"),
    Choice {
        short: Some('o'),
        ..choice("output", Kind::Word(OUTPUTS), "compat", "form of the answer")
    },
    choice("strict", Kind::Flag, "false", "an unknown id or hub is an error"),
    Choice {
        short: Some('y'),
        ..choice(
            "yes",
            Kind::Flag,
            "false",
            "ask nothing, and accept a server that was found by itself",
        )
    },
    choice(
        "color",
        Kind::Word(&["auto", "always", "never"]),
        "auto",
        "when to use colours",
    ),
    Choice {
        short: Some('q'),
        ..choice("quiet", Kind::Flag, "false", "leave notes and hints out")
    },
    Choice {
        short: Some('v'),
        ..choice(
            "verbose",
            Kind::Flag,
            "false",
            "also say which file, setting, store and hub were used",
        )
    },
    choice("debug", Kind::Flag, "false", "on error show all causes"),
    choice("pause-on-error", Kind::Flag, "false", "on error wait for a key"),
    choice("offline", Kind::Flag, "false", "accepted, means nothing here"),
    later("profile"),
    later("columns"),
    later("time"),
    later("timeout"),
    later("request-timeout"),
    later("progress"),
    later("ca"),
    later("insecure"),
    later("pager"),
    later("bare"),
];

/// Forms of an answer (L31); those that this version has come first.
pub(crate) const OUTPUTS: &[&str] = &[
    "compat", "json", "jsonl", "ids", "yaml", "table", "text", "wide", "csv", "none",
];

/// How many of [`OUTPUTS`] there are already.
pub(crate) const OUTPUTS_HERE: usize = 4;

/// How a value that is not in a file is read (L12).
const TYPES: Kind = Kind::Word(&["auto", "json", "string"]);

const AFTER: Choice = choice("created-after", Kind::Date, "year 1", "created at this moment or later");
const BEFORE: Choice = choice(
    "created-before",
    Kind::Date,
    "year 9999",
    "created at this moment or earlier",
);
const NAME: Choice = choice("name", Kind::Text, "", "of this orchestrator");

const FOUND: (u8, &str) = (0, "done");
const FAILED: (u8, &str) = (1, "refused or failed");
const USAGE: (u8, &str) = (2, "the command line is not understood");
const UNAVAILABLE: (u8, &str) = (3, "the server or the store cannot be used");
const NOT_FOUND: (u8, &str) = (4, "no such instance, with --strict");
const CONFLICT: (u8, &str) = (5, "the instance exists");
const KEY_USED: (u8, &str) = (5, "the idempotency key was used for another event");

/// The nine verbs of Core Tools, in the order of its documentation.
pub(crate) const VERBS: &[Verb] = &[
    Verb {
        name: "start-new",
        about: "Start a new instance of an orchestrator.",
        choices: &[
            needed("function-name", "the orchestrator"),
            choice("id", Kind::Text, "random", "id of the instance"),
            choice(
                "input",
                Kind::Text,
                "null",
                "its input: inline, @file, or @- for standard input",
            ),
            choice("input-type", TYPES, "auto", "how an inline input is read"),
            choice(
                "if-exists",
                Kind::Word(&["error", "reuse", "replace-ended", "replace-any"]),
                "replace-ended, or as host.json says",
                "what becomes of an instance that has the id",
            ),
            choice(
                "wait",
                Kind::Flag,
                "false",
                "wait until it has ended and show its output",
            ),
            later("ver"),
            later("at"),
            later("tag"),
        ],
        example: "func durable start-new --function-name HelloWorld --input @counter-data.json --task-hub-name TestTaskHub",
        exits: &[
            FOUND,
            FAILED,
            USAGE,
            UNAVAILABLE,
            (4, "no such task hub, and nothing names another"),
            CONFLICT,
            (10, "with --wait: it failed"),
            (11, "with --wait: it was terminated"),
            (12, "with --wait: it was cancelled"),
            (13, "with --wait: it was purged or replaced meanwhile"),
        ],
    },
    Verb {
        name: "get-runtime-status",
        about: "Show the status of an instance.",
        choices: &[
            needed("id", "id of the instance"),
            choice("show-input", Kind::Flag, "false", "whether to show its input"),
            choice("show-output", Kind::Flag, "false", "whether to show its output"),
            later("watch"),
        ],
        example: "func durable get-runtime-status --id 0ab8c55a66644d68a3a8b220b12d209c --show-input true --show-output true",
        exits: &[FOUND, FAILED, USAGE, UNAVAILABLE, NOT_FOUND],
    },
    Verb {
        name: "get-history",
        about: "Show the history of an instance.",
        choices: &[
            needed("id", "id of the instance"),
            later("execution"),
            later("show-inputs"),
            later("follow"),
            later("from-event"),
            later("limit"),
        ],
        example: "func durable get-history --id 0ab8c55a66644d68a3a8b220b12d209c",
        exits: &[FOUND, FAILED, USAGE, UNAVAILABLE, NOT_FOUND],
    },
    Verb {
        name: "get-instances",
        about: "List instances, by created time.",
        choices: &[
            AFTER,
            BEFORE,
            choice("runtime-status", Kind::Statuses, "all", "in one of these statuses"),
            choice("top", Kind::Count, "10", "how many, 1 to 10000"),
            choice(
                "continuation-token",
                Kind::Text,
                "first page",
                "go on behind an earlier page",
            ),
            NAME,
            choice("id-prefix", Kind::Text, "", "with an id that starts so"),
            choice("all", Kind::Flag, "false", "all pages, and no token"),
            later("where"),
            later("include-entities"),
            later("no-payload"),
        ],
        example: "func durable get-instances --created-after 2018-03-10T13:57:31Z --created-before 2018-03-10T23:59Z --top 15",
        exits: &[FOUND, FAILED, USAGE, UNAVAILABLE],
    },
    Verb {
        name: "terminate",
        about: "Stop an instance.",
        choices: &[
            needed("id", "id of the instance"),
            choice("reason", Kind::Text, "null", "why; becomes its output"),
            later("recursive"),
            later("no-wait"),
        ],
        example: "func durable terminate --id 0ab8c55a66644d68a3a8b220b12d209c --reason \"It was time to be done.\"",
        exits: &[FOUND, FAILED, USAGE, UNAVAILABLE, NOT_FOUND],
    },
    Verb {
        name: "raise-event",
        about: "Send an event to an instance.",
        choices: &[
            needed("id", "id of the instance"),
            choice(
                "event-name",
                Kind::Text,
                "Event_ and a random number",
                "name of the event",
            ),
            choice(
                "event-data",
                Kind::Text,
                "null",
                "its data: inline, @file, or @- for standard input",
            ),
            choice("data-type", TYPES, "auto", "how inline data is read"),
            choice(
                "idempotency-key",
                Kind::Text,
                "none",
                "raises the event once, however often the command is repeated within a day",
            ),
            later("require-delivery"),
            later("start-if-missing"),
        ],
        example: "func durable raise-event --id 0ab8c55a66644d68a3a8b220b12d209c --event-name MyEvent --event-data @eventdata.json",
        exits: &[FOUND, FAILED, USAGE, UNAVAILABLE, NOT_FOUND, KEY_USED],
    },
    Verb {
        name: "rewind",
        about: "Take a failed instance back to before its failure. Not available yet.",
        choices: &[
            needed("id", "id of the instance"),
            choice("reason", Kind::Text, "null", "why"),
            later("dry-run"),
            later("to-event"),
            later("as"),
            later("undo"),
            later("orphans"),
            later("depth"),
            later("force"),
            later("wait"),
        ],
        example: "func durable rewind --id 0ab8c55a66644d68a3a8b220b12d209c --reason \"Orchestrator failed and needs to be revived.\"",
        exits: &[FOUND, FAILED, USAGE, UNAVAILABLE, NOT_FOUND],
    },
    Verb {
        name: "purge-history",
        about: "Delete instances that have ended, with all that is stored of them.",
        choices: &[
            AFTER,
            BEFORE,
            choice(
                "runtime-status",
                Kind::Statuses,
                "all ended",
                "in one of these ended statuses",
            ),
            NAME,
            choice("dry-run", Kind::Flag, "false", "only say what would go"),
            later("id"),
            later("where"),
            later("ended-before"),
            later("older-than"),
            later("recursive"),
            later("max"),
            later("batch-size"),
            later("force"),
        ],
        example: "func durable purge-history --created-before 2018-11-14T19:35:00.0000000Z --runtime-status failed",
        exits: &[
            FOUND,
            FAILED,
            USAGE,
            UNAVAILABLE,
            (130, "interrupted; what is gone is gone"),
        ],
    },
    Verb {
        name: "delete-task-hub",
        about: "Delete a task hub and everything in it.",
        choices: &[
            choice("dry-run", Kind::Flag, "false", "only say what would go"),
            later("export"),
            later("force"),
        ],
        example: "func durable delete-task-hub --task-hub-name UserTest",
        exits: &[FOUND, FAILED, USAGE, UNAVAILABLE, (4, "no such hub, with --strict")],
    },
];

/// Verbs of the documents that this version does not have.
pub(crate) const FURTHER: &[(&str, &str)] = &[
    ("suspend", "Set an instance aside."),
    ("resume", "Let a suspended instance go on."),
    ("restart", "Start an instance anew with its recorded input."),
    ("wait", "Wait until an instance has ended and show its output."),
    ("purge-instance", "Delete one instance that has ended."),
    ("get-task-hubs", "List the task hubs of the store."),
    ("get-entities", "List entities."),
    ("signal-entity", "Signal an entity."),
    ("count", "Count instances by status."),
];

impl Verb {
    /// Its options, then those of every verb.
    pub(crate) fn all_choices(&self) -> impl Iterator<Item = &'static Choice> {
        // What a verb says of an option is nearer than what all say of it.
        let own = self.choices;
        own.iter().chain(
            COMMON
                .iter()
                .filter(|common| own.iter().all(|choice| choice.name != common.name)),
        )
    }
}
