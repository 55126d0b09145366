//! Running the world of one seed.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use heirloom_laws::{Violation, listen};

use crate::clock::SECOND;
use crate::fault::Fault;
use crate::focus::Focus;
use crate::less::Less;
use crate::plan::Shape;
use crate::sometimes::Sometimes;
use crate::tally::Tally;
use crate::world::World;

/// How a world is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Keep the story.
    pub traced: bool,
    /// This kind of cluster instead of the one that the seed draws.
    pub shape: Option<Shape>,
    /// What it is about.
    pub focus: Focus,
    /// What is left out of it.
    pub less: Less,
}

/// How many events the nodes of a world take before things are mended, or hardly anything happened in it; a world that
/// is shrunk may end earlier.
pub const STEPS_MIN: u64 = 2_000;
/// By how much a world with fewer may be longer. **Units:** seconds.
const LONGER_MAX: u64 = 240;

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
    /// What was done to it, and what its clients did.
    pub tally: Tally,
    /// The faults that were applied, by their numbers.
    pub troubles: Vec<(u64, Fault)>,
    /// Why only safety could be asked for in the end, where that was so.
    pub only_safe: Option<&'static str>,
    /// The law that was broken.
    pub violation: Option<Violation>,
    /// What each server says of itself at the end.
    pub statuses: Vec<String>,
    /// The story, where it was kept.
    pub trace: Vec<String>,
}

/// Runs the world of a seed to its end.
pub fn run(seed: u64, options: &Options) -> Report {
    let mut world = World::new(seed, options);
    let outcome = listen(AssertUnwindSafe(|| {
        let turmoil = world.plan.turmoil;
        world.run_until(turmoil);
        let whole = options.less.is_nothing();
        while whole && world.steps < STEPS_MIN && world.now < turmoil + LONGER_MAX * SECOND && world.violation.is_none()
        {
            world.run_until(world.now + SECOND);
        }
        if world.violation.is_none() {
            world.end();
        }
    }));
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
        tally: world.tally,
        troubles: world.troubles,
        only_safe: world.stuck_is_fine,
        violation: world.violation,
        statuses,
        trace: world.trace.lines(),
    }
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
