//! What follows from a commit: the outputs that wait for it, timers, waiters, ready turns.

use super::{
    Change, Commit, Destination, Flaw, InstanceId, InstanceNumber, InstanceState, Occurrence, Open, OpenKind,
    OutboxRef, Output, Partition, Reply, Seq, Slot, TailPart, TaskKey, TaskOffer, Update, WaitFor, fingerprint, turn,
};

impl<R: Destination> Partition<R> {
    /// Numbers a commit, applies it to memory and says what follows from it.
    pub(super) fn commit(&mut self, mut commit: Commit, done: Option<Occurrence>, out: &mut Vec<Output<R>>) -> Seq {
        let seq = self.next_seq;
        self.next_seq = seq.next();
        let instance = commit.instance.clone();
        let outbox = self.take_outbox(seq, &mut commit);
        self.withdraw(seq, &commit, done, out);
        match &commit.change {
            None => {}
            Some(Change::Create(creation)) => {
                self.filter.add(fingerprint(&instance));
                let state = InstanceState::created(commit.number, creation);
                let is_offered = self.orchestrators_offered.has(&state.info.name);
                if let Some(at) = state.starts_at().filter(|at| is_offered && *at > self.last_now) {
                    self.timers.add_ready(instance.clone(), at);
                }
                self.replace_state(&instance, Some(state), seq, is_offered);
            }
            Some(Change::Purge) => {
                self.replace_state(&instance, None, seq, false);
                self.refill_filter(out);
            }
            Some(Change::Update(update)) => {
                self.apply_update(seq, &instance, &commit, update);
                self.follow_opened(seq, &commit, update, out);
            }
        }
        self.sweep_timers();
        if commit.change.is_some() {
            self.answer_waiters(&instance, seq, out);
        }
        self.memory.weigh(&instance);
        out.push(Output::Commit { seq, commit });
        out.extend(outbox);
        self.mark_ready(&instance);
        seq
    }

    pub(super) fn take_outbox(&self, seq: Seq, commit: &mut Commit) -> Vec<Output<R>> {
        let place = |index| OutboxRef {
            partition: self.key.index,
            seq,
            index,
        };
        let items = (0..).zip(commit.outbox.iter().cloned());
        let messages = items
            .map(|(index, item)| Output::Message { at: place(index), item })
            .collect();
        if self.flaws.has(Flaw::MessagesSkipOutbox) {
            commit.outbox.clear();
        }
        messages
    }

    fn replace_state(&mut self, instance: &InstanceId, state: Option<InstanceState>, seq: Seq, is_offered: bool) {
        if self.memory.get_mut(instance).is_none() {
            self.memory.insert(instance, Slot::new(None, seq, is_offered));
        }
        self.held.remove(instance);
        let Some(slot) = self.memory.get_mut(instance) else {
            return;
        };
        slot.state = state;
        slot.is_offered = is_offered;
        slot.seq = seq;
        slot.tail.clear();
        slot.turn = None;
        slot.retry_at = None;
    }

    pub(super) fn apply_update(&mut self, seq: Seq, instance: &InstanceId, commit: &Commit, update: &Update) {
        let Some(slot) = self.memory.get_mut(instance) else {
            unreachable!("only an instance in memory is updated")
        };
        let Some(state) = slot.state.as_mut() else {
            unreachable!("only an instance that exists is updated")
        };
        let first = state.history_events;
        state.apply(commit);
        slot.seq = seq;
        if update.continued.is_some() {
            slot.tail.clear();
        } else if !update.events.is_empty() {
            slot.tail.push_back(TailPart {
                seq,
                first,
                events: update.events.clone(),
            });
            self.undurable.push_back((seq, instance.clone()));
        }
        // The running turn belongs to a history that no longer exists, so its token is stale (A25).
        let moved_on = |turn: &turn::Turn| {
            turn.expected_history != state.history_events || turn.execution != state.info.execution || !state.is_live()
        };
        if slot.turn.as_ref().is_some_and(moved_on) {
            slot.turn = None;
        }
    }

