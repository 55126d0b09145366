//! The worlds that are searched.

use std::time::Duration;

use crate::rules::{Ahead, Beginning, Budget, LONG_JUMP, LONG_LEASE, Rules, Sight};
use crate::sharp::sharp;

/// The last server of three is down, in the view or not.
const ONE_DOWN: Beginning = begins("the last server down", &[Ahead::Down(2), Ahead::Quiet]);

pub(crate) const NONE: Budget = Budget {
    crashes: 0,
    starts: 0,
    emptied: 0,
    registers_lost: 0,
    writes: 0,
    retries: 0,
    no_ops: 0,
    reads: 0,
    hand_overs: 0,
    cuts: 0,
    jumps: 0,
};

pub(crate) const fn begins(words: &'static str, steps: &'static [Ahead]) -> Beginning {
    Beginning { words, steps }
}

const LEARNER: &str = "the last data server down and out of the view";
pub(crate) const TWO_LEARNER: Beginning = begins(LEARNER, &[Ahead::Down(1), Ahead::Out(1), Ahead::Quiet]);
const THREE_LEARNER: Beginning = begins(LEARNER, &[Ahead::Down(2), Ahead::Out(2), Ahead::Quiet]);

const THREE_BACK: Beginning = begins(
    "two are members, the last data server is back and has caught up, and is proposed",
    &[Ahead::Down(2), Ahead::Out(2), Ahead::Quiet, Ahead::Up(2), Ahead::Proposes(0)],
);
pub(crate) const SUCCESSOR: Beginning =
    begins("the primary cut off while the other proposes", &[Ahead::CutOff(0), Ahead::Proposes(1)]);

pub(crate) const PROMOTED: &[Sight] = &[Sight::AServerWasPromoted];
const HANDED_OVER: &[Sight] = &[Sight::AHandOverWasDone];
pub(crate) const PROMOTED_WHILE_WRITING: &[Sight] = &[
    Sight::AWriteWasAnswered,
    Sight::AServerWasPromoted,
    Sight::APromotionInheritedPreparedEntries,
    Sight::ATailWasRolledBack,
];

/// Three data servers; nothing is ever proven, as behind a firewall.
pub(crate) fn three(name: &'static str, budget: Budget, sights: &'static [Sight]) -> Rules {
    Rules { proofs: false, budget, sights, ..Rules::new(name, 3, 0) }
}

/// Two data servers and a witness; nothing is ever proven.
pub(crate) fn witness(name: &'static str, budget: Budget, sights: &'static [Sight]) -> Rules {
    Rules { proofs: false, budget, sights, ..Rules::new(name, 2, 1) }
}

/// Two data servers under the rule *survivors*; a step that asks or probes once more than the bound is not looked at.
pub(crate) fn two(name: &'static str, budget: Budget, sights: &'static [Sight]) -> Rules {
    Rules { budget, sights, unsent: 0, ..Rules::new(name, 2, 0) }
}

/// A step that asks or probes once more than the bound is looked at, and what it asks is lost.
pub(crate) fn unheard(rules: Rules) -> Rules {
    Rules { unsent: 1, ..rules }
}

/// A step that asks or probes once more than the bound is not looked at: for worlds that are too large else.
fn unasked(rules: Rules) -> Rules {
    Rules { unsent: 0, ..rules }
}

/// Leases of several heartbeats: what is left of one when the next heartbeat grants it is enough to read.
pub(crate) fn long_leases(mut rules: Rules) -> Rules {
    rules.constants.lease = LONG_LEASE;
    rules
}

/// No leases: nothing waits for them to end.
pub(crate) fn unleased(mut rules: Rules) -> Rules {
    rules.constants.lease = Duration::ZERO;
    rules
}

/// A view of one is enough.
pub(crate) fn loose(mut rules: Rules) -> Rules {
    rules.constants.min_copies = 1;
    rules
}

