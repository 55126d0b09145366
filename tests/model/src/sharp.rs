//! Worlds in which the rule that a fault leaves out matters: each begins shortly before it does.

use crate::rules::Ahead::{
    Asked, Beat, CutOff, Down, Emptied, In, Leads, Out, Proposes, Quiet, Reaches, RegisterLost, Tick, Up,
};
use crate::rules::{Budget, LEASE_AND_MORE, LONG_JUMP, Rules, Sight};
use crate::worlds::{
    NONE, PROMOTED, SUCCESSOR, TWO_LEARNER, begins, long_leases, loose, three, two, unheard, unleased, witness,
};

/// All of them; a long run searches them without a fault.
pub fn sharp() -> Vec<Rules> {
    let mut worlds = of_votes();
    worlds.extend(of_members());
    worlds.extend(of_leases());
    worlds.extend(of_proofs());
    worlds.extend(of_writes());
    worlds
}

/// Promises, and what a voter or a proposer has forgotten.
fn of_votes() -> Vec<Rules> {
    vec![
        Rules {
            late_handshakes: true,
            ..unleased(witness("witness-rivals", Budget { starts: 1, crashes: 1, ..NONE }, PROMOTED))
        },
        Rules {
            late_handshakes: true,
            beginning: begins(
                "the witness has promised server 1, and before that told server 0, which is up again, what it knew",
                &[Down(0), Down(2), Quiet, Up(2), Reaches(1), Reaches(2), Up(0), Reaches(2), Reaches(1), Reaches(2)],
            ),
            ..unleased(witness("witness-forgets", Budget { starts: 1, crashes: 1, ..NONE }, PROMOTED))
        },
        Rules {
            beginning: begins(
                "the last data server out of the view, the witness without its register",
                &[Down(1), Out(1), Quiet, Down(2), RegisterLost(2), Up(2), Quiet],
            ),
            ..unleased(witness(
                "witness-amnesiac",
                Budget { starts: 1, crashes: 1, ..NONE },
                &[Sight::AVoterRememberedAgain],
            ))
        },
        Rules {
            beginning: begins(
                "the last of three was begun again, then the primary cut off, and another leads",
                &[Down(2), Quiet, Up(2), Reaches(2), Reaches(0), CutOff(0), Out(0)],
            ),
            ..unleased(three("three-begun-again", Budget { crashes: 1, ..NONE }, PROMOTED))
        },
        Rules {
            beginning: begins(
                "the last data server is begun again, with an entry to come",
                &[Down(1), Quiet, Asked, Up(1), Reaches(1), Reaches(0), Reaches(1), Reaches(0)],
            ),
            ..unleased(witness("witness-begun-again", Budget { crashes: 1, ..NONE }, PROMOTED))
        },
    ]
}

/// Who is a member, and who becomes one.
fn of_members() -> Vec<Rules> {
    vec![
        Rules {
            beginning: begins(
                "the last data server is back and has caught up",
                &[Down(1), Out(1), Quiet, Up(1), Quiet],
            ),
            ..witness(
                "witness-learner-write",
                Budget { jumps: 1, writes: 1, ..NONE },
                &[Sight::ALearnerWasAdded, Sight::AWriteWasAnswered],
            )
        },
        Rules {
            beginning: begins(
                "the last of three out of the view, then a change more",
                &[Down(2), Out(2), Asked, Quiet],
            ),
            ..unleased(three("three-behind", Budget { starts: 1, crashes: 1, jumps: 1, ..NONE }, PROMOTED))
        },
        Rules {
            beginning: begins("the first of two out of the view, then a change more", &[Down(0), Out(0), Asked, Quiet]),
            ..unleased(witness("witness-behind", Budget { starts: 1, crashes: 1, ..NONE }, PROMOTED))
        },
        Rules {
            beginning: begins("the last data server down with an emptied directory", &[Down(1), Emptied(1), Quiet]),
            asks: 2,
            ..unleased(witness("witness-emptied-down", Budget { starts: 1, crashes: 1, ..NONE }, PROMOTED))
        },
        Rules {
            beginning: begins(
                "a learner is back, and the primary does not know what the one before it committed",
                &[Down(2), Out(2), CutOff(0), Down(0), Up(2), Leads(1)],
            ),
            asks: 2,
            ..loose(three("three-loose-learner", Budget { jumps: 1, ..NONE }, &[Sight::ALearnerWasAdded]))
        },
    ]
}

