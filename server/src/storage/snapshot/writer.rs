//! Writing a snapshot, part by part.

use std::path::{Path, PathBuf};

use heirloom_backup::Part;
use heirloom_proto::codec::Writer;
use heirloom_proto::{Digest, Position};

use super::format::{HEADER_BYTES, Kind, PIECE_BYTES, SnapshotHead, encode_end, encode_piece};
use crate::storage::error::StorageError;
use crate::storage::files::{Files, OpenFile};

/// How much is written between two syncs: one sync of a whole snapshot would let the log wait for all of it.
const SYNC_BYTES: u64 = 1 << 20;

/// A snapshot that is being written. It is none before [`SnapshotWriter::finish`], which writes the header.
pub(super) struct SnapshotWriter {
    file: Box<dyn OpenFile>,
    path: PathBuf,
    of: Position,
    piece_bytes: usize,
    body: Writer,
    offset: u64,
    synced_to: u64,
    pieces: u64,
    parts: u64,
    digest: Digest,
}

impl SnapshotWriter {
    /// Of the state at this position, in a new file.
    pub(super) fn create(files: &dyn Files, path: &Path, of: Position) -> Result<Self, StorageError> {
        let file = files.create(path).map_err(|error| StorageError::io("create", path, error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            of,
            piece_bytes: PIECE_BYTES,
            body: Writer::new(),
            offset: HEADER_BYTES as u64,
            synced_to: HEADER_BYTES as u64,
            pieces: 0,
            parts: 0,
            digest: Digest::default(),
        })
    }

    /// Makes pieces of another length.
    pub(super) fn set_piece_bytes(&mut self, bytes: usize) {
        self.piece_bytes = bytes;
    }

    /// Takes the next part, in the order of the places.
    pub(super) fn push(&mut self, part: &Part) -> Result<(), StorageError> {
        self.digest.add(&part.digested());
        part.write(&mut self.body);
        self.parts += 1;
        if self.body.as_slice().len() >= self.piece_bytes { self.close_piece(Kind::Parts) } else { Ok(()) }
    }

    fn close_piece(&mut self, kind: Kind) -> Result<(), StorageError> {
        let body = std::mem::take(&mut self.body).finish();
        let mut bytes = Vec::with_capacity(super::format::PIECE_HEADER_BYTES + body.len());
        encode_piece(&mut bytes, self.of, self.pieces, kind, &body);
        self.file.write_at(self.offset, &bytes).map_err(|error| StorageError::io("write", &self.path, error))?;
        self.offset += bytes.len() as u64;
        self.pieces += 1;
        if self.offset - self.synced_to >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.synced_to = self.offset;
        self.file.sync().map_err(|error| StorageError::io("sync", &self.path, error))
    }

    /// The digest of the parts so far.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Writes what is left, the end mark and the header, and makes all of it durable but the name. Gives how long it is.
    pub(super) fn finish(mut self, head: SnapshotHead) -> Result<u64, StorageError> {
        assert_eq!((head.state.position, head.state.digest), (self.of, self.digest), "the head is of what was written");
        if !self.body.as_slice().is_empty() {
            self.close_piece(Kind::Parts)?;
        }
        let end = encode_end(self.parts, self.pieces);
        for byte in end {
            self.body.u8(byte);
        }
        self.close_piece(Kind::End)?;
        self.file.write_at(0, &head.encode()).map_err(|error| StorageError::io("write", &self.path, error))?;
        self.sync()?;
        Ok(self.offset)
    }
}
