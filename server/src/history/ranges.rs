//! Who watches a key: an index of ranges by the keys that lie in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use heirloom_proto::KeyRange;

/// The ranges of watchers, ordered so that a key costs what it concerns, and not what there is.
///
/// A key is looked up once among the watchers of one key, once for each length that the prefixes watched have, and then
/// **each** range that is neither a key nor a prefix is tested by itself: a thousand of those cost every key a thousand
/// comparisons. Maps in order rather than hashed, so that long keys cost no more than the bytes that tell them apart.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    keys: BTreeMap<Bytes, Ids>,
    /// By the length of the prefix; the empty one, with which all keys begin, is one too.
    prefixes: BTreeMap<usize, BTreeMap<Bytes, Ids>>,
    others: BTreeMap<u64, Arc<KeyRange>>,
}

type Ids = BTreeSet<u64>;

/// What was found for a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) ids: Vec<u64>,
    /// How many were looked up, tested or found.
    pub(super) looks: usize,
    /// Whether these are all.
    pub(super) is_all: bool,
}

enum Shape {
    Key,
    Prefix,
    Other,
}

fn shape(range: &KeyRange) -> Shape {
    let is_key = range.end.as_ref().and_then(|end| end.strip_suffix(b"\0")).is_some_and(|key| key == range.start);
    if is_key {
        Shape::Key
    } else if *range == KeyRange::of_prefix(range.start.clone()) {
        Shape::Prefix
    } else {
        Shape::Other
    }
}

/// Whether this range is tested for every key.
pub(super) fn is_tested(range: &KeyRange) -> bool {
    matches!(shape(range), Shape::Other)
}

impl Ranges {
    pub(super) fn insert(&mut self, id: u64, range: &Arc<KeyRange>) {
        let start = range.start.clone();
        let is_new = match shape(range) {
            Shape::Key => self.keys.entry(start).or_default().insert(id),
            Shape::Prefix => self.prefixes.entry(start.len()).or_default().entry(start).or_default().insert(id),
            Shape::Other => self.others.insert(id, range.clone()).is_none(),
        };
        assert!(is_new, "a watcher has one range");
    }

    /// Removes what was inserted.
    pub(super) fn remove(&mut self, id: u64, range: &KeyRange) {
        let was_there = match shape(range) {
            Shape::Key => remove(&mut self.keys, &range.start, id),
            Shape::Prefix => {
                let length = range.start.len();
                let of_length = self.prefixes.get_mut(&length);
                let was_there = of_length.is_some_and(|prefixes| remove(prefixes, &range.start, id));
                self.forget_where_empty(length);
                was_there
            }
            Shape::Other => self.others.remove(&id).is_some(),
        };
        assert!(was_there, "whoever is removed was there");
    }

    /// Removes those in whose range the key lies, so many at most.
    pub(super) fn take(&mut self, key: &[u8], count_max: usize) -> Found {
        let mut found = Found { is_all: true, ..Found::default() };
        found.take(&mut self.keys, key, count_max);
        let lengths: Vec<usize> = self.prefixes.range(..=key.len()).map(|(length, _)| *length).collect();
        for length in lengths {
            let of_length = self.prefixes.get_mut(&length).expect("just seen");
            found.take(of_length, &key[..length], count_max);
            self.forget_where_empty(length);
        }
        found.looks += self.others.len();
        for (id, _) in self.others.iter().filter(|(_, range)| range.contains(key)) {
            if found.ids.len() == count_max {
                found.is_all = false;
                break;
            }
            found.ids.push(*id);
        }
        // Only now, for a map is not changed while it is looked through; none but these are in both.
        found.ids.iter().for_each(|id| drop(self.others.remove(id)));
        found.looks += found.ids.len();
        found
    }

