//! A server's own clock: it starts anywhere and runs a little too fast or too slow, but never backwards.

use heirloom_proto::Time;

const MILLION: u128 = 1_000_000;

/// True time of the world, which no server ever sees. **Units:** nanoseconds.
pub(crate) type Instant = u64;

pub(crate) const MICROSECOND: u64 = 1_000;
pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Maps true time to what one server reads.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    since: Instant,
    reading: u64,
    /// How much too fast. **Units:** parts per million.
    fast_ppm: i64,
}

impl Clock {
    pub(crate) fn new(now: Instant, reading: u64, fast_ppm: i64) -> Self {
        Self { since: now, reading, fast_ppm }
    }

    pub(crate) fn read(&self, now: Instant) -> Time {
        let passed = u128::from(now.saturating_sub(self.since)) * self.rate() / MILLION;
        Time(self.reading + u64::try_from(passed).expect("a world lasts seconds"))
    }

    /// The first moment at which the clock reads `time` or later.
    pub(crate) fn when(&self, time: Time) -> Instant {
        let ahead = u128::from(time.0.saturating_sub(self.reading)) * MILLION;
        self.since.saturating_add(u64::try_from(ahead.div_ceil(self.rate())).unwrap_or(u64::MAX))
    }

    /// From now on too fast by this much.
    pub(crate) fn set_rate(&mut self, now: Instant, fast_ppm: i64) {
        *self = Self::new(now, self.read(now).0, fast_ppm);
    }

    fn rate(&self) -> u128 {
        u128::try_from(1_000_000 + self.fast_ppm).expect("no clock runs backwards")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reads_what_it_was_asked_to_wake_for() {
        for fast_ppm in [-4_970, -1, 0, 3, 4_970] {
            let clock = Clock::new(1_000, 77, fast_ppm);
            for wanted in [77, 78, 1_000_000, 123_456_789_012] {
                let moment = clock.when(Time(wanted));
                assert!(clock.read(moment) >= Time(wanted));
                assert!(moment == 1_000 || clock.read(moment - 1) < Time(wanted));
            }
        }
    }
}
