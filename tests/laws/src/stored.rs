//! A store of a story or a world: what a data directory holds, as a value.

use heirloom_backup::{Durable, State};
use heirloom_proto::{LogIndex, Position, Sealed};

/// The log of a store, as a disk keeps it.
pub trait Stored {
    /// Where the log ends.
    fn end(&self) -> LogIndex;
    /// The prefix of this length; `None` where less is stored, or that is forgotten.
    fn position_at(&self, index: LogIndex) -> Option<Position>;
    /// Ends the log with `keep`.
    fn cut(&mut self, keep: LogIndex);
    /// A snapshot is stored in place of the log up to `index`.
    fn snapshot(&mut self, index: LogIndex);
    /// A snapshot of another is stored in place of all that is there.
    fn install(&mut self, snapshot: State);
}

impl Stored for Durable {
    fn end(&self) -> LogIndex {
        LogIndex(self.base.index().0 + self.log.len() as u64)
    }

    fn position_at(&self, index: LogIndex) -> Option<Position> {
        position_at(&self.base, &self.log, index)
    }

    fn cut(&mut self, keep: LogIndex) {
        self.log.truncate(length(&self.base, keep));
    }

    fn snapshot(&mut self, index: LogIndex) {
        self.base = state_at(&self.base, &self.log, index);
        self.log.retain(|sealed| sealed.index() > index);
        self.commit = self.commit.max(index);
    }

    fn install(&mut self, snapshot: State) {
        self.commit = snapshot.index();
        (self.base, self.log) = (snapshot, Vec::new());
    }
}

/// How many entries of a log behind a base reach up to an index.
///
/// **Panics if** that is below the base.
pub fn length(base: &State, index: LogIndex) -> usize {
    usize::try_from(index.0 - base.index().0).expect("a log of a world is short")
}

/// The prefix of this length; `None` where less is there, or that is forgotten.
pub fn position_at(base: &State, log: &[Sealed], index: LogIndex) -> Option<Position> {
    let prefix = log.get(..usize::try_from(index.0.checked_sub(base.index().0)?).ok()?)?;
    Some(Position { index, hash: prefix.iter().fold(base.head().position.hash, |hash, entry| entry.extend(hash)) })
}

/// The state that a log gives up to an index, as whoever makes a snapshot from files computes it.
pub fn state_at(base: &State, log: &[Sealed], index: LogIndex) -> State {
    let mut state = base.clone();
    for sealed in &log[..length(base, index)] {
        state.apply(sealed, sealed.extend(state.head().position.hash));
    }
    state
}
