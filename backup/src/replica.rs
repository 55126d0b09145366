//! One copy: the log, what of it is durable, and the state that its committed part gives.

use std::collections::VecDeque;

use heirloom_proto::event::{Record, Ticket};
use heirloom_proto::{Digest, LogIndex, Lookup, Mutant, Outbox, Position, Sealed, planted};

use crate::dictionary::Dictionary;
use crate::log::Log;
use crate::prepared::{PreparedKey, PreparedKeys};
use crate::sessions::Sessions;
use crate::state::State;

/// The log gave back something else than what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBackWrong {
    /// The first index that differs, or is missing.
    pub index: LogIndex,
}

/// A write of the log that is on its way to disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    ticket: Ticket,
    first: LogIndex,
    last: LogIndex,
    /// How often the log had been cut when it was given: a later cut makes its tail void.
    cuts: u64,
}

/// One copy of the dictionary.
///
/// **Invariants**
/// - log base <= applied index <= durable end <= log end.
/// - The state is what the log gives up to the applied index, with what stood before its base.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    log: Log,
    durable_end: LogIndex,
    writes: VecDeque<Write>,
    cuts: u64,
    prepared: PreparedKeys,
    state: State,
}

impl Replica {
    /// The copy that a disk holds: a state, `entries` behind it that were read from the log, and what is committed of them.
    pub fn recover(base: State, entries: Vec<Sealed>, commit: LogIndex) -> Self {
        let mut log = Log::after(base.head().position, base.head().epoch);
        for entry in entries {
            log.push(entry);
        }
        let durable_end = log.end();
        let mut replica =
            Self { log, durable_end, writes: VecDeque::new(), cuts: 0, prepared: PreparedKeys::default(), state: base };
        replica.apply_to(commit.min(durable_end));
        replica.prepared = PreparedKeys::of(replica.log.from(replica.applied_index().next()));
        replica
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Everything up to here is durable and was read back.
    pub fn durable_end(&self) -> LogIndex {
        self.durable_end
    }

    /// The applied keys.
    pub fn dictionary(&self) -> &Dictionary {
        self.state.dictionary()
    }

    /// The applied session table.
    pub fn sessions(&self) -> &Sessions {
        self.state.sessions()
    }

    /// Everything up to here is applied, and known to be committed.
    pub fn applied_index(&self) -> LogIndex {
        self.state.index()
    }

    /// What the prepared entries make of a key; `None` where none of them touches it.
    pub fn prepared(&self, key: &[u8]) -> Option<PreparedKey> {
        self.prepared.touches(key)
    }

    /// The newest prepared entry that touches what a read looks up; all of a range counts, whatever its first page holds.
    pub fn prepared_in(&self, lookup: &Lookup) -> Option<LogIndex> {
        self.prepared.touches_any(lookup)
    }

    /// The digest of the applied state.
    pub fn digest(&self) -> Digest {
        self.state.head().digest
    }

    /// The applied state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes entries into the log in memory; they are durable when a later [`Replica::persist`] is.
    pub fn push(&mut self, entry: Sealed) {
        self.prepared.prepare(entry.entry());
        self.log.push(entry);
    }

    /// Sends what is in memory alone, from `first` on, to the disk.
    pub fn persist(&mut self, first: LogIndex, out: &mut Outbox) {
        let entries = self.log.from(first).to_vec();
        if entries.is_empty() {
            return;
        }
        let last = self.log.end();
        let ticket = out.persist(Record::Append(entries));
        self.writes.push_back(Write { ticket, first, last, cuts: self.cuts });
        if planted(Mutant::SyncSkipped) {
            self.durable_end = last;
        }
    }

    /// Cuts the log behind `keep`.
    ///
    /// **Panics if** that would reach what is applied: an attempt is a fatal error, not a repair (PROTOCOL 8.1).
    pub fn cut(&mut self, keep: LogIndex, out: &mut Outbox) {
        let applied = self.applied_index();
        assert!(keep >= applied, "a cut to {keep} would reach the applied index {applied}");
        if keep >= self.log.end() {
            return;
        }
        self.log.cut(keep);
        self.prepared = PreparedKeys::of(self.log.from(applied.next()));
        self.durable_end = self.durable_end.min(keep);
        // What is on its way beyond the cut will come to be written, and voided again by the cut behind it: the same
        // entries, should they be sent again, are durable only by a later write.
        for write in self.writes.iter_mut().filter(|_| !planted(Mutant::CutVoidsNoWrite)) {
            write.last = write.last.min(keep);
        }
        self.cuts += 1;
        out.persist(Record::Cut { keep });
    }

    /// Takes the news that a write of the log is durable, with what was read back. False where it was none of this
    /// replica's.
    ///
    /// **Errors:** [`ReadBackWrong`] where the disk gave back something else.
    pub fn persisted(&mut self, ticket: Ticket, read_back: &[Sealed]) -> Result<bool, ReadBackWrong> {
        if self.writes.front().is_none_or(|write| write.ticket != ticket) {
            return Ok(false);
        }
        let write = self.writes.pop_front().expect("looked at above");
        let mut hash = None;
        let mut index = write.first;
        for entry in read_back {
            if index > write.last {
                break;
            }
            let previous = match hash {
                Some(hash) => hash,
                // A cut since then took even the entry before the first: all of this write is void.
                None => match self.log.position_at(LogIndex(write.first.0 - 1)) {
                    Some(position) => position.hash,
                    None => break,
                },
            };
            let read = entry.extend(previous);
            hash = Some(read);
            let own = self.log.position_at(index);
            let same = own == Some(Position { index, hash: read }) && entry.index() == index
                || planted(Mutant::ReadBackSkipped) && own.is_some();
            if !same {
                if write.cuts == self.cuts {
                    return Err(ReadBackWrong { index });
                }
                break;
            }
            if index == self.durable_end.next() {
                self.durable_end = index;
            }
            index = index.next();
        }
        if write.cuts == self.cuts && self.durable_end < write.last {
            return Err(ReadBackWrong { index: self.durable_end.next() });
        }
        Ok(true)
    }

    /// Applies everything up to `index`.
    ///
    /// **Panics if** that goes beyond what is durable here: nothing is applied that was not read back.
    pub fn apply_to(&mut self, index: LogIndex) {
        while self.applied_index() < index {
            self.apply_next();
        }
    }

    /// Applies the next entry and returns it.
    ///
    /// **Panics if** there is none that is durable.
    pub fn apply_next(&mut self) -> Sealed {
        let index = self.applied_index().next();
        assert!(index <= self.durable_end, "entry {index} is applied before it was read back");
        let sealed = self.log.entry(index).expect("durable entries are in the log").clone();
        self.state.apply(&sealed, self.log.position_at(index).expect("with its hash").hash);
        self.prepared.applied(sealed.entry());
        sealed
    }

    /// Forgets the log up to `index`, all of which is applied and has been stored as a state; some of it is kept.
    pub fn forget(&mut self, index: LogIndex, entries_max: usize) {
        self.log.forget(index.min(self.applied_index()), entries_max);
    }

    /// **Panics if** an invariant of the type is broken: always a bug.
    pub fn check_invariants(&self) {
        assert!(self.log.base() <= self.applied_index(), "applied entries alone are forgotten");
        assert!(self.applied_index() <= self.durable_end, "applied beyond what is durable");
        assert!(self.durable_end <= self.log.end(), "durable beyond the log");
    }
}
