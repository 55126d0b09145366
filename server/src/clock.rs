//! The two clocks: a steady one for everything that is decided, and the calendar for people.

use std::time::{SystemTime, UNIX_EPOCH};

use heirloom_proto::{Time, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// The steady clock, which also counts time spent suspended: a lease must not survive a closed lid.
#[cfg(any(target_os = "linux", target_os = "android"))]
const STEADY: ClockId = ClockId::Boottime;
/// Elsewhere the monotonic clock is the one that goes on during sleep.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const STEADY: ClockId = ClockId::Monotonic;

/// A reading of the steady clock.
pub(crate) fn now() -> Time {
    let reading = clock_gettime(STEADY);
    let seconds = u64::try_from(reading.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(reading.tv_nsec).unwrap_or_default();
    let reading = Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos));
    #[cfg(test)]
    let reading = reading + skipped();
    reading
}

#[cfg(test)]
thread_local! {
    static SKIPPED: std::cell::Cell<std::time::Duration> = const { std::cell::Cell::new(std::time::Duration::ZERO) };
}

/// Sets the steady clock forward for all that this thread reads of it from now on, as if the machine had slept.
#[cfg(test)]
pub(crate) fn skip(span: std::time::Duration) {
    SKIPPED.set(SKIPPED.get() + span);
}

#[cfg(test)]
fn skipped() -> std::time::Duration {
    SKIPPED.get()
}

/// A reading of the calendar; 0 where it is set before 1970.
pub(crate) fn calendar() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
