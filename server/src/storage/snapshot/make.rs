//! Making a snapshot from the one before it and the log behind that; and the check of both, which is the first half of it.
//!
//! The log is in use meanwhile. What is read of it was synced before this began, and changes no more.

use std::ops::Range;
use std::path::PathBuf;

use heirloom_backup::{Changes, Part, Sessions, StateCheck, StateHead};
use heirloom_proto::{ChainHash, ClusterId, LogIndex, Position};

use super::format::{PIECE_BYTES, SnapshotHead};
use super::reader::SnapshotReader;
use super::shelf::{Shelf, Stored};
use super::writer::SnapshotWriter;
use super::{UNFINISHED, open, path_of};
use crate::storage::error::StorageError;
use crate::storage::files::OpenFile;
use crate::storage::folder::rename_durably;
use crate::storage::frame::{self, Content};
use crate::storage::frames::{Found, Frames};
use crate::storage::segment::{Segment, SegmentHead};

/// How much memory the changes behind the last snapshot may take, about: of a longer log a snapshot is made of the first
/// part, and then the next one. **Units:** bytes.
const CHANGES_BYTES_MAX: usize = 256 << 20;

/// Why something was not done to its end.
pub(super) enum Undone {
    /// It was told to stop.
    Stopped,
    Failed(StorageError),
}

impl From<StorageError> for Undone {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

/// Is asked now and then whether to go on.
pub(super) type GoOn<'a> = &'a dyn Fn() -> bool;

fn ask(go_on: GoOn<'_>) -> Result<(), Undone> {
    if go_on() { Ok(()) } else { Err(Undone::Stopped) }
}

/// Bounds, which tests make small.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) struct Bounds {
    pub(in crate::storage) piece_bytes: usize,
    pub(in crate::storage) changes_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { piece_bytes: PIECE_BYTES, changes_bytes_max: CHANGES_BYTES_MAX }
    }
}

/// A snapshot that was made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) stored: Stored,
    /// How much had been written to the log up to where it reaches.
    pub(super) log_mark: u64,
    /// How much was read for it. **Units:** bytes.
    pub(super) read_bytes: u64,
}

/// A segment of the log with its frames that are synced.
struct Surveyed {
    number: u64,
    path: PathBuf,
    sequences: Range<u64>,
}

/// What the log holds, by its frames' heads; every frame was read and is right.
struct Survey {
    segments: Vec<Surveyed>,
    /// Of every cut its sequence, and the lowest index that it or a later one keeps.
    cuts: Vec<(u64, LogIndex)>,
    /// How long the frames are together.
    frame_bytes: u64,
}

impl Survey {
    /// Up to which index what this frame holds was not cut since.
    fn kept_of(&self, sequence: u64) -> LogIndex {
        let later = self.cuts.partition_point(|(cut, _)| *cut <= sequence);
        self.cuts.get(later).map_or(LogIndex(u64::MAX), |(_, keep)| *keep)
    }

    fn open(&self, shelf: &Shelf, at: usize) -> Result<Frames, StorageError> {
        let Surveyed { number, path, .. } = &self.segments[at];
        Ok(Frames::open(&*shelf.files, path, shelf.store, *number)?.1)
    }
}

/// Reads every frame up to the sequence `synced`.
fn survey(shelf: &Shelf, synced: u64, go_on: GoOn<'_>) -> Result<Survey, Undone> {
    let files = &*shelf.files;
    let mut heads: Vec<(PathBuf, SegmentHead)> = Vec::new();
    for number in Segment::numbers(files, &shelf.dir)? {
        let path = Segment::path(&shelf.dir, number);
        let (head, _) = Frames::open(files, &path, shelf.store, number)?;
        if let Some((before, _)) = heads.last().filter(|(_, last)| last.number + 1 != number) {
            let what = format!("no segment {} follows it", number - 1);
            return Err(StorageError::damaged(before, 0, what).into());
        }
        heads.push((path, head));
    }
    let mut survey = Survey { segments: Vec::new(), cuts: Vec::new(), frame_bytes: 0 };
    for (at, (path, head)) in heads.iter().enumerate() {
        let end = heads.get(at + 1).map_or(u64::MAX, |(_, next)| next.first_sequence).min(synced + 1);
        let sequences = head.first_sequence..end.max(head.first_sequence);
        let (_, mut frames) = Frames::open(files, path, shelf.store, head.number)?;
        frames.evict()?;
        for sequence in sequences.clone() {
            ask(go_on)?;
            let found = frames.next(sequence)?;
            survey.frame_bytes += found.frame.bytes() as u64;
            if let Content::Cut { keep } = found.frame.head.content {
                survey.cuts.push((sequence, keep));
            }
        }
        survey.segments.push(Surveyed { number: head.number, path: path.clone(), sequences });
    }
    let mut lowest = LogIndex(u64::MAX);
    for (_, keep) in survey.cuts.iter_mut().rev() {
        lowest = lowest.min(*keep);
        *keep = lowest;
    }
    Ok(survey)
}

