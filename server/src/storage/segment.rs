//! One file of the log: a header, then frames, then zeros.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use heirloom_proto::codec::{Malformed, Reader, Writer};
use heirloom_proto::{ChainHash, LogIndex, Position, StoreId};
use xxhash_rust::xxh3::xxh3_64;

use super::error::StorageError;
use super::files::{Files, OpenFile};
use super::folder::{list, number_in};
#[cfg(any(test, feature = "testing"))]
use super::frame::{self, Site};
use super::slots::{FORMAT, NUMBER_MAX, known_format};

/// Frames begin here: a block of its own, so that no write of a frame ever touches the header's.
pub(super) const HEADER_BYTES: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"HEIRLLOG");
const PREFIX: &str = "log-";
const UNFINISHED: &str = ".new";

/// What the header of a segment says: where in the log it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) store: StoreId,
    /// Counted from 1; never used twice, also where a file is recycled.
    pub(super) number: u64,
    /// The sequence of its first frame.
    pub(super) first_sequence: u64,
    /// The log before its first frame.
    pub(super) base: Position,
}

impl SegmentHead {
    /// Of a log that goes on from `base`.
    pub(super) const fn first(store: StoreId, base: Position) -> Self {
        Self { store, number: 1, first_sequence: 1, base }
    }

    /// **Errors:** damage, where the file holds another segment than its name says.
    pub(super) fn check_owner(&self, path: &Path, store: StoreId, number: u64) -> Result<(), StorageError> {
        if (self.store, self.number) == (store, number) {
            return Ok(());
        }
        let what = format!("it is segment {} of store {}", self.number, self.store);
        Err(StorageError::damaged(path, 0, what))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(HEADER_BYTES);
        out.u64(MAGIC).u32(FORMAT).u32(0).u64(self.store.0).u64(self.number).u64(self.first_sequence);
        out.u64(self.base.index.0).u128(self.base.hash.0);
        let sum = xxh3_64(out.as_slice());
        out.u64(sum);
        let mut bytes = out.finish();
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }

    /// Reads a header.
    ///
    /// **Errors:** damage, or a newer format.
    pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<Self, StorageError> {
        known_format(path, "segment", Self::decode(bytes))
    }

    fn decode(bytes: Vec<u8>) -> Result<(u32, Self), Malformed> {
        const SHORT: &str = "the header of the segment is cut short";
        let bytes = Bytes::from(bytes);
        let mut reader = Reader::new(bytes.clone());
        if reader.u64(SHORT)? != MAGIC {
            return Err(Malformed("it holds no segment of a log"));
        }
        let format = reader.u32(SHORT)?;
        reader.u32(SHORT)?;
        let store = StoreId(reader.u64(SHORT)?);
        let number = reader.u64(SHORT)?;
        let first_sequence = reader.u64(SHORT)?;
        let index = LogIndex(reader.u64(SHORT)?);
        let hash = ChainHash(reader.u128(SHORT)?);
        if reader.u64(SHORT)? != xxh3_64(&bytes[..64]) {
            return Err(Malformed("the header of the segment has a wrong checksum"));
        }
        if [number, first_sequence, index.0].iter().any(|number| *number > NUMBER_MAX) {
            return Err(Malformed("the header of the segment leaves no numbers for what follows it"));
        }
        Ok((format, Self { store, number, first_sequence, base: Position { index, hash } }))
    }
}

/// Makes the checksums of a header and of the frames behind it right again that were changed.
#[cfg(any(test, feature = "testing"))]
pub(super) fn seal(bytes: &mut [u8], site: Site) {
    let Some((head, _)) = bytes.split_first_chunk_mut::<72>() else { return };
    let sum = xxh3_64(&head[..64]);
    head[64..].copy_from_slice(&sum.to_le_bytes());
    let mut at = HEADER_BYTES;
    while let Some(next) = bytes.get_mut(at..).and_then(|rest| frame::seal(rest, site, at as u64)) {
        at += next;
    }
}

/// A segment that can be written.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn OpenFile>,
    /// Where no frame fits any more.
    pub(super) bytes_max: u64,
    /// What is already reserved.
    pub(super) reserved: u64,
}

impl Segment {
    /// The file of a segment.
    pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
        dir.join(format!("{PREFIX}{number:016x}"))
    }

    /// Makes a segment; file and name are durable when this returns, and before that it is no segment: a file that has
    /// the name of one always has a whole header.
    pub(super) fn create(
        files: &dyn Files,
        dir: &Path,
        head: SegmentHead,
        bytes_max: u64,
        reserve: bool,
    ) -> Result<Self, StorageError> {
        let path = Self::path(dir, head.number);
        let unfinished = path.with_extension(&UNFINISHED[1..]);
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |error| StorageError::io(what, &path, error)
        };
        let file = files.create(&unfinished).map_err(io("create", &unfinished))?;
        let reserved = if reserve { bytes_max } else { HEADER_BYTES as u64 };
        file.allocate(reserved).map_err(io("reserve room for", &unfinished))?;
        file.write_at(0, &head.encode()).map_err(io("write", &unfinished))?;
        file.sync().map_err(io("sync", &unfinished))?;
        files.rename(&unfinished, &path).map_err(io("rename", &unfinished))?;
        files.sync_dir(dir).map_err(io("sync", dir))?;
        Ok(Self { number: head.number, path, file, bytes_max, reserved })
    }

    /// Reserves the segment's room, where that was put off until the first frame.
    pub(super) fn reserve(&mut self) -> Result<(), StorageError> {
        if self.reserved < self.bytes_max {
            let io = |error| StorageError::io("reserve room for", &self.path, error);
            self.file.allocate(self.bytes_max).map_err(io)?;
            self.reserved = self.bytes_max;
        }
        Ok(())
    }

    /// The numbers of the segments in a store, in order.
    pub(super) fn numbers(files: &dyn Files, dir: &Path) -> Result<Vec<u64>, StorageError> {
        let mut numbers: Vec<u64> = list(files, dir)?.iter().filter_map(|name| number_in(name, PREFIX)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes what a crash left unfinished.
    pub(super) fn remove_unfinished(files: &dyn Files, dir: &Path) -> Result<(), StorageError> {
        for name in list(files, dir)? {
            if name.starts_with(PREFIX) && name.ends_with(UNFINISHED) {
                let path = dir.join(name);
                files.remove(&path).map_err(|error| StorageError::io("remove", &path, error))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_leaves_no_numbers_for_what_follows_it_is_refused() {
        let head = |number, first_sequence, index| {
            let base = Position { index: LogIndex(index), hash: ChainHash(0) };
            SegmentHead { store: StoreId(1), number, first_sequence, base }
        };
        let is_read = |head: SegmentHead| SegmentHead::decode(head.encode()).is_ok_and(|(_, found)| found == head);
        let most = (1 << 63) - 1;
        assert!(is_read(head(most, most, most)));
        for more in [1 << 63, u64::MAX] {
            for head in [head(more, 1, 0), head(1, more, 0), head(1, 1, more)] {
                assert!(!is_read(head), "{head:?}");
            }
        }
    }
}
