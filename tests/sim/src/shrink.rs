//! Making a failing world small: the same law broken with as little else as can be.
//!
//! What is left out moves all that comes after it, so a candidate is tried several times with other chances
//! ([`crate::Less::shake`]): its faults and clients stay what they are, only delays differ.

use std::collections::BTreeSet;
use std::fmt;

use crate::plan::Shape;
use crate::run::{Options, Report, run};

/// How many events nodes may take in all the worlds that are tried: a minute or so, counted in what does not depend on
/// the machine.
const STEPS_MAX: u64 = 10_000_000;
/// How many shakes of one candidate are tried, at first and once nothing is left out without them.
const FEW_SHAKES: u64 = 2;
const SHAKES: u64 = 16;
/// How many shakes of the smallest world are tried for the shortest story.
const LAST_SHAKES: u64 = 200;

/// The smallest world that was found to break the law.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// How to run it.
    pub options: Options,
    /// What comes of it, with its story.
    pub report: Report,
    /// How many worlds were tried.
    pub runs: u32,
}

impl Shrunk {
    /// The words after `cargo sim --` that replay it.
    pub fn command(&self) -> String {
        let shape = self.options.shape.map_or_else(String::new, |shape| format!(" --shape {shape:?}"));
        format!("--seed {}{shape}{}", self.report.seed, self.options.less)
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} faults, {} steps, {} operations",
            self.report.troubles.len(),
            self.report.steps,
            self.report.operations
        )
    }
}

/// Shrinks a failing world; `None` where it does not fail.
pub fn shrink(seed: u64, options: &Options) -> Option<Shrunk> {
    let law = run(seed, &Options { traced: false, ..options.clone() }).violation?.law;
    let breaks = |report: &Report| report.violation.as_ref().is_some_and(|violation| violation.law == law);
    shrink_while(seed, options, STEPS_MAX, &breaks)
}

/// Shrinks a world as long as what is said of it holds; `None` where it does not. Worlds of `steps_max` events in all
/// are tried.
pub fn shrink_while(seed: u64, options: &Options, steps_max: u64, holds: &dyn Fn(&Report) -> bool) -> Option<Shrunk> {
    let options = Options { traced: false, ..options.clone() };
    let report = run(seed, &options);
    if !holds(&report) {
        return None;
    }
    let mut search = Search { seed, holds, runs: 1, shakes: FEW_SHAKES, steps_left: steps_max, best: options, report };
    search.without_what_came_later();
    loop {
        let before = search.best.clone();
        // The other way round each try would take as long as the whole world.
        search.a_smaller_world();
        search.fewer_faults();
        if search.steps_left == 0 || search.best == before && search.shakes == SHAKES {
            break;
        }
        if search.best == before {
            search.shakes = SHAKES;
        }
    }
    search.steps_left = steps_max / 5;
    search.a_shorter_story();
    let options = Options { traced: true, ..search.best };
    let report = run(seed, &options);
    Some(Shrunk { options, report, runs: search.runs + 1 })
}

struct Search<'a> {
    seed: u64,
    holds: &'a dyn Fn(&Report) -> bool,
    runs: u32,
    shakes: u64,
    steps_left: u64,
    best: Options,
    report: Report,
}

