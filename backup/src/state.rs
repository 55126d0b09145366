//! The state that a log gives up to an index: keys, prefixes and sessions, with the log's position there.

use heirloom_proto::{ChainHash, Digest, Effect, Epoch, LogIndex, Position, Sealed, Version, WallTime};

use crate::check::StateCheck;
use crate::dictionary::Dictionary;
use crate::part::Part;
use crate::sessions::{Answered, Sessions};

/// What identifies a state: equal positions, equal heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateHead {
    /// Up to where the log is applied.
    pub position: Position,
    /// The epoch of the entry there.
    pub epoch: Epoch,
    /// The dictionary's version.
    pub version: Version,
    /// The digest of the whole state.
    pub digest: Digest,
}

impl StateHead {
    /// Of the state before the first entry.
    pub const START: Self =
        Self { position: Position::START, epoch: Epoch::NONE, version: Version(0), digest: Digest(0) };
}

impl Default for StateHead {
    fn default() -> Self {
        Self::START
    }
}

/// The state that the log gives up to an index.
///
/// **Invariants:** `head.digest` is the digest of all parts; `head.version` is the dictionary's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct State {
    head: StateHead,
    dictionary: Dictionary,
    sessions: Sessions,
}

impl State {
    /// What identifies it.
    pub fn head(&self) -> StateHead {
        self.head
    }

    /// Everything up to here is applied.
    pub fn index(&self) -> LogIndex {
        self.head.position.index
    }

    /// The keys.
    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// The session table.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Applies the next entry; `hash` is the chain hash of the log that ends with it.
    ///
    /// **Panics if** it does not follow: callers check what comes from outside.
    pub fn apply(&mut self, sealed: &Sealed, hash: ChainHash) {
        let entry = sealed.entry();
        assert_eq!(entry.index, self.index().next(), "entries are applied in order");
        let before = self.dictionary.version();
        let expected = if entry.changes_keys() { before.next() } else { before };
        assert_eq!(entry.version, expected, "the version counts the changes, at entry {}", entry.index);
        self.dictionary.advance(entry.version);
        for effect in &entry.effects {
            self.take_effect(effect, entry.index, entry.at);
        }
        if let Some(origin) = entry.origin {
            let answered = Answered { answer: entry.answer, version: entry.version };
            self.sessions.keep(origin, answered, entry.index, entry.at, &mut self.head.digest);
        }
        self.head.position = Position { index: entry.index, hash };
        self.head.epoch = entry.epoch;
        self.head.version = entry.version;
    }

    fn take_effect(&mut self, effect: &Effect, index: LogIndex, at: WallTime) {
        let digest = &mut self.head.digest;
        match effect {
            Effect::Put { key, value } => self.dictionary.put(key, value, at, digest),
            Effect::Remove { key } => self.dictionary.remove(key, digest),
            Effect::Count { prefix, number } => self.dictionary.count(prefix, *number, digest),
            Effect::OpenSession(session) => self.sessions.open(*session, index, at, digest),
            Effect::RemoveSession(session) => self.sessions.remove(*session, digest),
        }
    }

    /// All of it, part by part, in the order of their places.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        self.sessions.parts().chain(self.dictionary.parts())
    }
}

/// Puts a state together from its parts.
#[derive(Debug)]
pub struct StateBuilder {
    check: StateCheck,
    dictionary: Dictionary,
}

impl StateBuilder {
    /// Of the state with this head.
    pub fn new(head: StateHead) -> Self {
        let mut dictionary = Dictionary::default();
        dictionary.begin_at(head.version);
        Self { check: StateCheck::new(head), dictionary }
    }

    /// Takes the next part.
    ///
    /// **Errors:** half a sentence where it does not belong there.
    pub fn push(&mut self, part: Part) -> Result<(), &'static str> {
        self.check.take(&part)?;
        match part {
            // The check keeps them.
            Part::Session { .. } | Part::Answer { .. } => {}
            Part::Appended { prefix, number } => self.dictionary.put_appended(&prefix, number),
            Part::Key { key, stored } => self.dictionary.put_stored(&key, &stored),
        }
        Ok(())
    }

    /// The state.
    ///
    /// **Errors:** half a sentence where its parts do not have the digest of the head.
    pub fn finish(self) -> Result<State, &'static str> {
        let head = self.check.head();
        Ok(State { head, dictionary: self.dictionary, sessions: self.check.finish()? })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use heirloom_proto::codec::{Reader, Writer};

    use super::*;
    use crate::example::example;

    fn build(head: StateHead, parts: impl IntoIterator<Item = Part>) -> Result<State, &'static str> {
        let mut builder = StateBuilder::new(head);
        for part in parts {
            builder.push(part)?;
        }
        builder.finish()
    }

    #[test]
    fn a_state_is_what_its_parts_make_and_goes_on_as_the_one_that_it_was_taken_from() {
        let (whole, log) = example(7);
        for cut in [0, 1, 57, 200, 399, 400] {
            let mut state = State::default();
            for sealed in &log[..cut] {
                state.apply(sealed, sealed.extend(state.head().position.hash));
            }
            let mut encoded = Writer::new();
            state.parts().for_each(|part| part.write(&mut encoded));
            let mut reader = Reader::new(encoded.finish().into());
            let mut parts = Vec::new();
            while !reader.is_empty() {
                parts.push(Part::read(&mut reader).expect("well formed"));
            }
            let mut built = build(state.head(), parts).expect("whole");
            assert_eq!(built.head(), state.head());
            assert_eq!(built.sessions(), state.sessions());
            assert!(built.dictionary().iter().eq(state.dictionary().iter()));
            assert_eq!(built.dictionary().oldest(), state.head().version, "nothing before it is known");
            for sealed in &log[cut..] {
                built.apply(sealed, sealed.extend(built.head().position.hash));
            }
            assert_eq!(built.head(), whole.head(), "cut at {cut}");
            assert_eq!(built.sessions(), whole.sessions());
            assert!(built.parts().eq(whole.parts()));
        }
    }

    #[test]
    fn parts_that_are_missing_doubled_changed_or_out_of_order_are_refused() {
        let (state, _) = example(7);
        let parts: Vec<Part> = state.parts().collect();
        for place in 0..parts.len() {
            let mut fewer = parts.clone();
            fewer.remove(place);
            assert!(build(state.head(), fewer).is_err(), "without part {place}");
            let mut doubled = parts.clone();
            doubled.insert(place, parts[place].clone());
            assert_eq!(build(state.head(), doubled).expect_err("doubled"), "parts out of order");
        }
        let mut swapped = parts.clone();
        swapped.swap(0, 1);
        assert!(build(state.head(), swapped).is_err());
        let mut changed = parts;
        let Some(Part::Key { stored, .. }) = changed.last_mut() else { panic!("the last part is a key") };
        stored.value = Bytes::from_static(b"other");
        assert_eq!(
            build(state.head(), changed).expect_err("changed"),
            "a state with another digest than its head says"
        );
    }
}
