//! Reading a log at the start of a run, and telling a torn tail from damage.
//!
//! A place where no frame can be read, though one was expected, is a *torn tail* where nothing says that it was ever
//! synced: the write that it belongs to was never reported. It is *damage* where the progress record says that this
//! frame was synced, or where a whole frame stands behind it that was written after a later sync. A whole frame of the
//! same write behind it is no such evidence: caches write back in any order.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use heirloom_proto::{ChainHash, LogIndex, Position, Sealed, StoreId};

use super::error::StorageError;
use super::files::Files;
use super::frame::{self, Content, Frame, Site};
use super::segment::{HEADER_BYTES, Segment, SegmentHead};

/// What a log holds, and where it goes on.
pub(super) struct Scanned {
    /// Behind the base.
    pub(super) entries: Vec<Sealed>,
    /// The chain hash of the log that ends with each of them.
    pub(super) hashes: Vec<ChainHash>,
    pub(super) next_sequence: u64,
    pub(super) segment: Segment,
    pub(super) offset: u64,
    pub(super) torn_bytes: u64,
    pub(super) held: VecDeque<Held>,
    /// How long the frames are together, and those up to the base.
    pub(super) frame_bytes: u64,
    pub(super) base_mark: u64,
}

/// A segment that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) number: u64,
    /// The index of the last entry before it.
    pub(super) base: LogIndex,
    /// How long the file is.
    pub(super) bytes: u64,
}

/// What is known after the frames so far.
struct State {
    /// The log before the first entry that is known.
    base: Position,
    entries: Vec<Sealed>,
    /// The chain hash of the log that ends with each of them.
    hashes: Vec<ChainHash>,
    next_sequence: u64,
    group: u64,
    frame_bytes: u64,
    /// What a snapshot holds, and how long the frames were when the log last came to that.
    snapshot: LogIndex,
    snapshot_mark: u64,
}

impl State {
    fn after(head: &SegmentHead, snapshot: LogIndex) -> Self {
        Self {
            base: head.base,
            entries: Vec::new(),
            hashes: Vec::new(),
            next_sequence: head.first_sequence,
            group: 0,
            frame_bytes: 0,
            snapshot,
            snapshot_mark: 0,
        }
    }

    fn end(&self) -> Position {
        let index = LogIndex(self.base.index.0 + self.entries.len() as u64);
        Position { index, hash: self.hashes.last().copied().unwrap_or(self.base.hash) }
    }

    /// Forgets the entries up to the position of a snapshot.
    ///
    /// **Errors:** half a sentence where the log does not hold that position.
    fn forget(&mut self, at: Position) -> Result<(), String> {
        let end = self.end();
        if at.index < self.base.index || at.index > end.index {
            return Err(format!(
                "the log holds the entries from {} to {}, and the snapshot is of entry {}",
                self.base.index.next(),
                end.index,
                at.index
            ));
        }
        let count = usize::try_from(at.index.0 - self.base.index.0).map_err(|error| error.to_string())?;
        let own = if count == 0 { self.base.hash } else { self.hashes[count - 1] };
        if own != at.hash {
            return Err(format!(
                "the chain hash at entry {} is {own}, and the snapshot is of a log where it is {}",
                at.index, at.hash
            ));
        }
        self.entries.drain(..count);
        self.hashes.drain(..count);
        self.base = at;
        Ok(())
    }

    /// Takes the next frame.
    ///
    /// **Errors:** what does not fit, as half a sentence.
    fn take(&mut self, frame: Frame, bytes: &[u8]) -> Result<(), String> {
        let head = frame.head;
        if head.sequence != self.next_sequence {
            return Err(format!("frame {} stands where frame {} belongs", head.sequence, self.next_sequence));
        }
        if head.group != head.sequence && head.group != self.group {
            return Err(format!("frame {} belongs to a write that began with frame {}", head.sequence, head.group));
        }
        match head.content {
            Content::Entries { first, count } => {
                if first != self.end().index.next() {
                    return Err(format!("entry {first} follows entry {}", self.end().index));
                }
                self.check_chain(head.chain)?;
                // A copy of the body: entries share a buffer, and should not keep a whole segment in memory.
                let body = Bytes::copy_from_slice(&bytes[frame::HEADER_BYTES..][..frame.body_bytes]);
                for entry in frame::entries(count, body)? {
                    if entry.index() != self.end().index.next() {
                        return Err(format!("entry {} follows entry {}", entry.index(), self.end().index));
                    }
                    self.hashes.push(entry.extend(self.end().hash));
                    self.entries.push(entry);
                }
            }
            Content::Cut { keep } => {
                if keep > self.end().index {
                    return Err(format!("a cut keeps {keep} entries of {}", self.end().index));
                }
                match keep.0.checked_sub(self.base.index.0) {
                    Some(kept) => {
                        let kept = usize::try_from(kept).map_err(|error| error.to_string())?;
                        self.entries.truncate(kept);
                        self.hashes.truncate(kept);
                        self.check_chain(head.chain)?;
                    }
                    // The segments that held what it keeps are gone, since a snapshot holds that. The log goes on from there.
                    None => {
                        self.entries.clear();
                        self.hashes.clear();
                        self.base = Position { index: keep, hash: head.chain };
                    }
                }
            }
        }
        self.frame_bytes += frame.bytes() as u64;
        let begins_before = matches!(head.content, Content::Entries { first, .. } if first <= self.snapshot);
        if begins_before || self.end().index <= self.snapshot {
            self.snapshot_mark = self.frame_bytes;
        }
        self.group = head.group;
        self.next_sequence += 1;
        Ok(())
    }

