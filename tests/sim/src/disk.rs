//! A server's disk: what is durable, and what is on its way there. What rots on it is in [`crate::rot`].

use std::collections::{BTreeMap, VecDeque};

use heirloom_backup::{Durable, State, StateHead};
use heirloom_laws::stored;
use heirloom_proto::{
    ChainHash, ClusterId, Constants, Identity, LogIndex, Member, Mutant, Position, Record, Register, Sealed, ServerId,
    StoreId, Ticket, planted,
};

use crate::random::Random;
use crate::rot::{Pair, Rot};

/// The two queues of writes: records of the log, in the order of their tickets, and everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Queue {
    Log,
    Register,
}

/// One data directory.
///
/// **Invariants:** `hashes` is the chain over `log`; the log has the entries behind `base`, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) identity: Identity,
    register: Option<Register>,
    /// The newest snapshot; the empty state where there is none.
    base: State,
    log: Vec<Sealed>,
    hashes: Vec<ChainHash>,
    /// The frames that were ever written to the log, in their order: by the number of the first frame of the same sync.
    pub(crate) frames: Vec<u64>,
    /// Frames up to here were told durable, or read at a start: somebody may count on them.
    pub(crate) believed: u64,
    /// All progress ever noted; a crash may keep any of it.
    pub(crate) noted: Vec<Noted>,
    log_queue: VecDeque<(Ticket, Record)>,
    register_queue: VecDeque<(Ticket, Record)>,
    pub(crate) rot: Rot,
}

/// What the record of the progress says, which is written without a sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    pub commit: LogIndex,
    /// Frames up to this one were synced.
    pub synced: u64,
}

