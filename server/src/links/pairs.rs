//! Which peers are connected: with each a pair of streams, one dialled and one accepted, of the same run of the peer.
//!
//! Owned by the driver, so that what a node is told about a connection and where its messages go change together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heirloom_proto::{ClusterId, Event, Message, Peer, RunId, ServerId};
use tokio::sync::watch;

use super::{Gate, Outgoing, StreamId};

/// The streams of one life.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pairs: BTreeMap<ServerId, Pair>,
}

/// The streams with one server.
///
/// **Invariants:** `up` is the peer that both streams lead to, once the node was told of it.
#[derive(Debug, Default)]
struct Pair {
    dialled: Option<Dialled>,
    accepted: Option<Accepted>,
    /// A stream dialled by another run than the one that was found at the server's address: the next run of the server, or
    /// a process that says that it is this server and isn't. It must not disturb the connection that stands.
    waiting: Option<Accepted>,
    up: Option<Peer>,
    gathered: Vec<(Option<ClusterId>, Message)>,
}

#[derive(Debug)]
struct Dialled {
    peer: Peer,
    stream: StreamId,
    outgoing: Arc<Outgoing>,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.outgoing.close();
    }
}

#[derive(Debug)]
struct Accepted {
    peer: Peer,
    stream: StreamId,
    gate: watch::Sender<Gate>,
}

impl Pairs {
    /// A stream that was dialled stands; it takes the place of an earlier one.
    pub(crate) fn dialled(&mut self, peer: Peer, stream: StreamId, outgoing: Arc<Outgoing>) -> Vec<Event> {
        let pair = self.pairs.entry(peer.server).or_default();
        let mut events = pair.part();
        pair.dialled = Some(Dialled { peer, stream, outgoing });
        pair.admit();
        events.extend(pair.join());
        events
    }

    /// A stream dialled by the peer stands; it takes the place of an earlier one, unless another run is known to be at the
    /// server's address.
    pub(crate) fn accepted(&mut self, peer: Peer, stream: StreamId, gate: watch::Sender<Gate>) -> Vec<Event> {
        let pair = self.pairs.entry(peer.server).or_default();
        if pair.dialled.as_ref().is_some_and(|dialled| dialled.peer != peer) {
            pair.waiting = Some(Accepted { peer, stream, gate });
            return Vec::new();
        }
        let mut events = pair.part();
        pair.accepted = Some(Accepted { peer, stream, gate });
        events.extend(pair.join());
        events
    }

    /// A stream that was dialled broke; nothing, where it has been replaced.
    pub(crate) fn dialled_broke(&mut self, server: ServerId, stream: StreamId) -> Vec<Event> {
        let pair = self.pairs.entry(server).or_default();
        if pair.dialled.as_ref().is_none_or(|dialled| dialled.stream != stream) {
            return Vec::new();
        }
        let events = pair.part();
        pair.dialled = None;
        pair.admit();
        events
    }

    /// A stream dialled by the peer broke; nothing, where it has been replaced.
    pub(crate) fn accepted_broke(&mut self, server: ServerId, stream: StreamId) -> Vec<Event> {
        let pair = self.pairs.entry(server).or_default();
        pair.waiting.take_if(|waiting| waiting.stream == stream);
        if pair.accepted.as_ref().is_none_or(|accepted| accepted.stream != stream) {
            return Vec::new();
        }
        pair.accepted = None;
        pair.part()
    }

    /// Whether messages of this stream, dialled by the server, are to be taken: it is one of the pair that stands.
    ///
    /// What was read of a stream may wait behind the news that the connection broke, or that another one took its place.
    /// Were it taken then, a server would be heard through a stream that is gone (PROTOCOL 2, *hears*), and messages would
    /// overtake one another over a reconnection.
    pub(crate) fn stands(&self, server: ServerId, stream: StreamId) -> bool {
        self.pairs.get(&server).is_some_and(|pair| {
            pair.up.is_some() && pair.accepted.as_ref().is_some_and(|accepted| accepted.stream == stream)
        })
    }

    /// The runs of a server to which a stream stands, in either direction.
    pub(crate) fn runs(&self, server: ServerId) -> BTreeSet<RunId> {
        let pair = self.pairs.get(&server);
        let dialled = pair.and_then(|pair| pair.dialled.as_ref()).map(|dialled| dialled.peer.run);
        let accepted = pair.and_then(|pair| pair.accepted.as_ref()).map(|accepted| accepted.peer.run);
        dialled.into_iter().chain(accepted).collect()
    }

