//! The dictionary: keys, values, and the count of changes.

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_proto::codec::Writer;
use heirloom_proto::{Digest, Version, WallTime};

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
    version: Version,
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

    pub(crate) fn advance(&mut self, version: Version) {
        self.version = version;
    }

    pub(crate) fn put(&mut self, key: &Bytes, value: &Bytes, changed_at: WallTime, digest: &mut Digest) {
        // The bytes of an entry are a slice of the message that brought it; keeping the slice would keep the message.
        let stored = Stored { value: Bytes::copy_from_slice(value), version: self.version, changed_at };
        digest.add(&part(key, &stored));
        match self.keys.get_mut(key) {
            Some(before) => {
                digest.remove(&part(key, before));
                *before = stored;
            }
            None => {
                self.keys.insert(Bytes::copy_from_slice(key), stored);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &Bytes, digest: &mut Digest) {
        let before = self.keys.remove(key).expect("an effect removes what is there");
        digest.remove(&part(key, &before));
    }
}

/// What the digest covers of one key.
fn part(key: &Bytes, stored: &Stored) -> Vec<u8> {
    let mut out = Writer::with_capacity(32 + key.len() + stored.value.len());
    out.u8(b'k').bytes(key).bytes(&stored.value).u64(stored.version.0);
    out.finish()
}