    pub(super) fn follow_opened(&mut self, seq: Seq, commit: &Commit, update: &Update, out: &mut Vec<Output<R>>) {
        for open in &update.opened {
            match &open.kind {
                OpenKind::Task { .. } => {
                    let offer = self.offer(&commit.instance, commit.number, open, false);
                    out.extend(offer.map(|offer| Output::Dispatch { seq, offer }));
                }
                OpenKind::Timer { fire_at } => {
                    let instance = commit.instance.clone();
                    self.timers
                        .add_timer(instance, commit.number, open.occurrence, *fire_at);
                }
                OpenKind::Child { .. } => {}
            }
        }
    }

    /// Takes back the activities that this commit closes without a result.
    pub(super) fn withdraw(&self, seq: Seq, commit: &Commit, done: Option<Occurrence>, out: &mut Vec<Output<R>>) {
        let Some(state) = self.state(&commit.instance) else {
            return;
        };
        let is_task = |open: &&Open| matches!(open.kind, OpenKind::Task { .. });
        let closed: Vec<Occurrence> = match &commit.change {
            None => Vec::new(),
            Some(Change::Update(update)) => {
                let open = update.closed.iter().filter_map(|occurrence| state.open.get(occurrence));
                open.filter(is_task)
                    .map(|open| open.occurrence)
                    .filter(|occurrence| Some(*occurrence) != done)
                    .collect()
            }
            Some(Change::Create(_) | Change::Purge) => state
                .open
                .values()
                .filter(is_task)
                .map(|open| open.occurrence)
                .collect(),
        };
        let keys = closed
            .into_iter()
            .map(|occurrence| self.task_key(&commit.instance, state.number, occurrence));
        out.extend(keys.map(|key| Output::Withdraw { seq, key }));
    }

    pub(super) fn task_key(&self, instance: &InstanceId, number: InstanceNumber, occurrence: Occurrence) -> TaskKey {
        TaskKey {
            partition: self.key.clone(),
            number,
            occurrence,
            instance: instance.clone(),
        }
    }

    pub(super) fn offer(
        &self,
        instance: &InstanceId,
        number: InstanceNumber,
        open: &Open,
        may_be_running: bool,
    ) -> Option<TaskOffer> {
        let OpenKind::Task {
            name,
            version,
            input,
            tags,
            deliveries,
        } = &open.kind
        else {
            return None;
        };
        Some(TaskOffer {
            key: self.task_key(instance, number, open.occurrence),
            event_id: open.event_id,
            name: name.clone(),
            version: version.clone(),
            input: input.clone(),
            tags: tags.clone(),
            deliveries: *deliveries,
            may_be_running,
        })
    }

    pub(super) fn answer_waiters(&mut self, instance: &InstanceId, seq: Seq, out: &mut Vec<Output<R>>) {
        let Some(waiting) = self.waiters.get_mut(instance) else {
            return;
        };
        let state = self.memory.get(instance).and_then(|slot| slot.state.as_ref());
        let is_met = |wait: &WaitFor| state.is_none_or(|state| wait.is_met(state));
        for (_, to) in waiting.extract_if(.., |(wait, _)| is_met(wait)) {
            out.push(Output::Reply {
                seq,
                to,
                reply: Reply::Info(state.map(|state| Box::new(state.info.clone()))),
            });
        }
        if waiting.is_empty() {
            self.waiters.remove(instance);
        }
    }

    /// Queues the instance if a turn of it may begin.
    pub(super) fn mark_ready(&mut self, instance: &InstanceId) {
        let now = self.last_now;
        let is_held = self.held.contains(instance);
        let Some(slot) = self.memory.get_mut(instance) else {
            return;
        };
        let may_begin = slot.is_offered && !is_held && slot.retry_at.is_none_or(|at| at <= now);
        let is_free = may_begin && slot.turn.is_none() && !slot.is_queued;
        if is_free && slot.state.as_ref().is_some_and(|state| state.is_ready(now)) {
            slot.is_queued = true;
            self.ready.push_back(instance.clone());
        }
    }

    /// Forgets the events that are durable now.
    pub(super) fn trim(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq);
        while self.undurable.front().is_some_and(|(first, _)| *first <= seq) {
            let Some((_, instance)) = self.undurable.pop_front() else {
                break;
            };
            if let Some(slot) = self.memory.get_mut(&instance) {
                while slot.tail.front().is_some_and(|part| part.seq <= seq) {
                    slot.tail.pop_front();
                }
            }
        }
    }
}
