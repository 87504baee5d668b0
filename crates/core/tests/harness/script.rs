//! What a line of a script may say.
//!
//! | line | meaning |
//! |---|---|
//! | `at 10:05:00` | sets the clock |
//! | `start Hello "in"` | a client starts an instance |
//! | `begin` | hands a turn out and shows it |
//! | `answer …` | answers the turn that is out; if none is, begins one first |
//! | `answer partial 2 …` | the same, having processed two events |
//! | `stale answer …` | the answer of a worker whose turn was handed to another |
//! | `complete #0 "out"`, `fail #0 Boom "why"` | an activity ends; after `late` the oldest with the id |
//! | `fire` | fires the timers that are due |
//! | `raise Go "in"` `suspend` `resume` `terminate` `purge` | what clients do |
//! | `deliver`, `receive` | takes in what waits in the outbox: all of it, or what is for one instance |
//! | `receive event Go`, `receive terminate "why"` | a message from an instance elsewhere |

use taskhub_core::action::{Action, ActionKind, Completion, FIRE_AND_FORGET, TurnAnswer};
use taskhub_core::control;
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::id::{Epoch, Name};
use taskhub_core::id::{ExecutionId, Fence, IdempotencyKey, InstanceId, Seq};
use taskhub_core::message::{OutboxBody, OutboxItem, OutboxRef, Outcome, Repeats, ReusePolicy, StartRequest};
use taskhub_core::status::RuntimeStatus;

use super::words::{self, Words};
use super::world::{MAIN, World};

/// Plays one line.
pub(crate) fn play(world: &mut World, line: &str) {
    let (target, said) = match line.split_once(": ") {
        Some((target, said)) if !target.contains([' ', '"']) => (target, said),
        _ => (MAIN, line),
    };
    let mut words = Words::new(said);
    let Ok(id) = InstanceId::new(target) else {
        words.wrong("the instance has no id")
    };
    match words.word().as_str() {
        "at" => world.now = words.time(world.now),
        "start" => {
            let request = start_request(&id, &mut words, world);
            world.start(&request, "a start that was accepted before");
        }
        "begin" => {
            if world.begin(&id) {
                world.show_turn(&id);
            }
        }
        "answer" => {
            let answer = answer(said.trim_start_matches("answer"), world);
            if world.is_out(&id) || world.begin(&id) {
                world.answer(&id, answer, false);
            }
            return;
        }
        "stale" => {
            let answer = answer(said.trim_start_matches("stale answer"), world);
            world.answer(&id, answer, true);
            return;
        }
        "late" => complete(world, &id, &mut words, true),
        "complete" | "fail" => {
            let mut words = Words::new(said);
            complete(world, &id, &mut words, false);
            return;
        }
        "fire" => world.fire(&id),
        "deliver" => world.deliver(None),
        "receive" => receive(world, &id, &mut words),
        verb => control_line(world, &id, verb, &mut words),
    }
    words.end();
}

fn start_request(id: &InstanceId, words: &mut Words, world: &World) -> StartRequest {
    let mut request = StartRequest {
        instance: id.clone(),
        name: words.name(),
        version: None,
        input: words.payload(),
        tags: Tags::new(),
        scheduled_start: None,
        execution: None,
        reuse: ReusePolicy::default(),
        key: None,
        repeats: Repeats::default(),
    };
    while !words.is_empty() {
        match words.word().as_str() {
            "version" => request.version = Some(words.name()),
            "tag" => words.tag(&mut request.tags),
            "not-before" => request.scheduled_start = Some(words.time(world.now)),
            "execution" => request.execution = ExecutionId::parse(&words.word()),
            "key" => request.key = Some(key(words)),
            "while-live" => request.repeats = Repeats::WhileLive,
            "replace" => request.reuse = reuse(words),
            other => words.wrong(&format!("a start has no `{other}`")),
        }
    }
    request
}

fn reuse(words: &mut Words) -> ReusePolicy {
    if words.has("any") {
        return ReusePolicy::ReplaceAny;
    }
    let mut statuses = Vec::new();
    if words.has("none") {
        return ReusePolicy::Replace(statuses);
    }
    while let Some(word) = words.bare() {
        let status = RuntimeStatus::ALL.iter().find(|status| status.to_string() == word);
        statuses.push(*status.unwrap_or_else(|| words.wrong("a status is missing")));
    }
    ReusePolicy::Replace(statuses)
}

fn key(words: &mut Words) -> IdempotencyKey {
    IdempotencyKey::new(&words.word()).unwrap_or_else(|refusal| words.wrong(&refusal.to_string()))
}

fn complete(world: &mut World, id: &InstanceId, words: &mut Words, is_oldest: bool) {
    let is_failure = match words.word().as_str() {
        "complete" => false,
        "fail" => true,
        _ => words.wrong("an activity completes or fails"),
    };
    let event_id = words.id();
    let outcome = if is_failure {
        Outcome::Failed(Box::new(words.failure()))
    } else {
        Outcome::Completed(words.payload())
    };
    words.end();
    world.complete(id, event_id, outcome, is_oldest);
}

