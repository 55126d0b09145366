//! What keys had before their last changes, as far back as it is kept: so that a range can be read as it was at an older
//! version, and the pages of a scan are all of one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::iter::Peekable;

use bytes::Bytes;
use heirloom_proto::limits::{PAST_BYTES_MAX, PAST_RECORD_BYTES};
use heirloom_proto::{KeyRange, Mutant, Version, planted};

use crate::dictionary::Stored;

/// What a key had until a change replaced or removed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Superseded {
    /// The version of that change.
    by: Version,
    stored: Stored,
}

/// What keys had before. A key that had nothing has no record of that: what it has now says when it came to be.
///
/// The entries that were applied determine it: copies that began with the same state keep the same.
///
/// **Invariants**
/// - The records of a key are in the order of the changes, and so is `queue`, which names each record once.
/// - Of every change above `oldest` that replaced or removed something there is a record, and of no other.
/// - No more than [`PAST_BYTES_MAX`] are kept, all counted by `bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Past {
    superseded: BTreeMap<Bytes, VecDeque<Superseded>>,
    queue: VecDeque<(Version, Bytes)>,
    bytes: usize,
    oldest: Version,
}

impl Past {
    /// The lowest version of which all is known.
    pub(crate) fn oldest(&self) -> Version {
        self.oldest
    }

    /// Begins where nothing earlier than this version is known.
    pub(crate) fn begin_at(&mut self, version: Version) {
        assert!(self.queue.is_empty(), "nothing is kept yet");
        self.oldest = version;
    }

    /// Keeps what a key had until the change of this version, and forgets the oldest where that becomes too much.
    pub(crate) fn keep(&mut self, key: &Bytes, stored: Stored, by: Version) {
        if planted(Mutant::PastForgotten) {
            return;
        }
        self.bytes += record_bytes(key, &stored);
        // A handle of its own: one that is shared with the dictionary would make each key there larger for good.
        let key = Bytes::copy_from_slice(key);
        self.queue.push_back((by, key.clone()));
        self.superseded.entry(key).or_insert_with(|| VecDeque::with_capacity(1)).push_back(Superseded { by, stored });
        while self.bytes > PAST_BYTES_MAX {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let (by, key) = self.queue.pop_front().expect("what has bytes is in the queue");
        let of_key = self.superseded.get_mut(&key).expect("what is in the queue is kept");
        let record = of_key.pop_front().expect("a key without records is not kept");
        assert_eq!(record.by, by, "the oldest record of its key is the oldest of all");
        self.bytes -= record_bytes(&key, &record.stored);
        if of_key.is_empty() {
            self.superseded.remove(&key);
        }
        self.oldest = by;
    }
}

fn record_bytes(key: &Bytes, stored: &Stored) -> usize {
    PAST_RECORD_BYTES + key.len() + stored.value.len()
}

/// The keys of a range with what they had at a version, in the order of the keys: all keys that have a value or had one as
/// far back as is kept, so that whoever asks for few of many knows how many were looked at.
pub(crate) struct AsOf<'a> {
    version: Version,
    present: Peekable<btree_map::Range<'a, Bytes, Stored>>,
    past: Peekable<btree_map::Range<'a, Bytes, VecDeque<Superseded>>>,
}

impl<'a> AsOf<'a> {
    /// Of these present keys and of this past, which must go back so far; `None` where the range is empty.
    pub(crate) fn new(
        present: &'a BTreeMap<Bytes, Stored>,
        past: &'a Past,
        range: &KeyRange,
        version: Version,
    ) -> Option<Self> {
        let bounds = range.bounds()?;
        Some(Self {
            version,
            present: present.range::<[u8], _>(bounds).peekable(),
            past: past.superseded.range::<[u8], _>(bounds).peekable(),
        })
    }
}

