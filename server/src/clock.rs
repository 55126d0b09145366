//! The two clocks: a steady one for everything that is decided, and the calendar for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heirloom_proto::{Time, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// The steady clock, which also counts time spent suspended: a lease must not survive a closed lid.
#[cfg(any(target_os = "linux", target_os = "android"))]
const STEADY: ClockId = ClockId::Boottime;
/// Elsewhere the monotonic clock is the one that goes on during sleep.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const STEADY: ClockId = ClockId::Monotonic;

/// How fast the steady clock of a server goes: as the machine has it, unless a test says otherwise.
///
/// A test gives servers on one machine clocks of different rates with it, for leases bear only so much of that
/// (PROTOCOL 10). Without the feature `steered-clock`, and so in every release, there is only [`Rate::TRUE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    #[cfg(any(test, feature = "steered-clock"))]
    ppm: i32,
}

/// A clock further off than this is no clock.
#[cfg(any(test, feature = "steered-clock"))]
const OFF_PPM_MAX: i32 = 500_000;

impl Rate {
    /// As the machine has it.
    pub const TRUE: Self = Self {
        #[cfg(any(test, feature = "steered-clock"))]
        ppm: 0,
    };

    /// Faster by this; slower where it is negative. **Units:** parts per million.
    ///
    /// **Errors:** more than half off.
    #[cfg(any(test, feature = "steered-clock"))]
    pub fn off_by(ppm: i32) -> Result<Self, String> {
        match (-OFF_PPM_MAX..=OFF_PPM_MAX).contains(&ppm) {
            true => Ok(Self { ppm }),
            false => Err(format!("a clock can't be off by {ppm} ppm: use {} to {OFF_PPM_MAX}", -OFF_PPM_MAX)),
        }
    }

    /// What a clock of this rate reads where the machine's reads this.
    ///
    /// The two agree at the boot of the machine and not at the start of a process, so that all runs of a server read one
    /// clock, which no restart sets back.
    #[cfg(any(test, feature = "steered-clock"))]
    fn read(self, machine: Time) -> Time {
        Time(scaled(machine.0, self.per_million(), 1_000_000))
    }

    /// How long the machine takes while a clock of this rate counts `span`.
    #[cfg(any(test, feature = "steered-clock"))]
    pub(crate) fn on_the_machine(self, span: Duration) -> Duration {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(scaled(nanos, 1_000_000, self.per_million()))
    }

    #[cfg(any(test, feature = "steered-clock"))]
    fn per_million(self) -> u64 {
        1_000_000_u64.saturating_add_signed(i64::from(self.ppm))
    }

    /// The machine's own reading.
    #[cfg(not(any(test, feature = "steered-clock")))]
    const fn read(self, machine: Time) -> Time {
        machine
    }

    /// As long.
    #[cfg(not(any(test, feature = "steered-clock")))]
    pub(crate) const fn on_the_machine(self, span: Duration) -> Duration {
        span
    }
}

#[cfg(any(test, feature = "steered-clock"))]
fn scaled(number: u64, by: u64, per: u64) -> u64 {
    u64::try_from(u128::from(number) * u128::from(by) / u128::from(per)).unwrap_or(u64::MAX)
}

/// A reading of the steady clock of a server whose clock has this rate.
pub(crate) fn now(rate: Rate) -> Time {
    let reading = clock_gettime(STEADY);
    let seconds = u64::try_from(reading.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(reading.tv_nsec).unwrap_or_default();
    let reading = rate.read(Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)));
    #[cfg(test)]
    let reading = reading + skipped();
    reading
}

#[cfg(test)]
thread_local! {
    static SKIPPED: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// Sets the steady clock forward for all that this thread reads of it from now on, as if the machine had slept.
#[cfg(test)]
pub(crate) fn skip(span: Duration) {
    SKIPPED.set(SKIPPED.get() + span);
}

#[cfg(test)]
fn skipped() -> Duration {
    SKIPPED.get()
}

/// A reading of the calendar; 0 where it is set before 1970.
pub(crate) fn calendar() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_clock_that_is_off_counts_more_or_less_in_the_same_time() {
        let from = Time(7_000_000_000_123);
        for (ppm, counted) in [(10_000, 3_636), (0, 3_600), (-10_000, 3_564), (-100_000, 3_240)] {
            let rate = Rate::off_by(ppm).expect("in bounds");
            let span = rate.read(from + HOUR).since(rate.read(from));
            assert!(span.abs_diff(Duration::from_secs(counted)) < Duration::from_micros(1), "{ppm}: {span:?}");
            assert!(rate.on_the_machine(span).abs_diff(HOUR) < Duration::from_micros(1), "{ppm}");
        }
        assert_eq!(Rate::TRUE.read(from), from);
        assert!(Rate::off_by(500_001).is_err() && Rate::off_by(i32::MIN).is_err());
    }

    #[test]
    fn the_clock_that_is_read_has_the_rate_that_was_set() {
        let slow = Rate::off_by(-100_000).expect("in bounds");
        let (before, read, after) = (now(Rate::TRUE), now(slow), now(Rate::TRUE));
        assert!(slow.read(before) <= read && read <= slow.read(after), "{before:?} {read:?} {after:?}");
    }
}
