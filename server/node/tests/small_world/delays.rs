//! What takes long where a story says so: the writes of one log, and the answers to one server's probes of another.

use std::collections::VecDeque;
use std::time::Duration;

use heirloom_proto::event::{Record, Ticket};
use heirloom_proto::{Event, ServerId, Time};

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
        if self.server != Some(server) || !is_of_log(&record) {
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

/// Writes that take their time, at every server: those of its log and those of everything else each in their order.
#[derive(Default)]
pub struct SlowDisks {
    takes: Duration,
    writing: VecDeque<Write>,
}

struct Write {
    done_at: Time,
    server: ServerId,
    of_log: bool,
    ticket: Ticket,
    record: Record,
}

impl SlowDisks {
    /// Gives the record back where it is to be stored at once.
    pub fn keep(&mut self, now: Time, server: ServerId, ticket: Ticket, record: Record) -> Option<Record> {
        if self.takes.is_zero() {
            return Some(record);
        }
        let of_log = is_of_log(&record);
        let before = self.writing.iter().rfind(|write| (write.server, write.of_log) == (server, of_log));
        let done_at = before.map_or(now, |write| write.done_at.max(now)) + self.takes;
        let place = self.writing.partition_point(|write| write.done_at <= done_at);
        self.writing.insert(place, Write { done_at, server, of_log, ticket, record });
        None
    }

    /// How many writes of a server are under way.
    pub fn under_way(&self, server: ServerId) -> usize {
        self.writing.iter().filter(|write| write.server == server).count()
    }

    /// When the next write will be durable.
    pub fn next_at(&self) -> Option<Time> {
        self.writing.front().map(|write| write.done_at)
    }

    /// One that is durable by now.
    pub fn done(&mut self, now: Time) -> Option<(ServerId, Ticket, Record)> {
        self.writing.front().filter(|write| write.done_at <= now)?;
        let write = self.writing.pop_front()?;
        Some((write.server, write.ticket, write.record))
    }

    /// What was under way is lost.
    pub fn crash(&mut self, server: ServerId) {
        self.writing.retain(|write| write.server != server);
    }
}

fn is_of_log(record: &Record) -> bool {
    matches!(record, Record::Append(_) | Record::Cut { .. })
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
    /// From now on every write of every server takes so long.
    pub fn slow_disks(&mut self, takes: Duration) {
        self.slow_disks.takes = takes;
    }

    /// How many writes of a server are under way, where disks are slow.
    pub fn writes_under_way(&self, server: ServerId) -> usize {
        self.slow_disks.under_way(server)
    }

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
