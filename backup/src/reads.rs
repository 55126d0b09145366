//! Reads at a copy that does not lead (PROTOCOL 10): under its read lease, or of what it has applied.

use bytes::Bytes;
use heirloom_proto::limits::WAITING_REQUESTS_MAX;
use heirloom_proto::{
    Consistency, Epoch, LogIndex, Mutant, Outbox, Refusal, Response, Seen, ServerId, Time, Token, Version, planted,
};

use crate::backup::Backup;
use crate::lease::{self, LeaseHeld};
use crate::replica::Replica;

/// A read that this copy does not answer any more; whoever leads may.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unanswered {
    /// Who asked.
    pub token: Token,
    /// The key.
    pub key: Bytes,
    /// How fresh.
    pub consistency: Consistency,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    read: Unanswered,
    for_what: For,
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum For {
    /// A linearizable read that came under the lease of this epoch, while entries up to this one touched its key.
    Applied(Epoch, LogIndex),
    /// A causal read.
    Version(Version),
}

/// Reads that wait for a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reads {
    waiting: Vec<Waiting>,
}

impl Backup {
    /// Answers a read, or keeps it until `until`; what this copy can't answer is refused with where the primary is.
    pub fn read(&mut self, read: Unanswered, now: Time, until: Time, primary: Option<ServerId>, out: &mut Outbox) {
        let for_what = match read.consistency {
            Consistency::Stale => return self.answer(&read, false, now, out),
            Consistency::Causal { at_least } if self.replica.dictionary().version() >= at_least => {
                return self.answer(&read, false, now, out);
            }
            Consistency::Causal { at_least } => For::Version(at_least),
            Consistency::Linearizable => {
                let (Some(epoch), Some(held)) = (self.works_in(), lease::prove(self.lease_until(), now)) else {
                    return out.respond(read.token, Err(Refusal::NotPrimary { primary }));
                };
                match self.replica.prepared(&read.key).filter(|_| !planted(Mutant::ReadIgnoresPrepared)) {
                    None => return self.answer_under_lease(&read, &held, now, out),
                    Some(prepared) => For::Applied(epoch, prepared.index),
                }
            }
        };
        if self.reads.waiting.len() >= WAITING_REQUESTS_MAX {
            return out.respond(read.token, Err(Refusal::Overloaded));
        }
        self.reads.waiting.push(Waiting { read, for_what, until });
    }

    /// Answers what no longer needs to wait, and lets go of what may wait no longer here.
    ///
    /// A linearizable read that came under a valid lease, while entry `i` was the newest here to touch its key, sees enough
    /// once `i` is applied, without another look at the lease: when it came nothing was committed that was not in this log,
    /// so whatever it does not see was committed after it came (docs/decisions/0011).
    pub fn answer_reads(&mut self, now: Time, primary: Option<ServerId>, out: &mut Outbox) {
        if self.reads.waiting.is_empty() {
            return;
        }
        for waiting in std::mem::take(&mut self.reads.waiting) {
            let (ready, hopeless) = match waiting.for_what {
                // An epoch that is over may have left its entries behind.
                For::Applied(epoch, index) => (self.replica.applied_index() >= index, self.works_in() != Some(epoch)),
                For::Version(version) => (self.replica.dictionary().version() >= version, false),
            };
            if hopeless || !ready && now >= waiting.until {
                out.respond(waiting.read.token, Err(Refusal::NotPrimary { primary }));
            } else if ready {
                self.answer(&waiting.read, true, now, out);
            } else {
                self.reads.waiting.push(waiting);
            }
        }
    }

    /// When the first read that waits here may wait no longer.
    pub fn reads_due_at(&self) -> Option<Time> {
        self.reads.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// All reads that wait here, for whoever takes the copy over.
    pub fn take_reads(&mut self) -> Vec<Unanswered> {
        std::mem::take(&mut self.reads.waiting).into_iter().map(|waiting| waiting.read).collect()
    }

    fn answer_under_lease(&self, read: &Unanswered, _held: &LeaseHeld, now: Time, out: &mut Outbox) {
        self.answer(read, false, now, out);
    }

    fn answer(&self, read: &Unanswered, waited: bool, now: Time, out: &mut Outbox) {
        let age = self.newest_at().map(|at| now.since(at));
        let version = self.replica.dictionary().version();
        let seen = Seen { version, epoch: self.worked_in(), local: true, waited, age };
        out.respond(read.token, Ok(self.replica.found(&read.key, seen)));
    }
}

impl Replica {
    /// The answer to a read of the applied state.
    pub fn found(&self, key: &[u8], seen: Seen) -> Response {
        match self.dictionary().read(key) {
            Some(stored) => Response::Found {
                value: stored.value.clone(),
                version: stored.version,
                changed_at: stored.changed_at,
                seen,
            },
            None => Response::NotFound { seen },
        }
    }
}
