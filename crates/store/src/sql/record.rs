//! A row of `instance`: what its columns hold, and its checksum.

use std::borrow::Cow;

use bytes::Bytes;
use taskhub_core::event::Tags;
use taskhub_core::id::{ExecutionId, InstanceId, InstanceNumber, MessageNumber, Name, Occurrence};
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, RuntimeStatus, Stall};
use taskhub_core::time::Timestamp;

use super::Contradiction;
use super::fold::{Instance, Origin};
use super::sums::{Words, option, print, print_option};

/// Larger payloads of a status record have a row of their own.
pub(crate) const INLINE_BYTES_MAX: usize = 8 << 10;

/// An input from this size on is stored once: with the instance, and not in the event and the message that begin the
/// execution as well. To put a shorter one together again would cost more than it saves.
pub(crate) const INPUT_ONCE_BYTES_MIN: usize = 128;

/// Numbers of instances within a partition stay below this.
const NUMBERS: i64 = 1 << 40;

/// Key of all rows of an instance: its partition's row and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) i64);

impl Key {
    pub(crate) fn new(part: i64, number: InstanceNumber) -> Self {
        let number = int(number.0);
        assert!((0..NUMBERS).contains(&number), "an instance number has at most 40 bits");
        Self(part * NUMBERS + number)
    }

    pub(crate) fn part(self) -> i64 {
        self.0.div_euclid(NUMBERS)
    }

    pub(crate) fn number(self) -> InstanceNumber {
        InstanceNumber(uint(self.0.rem_euclid(NUMBERS)))
    }

    /// The keys of a partition: from the first, up to and without the second.
    pub(crate) fn range(part: i64) -> (i64, i64) {
        (part * NUMBERS, (part + 1) * NUMBERS)
    }

    /// Those of them behind an instance, or all.
    pub(crate) fn range_behind(part: i64, number: Option<InstanceNumber>) -> (i64, i64) {
        let (first, end) = Self::range(part);
        (number.map_or(first, |number| first + int(number.0) + 1), end)
    }
}

/// A counter as a column keeps it. Ours never come near the sign bit.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// And back.
pub(crate) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The parts of an instance row that change with nearly every commit, and that folding needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: RuntimeStatus,
    pub(crate) ordinal: u32,
    pub(crate) updated_at: Timestamp,
    pub(crate) completed_at: Option<Timestamp>,
    pub(crate) history_events: u32,
    pub(crate) history_bytes: u64,
    pub(crate) next_message: MessageNumber,
    pub(crate) next_occurrence: Occurrence,
    /// Rows of `pending` that belong to it.
    pub(crate) waits: u32,
    /// Rows of `seen_key` that belong to it.
    pub(crate) keys: u32,
}

/// Fingerprints of the text and blob columns of an instance. The row's checksum covers the fingerprints instead of the
/// columns, so a group that changes one column need not read the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prints {
    pub(crate) id: u64,
    pub(crate) execution: u64,
    pub(crate) name: u64,
    pub(crate) version: u64,
    pub(crate) stall: u64,
    pub(crate) info: u64,
    pub(crate) custom: u64,
    pub(crate) output: u64,
    pub(crate) input: u64,
}

impl Prints {
    /// The same after the group has changed some of the columns of a stored row; what it does to the `info` column is found out
    /// when that is read.
    pub(crate) fn after(mut self, instance: &Instance<'_>) -> Self {
        if let Some(custom) = instance.custom {
            self.custom = PayloadColumn::of(custom).print();
        }
        if let Some(next) = instance.continued {
            self.execution = print(next.execution.bytes());
            self.version = print_option(next.version.as_ref().map(|version| version.as_str().as_bytes()));
            self.input = PayloadColumn::of(next.input.as_ref()).print();
        }
        if let Some(stalled) = instance.stalled {
            self.stall = StallColumns::of(stalled).print();
        }
        if let Some(ending) = instance.ending {
            self.output = PayloadColumn::of(ending.output.as_ref()).print();
            self.stall = 0;
        }
        self
    }
}

