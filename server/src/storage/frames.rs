//! The frames of a segment, one by one, in bounded memory: for whoever reads a log that is in use.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use heirloom_proto::StoreId;

use super::error::StorageError;
use super::files::{Files, OpenFile};
use super::frame::{self, Frame, Site};
use super::segment::{HEADER_BYTES, SegmentHead};

/// How much is read at once, unless a frame is longer.
const READ_BYTES: usize = 1 << 20;

/// A segment that is read from its first frame on. It does not know where the frames end: ask for no more than there are.
pub(super) struct Frames {
    file: Box<dyn OpenFile>,
    path: PathBuf,
    site: Site,
    offset: u64,
    /// What was read from `offset` on.
    ahead: Bytes,
}

/// A frame and what it holds.
pub(super) struct Found {
    pub(super) frame: Frame,
    pub(super) offset: u64,
    pub(super) body: Bytes,
}

impl Frames {
    /// Opens a segment and reads its header.
    pub(super) fn open(
        files: &dyn Files,
        path: &Path,
        store: StoreId,
        number: u64,
    ) -> Result<(SegmentHead, Self), StorageError> {
        let file = files.open(path).map_err(|error| StorageError::io("open", path, error))?;
        let header = file.read_at(0, HEADER_BYTES).map_err(|error| StorageError::io("read", path, error))?;
        let head = SegmentHead::read(path, header)?;
        head.check_owner(path, store, number)?;
        let site = Site { store, segment: number };
        Ok((head, Self { file, path: path.to_owned(), site, offset: HEADER_BYTES as u64, ahead: Bytes::new() }))
    }

    /// Forgets what of the file is kept in memory, so that the device is read.
    pub(super) fn evict(&self) -> Result<(), StorageError> {
        self.file.evict().map_err(|error| StorageError::io("read", &self.path, error))
    }

    /// Has at least `bytes` of what follows at hand, unless the file ends before.
    fn fill(&mut self, bytes: usize) -> Result<(), StorageError> {
        if self.ahead.len() < bytes {
            let read = self.file.read_at(self.offset, bytes.max(READ_BYTES));
            self.ahead = read.map_err(|error| StorageError::io("read", &self.path, error))?.into();
        }
        Ok(())
    }

    /// The next frame, which must be the one of this sequence.
    ///
    /// **Errors:** damage, or a failure of the machine.
    pub(super) fn next(&mut self, sequence: u64) -> Result<Found, StorageError> {
        let offset = self.offset;
        self.fill(frame::HEADER_BYTES)?;
        self.fill(frame::announced_bytes(&self.ahead).unwrap_or(0))?;
        let found = match frame::check(&self.ahead, self.site, offset) {
            Ok(frame) if frame.head.sequence == sequence => Ok(frame),
            Ok(frame) => Err(format!("frame {}", frame.head.sequence)),
            Err(what) => Err(what.to_owned()),
        };
        let frame = found.map_err(|what| {
            let what = format!("frame {sequence} should be there, which was synced, and there is {what}");
            StorageError::damaged(&self.path, offset, what)
        })?;
        let whole = self.ahead.split_to(frame.bytes().min(self.ahead.len()));
        self.offset += frame.bytes() as u64;
        let body = whole.slice(frame::HEADER_BYTES..frame::HEADER_BYTES + frame.body_bytes);
        Ok(Found { frame, offset, body })
    }

    /// What is wrong with a frame.
    pub(super) fn damaged(&self, offset: u64, what: impl Into<String>) -> StorageError {
        StorageError::damaged(&self.path, offset, what)
    }
}
