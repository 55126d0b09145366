//! A server's disk: what is durable, and what is on its way there.

use std::collections::{BTreeMap, VecDeque};

use heirloom_proto::{
    ChainHash, ClusterId, Constants, Durable, Identity, LogIndex, Member, Position, Record, Register, Sealed, ServerId,
    StoreId, Ticket,
};

use crate::random::Random;

/// The two queues of writes: records of the log, in the order of their tickets, and everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Queue {
    Log,
    Register,
}

/// One data directory.
///
/// **Invariants:** `hashes` is the chain over `log`; the log has the entries 1, 2, 3 and so on.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    identity: Identity,
    register: Option<Register>,
    log: Vec<Sealed>,
    hashes: Vec<ChainHash>,
    /// Every commit index ever noted; a crash may keep any of them.
    noted: Vec<LogIndex>,
    log_queue: VecDeque<(Ticket, Record)>,
    register_queue: VecDeque<(Ticket, Record)>,
}

impl Disk {
    /// A directory that belongs to no cluster yet.
    pub(crate) fn blank(server: ServerId, store: StoreId) -> Self {
        Self::with(Identity { server, store, cluster: None, enrolled: BTreeMap::new(), enrolment_open: false }, None)
    }

    /// What the runtime formats where the log could not be reconciled: the same cluster, no data, no memory of votes.
    pub(crate) fn set_aside(&self, store: StoreId) -> Self {
        Self::with(Identity { store, ..self.identity.clone() }, Some(Register::LOST))
    }

    fn with(identity: Identity, register: Option<Register>) -> Self {
        Self {
            identity,
            register,
            log: Vec::new(),
            hashes: Vec::new(),
            noted: vec![LogIndex::ZERO],
            log_queue: VecDeque::new(),
            register_queue: VecDeque::new(),
        }
    }

    pub(crate) fn member(&self) -> Member {
        Member { server: self.identity.server, store: self.identity.store }
    }

    pub(crate) fn cluster(&self) -> Option<&(ClusterId, Constants)> {
        self.identity.cluster.as_ref()
    }

    pub(crate) fn register(&self) -> Option<&Register> {
        self.register.as_ref()
    }

    pub(crate) fn end(&self) -> LogIndex {
        LogIndex(self.log.len() as u64)
    }

    /// The durable prefix of this length; `None` where less is durable.
    pub(crate) fn position_at(&self, index: LogIndex) -> Option<Position> {
        if index == LogIndex::ZERO {
            return Some(Position::START);
        }
        let hash = *self.hashes.get(usize::try_from(index.0).ok()? - 1)?;
        Some(Position { index, hash })
    }

    /// What a run that begins now finds.
    pub(crate) fn durable(&self) -> Durable {
        let commit = self.noted.last().copied().unwrap_or_default();
        assert!(commit <= self.end(), "a commit index of {commit} was noted over a log that ends at {}", self.end());
        Durable { identity: self.identity.clone(), register: self.register.clone(), log: self.log.clone(), commit }
    }

    pub(crate) fn note(&mut self, commit: LogIndex) {
        if self.noted.last() != Some(&commit) {
            self.noted.push(commit);
        }
    }

    /// Queues a write; says which queue begins to work by it.
    pub(crate) fn enqueue(&mut self, ticket: Ticket, record: Record) -> Option<Queue> {
        let queue = match record {
            Record::Append(_) | Record::Cut { .. } => Queue::Log,
            Record::Register(_) | Record::Identity(_) => Queue::Register,
        };
        let waiting = self.queue(queue);
        if let Some((last, _)) = waiting.back().filter(|_| queue == Queue::Log) {
            assert!(*last < ticket, "tickets of the log count up: {ticket:?} after {last:?}");
        }
        waiting.push_back((ticket, record));
        (waiting.len() == 1).then_some(queue)
    }

    /// Makes the first write of a queue durable; gives its ticket, what is read back, and whether more waits.
    pub(crate) fn complete(&mut self, queue: Queue) -> Option<(Ticket, Vec<Sealed>, bool)> {
        let (ticket, record) = self.queue(queue).pop_front()?;
        let read_back = match &record {
            Record::Append(entries) => entries.clone(),
            Record::Cut { .. } | Record::Register(_) | Record::Identity(_) => Vec::new(),
        };
        self.store(record);
        let more = !self.queue(queue).is_empty();
        Some((ticket, read_back, more))
    }

    /// How many writes wait.
    pub(crate) fn waiting(&mut self, queue: Queue) -> usize {
        self.queue(queue).len()
    }

    /// All that was written and not yet synced becomes durable: the process goes on, it only begins a new run.
    pub(crate) fn drain(&mut self) {
        while self.complete(Queue::Log).is_some() {}
        while self.complete(Queue::Register).is_some() {}
    }

    /// The end of the process before all was synced: of the log any prefix of what was written survives, of the other
    /// writes each on its own.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let kept = random.below(self.log_queue.len() as u64 + 1) as usize;
        let mut torn = None;
        for (position, (_, record)) in std::mem::take(&mut self.log_queue).into_iter().enumerate() {
            if position < kept {
                self.store(record);
            } else if position == kept {
                torn = Some(record);
            }
        }
        if let Some(Record::Append(mut entries)) = torn {
            entries.truncate(random.below(entries.len() as u64) as usize);
            self.store(Record::Append(entries));
        }
        for (_, record) in std::mem::take(&mut self.register_queue) {
            if random.per_mille(500) {
                self.store(record);
            }
        }
        let noted =
            if random.per_mille(500) { self.noted.len() as u64 } else { random.between(1, self.noted.len() as u64) };
        self.noted.truncate(noted as usize);
    }

    fn queue(&mut self, queue: Queue) -> &mut VecDeque<(Ticket, Record)> {
        match queue {
            Queue::Log => &mut self.log_queue,
            Queue::Register => &mut self.register_queue,
        }
    }

    fn store(&mut self, record: Record) {
        match record {
            Record::Append(entries) => {
                for entry in entries {
                    assert_eq!(entry.index(), self.end().next(), "an append that does not follow on the durable log");
                    let previous = self.hashes.last().copied().unwrap_or(ChainHash::EMPTY);
                    self.hashes.push(entry.extend(previous));
                    self.log.push(entry);
                }
            }
            Record::Cut { keep } => {
                let keep = usize::try_from(keep.0).expect("a log of a world is short");
                self.log.truncate(keep);
                self.hashes.truncate(keep);
            }
            Record::Register(register) => {
                let (promised, accepted) = (register.promised, register.accepted_epoch());
                if let Some(before) = &self.register {
                    assert!(promised >= before.promised, "a promise is taken back: {before:?}, then {register:?}");
                    assert!(accepted >= before.accepted_epoch(), "a vote is taken back: {before:?}, then {register:?}");
                }
                self.register = Some(register);
            }
            Record::Identity(identity) => self.identity = identity,
        }
    }
}
