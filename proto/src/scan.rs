//! Ranges of keys.

use bytes::Bytes;

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
    fn a_range_that_ends_before_it_begins_is_empty() {
        let range = |start: &'static [u8], end: &'static [u8]| KeyRange {
            start: Bytes::from_static(start),
            end: Some(Bytes::from_static(end)),
        };
        for empty in [range(b"b", b"a"), range(b"a", b"a"), range(b"", b"")] {
            assert!(empty.is_empty() && !empty.contains(b"a"), "{empty:?}");
        }
        assert!(!range(b"a", b"a\0").is_empty() && range(b"a", b"a\0").contains(b"a"));
    }
}