/// A row of `instance` as far as a group must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) hub: i64,
    pub(crate) created_at: Timestamp,
    pub(crate) head: Head,
    pub(crate) prints: Prints,
}

impl Stored {
    /// The checksum of the row.
    pub(crate) fn sum(&self, key: Key) -> i64 {
        let Self {
            hub,
            created_at,
            head,
            prints,
        } = self;
        let [is_completed, completed_at] = option(head.completed_at.map(Timestamp::ticks));
        let words = [
            key.0,
            *hub,
            i64::from(head.status.number()),
            i64::from(head.ordinal),
            created_at.ticks(),
            head.updated_at.ticks(),
            i64::from(head.history_events),
            int(head.history_bytes),
            int(head.next_message.0),
            int(head.next_occurrence.0),
            i64::from(head.waits),
            i64::from(head.keys),
            is_completed,
            completed_at,
            prints.id.cast_signed(),
            prints.execution.cast_signed(),
            prints.name.cast_signed(),
            prints.version.cast_signed(),
            prints.stall.cast_signed(),
            prints.info.cast_signed(),
            prints.custom.cast_signed(),
            prints.output.cast_signed(),
            prints.input.cast_signed(),
        ];
        Words::new(words).sum(&[])
    }

    /// Refuses a row whose checksum is not the one that is stored.
    pub(crate) fn check(&self, key: Key, stored: i64) -> Result<(), Contradiction> {
        if self.sum(key) == stored {
            return Ok(());
        }
        Err(Contradiction("wrong checksum in its row".to_owned()))
    }
}

/// The text and blob columns of an instance. Columns that are always present in an intact row may be absent in a
/// damaged one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'r> {
    pub(crate) id: Option<&'r str>,
    pub(crate) execution: &'r [u8],
    pub(crate) name: Option<&'r str>,
    pub(crate) version: Option<&'r str>,
    pub(crate) stall: StallColumns<'r>,
    /// What has no column of its own, as [`encode_rest`] writes it.
    pub(crate) rest: Option<&'r [u8]>,
    pub(crate) custom: PayloadColumn<'r>,
    pub(crate) output: PayloadColumn<'r>,
    pub(crate) input: PayloadColumn<'r>,
}

impl<'r> Texts<'r> {
    /// Those of a status record whose rest is encoded already.
    pub(crate) fn of(info: &'r InstanceInfo, rest: Option<&'r [u8]>) -> Self {
        Self {
            id: Some(info.instance.as_str()),
            execution: info.execution.bytes(),
            name: Some(info.name.as_str()),
            version: info.version.as_ref().map(Name::as_str),
            stall: StallColumns::of(info.stalled.as_deref()),
            rest,
            custom: PayloadColumn::of(info.custom_status.as_ref()),
            output: PayloadColumn::of(info.output.as_ref()),
            input: PayloadColumn::of(info.input.as_ref()),
        }
    }

    pub(crate) fn prints(&self) -> Prints {
        let text = |text: Option<&str>| print_option(text.map(str::as_bytes));
        Prints {
            id: text(self.id),
            execution: print(self.execution),
            name: text(self.name),
            version: text(self.version),
            stall: self.stall.print(),
            info: print_option(self.rest),
            custom: self.custom.print(),
            output: self.output.print(),
            input: self.input.print(),
        }
    }

