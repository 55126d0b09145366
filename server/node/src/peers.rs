//! What a node knows of the other servers: which run it heard last, and whether a stream to it stands.

use std::collections::BTreeMap;
use std::time::Duration;

use heirloom_proto::{Peer, RunId, ServerId, Time};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    peer: Peer,
    connected: bool,
    /// When hands were shaken last; `None` where they never were in this run of ours.
    connected_at: Option<Time>,
    /// When it was heard last through a stream that stands.
    heard_at: Option<Time>,
    /// When it was heard last at all.
    last_word: Time,
}

/// The other servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Peers {
    known: BTreeMap<ServerId, Known>,
}

impl Peers {
    /// A stream to this run stands. The handshake went both ways, so the peer was heard: a reconnection must not look like
    /// silence until the next heartbeat is answered.
    pub(crate) fn connected(&mut self, now: Time, peer: Peer) {
        let known = Known { peer, connected: true, connected_at: Some(now), heard_at: Some(now), last_word: now };
        self.known.insert(peer.server, known);
    }

    /// The stream to this run broke; true where it was the one that stood.
    pub(crate) fn broken(&mut self, peer: Peer) -> bool {
        match self.known.get_mut(&peer.server).filter(|known| known.peer.run == peer.run && known.connected) {
            Some(known) => {
                known.connected = false;
                known.heard_at = None;
                true
            }
            None => false,
        }
    }

    /// Takes note of a message; false where it is not from the run that is known to live.
    ///
    /// Once hands were shaken with a server only another handshake makes another run of it the one that lives: a message
    /// may be older than that, and from a run that is long over.
    pub(crate) fn heard(&mut self, now: Time, from: Peer) -> bool {
        match self.known.get_mut(&from.server) {
            Some(known) if known.peer == from => {
                known.heard_at = Some(now);
                known.last_word = now;
                true
            }
            Some(known) if known.connected_at.is_some() => false,
            Some(_) | None => {
                let known =
                    Known { peer: from, connected: false, connected_at: None, heard_at: Some(now), last_word: now };
                self.known.insert(from.server, known);
                true
            }
        }
    }

    /// Whether this is the run of its server that is known to live.
    pub(crate) fn is_current(&self, peer: Peer) -> bool {
        self.known.get(&peer.server).is_some_and(|known| known.peer == peer)
    }

    /// The run of a server that was heard last.
    pub(crate) fn run(&self, server: ServerId) -> Option<RunId> {
        self.known.get(&server).map(|known| known.peer.run)
    }

    /// The run, with its store, of a server that was heard last.
    pub(crate) fn peer(&self, server: ServerId) -> Option<Peer> {
        self.known.get(&server).map(|known| known.peer)
    }

    /// Whether a stream to the server stands.
    pub(crate) fn is_connected(&self, server: ServerId) -> bool {
        self.known.get(&server).is_some_and(|known| known.connected)
    }

    /// The servers to which a stream stands.
    pub(crate) fn all_connected(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.known.iter().filter(|(_, known)| known.connected).map(|(server, _)| *server)
    }

    /// Whether the stream to this server has stood for so long.
    pub(crate) fn connected_for(&self, now: Time, server: ServerId, span: Duration) -> bool {
        let known = self.known.get(&server).filter(|known| known.connected);
        known.and_then(|known| known.connected_at).is_some_and(|at| now.since(at) >= span)
    }

    /// Whether the server was heard within `span`.
    pub(crate) fn heard_within(&self, now: Time, server: ServerId, span: Duration) -> bool {
        let heard_at = self.known.get(&server).and_then(|known| known.heard_at);
        heard_at.is_some_and(|at| now.since(at) <= span)
    }

    /// Whether nothing was heard of the server for `span`, and no stream to it stands.
    pub(crate) fn silent_for(&self, now: Time, server: ServerId, span: Duration) -> bool {
        self.known.get(&server).is_some_and(|known| !known.connected && now.since(known.last_word) >= span)
    }

    /// All servers ever heard, those connected first, then those connected last.
    pub(crate) fn last_connected_first(&self) -> Vec<ServerId> {
        let mut servers: Vec<&Known> = self.known.values().collect();
        servers.sort_by_key(|known| std::cmp::Reverse((known.connected, known.connected_at)));
        servers.into_iter().map(|known| known.peer.server).collect()
    }
}
