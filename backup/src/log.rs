//! The log in memory, with its chain of hashes. What of it is durable is the replica's to know.

use heirloom_proto::limits::LOG_KEPT_BYTES_MAX;
use heirloom_proto::message::EpochEnd;
use heirloom_proto::{ChainHash, Epoch, LogIndex, Position, Sealed};

/// The entries behind a base, which a state stands for.
///
/// **Invariants**
/// - Entry `base + i` stands at position `i - 1`, and `hashes[i - 1]` is the chain hash of the log that ends with it.
/// - Epochs never fall along the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    base: Position,
    /// Of the entry at the base.
    base_epoch: Epoch,
    entries: Vec<Sealed>,
    hashes: Vec<ChainHash>,
}

impl Default for Log {
    fn default() -> Self {
        Self::after(Position::START, Epoch::NONE)
    }
}

impl Log {
    /// The log that goes on from a position; the entry there is of this epoch.
    pub fn after(base: Position, base_epoch: Epoch) -> Self {
        Self { base, base_epoch, entries: Vec::new(), hashes: Vec::new() }
    }

    /// Everything up to here is no longer kept.
    pub fn base(&self) -> LogIndex {
        self.base.index
    }

    /// The last index; zero where the log is empty.
    pub fn end(&self) -> LogIndex {
        LogIndex(self.base.index.0 + self.entries.len() as u64)
    }

    /// The position of the whole log.
    pub fn end_position(&self) -> Position {
        self.position_at(self.end()).expect("the end is in the log")
    }

    /// The position at `index`; `None` beyond the end and below the base.
    pub fn position_at(&self, index: LogIndex) -> Option<Position> {
        if index == self.base.index {
            return Some(self.base);
        }
        let hash = *self.hashes.get(self.slot(index)?)?;
        Some(Position { index, hash })
    }

    /// The epoch of the entry at `index`; `None` where it is not known.
    pub fn epoch_at(&self, index: LogIndex) -> Option<Epoch> {
        if index == self.base.index {
            return Some(self.base_epoch);
        }
        self.entry(index).map(|sealed| sealed.entry().epoch)
    }

    /// The entry at `index`; `None` where there is none.
    pub fn entry(&self, index: LogIndex) -> Option<&Sealed> {
        self.entries.get(self.slot(index)?)
    }

    /// The entries from `first` on; none where that is not kept.
    pub fn from(&self, first: LogIndex) -> &[Sealed] {
        self.slot(first).and_then(|slot| self.entries.get(slot..)).unwrap_or(&[])
    }

    /// Puts an entry at the end.
    ///
    /// **Panics if** it does not follow: callers check what comes from outside.
    pub fn push(&mut self, entry: Sealed) {
        assert_eq!(entry.index(), self.end().next(), "entries are consecutive");
        let last = self.entries.last().map_or(self.base_epoch, |last| last.entry().epoch);
        assert!(last <= entry.entry().epoch, "epochs never fall along the log");
        let previous = self.hashes.last().copied().unwrap_or(self.base.hash);
        self.hashes.push(entry.extend(previous));
        self.entries.push(entry);
    }

    /// Ends the log with `keep`.
    pub fn cut(&mut self, keep: LogIndex) {
        let length = usize::try_from(keep.0 - self.base.index.0).expect("a log fits the memory");
        self.entries.truncate(length);
        self.hashes.truncate(length);
    }

    /// How long the entries from `first` to `last` are together. **Units:** bytes.
    pub fn bytes_of(&self, first: LogIndex, last: LogIndex) -> usize {
        let entries = self.from(first).iter().take_while(|sealed| sealed.index() <= last);
        entries.map(|sealed| sealed.bytes().len()).sum()
    }

    /// Forgets the entries up to `index`, which must be among them; some of the newest are kept all the same, this many and
    /// [`LOG_KEPT_BYTES_MAX`] of them at most: whoever is a little behind is sent those.
    pub fn forget(&mut self, index: LogIndex, entries_max: usize) {
        let Some(slot) = self.slot(index).filter(|slot| *slot < self.entries.len()) else { return };
        let mut bytes = 0;
        let fits = |sealed: &&Sealed| {
            bytes += sealed.bytes().len();
            bytes <= LOG_KEPT_BYTES_MAX
        };
        let kept = self.entries[..=slot].iter().rev().take(entries_max).take_while(fits).count();
        let count = slot + 1 - kept;
        if count > 0 {
            let last = LogIndex(self.base.index.0 + count as u64);
            self.base_epoch = self.epoch_at(last).expect("among the entries");
            self.base = self.position_at(last).expect("among the entries");
            self.entries.drain(..count);
            self.hashes.drain(..count);
        }
    }

    /// The last entry of each epoch that has entries above `above`, in order; at most `most`, the highest ones.
    ///
    /// **Panics if** `above` is below the base.
    pub fn epoch_ends(&self, above: LogIndex, most: usize) -> Vec<EpochEnd> {
        assert!(above >= self.base.index, "entries up to {} are not kept", self.base.index);
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

    /// The first index that is kept whose epoch is `epoch` or higher; the one behind the end where there is none.
    fn first_at_or_above(&self, epoch: Epoch) -> LogIndex {
        let below = self.entries.partition_point(|sealed| sealed.entry().epoch < epoch) as u64;
        LogIndex(self.base.index.0 + below + 1)
    }

    /// The last index of an entry of exactly `epoch`, as far as that is known.
    pub fn last_of(&self, epoch: Epoch) -> Option<LogIndex> {
        let up_to = self.entries.partition_point(|sealed| sealed.entry().epoch <= epoch) as u64;
        let last = LogIndex(self.base.index.0 + up_to);
        (self.epoch_at(last) == Some(epoch)).then_some(last)
    }

    /// Whether the log holds the marker of `epoch`, or held it before it was forgotten.
    pub fn has_marker(&self, epoch: Epoch) -> bool {
        if self.base_epoch == epoch {
            return true;
        }
        let first = self.first_at_or_above(epoch);
        self.entry(first).is_some_and(|sealed| {
            let entry = sealed.entry();
            entry.epoch == epoch && entry.effects.is_empty() && entry.origin.is_none()
        })
    }

    fn slot(&self, index: LogIndex) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.base.index.0 + 1)?).ok()
    }
}
