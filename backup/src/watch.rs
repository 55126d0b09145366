//! Whether the primary lives, as a voter sees it.

use std::time::Duration;

use heirloom_proto::{Epoch, Peer, RunId, ServerId, Time};

/// What a voter has heard of the primary.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct PrimaryWatch {
    heard: Option<Heard>,
    /// A run that still leads an epoch which is shut out here.
    frozen: Option<(ServerId, RunId)>,
    /// How many more promises were given than epochs came of them, lately and as far as that matters.
    in_vain: u8,
    /// Since when one primary leads; known only where promises were in vain.
    steady_since: Option<Time>,
}

/// How often patience is doubled at most: for disks that take seconds, a minute or so.
const DOUBLED_MAX: u8 = 7;
/// After how many times the suspicion of one primary patience is what it was at first.
const STEADY_SUSPICIONS: u32 = 32;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Heard {
    epoch: Epoch,
    from: Peer,
    at: Time,
    /// Whether the primary hears us: hearing means both ways, else a one-way cut blocks for ever (PROTOCOL 5.1).
    hears_us: bool,
}

impl PrimaryWatch {
    /// Takes a heartbeat of the epoch that counts.
    pub fn heard(&mut self, now: Time, epoch: Epoch, from: Peer, hears_us: bool, suspicion: Duration) {
        let is_new = self.heard.as_ref().is_none_or(|heard| heard.epoch != epoch);
        self.heard = Some(Heard { epoch, from, at: now, hears_us });
        if is_new {
            self.led();
        }
        self.goes_on(now, suspicion);
    }

    /// Takes note that the same primary leads still, be it this server.
    pub fn goes_on(&mut self, now: Time, suspicion: Duration) {
        if self.in_vain == 0 {
            return;
        }
        let since = *self.steady_since.get_or_insert(now);
        if now.since(since) >= suspicion * STEADY_SUSPICIONS {
            self.in_vain = 0;
            self.steady_since = None;
        }
    }

    /// Takes note that a promise led to an epoch. It pays for one, not for all: a primary whose epoch a late proposal ends
    /// must not find everybody as impatient as at first.
    pub fn led(&mut self) {
        self.in_vain = self.in_vain.saturating_sub(1);
        self.steady_since = None;
    }

    /// Takes note of a promise, given to another server or to the own proposal.
    pub fn promised(&mut self) {
        self.in_vain = (self.in_vain + 1).min(1 + DOUBLED_MAX);
        self.steady_since = None;
    }

    /// How long a proposal is given where the first one is given `span`: twice as long for each that came to nothing. A
    /// proposal takes four writes one after the other, and how long they take nobody knows before: were all given the same
    /// time, servers with slow disks would end each other's proposals for ever (docs/decisions/0013).
    pub fn patience(&self, span: Duration) -> Duration {
        span * (1 << self.in_vain.saturating_sub(1))
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

#[cfg(test)]
mod tests {
    use heirloom_proto::StoreId;

    use super::*;

    const SPAN: Duration = Duration::from_millis(100);

    fn hear(watch: &mut PrimaryWatch, round: u64, at: Duration) {
        let (server, run) = (ServerId(0), RunId(round));
        let peer = Peer { server, store: StoreId(1), run };
        watch.heard(Time(0) + at, Epoch { round, server, run }, peer, true, SPAN);
    }

    #[test]
    fn patience_doubles_with_every_promise_in_vain_and_an_epoch_pays_for_one_of_them() {
        let mut watch = PrimaryWatch::default();
        let mut spans = Vec::new();
        for _ in 0..10 {
            watch.promised();
            spans.push(watch.patience(SPAN).as_millis());
        }
        assert_eq!(spans, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 12_800, 12_800]);
        hear(&mut watch, 1, SPAN);
        hear(&mut watch, 1, SPAN * 2);
        assert_eq!(watch.patience(SPAN), SPAN * 64, "a short reign is no sign that all is well");
        hear(&mut watch, 2, SPAN * 3);
        assert_eq!(watch.patience(SPAN), SPAN * 32);
        hear(&mut watch, 2, SPAN * 34);
        assert_eq!(watch.patience(SPAN), SPAN * 32, "not quite");
        hear(&mut watch, 2, SPAN * 35);
        assert_eq!(watch.patience(SPAN), SPAN, "a long one is");
    }

    #[test]
    fn where_every_promise_leads_to_an_epoch_patience_stays_what_it_was() {
        let mut watch = PrimaryWatch::default();
        for round in 1..20 {
            watch.promised();
            assert_eq!(watch.patience(SPAN), SPAN);
            hear(&mut watch, round, SPAN * u32::try_from(round).expect("small"));
        }
    }
}
