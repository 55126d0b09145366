//! Entries for tests.

use std::ops::RangeInclusive;

use bytes::Bytes;
use heirloom_proto::entry::{Answer, Effect, Entry};
use heirloom_proto::{Epoch, LogIndex, Sealed, Version, WallTime};

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

/// A change of one key.
pub(super) fn put(version: u64, key: &'static str) -> Sealed {
    let effect = Effect::Put { key: Bytes::from_static(key.as_bytes()), value: Bytes::from_static(b"value") };
    entry(version, vec![effect])
}

/// A change of one key by each version.
pub(super) fn puts(versions: RangeInclusive<u64>) -> Vec<Sealed> {
    versions.map(|version| put(version, "a")).collect()
}

/// An entry that changes nothing.
pub(super) fn marker(version: u64) -> Sealed {
    entry(version, Vec::new())
}
