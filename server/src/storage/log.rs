//! The log on disk: frames appended to segments, one sync for all that waits, and every batch read back.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use heirloom_proto::{ChainHash, LogIndex, Position, Sealed, StoreId};

use super::error::StorageError;
use super::files::Files;
use super::frame::{self, Content, Head, Site, entry_bytes, frame_bytes};
use super::scan::{self, Held, Scanned};
use super::segment::{self, Segment, SegmentHead};

/// How long a segment is, unless a single entry is longer.
pub(super) const SEGMENT_BYTES: u64 = 64 << 20;
/// Above this a record is parted into several frames.
const FRAME_BODY_BYTES_MAX: usize = 8 << 20;
/// Above this what waits is written by more than one sync, so that the memory for a batch is bounded.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// What happens to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LogRecord {
    Append(Vec<Sealed>),
    Cut(LogIndex),
}

/// How far the log has come, for other threads.
#[derive(Debug)]
pub(super) struct Reach(Mutex<Reached>);

/// How far the log has come at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    /// The frames up to this sequence are synced and were read back.
    pub(super) synced: u64,
    /// How long all frames up to there are: counted from the first one that was kept when the store was loaded.
    pub(super) written: u64,
}

impl Reach {
    pub(super) fn new(reached: Reached) -> Self {
        Self(Mutex::new(reached))
    }

    pub(super) fn read(&self) -> Reached {
        *self.0.lock().expect("nothing panics under this lock")
    }

    fn advance(&self, synced: u64, bytes: u64) {
        let mut reached = self.0.lock().expect("nothing panics under this lock");
        reached.synced = synced;
        reached.written += bytes;
    }
}

/// The log, open for writing at its end.
///
/// **Invariants**
/// - `base` is below every index that can still be cut.
/// - `held` are the segments, the one that is written last.
/// - Everything before `offset` in the segment, and every earlier segment, is synced.
/// - Behind `offset` the segment holds zeros, but for what a write that failed left.
pub(super) struct Log {
    files: Arc<dyn Files>,
    dir: PathBuf,
    store: StoreId,
    segment_bytes: u64,
    segment: Segment,
    offset: u64,
    next_sequence: u64,
    /// What is no longer counted among the entries: a snapshot holds what they gave.
    base: Position,
    /// The chain hash of each prefix that is longer than the base: a cut needs the hash of what is kept.
    hashes: Vec<ChainHash>,
    held: VecDeque<Held>,
    disk_bytes: Arc<AtomicU64>,
    reach: Arc<Reach>,
}

/// Frames that are gathered for one write and one sync.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    /// Which record each frame carries a part of.
    records: Vec<usize>,
}

/// What is found and mended when a log is opened.
pub(super) struct Opened {
    pub(super) log: Log,
    /// Behind the base that was asked for.
    pub(super) entries: Vec<Sealed>,
    /// How long the frames are up to the base, by the count of [`Reached::written`].
    pub(super) base_mark: u64,
    /// How much of a torn tail was cut. **Units:** bytes.
    pub(super) torn_bytes: u64,
}

impl Log {
    /// Makes a log in a store that goes on from `base`. The segment's room is reserved at the first append: a witness never
    /// needs it.
    pub(super) fn format(files: &dyn Files, dir: &Path, store: StoreId, base: Position) -> Result<(), StorageError> {
        Segment::create(files, dir, SegmentHead::first(store, base), segment::HEADER_BYTES as u64, false).map(|_| ())
    }

