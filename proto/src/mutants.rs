//! Deliberate faults: each leaves out one rule of the protocol, so that the laws can be seen to catch it.
//!
//! A line `planted(Mutant::X)` stands at the very place where rule X is kept. Without the feature `mutants`, which only
//! the simulator, the model checker and tests turn on, [`planted`] is the constant `false` and nothing of it is left.
//! With the feature a mutant is planted for one thread, by a guard. `docs/mutants.md` says what catches each.

macro_rules! mutants {
    ($($(#[doc = $rule:literal])+ $name:ident = $section:literal,)+) => {
        /// One fault; its documentation is the rule that it leaves out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $($(#[doc = $rule])+ $name,)+
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them, in the order of the protocol page.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The rule that it leaves out, in one sentence.
            pub fn rule(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($rule),+).trim(),)+
                }
            }

            /// The section of the protocol page that gives the rule.
            pub const fn section(self) -> &'static str {
                match self {
                    $(Self::$name => $section,)+
                }
            }
        }
    };
}

mutants! {
    /// The voter: from its promise on a server takes no `Prepare` of a lower epoch and echoes no heartbeat of one.
    NoFreezeOnPromise = "5.2",
    /// The voter: of two proposals of one round it promises and accepts the higher one alone.
    TwoPromisesOfOneEpoch = "5.2",
    /// The voter: a promise is durable before it is said.
    PromiseUnsynced = "5.2",
    /// The voter: what it has promised holds in its next run.
    StaleRegisterAfterRestart = "3",
    /// The voter: a promise is answered with the view accepted before it was given, and with whether it counted then.
    PromiseShowsLater = "5.2",
    /// The voter: a promise counts as it did when it was given, for it shows what was known then.
    PromiseCountsLater = "5.2",
    /// The voter: an acceptance is said again only while no higher promise stands.
    AcceptedSaidAgain = "5.4",
    /// The proposer: an epoch is used for one proposal.
    EpochUsedTwice = "5.2",
    /// The proposer: a candidate is a member of the newest view that a quorum showed.
    CandidateIsNoMember = "6",
    /// The proposer: no view has fewer members than `min_copies`.
    MinCopiesNotKept = "4, 6",
    /// The proposer: those who may still hold a lease are carried over from view to view.
    LeavingForgotten = "2, 5.3",
    /// Recovery: whoever has restarted, or lost its register, stores the highest promised and accepted that it heard.
    RecoveryOnlyHeard = "5, 9",
    /// Recovery: whoever lost its register gives no vote before it has heard from all other voters.
    AmnesiacVotes = "9",
    /// Recovery: who begins a run asks what the others remember of its store, and gives no vote before they have answered.
    OldCopyVotes = "9",
    /// Recovery: a word of an epoch is not enough, the primary must have answered this run with its cut.
    StartEpochEndsRecovery = "5",
    /// Recovery: the last one standing leads again alone only where its log holds the marker of its view's epoch.
    LastStandingWithoutMarker = "5",
    /// Proof of death: hearing from a later run, and storing a view, voids older proofs against its members.
    StaleProofExcuses = "5",
    /// Proof of death: the proof that an older run is dead is none against the later run that was heard.
    ProofOfOlderRun = "5",
    /// Proof of death: who is leaving is settled only by proofs obtained after the view was chosen, all of them twice.
    StaleProofSettles = "8.3",
    /// Proof of death: who is leaving is settled by proofs asked for after the last one was settled without proof.
    ProofsBeforeTheLastWord = "8.3",
    /// Proof of death: where several are leaving, all are proven, and then all again.
    ProofsInOneRound = "8.3",
    /// Proof of death: a proof counts from when it was asked for, not from when it came.
    ProofFromItsComing = "8.3",
    /// The start of an epoch: a server that has promised a higher epoch does not take it.
    StartEpochUnchecked = "8.1",
    /// The start of an epoch: it is stored before it is answered.
    StartEpochUnstored = "8.1",
    /// The start of an epoch: within one run and epoch nothing is cut a second time.
    SecondCut = "8.1",
    /// The start of an epoch: a cut voids the writes that are under way, the same entries being sent again included.
    CutVoidsNoWrite = "8.1",
    /// Coming back: only who stands outside the view of an epoch gives its log away for a snapshot.
    MemberGivesItsLogAway = "9",
    /// Coming back: a snapshot takes the place of the log of a copy that waits for it, and works no more.
    SnapshotTakesAWorkingLog = "9",
    /// The start of an epoch: nothing is committed before everyone who is leaving is settled.
    NoLeaseWait = "8.3",
    /// The start of an epoch: the wait counts from when the primary learned that its view was chosen.
    WaitFromFreeze = "8.3",
    /// The start of an epoch: the primary appends a marker, and what comes before it is committed with it.
    NoMarker = "8.2",
    /// A write: every member confirms it.
    OneConfirmationMissing = "4.4",
    /// A write: what is confirmed is durable.
    SyncSkipped = "4.3",
    /// A write: what is confirmed was read back from the log and found to be what was written.
    ReadBackSkipped = "4.3",
    /// A write: a copy applies nothing beyond what it has confirmed in this epoch.
    AppliesBeyondConfirmed = "4.4",
    /// A write: digests at the same applied index are compared.
    DigestNotCompared = "4.5",
    /// A write: every answer waits until the entries that it was computed from are committed.
    AnswerBeforeCommit = "4.2",
    /// A write: a condition is judged by what is prepared too.
    ConditionOnCommitted = "4.2",
    /// A write: an appended value's number is beyond those that are prepared, inherited ones too.
    AppendCountsCommitted = "4.2",
    /// Members: another store of the same server is another member.
    EmptiedStoreStaysMember = "2, 9",
    /// Members: a learner is added when it has all that may be committed, not only what is known to be.
    KnownCommittedIsEnough = "7",
    /// Leases: a server's own promise ends the lease that it holds.
    LeaseKeptAfterOwnPromise = "5.2",
    /// Leases: a learner that is added counts for the lease like a member.
    LearnerOutsideLease = "7",
    /// Leases: a lease counts from when the heartbeat was sent, not from when its echo came.
    LeaseFromAnswer = "10",
    /// Reads: a read that is answered locally takes a lease that is valid at that moment.
    ReadWithoutLease = "10",
    /// Read leases: a grant is no longer than what is left of the primary's own lease.
    GrantBeyondLease = "10",
    /// Read leases: a grant counts from the receiver's clock as it was in the echo, not from when the grant came.
    GrantFromReceipt = "10",
    /// Read leases: members alone are granted any.
    LearnerGranted = "10",
    /// Read leases: a promise and a new epoch end the lease that a backup holds.
    ReadLeaseKept = "5.2, 10",
    /// Reads: at a backup a read waits for prepared entries that touch its key.
    ReadIgnoresPrepared = "10",
    /// Reads: at a backup a scan waits for prepared entries that touch any key of its range.
    ScanIgnoresPrepared = "10",
    /// Reads: what a key had before its last changes is kept for the later pages of a scan.
    PastForgotten = "10",
    /// Reads: prepared entries are invisible to reads.
    ReadsPrepared = "2, 10",
    /// Sessions: a new primary counts the requests of inherited prepared entries as in flight.
    DedupLostAtFailover = "11",
    /// Sessions: a request of a session that was removed is refused, never carried out again.
    SessionOpenedAgain = "11",
}

