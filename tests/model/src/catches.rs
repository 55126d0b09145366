//! Which world of the model catches which fault.

use std::fmt::Write;
use std::time::Duration;

use heirloom_proto::mutants::Mutant;

use crate::rules::Rules;
use crate::run::{Limits, Order, run_all};
use crate::search::{Found, search};
use crate::table::bounds;
use crate::worlds::named;

/// A fault that is caught.
#[derive(Clone, Copy, Debug)]
pub struct Catch {
    /// The fault.
    pub fault: Mutant,
    /// The world in which it is looked for.
    pub world: &'static str,
    /// The law that breaks.
    pub law: u8,
    /// Whether the test command looks for it: it is found within a few seconds there.
    pub quick: bool,
}

const fn quick(fault: Mutant, world: &'static str, law: u8) -> Catch {
    Catch { fault, world, law, quick: true }
}

const fn slow(fault: Mutant, world: &'static str, law: u8) -> Catch {
    Catch { fault, world, law, quick: false }
}

/// Faults, the worlds that catch them, and the laws that break there.
pub const CATCHES: &[Catch] = &[
    quick(Mutant::NoFreezeOnPromise, "witness-learner-write", 2),
    slow(Mutant::TwoPromisesOfOneEpoch, "witness-rivals", 2),
    quick(Mutant::PromiseUnsynced, "two-slow-disks", 9),
    quick(Mutant::PromiseShowsLater, "two-slow-disks", 9),
    slow(Mutant::StaleRegisterAfterRestart, "witness-forgets", 2),
    quick(Mutant::EpochUsedTwice, "two-restart", 12),
    quick(Mutant::CandidateIsNoMember, "witness-behind", 2),
    quick(Mutant::MinCopiesNotKept, "three-behind", 8),
    quick(Mutant::LeavingForgotten, "witness-successor-again", 6),
    quick(Mutant::RecoveryOnlyHeard, "two-learner", 2),
    quick(Mutant::AmnesiacVotes, "witness-amnesiac", 2),
    slow(Mutant::LastStandingWithoutMarker, "two-late-accept", 2),
    quick(Mutant::StaleProofExcuses, "two-proven", 2),
    quick(Mutant::ProofOfOlderRun, "two-crashes-unheard", 2),
    quick(Mutant::StartEpochUnchecked, "three-begun-again", 2),
    quick(Mutant::StartEpochUnstored, "witness-learner", 9),
    quick(Mutant::SecondCut, "witness-begun-again", 2),
    quick(Mutant::NoLeaseWait, "witness-successor", 6),
    quick(Mutant::OneConfirmationMissing, "three-crash", 2),
    quick(Mutant::SyncSkipped, "two-slow-disks", 9),
    quick(Mutant::AppliesBeyondConfirmed, "witness-own-entry", 3),
    quick(Mutant::AnswerBeforeCommit, "witness-no-op", 4),
    quick(Mutant::EmptiedStoreStaysMember, "witness-emptied-down", 2),
    quick(Mutant::KnownCommittedIsEnough, "three-loose-learner", 2),
    quick(Mutant::LeaseKeptAfterOwnPromise, "witness-added-leads", 6),
    quick(Mutant::LearnerOutsideLease, "witness-returned", 6),
    quick(Mutant::LeaseFromAnswer, "witness-late-echo", 6),
    quick(Mutant::ReadWithoutLease, "witness-successor", 7),
    quick(Mutant::ReadIgnoresPrepared, "witness-local-read", 7),
    quick(Mutant::ReadsPrepared, "witness-no-op", 4),
    quick(Mutant::GrantFromReceipt, "witness-reader-leaves", 6),
    slow(Mutant::LearnerGranted, "witness-learner-reads", 7),
    slow(Mutant::ReadLeaseKept, "witness-reader-leaves", 7),
    quick(Mutant::DedupLostAtFailover, "witness-retry", 4),
];

