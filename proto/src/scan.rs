//! What is looked up: a key, or a range of keys page by page.

use std::ops::{Bound, RangeBounds};

use bytes::Bytes;

use crate::ids::{ClusterId, Version};
use crate::limits::KEY_BYTES_MAX;
use crate::request::{Consistency, Request};
use crate::time::WallTime;

/// Keys that lie together, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    /// The first key that may be in it; empty for the beginning.
    pub start: Bytes,
    /// The first key behind it; `None` for no end. One that does not lie behind `start` leaves the range empty.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// All keys that begin with this.
    pub fn of_prefix(prefix: Bytes) -> Self {
        // The smallest key behind them all: one more in the last byte that has room for it.
        let room = prefix.iter().rposition(|byte| *byte < u8::MAX);
        let end = room.map(|place| {
            let mut end = prefix[..=place].to_vec();
            end[place] += 1;
            Bytes::from(end)
        });
        Self { start: prefix, end }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether this key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start <= key && self.end.as_ref().is_none_or(|end| key < end)
    }

    /// For the look-ups of maps, which panic where the range is empty; `None` there.
    pub fn bounds(&self) -> Option<impl RangeBounds<[u8]> + Copy> {
        let end = self.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_ref()));
        (!self.is_empty()).then_some((Bound::Included(self.start.as_ref()), end))
    }

    /// Whether its ends are no longer than keys are. Behind the longest key, and no other, ends a range of it alone, so that
    /// is one byte more.
    pub fn is_within_bounds(&self) -> bool {
        self.longest_end() <= KEY_BYTES_MAX + 1
    }

    /// How many bytes the longer of its ends has.
    pub fn longest_end(&self) -> usize {
        self.start.len().max(self.end.as_ref().map_or(0, Bytes::len))
    }

    /// How many bytes its ends have.
    pub fn bytes(&self) -> usize {
        self.start.len() + self.end.as_ref().map_or(0, Bytes::len)
    }
}

/// Which state is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At<How> {
    /// The present one, as fresh as this.
    Now(How),
    /// The one of this version, which an earlier answer named.
    Version(Version),
}

/// One page of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scan<How = Consistency> {
    /// The range, or what is left of it.
    pub range: KeyRange,
    /// How many entries are wanted at most; 0 for as many as a page holds.
    pub limit: u32,
    /// Whether the values are left out.
    pub keys_only: bool,
    /// Of which state.
    pub at: At<How>,
    /// Whose versions are meant; `None` where whoever asks has none yet. A cluster that was set back counts anew, and a page
    /// of its history must not follow one of another.
    pub cluster: Option<ClusterId>,
}

/// A key of a page, with what it had at the page's version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scanned {
    /// The key.
    pub key: Bytes,
    /// Its value; empty where keys alone were asked for.
    pub value: Bytes,
    /// The version of its last change.
    pub version: Version,
    /// The time of its last change.
    pub changed_at: WallTime,
}

/// What a read looks up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// The value of a key.
    Key {
        /// The key.
        key: Bytes,
        /// How fresh.
        consistency: Consistency,
    },
    /// A page of a range.
    Page(Scan),
}

impl Lookup {
    /// Which state it looks at.
    pub fn at(&self) -> At<Consistency> {
        match self {
            Self::Key { consistency, .. } => At::Now(*consistency),
            Self::Page(scan) => scan.at,
        }
    }
}

impl From<Lookup> for Request {
    fn from(lookup: Lookup) -> Self {
        match lookup {
            Lookup::Key { key, consistency } => Self::Read { key, consistency },
            Lookup::Page(scan) => Self::Scan(scan),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(prefix: &'static [u8]) -> KeyRange {
        KeyRange::of_prefix(Bytes::from_static(prefix))
    }

    #[test]
    fn a_prefix_has_all_keys_that_begin_with_it_and_no_other() {
        assert_eq!(prefix(b"log/").end.as_deref(), Some(&b"log0"[..]));
        assert_eq!(prefix(b"a\xff\xff").end.as_deref(), Some(&b"b"[..]));
        assert_eq!(prefix(b"\xff\xff").end, None);
        assert_eq!(prefix(b""), KeyRange::default());
        let keys: [&[u8]; 8] = [b"", b"a", b"a\xff", b"a\xff\xff", b"a\xff\xff\xff", b"b", b"\xff", b"\xff\xff\0"];
        for begins in keys {
            let range = KeyRange::of_prefix(Bytes::copy_from_slice(begins));
            for key in keys {
                assert_eq!(range.contains(key), key.starts_with(begins), "{key:?} of {begins:?}");
            }
        }
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty_and_has_no_bounds() {
        let range = |start: &'static [u8], end: &'static [u8]| KeyRange {
            start: Bytes::from_static(start),
            end: Some(Bytes::from_static(end)),
        };
        for empty in [range(b"b", b"a"), range(b"a", b"a"), range(b"", b"")] {
            assert!(empty.is_empty() && empty.bounds().is_none() && !empty.contains(b"a"), "{empty:?}");
        }
        assert!(!range(b"a", b"a\0").is_empty() && range(b"a", b"a\0").contains(b"a"));
    }
}