fn control_line(world: &mut World, id: &InstanceId, verb: &str, words: &mut Words) {
    let now = world.now;
    if verb == "raise" {
        return raise(world, id, words);
    }
    let reason = words.payload();
    let recurse = words.has("recursive");
    let Some(state) = world.state(id) else { return };
    let result = match verb {
        "suspend" => control::suspend(state, reason, now),
        "resume" => control::resume(state, reason, now),
        "terminate" => control::terminate(state, reason.as_ref(), recurse, now).map(Some),
        "purge" => control::purge(state).map(Some),
        _ => words.wrong("no line begins so"),
    };
    world.settle(id, result, &format!("a {verb} that changes nothing"));
}

fn raise(world: &mut World, id: &InstanceId, words: &mut Words) {
    let (name, input) = (words.name(), words.payload());
    let key = words.has("key").then(|| key(words));
    let times = if words.has("times") { words.number() } else { 1 };
    let now = world.now;
    for _ in 0..times {
        let Some(state) = world.state(id) else { return };
        let result = control::raise_event(state, name.clone(), input.clone(), key.as_ref(), now);
        world.settle(id, result, "an event that was accepted before");
    }
}

fn receive(world: &mut World, id: &InstanceId, words: &mut Words) {
    let body = match words.bare().as_deref() {
        None => return world.deliver(Some(id)),
        Some("event") => OutboxBody::Event {
            name: words.name(),
            input: words.payload(),
        },
        Some("terminate") => OutboxBody::Terminate {
            reason: words.payload(),
            recurse: words.has("recursive"),
            child_of: None,
        },
        Some(_) => words.wrong("an event or a terminate is missing"),
    };
    let elsewhere = OutboxRef {
        partition: 1,
        seq: Seq(0),
        index: 0,
    };
    let item = OutboxItem {
        target: id.clone(),
        body,
    };
    world.receive(&item, elsewhere);
}

/// Reads an answer: `partial N`, then actions and `custom "…"` with ` · ` between them.
fn answer(said: &str, world: &World) -> TurnAnswer {
    let mut answer = TurnAnswer {
        fence: Fence {
            epoch: Epoch(0),
            counter: 0,
        },
        actions: Vec::new(),
        custom_status: None,
        events_processed: None,
    };
    for part in words::parts(said) {
        let mut words = Words::new(&part);
        if words.has("partial") {
            answer.events_processed = Some(words.number());
        }
        match words.bare().as_deref() {
            None => {}
            Some("custom") => answer.custom_status = words.payload(),
            Some("timers") => {
                let (fire_at, count) = (words.time(world.now), words.number());
                let kind = ActionKind::CreateTimer { fire_at };
                let ids = (0..).take(count);
                answer.actions.extend(ids.map(|id| Action { id, kind: kind.clone() }));
            }
            Some(verb) => answer.actions.push(action(verb, &mut words, world)),
        }
        words.end();
    }
    answer
}

fn action(verb: &str, words: &mut Words, world: &World) -> Action {
    let has_id = !["cancel", "terminate"].contains(&verb);
    let id = if has_id { words.id() } else { -1 };
    let kind = match verb {
        "schedule" => {
            let (name, input) = (words.name(), words.payload());
            let (version, tags) = (version(words), tags(words));
            ActionKind::ScheduleTask {
                name,
                version,
                input,
                tags,
            }
        }
        "timer" => ActionKind::CreateTimer {
            fire_at: words.time(world.now),
        },
        "cancel" => ActionKind::CancelTimer { timer_id: words.id() },
        "child" => child(words),
        "send" => ActionKind::SendEvent {
            instance: words.instance(),
            name: words.name(),
            input: words.payload(),
        },
        "terminate" => ActionKind::TerminateOrchestration {
            instance: words.instance(),
            reason: words.payload(),
            recurse: words.has("recursive"),
        },
        "complete" => ActionKind::CompleteOrchestration(Completion::Completed(words.payload())),
        "fail" => ActionKind::CompleteOrchestration(Completion::Failed(Box::new(words.failure()))),
        "end" => ActionKind::CompleteOrchestration(Completion::Terminated(words.payload())),
        "continue" => {
            let input = words.payload();
            let version = version(words);
            let carried = carried(words, world);
            ActionKind::CompleteOrchestration(Completion::ContinuedAsNew {
                input,
                version,
                carried,
            })
        }
        _ => words.wrong("no action is called so"),
    };
    Action { id, kind }
}

fn child(words: &mut Words) -> ActionKind {
    let (name, input) = (words.name(), words.payload());
    let instance = words.has("as").then(|| words.instance());
    let (version, mut tags) = (version(words), tags(words));
    if words.has("detached") {
        tags.insert(FIRE_AND_FORGET.to_owned(), "true".to_owned());
    }
    ActionKind::CreateSubOrchestration {
        instance,
        name,
        version,
        input,
        tags,
    }
}

fn version(words: &mut Words) -> Option<Name> {
    words.has("version").then(|| words.name())
}

fn tags(words: &mut Words) -> Tags {
    let mut tags = Tags::new();
    while words.has("tag") {
        words.tag(&mut tags);
    }
    tags
}

fn carried(words: &mut Words, world: &World) -> Vec<HistoryEvent> {
    let mut carried = Vec::new();
    while words.has("carry") {
        let kind = if words.has("suspension") {
            EventKind::ExecutionSuspended { reason: None }
        } else {
            EventKind::EventRaised {
                name: words.name(),
                input: words.payload(),
            }
        };
        carried.push(HistoryEvent::inbound(world.now, kind));
    }
    carried
}
