//! Running many worlds, and what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heirloom_laws::Violation;

use crate::plan::Shape;
use crate::run::{Options, Report, STEPS_MIN, run};
use crate::sometimes::{Sight, Sometimes};
use crate::tally::Tally;

/// How much faster than real time a core must simulate: else too little is seen in a night.
const FASTER_MIN: f64 = 100.0;

/// Of so many worlds, drawn in whatever shape, each sight must be seen in some.
const SEEING_MIN: u64 = 500;

/// What came of many worlds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many.
    pub worlds: u64,
    /// How many events nodes took in all.
    pub steps: u64,
    /// How many worlds had at least [`STEPS_MIN`] of them.
    pub full_worlds: u64,
    /// The fewest events of a world, and its seed.
    pub fewest_steps: Option<(u64, u64)>,
    /// How many of the clients' calls were answered.
    pub answered: u64,
    /// How long the worlds lasted in their own time.
    pub simulated: Duration,
    /// How long that took, summed over the cores that were at it.
    pub taken: Duration,
    /// How long it took by the clock on the wall.
    pub elapsed: Duration,
    /// What was seen.
    pub seen: Sometimes,
    /// What was done to the worlds, and what their clients did.
    pub tally: Tally,
    /// In how many worlds only safety could be asked for in the end, by the reason.
    pub only_safe: BTreeMap<&'static str, u64>,
    /// The worlds in which a law was broken, by seed.
    pub failures: Vec<(u64, Shape, Violation)>,
}

impl Summary {
    fn add(&mut self, report: Report, taken: Duration) {
        self.worlds += 1;
        self.steps += report.steps;
        self.full_worlds += u64::from(report.steps >= STEPS_MIN);
        self.answered += report.answered;
        self.simulated += report.lasted;
        self.taken += taken;
        if self.fewest_steps.is_none_or(|(fewest, _)| report.steps < fewest) {
            self.fewest_steps = Some((report.steps, report.seed));
        }
        self.seen.merge(&report.seen);
        self.tally.merge(&report.tally);
        if let Some(reason) = report.only_safe {
            *self.only_safe.entry(reason).or_default() += 1;
        }
        if let Some(violation) = report.violation {
            self.failures.push((report.seed, report.shape, violation));
        }
    }

    /// What should have been seen and was not; nothing where the worlds were few, of one shape, or cut short by a
    /// broken law.
    pub fn unseen(&self, shape: Option<Shape>) -> Vec<Sight> {
        let enough = self.worlds >= SEEING_MIN && shape.is_none() && self.failures.is_empty();
        if enough { self.seen.missing() } else { Vec::new() }
    }

    /// How much faster than real time one core simulated.
    pub fn faster(&self) -> f64 {
        self.simulated.as_secs_f64() / self.taken.as_secs_f64().max(1e-9)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fewest, seed) = self.fewest_steps.unwrap_or_default();
        writeln!(
            f,
            "{} worlds, {} steps ({} worlds with at least {STEPS_MIN}; the fewest, {fewest}, in seed {seed})",
            self.worlds, self.steps, self.full_worlds
        )?;
        let enough = if self.faster() < FASTER_MIN { ": too slow" } else { "" };
        writeln!(
            f,
            "{:.0} s simulated in {:.1} s of {:.1} core seconds: {:.0} times faster than real time on each core \
             (at least {FASTER_MIN:.0} are wanted{enough})",
            self.simulated.as_secs_f64(),
            self.elapsed.as_secs_f64(),
            self.taken.as_secs_f64(),
            self.faster()
        )?;
        write!(f, "{}seen:\n{}", self.tally, self.seen)?;
        for (reason, count) in &self.only_safe {
            writeln!(f, "{count} worlds had only to be safe in the end: {reason}")?;
        }
        for (seed, shape, violation) in &self.failures {
            let line = violation.what.replace("\n", " ");
            writeln!(f, "seed {seed} ({shape:?}) broke law {}: {line:.300}", violation.law)?;
        }
        Ok(())
    }
}

/// Runs the worlds of these seeds on all cores, until they are done, the time is over or `failures_max` have failed.
pub fn run_many(seeds: Range<u64>, shape: Option<Shape>, limit: Option<Duration>, failures_max: usize) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || limit.is_some_and(|limit| begun.elapsed() > limit) {
                return;
            }
            let world_begun = Instant::now();
            let report = run(seed, &Options { shape, ..Options::default() });
            let mut summary = summary.lock().expect("no thread panics while it counts");
            summary.add(report, world_begun.elapsed());
            if summary.failures.len() >= failures_max {
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut summary = summary.into_inner().expect("no thread panics while it counts");
    summary.elapsed = begun.elapsed();
    summary.failures.sort_by_key(|(seed, _, _)| *seed);
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_worlds_of_any_shape_must_have_seen_everything() {
        let mut summary = Summary { worlds: SEEING_MIN, ..Summary::default() };
        for sight in Sight::ALL.into_iter().skip(1) {
            summary.seen.saw(sight);
        }
        assert_eq!(summary.unseen(None), Sight::ALL[..1]);
        assert_eq!(summary.unseen(Some(Shape::One)), [], "one server alone promotes nobody");
        let few = Summary { worlds: SEEING_MIN - 1, ..summary.clone() };
        assert_eq!(few.unseen(None), []);
        summary.seen.saw(Sight::ALL[0]);
        assert_eq!(summary.unseen(None), []);
    }
}
