//! Entries, ranges and wakers for tests.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use bytes::Bytes;
use heirloom_proto::entry::{Answer, Effect, Entry};
use heirloom_proto::{Epoch, KeyRange, LogIndex, Sealed, Version, WallTime};

fn entry(version: u64, effects: Vec<Effect>) -> Sealed {
    Sealed::new(Entry {
        // No matter here.
        index: LogIndex(version + 1),
        epoch: Epoch::NONE,
        version: Version(version),
        at: WallTime(version),
        effects,
        origin: None,
        answer: Answer::Nothing,
    })
}

/// A change of these keys.
pub(super) fn puts_of(version: u64, keys: &[&'static str]) -> Sealed {
    let effect = |key: &&'static str| Effect::Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"value"),
    };
    entry(version, keys.iter().map(effect).collect())
}

/// A change of one key.
pub(super) fn put(version: u64, key: &'static str) -> Sealed {
    puts_of(version, &[key])
}

/// A change of one key by each version.
pub(super) fn puts(versions: RangeInclusive<u64>) -> Vec<Sealed> {
    versions.map(|version| put(version, "a")).collect()
}

/// An entry that changes nothing.
pub(super) fn marker(version: u64) -> Sealed {
    entry(version, Vec::new())
}

/// This key alone.
pub(super) fn key(key: impl AsRef<str>) -> KeyRange {
    range(key.as_ref(), [key.as_ref(), "\0"].concat())
}

/// All keys that begin with this.
pub(super) fn prefix(prefix: impl AsRef<str>) -> KeyRange {
    KeyRange::of_prefix(Bytes::copy_from_slice(prefix.as_ref().as_bytes()))
}

/// The keys from one to before another.
pub(super) fn range(start: impl AsRef<str>, end: impl AsRef<str>) -> KeyRange {
    let bytes = |key: &str| Bytes::copy_from_slice(key.as_bytes());
    KeyRange { start: bytes(start.as_ref()), end: Some(bytes(end.as_ref())) }
}

/// Counts how often it was woken.
#[derive(Default)]
pub(super) struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