    /// Reads, checks and mends the log of a store behind `base`, which a snapshot holds. Frames up to the sequence `synced`
    /// are known to have been synced.
    pub(super) fn open(
        files: Arc<dyn Files>,
        dir: &Path,
        store: StoreId,
        segment_bytes: u64,
        synced: u64,
        base: Position,
    ) -> Result<Opened, StorageError> {
        let scanned = scan::scan(&*files, dir, store, synced, base)?;
        let Scanned { entries, hashes, next_sequence, offset, torn_bytes, mut segment, held, frame_bytes, base_mark } =
            scanned;
        segment.bytes_max = segment.bytes_max.max(segment_bytes);
        let log = Self {
            files,
            dir: dir.to_owned(),
            store,
            segment_bytes,
            segment,
            offset,
            next_sequence,
            base,
            hashes,
            disk_bytes: Arc::new(AtomicU64::new(held.iter().map(|held| held.bytes).sum())),
            held,
            reach: Arc::new(Reach::new(Reached { synced: next_sequence - 1, written: frame_bytes })),
        };
        Ok(Opened { log, entries, base_mark, torn_bytes })
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Position {
        let index = LogIndex(self.base.index.0 + self.hashes.len() as u64);
        Position { index, hash: self.hashes.last().copied().unwrap_or(self.base.hash) }
    }

    /// How many prefixes of the log up to `index` are longer than the base.
    ///
    /// **Panics if** it is below the base.
    fn count_to(&self, index: LogIndex) -> usize {
        assert!(index >= self.base.index, "entry {index} is below the base {}", self.base.index);
        usize::try_from(index.0 - self.base.index.0).expect("fits memory")
    }

    /// Forgets the entries up to `at`, since a snapshot that is durable holds what they gave: segments that hold nothing
    /// behind that are removed.
    ///
    /// **Errors:** damage where the log holds other entries, or a failure of the machine.
    pub(super) fn forget(&mut self, at: Position) -> Result<(), StorageError> {
        let count = self.count_to(at.index);
        let own = if count == 0 { Some(self.base.hash) } else { self.hashes.get(count - 1).copied() };
        if own != Some(at.hash) {
            let what = format!(
                "a snapshot is of a log whose chain hash at entry {} is {}, and its own is {own:?}",
                at.index, at.hash
            );
            return Err(StorageError::damaged(&self.dir, 0, what));
        }
        self.hashes.drain(..count);
        self.base = at;
        // A segment goes on from its base, or, where frames in it cut below that, from where they cut: all that the log holds
        // behind `at` stands in the last segment whose base is no higher, and those behind it.
        let Some(first) = self.held.iter().rposition(|held| held.base <= at.index) else { return Ok(()) };
        for _ in 0..first {
            let Held { number, bytes, .. } = self.held[0];
            let path = Segment::path(&self.dir, number);
            self.files.remove(&path).map_err(|error| StorageError::io("remove", &path, error))?;
            self.disk_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.held.pop_front();
        }
        if first > 0 {
            self.files.sync_dir(&self.dir).map_err(|error| StorageError::io("sync", &self.dir, error))?;
        }
        Ok(())
    }

    /// The number of the first segment that is held.
    pub(super) fn first_segment(&self) -> u64 {
        self.held.front().expect("the one that is written").number
    }

    /// How far it has come; follows the log from another thread.
    pub(super) fn reach(&self) -> Arc<Reach> {
        Arc::clone(&self.reach)
    }

    /// The sequence of the last frame, which is synced.
    pub(super) fn synced(&self) -> u64 {
        self.next_sequence - 1
    }

    /// How long the files are together; follows the log from another thread.
    pub(super) fn disk_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.disk_bytes)
    }

    /// Carries out the records, in order, and gives back for each what the log now holds of it, as it was read again.
    ///
    /// After an error the log must not be used again: what it holds behind its last synced frame is not known.
    ///
    /// **Panics if** an append does not continue the log, or a cut keeps more than there is.
    pub(super) fn carry_out(&mut self, records: &[LogRecord]) -> Result<Vec<Vec<Sealed>>, StorageError> {
        let mut read_back = vec![Vec::new(); records.len()];
        let mut group = Group::default();
        for (place, record) in records.iter().enumerate() {
            match record {
                LogRecord::Append(entries) => {
                    for part in parts(entries) {
                        let first = part[0].index();
                        let count = u32::try_from(part.len()).expect("a part of a record");
                        let content = Content::Entries { first, count };
                        self.add(&mut group, place, content, part, &mut read_back)?;
                    }
                }
                LogRecord::Cut(keep) => {
                    self.add(&mut group, place, Content::Cut { keep: *keep }, &[], &mut read_back)?;
                }
            }
        }
        self.flush(&mut group, &mut read_back)?;
        Ok(read_back)
    }

    fn add(
        &mut self,
        group: &mut Group,
        place: usize,
        content: Content,
        entries: &[Sealed],
        read_back: &mut [Vec<Sealed>],
    ) -> Result<(), StorageError> {
        let bytes = frame_bytes(entries.iter().map(entry_bytes).sum());
        if group.bytes.len() + bytes > GROUP_BYTES_MAX {
            self.flush(group, read_back)?;
        }
        if self.offset + (group.bytes.len() + bytes) as u64 > self.segment.bytes_max {
            // A group never spans segments: a torn write is in the last one only.
            self.flush(group, read_back)?;
            self.roll(bytes)?;
        }
        if let Content::Cut { keep } = content {
            assert!(keep <= self.end().index, "a cut at {keep} of a log that ends at {}", self.end().index);
            self.hashes.truncate(self.count_to(keep));
        }
        let head = Head {
            content,
            sequence: self.next_sequence + group.records.len() as u64,
            group: self.next_sequence,
            chain: self.end().hash,
        };
        let offset = self.offset + group.bytes.len() as u64;
        frame::encode(&mut group.bytes, self.site(), offset, head, entries);
        group.records.push(place);
        for entry in entries {
            assert_eq!(entry.index(), self.end().index.next(), "an append continues the log");
            self.hashes.push(entry.extend(self.end().hash));
        }
        Ok(())
    }

    fn site(&self) -> Site {
        Site { store: self.store, segment: self.segment.number }
    }

    /// Goes on in a new segment. All frames so far must be flushed.
    fn roll(&mut self, frame: usize) -> Result<(), StorageError> {
        let head = SegmentHead {
            store: self.store,
            number: self.segment.number + 1,
            first_sequence: self.next_sequence,
            base: self.end(),
        };
        let bytes_max = self.segment_bytes.max((segment::HEADER_BYTES + frame) as u64);
        self.segment = Segment::create(&*self.files, &self.dir, head, bytes_max, true)?;
        self.held.push_back(Held { number: head.number, base: head.base.index, bytes: bytes_max });
        self.offset = segment::HEADER_BYTES as u64;
        self.disk_bytes.fetch_add(bytes_max, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the group, syncs once, and reads it back.
    fn flush(&mut self, group: &mut Group, read_back: &mut [Vec<Sealed>]) -> Result<(), StorageError> {
        let Group { bytes, records } = std::mem::take(group);
        if records.is_empty() {
            return Ok(());
        }
        let reserved = self.segment.reserved;
        self.segment.reserve()?;
        let more = self.segment.reserved - reserved;
        self.held.back_mut().expect("the one that is written").bytes += more;
        self.disk_bytes.fetch_add(more, Ordering::Relaxed);
        let io = |what| {
            let path = self.segment.path.clone();
            move |error| StorageError::io(what, &path, error)
        };
        self.segment.file.write_at(self.offset, &bytes).map_err(io("write"))?;
        self.segment.file.sync().map_err(io("sync"))?;
        let length = bytes.len();
        drop(bytes);
        // What is confirmed is what the log gives, not what it was given (PROTOCOL 4.3).
        let found = Bytes::from(self.segment.file.read_at(self.offset, length).map_err(io("read"))?);
        let mut at = 0;
        for (place, sequence) in records.into_iter().zip(self.next_sequence..) {
            let offset = self.offset + at as u64;
            let damaged = |what: &str| {
                StorageError::damaged(&self.segment.path, offset, format!("right after the sync it holds {what}"))
            };
            let frame = frame::check(&found[at..], self.site(), offset).map_err(damaged)?;
            if frame.head.sequence != sequence {
                return Err(damaged("another frame"));
            }
            if let Content::Entries { count, .. } = frame.head.content {
                let from = at + frame::HEADER_BYTES;
                let body = found.slice(from..from + frame.body_bytes);
                read_back[place].extend(frame::entries(count, body).map_err(|what| damaged(&what))?);
            }
            at += frame.bytes();
            self.next_sequence = sequence + 1;
        }
        assert_eq!(at, length, "the frames fill the group");
        self.offset += length as u64;
        self.reach.advance(self.synced(), length as u64);
        Ok(())
    }
}

/// Parts the entries of a record so that each part fits one frame, an entry at least.
fn parts(entries: &[Sealed]) -> impl Iterator<Item = &[Sealed]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |entry: &&Sealed| {
            bytes += entry_bytes(entry);
            bytes <= FRAME_BODY_BYTES_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (part, behind) = rest.split_at_checked(count)?;
        rest = behind;
        Some(part)
    })
}
