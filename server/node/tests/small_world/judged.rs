//! The laws of `tests/laws`, held against this world at every step.

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_laws::{Asker, Observed, Violation};
use heirloom_node::Node;
use heirloom_proto::event::{Action, Durable};
use heirloom_proto::{ChainHash, LogIndex, Member, Position, Register, Request, ServerId, StoreId, Time, Token};

use super::World;

/// One server as the laws see it.
struct Seen<'a> {
    server: ServerId,
    node: Option<&'a Node>,
    disk: Option<&'a Durable>,
    asked: &'a BTreeMap<Token, (Asker, Request)>,
}

impl Observed for Seen<'_> {
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

    fn key_read(&self, token: Token) -> Option<&Bytes> {
        match self.asked.get(&token) {
            Some((_, Request::Read { key, .. })) => Some(key),
            _ => None,
        }
    }

    fn member(&self) -> Member {
        Member { server: self.server, store: self.disk.map_or(StoreId(0), |disk| disk.identity.store) }
    }

    fn register(&self) -> Option<&Register> {
        self.disk.and_then(|disk| disk.register.as_ref())
    }

    fn durable_end(&self) -> LogIndex {
        LogIndex(self.disk.map_or(0, |disk| disk.log.len() as u64))
    }

    fn durable_position_at(&self, index: LogIndex) -> Option<Position> {
        let log = self.disk.map_or(&[][..], |disk| &disk.log);
        let prefix = log.get(..usize::try_from(index.0).ok()?)?;
        Some(Position { index, hash: prefix.iter().fold(ChainHash::EMPTY, |hash, entry| entry.extend(hash)) })
    }
}

impl World {
    fn seen(&self) -> Vec<Seen<'_>> {
        let seen = |server: ServerId| Seen {
            server,
            node: self.nodes.get(&server),
            disk: self.disks.get(&server),
            asked: &self.asked,
        };
        self.constants.servers().map(seen).collect()
    }

    /// **Panics if** this step broke a law.
    pub(super) fn judge(&mut self, stepped: ServerId, actions: &[Action]) {
        let Some(mut laws) = self.laws.take() else { return };
        self.uphold(laws.after_step(&self.seen(), stepped, self.now.0, actions));
        self.laws = Some(laws);
    }

    /// **Panics if** a server that committed alone does not go on alone (law 11).
    pub fn judge_who_is_alone(&self) {
        self.uphold(self.laws.as_ref().expect("nobody lies").alone(&self.seen()));
    }

    fn uphold(&self, judged: Result<(), Violation>) {
        if let Err(violation) = judged {
            panic!("{violation}\n{}", self.describe());
        }
    }
}
