//! What the runtime does: carrying out the actions of a step, in any order that the ports allow.

use heirloom_proto::{Action, Cause, Note, Record, Refusal, Response, ServerId, StoreId, Token};
use heirloom_session::Input;

use crate::clock::{MICROSECOND, MILLISECOND};
use crate::server::{Birthday, Caller, State, Waiting};
use crate::sometimes::Sight;
use crate::world::{Occurrence, World};
use heirloom_laws::Violation;
use heirloom_laws::story;

impl World {
    /// Carries out the actions of one step, shuffled.
    pub(crate) fn perform(&mut self, id: ServerId, mut actions: Vec<Action>) {
        let Some(born) = self.server(id).process().map(|process| process.born) else { return };
        self.random.shuffle(&mut actions);
        in_ticket_order(&mut actions);
        let mut left = self.server_mut(id).crash_within_step.take();
        if actions.is_empty() && left.is_some() {
            self.server_mut(id).crash_within_step = left.take();
        }
        for action in actions {
            if self.server_mut(id).process_of(born).is_none() {
                // The run ended with an action before this one.
                return;
            }
            if let Some(count) = &mut left {
                if *count == 0 {
                    self.crash(id, true);
                    let delay = self.random.waiting(self.plan.down_mean);
                    self.start_later(id, delay);
                    return;
                }
                *count -= 1;
            }
            self.trace.note(self.now, || format!("{id} -> {}", story::action(&action)));
            self.perform_one(id, born, action);
        }
    }

    fn perform_one(&mut self, id: ServerId, born: Birthday, action: Action) {
        match action {
            Action::Send { to, cluster, message } => {
                if to == id {
                    self.broke(Violation { law: 10, what: format!("server {id} writes to itself: {message:?}") });
                    return;
                }
                self.watch_old_copy(id, &message);
                let Some(process) = self.server(id).process() else { return };
                if process.streams[usize::from(to.0)].is_none() {
                    return;
                }
                let (plan, tally) = (&self.plan, &mut self.tally);
                for arrival in self.network.arrivals(plan, &mut self.random, (id, to), self.now, tally) {
                    let message = Box::new(message.clone());
                    self.after(arrival - self.now, Occurrence::Arrive { to, born, cluster, message });
                }
            }
            Action::Persist { ticket, record } => self.persist(id, born, ticket, record),
            Action::NoteProgress { commit, confirmed: _ } => self.server_mut(id).disk.note(commit),
            Action::Respond { token, result } => self.respond(id, token, result),
            Action::Probe { server, run, probe, .. } => {
                let delay = self.random.between(self.plan.delay.0, self.plan.delay.1);
                self.after(delay, Occurrence::ProbeArrives { asker: id, born, server, run, probe });
            }
            // Copies that differ are told of by a note, and break a law.
            Action::Examine => {}
            Action::FetchSnapshot { from, at_least } => self.fetch_snapshot(id, born, from, at_least),
            Action::Tell(note) => self.told(id, &note),
            Action::Halt(cause) => self.halt(id, born, cause),
        }
    }

    fn persist(&mut self, id: ServerId, born: Birthday, ticket: heirloom_proto::Ticket, record: Record) {
        let now = self.now;
        let server = self.server_mut(id);
        if let (Record::Cut { .. }, Some(process)) = (&record, server.process_mut()) {
            process.last_cut = Some(ticket);
        }
        if server.disk_failed {
            return;
        }
        let slow = server.slow_disk_until > now;
        if let Some(queue) = server.disk.enqueue(ticket, record) {
            self.sync_later(id, born, queue, slow);
        }
    }

    fn respond(&mut self, id: ServerId, token: Token, result: Result<Response, Refusal>) {
        let Some(process) = self.server_mut(id).process_mut() else { return };
        let Some(Waiting { caller, request }) = process.callers.remove(&token) else { return };
        let Caller::Client { client, server: asked, connection, attempt, forward } = caller else {
            match result {
                Ok(Response::Promoted { .. }) => self.seen.saw(Sight::AHandOverWasDone),
                Ok(Response::Fenced) => self.seen.saw(Sight::AServerWasFencedByTheOperator),
                Err(Refusal::HandOverCalledOff) => self.seen.saw(Sight::AHandOverWasCalledOff),
                Ok(_) | Err(_) => {}
            }
            return;
        };
        // What the front door does before a client hears of it.
        let passed_on = match result {
            Err(Refusal::NotPrimary { primary: Some(primary) }) if forward && primary != id => Some(primary),
            Err(Refusal::NotPrimary { primary: None }) if self.random.per_mille(200) => Some(id),
            Ok(_) | Err(_) => None,
        };
        if let Some(next) = passed_on {
            if self.network.open_both_ways(id, next) {
                let delay = self.random.between(self.plan.delay.0, self.plan.delay.1 * 4);
                self.after(delay, Occurrence::Ask { caller, server: next, request });
            }
            return;
        }
        if asked != id && !self.network.open(id, asked) {
            return;
        }
        self.watch_answer(id, &request, &result);
        let input = match result {
            Ok(response) if asked != id => {
                Input::Answered { attempt, response: response.forwarded(), server: Some(id) }
            }
            Ok(response) => Input::Answered { attempt, response, server: Some(id) },
            Err(refusal) => Input::Refused { attempt, refusal },
        };
        let Some(name) = self.clients.get(client).map(|client| client.name) else { return };
        let delay = self.random.between(self.plan.delay.0, self.plan.delay.1);
        self.after(delay, Occurrence::Answer { client, name, connection, input: Box::new(input), attempt });
    }

