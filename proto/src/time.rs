//! Time as a number. No clock is read here; `now` is handed in with every event.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A reading of one server's own steady clock, which also counts time spent suspended. **Units:** nanoseconds.
///
/// Readings of two servers, or of two boots of one, are never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

/// A reading of the calendar clock, for people: it orders nothing. **Units:** milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(pub u64);

impl Time {
    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A rate bound between two clocks. **Units:** parts per million (the default of 1 % is 10,000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Drift(pub u32);

impl Drift {
    /// `span` as the holder of a right must count it: shortened.
    pub fn shorten(self, span: Duration) -> Duration {
        span - self.share(span)
    }

    /// `span` as whoever waits for that right to end must count it: lengthened.
    pub fn lengthen(self, span: Duration) -> Duration {
        span + self.share(span)
    }

    fn share(self, span: Duration) -> Duration {
        let nanos = span.as_nanos() * u128::from(self.0) / 1_000_000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_counts_less_and_a_waiter_more() {
        let drift = Drift(10_000);
        let lease = Duration::from_millis(300);
        assert_eq!(drift.shorten(lease), Duration::from_millis(297));
        assert_eq!(drift.lengthen(lease), Duration::from_millis(303));
    }
}