    /// Gathers a message until [`Pairs::send_gathered`]; one to a server that is not connected is lost.
    pub(crate) fn gather(&mut self, to: ServerId, cluster: Option<ClusterId>, message: Message) {
        if let Some(pair) = self.pairs.get_mut(&to).filter(|pair| pair.dialled.is_some()) {
            pair.gathered.push((cluster, message));
        }
    }

    /// Hands what has gathered to the streams.
    pub(crate) fn send_gathered(&mut self) {
        for (server, pair) in &mut self.pairs {
            if pair.gathered.is_empty() {
                continue;
            }
            let Some(dialled) = &pair.dialled else {
                pair.gathered.clear();
                continue;
            };
            let dropped = dialled.outgoing.push(pair.gathered.drain(..));
            if dropped > 0 {
                tracing::debug!(to = %server, dropped, "peer is too slow: messages dropped");
            }
        }
    }
}

impl Pair {
    /// Ends the connection, where there is one. Nothing more is read of the stream that is left, until it is one of a pair
    /// again.
    fn part(&mut self) -> Vec<Event> {
        self.gathered.clear();
        if let Some(accepted) = &self.accepted {
            accepted.gate.send_replace(Gate::Shut);
        }
        self.up.take().map(|peer| Event::PeerBroken { peer }).into_iter().collect()
    }

    /// Lets the stream that waits take the place of the accepted one, where it is of the run at the server's address, or
    /// nobody is known to be there.
    fn admit(&mut self) {
        let dialled = self.dialled.as_ref().map(|dialled| dialled.peer);
        if self.waiting.as_ref().is_some_and(|waiting| dialled.is_none_or(|peer| peer == waiting.peer)) {
            self.accepted = self.waiting.take();
        }
    }

