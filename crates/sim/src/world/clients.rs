//! Clients: what they ask for at random, and what they were told.

use std::time::Duration;

use taskhub_core::event::Tags;
use taskhub_core::id::{IdempotencyKey, InstanceId, Name};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::io::{Input, Reply, Request, WaitFor};

use taskhub_store::partition_of;

use super::{ReplyTo, World};
use crate::fault::Fault;
use crate::library::LIBRARY;
use crate::machine::{SCRIPTED, event_name, root};
use crate::plan::{EVENTS, Plan, ROOTS, quoted};
use crate::scenario::Asked;
use crate::{Violation, answers};

/// A request and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) instance: InstanceId,
    pub(crate) request: Request,
    /// Tells it from every other request; repetitions share it. It travels in the payload.
    pub(crate) tag: String,
    /// Durable commits when it was sent.
    pub(crate) issued: u64,
    /// Whether the same was asked for before or after.
    pub(crate) is_repeated: bool,
    pub(crate) state: OpState,
}

#[derive(Clone, Debug)]
pub(crate) enum OpState {
    Waiting,
    /// Answered when so many commits were durable.
    Answered(u64, Reply),
    /// The node lost its memory before it answered.
    Unknown,
    /// The node said that nothing came of it.
    Displaced,
}

impl Op {
    /// Whether repeating it is a no-op.
    pub(crate) fn is_keyed(&self) -> bool {
        match &self.request {
            Request::Start(start) => start.key.is_some(),
            Request::Raise { key, .. } => key.is_some(),
            _ => false,
        }
    }
}

impl World {
    /// Sends the next request, and draws when the one after it comes.
    pub(super) fn next_request(&mut self) {
        self.ops_left -= 1;
        let first = self.asked.len();
        let given = self.given_request();
        if given.is_none() {
            self.request();
        }
        let pause = given.unwrap_or_else(|| self.clients.u64(..self.pause_max));
        for (index, asked) in self.asked.iter_mut().skip(first).enumerate() {
            (asked.is_at_once, asked.pause) = (index > 0, pause);
        }
        self.next_request_at = self.now.plus(Duration::from_micros(pause));
    }

    /// Sends what is given for this moment, and answers the pause behind it; none if requests are to be drawn.
    fn given_request(&mut self) -> Option<u64> {
        let given = self.given.as_mut()?;
        let mut now: Vec<Asked> = given.pop_front().into_iter().collect();
        while given.front().is_some_and(|next| next.is_at_once) {
            now.extend(given.pop_front());
        }
        let pause = now.first().map_or(0, |first| first.pause);
        for asked in now {
            self.ask(asked.instance, asked.request, asked.tag);
        }
        Some(pause)
    }

    /// Sends a random request, now and then twice, or one again whose outcome is unknown.
    fn request(&mut self) {
        let unknown = |op: &Op| matches!(op.state, OpState::Unknown | OpState::Displaced) && op.is_keyed();
        let candidates: Vec<usize> = (0..self.ops.len())
            .filter(|index| self.ops.get(*index).is_some_and(unknown))
            .collect();
        if !candidates.is_empty() && self.clients_do(Fault::RequestRepeated) {
            let index = self.clients.choice(&candidates).copied().unwrap_or(0);
            self.repeat(index);
            return;
        }
        let instance = self.some_instance();
        let tag = self.tag();
        let request = self.random_request(&instance, &tag);
        self.ask(instance, request, tag);
        let last = self.ops.len() - 1;
        if self.ops.get(last).is_some_and(Op::is_keyed) && self.clients_do(Fault::RequestDoubled) {
            self.repeat(last);
        }
    }

    fn repeat(&mut self, index: usize) {
        if let Some(op) = self.ops.get(index).cloned() {
            self.ask(op.instance, op.request, op.tag);
        }
    }

    fn tag(&mut self) -> String {
        self.tags += 1;
        format!("q{}", self.tags)
    }

    /// Sends a request.
    pub(super) fn ask(&mut self, instance: InstanceId, request: Request, tag: String) {
        self.tally.requests += 1;
        let to = ReplyTo(self.ops.len());
        self.trace
            .line(|| format!("{} ask {} `{instance}` {request:?}", self.now, to.0));
        self.send(
            &instance,
            Input::Request {
                instance: instance.clone(),
                request: request.clone(),
                to,
            },
        );
        if !self.is_calm {
            self.asked.push(Asked {
                instance: instance.clone(),
                request: request.clone(),
                tag: tag.clone(),
                is_at_once: false,
                pause: 0,
            });
        }
        let issued = self.journal.clock;
        let mut is_repeated = false;
        for same in self.ops.iter_mut().filter(|op| op.tag == tag) {
            (same.is_repeated, is_repeated) = (true, true);
        }
        self.ops.push(Op {
            instance,
            request,
            tag,
            issued,
            is_repeated,
            state: OpState::Waiting,
        });
        let index = partition_of(&self.ops[to.0].instance, self.partitions);
        if !self.node.partitions.contains_key(&index) {
            self.give_up_request(to);
        }
    }