impl Search<'_> {
    /// Takes a smaller world where what is said holds of it, or of a shake of it.
    fn take(&mut self, change: impl Fn(&mut Options)) -> bool {
        let mut wanted = self.best.clone();
        change(&mut wanted);
        if wanted == self.best {
            return false;
        }
        let own = wanted.less.shake;
        for shake in std::iter::once(own).chain((0..self.shakes).filter(|shake| *shake != own)) {
            wanted.less.shake = shake;
            if self.breaks(&wanted) {
                return true;
            }
        }
        false
    }

    fn breaks(&mut self, options: &Options) -> bool {
        if self.steps_left == 0 {
            return false;
        }
        self.runs += 1;
        let report = run(self.seed, options);
        self.steps_left = self.steps_left.saturating_sub(report.steps);
        let breaks = (self.holds)(&report);
        if breaks {
            (self.best, self.report) = (options.clone(), report);
        }
        breaks
    }

    fn faults(&self) -> BTreeSet<u64> {
        self.report.troubles.iter().map(|(number, _)| *number).collect()
    }

    /// Only the faults that were applied before the law broke: the same world.
    fn without_what_came_later(&mut self) {
        let faults = self.faults();
        let end = self.report.lasted.as_millis() as u64 + 1;
        self.take(|options| {
            options.less.faults = Some(faults.clone());
            (options.less.kinds, options.less.without) = (None, BTreeSet::new());
        });
        self.take(|options| options.less.turmoil_ms = Some(end));
    }

    /// Leaves out all faults of a kind, then halves, quarters and single ones (delta debugging, Zeller & Hildebrandt 2002).
    fn fewer_faults(&mut self) {
        let kinds: BTreeSet<_> = self.report.troubles.iter().map(|(_, fault)| *fault).collect();
        for kind in kinds {
            let rest = self.report.troubles.iter().filter(|(_, fault)| *fault != kind).map(|(number, _)| *number);
            self.take_faults(&rest.collect());
        }
        let mut chunk = self.faults().len().div_ceil(2).max(1);
        loop {
            let mut place = 0;
            while place < self.faults().len() {
                let all: Vec<u64> = self.faults().into_iter().collect();
                let rest = all.iter().enumerate().filter(|(at, _)| *at < place || *at >= place + chunk);
                if !self.take_faults(&rest.map(|(_, number)| *number).collect()) {
                    place += chunk;
                }
            }
            if chunk == 1 {
                return;
            }
            chunk = chunk.div_ceil(2);
        }
    }

    fn take_faults(&mut self, faults: &BTreeSet<u64>) -> bool {
        self.take(|options| options.less.faults = Some(faults.clone()))
    }

    /// Fewer clients, keys and servers, a better network, a shorter time.
    fn a_smaller_world(&mut self) {
        for fewer in [0, 1, 2, 3] {
            if self.take(|options| options.less.clients = Some(fewer.min(options.less.clients.unwrap_or(u64::MAX)))) {
                break;
            }
        }
        for fewer in [1, 2, 3] {
            if self.take(|options| options.less.keys = Some(fewer.min(options.less.keys.unwrap_or(u64::MAX)))) {
                break;
            }
        }
        self.take(|options| options.less.hurry = true);
        let calls = self.report.operations as u64;
        self.take(|options| options.less.calls = Some(calls.min(options.less.calls.unwrap_or(u64::MAX))));
        for (part, of) in [(1, 8), (1, 2), (3, 4)] {
            while self.best.less.calls.is_some_and(|calls| calls > 0)
                && self.take(|options| options.less.calls = options.less.calls.map(|calls| calls * part / of))
            {
            }
        }
        self.take(|options| options.less.clean_network = true);
        self.take(|options| options.less.steady = true);
        let smaller: &[Shape] = match self.report.shape {
            Shape::One | Shape::Two => &[],
            Shape::TwoAndWitness => &[Shape::Two],
            Shape::Three | Shape::ThreeLoose | Shape::ThreeStrict => &[Shape::Two, Shape::TwoAndWitness],
            Shape::ThreeAndTwoWitnesses | Shape::Five => &[Shape::Two, Shape::TwoAndWitness, Shape::Three],
        };
        for shape in smaller {
            if self.take(|options| options.shape = Some(*shape)) {
                break;
            }
        }
        while self.best.less.turmoil_ms.is_some_and(|turmoil| turmoil > 100)
            && (self.take(|options| options.less.turmoil_ms = options.less.turmoil_ms.map(|turmoil| turmoil / 2))
                || self
                    .take(|options| options.less.turmoil_ms = options.less.turmoil_ms.map(|turmoil| turmoil * 9 / 10)))
        {
        }
    }

    /// Of many shakes the one that breaks the law after the fewest steps.
    fn a_shorter_story(&mut self) {
        let (mut best, mut report) = (self.best.clone(), self.report.clone());
        for shake in 0..LAST_SHAKES {
            let mut options = best.clone();
            options.less.shake = shake;
            if self.breaks(&options) && self.report.steps < report.steps {
                (best, report) = (options, self.report.clone());
            }
        }
        (self.best, self.report) = (best, report);
    }
}
