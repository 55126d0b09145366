//! The read-only view of a node that the laws look through.

use heirloom_backup::Replica;
use heirloom_node::Node;
use heirloom_proto::{Digest, Epoch, LogIndex, Position, Register, Sealed};

/// What the laws ask a node.
pub trait Inspect {
    /// The copy of the data; `None` on a witness and on a blank server.
    fn copy(&self) -> Option<&Replica>;
    /// The register as the node believes it to be durable.
    fn votes(&self) -> Option<&Register>;
    /// The epoch that the node leads.
    fn leads(&self) -> Option<Epoch>;

    /// How far the node has applied, and the digest of its state there.
    fn applied(&self) -> Option<(LogIndex, Digest)> {
        self.copy().map(|replica| (replica.applied_index(), replica.digest()))
    }

    /// Up to where the log is no longer kept.
    fn log_base(&self) -> LogIndex {
        self.copy().map_or(LogIndex::ZERO, |replica| replica.log().base())
    }

    /// Where the log ends, prepared entries included.
    fn log_end(&self) -> Option<LogIndex> {
        self.copy().map(|replica| replica.log().end())
    }

    /// The prefix of this length.
    fn position_at(&self, index: LogIndex) -> Option<Position> {
        self.copy().and_then(|replica| replica.log().position_at(index))
    }

    /// One entry of the log.
    fn entry(&self, index: LogIndex) -> Option<&Sealed> {
        self.copy().and_then(|replica| replica.log().entry(index))
    }
}

impl Inspect for Node {
    fn copy(&self) -> Option<&Replica> {
        self.replica()
    }

    fn votes(&self) -> Option<&Register> {
        self.register()
    }

    fn leads(&self) -> Option<Epoch> {
        self.primary_epoch()
    }
}
