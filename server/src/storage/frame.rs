//! The frame: what the log is made of. One record of the node is one frame, or several where it is very large.
//!
//! A frame is valid in one place only: its checksum covers the store, the segment and the offset, so neither what a
//! recycled segment held before nor a value that contains a copy of a log can be taken for one.

use bytes::Bytes;
use heirloom_proto::codec::{Reader, Writer};
use heirloom_proto::{ChainHash, LogIndex, Sealed, StoreId};
use xxhash_rust::xxh3::Xxh3;

pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"HLFR");
pub(super) const HEADER_BYTES: usize = 72;
/// Frames begin at multiples of this, which makes the search behind a hole short.
pub(super) const ALIGNMENT: usize = 8;

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGNMENT));

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// This many entries, of which the first has this index.
    Entries { first: LogIndex, count: u32 },
    /// The log ends here from now on.
    Cut { keep: LogIndex },
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) content: Content,
    /// Counts all frames of the store from 1.
    pub(super) sequence: u64,
    /// The sequence of the first frame that was written together with this one: everything below it was synced before
    /// this frame was written.
    pub(super) group: u64,
    /// The hash of the log before the first entry, or of what is kept.
    pub(super) chain: ChainHash,
}

/// Where a frame stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) store: StoreId,
    pub(super) segment: u64,
}

/// How many bytes a frame with a body of this many takes.
pub(super) fn frame_bytes(body: usize) -> usize {
    (HEADER_BYTES + body).next_multiple_of(ALIGNMENT)
}

/// How many bytes of a body an entry takes.
pub(super) fn entry_bytes(entry: &Sealed) -> usize {
    4 + entry.bytes().len()
}

fn checksum(site: Site, offset: u64, head: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&site.store.0.to_le_bytes());
    hasher.update(&site.segment.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(head);
    hasher.update(body);
    hasher.digest()
}

/// Appends a frame that will stand at `offset` to what is to be written.
pub(super) fn encode(out: &mut Vec<u8>, site: Site, offset: u64, head: Head, entries: &[Sealed]) {
    let (kind, count, index) = match head.content {
        Content::Entries { first, count } => (1, count, first),
        Content::Cut { keep } => (2, 0, keep),
    };
    assert_eq!(count as usize, entries.len(), "the head counts the entries");
    let body_bytes: usize = entries.iter().map(entry_bytes).sum();
    let from = out.len();
    out.reserve(frame_bytes(body_bytes));
    let mut fields = Writer::with_capacity(HEADER_BYTES);
    fields.u32(MAGIC).u32(kind).count(body_bytes).u32(count);
    fields.u64(head.sequence).u64(head.group).u64(index.0).u128(head.chain.0).u64(site.segment);
    out.extend_from_slice(fields.as_slice());
    let sum_at = out.len();
    out.extend_from_slice(&[0; 8]);
    for entry in entries {
        out.extend_from_slice(&u32::try_from(entry.bytes().len()).expect("bounded by the limits").to_le_bytes());
        out.extend_from_slice(entry.bytes());
    }
    let sum = checksum(site, offset, &out[from..sum_at], &out[sum_at + 8..]);
    out[sum_at..sum_at + 8].copy_from_slice(&sum.to_le_bytes());
    out.resize(from + frame_bytes(body_bytes), 0);
}

/// A frame whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: Head,
    pub(super) body_bytes: usize,
}

impl Frame {
    /// How far the next frame is.
    pub(super) fn bytes(self) -> usize {
        frame_bytes(self.body_bytes)
    }
}

/// How long the frame is that stands at the beginning of `bytes`, by what its head says, which is not checked yet.
pub(super) fn announced_bytes(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let body = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    header.starts_with(&MAGIC.to_le_bytes()).then(|| frame_bytes(body as usize))
}

/// Looks for a frame at the beginning of `bytes`, which stand at `offset`.
///
/// **Errors:** what is there instead, as half a sentence.
pub(super) fn check(bytes: &[u8], site: Site, offset: u64) -> Result<Frame, &'static str> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Err("no room for a frame") };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    if word(0) != MAGIC {
        return Err("no frame");
    }
    let body_bytes = word(8) as usize;
    let Some(body) = bytes[HEADER_BYTES..].get(..body_bytes) else { return Err("a frame that is cut short") };
    if checksum(site, offset, &header[..64], body) != long(64) {
        return Err("a frame with a wrong checksum");
    }
    let content = match word(4) {
        1 => Content::Entries { first: LogIndex(long(32)), count: word(12) },
        2 => Content::Cut { keep: LogIndex(long(32)) },
        _ => return Err("a frame of an unknown kind"),
    };
    let chain = ChainHash(u128::from(long(40)) | u128::from(long(48)) << 64);
    Ok(Frame { head: Head { content, sequence: long(16), group: long(24), chain }, body_bytes })
}

/// Makes the checksum of a frame right again that was changed; how far the next one is, where it has the length that it
/// says.
#[cfg(any(test, feature = "testing"))]
pub(super) fn seal(bytes: &mut [u8], site: Site, offset: u64) -> Option<usize> {
    let (header, rest) = bytes.split_first_chunk_mut::<HEADER_BYTES>()?;
    let body_bytes = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let sum = checksum(site, offset, &header[..64], rest.get(..body_bytes)?);
    header[64..].copy_from_slice(&sum.to_le_bytes());
    Some(frame_bytes(body_bytes))
}

/// Reads the entries of a frame's body; they share its buffer.
///
/// **Errors:** what is wrong, as half a sentence.
pub(super) fn entries(count: u32, body: Bytes) -> Result<Vec<Sealed>, String> {
    let mut reader = Reader::new(body);
    let mut entries = Vec::new();
    for _ in 0..count {
        let bytes = reader.bytes("frame body").map_err(|error| error.to_string())?;
        entries.push(Sealed::decode(bytes).map_err(|error| error.to_string())?);
    }
    reader.end("frame body").map_err(|error| error.to_string())?;
    Ok(entries)
}
