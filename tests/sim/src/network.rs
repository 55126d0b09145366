//! The network between servers: who reaches whom, and when a message arrives.

use heirloom_proto::ServerId;

use crate::clock::{Instant, MILLISECOND, SECOND};
use crate::plan::Plan;
use crate::random::Random;
use crate::tally::{Mishap, Tally};

/// One direction between two servers.
pub(crate) type Direction = (ServerId, ServerId);

/// The links of a world; each direction by itself.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    servers: usize,
    /// How many cuts lie over each direction.
    cuts: Vec<u32>,
    /// When the last message of each direction arrives.
    last_arrival: Vec<Instant>,
}

impl Network {
    pub(crate) fn new(servers: usize) -> Self {
        Self { servers, cuts: vec![0; servers * servers], last_arrival: vec![0; servers * servers] }
    }

    pub(crate) fn open(&self, from: ServerId, to: ServerId) -> bool {
        self.cuts[self.slot((from, to))] == 0
    }

    pub(crate) fn open_both_ways(&self, one: ServerId, other: ServerId) -> bool {
        self.open(one, other) && self.open(other, one)
    }

    pub(crate) fn cut(&mut self, directions: &[Direction]) {
        for direction in directions {
            let slot = self.slot(*direction);
            self.cuts[slot] += 1;
        }
    }

    pub(crate) fn heal(&mut self, directions: &[Direction]) {
        for direction in directions {
            let slot = self.slot(*direction);
            self.cuts[slot] = self.cuts[slot].saturating_sub(1);
        }
    }

    pub(crate) fn heal_all(&mut self) {
        self.cuts.fill(0);
    }

    /// When a message that is sent now arrives; several times if it is doubled, never if it is lost.
    pub(crate) fn arrivals(
        &mut self,
        plan: &Plan,
        random: &mut Random,
        direction: Direction,
        now: Instant,
        tally: &mut Tally,
    ) -> Vec<Instant> {
        if !self.open(direction.0, direction.1) {
            tally.mishap(Mishap::AMessageRanIntoACut);
            return Vec::new();
        }
        if random.per_mille(plan.lost) {
            tally.mishap(Mishap::AMessageWasLost);
            return Vec::new();
        }
        let mut arrivals = vec![self.arrival(plan, random, direction, now, tally)];
        if random.per_mille(plan.doubled) {
            tally.mishap(Mishap::AMessageWasDoubled);
            // The second one may be a ghost of long ago.
            let after = if random.per_mille(300) { 4 * SECOND } else { 100 * MILLISECOND };
            arrivals.push(now + random.between(plan.delay.0, after));
        }
        arrivals
    }

    fn arrival(
        &mut self,
        plan: &Plan,
        random: &mut Random,
        direction: Direction,
        now: Instant,
        tally: &mut Tally,
    ) -> Instant {
        let mut arrival = now + random.between(plan.delay.0, plan.delay.1);
        if random.per_mille(plan.late) {
            tally.mishap(Mishap::AMessageWasLate);
            let most = if random.per_mille(100) { 3 * SECOND } else { 200 * MILLISECOND };
            arrival += random.below(most);
        }
        let slot = self.slot(direction);
        if plan.in_order {
            arrival = arrival.max(self.last_arrival[slot] + 1);
            self.last_arrival[slot] = arrival;
        }
        arrival
    }

    fn slot(&self, (from, to): Direction) -> usize {
        usize::from(from.0) * self.servers + usize::from(to.0)
    }
}
