//! What a world must show of a server for the laws to judge it.

use std::collections::BTreeMap;

use heirloom_backup::Durable;
use heirloom_node::Node;
use heirloom_proto::{LogIndex, Member, Position, Register, Request, ServerId, StoreId, Time, Token};

use crate::stored::Stored;

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
    /// What waits for this answer; `None` where the world doesn't keep what was asked.
    fn asked(&self, token: Token) -> Option<&Request> {
        let _ = token;
        None
    }
    /// Whose directory it has.
    fn member(&self) -> Member;
    /// The register that is durable.
    fn register(&self) -> Option<&Register>;
    /// Up to where a snapshot stands for the log.
    fn durable_base(&self) -> LogIndex {
        LogIndex::ZERO
    }
    /// Where the durable log ends.
    fn durable_end(&self) -> LogIndex;
    /// The durable prefix of this length; `None` where less is durable, or that is forgotten.
    fn durable_position_at(&self, index: LogIndex) -> Option<Position>;
}

/// A server of a story: whatever it gives to its disk is durable at once, and its clock is the world's.
#[derive(Clone, Copy, Debug)]
pub struct DurableAtOnce<'a> {
    /// Which server.
    pub server: ServerId,
    /// Its node, while a run lives.
    pub node: Option<&'a Node>,
    /// Its disk; `None` before it was started first.
    pub disk: Option<&'a Durable>,
    /// Who waits for what, over all servers.
    pub asked: &'a BTreeMap<Token, (Asker, Request)>,
}

impl Observed for DurableAtOnce<'_> {
    fn id(&self) -> ServerId {
        self.server
    }

    fn node(&self) -> Option<&Node> {
        self.node
    }

    fn clock(&self, now: u64) -> Time {
        Time(now)
    }

    fn asker(&self, token: Token) -> Option<Asker> {
        self.asked.get(&token).map(|(asker, _)| *asker)
    }

    fn asked(&self, token: Token) -> Option<&Request> {
        self.asked.get(&token).map(|(_, request)| request)
    }

    fn member(&self) -> Member {
        Member { server: self.server, store: self.disk.map_or(StoreId(0), |disk| disk.identity.store) }
    }

    fn register(&self) -> Option<&Register> {
        self.disk.and_then(|disk| disk.register.as_ref())
    }

    fn durable_base(&self) -> LogIndex {
        self.disk.map_or(LogIndex::ZERO, |disk| disk.base.index())
    }

    fn durable_end(&self) -> LogIndex {
        self.disk.map_or(LogIndex::ZERO, Stored::end)
    }

    fn durable_position_at(&self, index: LogIndex) -> Option<Position> {
        match self.disk {
            Some(disk) => disk.position_at(index),
            None => (index == LogIndex::ZERO).then_some(Position::START),
        }
    }
}
