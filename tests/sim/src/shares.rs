//! A time as a sum of shares of the units that it is made of.

use std::fmt;

use crate::clock::{Instant, MILLISECOND};
use crate::steady::Pace;

/// The share of each unit in a time. **Units:** thousandths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) suspicion: i128,
    pub(crate) lease: i128,
    pub(crate) heartbeat: i128,
    pub(crate) delay: i128,
    pub(crate) sync: i128,
}

/// A share, the name of its unit, and the unit at a pace.
type Part = (i128, &'static str, fn(Pace) -> Instant);

impl Shares {
    pub(crate) const NONE: Self = Self { suspicion: 0, lease: 0, heartbeat: 0, delay: 0, sync: 0 };

    fn parts(self) -> [Part; 5] {
        [
            (self.suspicion, "S", |pace| pace.suspicion),
            (self.lease, "L", |pace| pace.lease),
            (self.heartbeat, "h", |pace| pace.heartbeat),
            (self.delay, "d", |pace| pace.delay),
            (self.sync, "s", |pace| pace.sync),
        ]
    }

    /// The sum at a pace. **Units:** nanoseconds.
    pub(crate) fn time(self, pace: Pace) -> i128 {
        self.parts().into_iter().map(|(share, _, unit)| share * i128::from(unit(pace)) / 1_000).sum()
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (share, name, _) in self.parts().into_iter().filter(|(share, _, _)| *share != 0) {
            let sign = if share < 0 { "− " } else { "+ " };
            match (first, share < 0) {
                (true, false) => {}
                (true, true) => f.write_str("−")?,
                (false, _) => write!(f, " {sign}")?,
            }
            first = false;
            match share.abs() {
                1_000 => write!(f, "{name}")?,
                whole if whole % 1_000 == 0 => write!(f, "{}{name}", whole / 1_000)?,
                part if part % 10 == 0 => write!(f, "{}.{:02}{name}", part / 1_000, part % 1_000 / 10)?,
                part => write!(f, "{}.{:03}{name}", part / 1_000, part % 1_000)?,
            }
        }
        if first { f.write_str("0") } else { Ok(()) }
    }
}

/// A span of time as people read it, with one decimal.
pub(crate) fn milliseconds(time: i128) -> String {
    let tenths = (time + i128::from(MILLISECOND) / 20) / (i128::from(MILLISECOND) / 10);
    format!("{}.{} ms", tenths / 10, tenths % 10)
}