    fn check_chain(&self, chain: ChainHash) -> Result<(), String> {
        if chain == self.end().hash {
            return Ok(());
        }
        Err(format!(
            "the chain hash after entry {} is {}, and the next frame says {chain}",
            self.end().index,
            self.end().hash
        ))
    }
}

/// Reads, checks and mends a log behind `base`, up to which a snapshot holds it; `synced` is the sequence up to which its
/// frames are known to have been synced.
///
/// **Errors:** damage, with the first place where it shows.
pub(super) fn scan(
    files: &dyn Files,
    dir: &Path,
    store: StoreId,
    synced: u64,
    base: Position,
) -> Result<Scanned, StorageError> {
    Segment::remove_unfinished(files, dir)?;
    let heads = heads(files, dir, store, base)?;
    let mut state = State::after(&heads[0].1, base.index);
    let mut held = VecDeque::new();
    for (place, (path, head)) in heads.iter().enumerate() {
        let next = heads.get(place + 1).map(|(_, next)| *next);
        if head.first_sequence != state.next_sequence || head.base != state.end() {
            return Err(StorageError::damaged(path, 0, "the segment does not continue the one before it"));
        }
        let io = |what| {
            let path = path.clone();
            move |error| StorageError::io(what, &path, error)
        };
        let file = files.open(path).map_err(io("open"))?;
        if next.is_none() {
            // After a crash of the process alone the last frames may so far be in memory only, and after a failed sync
            // the memory may hold what the device does not.
            file.sync().map_err(io("sync"))?;
            file.evict().map_err(io("read"))?;
        }
        let length = file.length().map_err(io("read"))?;
        held.push_back(Held { number: head.number, base: head.base.index, bytes: length });
        let bytes = file.read_at(0, usize::try_from(length).unwrap_or(usize::MAX)).map_err(io("read"))?;
        if bytes.len() < HEADER_BYTES {
            // It was written in this length before it had its name.
            return Err(StorageError::damaged(path, length, "the segment ends before its first frame"));
        }
        let site = Site { store, segment: head.number };
        let stop = next.map(|next| next.first_sequence);
        let (at, hole) = read_frames(&mut state, &bytes, site, stop, path)?;
        if next.is_some() {
            continue;
        }
        let tail = at..end_of_content(&bytes).max(at);
        if let Some(what) = hole {
            judge_hole(&state, &bytes, &tail, site, synced, path, what)?;
        }
        if !tail.is_empty() {
            // Zeros, durably, so that nothing of a torn tail can ever be taken for a frame.
            file.write_at(at as u64, &vec![0; tail.len()]).map_err(io("write"))?;
            file.sync().map_err(io("sync"))?;
        }
        files.sync_dir(dir).map_err(|error| StorageError::io("sync", dir, error))?;
        state.forget(base).map_err(|what| StorageError::damaged(path, 0, what))?;
        let segment = Segment { number: head.number, path: path.clone(), file, bytes_max: length, reserved: length };
        let State { entries, hashes, next_sequence, frame_bytes, snapshot_mark: base_mark, .. } = state;
        return Ok(Scanned {
            entries,
            hashes,
            next_sequence,
            segment,
            offset: at as u64,
            torn_bytes: tail.len() as u64,
            held,
            frame_bytes,
            base_mark,
        });
    }
    unreachable!("the last segment has none behind it")
}

