//! Every bound of the engine, by name. Above a bound there is a clear refusal, never a surprise (P8).

/// Shortest hub name, in characters (A6).
pub const HUB_NAME_CHARS_MIN: usize = 3;
/// Longest hub name, in characters (A6).
pub const HUB_NAME_CHARS_MAX: usize = 50;
/// Longest instance id, in characters (R1).
pub const INSTANCE_ID_CHARS_MAX: usize = 256;
/// Longest idempotency key, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 256;
/// Longest name of a function, event or version, in characters.
pub const NAME_CHARS_MAX: usize = 1024;
/// Largest payload on every surface, in bytes (R170, A14).
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Deepest nesting of a payload that is JSON, on every surface: what all clients can read, with what stands around it in
/// lists and histories (H16).
pub const PAYLOAD_LEVELS_MAX: usize = 120;
/// Largest custom status, in UTF-16 code units of its text (R97). The Functions extension takes 16 KB of UTF-16, of
/// which it counts whole KB only: all that is less than 17.
pub const CUSTOM_STATUS_UNITS_MAX: usize = (17 << 10) / 2 - 1;
/// Largest failure, in bytes of its types, messages, stack traces and properties, those of its causes included. A
/// longer failure is truncated with a note. The limit is far below that of a payload, because the text of a failure
/// becomes an output.
pub const FAILURE_BYTES_MAX: usize = 128 << 10;
/// Most nested causes of a failure that are kept.
pub const FAILURE_CAUSES_MAX: usize = 32;
/// Most unread messages in an inbox before a raise is refused (R86).
pub const INBOX_MESSAGES_MAX: usize = 100_000;
/// Unread messages above that at which a suspend is refused too: an instance that is flooded can still be set aside.
pub const INBOX_CONTROL_MESSAGES: usize = 1_000;
/// Most bytes of unread messages in an inbox, the new one included, before a raise is refused (R86): so few that all of
/// them can be in memory, and in one commit.
pub const INBOX_BYTES_MAX: usize = 256 << 20;
/// Longest reason of a suspend, in bytes, that is taken beyond that.
pub const INBOX_CONTROL_BYTES: usize = 64 << 10;
/// Most bytes of payload in the answer to one turn: far below the limit of a history, and below what a store takes in one
/// commit.
pub const TURN_ANSWER_BYTES_MAX: usize = 256 << 20;
/// Most actions of one turn (R173).
pub const TURN_ACTIONS_MAX: usize = 100_000;
/// Most messages delivered in one turn (R167).
pub const TURN_MESSAGES_MAX: usize = 1_000;
/// Most payload bytes delivered in one turn (R167); one message always fits.
pub const TURN_BYTES_MAX: usize = 4 << 20;
/// Most events in the history of one execution; at the limit the instance stalls (R172).
pub const HISTORY_EVENTS_MAX: u32 = 1_000_000;
/// Most payload bytes in the history of one execution (R172).
pub const HISTORY_BYTES_MAX: u64 = 1 << 30;
/// Deliveries without an accepted answer before an item is set aside (R184).
pub const DELIVERIES_MAX: u32 = 10;
/// How long an idempotency key is remembered, in hours (R83).
pub const KEY_HOURS: u64 = 24;
/// Largest page of a query, in rows.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Bytes of status records after which a page ends, however many rows were asked for; one row always fits.
pub const PAGE_BYTES_MAX: usize = 16 << 20;
/// How many earlier executions keep their history after continue-as-new (R134).
pub const ARCHIVED_EXECUTIONS_MAX: u32 = 10;