/// Who may answer reads, and who waits for that to end.
fn of_leases() -> Vec<Rules> {
    let later = |rules: Rules| Rules { jump: LONG_JUMP, ..rules };
    vec![
        later(witness("witness-cut-off", Budget { cuts: 1, jumps: 1, ..NONE }, PROMOTED)),
        Rules {
            beginning: begins("whole, and both data servers may read", &[Beat, Beat]),
            ..long_leases(witness(
                "witness-local-read",
                Budget { writes: 1, reads: 1, ..NONE },
                &[Sight::ABackupReadUnderItsLease, Sight::AWriteWasAnswered, Sight::AReadWaited],
            ))
        },
        Rules {
            beginning: begins(
                "the backup, which may read, cut off with a grant on its way, and a view without it proposed",
                &[Beat, Beat, Tick(0), CutOff(1), Proposes(0)],
            ),
            jump: LEASE_AND_MORE,
            unleased_reads: true,
            ..long_leases(witness(
                "witness-reader-leaves",
                Budget { writes: 1, reads: 1, jumps: 1, ..NONE },
                &[Sight::AMemberWasRemoved, Sight::AWriteWasAnswered, Sight::ABackupReadUnderItsLease],
            ))
        },
        Rules {
            beginning: begins(
                "a learner is back, to be begun, and lacks a change",
                &[Down(1), Out(1), Asked, Quiet, Up(1), Reaches(0), Reaches(1)],
            ),
            unleased_reads: true,
            ..long_leases(witness(
                "witness-learner-reads",
                Budget { reads: 1, jumps: 2, ..NONE },
                &[Sight::ALearnerWasAdded, Sight::ABackupReadUnderItsLease],
            ))
        },
        later(Rules {
            beginning: SUCCESSOR,
            ..witness(
                "witness-successor",
                Budget { jumps: 1, writes: 1, reads: 1, ..NONE },
                &[Sight::APrimaryReadUnderItsLease, Sight::AWriteWasAnswered, Sight::AServerWasPromoted],
            )
        }),
        Rules {
            late_handshakes: true,
            beginning: begins("the primary cut off, and the other leads", &[CutOff(0), Leads(1)]),
            ..witness("witness-successor-again", Budget { crashes: 1, starts: 1, ..NONE }, PROMOTED)
        },
        later(Rules {
            beginning: begins(
                "the primary cut off with an echo on its way, and the other leads",
                &[Tick(0), Reaches(1), CutOff(0), Leads(1), Quiet],
            ),
            ..witness("witness-late-echo", Budget { jumps: 1, reads: 1, ..NONE }, &[Sight::AReadWasAnswered])
        }),
        later(Rules {
            beginning: begins(
                "a member was added, then the primary cut off while the other proposes",
                &[Down(1), Out(1), Up(1), In(1), Quiet, Beat, CutOff(0), Proposes(1)],
            ),
            ..witness("witness-returned", Budget { jumps: 1, reads: 1, ..NONE }, PROMOTED)
        }),
        later(Rules {
            beginning: begins(
                "a member is being added, the primary cut off, the other proposes",
                &[Down(1), Out(1), Quiet, Up(1), Proposes(0), Reaches(1), Reaches(2), CutOff(0), Proposes(1)],
            ),
            ..witness("witness-added-leads", Budget { jumps: 1, ..NONE }, PROMOTED)
        }),
    ]
}

/// Two servers that go on alone by proof of the other's death.
fn of_proofs() -> Vec<Rules> {
    vec![
        Rules {
            beginning: TWO_LEARNER,
            rounds: 2,
            ..unheard(two(
                "two-learner",
                Budget { starts: 1, crashes: 1, jumps: 1, ..NONE },
                &[Sight::ALearnerWasAdded],
            ))
        },
        Rules {
            beginning: begins(
                "server 1 was proven dead and is a member again",
                &[Down(1), Out(1), Quiet, Up(1), In(1)],
            ),
            rounds: 2,
            ..unleased(unheard(two("two-proven", Budget { crashes: 1, jumps: 1, ..NONE }, PROMOTED)))
        },
        Rules {
            slow_disks: true,
            rounds: 2,
            beginning: begins(
                "server 0 is back and asks, while the other proposes a view without it",
                &[Down(0), Proposes(1), Up(0), Reaches(1), Reaches(0)],
            ),
            ..unheard(two("two-late-accept", Budget { starts: 1, crashes: 1, ..NONE }, PROMOTED))
        },
    ]
}

/// Entries on their way.
fn of_writes() -> Vec<Rules> {
    vec![
        Rules {
            jump: LONG_JUMP,
            beginning: begins(
                "the primary down after it sent an entry, the other proposes",
                &[Asked, Reaches(1), Down(0), Proposes(1)],
            ),
            ..witness("witness-retry", Budget { retries: 1, jumps: 1, ..NONE }, &[Sight::AWriteWasAnswered])
        },
        witness("witness-no-op", Budget { writes: 1, no_ops: 1, reads: 1, ..NONE }, &[Sight::AReadWasAnswered]),
        Rules {
            beginning: begins(
                "server 0 is back with an entry of its own, and the other leads",
                &[Asked, CutOff(0), Down(0), Leads(1), Quiet, Up(0)],
            ),
            ..unleased(witness("witness-own-entry", Budget { jumps: 1, ..NONE }, &[Sight::ATailWasRolledBack]))
        },
    ]
}
