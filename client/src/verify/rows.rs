//! What several servers have under one key after the other: the merge, which knows no servers.

use std::collections::VecDeque;

use bytes::Bytes;
use heirloom_proto::Scanned;

/// Takes the lowest key off all queues, each of which is in the order of its keys; gives what each had under it, in the order
/// of the queues. `None` where all are empty.
///
/// A queue that is empty has nothing behind it either: whoever has more fills it before.
pub(super) fn take_lowest(queues: &mut [VecDeque<Scanned>]) -> Option<Vec<Option<Scanned>>> {
    let lowest: Bytes = queues.iter().filter_map(|queue| queue.front()).map(|entry| &entry.key).min()?.clone();
    let take = |queue: &mut VecDeque<Scanned>| match queue.front() {
        Some(entry) if entry.key == lowest => queue.pop_front(),
        Some(_) | None => None,
    };
    Some(queues.iter_mut().map(take).collect())
}

/// Whether all have the same: value, version and time of the last change, or nothing.
pub(super) fn are_equal(row: &[Option<Scanned>]) -> bool {
    row.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{Version, WallTime};

    use super::*;

    fn entry(key: &'static str, value: &'static str, version: u64, changed_at: u64) -> Scanned {
        Scanned { key: key.into(), value: value.into(), version: Version(version), changed_at: WallTime(changed_at) }
    }

    fn keys(keys: &[&'static str]) -> VecDeque<Scanned> {
        keys.iter().map(|key| entry(key, "v", 1, 1)).collect()
    }

    /// The keys in their order, each with whether all have it equal.
    fn merged(mut queues: Vec<VecDeque<Scanned>>) -> Vec<(String, bool)> {
        let mut rows = Vec::new();
        while let Some(row) = take_lowest(&mut queues) {
            let key = &row.iter().flatten().next().expect("somebody has the lowest key").key;
            rows.push((String::from_utf8(key.to_vec()).expect("text"), are_equal(&row)));
        }
        rows
    }

    fn differing(queues: Vec<VecDeque<Scanned>>) -> Vec<String> {
        merged(queues).into_iter().filter(|(_, equal)| !equal).map(|(key, _)| key).collect()
    }

    #[test]
    fn equal_queues_have_every_key_once_and_none_that_differs() {
        let same = || keys(&["a", "b", "c"]);
        let rows = merged(vec![same(), same(), same()]);
        assert_eq!(rows, ["a", "b", "c"].map(|key| (key.to_owned(), true)));
        assert_eq!(merged(vec![keys(&[]), keys(&[])]), []);
    }

    #[test]
    fn a_key_that_is_missing_at_either_end_or_in_the_midst_differs_alone() {
        let all = || keys(&["a", "b", "c"]);
        for missing in ["a", "b", "c"] {
            let rest = || all().into_iter().filter(|entry| entry.key != missing).collect::<VecDeque<_>>();
            assert_eq!(differing(vec![all(), rest()]), [missing]);
            assert_eq!(differing(vec![rest(), all()]), [missing]);
            assert_eq!(differing(vec![all(), all(), rest()]), [missing]);
            assert_eq!(differing(vec![rest(), all(), rest()]), [missing]);
        }
        assert_eq!(differing(vec![all(), keys(&[])]), ["a", "b", "c"]);
        assert_eq!(differing(vec![keys(&["a"]), keys(&["b"])]), ["a", "b"]);
    }

    #[test]
    fn value_version_and_time_are_compared_each() {
        let one = || VecDeque::from([entry("a", "v", 1, 1), entry("k", "v", 2, 2), entry("z", "v", 1, 1)]);
        for other in [entry("k", "w", 2, 2), entry("k", "v", 3, 2), entry("k", "v", 2, 3)] {
            let mut changed = one();
            changed[1] = other;
            assert_eq!(differing(vec![one(), changed.clone()]), ["k"], "{changed:?}");
            assert_eq!(differing(vec![one(), one(), changed.clone(), one()]), ["k"], "{changed:?}");
        }
    }

    #[test]
    fn a_row_says_what_each_has_in_the_order_of_the_servers() {
        let mut queues = [keys(&["b"]), VecDeque::from([entry("a", "w", 3, 3)]), keys(&["a", "b"])];
        let row = take_lowest(&mut queues).expect("there are keys");
        assert_eq!(row, [None, Some(entry("a", "w", 3, 3)), Some(entry("a", "v", 1, 1))]);
        assert_eq!(queues.each_ref().map(VecDeque::len), [1, 0, 1]);
    }
}