/// Those that the test command searches.
pub fn quick() -> Vec<Rules> {
    vec![
        three("three-crash", Budget { crashes: 1, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING),
        Rules {
            proofs: true,
            ..three(
                "three-proof",
                Budget { crashes: 1, ..NONE },
                &[Sight::AServerWasPromoted, Sight::ADeathWasProven, Sight::AMemberWasRemoved],
            )
        },
        witness("witness-restart", Budget { crashes: 1, starts: 1, ..NONE }, PROMOTED),
        two("two-crashes", Budget { crashes: 2, starts: 2, ..NONE }, PROMOTED),
        two("two-restart", Budget { crashes: 1, starts: 1, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING),
    ]
}

/// Those that a long run searches, the quick ones not among them.
pub fn long() -> Vec<Rules> {
    let mut worlds = small();
    worlds.extend(large());
    worlds
}

fn large() -> Vec<Rules> {
    vec![
        Rules {
            beginning: TWO_LEARNER,
            ..witness("witness-learner", Budget { starts: 1, jumps: 1, ..NONE }, &[Sight::ALearnerWasAdded])
        },
        witness("witness-emptied", Budget { crashes: 1, starts: 1, emptied: 1, ..NONE }, PROMOTED),
        unheard(two("two-crashes-unheard", Budget { crashes: 2, starts: 2, ..NONE }, PROMOTED)),
        unheard(two(
            "two-restart-unheard",
            Budget { crashes: 1, starts: 1, writes: 1, ..NONE },
            PROMOTED_WHILE_WRITING,
        )),
        Rules {
            slow_disks: true,
            unsent: 0,
            ..three("three-crash-slow-disks", Budget { crashes: 1, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING)
        },
        three("three-restart", Budget { crashes: 1, starts: 1, ..NONE }, PROMOTED),
        Rules { jump: LONG_JUMP, ..three("three-silence", Budget { jumps: 2, ..NONE }, &[Sight::AMemberWasRemoved]) },
        Rules {
            beginning: THREE_LEARNER,
            ..three("three-learner", Budget { starts: 1, jumps: 1, ..NONE }, &[Sight::ALearnerWasAdded])
        },
        three("three-hand-over", Budget { hand_overs: 1, ..NONE }, PROMOTED),
        Rules {
            proofs: true,
            unsent: 0,
            ..three("three-proof-write", Budget { crashes: 1, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING)
        },
        Rules {
            beginning: ONE_DOWN,
            ..three("three-one-down", Budget { starts: 1, registers_lost: 1, ..NONE }, &[Sight::AVoterRememberedAgain])
        },
        unasked(witness(
            "witness-restart-write",
            Budget { crashes: 1, starts: 1, writes: 1, ..NONE },
            PROMOTED_WHILE_WRITING,
        )),
        witness("witness-hand-over", Budget { hand_overs: 1, writes: 1, ..NONE }, PROMOTED),
        unasked(witness(
            "witness-lost-register",
            Budget { crashes: 1, starts: 1, registers_lost: 1, ..NONE },
            &[Sight::AServerWasPromoted, Sight::AVoterRememberedAgain],
        )),
        unasked(witness(
            "witness-silence",
            Budget { jumps: 2, ..NONE },
            &[Sight::AMemberWasRemoved, Sight::AServerWasPromoted],
        )),
        Rules {
            jump: LONG_JUMP,
            ..witness(
                "witness-lease",
                Budget { jumps: 2, reads: 1, writes: 1, ..NONE },
                &[Sight::AReadWasAnswered, Sight::AWriteWasAnswered, Sight::AServerWasPromoted],
            )
        },
        two("two-crashes-write", Budget { crashes: 2, starts: 2, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING),
        Rules { rounds: 2, ..two("two-crashes-rounds", Budget { crashes: 2, starts: 2, ..NONE }, PROMOTED) },
        Rules { rounds: 2, ..two("two-three-crashes", Budget { crashes: 3, starts: 3, ..NONE }, PROMOTED) },
        witness("witness-cut", Budget { cuts: 1, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING),
        witness("witness-cut-lease", Budget { cuts: 1, jumps: 2, reads: 1, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING),
        two("two-cut", Budget { cuts: 1, crashes: 1, starts: 1, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING),
        Rules {
            slow_disks: true,
            ..two("two-slow-disks", Budget { crashes: 1, starts: 1, writes: 1, ..NONE }, PROMOTED_WHILE_WRITING)
        },
        Rules { slow_disks: true, ..witness("witness-slow-disks", Budget { crashes: 1, starts: 1, ..NONE }, PROMOTED) },
        two("two-writes", Budget { crashes: 1, starts: 1, writes: 2, ..NONE }, PROMOTED_WHILE_WRITING),
        two(
            "two-retry",
            Budget { crashes: 1, writes: 1, retries: 1, ..NONE },
            &[Sight::ARetryWasAnswered, Sight::AServerWasPromoted],
        ),
        two("two-hand-over", Budget { hand_overs: 1, crashes: 1, ..NONE }, PROMOTED),
        two("two-silence", Budget { jumps: 2, reads: 1, writes: 1, ..NONE }, &[Sight::AReadWasAnswered]),
    ]
}

/// Worlds of what the large ones are too large for to come to their end.
fn small() -> Vec<Rules> {
    vec![
        unasked(witness("witness-hand-over-small", Budget { hand_overs: 1, ..NONE }, HANDED_OVER)),
        Rules {
            asks: 0,
            ..unasked(three(
                "three-hand-over-small",
                Budget { hand_overs: 1, writes: 1, ..NONE },
                &[Sight::AHandOverWasDone, Sight::AWriteWasAnswered],
            ))
        },
        Rules { beginning: THREE_BACK, ..unasked(three("three-learner-small", NONE, &[Sight::ALearnerWasAdded])) },
        Rules {
            jump: LONG_JUMP,
            beginning: SUCCESSOR,
            asks: 0,
            ..unasked(witness(
                "witness-lease-small",
                Budget { jumps: 1, reads: 1, ..NONE },
                &[Sight::APrimaryReadUnderItsLease, Sight::AServerWasPromoted],
            ))
        },
    ]
}

/// Those that are walked through at random: larger, with more of everything.
pub fn walks() -> Vec<Rules> {
    let plenty = Budget {
        crashes: 3,
        starts: 3,
        emptied: 0,
        registers_lost: 0,
        writes: 3,
        retries: 2,
        no_ops: 1,
        reads: 3,
        hand_overs: 1,
        cuts: 3,
        jumps: 8,
    };
    let most = |name, data, witnesses| Rules {
        budget: plenty,
        rounds: 8,
        asks: 8,
        probes: 8,
        ..Rules::new(name, data, witnesses)
    };
    let losing = |mut rules: Rules| {
        rules.budget.emptied = 1;
        rules.budget.registers_lost = 1;
        rules
    };
    vec![
        most("walk-two", 2, 0),
        Rules { slow_disks: true, ..most("walk-two-slow-disks", 2, 0) },
        most("walk-three", 3, 0),
        Rules { late_handshakes: true, ..most("walk-three-late-handshakes", 3, 0) },
        losing(most("walk-three-losses", 3, 0)),
        Rules { proofs: false, slow_disks: true, ..most("walk-three-slow-disks", 3, 0) },
        unleased(most("walk-three-unleased", 3, 0)),
        losing(most("walk-witness-losses", 2, 1)),
        Rules { commit_kept: true, ..most("walk-four", 4, 0) },
        most("walk-five", 5, 0),
        most("walk-three-two-witnesses", 3, 2),
    ]
}

/// The one of this name.
pub fn named(name: &str) -> Option<Rules> {
    quick().into_iter().chain(sharp()).chain(long()).chain(walks()).find(|rules| rules.name == name)
}
