//! What a stretch of the log changes of a state that is not in memory: how a snapshot is made from the one before it.
//!
//! Sessions are kept whole, since their number is bounded; of prefixes and keys, only those that the entries name. Nothing
//! here trusts what it is given: it comes from a disk.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

use bytes::Bytes;
use heirloom_proto::{ChainHash, Digest, Effect, Epoch, Position, Sealed, Version};

use crate::dictionary::Stored;
use crate::part::{Part, Place};
use crate::sessions::{Answered, Sessions};
use crate::state::StateHead;

/// What it takes to keep a changed key, beside key and value: its place in a map and in the allocator.
const CHANGE_BYTES: usize = 200;

/// What entries change of a state.
#[derive(Debug)]
pub struct Changes {
    position: Position,
    epoch: Epoch,
    version: Version,
    sessions: Sessions,
    appended: BTreeMap<Bytes, u64>,
    /// `None` where the key is gone.
    keys: BTreeMap<Bytes, Option<Stored>>,
    bytes: usize,
}

impl Changes {
    /// None so far, of the state with this head and these sessions.
    pub fn of(base: StateHead, sessions: Sessions) -> Self {
        Self {
            position: base.position,
            epoch: base.epoch,
            version: base.version,
            sessions,
            appended: BTreeMap::new(),
            keys: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Up to where the log is taken.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The epoch of the entry there.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The version of the dictionary there.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How much memory the changed prefixes and keys take, about. **Units:** bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next entry; `hash` is the chain hash of the log that ends with it.
    ///
    /// **Errors:** half a sentence where it does not follow; what was taken is of no use then.
    pub fn apply(&mut self, sealed: &Sealed, hash: ChainHash) -> Result<(), &'static str> {
        let entry = sealed.entry();
        if entry.index != self.position.index.next() {
            return Err("an entry out of order");
        }
        if entry.epoch < self.epoch {
            return Err("an entry of an earlier epoch than the one before it");
        }
        let version = if entry.changes_keys() { self.version.next() } else { self.version };
        if entry.version != version {
            return Err("an entry whose version does not count the changes");
        }
        // The digest is made of the parts once all is merged; what the sessions make of it on the way is of no use.
        let mut unused = Digest::default();
        for effect in &entry.effects {
            match effect {
                Effect::Put { key, value } => {
                    let stored = Stored { value: Bytes::copy_from_slice(value), version, changed_at: entry.at };
                    self.change(key, Some(stored));
                }
                Effect::Remove { key } => self.change(key, None),
                Effect::Count { prefix, number } => self.count(prefix, *number)?,
                Effect::OpenSession(session) => {
                    if self.sessions.is_open(*session) {
                        return Err("an entry that opens a session which is open");
                    }
                    self.sessions.open(*session, entry.index, entry.at, &mut unused);
                }
                Effect::RemoveSession(session) => {
                    if !self.sessions.is_open(*session) {
                        return Err("an entry that removes a session which is not open");
                    }
                    self.sessions.remove(*session, &mut unused);
                }
            }
        }
        if let Some(origin) = entry.origin {
            if self.sessions.answer(origin.session, origin.sequence).is_some() {
                return Err("an entry for a request that was carried out before");
            }
            let answered = Answered { answer: entry.answer, version };
            self.sessions.keep(origin, answered, entry.index, entry.at, &mut unused);
        }
        self.position = Position { index: entry.index, hash };
        self.epoch = entry.epoch;
        self.version = version;
        Ok(())
    }

    fn change(&mut self, key: &Bytes, stored: Option<Stored>) {
        let value_bytes = |stored: &Option<Stored>| stored.as_ref().map_or(0, |stored| stored.value.len());
        self.bytes += value_bytes(&stored);
        match self.keys.get_mut(key) {
            Some(before) => {
                self.bytes -= value_bytes(before);
                *before = stored;
            }
            None => {
                self.bytes += CHANGE_BYTES + key.len();
                // The bytes of an entry are a slice of the frame that held it, which must not stay in memory.
                self.keys.insert(Bytes::copy_from_slice(key), stored);
            }
        }
    }

    fn count(&mut self, prefix: &Bytes, number: u64) -> Result<(), &'static str> {
        match self.appended.get_mut(prefix) {
            Some(before) if number <= *before => return Err("an entry that gives a number out twice"),
            Some(before) => *before = number,
            None => {
                self.bytes += CHANGE_BYTES + prefix.len();
                self.appended.insert(Bytes::copy_from_slice(prefix), number);
            }
        }
        Ok(())
    }

    /// All parts of the state with the changes, in the order of their places. `base` gives the parts of the state before
    /// them, in the same order; its sessions and answers are passed over, since those here are whole.
    pub fn merged<E>(self, base: impl Iterator<Item = Result<Part, E>>) -> impl Iterator<Item = Result<Part, E>> {
        let Self { sessions, appended, keys, .. } = self;
        let base = base.filter(|part| !matches!(part, Ok(Part::Session { .. } | Part::Answer { .. })));
        let changed = Changed { appended: appended.into_iter(), keys: keys.into_iter() };
        sessions.into_parts().map(Ok).chain(Merged { base: base.peekable(), changed: changed.peekable() })
    }
}