    fn some_instance(&mut self) -> InstanceId {
        let known: Vec<InstanceId> = self
            .journal
            .present()
            .map(|book| book.state.info.instance.clone())
            .collect();
        if self.clients.u8(..4) == 0
            && let Some(known) = self.clients.choice(&known)
        {
            return known.clone();
        }
        let index = self.clients.u8(..ROOTS);
        root(index)
            .or_else(|| known.first().cloned())
            .unwrap_or_else(|| unreachable!("a root has a valid id (R1)"))
    }

    fn random_request(&mut self, instance: &InstanceId, tag: &str) -> Request {
        let payload = Some(quoted(tag));
        let exists = self.journal.info(instance).is_some();
        match self.clients.u8(..100) {
            0..30 => self.random_start(instance, tag),
            _ if !exists && self.clients.bool() => self.random_start(instance, tag),
            30..58 => Request::Raise {
                name: event_name(self.clients.u8(..EVENTS)),
                input: payload,
                key: self.random_key(tag),
            },
            58..64 => Request::Terminate {
                reason: payload,
                recurse: self.clients.bool(),
            },
            64..70 => Request::Suspend { reason: payload },
            70..78 => Request::Resume { reason: payload },
            78..85 => Request::Purge,
            85..93 => Request::Info,
            93..96 => Request::Wait(WaitFor::Started),
            _ => Request::Wait(WaitFor::Ended),
        }
    }

    fn random_key(&mut self, tag: &str) -> Option<IdempotencyKey> {
        if self.clients.bool() {
            IdempotencyKey::new(tag).ok()
        } else {
            None
        }
    }

    fn random_start(&mut self, instance: &InstanceId, tag: &str) -> Request {
        use RuntimeStatus::{Completed, Failed, Pending, Running, Terminated};
        let plan = Plan::random(&mut self.clients, tag);
        let reuse = match self.clients.u8(..8) {
            0 => ReusePolicy::ReplaceAny,
            1 => ReusePolicy::Replace(vec![Pending, Running]),
            2 => ReusePolicy::Replace(vec![Completed, Failed, Terminated]),
            3 => ReusePolicy::Replace(Vec::new()),
            _ => ReusePolicy::ReplaceEnded,
        };
        let delay = Duration::from_millis(self.clients.u64(0..3_000));
        let is_planned = self.clients.u8(..6) == 0;
        Request::Start(Box::new(StartRequest {
            instance: instance.clone(),
            name: Name::stored(if self.clients.bool() { SCRIPTED } else { LIBRARY }),
            version: None,
            input: Some(plan.payload()),
            tags: Tags::new(),
            scheduled_start: is_planned.then(|| self.now.plus(delay)),
            execution: None,
            reuse,
            key: self.random_key(tag),
            repeats: Repeats::default(),
        }))
    }

    /// A request is answered; the answer must hold in what is durable now (A24).
    pub(super) fn answered(&mut self, to: ReplyTo, reply: Reply) -> Result<(), Violation> {
        self.trace.line(|| format!("{} answer {} {reply:?}", self.now, to.0));
        let Some(op) = self.ops.get_mut(to.0) else {
            return Ok(());
        };
        if let OpState::Answered(..) = op.state {
            return Err(Violation::new("I1", format!("{op:?} is answered a second time")));
        }
        let is_out_of_service = self.node.broken.get(&op.instance).is_some_and(|count| *count > 1);
        if !(is_out_of_service && matches!(reply, Reply::Unreadable(_))) {
            answers::check(&self.journal, op, &reply)?;
        }
        op.state = OpState::Answered(self.journal.clock, reply);
        Ok(())
    }

    /// A caller hears that nothing came of its request.
    pub(super) fn displace_request(&mut self, to: ReplyTo) {
        self.trace.line(|| format!("{} displaced {}", self.now, to.0));
        if let Some(op) = self.ops.get_mut(to.0)
            && matches!(op.state, OpState::Waiting)
        {
            op.state = OpState::Displaced;
        }
    }

    /// Nobody will answer this request.
    pub(super) fn give_up_request(&mut self, to: ReplyTo) {
        if let Some(op) = self.ops.get_mut(to.0)
            && matches!(op.state, OpState::Waiting)
        {
            op.state = OpState::Unknown;
        }
    }

    /// Nobody will answer what is under way in a partition.
    pub(super) fn give_up_requests_of(&mut self, index: u16) {
        for op in &mut self.ops {
            if matches!(op.state, OpState::Waiting) && partition_of(&op.instance, self.partitions) == index {
                op.state = OpState::Unknown;
            }
        }
    }

    /// Nobody will answer what is under way.
    pub(super) fn give_up_requests(&mut self) {
        for op in &mut self.ops {
            if matches!(op.state, OpState::Waiting) {
                op.state = OpState::Unknown;
            }
        }
    }
}
