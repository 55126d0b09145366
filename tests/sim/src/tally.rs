//! What was done to a world and what its clients did, counted.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::Fault;

/// Small troubles that come by chance, with no fault of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is a sentence")]
pub enum Mishap {
    AMessageWasLost,
    AMessageWasDoubled,
    AMessageWasLate,
    AMessageRanIntoACut,
    AStreamBroke,
    ADeadlineCameLate,
    ADeadlineCameEarly,
    AWriteWasTorn,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is a word")]
pub enum Asked {
    Add,
    AddIf,
    Append,
    Delete,
    Read,
    Scan,
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is a word")]
pub enum Told {
    Answered,
    NotApplied,
    Unknown,
}

/// The counts of one world or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults that were applied; one that found nothing to break is not counted.
    pub faults: BTreeMap<Fault, u64>,
    /// What came by chance.
    pub mishaps: BTreeMap<Mishap, u64>,
    /// What clients asked and were told.
    pub operations: BTreeMap<(Asked, Told), u64>,
}

impl Tally {
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn mishap(&mut self, mishap: Mishap) {
        *self.mishaps.entry(mishap).or_default() += 1;
    }

    pub(crate) fn operation(&mut self, asked: Asked, told: Told) {
        *self.operations.entry((asked, told)).or_default() += 1;
    }

    /// Adds what was counted in another world.
    pub fn merge(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (mishap, count) in &other.mishaps {
            *self.mishaps.entry(*mishap).or_default() += count;
        }
        for (operation, count) in &other.operations {
            *self.operations.entry(*operation).or_default() += count;
        }
    }

    /// How many operations clients began.
    pub fn operations(&self) -> u64 {
        self.operations.values().sum()
    }

    /// The kinds of fault that were never applied.
    pub fn missing(&self) -> Vec<Fault> {
        let applied = |fault: &Fault| self.faults.contains_key(fault);
        Fault::WEIGHTS.iter().map(|(fault, _)| *fault).filter(|fault| !applied(fault)).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "faults applied:")?;
        for (fault, _) in Fault::WEIGHTS {
            writeln!(f, "  {:>9}  {fault:?}", self.faults.get(&fault).copied().unwrap_or(0))?;
        }
        writeln!(f, "by chance:")?;
        for (mishap, count) in &self.mishaps {
            writeln!(f, "  {count:>9}  {mishap:?}")?;
        }
        writeln!(f, "client operations: {} in all", self.operations())?;
        for ((asked, told), count) in &self.operations {
            writeln!(f, "  {count:>9}  {asked:?} {told:?}")?;
        }
        Ok(())
    }
}
