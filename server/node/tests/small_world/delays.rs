//! What takes long where a story says so: the writes of one log, and the answers to one server's probes of another.

use std::collections::VecDeque;

use heirloom_proto::event::{Record, Ticket};
use heirloom_proto::{Event, ServerId};

use super::World;

/// The writes of one server's log that are under way.
#[derive(Default)]
pub struct SlowLog {
    server: Option<ServerId>,
    waiting: VecDeque<(Ticket, Record)>,
}

impl SlowLog {
    /// Gives the record back where it is to be stored at once.
    pub fn keep(&mut self, server: ServerId, ticket: Ticket, record: Record) -> Option<Record> {
        let of_log = matches!(record, Record::Append(_) | Record::Cut { .. });
        if self.server != Some(server) || !of_log {
            return Some(record);
        }
        self.waiting.push_back((ticket, record));
        None
    }

    /// What was under way is lost.
    pub fn crash(&mut self, server: ServerId) {
        if self.server == Some(server) {
            *self = Self::default();
        }
    }
}

/// The answers to one server's probes of another.
#[derive(Default)]
pub struct LateProbes {
    between: Option<(ServerId, ServerId)>,
    waiting: Vec<Event>,
}

impl LateProbes {
    /// Gives the answer back where it comes at once.
    pub fn keep(&mut self, asker: ServerId, probed: ServerId, answer: Event) -> Option<Event> {
        if self.between != Some((asker, probed)) {
            return Some(answer);
        }
        self.waiting.push(answer);
        None
    }
}

impl World {
    /// From now on what this server writes to its log becomes durable by [`Self::sync`] alone.
    pub fn slow_log(&mut self, server: ServerId) {
        self.slow_log.server = Some(server);
    }

    /// The oldest write of the slow log becomes durable.
    pub fn sync(&mut self) {
        let server = self.slow_log.server.expect("a log is slow");
        let (ticket, record) = self.slow_log.waiting.pop_front().expect("a write is under way");
        self.store(server, ticket, record);
        self.settle();
    }

    /// How many writes of the slow log are under way.
    pub fn unsynced(&self) -> usize {
        self.slow_log.waiting.len()
    }

    /// From now on the answers to `asker`'s probes of `probed`, which say how it was when they were asked, are on their
    /// way until [`Self::answer_probes`].
    pub fn delay_probes(&mut self, asker: ServerId, probed: ServerId) {
        self.late_probes.between = Some((asker, probed));
    }

    /// All of them arrive, and none is late any more.
    pub fn answer_probes(&mut self) {
        let LateProbes { between, waiting } = std::mem::take(&mut self.late_probes);
        let (asker, _) = between.expect("probes were late");
        self.queue.extend(waiting.into_iter().map(|answer| (asker, answer)));
        self.settle();
    }
}