    /// The status record, in which columns count over what the rest says of the same thing.
    pub(crate) fn info(
        &self,
        key: Key,
        (hub, created_at): (i64, Timestamp),
        head: Head,
    ) -> Result<InfoRow, Contradiction> {
        let absent = |column: &str| Contradiction(format!("its {column} is missing"));
        let id = self.id.ok_or_else(|| absent("id"))?;
        let instance = InstanceId::new(id).map_err(|refusal| Contradiction(refusal.to_string()))?;
        let execution = self.execution.try_into();
        let execution = execution.map_err(|_| Contradiction("its execution is not 16 bytes long".to_owned()))?;
        let rest = self.rest.map(taskhub_proto::decode_info).transpose()?;
        let mut info = InstanceInfo {
            instance,
            execution: ExecutionId::new(execution),
            ordinal: head.ordinal,
            name: Name::stored(self.name.ok_or_else(|| absent("name"))?),
            version: self.version.map(Name::stored),
            status: head.status,
            created_at,
            updated_at: head.updated_at,
            completed_at: head.completed_at,
            scheduled_start: None,
            input: None,
            output: None,
            custom_status: None,
            failure: None,
            tags: Tags::new(),
            parent: None,
            stalled: self.stall.stall()?,
        };
        if let Some(rest) = rest {
            info.scheduled_start = rest.scheduled_start;
            info.failure = rest.failure;
            info.tags = rest.tags;
            info.parent = rest.parent;
        }
        let mut apart = Vec::new();
        for (place, column) in [
            (Place::Custom, self.custom),
            (Place::Output, self.output),
            (Place::Input, self.input),
        ] {
            match column {
                PayloadColumn::Absent => {}
                PayloadColumn::Inline(body) => *place.of(&mut info) = Some(Payload::new(Bytes::copy_from_slice(body))),
                PayloadColumn::Apart(print) => apart.push((place, print)),
            }
        }
        Ok(InfoRow {
            key,
            head,
            info,
            hub,
            apart,
        })
    }
}

/// Why an instance is stalled, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StallColumns<'r> {
    /// Ticks.
    pub(crate) since: Option<i64>,
    pub(crate) attempts: Option<u32>,
    pub(crate) reason: Option<&'r str>,
}

impl<'r> StallColumns<'r> {
    pub(crate) fn of(stall: Option<&'r Stall>) -> Self {
        Self {
            since: stall.map(|stall| stall.since.ticks()),
            attempts: stall.map(|stall| stall.attempts),
            reason: stall.map(|stall| stall.reason.as_str()),
        }
    }

    /// Their fingerprint.
    pub(crate) fn print(&self) -> u64 {
        let Self {
            since,
            attempts,
            reason,
        } = *self;
        if (since, attempts, reason) == (None, None, None) {
            return 0;
        }
        let ([is_since, since], [is_counted, attempts]) = (option(since), option(attempts.map(i64::from)));
        let words = Words::new([is_since, since, is_counted, attempts]);
        words
            .sum_of_print(print_option(reason.map(str::as_bytes)))
            .cast_unsigned()
    }

    fn stall(&self) -> Result<Option<Box<Stall>>, Contradiction> {
        match (self.since, self.attempts, self.reason) {
            (None, _, _) => Ok(None),
            (Some(since), Some(attempts), Some(reason)) => Ok(Some(Box::new(Stall {
                since: Timestamp::from_ticks(since),
                attempts,
                reason: reason.into(),
            }))),
            (Some(_), _, _) => Err(Contradiction("the reason why it is stalled is missing".to_owned())),
        }
    }
}

/// A payload as its column holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadColumn<'r> {
    Absent,
    Inline(&'r [u8]),
    /// The payload has a row of its own; its fingerprint.
    Apart(u64),
}

impl<'r> PayloadColumn<'r> {
    pub(crate) fn of(payload: Option<&'r Payload>) -> Self {
        match payload {
            None => Self::Absent,
            Some(payload) if is_apart(payload) => Self::Apart(print(payload.bytes())),
            Some(payload) => Self::Inline(payload.bytes()),
        }
    }

    /// Fingerprint of the payload.
    pub(crate) fn print(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Inline(body) => print(body),
            Self::Apart(print) => print,
        }
    }
}

/// Whether a payload has a row of its own.
fn is_apart(payload: &Payload) -> bool {
    payload.len() > INLINE_BYTES_MAX
}

pub(crate) fn read_status(number: u8) -> Result<RuntimeStatus, Contradiction> {
    RuntimeStatus::from_number(number).ok_or_else(|| Contradiction(format!("unknown status {number}")))
}