impl<'a> Iterator for AsOf<'a> {
    /// What the key had; `None` where it had nothing.
    type Item = (&'a Bytes, Option<&'a Stored>);

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.present.peek(), self.past.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((present, _)), Some((past, _))) => present.cmp(past),
        };
        let present = if order.is_le() { self.present.next() } else { None };
        let past = if order.is_ge() { self.past.next() } else { None };
        // What the first change after the version replaced; where there was none, what is there now.
        let replaced = past.and_then(|(_, records)| {
            let first = records.partition_point(|record| record.by <= self.version);
            records.get(first).map(|record| &record.stored)
        });
        let key = present.map(|(key, _)| key).or(past.map(|(key, _)| key)).expect("one of them is there");
        let stored = replaced.or(present.map(|(_, stored)| stored));
        // Either may have come to be after the version, and then there was nothing.
        Some((key, stored.filter(|stored| stored.version <= self.version)))
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{Digest, WallTime};

    use super::*;
    use crate::dictionary::Dictionary;

    /// Equal seeds, equal numbers.
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ mixed >> 31) % bound
        }
    }

    type Naive = BTreeMap<Bytes, Stored>;

    fn key(number: u64) -> Bytes {
        Bytes::from(format!("{number:02}"))
    }

    fn as_it_was(dictionary: &Dictionary, range: &KeyRange, version: Version) -> Naive {
        let found = dictionary.as_of(range, version).expect("it is kept");
        found.filter_map(|(key, stored)| Some((key.clone(), stored?.clone()))).collect()
    }

    /// A dictionary that was changed at random, by one key or by several at a version, and what it was at each version.
    fn changed(seed: u64, changes: u64, keys: u64, value_bytes: usize) -> (Dictionary, Vec<Naive>) {
        let (mut draw, mut digest) = (Draw(seed), Digest::default());
        let (mut dictionary, mut naive) = (Dictionary::default(), vec![Naive::new()]);
        for version in (1..=changes).map(Version) {
            dictionary.advance(version);
            let mut now = naive.last().expect("the first is there").clone();
            let first = draw.below(keys);
            for key in (first..keys.min(first + 1 + draw.below(3))).map(key) {
                if draw.below(3) == 0 {
                    if now.remove(&key).is_some() {
                        dictionary.remove(&key, &mut digest);
                    }
                } else {
                    let value = Bytes::from(vec![draw.below(256).to_le_bytes()[0]; value_bytes]);
                    dictionary.put(&key, &value, WallTime(version.0), &mut digest);
                    now.insert(key, Stored { value, version, changed_at: WallTime(version.0) });
                }
            }
            naive.push(now);
        }
        (dictionary, naive)
    }

    #[test]
    fn a_range_is_at_every_version_what_it_was_then() {
        for seed in 0..20 {
            let (dictionary, naive) = changed(seed, 300, 12, 3);
            assert_eq!(dictionary.oldest(), Version(0));
            for (version, then) in (0..).map(Version).zip(&naive) {
                assert_eq!(as_it_was(&dictionary, &KeyRange::default(), version), *then, "seed {seed}, {version}");
                let range = KeyRange { start: key(version.0 % 5), end: Some(key(version.0 % 9)) };
                let within = then.iter().filter(|(key, _)| range.contains(key));
                let within: Naive = within.map(|(key, stored)| (key.clone(), stored.clone())).collect();
                assert_eq!(as_it_was(&dictionary, &range, version), within, "seed {seed}, {version}, {range:?}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_says_truly_how_far_back_it_goes() {
        let value_bytes = PAST_BYTES_MAX / 40;
        let (dictionary, naive) = changed(7, 200, 12, value_bytes);
        let oldest = dictionary.oldest();
        assert!(oldest > Version(100), "{oldest}");
        for (version, then) in (0..).map(Version).zip(&naive) {
            match dictionary.as_of(&KeyRange::default(), version) {
                Ok(found) => {
                    assert!(version >= oldest);
                    assert!(found.filter_map(|(key, stored)| Some((key, stored?))).eq(then.iter()), "at {version}");
                }
                Err(refusal) => {
                    assert!(version < oldest);
                    assert_eq!(refusal, heirloom_proto::Refusal::VersionTooOld { oldest });
                }
            }
        }
        let past = dictionary.past();
        let records =
            || past.superseded.iter().flat_map(|(key, records)| records.iter().map(move |record| (key, record)));
        assert_eq!(past.bytes, records().map(|(key, record)| record_bytes(key, &record.stored)).sum::<usize>());
        assert!(past.bytes <= PAST_BYTES_MAX && past.bytes > PAST_BYTES_MAX / 2, "{}", past.bytes);
        assert_eq!(past.queue.len(), records().count());
    }
}