    /// Makes the connection, where both streams stand and lead to the same run.
    fn join(&mut self) -> Option<Event> {
        let (dialled, accepted) = (self.dialled.as_ref()?, self.accepted.as_ref()?);
        if dialled.peer != accepted.peer {
            return None;
        }
        self.up = Some(dialled.peer);
        // Fails only where the stream has ended, which its own report is about to say.
        let _ = accepted.gate.send(Gate::Open);
        Some(Event::PeerConnected { peer: dialled.peer })
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::StoreId;

    use super::*;

    fn peer(run: u64) -> Peer {
        Peer { server: ServerId(1), store: StoreId(7), run: RunId(run) }
    }

    fn gate() -> (watch::Sender<Gate>, watch::Receiver<Gate>) {
        watch::channel(Gate::Shut)
    }

    const SERVER: ServerId = ServerId(1);

    #[test]
    fn a_peer_is_connected_when_both_streams_stand_and_broken_once() {
        let mut pairs = Pairs::default();
        let (sender, receiver) = gate();
        assert_eq!(pairs.accepted(peer(1), StreamId(1), sender), []);
        assert_eq!(*receiver.borrow(), Gate::Shut);
        assert_eq!(pairs.dialled(peer(1), StreamId(2), Arc::default()), [Event::PeerConnected { peer: peer(1) }]);
        assert_eq!(*receiver.borrow(), Gate::Open);
        assert_eq!(pairs.dialled_broke(SERVER, StreamId(2)), [Event::PeerBroken { peer: peer(1) }]);
        assert_eq!(pairs.accepted_broke(SERVER, StreamId(1)), []);
    }

    #[test]
    fn the_stream_that_is_left_of_a_pair_is_not_read_until_it_is_one_of_a_pair_again() {
        let mut pairs = Pairs::default();
        let (sender, receiver) = gate();
        pairs.accepted(peer(1), StreamId(1), sender);
        pairs.dialled(peer(1), StreamId(2), Arc::default());
        pairs.dialled_broke(SERVER, StreamId(2));
        assert_eq!(*receiver.borrow(), Gate::Shut);
        pairs.dialled(peer(1), StreamId(3), Arc::default());
        assert_eq!(*receiver.borrow(), Gate::Open);
        pairs.dialled(peer(2), StreamId(4), Arc::default());
        assert_eq!(*receiver.borrow(), Gate::Shut, "what was dialled anew leads to another run");
    }

    #[test]
    fn the_runs_to_which_a_stream_stands_are_known() {
        let mut pairs = Pairs::default();
        assert!(pairs.runs(SERVER).is_empty());
        pairs.accepted(peer(1), StreamId(1), gate().0);
        pairs.dialled(peer(2), StreamId(2), Arc::default());
        assert_eq!(pairs.runs(SERVER), [RunId(1), RunId(2)].into());
        pairs.dialled_broke(SERVER, StreamId(2));
        assert_eq!(pairs.runs(SERVER), [RunId(1)].into());
    }

    #[test]
    fn messages_are_taken_of_the_stream_of_a_pair_that_stands_alone() {
        let mut pairs = Pairs::default();
        assert!(!pairs.stands(SERVER, StreamId(1)), "unknown");
        pairs.accepted(peer(1), StreamId(1), gate().0);
        assert!(!pairs.stands(SERVER, StreamId(1)), "not yet a pair");
        pairs.dialled(peer(1), StreamId(2), Arc::default());
        assert!(pairs.stands(SERVER, StreamId(1)) && !pairs.stands(SERVER, StreamId(2)), "one is for sending");
        pairs.accepted(peer(1), StreamId(3), gate().0);
        assert!(pairs.stands(SERVER, StreamId(3)) && !pairs.stands(SERVER, StreamId(1)), "replaced");
        pairs.dialled_broke(SERVER, StreamId(2));
        assert!(!pairs.stands(SERVER, StreamId(3)), "half of a pair");
    }

    #[test]
    fn streams_of_two_runs_make_no_connection() {
        let mut pairs = Pairs::default();
        assert_eq!(pairs.dialled(peer(1), StreamId(1), Arc::default()), []);
        assert_eq!(pairs.accepted(peer(2), StreamId(2), gate().0), []);
        assert_eq!(pairs.dialled_broke(SERVER, StreamId(1)), []);
        assert_eq!(pairs.dialled(peer(2), StreamId(3), Arc::default()), [Event::PeerConnected { peer: peer(2) }]);
    }

    #[test]
    fn a_stream_that_replaces_another_breaks_the_old_connection_and_makes_a_new_one() {
        let mut pairs = Pairs::default();
        let (old, old_receiver) = gate();
        pairs.accepted(peer(1), StreamId(1), old);
        pairs.dialled(peer(1), StreamId(2), Arc::default());
        assert_eq!(
            pairs.accepted(peer(1), StreamId(3), gate().0),
            [Event::PeerBroken { peer: peer(1) }, Event::PeerConnected { peer: peer(1) }]
        );
        assert!(old_receiver.has_changed().is_err(), "the replaced stream is told to end");
        assert_eq!(pairs.accepted_broke(SERVER, StreamId(1)), [], "its end is no news");
    }

    #[test]
    fn a_process_that_is_not_at_the_servers_address_does_not_disturb_the_connection_with_the_one_that_is() {
        let mut pairs = Pairs::default();
        let (sender, receiver) = gate();
        pairs.accepted(peer(1), StreamId(1), sender);
        pairs.dialled(peer(1), StreamId(2), Arc::default());
        assert_eq!(pairs.accepted(peer(2), StreamId(3), gate().0), []);
        assert_eq!(*receiver.borrow(), Gate::Open);
        assert_eq!(pairs.accepted_broke(SERVER, StreamId(3)), []);
        // The next run of the server itself is let in as soon as it is found at the address.
        let (next, next_receiver) = gate();
        assert_eq!(pairs.accepted(peer(4), StreamId(4), next), []);
        assert_eq!(pairs.dialled_broke(SERVER, StreamId(2)), [Event::PeerBroken { peer: peer(1) }]);
        assert_eq!(pairs.dialled(peer(4), StreamId(5), Arc::default()), [Event::PeerConnected { peer: peer(4) }]);
        assert_eq!(*next_receiver.borrow(), Gate::Open);
    }

    #[test]
    fn a_message_to_a_server_that_is_not_connected_is_lost() {
        let mut pairs = Pairs::default();
        pairs.gather(SERVER, None, Message::Question { ask: 1 });
        let outgoing = Arc::new(Outgoing::default());
        pairs.dialled(peer(1), StreamId(1), outgoing.clone());
        pairs.gather(SERVER, None, Message::Question { ask: 2 });
        pairs.dialled_broke(SERVER, StreamId(1));
        pairs.send_gathered();
        assert_eq!(outgoing.push([(None, Message::Question { ask: 3 })]), 1, "a broken stream takes nothing more");
    }
}
