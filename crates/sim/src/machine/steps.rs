//! The steps of a plan, and the actions they ask for.

use taskhub_core::action::{Action, ActionKind, FIRE_AND_FORGET};
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::Name;
use taskhub_core::instance::OpenClass;

use super::{Doing, Key, Machine, SCRIPTED, event_name, root, shared_child};
use crate::plan::{Act, Step, quoted};

impl Machine {
    pub(super) fn go_on(&mut self) {
        while matches!(self.doing, Doing::Steps) {
            let step = self
                .plan
                .as_ref()
                .and_then(|plan| plan.steps.get(self.next_step))
                .cloned();
            self.next_step += 1;
            match step {
                None => self.doing = Doing::Ended(Ok(())),
                Some(step) => self.step(step),
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Activity(act) => {
                let id = self.task(act);
                self.join([(OpenClass::Task, id)]);
            }
            Step::Retry(act, times) => self.call(act, times),
            Step::FanOut(count) => {
                let keys: Vec<Key> = (0..count).map(|_| (OpenClass::Task, self.task(Act::Echo))).collect();
                self.join(keys);
            }
            Step::Mixed(ms, child) => {
                let keys = [
                    (OpenClass::Task, self.task(Act::Flaky)),
                    (OpenClass::Timer, self.timer(u64::from(ms))),
                    (OpenClass::Child, self.child(None, &child, false)),
                ];
                self.join(keys);
            }
            Step::Timer(ms) => {
                let id = self.timer(u64::from(ms));
                self.join([(OpenClass::Timer, id)]);
            }
            Step::Wait(event) => {
                if !self.consume(event) {
                    self.doing = Doing::Wait(event);
                }
            }
            Step::Race(event, ms) => {
                if !self.consume(event) {
                    let timer = self.timer(u64::from(ms));
                    self.doing = Doing::Race { event, timer };
                }
            }
            Step::Child(id, child) => {
                let id = self.child(id, &child, false);
                self.join([(OpenClass::Child, id)]);
            }
            Step::Detached(child) => {
                self.child(None, &child, true);
            }
            Step::Send(target, event) => self.send(target, event),
            Step::Terminate(target) => self.terminate(target),
            Step::Status => self.custom_status = Some(quoted(&format!("{:x}", self.digest))),
            Step::Fail => {
                let failure = Failure::new("Planned", "the plan fails here");
                self.doing = Doing::Ended(Err(Box::new(failure)));
            }
        }
    }

    fn join(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.doing = Doing::Join(keys.into_iter().map(|key| (key, None)).collect());
    }

    pub(super) fn call(&mut self, act: Act, left: u8) {
        let id = self.task(act);
        self.doing = Doing::Retry {
            act,
            left,
            waits_for: (OpenClass::Task, id),
        };
    }

    pub(super) fn push(&mut self, kind: ActionKind) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        self.actions.push_back(Action { id, kind });
        id
    }

    fn task(&mut self, act: Act) -> i32 {
        let input = Some(quoted(&self.call_tag()));
        self.push(ActionKind::ScheduleTask {
            name: Name::stored(act.name()),
            version: None,
            input,
            tags: Tags::new(),
        })
    }

    pub(super) fn timer(&mut self, ms: u64) -> i32 {
        let fire_at = self.now.plus(std::time::Duration::from_millis(ms));
        self.push(ActionKind::CreateTimer { fire_at })
    }

    fn child(&mut self, shared: Option<u8>, steps: &[Step], is_detached: bool) -> i32 {
        let id = self.next_id;
        let input = self
            .plan
            .as_ref()
            .map(|plan| plan.child(&id.to_string(), steps).payload());
        let detach = || (FIRE_AND_FORGET.to_owned(), "true".to_owned());
        self.push(ActionKind::CreateSubOrchestration {
            instance: shared.and_then(shared_child),
            name: Name::stored(SCRIPTED),
            version: None,
            input,
            tags: is_detached.then(detach).into_iter().collect(),
        })
    }

    fn terminate(&mut self, target: u8) {
        let Some(instance) = root(target) else { return };
        self.push(ActionKind::TerminateOrchestration {
            instance,
            reason: Some(quoted(&self.call_tag())),
            recurse: self.next_id % 2 == 0,
        });
    }

    fn send(&mut self, target: u8, event: u8) {
        let Some(instance) = root(target) else { return };
        let input = Some(quoted(&self.call_tag()));
        self.push(ActionKind::SendEvent {
            instance,
            name: event_name(event),
            input,
        });
    }

    /// Tells this action from every other one of the simulation.
    fn call_tag(&self) -> String {
        let plan = self.plan.as_ref();
        let (tag, round) = plan.map_or(("?", 0), |plan| (&plan.tag, plan.round));
        format!("{tag}.{round}.{}", self.next_id)
    }

    pub(super) fn mix(&mut self, text: &str) {
        for byte in text.bytes().chain([b'\n']) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
