//! What a request may weigh at most.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::limits::{KEY_BYTES_MAX, SET_COUNT_MAX};
use crate::request::{APPEND_DIGITS, Change, Refusal, Request, Together};
use crate::scan::KeyRange;

impl Request {
    /// How many bytes of keys and values it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Change { change, .. } => match change {
                Change::Add { key, value } => key.len() + value.len(),
                Change::Delete { key } => key.len(),
                Change::Append { prefix, value } => prefix.len() + value.len(),
                Change::Together(set) => set.keys().map(|key| key.len() + 16).sum::<usize>() + set.value_bytes(),
            },
            Self::Read { key, .. } => key.len(),
            Self::Scan(scan) => scan.range.bytes(),
            Self::OpenSession | Self::CloseSession(_) | Self::Promote(_) | Self::Fence(_) => 0,
        }
    }

    /// Whether all of it is within bounds, with values of at most so many bytes.
    ///
    /// **Errors:** the refusal that names the bound.
    pub fn check_bounds(&self, value_bytes_max: usize) -> Result<(), Refusal> {
        let check_value = |bytes: usize| {
            if bytes > value_bytes_max { Err(Refusal::BadValue { bytes_max: value_bytes_max }) } else { Ok(()) }
        };
        match self {
            Self::Change { change, .. } => match change {
                Change::Add { key, value } => check_key(key).and_then(|()| check_value(value.len())),
                Change::Delete { key } => check_key(key),
                Change::Append { prefix, value } => {
                    let bytes_max = KEY_BYTES_MAX - APPEND_DIGITS;
                    if prefix.len() > bytes_max {
                        return Err(Refusal::BadKey { bytes_max });
                    }
                    check_value(value.len())
                }
                Change::Together(set) => {
                    if !set.is_well_made() {
                        return Err(Refusal::BadSet { count_max: SET_COUNT_MAX });
                    }
                    set.keys().try_for_each(|key| check_key(key)).and_then(|()| check_value(set.value_bytes()))
                }
            },
            Self::Read { key, .. } => check_key(key),
            Self::Scan(scan) => check_range(&scan.range),
            Self::OpenSession | Self::CloseSession(_) | Self::Promote(_) | Self::Fence(_) => Ok(()),
        }
    }
}

impl Together {
    /// Whether it changes something, no key twice, and has no more changes and conditions than it may.
    pub fn is_well_made(&self) -> bool {
        let changed: BTreeSet<&Bytes> = self.changes.iter().map(|change| &change.key).collect();
        changed.len() == self.changes.len()
            && (1..=SET_COUNT_MAX).contains(&self.changes.len())
            && self.conditions.len() <= SET_COUNT_MAX
    }

    /// All keys that it names.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.changes.iter().map(|change| &change.key).chain(self.conditions.iter().map(|condition| &condition.key))
    }

    /// The values of a set count as one, so that its entry is no larger than that of any other change, but for its keys.
    /// **Units:** bytes.
    pub fn value_bytes(&self) -> usize {
        self.changes.iter().map(|change| change.value.as_ref().map_or(0, Bytes::len)).sum()
    }
}

fn check_key(key: &[u8]) -> Result<(), Refusal> {
    let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
    if fits { Ok(()) } else { Err(Refusal::BadKey { bytes_max: KEY_BYTES_MAX }) }
}

/// Where a range begins and ends need not be a key: nothing is a beginning, and ends before it leave it empty.
fn check_range(range: &KeyRange) -> Result<(), Refusal> {
    if range.is_within_bounds() { Ok(()) } else { Err(Refusal::BadKey { bytes_max: KEY_BYTES_MAX }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Condition, Consistency, KeyChange};
    use crate::scan::{At, Scan};

    fn set(keys: &[&'static str], value_bytes: usize) -> Request {
        let value = Some(Bytes::from(vec![0; value_bytes]));
        let changes =
            keys.iter().map(|key| KeyChange { key: Bytes::from_static(key.as_bytes()), value: value.clone() });
        let conditions = vec![Condition { key: Bytes::from_static(b"other"), version: None }];
        let set = Together { conditions, changes: changes.collect() };
        Request::Change { id: None, change: Change::Together(Box::new(set)) }
    }

    #[test]
    fn a_set_changes_each_key_once_and_weighs_no_more_than_one_value() {
        assert_eq!(set(&["a", "b"], 5).check_bounds(10), Ok(()));
        assert_eq!(set(&["a", "b"], 6).check_bounds(10), Err(Refusal::BadValue { bytes_max: 10 }));
        assert_eq!(set(&["a", "a"], 1).check_bounds(10), Err(Refusal::BadSet { count_max: SET_COUNT_MAX }));
        assert_eq!(set(&[], 1).check_bounds(10), Err(Refusal::BadSet { count_max: SET_COUNT_MAX }));
        assert_eq!(set(&[""], 1).check_bounds(10), Err(Refusal::BadKey { bytes_max: KEY_BYTES_MAX }));
    }

    #[test]
    fn a_prefix_leaves_room_for_its_number() {
        let append = |bytes: usize| Change::Append { prefix: vec![b'p'; bytes].into(), value: Bytes::new() };
        let checked = |bytes| Request::Change { id: None, change: append(bytes) }.check_bounds(10);
        let bytes_max = KEY_BYTES_MAX - APPEND_DIGITS;
        assert_eq!(checked(0), Ok(()));
        assert_eq!(checked(bytes_max), Ok(()));
        assert_eq!(checked(bytes_max + 1), Err(Refusal::BadKey { bytes_max }));
    }

    #[test]
    fn a_range_may_begin_with_nothing_and_its_ends_are_hardly_longer_than_keys() {
        let range = |start: usize, end: Option<usize>| {
            let range =
                KeyRange { start: vec![b'k'; start].into(), end: end.map(|bytes| Bytes::from(vec![b'k'; bytes])) };
            let at = At::Now(Consistency::Stale);
            Request::Scan(Scan { range, limit: 0, keys_only: false, at, cluster: None }).check_bounds(10)
        };
        let too_long = Err(Refusal::BadKey { bytes_max: KEY_BYTES_MAX });
        assert_eq!(range(0, None), Ok(()));
        assert_eq!(range(1, Some(0)), Ok(()), "an empty range is one too");
        assert_eq!(range(KEY_BYTES_MAX, Some(KEY_BYTES_MAX + 1)), Ok(()), "the longest key alone");
        assert_eq!(range(KEY_BYTES_MAX + 2, None), too_long);
        assert_eq!(range(0, Some(KEY_BYTES_MAX + 2)), too_long);
    }
}
