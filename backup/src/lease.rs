//! Leases: the right to answer linearizable reads alone (PROTOCOL 10).

use heirloom_proto::message::Grant;
use heirloom_proto::time::Drift;
use heirloom_proto::{LogIndex, Mutant, Time, planted};

/// A lease that was valid when it was looked at. Only [`prove`] makes one, and a local linearizable read consumes one: an
/// unleased read cannot be written down.
#[derive(Debug)]
pub struct LeaseHeld {
    _made_here: (),
}

/// The proof that a lease until then is valid `now`.
pub fn prove(until: Option<Time>, now: Time) -> Option<LeaseHeld> {
    until.filter(|until| now < *until || planted(Mutant::ReadWithoutLease)).map(|_| LeaseHeld { _made_here: () })
}

/// What a copy was granted in the epoch in which it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Granted {
    /// Until when it may answer linearizable reads.
    pub(crate) until: Option<Time>,
    /// When the state that is applied here was certainly the newest one.
    pub(crate) newest_at: Option<Time>,
}

impl Granted {
    /// Takes a grant, which came with this commit index. It counts from the copy's own clock as it went out with the echo:
    /// the primary's lease, of which the grant is a part, was seen to be valid later than that.
    pub(crate) fn take(&mut self, grant: Grant, now: Time, commit_index: LogIndex, applied: LogIndex, drift: Drift) {
        if !grant.span.is_zero() {
            // Never later than now, whatever the primary says.
            let from = if planted(Mutant::GrantFromReceipt) { now } else { grant.clock.min(now) };
            self.until = self.until.max(Some(from + drift.shorten(grant.span)));
        }
        if applied >= commit_index {
            self.newest_at = self.newest_at.max(Some(grant.clock));
        }
    }
}