/// The headers of the segments from which the log behind `base` can be read, in order: one at least.
fn heads(
    files: &dyn Files,
    dir: &Path,
    store: StoreId,
    base: Position,
) -> Result<Vec<(PathBuf, SegmentHead)>, StorageError> {
    let mut heads: Vec<(PathBuf, SegmentHead)> = Vec::new();
    for number in Segment::numbers(files, dir)? {
        let path = Segment::path(dir, number);
        let io = |error| StorageError::io("read", &path, error);
        let bytes = files.open(&path).map_err(io)?.read_at(0, HEADER_BYTES).map_err(io)?;
        let head = SegmentHead::read(&path, bytes)?;
        head.check_owner(&path, store, number)?;
        heads.push((path, head));
    }
    // What a crash left of forgetting the log may have holes; nothing before the last segment that begins below the base is
    // needed.
    if base.index > LogIndex::ZERO
        && let Some(first) = heads.iter().rposition(|(_, head)| head.base.index <= base.index)
    {
        heads.drain(..first);
    }
    let Some((first_path, first)) = heads.first() else {
        return Err(StorageError::damaged(&Segment::path(dir, 1), 0, "the log is missing"));
    };
    if first.base.index > base.index {
        let missing = if first.number > 1 { Segment::path(dir, first.number - 1) } else { first_path.clone() };
        let what = match base.index {
            LogIndex::ZERO => "the snapshot is missing, or segments before it are".to_owned(),
            index => format!("segments before it are missing, and the snapshot is of entry {index}"),
        };
        let what = format!("the log begins behind entry {}: {what}", first.base.index);
        return Err(StorageError::damaged(&missing, 0, what));
    }
    let lowest = if base.index == LogIndex::ZERO { 1 } else { first.number };
    for (expected, (_, head)) in (lowest..).zip(&heads) {
        if head.number != expected {
            let what = format!("it is missing, and segment {} is there", head.number);
            return Err(StorageError::damaged(&Segment::path(dir, expected), 0, what));
        }
    }
    Ok(heads)
}

/// Removes the segments before the first one that is held: what a crash left of forgetting the log.
pub(super) fn remove_forgotten(files: &dyn Files, dir: &Path, first: u64) -> Result<(), StorageError> {
    let forgotten: Vec<u64> = Segment::numbers(files, dir)?.into_iter().filter(|number| *number < first).collect();
    for number in &forgotten {
        let path = Segment::path(dir, *number);
        files.remove(&path).map_err(|error| StorageError::io("remove", &path, error))?;
    }
    if forgotten.is_empty() {
        return Ok(());
    }
    files.sync_dir(dir).map_err(|error| StorageError::io("sync", dir, error))
}

/// Takes frames up to the one of the sequence `stop`, or until there is no whole one; then also says what there is
/// instead.
fn read_frames(
    state: &mut State,
    bytes: &[u8],
    site: Site,
    stop: Option<u64>,
    path: &Path,
) -> Result<(usize, Option<&'static str>), StorageError> {
    let mut at = HEADER_BYTES;
    loop {
        if stop == Some(state.next_sequence) {
            return Ok((at, None));
        }
        // The file may end within the zeros that fill a frame up: the next frame belongs behind them all the same.
        let rest = bytes.get(at..).unwrap_or_default();
        match frame::check(rest, site, at as u64) {
            Ok(frame) => {
                state.take(frame, rest).map_err(|what| StorageError::damaged(path, at as u64, what))?;
                at += frame.bytes();
            }
            Err(what) => match stop {
                None => return Ok((at, Some(what))),
                Some(_) => {
                    let what = format!("frame {} should be there, and there is {what}", state.next_sequence);
                    return Err(StorageError::damaged(path, at as u64, what));
                }
            },
        }
    }
}

/// Whether the place where the frames of the last segment end is where the log ends.
///
/// **Errors:** damage, where a frame that had been synced is missing there.
fn judge_hole(
    state: &State,
    bytes: &[u8],
    tail: &Range<usize>,
    site: Site,
    synced: u64,
    path: &Path,
    what: &'static str,
) -> Result<(), StorageError> {
    let missing = state.next_sequence;
    if missing <= synced {
        let what =
            format!("frame {missing} should be there, since frames up to {synced} were synced, and there is {what}");
        return Err(StorageError::damaged(path, tail.start as u64, what));
    }
    let magic = frame::MAGIC.to_le_bytes();
    for behind in (tail.start + frame::ALIGNMENT..tail.end).step_by(frame::ALIGNMENT) {
        if !bytes[behind..].starts_with(&magic) {
            continue;
        }
        if let Ok(frame) = frame::check(&bytes[behind..], site, behind as u64)
            && frame.head.group > missing
        {
            let found = frame.head.sequence;
            let what = format!(
                "frame {missing} should be there, since frame {found} at byte {behind} was written after it was synced, \
                 and there is {what}"
            );
            return Err(StorageError::damaged(path, tail.start as u64, what));
        }
    }
    Ok(())
}

/// Where the zeros at the end begin. By blocks, since most of a segment may be zeros and this is part of every start.
fn end_of_content(bytes: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut end = bytes.len();
    for block in bytes.rchunks(BLOCK) {
        if *block != ZEROS[..block.len()] {
            let within = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            return end - block.len() + within;
        }
        end -= block.len();
    }
    end
}
