//! What is on its way.

use heirloom_proto::{Action, ClusterId, Event, Message, Peer, RunId, ServerId};

/// Something on its way. The network is a set that only grows: whatever was sent may arrive at any time, any number of
/// times, in any order, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Packet {
    Message {
        from: Peer,
        to: ServerId,
        cluster: Option<ClusterId>,
        message: Message,
    },
    /// The stream between two runs is found broken.
    Break {
        at: Peer,
        peer: Peer,
    },
    /// A stream stands, with hands shaken: to a run that has begun, or again after a cut.
    Mend {
        at: Peer,
        peer: Peer,
    },
    /// A probe reaches the place where its server would be.
    Probe {
        asker: Peer,
        server: ServerId,
        run: RunId,
        probe: u64,
    },
    /// What it found comes back.
    Probed {
        asker: Peer,
        server: ServerId,
        run: RunId,
        probe: u64,
        dead: bool,
    },
}

impl Packet {
    /// What it is to whom it reaches.
    pub(crate) fn event(&self) -> Event {
        match self {
            Self::Message { from, cluster, message, .. } => {
                Event::Received { from: *from, cluster: *cluster, message: message.clone() }
            }
            Self::Break { peer, .. } => Event::PeerBroken { peer: *peer },
            Self::Mend { peer, .. } => Event::PeerConnected { peer: *peer },
            Self::Probed { server, run, probe, dead, .. } => {
                Event::Probed { server: *server, run: *run, probe: *probe, dead: *dead }
            }
            Self::Probe { .. } => unreachable!("a probe reaches no node"),
        }
    }

    /// Whose state decides what comes of it.
    pub(crate) fn at(&self) -> ServerId {
        match self {
            Self::Message { to, .. } => *to,
            Self::Break { at, .. } | Self::Mend { at, .. } => at.server,
            Self::Probe { server, .. } => *server,
            Self::Probed { asker, .. } => asker.server,
        }
    }

    /// Both servers that it concerns.
    pub(crate) fn ends(&self) -> [ServerId; 2] {
        match self {
            Self::Message { from, to, .. } => [from.server, *to],
            Self::Break { at, peer } | Self::Mend { at, peer } => [at.server, peer.server],
            Self::Probe { asker, server, .. } | Self::Probed { asker, server, .. } => [asker.server, *server],
        }
    }

    /// What an action of this run sends; `None` where it sends nothing.
    pub(crate) fn of(from: Peer, action: &Action) -> Option<Self> {
        match action {
            Action::Send { to, cluster, message } => {
                let mut message = message.clone();
                if let Message::Testimony(testimony) = &mut message {
                    testimony.remembered = None;
                }
                Some(Self::Message { from, to: *to, cluster: *cluster, message })
            }
            Action::Probe { server, run, probe, .. } => {
                Some(Self::Probe { asker: from, server: *server, run: *run, probe: *probe })
            }
            _ => None,
        }
    }
}
