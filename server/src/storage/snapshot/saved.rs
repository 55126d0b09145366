//! The file that an operator saves a snapshot to: the same bytes as in a store, under any name.

use std::path::Path;
use std::sync::Arc;

use heirloom_proto::wire::snapshot::HeldSnapshot;

use super::fetched::Fetched;
use super::format::HEADER_BYTES;
use super::make::Whole;
use super::reader::SnapshotReader;
use crate::storage::error::StorageError;
use crate::storage::files::Files as _;
use crate::storage::os_files::OsFiles;

/// A file that a snapshot is being saved to.
#[derive(Debug)]
pub struct SavedSnapshot {
    file: Fetched,
}

impl SavedSnapshot {
    /// Opens the file, which is there, with what an interrupted save has left in it: header and whole pieces.
    ///
    /// **Errors:** damage where it holds something else, or the machine fails.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let files = OsFiles;
        let length = files.open(path).and_then(|file| file.length());
        // Of less than a header nothing is of use; what is no header, and no beginning of one, is somebody's file.
        if length.map_err(|error| StorageError::io("open", path, error))? >= HEADER_BYTES as u64 {
            SnapshotReader::open(&files, path)?;
        }
        Fetched::open(Arc::new(files), path.to_owned(), None).map(|file| Self { file })
    }

    /// What is there of which snapshot; `None` where there is nothing yet.
    pub fn held(&self) -> Option<HeldSnapshot> {
        let head = self.file.snapshot_head()?;
        Some(HeldSnapshot { cluster: head.cluster, position: head.state.position, offset: self.file.offset() })
    }

    /// Whether nothing was missing when it was opened.
    pub fn found_whole(&self) -> bool {
        self.file.found_whole()
    }

    /// Takes the bytes that come next.
    ///
    /// **Errors:** where the machine fails, or the header is not that of a snapshot.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write(bytes)
    }

    /// Makes all of it durable, reads it again and checks it, end mark and digest included; tells now and then up to which
    /// byte that is done.
    ///
    /// **Errors:** damage with its place, where it is not whole and right; or a failure of the machine.
    pub fn finish(self, tell: &mut dyn FnMut(u64)) -> Result<Whole, StorageError> {
        self.file.finish_telling(tell)
    }
}
