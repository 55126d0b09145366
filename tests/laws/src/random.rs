//! The only source of chance in a world: the same seed, the same world, to the byte.

/// A splitmix64 generator.
///
/// **Source:** Steele, Lea & Flood 2014. Small, has no bad seeds, and is not going to change under us as a crate might.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring worlds.
        let mut random = Self { state: seed ^ 0x6865_6972_6c6f_6f6d };
        random.state = random.number();
        random
    }

    /// A source for one purpose in the world of a seed: what others draw does not change what it gives.
    pub fn of(seed: u64, purpose: u64, number: u64) -> Self {
        let mut random = Self::new(seed);
        for part in [purpose, number] {
            random.state = random.number() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93);
        }
        random.state = random.number();
        random
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.number() % bound }
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True in `share` of a thousand cases.
    pub fn per_mille(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    /// A waiting time with this mean: mostly short, at times several times as long.
    pub fn waiting(&mut self, mean: u64) -> u64 {
        let unit = (self.number() >> 11) as f64 / (1u64 << 53) as f64;
        // `ln` may differ between platforms in the last bit; rounded to a thousandth of the mean that does not show.
        let thousandths = (-(1.0 - unit).ln() * 1000.0).round() as u64;
        mean / 1000 * thousandths.min(8_000)
    }

    /// One of these.
    ///
    /// **Panics if** there are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Which of these weights was drawn.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut drawn = self.below(weights.iter().sum());
        for (position, weight) in weights.iter().enumerate() {
            if drawn < *weight {
                return position;
            }
            drawn -= weight;
        }
        0
    }

    /// Any order of these.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for position in (1..items.len()).rev() {
            items.swap(position, self.below(position as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut random = Random::new(7);
        let first: Vec<u64> = (0..3).map(|_| random.below(1000)).collect();
        let mut again = Random::new(7);
        assert_eq!(first, (0..3).map(|_| again.below(1000)).collect::<Vec<_>>());
        let mut other = Random::new(8);
        assert_ne!(first, (0..3).map(|_| other.below(1000)).collect::<Vec<_>>());
    }
}
