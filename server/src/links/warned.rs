//! Warnings that are worth saying once and not at every attempt.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What was said last about each thing.
#[derive(Debug, Default)]
pub(crate) struct Warned {
    last: Mutex<BTreeMap<About, String>>,
}

/// What a warning is about; as many as there are servers, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    /// What was found where this server was dialled.
    Dialling(u8),
    /// What dialled in and said that it was this server.
    DiallingIn(u8),
}

impl Warned {
    /// Warns, unless the same was said last about the same.
    pub(crate) fn warn(&self, about: About, what: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&about).is_none_or(|said| said != what) {
            tracing::warn!("{what}");
            last.insert(about, what.to_owned());
        }
    }

    /// All is well again: the next warning is news.
    pub(crate) fn clear(&self, about: About) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(&about);
    }
}