/// Faults that no world of the model catches, and why.
pub const NOT_CAUGHT: &[(Mutant, &str)] = &[
    (Mutant::StaleProofSettles, "two servers must be leaving at once beside a quorum that lives: it takes five voters"),
    (Mutant::WaitFromFreeze, "no world of the simulator breaks a law by it either"),
    (Mutant::NoMarker, "no world of the simulator breaks a law of the data by it either"),
    (Mutant::ReadBackSkipped, "disks of the model give back what was written"),
    (Mutant::DigestNotCompared, "equal logs give equal states in the model: nothing is damaged in memory"),
    (Mutant::SessionOpenedAgain, "no session is removed in the model"),
    (Mutant::ConditionOnCommitted, "clients of the model ask for no conditions"),
    (Mutant::AppendCountsCommitted, "clients of the model append nothing"),
    (Mutant::ScanIgnoresPrepared, "clients of the model scan nothing"),
    (Mutant::PastForgotten, "clients of the model scan nothing"),
    (
        Mutant::ProofsBeforeTheLastWord,
        "two servers must be leaving at once beside a quorum that lives: it takes five voters",
    ),
    (Mutant::ProofsInOneRound, "two servers must be leaving at once beside a quorum that lives: it takes five voters"),
    (
        Mutant::ProofFromItsComing,
        "two servers must be leaving at once beside a quorum that lives: it takes five voters",
    ),
    (Mutant::MemberGivesItsLogAway, "no server of the model makes a snapshot"),
    (Mutant::SnapshotTakesAWorkingLog, "no server of the model makes a snapshot"),
    (Mutant::OldCopyVotes, "no directory of the model is put back from an older copy"),
    (Mutant::PromiseCountsLater, "a register lost and learnt again while a promise is on its way: a story tells it"),
    (Mutant::AcceptedSaidAgain, "a register lost and learnt again while a promise is on its way: a story tells it"),
    (Mutant::CutVoidsNoWrite, "the same entries must be sent again behind a cut that passes a write: a story tells it"),
    (Mutant::StartEpochEndsRecovery, "the way there is longer than what is searched of the worlds of two servers"),
    (
        Mutant::GrantBeyondLease,
        "a primary must still grant when a quorum with neither it nor the receiver has chosen another: it takes five voters",
    ),
];

/// What a search for a fault may cost. Those with few steps first: a fault is met soon that way.
pub const LIMITS: Limits =
    Limits { states_max: 1_000_000, time_max: Duration::from_secs(300), order: Order::FewestSteps, fault: None };

impl Catch {
    /// Looks for the fault in the world that is meant for it.
    ///
    /// **Panics if** the table names no world of the model.
    pub fn look(&self) -> Found {
        search(self.rules(), Limits { fault: Some(self.fault), ..LIMITS })
    }

    /// The world.
    ///
    /// **Panics if** the table names no world of the model.
    pub fn rules(&self) -> Rules {
        named(self.world).expect("a world of this name")
    }

    /// Whether the law was broken, and not on the way to where the search begins.
    pub fn is_caught(&self, found: &Found) -> bool {
        found.states > 0 && found.violation.as_ref().is_some_and(|(violation, _)| violation.law == self.law)
    }
}

/// Looks for all of these, as many at a time as the machine has cores.
pub fn look_for(catches: &[Catch], done: impl Fn(&Catch, &Found) + Sync) -> Vec<Found> {
    run_all(catches, Catch::look, done)
}

/// The page `docs/evidence/model-mutants.md`.
pub fn page_of_catches(found: &[Found]) -> String {
    let mut page = format!(
        "# What the model checker catches\n\n\
         Made by `cargo model -- mutants --write`; not written by hand.\n\n\
         Each [mutant](../mutants.md) leaves out one rule of the [protocol](../protocol.md), in the code that ships.\n\
         Each is planted once the cluster is whole, in a world that is meant for it, and that world is searched, fewest steps \
         first, until a law breaks: {} million states and {} s at most.\n\
         *Steps* are those of a way there of which nothing can be left out, from where the search begins.\n\
         Without the fault no law is broken in any state of these worlds that was looked at ([what was searched](model.md)).\n\
         `cargo model -- --world WORLD --mutant MUTANT --order fewest` tells the way.\n\n\
         | mutant | rule that it leaves out | section | world | begins | bounds | law | states | steps |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        LIMITS.states_max / 1_000_000,
        LIMITS.time_max.as_secs(),
    );
    for (catch, found) in CATCHES.iter().zip(found) {
        let caught = match &found.violation {
            Some((violation, way)) => {
                format!(
                    "{} | {} | {}",
                    violation.law,
                    found.states,
                    way.iter().filter(|l| !l.starts_with("!!")).count()
                )
            }
            None => format!("- | {} | -", found.states),
        };
        let (fault, rules) = (catch.fault, &found.rules);
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | `{}`, {} | {} | {} | {caught} |",
            fault.name(),
            fault.rule(),
            fault.section(),
            catch.world,
            rules.cluster(),
            rules.beginning.words,
            bounds(rules),
        );
    }
    let _ = write!(
        page,
        "\n{} of {} are caught.\n\n## Not caught in the model, and why\n\n| mutant | rule that it leaves out | why |\n|---|---|---|\n",
        CATCHES.len(),
        Mutant::ALL.len(),
    );
    for (fault, why) in NOT_CAUGHT {
        let _ = writeln!(page, "| `{}` | {} | {why} |", fault.name(), fault.rule());
    }
    page
}
