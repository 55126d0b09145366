//! What only somebody outside of the world knows: which entries have ever been committed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use heirloom_proto::request::append_key;
use heirloom_proto::{ChainHash, Digest, Effect, Epoch, KeyRange, LogIndex, Position, Sealed, SessionId, Version};

use crate::laws::Violation;

/// One entry that some server has applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Committed {
    hash: ChainHash,
    /// The epoch of whoever committed it, which may be later than the entry's own.
    by: Epoch,
    digest: Option<Digest>,
}

/// The committed log of the world.
///
/// **Invariants:** only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Oracle {
    entries: Vec<Committed>,
    /// The dictionary's version with the last of them.
    version: Version,
    requests: BTreeMap<(SessionId, u64), LogIndex>,
    values: BTreeMap<Bytes, LogIndex>,
    /// The changes of each key, by version; `None` for a delete.
    changes: BTreeMap<Bytes, Vec<(Version, Option<Bytes>)>>,
    /// How many values were appended under each prefix.
    appended: BTreeMap<Bytes, u64>,
    /// Values of which a client was told that they are not applied and never will be.
    not_applied: BTreeSet<Bytes>,
}

impl Oracle {
    /// How far the world has committed.
    pub fn end(&self) -> LogIndex {
        LogIndex(self.entries.len() as u64)
    }

    /// The dictionary's version at the end of what is committed.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The committed prefix of this length.
    pub fn position_at(&self, index: LogIndex) -> Option<Position> {
        if index == LogIndex::ZERO {
            return Some(Position::START);
        }
        self.committed(index).map(|committed| Position { index, hash: committed.hash })
    }

    /// The longest prefix that was committed before this epoch.
    pub fn end_before(&self, epoch: Epoch) -> LogIndex {
        // Epochs of commits only go up along the log: an inherited prefix is committed before what follows.
        LogIndex(self.entries.partition_point(|committed| committed.by < epoch) as u64)
    }

    fn committed(&self, index: LogIndex) -> Option<&Committed> {
        self.entries.get(usize::try_from(index.0).ok()?.checked_sub(1)?)
    }

    /// Takes the next committed entry.
    pub fn commit(&mut self, entry: &Sealed, hash: ChainHash, by: Epoch) -> Result<(), Violation> {
        let index = self.end().next();
        if entry.index() != index {
            return Violation::of(3, format!("entry {} was applied in the place of {index}", entry.index()));
        }
        if let Some(last) = self.entries.last().filter(|last| last.by > by) {
            return Violation::of(6, format!("{index} was committed by {by}, but the one before by {}", last.by));
        }
        if let Some(origin) = entry.entry().origin {
            let before = self.requests.insert((origin.session, origin.sequence), index);
            if let Some(before) = before {
                return Violation::of(4, format!("request {origin:?} was carried out at {before} and at {index}"));
            }
        }
        for effect in &entry.entry().effects {
            if let Effect::Put { value, .. } = effect {
                if self.not_applied.contains(value) {
                    return Violation::of(4, format!("{value:?} was called not applied and was committed at {index}"));
                }
                if let Some(before) = self.values.insert(value.clone(), index) {
                    return Violation::of(4, format!("{value:?} was added at {before} and again at {index}"));
                }
            }
        }
        self.count(entry)?;
        for effect in &entry.entry().effects {
            let (key, value) = match effect {
                Effect::Put { key, value } => (key, Some(value.clone())),
                Effect::Remove { key } => (key, None),
                Effect::Count { .. } | Effect::OpenSession(_) | Effect::RemoveSession(_) => continue,
            };
            self.changes.entry(key.clone()).or_default().push((entry.entry().version, value));
        }
        self.version = self.version.max(entry.entry().version);
        self.entries.push(Committed { hash, by, digest: None });
        Ok(())
    }

    /// Numbers of appended values have no repeat, and no gap but for keys that were there.
    fn count(&mut self, entry: &Sealed) -> Result<(), Violation> {
        for effect in &entry.entry().effects {
            let Effect::Count { prefix, number } = effect else { continue };
            let before = self.appended.insert(prefix.clone(), *number).unwrap_or(0);
            let is_taken = |number| self.value_at(&append_key(prefix, number), self.version).is_some();
            if *number <= before || is_taken(*number) || !(before + 1..*number).all(is_taken) {
                let what = format!("number {number} under {prefix:?} was given after {before} at {}", entry.index());
                return Violation::of(4, what);
            }
        }
        Ok(())
    }

    /// Compares the digest of a state with that of every other server that was at the same index.
    pub fn digest(&mut self, index: LogIndex, digest: Digest) -> Result<(), Violation> {
        let Some(committed) =
            usize::try_from(index.0).ok().and_then(|place| self.entries.get_mut(place.checked_sub(1)?))
        else {
            return Ok(());
        };
        let expected = *committed.digest.get_or_insert(digest);
        if expected != digest {
            return Violation::of(3, format!("two states at {index}: digests {digest} and {expected}"));
        }
        Ok(())
    }

    /// The digest of the state at an index; `None` where nobody has shown one.
    pub fn digest_at(&self, index: LogIndex) -> Option<Digest> {
        self.committed(index)?.digest
    }

    /// Whether this value was committed.
    pub fn has_value(&self, value: &Bytes) -> bool {
        self.values.contains_key(value)
    }

    /// What a key had at a version of the dictionary: the version of its last change, and its value.
    pub fn value_at(&self, key: &Bytes, version: Version) -> Option<(Version, &Bytes)> {
        let changes = self.changes.get(key)?;
        let upto = changes.partition_point(|(changed_at, _)| *changed_at <= version);
        let (changed_at, value) = changes.get(upto.checked_sub(1)?)?;
        value.as_ref().map(|value| (*changed_at, value))
    }

    /// What the keys of a range had at a version, each with the version of its last change, in the order of the keys.
    pub fn range_at(&self, range: &KeyRange, version: Version) -> impl Iterator<Item = (&Bytes, Version, &Bytes)> {
        let keys = range.bounds().map(|bounds| self.changes.range::<[u8], _>(bounds).map(|(key, _)| key));
        keys.into_iter()
            .flatten()
            .filter_map(move |key| self.value_at(key, version).map(|(changed_at, value)| (key, changed_at, value)))
    }

    /// A client was told that its add has no effect.
    pub fn not_applied(&mut self, value: &Bytes) -> Result<(), Violation> {
        if let Some(index) = self.values.get(value) {
            return Violation::of(4, format!("{value:?} was committed at {index} and called not applied"));
        }
        self.not_applied.insert(value.clone());
        Ok(())
    }
}
