//! Mutants: that each deliberate fault of the core breaks a law in some world.
//!
//! `cargo sim -- mutants` searches, `cargo sim -- mutants --write` also writes what it found to `tests/sim/mutants.txt`
//! and the table `docs/mutants.md`. What the worlds of this simulator don't reach is caught by a story of the node or by
//! the model checker; the file says which.

mod command;
mod record;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heirloom_proto::mutants::{Mutant, plant};

use crate::focus::Focus;
use crate::plan::Shape;
use crate::run::{Options, Report, run};

pub use command::command;
pub use record::{page, recorded, table};

/// A world in which a mutant is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its seed.
    pub seed: u64,
    /// Its cluster; `None` for the one that the seed draws.
    pub shape: Option<Shape>,
    /// What it is about.
    pub focus: Focus,
}

impl Setting {
    /// Runs this world, with a fault planted in its nodes or with none.
    pub fn run(self, mutant: Option<Mutant>, traced: bool) -> Report {
        let _planted = mutant.map(plant);
        let (shape, focus) = (self.shape, self.focus);
        run(self.seed, &Options { traced, shape, focus, ..Options::default() })
    }
}

/// What catches a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Catch {
    /// A world of the simulator, after so many worlds that did not.
    World {
        /// The law that breaks.
        law: u8,
        /// Which world.
        setting: Setting,
        /// How many were looked at in all.
        tried: u64,
    },
    /// A test of this name in `server/node/tests/mutants.rs`.
    Story {
        /// The law that breaks.
        law: u8,
        /// The test.
        test: String,
    },
    /// The model checker.
    Model {
        /// The law that breaks.
        law: u8,
        /// The small world, and how many states of it were looked at.
        what: String,
    },
    /// Nothing.
    Nothing {
        /// Why not.
        why: String,
    },
}

/// Where a mutant is looked for: the shapes and focuses in which its rule matters.
fn grounds(mutant: Mutant) -> &'static [(Option<Shape>, Focus)] {
    use Mutant as M;
    const ANY: (Option<Shape>, Focus) = (None, Focus::Any);
    const TWO: Option<Shape> = Some(Shape::Two);
    match mutant {
        M::RecoveryOnlyHeard => &[ANY, (TWO, Focus::Any), (TWO, Focus::Deaths), (None, Focus::Losses)],
        M::AmnesiacVotes
        | M::EmptiedStoreStaysMember
        | M::OldCopyVotes
        | M::PromiseShowsLater
        | M::PromiseCountsLater
        | M::AcceptedSaidAgain => &[(None, Focus::Losses), (Some(Shape::Three), Focus::Losses)],
        M::ProofOfOlderRun => &[(TWO, Focus::Flaps)],
        M::StaleProofExcuses | M::LastStandingWithoutMarker | M::StartEpochEndsRecovery => {
            &[(TWO, Focus::Any), (TWO, Focus::Deaths)]
        }
        M::StaleProofSettles | M::ProofsBeforeTheLastWord | M::ProofsInOneRound | M::ProofFromItsComing => {
            &[(Some(Shape::ThreeLoose), Focus::Deaths), (Some(Shape::Five), Focus::Deaths)]
        }
        M::LeaseKeptAfterOwnPromise | M::LearnerOutsideLease => {
            &[(Some(Shape::TwoAndWitness), Focus::Leases), (Some(Shape::ThreeLoose), Focus::Leases)]
        }
        M::ReadLeaseKept | M::GrantBeyondLease | M::GrantFromReceipt | M::LearnerGranted => {
            &[ANY, (None, Focus::Leases), (Some(Shape::ThreeLoose), Focus::Leases)]
        }
        M::LeaseFromAnswer | M::WaitFromFreeze | M::LeavingForgotten | M::NoLeaseWait | M::ReadWithoutLease => {
            &[ANY, (None, Focus::Leases)]
        }
        M::MemberGivesItsLogAway | M::SnapshotTakesAWorkingLog => &[ANY, (None, Focus::Losses)],
        M::KnownCommittedIsEnough | M::CutVoidsNoWrite => {
            &[(None, Focus::Returns), (Some(Shape::ThreeLoose), Focus::Returns)]
        }
        M::StaleRegisterAfterRestart => {
            &[(Some(Shape::TwoAndWitness), Focus::Flaps), (Some(Shape::ThreeLoose), Focus::Flaps)]
        }
        M::TwoPromisesOfOneEpoch => &[ANY, (None, Focus::Flaps), (Some(Shape::ThreeLoose), Focus::Flaps)],
        _ => &[ANY],
    }
}

/// Searches worlds for one that a mutant breaks: the lowest seed that breaks a law of the data (1 to 8), else of the
/// ports, else any.
pub fn search(mutant: Mutant, seeds: u64, limit: Option<Duration>) -> Option<Catch> {
    look_in(grounds(mutant), Some(mutant), seeds, limit)
}

fn look_in(
    grounds: &[(Option<Shape>, Focus)],
    mutant: Option<Mutant>,
    seeds: u64,
    limit: Option<Duration>,
) -> Option<Catch> {
    // So many more worlds are looked at for a law of the data once another law was broken.
    const MORE: u64 = 1_000;
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let end = AtomicU64::new(seeds);
    let found: Mutex<Vec<(u64, Setting, u8)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end.load(Ordering::Relaxed) || limit.is_some_and(|limit| begun.elapsed() > limit) {
                return;
            }
            let count = grounds.len() as u64;
            let (shape, focus) = grounds[usize::try_from(number % count).expect("few grounds")];
            let setting = Setting { seed: number / count, shape, focus };
            if let Some(violation) = setting.run(mutant, false).violation {
                found.lock().expect("no thread panics while it notes").push((number, setting, violation.law));
                let enough = if violation.law <= 8 { number } else { number + MORE };
                end.fetch_min(enough, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let found = found.into_inner().expect("no thread panics while it notes");
    let rank = |law: u8| match law {
        1..=8 => 0,
        9 => 1,
        _ => 2,
    };
    let (number, setting, law) = found.into_iter().min_by_key(|(number, _, law)| (rank(*law), *number))?;
    Some(Catch::World { law, setting, tried: number + 1 })
}
