//! What was seen: a run in which nothing happened proves nothing, so each of these must have happened in some world.

use std::collections::BTreeMap;
use std::fmt;

/// Something that a good set of worlds reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is a sentence")]
pub enum Sight {
    AViewWasChosen,
    AChangeWasAnswered,
    AConditionWasMet,
    AConditionWasNotMet,
    AValueWasAppended,
    AServerWasPromoted,
    APromotionInheritedPreparedEntries,
    ATailWasRolledBack,
    ALearnerWasAddedWhileClientsWrote,
    AMemberWasRemovedForSilence,
    AMemberWasRemovedByProof,
    ADeathWasProven,
    ALeaseRanOut,
    AnEpochWaitedForALease,
    ABackupAnsweredARead,
    ABackupHadNoLease,
    AReadWaitedAtABackup,
    ABackupAnsweredAScan,
    AScanWaitedAtABackup,
    APageWasOfAnOlderVersion,
    AWeakReadWasAnswered,
    APrimaryAnsweredAReadUnderLease,
    AReadWasConfirmed,
    ARetryWasAnsweredFromTheSessionTable,
    AnOutcomeStayedUnknown,
    ACallWasDefinitelyNotApplied,
    AHandOverWasDone,
    AHandOverWasCalledOff,
    AWipedServerBecameAMemberAgain,
    AServerWasDeposed,
    ASnapshotWasMade,
    ASnapshotWasInstalled,
    AServerCrashedWithUnsyncedWrites,
    AWholeClusterLostPower,
    AServerWasFencedByTheOperator,
    ASilentCutWasSurvived,
    AnEpochWasRefused,
    AGapWasFilled,
    ABitRottedAndWasFound,
    ARottenOrTornCopyWasMended,
    ADamagedServerBecameAMemberAgain,
    AnOlderCopyWasNoticed,
    AFullDiskWasMet,
    AGarbledWriteWasNoticed,
    AWrongReadBackWasCaught,
    ATornEndOfTheLogWasCut,
    ALeaseRanOutWhileTheProcessStood,
    AMachineWasSuspendedBeyondItsLease,
}

impl Sight {
    /// All that must be seen by the test over many seeds.
    pub const ALL: [Self; 48] = [
        Self::AViewWasChosen,
        Self::AChangeWasAnswered,
        Self::AConditionWasMet,
        Self::AConditionWasNotMet,
        Self::AValueWasAppended,
        Self::AServerWasPromoted,
        Self::APromotionInheritedPreparedEntries,
        Self::ATailWasRolledBack,
        Self::ALearnerWasAddedWhileClientsWrote,
        Self::AMemberWasRemovedForSilence,
        Self::AMemberWasRemovedByProof,
        Self::ADeathWasProven,
        Self::ALeaseRanOut,
        Self::AnEpochWaitedForALease,
        Self::ABackupAnsweredARead,
        Self::ABackupHadNoLease,
        Self::AReadWaitedAtABackup,
        Self::ABackupAnsweredAScan,
        Self::AScanWaitedAtABackup,
        Self::APageWasOfAnOlderVersion,
        Self::AWeakReadWasAnswered,
        Self::APrimaryAnsweredAReadUnderLease,
        Self::AReadWasConfirmed,
        Self::ARetryWasAnsweredFromTheSessionTable,
        Self::AnOutcomeStayedUnknown,
        Self::ACallWasDefinitelyNotApplied,
        Self::AHandOverWasDone,
        Self::AHandOverWasCalledOff,
        Self::AWipedServerBecameAMemberAgain,
        Self::AServerWasDeposed,
        Self::ASnapshotWasMade,
        Self::ASnapshotWasInstalled,
        Self::AServerCrashedWithUnsyncedWrites,
        Self::AWholeClusterLostPower,
        Self::AServerWasFencedByTheOperator,
        Self::ASilentCutWasSurvived,
        Self::AnEpochWasRefused,
        Self::AGapWasFilled,
        Self::ABitRottedAndWasFound,
        Self::ARottenOrTornCopyWasMended,
        Self::ADamagedServerBecameAMemberAgain,
        Self::AnOlderCopyWasNoticed,
        Self::AFullDiskWasMet,
        Self::AGarbledWriteWasNoticed,
        Self::AWrongReadBackWasCaught,
        Self::ATornEndOfTheLogWasCut,
        Self::ALeaseRanOutWhileTheProcessStood,
        Self::AMachineWasSuspendedBeyondItsLease,
    ];
}

/// How often each was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sometimes {
    counts: BTreeMap<Sight, u64>,
}

impl Sometimes {
    pub(crate) fn saw(&mut self, sight: Sight) {
        *self.counts.entry(sight).or_default() += 1;
    }

    /// Adds what another world has seen.
    pub fn merge(&mut self, other: &Self) {
        for (sight, count) in &other.counts {
            *self.counts.entry(*sight).or_default() += count;
        }
    }

    /// What was never seen.
    pub fn missing(&self) -> Vec<Sight> {
        Sight::ALL.into_iter().filter(|sight| !self.counts.contains_key(sight)).collect()
    }
}

impl fmt::Display for Sometimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sight in Sight::ALL {
            writeln!(f, "  {:>9}  {sight:?}", self.counts.get(&sight).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}
