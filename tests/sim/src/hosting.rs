//! The life of a process: starts, steps, syncs, wake-ups and crashes.

use heirloom_node::Node;
use heirloom_proto::{Action, Birth, Event, Peer, RunId, ServerId};

use crate::clock::{Clock, Instant, MICROSECOND, MILLISECOND, SECOND};
use crate::disk::Queue;
use crate::random::Random;
use crate::server::{Birthday, Process, State};
use crate::sometimes::Sight;
use crate::tally::Mishap;
use crate::world::{Occurrence, World};
use heirloom_laws::Violation;
use heirloom_laws::story;

impl World {
    pub(crate) fn synced(&mut self, id: ServerId, born: Birthday, queue: Queue) {
        let now = self.now;
        // One sync often makes a whole batch durable.
        let batch = if self.random.per_mille(500) { u64::MAX } else { self.random.between(1, 4) };
        let server = self.server_mut(id);
        if server.process_of(born).is_none() || server.disk_failed {
            return;
        }
        if let Some(stop) = self.held_until(id).filter(|stop| stop.until > now) {
            let delay = stop.until - now + MICROSECOND;
            self.after(delay, Occurrence::Synced { server: id, born, queue });
            return;
        }
        let server = self.server_mut(id);
        if queue == Queue::Log && server.disk.appends_first() {
            if server.full_until > now {
                self.seen.saw(Sight::AFullDiskWasMet);
                self.fail_disk(id, "could not write: no space left on device");
                return;
            }
            if self.read_back_wrongly(id, born) {
                return;
            }
        }
        let server = self.server_mut(id);
        let slow = server.slow_disk_until > now;
        let done = server.disk.complete(queue, batch);
        if queue == Queue::Log {
            server.disk.reported();
        }
        if server.disk.waiting(queue) > 0 {
            if server.is_paused() {
                self.stall(id, queue);
            } else {
                self.sync_later(id, born, queue, slow);
            }
        }
        for (ticket, read_back) in done {
            if self.server_mut(id).process_of(born).is_some() {
                self.deliver(id, Event::Persisted { ticket, read_back });
            }
        }
    }

    pub(crate) fn sync_later(&mut self, server: ServerId, born: Birthday, queue: Queue, slow: bool) {
        let (low, high) = self.plan.sync;
        let mut delay = self.random.between(low, high);
        if slow {
            delay += self.random.between(100 * MILLISECOND, 2 * SECOND);
        }
        self.after(delay, Occurrence::Synced { server, born, queue });
    }

    /// Begins a run from what the disk holds.
    pub(crate) fn start(&mut self, id: ServerId) {
        let now = self.now;
        let (run, cluster) = (RunId(self.random.number()), self.random.number());
        let born = Birthday(self.runs.len() as u64);
        let servers = self.servers.len();
        let server = self.server_mut(id);
        if server.process().is_some() {
            return;
        }
        let same_process = matches!(server.state, State::Between);
        server.start_due = false;
        server.disk_failed = false;
        server.wrong_read_back = None;
        if !self.open_disk(id) {
            self.start_later(id, 50 * MILLISECOND);
            return;
        }
        let server = self.server_mut(id);
        let durable = server.disk.durable();
        let store = durable.identity.store;
        self.trace.note(now, || {
            format!(
                "## server {id} starts run {run} store {store}, {}, log to {} commit {}",
                story::register(durable.register.as_ref()),
                durable.log.len(),
                durable.commit
            )
        });
        self.runs.push(Peer { server: id, store, run });
        let server = self.server_mut(id);
        let time = server.clock.read(now);
        let (node, actions) = Node::recover(server.config.clone(), Birth { run, cluster, same_process }, durable, time);
        server.state = State::Running(Box::new(Process::new(node, run, born, servers)));
        for other in self.plan.servers() {
            if other != id {
                let delay = self.random.between(100 * MICROSECOND, 20 * MILLISECOND);
                self.after(delay, Occurrence::Dial { from: id, born, to: other });
            }
        }
        self.after_step(id, born, actions, false);
    }

    /// One event for one node, and all that follows from it at once.
    pub(crate) fn step(&mut self, id: ServerId, event: Event) {
        let now = self.now;
        if self.violation.is_some() {
            return;
        }
        self.steps += 1;
        self.look_at(id, &event);
        self.trace.note(now, || format!("{id} <- {}", story::event(&event)));
        if let Event::Received { from, message, .. } = &event {
            self.laws.received(*from, message);
        }
        let server = self.server_mut(id);
        let time = server.clock.read(now);
        let is_flush = event == Event::Flush;
        let is_deadline = event == Event::Deadline;
        let durable = if let Event::Persisted { ticket, .. } = &event { Some(*ticket) } else { None };
        let Some(process) = server.process_mut() else { return };
        let overdue = process.node.next_deadline().is_some_and(|deadline| deadline <= time);
        let actions = process.node.step(time, event);
        let halted = actions.iter().any(|action| matches!(action, Action::Halt(_)));
        let still_overdue = process.node.next_deadline().is_some_and(|deadline| deadline <= time);
        process.idle_deadlines =
            if is_deadline && overdue && still_overdue && actions.is_empty() { process.idle_deadlines + 1 } else { 0 };
        let born = process.born;
        if let Some(ticket) = durable {
            self.check_read_back(id, ticket, halted);
        }
        let Some(process) = self.server_mut(id).process_of(born) else { return };
        if process.idle_deadlines > 100 {
            let deadline = process.node.next_deadline();
            let what = format!("server {id} is woken over and over at {time:?} for a deadline of {deadline:?}");
            self.broke(Violation { law: 10, what });
            return;
        }
        self.after_step(id, born, actions, is_flush);
    }

