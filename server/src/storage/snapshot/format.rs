//! The bytes of a snapshot: a header, then pieces, of which the last is an end mark.
//!
//! A piece is valid in one place of one snapshot only: its checksum covers the position of the log that the snapshot stands
//! for and the number of the piece. So what is missing, doubled or swapped shows, and a transfer that was interrupted can go
//! on behind any piece that is whole.

use std::path::Path;

use bytes::Bytes;
use heirloom_backup::StateHead;
use heirloom_proto::codec::{Malformed, Reader, Writer};
use heirloom_proto::entry::{read_epoch, write_epoch};
use heirloom_proto::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use heirloom_proto::{ChainHash, ClusterId, Digest, LogIndex, Position, Version};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::storage::error::StorageError;
use crate::storage::slots::{FORMAT, NUMBER_MAX, known_format};

/// Pieces begin here.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Before the body of each piece.
pub(super) const PIECE_HEADER_BYTES: usize = 24;
/// A piece is closed with the part that makes it at least this long.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// No body is longer: whole parts, of which the last one alone may be this large.
pub(super) const BODY_BYTES_MAX: usize = PIECE_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX_MAX + 64;

const MAGIC: u64 = u64::from_le_bytes(*b"HEIRLSNP");
const COVERED_BYTES: usize = 97;

/// What the header of a snapshot says: of which cluster which state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Whose data they are; a snapshot is not bound to a store, for it is sent to other servers.
    pub cluster: ClusterId,
    /// Which state.
    pub state: StateHead,
}

impl SnapshotHead {
    pub(in crate::storage) fn encode(&self) -> Vec<u8> {
        let StateHead { position, epoch, version, digest } = self.state;
        let mut out = Writer::with_capacity(HEADER_BYTES);
        out.u64(MAGIC).u32(FORMAT).u32(0).u64(self.cluster.id).u32(self.cluster.generation).u32(0);
        out.u64(position.index.0).u128(position.hash.0);
        write_epoch(&mut out, epoch).u64(version.0).u128(digest.0);
        assert_eq!(out.as_slice().len(), COVERED_BYTES, "what the checksum covers");
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
        known_format(path, "snapshot", Self::decode(bytes))
    }

    fn decode(bytes: Vec<u8>) -> Result<(u32, Self), Malformed> {
        const SHORT: &str = "the header of the snapshot is cut short";
        let bytes = Bytes::from(bytes);
        if bytes.len() < HEADER_BYTES {
            return Err(Malformed(SHORT));
        }
        let mut reader = Reader::new(bytes.clone());
        if reader.u64(SHORT)? != MAGIC {
            return Err(Malformed("it holds no snapshot"));
        }
        let format = reader.u32(SHORT)?;
        reader.u32(SHORT)?;
        let cluster = ClusterId { id: reader.u64(SHORT)?, generation: reader.u32(SHORT)? };
        reader.u32(SHORT)?;
        let position = Position { index: LogIndex(reader.u64(SHORT)?), hash: ChainHash(reader.u128(SHORT)?) };
        let epoch = read_epoch(&mut reader)?;
        let version = Version(reader.u64(SHORT)?);
        let digest = Digest(reader.u128(SHORT)?);
        // Only then the format: a version that rotted is no newer version. Later formats keep header and checksum.
        if reader.u64(SHORT)? != xxh3_64(&bytes[..COVERED_BYTES]) {
            return Err(Malformed("the header of the snapshot has a wrong checksum"));
        }
        if [position.index.0, epoch.round, version.0].iter().any(|number| *number > NUMBER_MAX) {
            return Err(Malformed("the header of the snapshot leaves no numbers for what follows it"));
        }
        Ok((format, Self { cluster, state: StateHead { position, epoch, version, digest } }))
    }
}

/// Makes the checksums of a header and of the pieces behind it right again that were changed.
#[cfg(any(test, feature = "testing"))]
pub(in crate::storage) fn seal(bytes: &mut [u8]) {
    let Some((head, mut rest)) = bytes.split_at_mut_checked(HEADER_BYTES) else { return };
    let sum = xxh3_64(&head[..COVERED_BYTES]);
    head[COVERED_BYTES..COVERED_BYTES + 8].copy_from_slice(&sum.to_le_bytes());
    let Ok((_, head)) = SnapshotHead::decode(head.to_vec()) else { return };
    while let Some((piece, behind)) =
        body_bytes(rest).ok().and_then(|length| rest.split_at_mut_checked(PIECE_HEADER_BYTES + length))
    {
        let (header, body) = piece.split_at_mut(PIECE_HEADER_BYTES);
        let sum = checksum(head.state.position, &header[..16], body);
        header[16..].copy_from_slice(&sum.to_le_bytes());
        rest = behind;
    }
}

/// What a piece holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Parts of the state, whole ones.
    Parts,
    /// How many parts there are, and how many pieces before this one.
    End,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Self::Parts => 1,
            Self::End => 2,
        }
    }
}

fn checksum(of: Position, head: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&of.index.0.to_le_bytes());
    hasher.update(&of.hash.0.to_le_bytes());
    hasher.update(head);
    hasher.update(body);
    hasher.digest()
}

/// Appends a piece to what is to be written.
pub(super) fn encode_piece(out: &mut Vec<u8>, of: Position, number: u64, kind: Kind, body: &[u8]) {
    assert!(body.len() <= BODY_BYTES_MAX, "a piece of {} bytes", body.len());
    let mut head = Writer::with_capacity(PIECE_HEADER_BYTES);
    head.count(body.len()).u32(kind.number()).u64(number);
    let sum = checksum(of, head.as_slice(), body);
    head.u64(sum);
    out.extend_from_slice(head.as_slice());
    out.extend_from_slice(body);
}

/// Writes the body of an end mark.
pub(super) fn encode_end(parts: u64, pieces: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(16);
    out.u64(parts).u64(pieces);
    out.finish()
}

/// Reads the body of an end mark: parts and pieces.
pub(super) fn decode_end(body: Bytes) -> Result<(u64, u64), Malformed> {
    let mut reader = Reader::new(body);
    let counts = (reader.u64("end mark")?, reader.u64("end mark")?);
    reader.end("end mark")?;
    Ok(counts)
}

/// How long the body is that the header of a piece announces.
///
/// **Errors:** what is there instead, as half a sentence.
pub(super) fn body_bytes(header: &[u8]) -> Result<usize, &'static str> {
    let Some(length) = header.first_chunk::<4>().filter(|_| header.len() >= PIECE_HEADER_BYTES) else {
        return Err("no room for a piece");
    };
    match u32::from_le_bytes(*length) as usize {
        length if length > BODY_BYTES_MAX => Err("a piece that is too long"),
        length => Ok(length),
    }
}

/// Checks the piece that fills `bytes`.
///
/// **Errors:** what is there instead, as half a sentence.
pub(super) fn check_piece(bytes: &[u8], of: Position, number: u64) -> Result<Kind, &'static str> {
    let length = body_bytes(bytes)?;
    if bytes.len() != PIECE_HEADER_BYTES + length {
        return Err("a piece that is cut short");
    }
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    if checksum(of, &bytes[..16], &bytes[PIECE_HEADER_BYTES..]) != long(16) {
        return Err("a piece with a wrong checksum");
    }
    if long(8) != number {
        return Err("another piece");
    }
    match word(4) {
        1 => Ok(Kind::Parts),
        2 => Ok(Kind::End),
        _ => Err("a piece of an unknown kind"),
    }
}
