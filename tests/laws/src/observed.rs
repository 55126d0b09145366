//! What a world must show of a server for the laws to judge it.

use bytes::Bytes;
use heirloom_node::Node;
use heirloom_proto::{LogIndex, Member, Position, Register, ServerId, Time, Token};

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asker {
    /// A client, who is told what happened to the data.
    Client,
    /// The operator, who promotes and fences.
    Operator,
}

/// One server as somebody outside of its cluster sees it: its process, its disk and its clock.
pub trait Observed {
    /// Which server.
    fn id(&self) -> ServerId;
    /// Its node, while a run lives.
    fn node(&self) -> Option<&Node>;
    /// What its clock reads at this moment of the world.
    fn clock(&self, now: u64) -> Time;
    /// Who waits for this answer of the run that lives; `None` where nobody does.
    fn asker(&self, token: Token) -> Option<Asker>;
    /// The key of the read that waits for this answer; `None` where it is no read, or the world doesn't keep what was asked.
    fn key_read(&self, token: Token) -> Option<&Bytes> {
        let _ = token;
        None
    }
    /// Whose directory it has.
    fn member(&self) -> Member;
    /// The register that is durable.
    fn register(&self) -> Option<&Register>;
    /// Where the durable log ends.
    fn durable_end(&self) -> LogIndex;
    /// The durable prefix of this length; `None` where less is durable.
    fn durable_position_at(&self, index: LogIndex) -> Option<Position>;
}