    /// What a process does at the end of a run.
    fn halt(&mut self, id: ServerId, born: Birthday, cause: Cause) {
        self.trace.note(self.now, || format!("## server {id} halts: {cause:?}"));
        let delay = self.random.between(10 * MICROSECOND, 5 * MILLISECOND);
        let store = StoreId(self.random.number());
        match cause {
            Cause::Deposed | Cause::SnapshotFetched => {
                let (now, mut random) = (self.now, crate::random::Random::new(store.0));
                let server = self.server_mut(id);
                if server.disk_failed || server.full_until > now {
                    server.disk.crash(&mut random);
                } else {
                    server.disk.drain();
                    self.deposed_or_behind(id, &cause);
                }
            }
            Cause::Superseded { .. } => self.server_mut(id).disk = crate::disk::Disk::blank(id, store),
            Cause::Irreconcilable { what } => {
                if !self.may_be_irreconcilable(id) {
                    self.broke(Violation {
                        law: 10,
                        what: format!("server {id} says that its log can't be reconciled: {what}"),
                    });
                    return;
                }
                let disk = &mut self.server_mut(id).disk;
                *disk = disk.set_aside(store);
            }
            Cause::Outdated { what } => {
                if !self.server(id).put_back {
                    let what = format!("server {id} gives its directory up, and it is the newest: {what}");
                    self.broke(Violation { law: 10, what });
                    return;
                }
                self.seen.saw(Sight::AnOlderCopyWasNoticed);
                let server = self.server_mut(id);
                server.disk = server.disk.set_aside(store);
                server.put_back = false;
                server.wiped = true;
                server.damaged = false;
            }
            Cause::Disk { .. } => {
                self.crash(id, true);
                let delay = self.random.waiting(self.plan.down_mean);
                self.start_later(id, delay);
                return;
            }
            Cause::Misconfigured { what } => {
                self.broke(Violation { law: 10, what: format!("server {id} thinks that it is misconfigured: {what}") });
                return;
            }
        }
        let callers = match self.server_mut(id).process_mut() {
            Some(process) => std::mem::take(&mut process.callers),
            None => return,
        };
        // The runtime lives on and tells those who still wait that their outcome is not known.
        for (token, waiting) in callers {
            if let Some(process) = self.server_mut(id).process_mut() {
                process.callers.insert(token, waiting);
            }
            self.respond(id, token, Err(Refusal::OutcomeUnknown));
        }
        let server = self.server_mut(id);
        server.state = State::Between;
        server.inbox.clear();
        server.stalled.clear();
        self.run_ended(id, born, true);
        self.start_later(id, delay);
    }

    /// All that it wrote is durable; a snapshot that was fetched takes the place of its log.
    fn deposed_or_behind(&mut self, id: ServerId, cause: &Cause) {
        if *cause == Cause::Deposed {
            return self.seen.saw(Sight::AServerWasDeposed);
        }
        let server = self.server_mut(id);
        let snapshot = server.process_mut().and_then(|process| process.fetched.take()).expect("it was fetched");
        server.disk.install(snapshot);
        self.seen.saw(Sight::ASnapshotWasInstalled);
    }

    /// Logs differ beyond repair only where a disk has lied or a directory was emptied at the worst moment.
    fn may_be_irreconcilable(&self, id: ServerId) -> bool {
        let _ = id;
        self.plan.wipes == crate::plan::Wipes::Wild
    }

    fn told(&mut self, id: ServerId, note: &Note) {
        match note {
            Note::Chosen { reason, view } => {
                self.seen.saw(Sight::AViewWasChosen);
                self.chosen(id, view, reason);
            }
            Note::ProvenDead { .. } => self.seen.saw(Sight::ADeathWasProven),
            Note::RolledBack { .. } => self.seen.saw(Sight::ATailWasRolledBack),
            Note::Diverged { server, index, what } => {
                let what = format!("server {id} finds that server {server} has diverged at {index}: {what}");
                self.broke(Violation { law: 3, what });
            }
            Note::Serving { epoch } => self.serving(*epoch),
            Note::Prepared { .. } | Note::Role { .. } | Note::Warning(_) => {}
        }
    }
}

/// Records keep the order of their tickets among themselves; everything else may come in any order.
fn in_ticket_order(actions: &mut [Action]) {
    let places: Vec<usize> = actions
        .iter()
        .enumerate()
        .filter(|(_, a)| matches!(a, Action::Persist { .. }))
        .map(|(place, _)| place)
        .collect();
    let mut records: Vec<Action> = places.iter().map(|place| actions[*place].clone()).collect();
    records.sort_by_key(|action| match action {
        Action::Persist { ticket, .. } => *ticket,
        _ => unreachable!("only records were taken"),
    });
    for (place, record) in places.into_iter().zip(records) {
        actions[place] = record;
    }
}
