//! Reading a snapshot, piece by piece, in bounded memory.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use heirloom_backup::Part;
use heirloom_proto::codec::Reader;

use super::format::{HEADER_BYTES, Kind, PIECE_HEADER_BYTES, SnapshotHead, body_bytes, check_piece, decode_end};
use crate::storage::error::StorageError;
use crate::storage::files::{Files, OpenFile};

/// How much is read at once, unless a piece is longer.
const READ_BYTES: usize = 1 << 20;

/// The parts of a snapshot, in order. The last item is an error, or the end mark was found where it belongs.
pub(in crate::storage) struct SnapshotReader {
    file: Box<dyn OpenFile>,
    path: PathBuf,
    head: SnapshotHead,
    length: u64,
    /// Where the next piece begins, and which it is.
    offset: u64,
    pieces: u64,
    /// What was read from `offset` on.
    ahead: Bytes,
    /// Where the piece began whose parts are given, and what is left of it.
    piece_at: u64,
    parts: Reader,
    parts_given: u64,
    over: bool,
}

/// A piece that is whole.
struct Piece {
    kind: Kind,
    body: Bytes,
}

impl SnapshotReader {
    /// Reads the header.
    ///
    /// **Errors:** damage, a newer format, or a failure of the machine.
    pub(super) fn open(files: &dyn Files, path: &Path) -> Result<Self, StorageError> {
        let file = files.open(path).map_err(|error| StorageError::io("open", path, error))?;
        Self::of(file, path)
    }

    /// The same of a file that is open.
    pub(in crate::storage) fn of(file: Box<dyn OpenFile>, path: &Path) -> Result<Self, StorageError> {
        let io = |error| StorageError::io("read", path, error);
        let head = SnapshotHead::read(path, file.read_at(0, HEADER_BYTES).map_err(io)?)?;
        let length = file.length().map_err(io)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            head,
            length,
            offset: HEADER_BYTES as u64,
            pieces: 0,
            ahead: Bytes::new(),
            piece_at: 0,
            parts: Reader::new(Bytes::new()),
            parts_given: 0,
            over: false,
        })
    }

    /// What the header says.
    pub(in crate::storage) fn head(&self) -> SnapshotHead {
        self.head
    }

    /// How long the file is.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Forgets what of the file is kept in memory, so that the device is read.
    pub(in crate::storage) fn evict(&self) -> Result<(), StorageError> {
        self.file.evict().map_err(|error| StorageError::io("read", &self.path, error))
    }

    /// The open file.
    pub(super) fn into_file(self) -> Box<dyn OpenFile> {
        self.file
    }

    /// Up to where the pieces so far reach.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What is wrong with the piece whose parts are being given.
    pub(super) fn damaged(&self, what: impl Into<String>) -> StorageError {
        StorageError::damaged(&self.path, self.piece_at, what)
    }

    /// Has at least `bytes` of what follows at hand, unless the file ends before.
    fn fill(&mut self, bytes: usize) -> Result<(), StorageError> {
        if self.ahead.len() < bytes {
            let read = self.file.read_at(self.offset, bytes.max(READ_BYTES));
            self.ahead = read.map_err(|error| StorageError::io("read", &self.path, error))?.into();
        }
        Ok(())
    }

    /// The next piece; the one behind the last whole one is an error.
    fn piece(&mut self) -> Result<Piece, StorageError> {
        self.piece_at = self.offset;
        self.fill(PIECE_HEADER_BYTES)?;
        let pieces = self.pieces;
        let instead = |what: &str| format!("piece {pieces} of the snapshot should be there, and there is {what}");
        let length = body_bytes(&self.ahead).map_err(|what| self.damaged(instead(what)))?;
        self.fill(PIECE_HEADER_BYTES + length)?;
        let whole = self.ahead.len().min(PIECE_HEADER_BYTES + length);
        let kind = check_piece(&self.ahead[..whole], self.head.state.position, pieces)
            .map_err(|what| self.damaged(instead(what)))?;
        let body = self.ahead.split_to(whole).slice(PIECE_HEADER_BYTES..);
        self.offset += whole as u64;
        self.pieces += 1;
        Ok(Piece { kind, body })
    }

    fn end(&mut self, body: Bytes) -> Result<(), StorageError> {
        let counts = decode_end(body).map_err(|error| self.damaged(error.to_string()))?;
        let found = (self.parts_given, self.pieces - 1);
        if counts != found {
            let ((parts, pieces), (found, in_pieces)) = (counts, found);
            let what =
                format!("{found} parts in {in_pieces} pieces stand before its end, which counts {parts} in {pieces}");
            return Err(self.damaged(what));
        }
        let what = match self.offset.cmp(&self.length) {
            Ordering::Equal => return Ok(()),
            Ordering::Less => format!("{} bytes stand behind the end of the snapshot", self.length - self.offset),
            // One that is still being saved, say.
            Ordering::Greater => "the snapshot ends behind it: it grew while it was read".to_owned(),
        };
        Err(StorageError::damaged(&self.path, self.offset.min(self.length), what))
    }

    fn next_part(&mut self) -> Result<Option<Part>, StorageError> {
        while self.parts.is_empty() {
            let piece = self.piece()?;
            match piece.kind {
                Kind::Parts if piece.body.is_empty() => return Err(self.damaged("an empty piece")),
                Kind::Parts => self.parts = Reader::new(piece.body),
                Kind::End => return self.end(piece.body).map(|()| None),
            }
        }
        let part = Part::read(&mut self.parts).map_err(|error| self.damaged(error.to_string()))?;
        self.parts_given += 1;
        Ok(Some(part))
    }

    /// Goes over the pieces that are whole, and gives whether they end with the end mark; [`Self::offset`] is where they
    /// end. What stands behind them is not judged.
    ///
    /// **Errors:** where the machine fails.
    pub(super) fn skip_whole(&mut self) -> Result<bool, StorageError> {
        loop {
            match self.piece() {
                Ok(Piece { kind: Kind::Parts, .. }) => {}
                Ok(Piece { kind: Kind::End, .. }) => return Ok(true),
                Err(StorageError::Damaged(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<Part, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let part = self.next_part();
        self.over = !matches!(part, Ok(Some(_)));
        part.transpose()
    }
}
