//! Whether the primary lives, as a voter sees it.

use std::time::Duration;

use heirloom_proto::{Epoch, Peer, RunId, ServerId, Time};

/// What a voter has heard of the primary.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct PrimaryWatch {
    heard: Option<Heard>,
    /// A run that still leads an epoch which is shut out here.
    frozen: Option<(ServerId, RunId)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Heard {
    epoch: Epoch,
    from: Peer,
    at: Time,
    /// Whether the primary hears us: hearing means both ways, else a one-way cut blocks for ever (PROTOCOL 5.1).
    hears_us: bool,
}

impl PrimaryWatch {
    /// Takes a heartbeat of the epoch that counts; true where it is the first one of its epoch.
    pub fn heard(&mut self, now: Time, epoch: Epoch, from: Peer, hears_us: bool) -> bool {
        let is_first = self.heard.as_ref().is_none_or(|heard| heard.epoch != epoch);
        self.heard = Some(Heard { epoch, from, at: now, hears_us });
        is_first
    }

    /// Takes a heartbeat of an epoch that is shut out: it does not count, and yet its run leads, if frozen.
    pub fn heard_frozen(&mut self, from: Peer) {
        self.frozen = Some((from.server, from.run));
    }

    /// Whether this run was heard to lead an epoch that is shut out here.
    pub fn is_frozen(&self, run: (ServerId, RunId)) -> bool {
        self.frozen == Some(run)
    }

    /// Takes the news that a stream broke; true where it was the primary's.
    pub fn broken(&mut self, peer: Peer) -> bool {
        let was = self.heard.as_ref().is_some_and(|heard| heard.from.run == peer.run);
        if was {
            self.heard = None;
        }
        was
    }

    /// Forgets heartbeats of epochs below `epoch`.
    pub fn shut_out(&mut self, epoch: Epoch) {
        if self.heard.as_ref().is_some_and(|heard| heard.epoch < epoch) {
            self.heard = None;
        }
    }

    /// The primary that is heard, both ways, within the suspicion time.
    pub fn hears(&self, now: Time, suspicion: Duration) -> Option<(ServerId, RunId)> {
        self.heard
            .as_ref()
            .filter(|heard| heard.hears_us && now.since(heard.at) <= suspicion)
            .map(|heard| (heard.from.server, heard.from.run))
    }

    /// The primary that was heard last, even one way; where requests may be sent.
    pub fn primary(&self) -> Option<ServerId> {
        self.heard.as_ref().map(|heard| heard.from.server)
    }

    /// When a primary that is heard will be presumed dead, if it stays silent.
    pub fn suspected_at(&self, suspicion: Duration) -> Option<Time> {
        self.heard.as_ref().map(|heard| heard.at + suspicion)
    }
}