    pub(crate) fn after_step(&mut self, id: ServerId, born: Birthday, actions: Vec<Action>, was_flush: bool) {
        if let Err(violation) = self.laws.after_step(&self.servers, id, self.now, &actions) {
            for action in &actions {
                self.trace.note(self.now, || format!("{id} -> {}", story::action(action)));
            }
            self.broke(violation);
            return;
        }
        self.look_for_return(id);
        self.perform(id, actions);
        if self.server_mut(id).process_of(born).is_none() {
            return;
        }
        self.arrange_wake(id, born);
        if was_flush {
            return;
        }
        if self.random.per_mille(self.plan.prompt_flush) {
            self.deliver(id, Event::Flush);
        } else {
            let delay = self.random.below(2 * MILLISECOND);
            if let Some(process) = self.server_mut(id).process_of(born).filter(|process| !process.flush_on_its_way) {
                process.flush_on_its_way = true;
                self.after(delay, Occurrence::Flush { server: id, born });
            }
        }
    }

    pub(crate) fn arrange_wake(&mut self, id: ServerId, born: Birthday) {
        let (now, late, early) = (self.now, self.plan.late_deadlines, self.plan.early_deadlines);
        let server = self.server_mut(id);
        let clock = server.clock.clone();
        let Some(process) = server.process_of(born) else { return };
        let Some(deadline) = process.node.next_deadline() else {
            process.wake_for = None;
            process.wake_number += 1;
            return;
        };
        if process.wake_for == Some(deadline) {
            return;
        }
        process.wake_for = Some(deadline);
        process.wake_number += 1;
        let number = process.wake_number;
        let mut at = clock.when(deadline).max(now + 10 * MICROSECOND) + self.random.below(200 * MICROSECOND);
        if self.random.per_mille(late) {
            self.tally.mishap(Mishap::ADeadlineCameLate);
            at += self.random.below(100 * MILLISECOND);
        } else if self.random.per_mille(early) {
            self.tally.mishap(Mishap::ADeadlineCameEarly);
            at = self.random.between(now + 10 * MICROSECOND, at);
        }
        self.after(at - now, Occurrence::Wake { server: id, born, number });
    }

    /// The process ends; what it had not synced is lost in part, and whoever had a stream to it notices, or not.
    pub(crate) fn crash(&mut self, id: ServerId, host_up: bool) {
        let now = self.now;
        let Some(born) = self.server(id).process().map(|process| process.born) else {
            let server = self.server_mut(id);
            server.state = State::Off { host_up };
            return;
        };
        let mut random = Random::new(self.random.number());
        let server = self.server_mut(id);
        let unsynced = server.disk.waiting(Queue::Log) + server.disk.waiting(Queue::Register) > 0;
        let torn = server.disk.crash(&mut random);
        server.state = State::Off { host_up };
        server.inbox.clear();
        server.stalled.clear();
        server.stopped = None;
        server.crash_within_step = None;
        if !host_up {
            let reading = random.between(SECOND, 10 * SECOND);
            let fast = self.plan.fast_ppm_max;
            self.server_mut(id).clock = Clock::new(now, reading, random.pick(&[-fast, 0, fast]));
        }
        if torn.log {
            self.tally.mishap(Mishap::AWriteWasTorn);
            self.seen.saw(Sight::ATornEndOfTheLogWasCut);
        }
        if torn.pair {
            self.tally.mishap(Mishap::AWriteWasTorn);
        }
        if unsynced {
            self.seen.saw(Sight::AServerCrashedWithUnsyncedWrites);
        }
        let keeps = self.server(id).disk.end();
        self.trace.note(now, || format!("## server {id} crashes, host up: {host_up}, log kept to {keeps}"));
        self.run_ended(id, born, host_up);
    }

    /// Others learn that this run is gone.
    pub(crate) fn run_ended(&mut self, id: ServerId, born: Birthday, tells: bool) {
        if !self.server(id).wiped {
            self.look_for_the_end();
        }
        for other in self.plan.servers() {
            if other == id || !tells && self.random.per_mille(700) {
                continue;
            }
            let heard = self.network.open(id, other) && tells && self.random.per_mille(900);
            let most = if heard { 2 * MILLISECOND } else { 3 * SECOND };
            let place = usize::from(id.0);
            let stream = self.server(other).process().map(|process| (process.born, process.streams[place]));
            if let Some((at_born, Some(peer_born))) = stream
                && peer_born == born
            {
                self.break_later(other, at_born, id, born, most);
            }
        }
    }

    pub(crate) fn start_later(&mut self, id: ServerId, delay: Instant) {
        if !self.server(id).start_due {
            self.server_mut(id).start_due = true;
            self.after(delay, Occurrence::Start { server: id });
        }
    }
}
