//! Reads at a copy that does not lead (PROTOCOL 10): under its read lease, or of what it has applied.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_proto::limits::WAITING_REQUESTS_MAX;
use heirloom_proto::{
    At, Consistency, Epoch, LogIndex, Lookup, Mutant, Outbox, Refusal, Seen, ServerId, Time, Token, Version, planted,
};

use crate::backup::Backup;
use crate::lease::{self, LeaseHeld};

/// A read that this copy does not answer any more; whoever leads may.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unanswered {
    /// Who asked.
    pub token: Token,
    /// What is looked up.
    pub lookup: Lookup,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    read: Unanswered,
    for_what: For,
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum For {
    /// A linearizable read that came under the lease, while entries up to this one touched what it looks up.
    Applied(LogIndex),
    /// A causal read, or a page at a version.
    Version(Version),
}

/// Reads that wait for a commit.
///
/// **Invariants:** each is in `waiting` and in one of the orders; those for an index all came in `epoch`; numbers rise with
/// arrival, and so does how long they may wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reads {
    waiting: BTreeMap<u64, Waiting>,
    by_index: BTreeSet<(LogIndex, u64)>,
    by_version: BTreeSet<(Version, u64)>,
    epoch: Option<Epoch>,
    next: u64,
}

impl Reads {
    fn wait(&mut self, waiting: Waiting) {
        let number = self.next;
        self.next += 1;
        match waiting.for_what {
            For::Applied(index) => drop(self.by_index.insert((index, number))),
            For::Version(version) => drop(self.by_version.insert((version, number))),
        }
        self.waiting.insert(number, waiting);
    }

    fn take(&mut self, number: u64) -> Unanswered {
        let waiting = self.waiting.remove(&number).expect("each that is in an order waits");
        match waiting.for_what {
            For::Applied(index) => drop(self.by_index.remove(&(index, number))),
            For::Version(version) => drop(self.by_version.remove(&(version, number))),
        }
        waiting.read
    }

    /// One whose wait is over.
    fn ready(&self, applied: LogIndex, version: Version) -> Option<u64> {
        let by_index = self.by_index.first().filter(|(index, _)| *index <= applied).map(|(_, number)| *number);
        by_index.or_else(|| self.by_version.first().filter(|(seen, _)| *seen <= version).map(|(_, number)| *number))
    }

    /// One that may wait no longer.
    fn overdue(&self, now: Time) -> Option<u64> {
        self.waiting.first_key_value().filter(|(_, waiting)| now >= waiting.until).map(|(number, _)| *number)
    }
}

impl Backup {
    /// Answers a read, or keeps it until `until`; what this copy can't answer is refused with where the primary is.
    pub fn read(&mut self, read: Unanswered, now: Time, until: Time, primary: Option<ServerId>, out: &mut Outbox) {
        let not_here = Err(Refusal::NotPrimary { primary });
        // One that differs may differ in what it has applied, too.
        if self.differs() {
            return out.respond(read.token, not_here);
        }
        let for_what = match read.lookup.at() {
            At::Now(Consistency::Stale) => return self.answer(&read, false, now, out),
            // What is applied is committed, so whoever is told a version needs no lease to say what was so at it.
            At::Now(Consistency::Causal { at_least: version }) | At::Version(version) => {
                if self.replica.dictionary().version() >= version {
                    return self.answer(&read, false, now, out);
                }
                For::Version(version)
            }
            At::Now(Consistency::Linearizable) => {
                let (Some(epoch), Some(held)) = (self.works_in(), lease::prove(self.lease_until(), now)) else {
                    return out.respond(read.token, not_here);
                };
                let ignored = match read.lookup {
                    Lookup::Key { .. } => planted(Mutant::ReadIgnoresPrepared),
                    Lookup::Page(_) => planted(Mutant::ScanIgnoresPrepared),
                };
                match self.replica.prepared_in(&read.lookup).filter(|_| !ignored) {
                    None => return self.answer_under_lease(&read, &held, now, out),
                    Some(prepared) => {
                        self.let_go_of_other_epochs(Some(epoch), primary, out);
                        self.reads.epoch = Some(epoch);
                        For::Applied(prepared)
                    }
                }
            }
        };
        // Where too many wait here the primary, which needn't wait, is asked.
        if self.reads.waiting.len() >= WAITING_REQUESTS_MAX {
            return out.respond(read.token, not_here);
        }
        self.reads.wait(Waiting { read, for_what, until });
    }

    /// Answers what no longer needs to wait, and lets go of what may wait no longer here.
    ///
    /// A linearizable read that came under a valid lease, while entry `i` was the newest here to touch its key, or any key of
    /// its range, sees enough once `i` is applied, without another look at the lease: when it came nothing was committed that
    /// was not in this log, so whatever it does not see was committed after it came (docs/decisions/0011).
    pub fn answer_reads(&mut self, now: Time, primary: Option<ServerId>, out: &mut Outbox) {
        if self.reads.waiting.is_empty() {
            return;
        }
        if self.differs() {
            for read in self.take_reads() {
                out.respond(read.token, Err(Refusal::NotPrimary { primary }));
            }
            return;
        }
        self.let_go_of_other_epochs(self.works_in(), primary, out);
        let (applied, version) = (self.replica.applied_index(), self.replica.dictionary().version());
        while let Some(number) = self.reads.ready(applied, version) {
            let read = self.reads.take(number);
            self.answer(&read, true, now, out);
        }
        while let Some(number) = self.reads.overdue(now) {
            let read = self.reads.take(number);
            out.respond(read.token, Err(Refusal::NotPrimary { primary }));
        }
    }

    /// An epoch that is over may have left its entries behind, and with them what reads wait for.
    fn let_go_of_other_epochs(&mut self, epoch: Option<Epoch>, primary: Option<ServerId>, out: &mut Outbox) {
        if self.reads.epoch == epoch {
            return;
        }
        while let Some((_, number)) = self.reads.by_index.first().copied() {
            let read = self.reads.take(number);
            out.respond(read.token, Err(Refusal::NotPrimary { primary }));
        }
    }

    /// When the first read that waits here may wait no longer.
    pub fn reads_due_at(&self) -> Option<Time> {
        self.reads.waiting.first_key_value().map(|(_, waiting)| waiting.until)
    }

    /// All reads that wait here, for whoever takes the copy over.
    pub fn take_reads(&mut self) -> Vec<Unanswered> {
        std::mem::take(&mut self.reads).waiting.into_values().map(|waiting| waiting.read).collect()
    }

    fn answer_under_lease(&self, read: &Unanswered, _held: &LeaseHeld, now: Time, out: &mut Outbox) {
        self.answer(read, false, now, out);
    }

    fn answer(&self, read: &Unanswered, waited: bool, now: Time, out: &mut Outbox) {
        let version = self.replica.version_of(&read.lookup);
        let age = match read.lookup.at() {
            At::Now(_) => self.newest_at().map(|at| now.since(at)),
            At::Version(_) => None,
        };
        let seen = Seen { version, epoch: self.worked_in(), local: true, waited, age };
        out.respond(read.token, self.replica.look(&read.lookup, seen, out.cluster()));
    }
}
