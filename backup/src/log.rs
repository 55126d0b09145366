//! The log in memory, with its chain of hashes. What of it is durable is the replica's to know.

use heirloom_proto::message::EpochEnd;
use heirloom_proto::{ChainHash, Epoch, LogIndex, Position, Sealed};

/// The entries from the first on.
///
/// **Invariants**
/// - Entry `i` stands at position `i - 1`, and `hashes[i - 1]` is the chain hash of the log that ends with it.
/// - Epochs never fall along the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Log {
    entries: Vec<Sealed>,
    hashes: Vec<ChainHash>,
}

impl Log {
    /// The last index; zero where the log is empty.
    pub fn end(&self) -> LogIndex {
        LogIndex(self.entries.len() as u64)
    }

    /// The position of the whole log.
    pub fn end_position(&self) -> Position {
        self.position_at(self.end()).expect("the end is in the log")
    }

    /// The position at `index`; `None` beyond the end.
    pub fn position_at(&self, index: LogIndex) -> Option<Position> {
        if index == LogIndex::ZERO {
            return Some(Position::START);
        }
        let hash = *self.hashes.get(slot(index)?)?;
        Some(Position { index, hash })
    }

    /// The entry at `index`; `None` where there is none.
    pub fn entry(&self, index: LogIndex) -> Option<&Sealed> {
        self.entries.get(slot(index)?)
    }

    /// The entries from `first` on.
    pub fn from(&self, first: LogIndex) -> &[Sealed] {
        slot(first).and_then(|slot| self.entries.get(slot..)).unwrap_or(&[])
    }

    /// Puts an entry at the end.
    ///
    /// **Panics if** it does not follow: callers check what comes from outside.
    pub fn push(&mut self, entry: Sealed) {
        assert_eq!(entry.index(), self.end().next(), "entries are consecutive");
        if let Some(last) = self.entries.last() {
            assert!(last.entry().epoch <= entry.entry().epoch, "epochs never fall along the log");
        }
        let previous = self.hashes.last().copied().unwrap_or(ChainHash::EMPTY);
        self.hashes.push(entry.extend(previous));
        self.entries.push(entry);
    }

    /// Ends the log with `keep`.
    pub fn cut(&mut self, keep: LogIndex) {
        let length = usize::try_from(keep.0).expect("a log fits the memory");
        self.entries.truncate(length);
        self.hashes.truncate(length);
    }

    /// The last entry of each epoch that has entries above `above`, in order; at most `most`, the highest ones.
    pub fn epoch_ends(&self, above: LogIndex, most: usize) -> Vec<EpochEnd> {
        let mut ends: Vec<EpochEnd> = Vec::new();
        let mut index = self.end();
        while index > above && ends.len() < most {
            let epoch = self.entry(index).expect("in the log").entry().epoch;
            ends.push(EpochEnd { epoch, last: self.position_at(index).expect("in the log") });
            index = LogIndex(self.first_at_or_above(epoch).0 - 1);
        }
        ends.reverse();
        ends
    }

    /// The first index whose epoch is `epoch` or higher; the one behind the end where there is none.
    fn first_at_or_above(&self, epoch: Epoch) -> LogIndex {
        LogIndex(self.entries.partition_point(|sealed| sealed.entry().epoch < epoch) as u64 + 1)
    }

    /// The last index of an entry of exactly `epoch`.
    pub fn last_of(&self, epoch: Epoch) -> Option<LogIndex> {
        let last = LogIndex(self.entries.partition_point(|sealed| sealed.entry().epoch <= epoch) as u64);
        self.entry(last).filter(|sealed| sealed.entry().epoch == epoch).map(|_| last)
    }

    /// Whether the log holds the marker of `epoch`.
    pub fn has_marker(&self, epoch: Epoch) -> bool {
        let first = self.first_at_or_above(epoch);
        self.entry(first).is_some_and(|sealed| {
            let entry = sealed.entry();
            entry.epoch == epoch && entry.effects.is_empty() && entry.origin.is_none()
        })
    }
}

fn slot(index: LogIndex) -> Option<usize> {
    usize::try_from(index.0.checked_sub(1)?).ok()
}
