//! Less of a world than its seed gives: what a failing world is shrunk by.
//!
//! Faults are numbered as they are drawn, and each draws what it needs from a source of its own: leaving one out does not
//! turn the others into different ones.

use std::collections::BTreeSet;
use std::fmt;

use crate::clock::{MICROSECOND, MILLISECOND};
use crate::fault::Fault;
use crate::plan::Plan;

/// What is left out of a world; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Less {
    /// Only faults of these kinds.
    pub kinds: Option<BTreeSet<Fault>>,
    /// Only the faults of these numbers.
    pub faults: Option<BTreeSet<u64>>,
    /// All but the faults of these numbers.
    pub without: BTreeSet<u64>,
    /// At most so many clients.
    pub clients: Option<u64>,
    /// At most so many calls of each client.
    pub calls: Option<u64>,
    /// At most so many keys.
    pub keys: Option<u64>,
    /// Things go wrong for at most so long. **Units:** milliseconds.
    pub turmoil_ms: Option<u64>,
    /// A network that is fast, keeps messages in their order and loses none, but for cuts.
    pub clean_network: bool,
    /// Clocks that run alike, deadlines in time, and a disk that is fast while it works.
    pub steady: bool,
    /// Faults that are left out take no time: those that are left come sooner.
    pub hurry: bool,
    /// Other chances in the same world: the faults and clients stay what they are, delays do not.
    pub shake: u64,
}

impl Less {
    /// Whether nothing is left out.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn allows(&self, number: u64, fault: Fault) -> bool {
        !self.without.contains(&number)
            && self.faults.as_ref().is_none_or(|faults| faults.contains(&number))
            && self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&fault))
    }

    pub(crate) fn apply(&self, plan: &mut Plan) {
        plan.clients = plan.clients.min(self.clients.unwrap_or(u64::MAX));
        plan.keys = plan.keys.min(self.keys.unwrap_or(u64::MAX)).max(1);
        plan.turmoil = plan.turmoil.min(self.turmoil_ms.map_or(u64::MAX, |ms| ms * MILLISECOND));
        if self.clean_network {
            (plan.late, plan.lost, plan.doubled, plan.silent_cuts) = (0, 0, 0, 0);
            plan.in_order = true;
            plan.delay = (50 * MICROSECOND, 2 * MILLISECOND);
        }
        if self.steady {
            (plan.fast_ppm_max, plan.early_deadlines, plan.late_deadlines) = (0, 0, 0);
            plan.prompt_flush = 1000;
            plan.sync = (20 * MICROSECOND, 100 * MICROSECOND);
        }
    }

    /// Takes the words of a command line that begin with `word`; `None` where they are none of these or senseless.
    pub fn take(&mut self, word: &str, words: &mut impl Iterator<Item = String>) -> Option<()> {
        match word {
            "--only-faults" => self.kinds = Some(Fault::list(&words.next()?)?),
            "--faults" => self.faults = Some(numbers(&words.next()?)?),
            "--without" => self.without = numbers(&words.next()?)?,
            "--clients" => self.clients = Some(words.next()?.parse().ok()?),
            "--calls" => self.calls = Some(words.next()?.parse().ok()?),
            "--keys" => self.keys = Some(words.next()?.parse().ok()?),
            "--turmoil-ms" => self.turmoil_ms = Some(words.next()?.parse().ok()?),
            "--clean-network" => self.clean_network = true,
            "--steady" => self.steady = true,
            "--hurry" => self.hurry = true,
            "--shake" => self.shake = words.next()?.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

fn numbers(list: &str) -> Option<BTreeSet<u64>> {
    list.split(',').filter(|number| !number.is_empty() && *number != "none").map(|number| number.parse().ok()).collect()
}

/// The words of a command line that leave out as much, each after a space.
impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(",") };
        if let Some(kinds) = &self.kinds {
            write!(f, " --only-faults {}", kinds.iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>().join(","))?;
        }
        if let Some(faults) = &self.faults {
            write!(f, " --faults {}", list(faults.iter().map(u64::to_string).collect()))?;
        }
        if !self.without.is_empty() {
            write!(f, " --without {}", list(self.without.iter().map(u64::to_string).collect()))?;
        }
        let most =
            [("clients", self.clients), ("calls", self.calls), ("keys", self.keys), ("turmoil-ms", self.turmoil_ms)];
        for (name, value) in most {
            if let Some(value) = value {
                write!(f, " --{name} {value}")?;
            }
        }
        let flags = [("clean-network", self.clean_network), ("steady", self.steady), ("hurry", self.hurry)];
        for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
            write!(f, " --{name}")?;
        }
        if self.shake != 0 {
            write!(f, " --shake {}", self.shake)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_are_printed_are_the_words_that_are_read() {
        let less = Less {
            kinds: Some(BTreeSet::from([Fault::Rot, Fault::Crash])),
            faults: Some(BTreeSet::new()),
            without: BTreeSet::from([4, 9]),
            clients: Some(1),
            calls: Some(2),
            keys: None,
            turmoil_ms: Some(77),
            clean_network: true,
            steady: true,
            hurry: true,
            shake: 3,
        };
        let printed = less.to_string();
        let mut words = printed.split_whitespace().map(str::to_owned);
        let mut read = Less::default();
        while let Some(word) = words.next() {
            read.take(&word, &mut words).expect("known");
        }
        assert_eq!(read, less);
    }
}