    fn forget_where_empty(&mut self, length: usize) {
        if self.prefixes.get(&length).is_some_and(BTreeMap::is_empty) {
            self.prefixes.remove(&length);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty() && self.others.is_empty()
    }
}

impl Found {
    /// Takes those under this start, as far as there is room.
    fn take(&mut self, ids_by_start: &mut BTreeMap<Bytes, Ids>, start: &[u8], count_max: usize) {
        self.looks += 1;
        let Some(ids) = ids_by_start.get_mut(start) else { return };
        while self.ids.len() < count_max
            && let Some(id) = ids.pop_first()
        {
            self.ids.push(id);
        }
        if ids.is_empty() {
            ids_by_start.remove(start);
        } else {
            self.is_all = false;
        }
    }
}

/// Whether it was there.
fn remove(ids_by_start: &mut BTreeMap<Bytes, Ids>, start: &[u8], id: u64) -> bool {
    let Some(ids) = ids_by_start.get_mut(start) else { return false };
    let was_there = ids.remove(&id);
    if ids.is_empty() {
        ids_by_start.remove(start);
    }
    was_there
}

#[cfg(test)]
mod tests {
    use super::super::examples::{key, prefix, range};
    use super::*;

    fn ranges(all: &[KeyRange]) -> Ranges {
        let mut ranges = Ranges::default();
        for (id, range) in (0..).zip(all) {
            ranges.insert(id, &Arc::new(range.clone()));
        }
        ranges
    }

    #[test]
    fn those_are_found_in_whose_range_the_key_lies_and_they_are_gone_then() {
        let all = [key("ab"), prefix("a"), prefix(""), range("aa", "ac"), key("a"), prefix("abc"), range("ab\0", "b")];
        let mut ranges = ranges(&all);
        for text in ["ab", "a", "abc", "abcd", "b", "\u{7f}"] {
            let wanted: Vec<u64> =
                (0..).zip(&all).filter(|(_, it)| it.contains(text.as_bytes())).map(|it| it.0).collect();
            let mut found = ranges.take(text.as_bytes(), usize::MAX);
            found.ids.sort_unstable();
            assert_eq!((found.ids, found.is_all), (wanted.clone(), true), "{text}");
            assert_eq!(ranges.take(text.as_bytes(), usize::MAX).ids, [], "{text}");
            wanted.iter().for_each(|id| ranges.insert(*id, &Arc::new(all[usize::try_from(*id).expect("few")].clone())));
        }
        (0..).zip(&all).for_each(|(id, range)| ranges.remove(id, range));
        assert!(ranges.is_empty(), "{ranges:?}");
    }

    #[test]
    fn a_few_are_found_at_a_time_and_each_once() {
        let mut ranges = ranges(&[key("k"), key("k"), prefix("k"), prefix(""), range("a", "z"), range("b", "z")]);
        let mut seen = Vec::new();
        for slice in 0..3 {
            let found = ranges.take(b"k", 2);
            assert_eq!((found.ids.len(), found.is_all), (2, slice == 2));
            seen.extend(found.ids);
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
        assert!(ranges.is_empty(), "{ranges:?}");
    }

    #[test]
    fn a_key_costs_what_it_concerns_and_each_range_that_is_no_prefix() {
        let mut ranges = Ranges::default();
        for id in 0..5_000 {
            ranges.insert(2 * id, &Arc::new(key(format!("key/{id}"))));
            ranges.insert(2 * id + 1, &Arc::new(prefix(format!("prefix/{id:04}/"))));
        }
        assert_eq!(
            ranges.take(b"none", usize::MAX),
            Found { ids: vec![], looks: 1, is_all: true },
            "too short for any"
        );
        let found = ranges.take(b"prefix/0007/key", usize::MAX);
        assert_eq!(found, Found { ids: vec![15], looks: 3, is_all: true });
        assert_eq!(ranges.take(b"key/4999/longer than any prefix", usize::MAX).looks, 2);
        (20_000..20_010).for_each(|id| ranges.insert(id, &Arc::new(range("x", "z"))));
        assert_eq!(ranges.take(b"key/7", usize::MAX), Found { ids: vec![14], looks: 12, is_all: true });
    }
}
