//! How long this voter waits for proposals, its own included, and how that grows where it was in vain.

use std::time::Duration;

use heirloom_proto::Time;
use heirloom_proto::limits::PATIENCE_DOUBLED_MAX;

/// After how many times the suspicion of one primary patience is what it was at first.
const STEADY_SUSPICIONS: u32 = 32;

/// What a voter has learnt about how long proposals take (docs/decisions/0013). Nothing of safety rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Patience {
    /// How many more promises were given than epochs came of them, lately and as far as that matters.
    in_vain: u8,
    /// Since when one primary leads; known only where promises were in vain.
    steady_since: Option<Time>,
}

impl Patience {
    /// Takes note of a promise, given to another server or to the own proposal.
    pub(crate) fn promised(&mut self) {
        self.in_vain = (self.in_vain + 1).min(1 + PATIENCE_DOUBLED_MAX);
        self.steady_since = None;
    }

    /// Takes note that a promise led to an epoch. It pays for one, not for all: a primary whose epoch a late proposal ends
    /// must not find everybody as impatient as at first.
    pub(crate) fn led(&mut self) {
        self.in_vain = self.in_vain.saturating_sub(1);
        self.steady_since = None;
    }

    /// Takes note that the same primary leads still, be it this server.
    pub(crate) fn goes_on(&mut self, now: Time, suspicion: Duration) {
        if self.in_vain == 0 {
            return;
        }
        let since = *self.steady_since.get_or_insert(now);
        if now.since(since) >= suspicion * STEADY_SUSPICIONS {
            *self = Self::default();
        }
    }

    /// How long a proposal is given where the first one is given `span`: twice as long for each that came to nothing. A
    /// proposal takes four writes one after the other, and how long they take nobody knows before: were all given the same
    /// time, servers with slow disks would end each other's proposals for ever.
    pub(crate) fn of(&self, span: Duration) -> Duration {
        span * (1 << self.in_vain.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_millis(100);

    #[test]
    fn patience_doubles_with_every_promise_in_vain_and_an_epoch_pays_for_one_of_them() {
        let mut patience = Patience::default();
        let mut spans = Vec::new();
        for _ in 0..10 {
            patience.promised();
            spans.push(patience.of(SPAN).as_millis());
        }
        assert_eq!(spans, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 12_800, 12_800]);
        let goes_on = |patience: &mut Patience, spans: u32| patience.goes_on(Time(0) + SPAN * spans, SPAN);
        patience.led();
        goes_on(&mut patience, 1);
        assert_eq!(patience.of(SPAN), SPAN * 64, "a short reign is no sign that all is well");
        patience.led();
        goes_on(&mut patience, 3);
        goes_on(&mut patience, 34);
        assert_eq!(patience.of(SPAN), SPAN * 32, "not quite");
        goes_on(&mut patience, 35);
        assert_eq!(patience.of(SPAN), SPAN, "a long one is");
    }

    #[test]
    fn where_every_promise_leads_to_an_epoch_patience_stays_what_it_was() {
        let mut patience = Patience::default();
        for _ in 1..20 {
            patience.promised();
            assert_eq!(patience.of(SPAN), SPAN);
            patience.led();
        }
    }
}
