//! The newest committed changes, in the order of their versions.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;

use heirloom_proto::entry::{Effect, Entry};
use heirloom_proto::limits::{KEY_BYTES_MAX, SET_COUNT_MAX, VALUE_BYTES_MAX_MAX};
use heirloom_proto::{Sealed, Version};

/// How much is kept at most, keys, values and what it takes to keep them. **Units:** bytes.
///
/// It is what a watcher may fall behind before it is cut off, and for how long a client may look for another server: at
/// full load, 30,000 changes a second of 128 bytes each, some three seconds, which is more than a failover takes; at a
/// tenth of that half a minute. It is taken once for all watchers, however many there are. As long as the whole log is in
/// memory as well, the entries are shared with it and cost next to nothing more.
pub(crate) const RING_BYTES_MAX: usize = 32 << 20;
/// What it takes to keep one entry beside its encoding: the entry as a value, its place here, and the allocator's share.
const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<Sealed>() + 64;

// The newest change set is always kept, so it must fit.
const _: () = assert!(
    SET_COUNT_MAX * (KEY_BYTES_MAX + 16 + size_of::<Effect>()) + VALUE_BYTES_MAX_MAX + ENTRY_BYTES < RING_BYTES_MAX
);

/// The newest committed changes.
///
/// **Invariants:** versions are consecutive, and the last is `newest`; nothing is kept where that was not fed.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Sealed>,
    newest: Version,
    bytes: usize,
    bytes_max: usize,
}

/// What was asked for is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooOld {
    /// The lowest version to watch from.
    pub(super) oldest: Version,
}

impl Ring {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), newest: Version(0), bytes: 0, bytes_max }
    }

    /// Forgets all, and begins with as many of these applied entries as fit, which lead to `version`.
    pub(super) fn begin(&mut self, applied: &[Sealed], version: Version) {
        let mut bytes = 0;
        let fitting = applied.iter().rev().take_while(|sealed| {
            bytes += size(sealed);
            bytes <= self.bytes_max
        });
        let kept = &applied[applied.len() - fitting.count()..];
        let before = |first: &Sealed| Version(first.entry().version.0 - u64::from(first.entry().changes_keys()));
        self.forget(kept.first().map_or(version, before));
        self.feed(kept, version);
    }

    /// Takes entries that were applied since, which lead to `version`. What is known is passed over; where one is missing,
    /// because this copy was given a state instead of entries, all before is forgotten.
    pub(super) fn feed(&mut self, applied: &[Sealed], version: Version) {
        for sealed in applied {
            let entry = sealed.entry();
            if !entry.changes_keys() || entry.version <= self.newest {
                continue;
            }
            if entry.version != self.newest.next() {
                self.forget(Version(entry.version.0 - 1));
            }
            self.newest = entry.version;
            self.bytes += size(sealed);
            self.entries.push_back(sealed.clone());
            while self.bytes > self.bytes_max
                && let Some(oldest) = self.entries.pop_front()
            {
                self.bytes -= size(&oldest);
            }
        }
        if self.newest != version {
            self.forget(version);
        }
    }

    fn forget(&mut self, newest: Version) {
        self.entries.clear();
        self.bytes = 0;
        self.newest = newest;
    }

    /// The newest committed version.
    pub(super) fn newest(&self) -> Version {
        self.newest
    }

    /// The lowest version to watch from: the oldest one kept, or the next one where none is.
    pub(super) fn oldest(&self) -> Version {
        Version(self.newest.0 - self.entries.len() as u64).next()
    }

    /// The entries behind `version`; none where that is still to come.
    ///
    /// **Errors:** [`TooOld`] where the first of them is no longer kept.
    pub(super) fn after(&self, version: Version) -> Result<Iter<'_, Sealed>, TooOld> {
        let oldest = self.oldest();
        if version.next() < oldest {
            return Err(TooOld { oldest });
        }
        let passed = usize::try_from(version.next().0 - oldest.0).unwrap_or(usize::MAX);
        Ok(self.entries.range(passed.min(self.entries.len())..))
    }
}

/// What it takes to keep an entry; nothing where it is not kept.
pub(super) fn size(sealed: &Sealed) -> usize {
    let entry = sealed.entry();
    if entry.changes_keys() {
        sealed.bytes().len() + entry.effects.len() * size_of::<Effect>() + ENTRY_BYTES
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{marker, put, puts};
    use super::*;

    fn versions(ring: &Ring, after: u64) -> Result<Vec<u64>, TooOld> {
        Ok(ring.after(Version(after))?.map(|sealed| sealed.entry().version.0).collect())
    }

    #[test]
    fn what_follows_a_version_is_given_in_order_and_markers_are_left_out() {
        let mut ring = Ring::new(RING_BYTES_MAX);
        ring.feed(&[put(1, "a"), marker(1), put(2, "b"), put(3, "a")], Version(3));
        assert_eq!(versions(&ring, 0), Ok(vec![1, 2, 3]));
        assert_eq!(versions(&ring, 2), Ok(vec![3]));
        assert_eq!(versions(&ring, 3), Ok(vec![]));
        assert_eq!(versions(&ring, 9), Ok(vec![]), "still to come");
    }

    #[test]
    fn it_is_bounded_in_bytes_and_names_the_oldest_that_it_keeps() {
        let three = 3 * size(&put(1, "a"));
        let mut ring = Ring::new(three);
        ring.feed(&puts(1..=10), Version(10));
        assert_eq!(versions(&ring, 7), Ok(vec![8, 9, 10]));
        assert_eq!(versions(&ring, 6), Err(TooOld { oldest: Version(8) }));
        assert!(ring.bytes <= three);
    }

    #[test]
    fn what_is_known_is_passed_over_and_a_gap_begins_anew() {
        let mut ring = Ring::new(RING_BYTES_MAX);
        ring.feed(&puts(1..=3), Version(3));
        ring.feed(&puts(2..=4), Version(4));
        assert_eq!(versions(&ring, 0), Ok(vec![1, 2, 3, 4]));
        ring.feed(&puts(7..=8), Version(8));
        assert_eq!(versions(&ring, 6), Ok(vec![7, 8]));
        assert_eq!(versions(&ring, 4), Err(TooOld { oldest: Version(7) }));
        ring.feed(&[], Version(20));
        assert_eq!(versions(&ring, 20), Ok(vec![]));
        assert_eq!(versions(&ring, 19), Err(TooOld { oldest: Version(21) }));
    }

    #[test]
    fn a_life_begins_with_what_fits_of_the_log_and_knows_nothing_of_the_life_before() {
        let mut ring = Ring::new(3 * size(&put(1, "a")));
        ring.feed(&puts(1..=9), Version(9));
        let log: Vec<Sealed> = [puts(1..=5), vec![marker(5)]].concat();
        ring.begin(&log, Version(5));
        assert_eq!((ring.newest(), ring.oldest()), (Version(5), Version(3)));
        assert_eq!(versions(&ring, 2), Ok(vec![3, 4, 5]));
        ring.begin(&log[..1], Version(1));
        assert_eq!(versions(&ring, 0), Ok(vec![1]));
        ring.begin(&[], Version(0));
        assert_eq!((ring.newest(), ring.oldest()), (Version(0), Version(1)));
    }
}
