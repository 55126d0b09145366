//! Running worlds: one from a seed, or many.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::plan::Shape;
use crate::sometimes::Sometimes;
use crate::world::World;
use heirloom_laws::Violation;

/// How a world is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep the story.
    pub traced: bool,
    /// This kind of cluster instead of the one that the seed draws.
    pub shape: Option<Shape>,
}

/// What came of one world.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its cluster.
    pub shape: Shape,
    /// How many events its nodes took.
    pub steps: u64,
    /// How many operations its clients have in their histories.
    pub operations: usize,
    /// How many of the clients' calls were answered.
    pub answered: u64,
    /// How long it lasted in its own time.
    pub lasted: Duration,
    /// A number that two runs of a seed have in common, or chance came in from outside.
    pub fingerprint: u64,
    /// What was seen.
    pub seen: Sometimes,
    /// The law that was broken.
    pub violation: Option<Violation>,
    /// What each server says of itself at the end.
    pub statuses: Vec<String>,
    /// The story, where it was kept.
    pub trace: Vec<String>,
}

/// Runs the world of a seed to its end.
pub fn run(seed: u64, options: Options) -> Report {
    let mut world = World::new(seed, options.shape, options.traced);
    let outcome = listen(|| {
        let turmoil = world.plan.turmoil;
        world.run_until(turmoil);
        if world.violation.is_none() {
            world.end();
        }
    });
    let panicked = outcome.is_err();
    if let Err(what) = outcome {
        world.broke(Violation { law: 12, what });
    }
    let statuses = world.statuses(panicked);
    Report {
        seed,
        shape: world.plan.shape,
        steps: world.steps,
        operations: world.history.operations(),
        answered: world.clients.iter().map(|client| client.answered).sum(),
        lasted: Duration::from_nanos(world.now),
        fingerprint: world.random.number() ^ world.steps.rotate_left(32) ^ world.now,
        seen: world.seen,
        violation: world.violation,
        statuses,
        trace: world.trace.lines(),
    }
}

/// What came of many worlds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many.
    pub worlds: u64,
    /// How many events nodes took in all.
    pub steps: u64,
    /// How many of the clients' calls were answered.
    pub answered: u64,
    /// The fewest events of a world with more than one server, and its seed.
    pub fewest_steps: Option<(u64, u64)>,
    /// What was seen.
    pub seen: Sometimes,
    /// The worlds in which a law was broken, by seed.
    pub failures: Vec<(u64, Shape, Violation)>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} worlds, {} steps, {} calls answered; seen:", self.worlds, self.steps, self.answered)?;
        write!(f, "{}", self.seen)?;
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
            let report = run(seed, Options { traced: false, shape });
            let mut summary = summary.lock().expect("no thread panics while it counts");
            summary.worlds += 1;
            summary.steps += report.steps;
            summary.answered += report.answered;
            if report.shape != Shape::One && summary.fewest_steps.is_none_or(|(fewest, _)| report.steps < fewest) {
                summary.fewest_steps = Some((report.steps, seed));
            }
            summary.seen.merge(&report.seen);
            if let Some(violation) = report.violation {
                summary.failures.push((seed, report.shape, violation));
                if summary.failures.len() >= failures_max {
                    next.store(seeds.end, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut summary = summary.into_inner().expect("no thread panics while it counts");
    summary.failures.sort_by_key(|(seed, _, _)| *seed);
    summary
}

thread_local! {
    /// What a panic of this thread said, while somebody listens.
    static PANIC: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Does something in which an assertion may fail; gives what it said and where.
fn listen(action: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let heard = PANIC.with_borrow_mut(|panic| match panic {
                Some(what) => {
                    *what = Some(info.to_string());
                    true
                }
                None => false,
            });
            if !heard {
                before(info);
            }
        }));
    });
    PANIC.set(Some(None));
    // A world that has panicked is only asked for its story.
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(action));
    let said = PANIC.take().flatten();
    outcome.map_err(|_| said.unwrap_or_else(|| "a panic without a word".to_owned()))
}

impl World {
    /// What each server says of itself; after a panic nodes may be in any state and are not asked.
    fn statuses(&self, panicked: bool) -> Vec<String> {
        let status = |server: &crate::server::Server| match server.process() {
            Some(_) if panicked => format!("server {} was running", server.id),
            Some(process) => format!("{:?}", process.node.status(server.clock.read(self.now))),
            None => format!("server {} is {:?}", server.id, server.state),
        };
        self.servers.iter().map(status).collect()
    }
}
