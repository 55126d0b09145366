//! Warnings that are worth saying once and not at every attempt.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What was said last about each thing.
#[derive(Debug, Default)]
pub(crate) struct Warned {
    last: Mutex<BTreeMap<About, String>>,
}

/// What a warning is about: two for each server of the cluster, and one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    /// What was found where this server was dialled.
    Dialling(u8),
    /// What dialled in and said that it was this server, which is one of the cluster's.
    DiallingIn(u8),
    /// Who dialled in with an id that the cluster does not have. Said once of all of them: the remedy is the same, and
    /// two that take turns would be news for ever.
    Stranger,
}

impl Warned {
    /// Warns, unless the same was said last about the same. Returns whether it did.
    pub(crate) fn warn(&self, about: About, what: &str) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let said = match about {
            About::Dialling(_) | About::DiallingIn(_) => last.get(&about).is_some_and(|said| said == what),
            About::Stranger => last.contains_key(&about),
        };
        if !said {
            tracing::warn!("{what}");
            last.insert(about, what.to_owned());
        }
        !said
    }

    /// All is well again: the next warning is news.
    pub(crate) fn clear(&self, about: About) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(&about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_said_again_when_it_changes_or_was_cleared() {
        let warned = Warned::default();
        assert!(warned.warn(About::Dialling(1), "nobody there"));
        assert!(!warned.warn(About::Dialling(1), "nobody there"));
        assert!(warned.warn(About::DiallingIn(1), "nobody there"));
        assert!(warned.warn(About::Dialling(1), "another cluster"));
        warned.clear(About::Dialling(1));
        assert!(warned.warn(About::Dialling(1), "another cluster"));
    }

    #[test]
    fn strangers_that_take_turns_are_warned_of_once() {
        let warned = Warned::default();
        assert!(warned.warn(About::Stranger, "server 17"));
        assert!(!warned.warn(About::Stranger, "server 18"));
        assert!(!warned.warn(About::Stranger, "server 17"));
    }
}