/// The parts of a snapshot, each checked against its head.
struct Base {
    reader: SnapshotReader,
    check: Option<StateCheck>,
    ahead: Option<Part>,
}

impl Base {
    fn open(shelf: &Shelf, stored: Stored) -> Result<Self, StorageError> {
        let reader = open(&*shelf.files, &shelf.dir, stored.head.state.position.index)?;
        if reader.head() != stored.head {
            return Err(reader.damaged("it is another snapshot than was there before"));
        }
        reader.evict()?;
        Ok(Self::of(reader))
    }

    fn of(reader: SnapshotReader) -> Self {
        let check = StateCheck::new(reader.head().state);
        Self { reader, check: Some(check), ahead: None }
    }

    /// The sessions, which come first.
    fn sessions(&mut self) -> Result<Sessions, StorageError> {
        while let Some(part) = self.next().transpose()? {
            if !matches!(part, Part::Session { .. } | Part::Answer { .. }) {
                self.ahead = Some(part);
                break;
            }
        }
        let sessions = self.check.as_ref().map(StateCheck::sessions).cloned();
        Ok(sessions.unwrap_or_default())
    }

    /// Reads all that is left.
    fn finish(mut self, go_on: GoOn<'_>) -> Result<u64, Undone> {
        while self.next().transpose()?.is_some() {
            ask(go_on)?;
        }
        Ok(self.reader.length())
    }
}

impl Iterator for Base {
    type Item = Result<Part, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(part) = self.ahead.take() {
            return Some(Ok(part));
        }
        let check = self.check.as_mut()?;
        match self.reader.next() {
            Some(Ok(part)) => Some(check.take(&part).map(|()| part).map_err(|what| self.reader.damaged(what))),
            Some(Err(error)) => Some(Err(error)),
            None => {
                let whole = self.check.take()?.finish();
                whole.err().map(|what| Err(self.reader.damaged(what)))
            }
        }
    }
}

/// Reads and checks the newest snapshot and all frames of the log that are synced. Gives how much that was.
pub(super) fn scrub(shelf: &Shelf, go_on: GoOn<'_>) -> Result<u64, Undone> {
    let synced = shelf.reach.read().synced;
    let snapshot = match shelf.stored() {
        Some(stored) => Base::open(shelf, stored)?.finish(go_on)?,
        None => 0,
    };
    Ok(snapshot + survey(shelf, synced, go_on)?.frame_bytes)
}

/// Makes a snapshot of what snapshot and log give up to `upto`, or to an earlier index where that is too much at once. It
/// is durable when this returns, and was read again.
pub(super) fn make(
    shelf: &Shelf,
    cluster: ClusterId,
    upto: &StateHead,
    bounds: Bounds,
    go_on: GoOn<'_>,
) -> Result<Made, Undone> {
    let made = make_unfinished(shelf, cluster, upto, bounds, go_on);
    if made.is_err() {
        // Where that fails too it is removed at the next start.
        let _ = shelf.files.remove(&shelf.dir.join(UNFINISHED));
    }
    made
}

fn make_unfinished(
    shelf: &Shelf,
    cluster: ClusterId,
    upto: &StateHead,
    bounds: Bounds,
    go_on: GoOn<'_>,
) -> Result<Made, Undone> {
    let reach = shelf.reach.read();
    let survey = survey(shelf, reach.synced, go_on)?;
    let (start, mut base) = match shelf.stored() {
        Some(stored) => (stored.head.state, Some(Base::open(shelf, stored)?)),
        None => (StateHead::START, None),
    };
    let sessions = base.as_mut().map_or(Ok(Sessions::default()), Base::sessions)?;
    let (changes, bytes_before) = gather(shelf, &survey, Changes::of(start, sessions), upto, bounds, go_on)?;

    let path = shelf.dir.join(UNFINISHED);
    let mut writer = SnapshotWriter::create(&*shelf.files, &path, changes.position())?;
    writer.set_piece_bytes(bounds.piece_bytes);
    let mut state = StateHead {
        position: changes.position(),
        epoch: changes.epoch(),
        version: changes.version(),
        digest: writer.digest(),
    };
    let base_bytes = base.as_ref().map_or(0, |base| base.reader.length());
    for part in changes.merged(base.into_iter().flatten()) {
        ask(go_on)?;
        writer.push(&part?)?;
    }
    state.digest = writer.digest();
    if state.position == upto.position && state != *upto {
        let what = format!(
            "snapshot and log give another state at entry {} than the one in memory: digest {}, epoch {:?}, version {}, \
             and there {}, {:?}, {}",
            state.position.index, state.digest, state.epoch, state.version, upto.digest, upto.epoch, upto.version
        );
        return Err(StorageError::damaged(&shelf.dir, 0, what).into());
    }
    let head = SnapshotHead { cluster, state };
    let bytes = writer.finish(head)?;
    // Entries will be forgotten on its strength: what counts is what the device gives back.
    let reader = SnapshotReader::open(&*shelf.files, &path)?;
    reader.evict()?;
    if reader.head() != head || reader.length() != bytes {
        return Err(reader.damaged("right after the sync it holds another snapshot").into());
    }
    Base::of(reader).finish(go_on)?;
    ask(go_on)?;
    let name = path_of(&shelf.dir, state.position.index);
    let name = name.file_name().and_then(|name| name.to_str()).expect("made of text");
    rename_durably(&*shelf.files, &shelf.dir, UNFINISHED, name)?;
    Ok(Made {
        stored: Stored { head, bytes },
        log_mark: reach.written - (survey.frame_bytes - bytes_before),
        read_bytes: base_bytes + survey.frame_bytes + bytes,
    })
}