/// A status record, but for payloads that have rows of their own.
#[derive(Debug)]
pub(crate) struct InfoRow {
    pub(crate) key: Key,
    pub(crate) head: Head,
    pub(crate) info: InstanceInfo,
    /// Row of its hub.
    pub(crate) hub: i64,
    /// Keys in the table `payload`, and the fingerprints of the payloads there.
    pub(crate) apart: Vec<(Place, u64)>,
}

/// Where a payload of a status record is kept when it has a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Custom,
    Output,
    Input,
}

impl Place {
    const ALL: [Self; 3] = [Self::Custom, Self::Output, Self::Input];

    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Custom => 0,
            Self::Output => 1,
            Self::Input => 2,
        }
    }

    /// The place that a row of `payload` names, if there is such a one.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|place| place.number() == number)
    }

    /// The ordinal in the key of its row. Inputs of earlier executions are kept for as long as their histories.
    pub(crate) fn ordinal(self, current: u32) -> u32 {
        match self {
            Self::Input => current,
            Self::Custom | Self::Output => 0,
        }
    }

    pub(crate) fn of(self, info: &mut InstanceInfo) -> &mut Option<Payload> {
        match self {
            Self::Custom => &mut info.custom_status,
            Self::Output => &mut info.output,
            Self::Input => &mut info.input,
        }
    }
}

/// The `info` column: what a status record holds that has no column of its own; absent if it holds nothing of that.
pub(crate) fn encode_rest(info: &InstanceInfo) -> Option<Vec<u8>> {
    let has_rest =
        info.scheduled_start.is_some() || info.failure.is_some() || !info.tags.is_empty() || info.parent.is_some();
    has_rest.then(|| taskhub_proto::encode_info(info))
}

/// The checksum of a payload that has a row of its own, whose ordinal is that of an execution only if it is an input.
pub(crate) fn payload_sum(key: Key, place: Place, ordinal: u32, print: u64) -> i64 {
    Words::new([key.0, place.number(), i64::from(ordinal)]).sum_of_print(print)
}

/// The checksum of a count of instances in one status.
pub(crate) fn count_sum(part: i64, status: u8, n: i64) -> i64 {
    Words::new([part, i64::from(status), n]).sum(&[])
}

impl Instance<'_> {
    /// The status record, as of the end of the group, of an instance that the group creates.
    pub(crate) fn created_info<'i>(&self, created: &'i InstanceInfo) -> Cow<'i, InstanceInfo> {
        let mut info = Cow::Borrowed(created);
        if let Some(custom) = self.custom {
            info.to_mut().custom_status = custom.cloned();
        }
        if let Some(stalled) = self.stalled
            && stalled != info.stalled.as_deref()
        {
            info.to_mut().stalled = stalled.cloned().map(Box::new);
        }
        if let Some(next) = self.continued {
            let info = info.to_mut();
            info.execution = next.execution;
            info.version.clone_from(&next.version);
            info.input.clone_from(&next.input);
        }
        if let Some(ending) = self.ending {
            let info = info.to_mut();
            info.output.clone_from(&ending.output);
            info.failure.clone_from(&ending.failure);
        }
        info
    }

    /// The places whose payloads the group sets, and what belongs into a row of its own then.
    pub(crate) fn payloads_apart(&self) -> impl Iterator<Item = (Place, Option<&Payload>)> {
        let input = match (self.continued, &self.origin) {
            (Some(next), _) => Some(next.input.as_ref()),
            (None, Origin::Created { creation, .. }) => Some(creation.info.input.as_ref()),
            (None, Origin::Stored(_)) => None,
        };
        let output = self.ending.map(|ending| ending.output.as_ref());
        let places = [
            (Place::Input, input),
            (Place::Output, output),
            (Place::Custom, self.custom),
        ];
        let set = places.into_iter().filter_map(|(place, set)| Some((place, set?)));
        set.map(|(place, payload)| (place, payload.filter(|payload| is_apart(payload))))
    }
}
