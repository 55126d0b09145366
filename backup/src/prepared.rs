//! What the prepared entries of a log make of the keys that they touch: with the committed state, what a primary executes
//! against, and what a local read waits for (PROTOCOL 4.2 and 10).

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_proto::{Effect, Entry, KeyRange, LogIndex, Lookup, Sealed, Version};

/// What becomes of a key when all that is prepared is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PreparedKey {
    /// The newest prepared entry that touches it.
    pub index: LogIndex,
    /// The version of its last change; `None` where it will have no value.
    pub version: Option<Version>,
}

/// The keys that prepared entries touch.
///
/// **Invariants:** holds nothing of an entry that is applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct PreparedKeys {
    keys: BTreeMap<Bytes, PreparedKey>,
}

impl PreparedKeys {
    /// Of all these entries.
    pub(crate) fn of(entries: &[Sealed]) -> Self {
        let mut prepared = Self::default();
        for sealed in entries {
            prepared.prepare(sealed.entry());
        }
        prepared
    }

    pub(crate) fn prepare(&mut self, entry: &Entry) {
        for effect in &entry.effects {
            let (key, version) = match effect {
                Effect::Put { key, .. } => (key, Some(entry.version)),
                Effect::Remove { key } => (key, None),
                Effect::Count { .. } | Effect::OpenSession(_) | Effect::RemoveSession(_) => continue,
            };
            self.keys.insert(key.clone(), PreparedKey { index: entry.index, version });
        }
    }

    /// Forgets an entry that is applied now.
    pub(crate) fn applied(&mut self, entry: &Entry) {
        for effect in &entry.effects {
            match effect {
                Effect::Put { key, .. } | Effect::Remove { key } => {
                    if self.keys.get(key).is_some_and(|prepared| prepared.index == entry.index) {
                        self.keys.remove(key);
                    }
                }
                Effect::Count { .. } | Effect::OpenSession(_) | Effect::RemoveSession(_) => {}
            }
        }
    }

    /// The newest prepared entry that touches what a read looks up.
    pub(crate) fn touches_any(&self, lookup: &Lookup) -> Option<LogIndex> {
        match lookup {
            Lookup::Key { key, .. } => self.touches(key).map(|prepared| prepared.index),
            Lookup::Page(scan) => self.touches_range(&scan.range),
        }
    }

    fn touches_range(&self, range: &KeyRange) -> Option<LogIndex> {
        let prepared = self.keys.range::<[u8], _>(range.bounds()?);
        prepared.map(|(_, prepared)| prepared.index).max()
    }

    pub(crate) fn touches(&self, key: &[u8]) -> Option<PreparedKey> {
        self.keys.get(key).copied()
    }
}