/// Takes the entries up to `upto` that no cut took back, or as many as fit the memory, and checks the chain of all of them.
/// Gives how long the frames are up to the last one taken, too.
fn gather(
    shelf: &Shelf,
    survey: &Survey,
    mut changes: Changes,
    upto: &StateHead,
    bounds: Bounds,
    go_on: GoOn<'_>,
) -> Result<(Changes, u64), Undone> {
    let mut chain = Chain { end: changes.position(), upto: upto.position };
    let (mut bytes, mut bytes_taken) = (0, 0);
    for at in 0..survey.segments.len() {
        let mut frames = survey.open(shelf, at)?;
        for sequence in survey.segments[at].sequences.clone() {
            ask(go_on)?;
            let found = frames.next(sequence)?;
            let offset = found.offset;
            bytes += found.frame.bytes() as u64;
            let wrong = |what: String| frames.damaged(offset, what);
            for (entry, hash) in chain.follow(found, survey.kept_of(sequence)).map_err(wrong)? {
                if changes.bytes() <= bounds.changes_bytes_max {
                    changes.apply(&entry, hash).map_err(|what| frames.damaged(offset, what))?;
                    bytes_taken = bytes;
                }
            }
            if chain.end.index == chain.upto.index {
                return Ok((changes, bytes_taken));
            }
        }
    }
    let what = format!("the log ends at entry {}, and {} is applied", chain.end.index, chain.upto.index);
    Err(StorageError::damaged(&shelf.dir, 0, what).into())
}

/// Follows the entries that were not cut, by their chain hashes.
struct Chain {
    end: Position,
    upto: Position,
}

impl Chain {
    /// The entries of a frame that come next, with their hashes; up to `kept` none was cut since.
    ///
    /// **Errors:** what does not fit, as half a sentence.
    fn follow(&mut self, found: Found, kept: LogIndex) -> Result<Vec<(heirloom_proto::Sealed, ChainHash)>, String> {
        let Content::Entries { first, count } = found.frame.head.content else { return Ok(Vec::new()) };
        let last = kept.min(self.upto.index);
        if LogIndex(first.0 + u64::from(count)) <= self.end.index.next() || first > last {
            return Ok(Vec::new());
        }
        if first == self.end.index.next() && found.frame.head.chain != self.end.hash {
            return Err(format!(
                "the chain hash after entry {} is {}, and the frame says {}",
                self.end.index, self.end.hash, found.frame.head.chain
            ));
        }
        let mut next = Vec::new();
        for entry in frame::entries(count, found.body)? {
            if entry.index() <= self.end.index || entry.index() > last {
                continue;
            }
            if entry.index() != self.end.index.next() {
                return Err(format!("entry {} follows entry {}", entry.index(), self.end.index));
            }
            let hash = entry.extend(self.end.hash);
            self.end = Position { index: entry.index(), hash };
            next.push((entry, hash));
        }
        if self.end.index == self.upto.index && self.end.hash != self.upto.hash {
            return Err(format!(
                "the chain hash after entry {} is {}, and in memory it is {}",
                self.end.index, self.end.hash, self.upto.hash
            ));
        }
        Ok(next)
    }
}

/// A snapshot of which all was read and is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Of which cluster which state it is.
    pub head: SnapshotHead,
    /// How many keys have a value in it.
    pub keys: u64,
    /// How long the file is. **Units:** bytes.
    pub bytes: u64,
}

/// Reads all of a snapshot and checks what a load would check; tells now and then up to which byte that is done.
pub(super) fn check_whole(reader: SnapshotReader, tell: &mut dyn FnMut(u64)) -> Result<Whole, StorageError> {
    check_and_keep(reader, tell).map(|(whole, _)| whole)
}

/// The same, and gives the open file back.
pub(in crate::storage) fn check_and_keep(
    reader: SnapshotReader,
    tell: &mut dyn FnMut(u64),
) -> Result<(Whole, Box<dyn OpenFile>), StorageError> {
    let mut whole = Whole { head: reader.head(), keys: 0, bytes: reader.length() };
    let mut parts = Base::of(reader);
    while let Some(part) = parts.next().transpose()? {
        whole.keys += u64::from(matches!(part, Part::Key { .. }));
        tell(parts.reader.offset());
    }
    Ok((whole, parts.reader.into_file()))
}
