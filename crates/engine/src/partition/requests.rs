//! What clients want of an instance. Every answer, refusals included, waits for the commit it was made
//! from (A24).

use taskhub_core::commit::Commit;
use taskhub_core::control::{self, Started};
use taskhub_core::id::{InstanceId, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::StartRequest;
use taskhub_core::refusal::Refusal;

use super::{Destination, Partition};
use crate::flaw::Flaw;
use crate::io::{Output, Reply, Request, WaitFor};

impl<R: Destination> Partition<R> {
    pub(super) fn request(&mut self, instance: &InstanceId, request: Request, to: R, out: &mut Vec<Output<R>>) {
        match request {
            Request::Start(start) => self.start(&start, to, out),
            Request::Info => {
                let info = self.state(instance).map(|state| Box::new(state.info.clone()));
                self.reply(instance, to, Reply::Info(info), out);
            }
            Request::Wait(wait) => self.wait(instance, wait, to, out),
            Request::Terminate { .. } if self.flaws.has(Flaw::TerminateWaitsForTurn) && self.has_turn_out(instance) => {
                self.reply(instance, to, Reply::Done, out);
            }
            Request::Purge => {
                let rows = self.state(instance).map_or(0, InstanceState::rows);
                let made = self.change(instance, Request::Purge);
                self.settle(instance, made, Reply::Purged { rows }, to, out);
            }
            change => {
                let made = self.change(instance, change);
                self.settle(instance, made, Reply::Done, to, out);
            }
        }
    }

    fn has_turn_out(&self, instance: &InstanceId) -> bool {
        self.memory.get(instance).is_some_and(|slot| slot.turn.is_some())
    }

    fn start(&mut self, start: &StartRequest, to: R, out: &mut Vec<Output<R>>) {
        let state = self.memory.get(&start.instance).and_then(|slot| slot.state.as_ref());
        let made = match control::create(state, start, &mut self.ids, self.last_now) {
            Ok(Started::New(commit)) => Ok(Some(*commit)),
            Ok(Started::Repeated) => Ok(None),
            Err(refusal) => Err(refusal),
        };
        self.settle(&start.instance, made, Reply::Done, to, out);
    }

    /// The commit a request leads to; `None` if it changes nothing.
    fn change(&self, instance: &InstanceId, request: Request) -> Result<Option<Commit>, Refusal> {
        let now = self.last_now;
        let Some(state) = self.state(instance) else {
            return Err(Refusal::InstanceNotFound {
                instance: instance.clone(),
            });
        };
        match request {
            Request::Raise { name, input, key } => control::raise_event(state, name, input, key.as_ref(), now),
            Request::Terminate { reason, recurse } => {
                control::terminate(state, reason.as_ref(), recurse, now).map(Some)
            }
            Request::Suspend { reason } => control::suspend(state, reason, now),
            Request::Resume { reason } => control::resume(state, reason, now),
            Request::Purge => control::purge(state).map(Some),
            Request::Start(_) | Request::Info | Request::Wait(_) => unreachable!("answered before"),
        }
    }

    fn settle(
        &mut self,
        instance: &InstanceId,
        made: Result<Option<Commit>, Refusal>,
        done: Reply,
        to: R,
        out: &mut Vec<Output<R>>,
    ) {
        match made {
            Ok(Some(commit)) => {
                to.note_made();
                let seq = self.commit(commit, None, out);
                out.push(Output::Reply { seq, to, reply: done });
            }
            Ok(None) => self.reply(instance, to, done, out),
            Err(refusal) => self.reply(instance, to, Reply::Refused(refusal), out),
        }
    }

    fn wait(&mut self, instance: &InstanceId, wait: WaitFor, to: R, out: &mut Vec<Output<R>>) {
        match self.state(instance) {
            None => {
                let refusal = Refusal::InstanceNotFound {
                    instance: instance.clone(),
                };
                self.reply(instance, to, Reply::Refused(refusal), out);
            }
            Some(state) if wait.is_met(state) => {
                let reply = Reply::Info(Some(Box::new(state.info.clone())));
                self.reply(instance, to, reply, out);
            }
            Some(_) => {
                self.sweep_waiters();
                let waiting = self.waiters.entry(instance.clone()).or_default();
                waiting.retain(|(_, to)| !to.is_gone());
                waiting.push((wait, to));
            }
        }
    }

    fn reply(&self, instance: &InstanceId, to: R, reply: Reply, out: &mut Vec<Output<R>>) {
        out.push(Output::Reply {
            seq: self.seq_of(instance),
            to,
            reply,
        });
    }

    /// The commit that what is known of the instance rests on. Of one that is not in memory nothing
    /// undurable is known but, perhaps, that it is gone: everything made so far covers that.
    fn seq_of(&self, instance: &InstanceId) -> Seq {
        self.memory
            .get(instance)
            .map_or_else(|| self.last_seq(), |slot| slot.seq)
    }
}