/// What a crash did to what was on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Torn {
    pub log: bool,
    pub pair: bool,
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
            base: State::default(),
            log: Vec::new(),
            hashes: Vec::new(),
            frames: Vec::new(),
            believed: 0,
            noted: vec![Noted::default()],
            log_queue: VecDeque::new(),
            register_queue: VecDeque::new(),
            rot: Rot::default(),
        }
    }

    /// A copy of the directory as it is, without what is on its way to it; `None` of one that is not whole, or belongs to
    /// no cluster yet.
    pub(crate) fn copy(&self) -> Option<Self> {
        let whole = self.rot.is_nowhere() && self.identity.cluster.is_some();
        whole.then(|| Self { log_queue: VecDeque::new(), register_queue: VecDeque::new(), ..self.clone() })
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
        LogIndex(self.base().0 + self.log.len() as u64)
    }

    /// Up to where the snapshot stands for the log.
    pub(crate) fn base(&self) -> LogIndex {
        self.base.index()
    }

    /// The durable prefix of this length; `None` where less is durable, or that is forgotten.
    pub(crate) fn position_at(&self, index: LogIndex) -> Option<Position> {
        if index == self.base() {
            return Some(self.base.head().position);
        }
        let hash = *self.hashes.get(usize::try_from(index.0.checked_sub(self.base().0 + 1)?).ok()?)?;
        Some(Position { index, hash })
    }

    /// Makes a snapshot in place of the log up to an index; gives what it says of itself.
    pub(crate) fn snapshot(&mut self, index: LogIndex) -> StateHead {
        let count = stored::length(&self.base, index);
        self.base = stored::state_at(&self.base, &self.log, index);
        self.log.drain(..count);
        self.hashes.drain(..count);
        self.rot.snapshot_rewritten();
        self.base.head()
    }

    /// The newest snapshot, for another server.
    pub(crate) fn snapshot_to_send(&self) -> State {
        self.base.clone()
    }

    /// Puts the snapshot of another server in the place of everything but identity and register.
    pub(crate) fn install(&mut self, snapshot: State) {
        let (identity, register) = (self.identity.clone(), self.register.take());
        *self = Self { base: snapshot, rot: self.rot.without_log(), ..Self::with(identity, register) };
    }

    /// What a run that begins now finds.
    pub(crate) fn durable(&self) -> Durable {
        let commit = self.noted.last().copied().unwrap_or_default().commit;
        assert!(commit <= self.end(), "a commit index of {commit} was noted over a log that ends at {}", self.end());
        Durable {
            identity: self.identity.clone(),
            register: self.register.clone(),
            base: self.base.clone(),
            log: self.log.clone(),
            commit: commit.max(self.base()),
        }
    }

    pub(crate) fn note(&mut self, commit: LogIndex) {
        self.note_all(Noted { commit, synced: self.frames.len() as u64 });
    }

    fn note_all(&mut self, noted: Noted) {
        if self.noted.last() != Some(&noted) {
            self.noted.push(noted);
        }
    }

    /// What is durable is reported, and the progress noted.
    pub(crate) fn reported(&mut self) {
        self.believed = self.frames.len() as u64;
        self.note(self.noted.last().copied().unwrap_or_default().commit);
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

    /// Makes the first writes of a queue durable with one sync; gives their tickets and what is read back.
    pub(crate) fn complete(&mut self, queue: Queue, count: u64) -> Vec<(Ticket, Vec<Sealed>)> {
        let group = self.frames.len() as u64 + 1;
        let mut done = Vec::new();
        while (done.len() as u64) < count
            && let Some((ticket, record)) = self.queue(queue).pop_front()
        {
            let read_back = match &record {
                Record::Append(entries) => entries.clone(),
                Record::Cut { .. } | Record::Register(_) | Record::Identity(_) => Vec::new(),
            };
            self.store(record, group);
            done.push((ticket, read_back));
        }
        done
    }

    /// Whether the next write of the log is of entries.
    pub(crate) fn appends_first(&self) -> bool {
        self.log_queue.front().is_some_and(|(_, record)| matches!(record, Record::Append(_)))
    }

    /// The first write of the log came to nothing: no whole frame stands where it should, and none behind it.
    pub(crate) fn garble(&mut self) -> Option<(Ticket, Record)> {
        let first = self.log_queue.pop_front();
        self.log_queue.clear();
        first
    }

    /// How many writes wait.
    pub(crate) fn waiting(&mut self, queue: Queue) -> usize {
        self.queue(queue).len()
    }

    /// All that was written and not yet synced becomes durable: the process goes on, it only begins a new run.
    pub(crate) fn drain(&mut self) {
        self.complete(Queue::Log, u64::MAX);
        self.complete(Queue::Register, u64::MAX);
        self.reported();
    }

    /// The end of the process before all was synced: of the log any prefix of what was written survives, of the other
    /// writes each on its own, and of the one under way the old record or the new one.
    pub(crate) fn crash(&mut self, random: &mut Random) -> Torn {
        let mut torn = Torn::default();
        let group = self.frames.len() as u64 + 1;
        let kept = random.below(self.log_queue.len() as u64 + 1) as usize;
        for (position, (_, record)) in std::mem::take(&mut self.log_queue).into_iter().enumerate() {
            if position < kept {
                self.store(record, group);
            } else if let (true, Record::Append(mut entries)) = (position == kept, record) {
                torn.log = true;
                entries.truncate(random.below(entries.len() as u64) as usize);
                self.store(Record::Append(entries), group);
            }
        }
        for (place, (_, record)) in std::mem::take(&mut self.register_queue).into_iter().enumerate() {
            // A record is written to one file and then to the other, and each write may be torn.
            let reached = random.below(4);
            let pair = if matches!(record, Record::Register(_)) { Pair::Register } else { Pair::Identity };
            if reached >= 2 {
                self.store(record, group);
            }
            if place == 0 && (reached == 1 || reached == 2) {
                torn.pair = true;
                self.rot.tear(pair, if reached == 1 { 0 } else { 1 });
            }
        }
        let noted =
            if random.per_mille(500) { self.noted.len() as u64 } else { random.between(1, self.noted.len() as u64) };
        self.noted.truncate(noted as usize);
        torn
    }

    fn queue(&mut self, queue: Queue) -> &mut VecDeque<(Ticket, Record)> {
        match queue {
            Queue::Log => &mut self.log_queue,
            Queue::Register => &mut self.register_queue,
        }
    }

    fn store(&mut self, record: Record, group: u64) {
        match record {
            Record::Append(entries) if entries.is_empty() => {}
            Record::Append(entries) => {
                self.frames.push(group);
                for entry in entries {
                    assert_eq!(entry.index(), self.end().next(), "an append that does not follow on the durable log");
                    let previous = self.hashes.last().copied().unwrap_or(self.base.head().position.hash);
                    self.hashes.push(entry.extend(previous));
                    self.log.push(entry);
                }
            }
            Record::Cut { keep } => {
                self.frames.push(group);
                let keep = stored::length(&self.base, keep);
                self.log.truncate(keep);
                self.hashes.truncate(keep);
            }
            Record::Register(register) => {
                let (promised, accepted) = (register.promised, register.accepted_epoch());
                if let Some(before) = &self.register {
                    let forgets = planted(Mutant::StaleRegisterAfterRestart);
                    assert!(
                        promised >= before.promised || forgets,
                        "a promise is taken back: {before:?}, then {register:?}"
                    );
                    assert!(accepted >= before.accepted_epoch(), "a vote is taken back: {before:?}, then {register:?}");
                }
                self.register = Some(register);
                self.rot.rewritten(Pair::Register);
            }
            Record::Identity(identity) => {
                self.identity = identity;
                self.rot.rewritten(Pair::Identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{Epoch, RunId, Standing};

    use super::*;
    use crate::rot::Found;

    fn register(round: u64) -> Register {
        let promised = Epoch { round, server: ServerId(0), run: RunId(1) };
        Register { promised, accepted: None, standing: Standing::Intact }
    }

    #[test]
    fn a_crash_leaves_the_old_register_or_the_new_one_and_never_a_torn_one() {
        let mut seen = [0; 2];
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut disk = Disk::blank(ServerId(0), StoreId(1));
            disk.enqueue(Ticket(1), Record::Register(register(1)));
            disk.complete(Queue::Register, 1);
            disk.enqueue(Ticket(2), Record::Register(register(2)));
            disk.crash(&mut random);
            assert!(matches!(disk.open(), Found::Sound | Found::Mended), "seed {seed}");
            let round = disk.register().expect("stored").promised.round;
            seen[usize::try_from(round - 1).expect("one of two")] += 1;
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }

    #[test]
    fn a_torn_register_whose_other_copy_had_rotted_is_damage_and_no_old_register() {
        let mut damaged = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut disk = Disk::blank(ServerId(0), StoreId(1));
            disk.enqueue(Ticket(1), Record::Register(register(1)));
            disk.complete(Queue::Register, 1);
            disk.rot.tear(Pair::Register, 1);
            disk.enqueue(Ticket(2), Record::Register(register(2)));
            let torn = disk.crash(&mut random);
            let found = disk.open();
            assert!(!matches!(found, Found::Damaged { .. }) || torn.pair, "seed {seed}");
            damaged += u32::from(matches!(found, Found::Damaged { .. }));
        }
        assert!(damaged > 20, "{damaged}");
    }
}
