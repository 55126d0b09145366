//! The dictionary: keys, values, and the count of changes.

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_proto::{Digest, KeyRange, Refusal, Version, WallTime};

use crate::part::{Part, digested_count, digested_key};
use crate::past::{AsOf, Past};

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The value.
    pub value: Bytes,
    /// The dictionary's version with the key's last change.
    pub version: Version,
    /// When that was, by the primary's calendar.
    pub changed_at: WallTime,
}

/// The applied state of all keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Dictionary {
    keys: BTreeMap<Bytes, Stored>,
    /// How many values were appended under each prefix, ever: numbers are not given out again when keys are deleted.
    appended: BTreeMap<Bytes, u64>,
    version: Version,
    past: Past,
}

impl Dictionary {
    /// How many changes were applied.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What is stored under `key`.
    pub fn read(&self, key: &[u8]) -> Option<&Stored> {
        self.keys.get(key)
    }

    /// How many values were ever appended under this prefix.
    pub fn appended(&self, prefix: &[u8]) -> u64 {
        self.appended.get(prefix).copied().unwrap_or(0)
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All keys with what is stored under them, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Stored)> {
        self.keys.iter()
    }

    /// The lowest version whose state can still be told.
    pub fn oldest(&self) -> Version {
        self.past.oldest()
    }

    /// The keys of a range with what was stored under them at a version, which is the present one or an earlier one; those
    /// that had nothing then are among them.
    ///
    /// **Refuses when** so much was changed since that it is no longer kept.
    pub fn as_of(
        &self,
        range: &KeyRange,
        version: Version,
    ) -> Result<impl Iterator<Item = (&Bytes, Option<&Stored>)>, Refusal> {
        let oldest = self.oldest();
        if version < oldest {
            return Err(Refusal::VersionTooOld { oldest });
        }
        Ok(AsOf::new(&self.keys, &self.past, range, version).into_iter().flatten())
    }

    #[cfg(test)]
    pub(crate) fn past(&self) -> &Past {
        &self.past
    }

    /// All prefixes, then all keys.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let appended =
            self.appended.iter().map(|(prefix, number)| Part::Appended { prefix: prefix.clone(), number: *number });
        let keys = self.keys.iter().map(|(key, stored)| Part::Key { key: key.clone(), stored: stored.clone() });
        appended.chain(keys)
    }

    /// Begins where nothing earlier than this version is known.
    pub(crate) fn begin_at(&mut self, version: Version) {
        self.version = version;
        self.past.begin_at(version);
    }

    /// Puts a key back as it was stored; it is not there yet.
    pub(crate) fn put_stored(&mut self, key: &Bytes, stored: &Stored) {
        // Slices of the message or the file that they came in would keep all of that.
        let stored = Stored { value: Bytes::copy_from_slice(&stored.value), ..*stored };
        self.keys.insert(Bytes::copy_from_slice(key), stored);
    }

    /// Puts a prefix back with what was counted under it; it is not there yet.
    pub(crate) fn put_appended(&mut self, prefix: &Bytes, number: u64) {
        self.appended.insert(Bytes::copy_from_slice(prefix), number);
    }

    pub(crate) fn advance(&mut self, version: Version) {
        self.version = version;
    }

    pub(crate) fn put(&mut self, key: &Bytes, value: &Bytes, changed_at: WallTime, digest: &mut Digest) {
        // The bytes of an entry are a slice of the message that brought it; keeping the slice would keep the message.
        let stored = Stored { value: Bytes::copy_from_slice(value), version: self.version, changed_at };
        digest.add(&digested_key(key, &stored));
        match self.keys.get_mut(key) {
            Some(before) => {
                digest.remove(&digested_key(key, before));
                self.past.keep(key, std::mem::replace(before, stored), self.version);
            }
            None => {
                self.keys.insert(Bytes::copy_from_slice(key), stored);
            }
        }
    }

    pub(crate) fn count(&mut self, prefix: &Bytes, number: u64, digest: &mut Digest) {
        digest.add(&digested_count(prefix, number));
        match self.appended.get_mut(prefix) {
            Some(before) => {
                assert!(number > *before, "a number is given out once");
                digest.remove(&digested_count(prefix, *before));
                *before = number;
            }
            None => {
                self.appended.insert(Bytes::copy_from_slice(prefix), number);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &Bytes, digest: &mut Digest) {
        let before = self.keys.remove(key).expect("an effect removes what is there");
        digest.remove(&digested_key(key, &before));
        self.past.keep(key, before, self.version);
    }
}