/// Whether this fault is planted: never, where the feature `mutants` is off.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn planted(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switch::{Planted, plant, planted};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;
    use std::marker::PhantomData;

    use super::Mutant;

    thread_local! {
        // Of the thread, not of the node: a node stays a value that says nothing of tests, and searches on several
        // threads do not meet.
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this fault is planted in this thread.
    pub fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    /// Plants a fault in all nodes that this thread steps, until the guard is dropped. Other threads plant for themselves.
    ///
    /// **Panics if** another is planted: one fault at a time, or nobody knows which was caught.
    pub fn plant(mutant: Mutant) -> Planted {
        let before = PLANTED.replace(Some(mutant));
        assert_eq!(before, None, "one mutant at a time");
        Planted { of_this_thread: PhantomData }
    }

    /// A planted fault; pulled out when this is dropped.
    #[derive(Debug)]
    pub struct Planted {
        of_this_thread: PhantomData<*const ()>,
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_mutant_is_planted_until_its_guard_is_dropped() {
            assert!(!Mutant::ALL.iter().any(|mutant| planted(*mutant)));
            let guard = plant(Mutant::NoMarker);
            assert!(planted(Mutant::NoMarker) && !planted(Mutant::SecondCut));
            drop(guard);
            assert!(!planted(Mutant::NoMarker));
        }

        #[test]
        fn every_mutant_names_its_rule_and_section() {
            let names: std::collections::BTreeSet<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
            assert_eq!(names.len(), Mutant::ALL.len());
            assert!(Mutant::ALL.iter().all(|mutant| mutant.rule().ends_with('.') && !mutant.section().is_empty()));
        }
    }
}