/// What was changed, with what stands there now, in the order of the places.
struct Changed {
    appended: btree_map::IntoIter<Bytes, u64>,
    keys: btree_map::IntoIter<Bytes, Option<Stored>>,
}

impl Iterator for Changed {
    type Item = (Place, Option<Part>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((prefix, number)) = self.appended.next() {
            return Some((Place::Appended(prefix.clone()), Some(Part::Appended { prefix, number })));
        }
        let (key, stored) = self.keys.next()?;
        Some((Place::Key(key.clone()), stored.map(|stored| Part::Key { key, stored })))
    }
}

struct Merged<I: Iterator> {
    base: Peekable<I>,
    changed: Peekable<Changed>,
}

impl<E, I: Iterator<Item = Result<Part, E>>> Iterator for Merged<I> {
    type Item = Result<Part, E>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.base.peek(), self.changed.peek()) {
                (None, None) => return None,
                (None, Some(_)) => Ordering::Greater,
                // What can't be read ends it, wherever it stands.
                (Some(Err(_)), _) | (Some(Ok(_)), None) => Ordering::Less,
                (Some(Ok(part)), Some((place, _))) => part.place().cmp(place),
            };
            if order.is_lt() {
                return self.base.next();
            }
            if order.is_eq() {
                self.base.next();
            }
            if let Some(part) = self.changed.next().and_then(|(_, part)| part) {
                return Some(Ok(part));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::StateCheck;
    use crate::example::example;
    use crate::state::State;

    fn applied(log: &[Sealed]) -> State {
        let mut state = State::default();
        for sealed in log {
            state.apply(sealed, sealed.extend(state.head().position.hash));
        }
        state
    }

    fn changes_of(base: &State, log: &[Sealed]) -> Changes {
        let mut changes = Changes::of(base.head(), base.sessions().clone());
        for sealed in log {
            changes.apply(sealed, sealed.extend(changes.position().hash)).expect("it follows");
        }
        changes
    }

    #[test]
    fn a_state_merged_with_its_changes_is_the_state_that_the_whole_log_gives() {
        for seed in 0..30 {
            let (_, log) = example(seed);
            for (from, to) in [(0, 0), (0, 400), (1, 2), (57, 300), (200, 201), (399, 400), (100, 100)] {
                let (base, whole) = (applied(&log[..from]), applied(&log[..to]));
                let changes = changes_of(&base, &log[from..to]);
                let head = whole.head();
                assert_eq!((changes.position(), changes.epoch()), (head.position, head.epoch));
                assert_eq!(changes.version(), head.version);
                let merged: Result<Vec<Part>, ()> = changes.merged(base.parts().map(Ok)).collect();
                let merged = merged.expect("nothing fails");
                assert!(whole.parts().eq(merged.iter().cloned()), "seed {seed}, {from} to {to}");
                let mut check = StateCheck::new(head);
                merged.iter().for_each(|part| check.take(part).expect("in order"));
                assert_eq!(check.finish().as_ref(), Ok(whole.sessions()));
            }
        }
    }

    #[test]
    fn what_can_not_be_read_of_the_base_comes_out_of_the_merge() {
        let (_, log) = example(3);
        let base = applied(&log[..200]);
        let count = base.parts().count();
        for fails_at in 0..count {
            let parts = base.parts().enumerate().map(|(at, part)| if at == fails_at { Err(at) } else { Ok(part) });
            let merged: Result<Vec<Part>, usize> = changes_of(&base, &log[200..]).merged(parts).collect();
            assert_eq!(merged, Err(fails_at));
        }
    }

    #[test]
    fn entries_that_do_not_follow_are_refused_and_never_a_panic() {
        let (_, log) = example(5);
        let base = applied(&log[..200]);
        for skipped in 200..399 {
            let mut changes = changes_of(&base, &log[200..skipped]);
            let hash = ChainHash(1);
            assert_eq!(changes.apply(&log[skipped + 1], hash), Err("an entry out of order"));
            // In its place, and of a later version or about a session that the one before it opened or removed.
            let mut moved = log[skipped + 1].entry().clone();
            moved.index = changes.position().index.next();
            let _ = changes.apply(&Sealed::new(moved.clone()), hash);
            let mut again = changes_of(&base, &log[200..=skipped]);
            moved.index = again.position().index.next();
            moved.version = moved.version.next();
            assert!(again.apply(&Sealed::new(moved), hash).is_err());
        }
    }

    #[test]
    fn the_memory_that_changes_take_is_counted() {
        let (_, log) = example(9);
        let changes = changes_of(&State::default(), &log);
        let keys = changes
            .keys
            .iter()
            .map(|(key, stored)| CHANGE_BYTES + key.len() + stored.as_ref().map_or(0, |stored| stored.value.len()));
        let appended = changes.appended.keys().map(|prefix| CHANGE_BYTES + prefix.len());
        assert_eq!(changes.bytes(), keys.chain(appended).sum::<usize>());
    }
}
