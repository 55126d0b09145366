//! What there is of snapshots in the store in use, for whoever wants to know or to send it.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use heirloom_backup::StateHead;
use heirloom_proto::{LogIndex, StoreId, WallTime};

use super::format::SnapshotHead;
use super::reader::SnapshotReader;
use super::{indices, open, path_of};
use crate::clock;
use crate::storage::error::StorageError;
use crate::storage::files::{Files, OpenFile};
use crate::storage::log::Reach;

/// Whether a snapshot is worth making: what is written for it is then no more than twice the log that it stands for, and
/// what a start reads is no more than half as much again as the snapshot, or little.
const fn is_due(log_bytes: u64, snapshot_bytes: u64, log_bytes_min: u64) -> bool {
    let half = snapshot_bytes / 2;
    log_bytes > if half > log_bytes_min { half } else { log_bytes_min }
}

/// A snapshot that is durable in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct Stored {
    pub(in crate::storage) head: SnapshotHead,
    pub(in crate::storage) bytes: u64,
}

/// When every byte of the store's snapshot and log was last read and found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// When that was done.
    pub at: WallTime,
    /// How much was read. **Units:** bytes.
    pub bytes: u64,
}

/// The snapshots of the store in use, shared between threads.
pub struct Shelf {
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) store: StoreId,
    pub(super) reach: Arc<Reach>,
    newest: Mutex<Newest>,
    under_way: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    stored: Option<Stored>,
    /// How much had been written to the log up to where it reaches, by the count of [`Reach`].
    log_mark: u64,
    checked: Checked,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Shelf {
    pub(in crate::storage) fn new(
        files: Arc<dyn Files>,
        dir: PathBuf,
        store: StoreId,
        reach: Arc<Reach>,
        stored: Option<Stored>,
        log_mark: u64,
    ) -> Self {
        // A load reads and checks it all.
        let bytes = reach.read().written + stored.map_or(0, |stored| stored.bytes);
        let checked = Checked { at: clock::calendar(), bytes };
        let newest = Mutex::new(Newest { stored, log_mark, checked });
        Self { files, dir, store, reach, newest, under_way: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().expect("nothing panics under this lock")
    }

    pub(super) fn stored(&self) -> Option<Stored> {
        self.lock().stored
    }

    pub(super) fn put(&self, stored: Stored, log_mark: u64) {
        let mut newest = self.lock();
        (newest.stored, newest.log_mark) = (Some(stored), log_mark);
    }

    pub(super) fn put_checked(&self, checked: Checked) {
        self.lock().checked = checked;
    }

    pub(in crate::storage) fn begin(&self) -> bool {
        !self.under_way.swap(true, Ordering::SeqCst)
    }

    pub(super) fn end(&self) {
        self.under_way.store(false, Ordering::SeqCst);
    }

    /// Whether one is being made or checked.
    pub fn under_way(&self) -> bool {
        self.under_way.load(Ordering::SeqCst)
    }

    /// Up to where the newest snapshot reaches; zero where there is none.
    pub fn index(&self) -> LogIndex {
        self.lock().stored.map_or(LogIndex::ZERO, |stored| stored.head.state.position.index)
    }

    /// How long the newest snapshot is. **Units:** bytes.
    pub fn snapshot_bytes(&self) -> u64 {
        self.lock().stored.map_or(0, |stored| stored.bytes)
    }

    /// How much of the log stands behind the newest snapshot. **Units:** bytes.
    pub fn log_bytes(&self) -> u64 {
        // In this order: what is written meanwhile can only add.
        let mark = self.lock().log_mark;
        self.reach.read().written.saturating_sub(mark)
    }

    /// The last time that everything was read and found right, the load included.
    pub fn checked(&self) -> Checked {
        self.lock().checked
    }

    /// Of which state the newest snapshot is; `None` where there is none.
    pub fn head(&self) -> Option<StateHead> {
        self.lock().stored.map(|stored| stored.head.state)
    }

    /// Whether a snapshot is worth making now, where the log behind the last one must be at least this long.
    pub fn is_due(&self, log_bytes_min: u64) -> bool {
        !self.under_way() && is_due(self.log_bytes(), self.snapshot_bytes(), log_bytes_min)
    }

    /// Opens the newest snapshot for sending; `None` where there is none. What was opened can be read to its end, also
    /// where a newer one takes its place meanwhile.
    ///
    /// **Errors:** damage of its header, or a failure of the machine.
    pub fn open_newest(&self) -> Result<Option<SnapshotSource>, StorageError> {
        loop {
            let Some(newest) = indices(&*self.files, &self.dir)?.pop() else { return Ok(None) };
            let reader = match open(&*self.files, &self.dir, newest) {
                // Removed since it was listed, because there is a newer one: each turn looks at a newer one.
                Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            return Ok(Some(SnapshotSource::of(reader, path_of(&self.dir, newest))));
        }
    }
}

/// A snapshot that is open for sending.
pub struct SnapshotSource {
    head: SnapshotHead,
    length: u64,
    path: PathBuf,
    file: Box<dyn OpenFile>,
}

impl fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotSource").field("path", &self.path).field("head", &self.head).finish_non_exhaustive()
    }
}

impl SnapshotSource {
    fn of(reader: SnapshotReader, path: PathBuf) -> Self {
        Self { head: reader.head(), length: reader.length(), path, file: reader.into_file() }
    }

    /// Of which cluster which state it is.
    pub fn head(&self) -> SnapshotHead {
        self.head
    }

    /// How long it is. **Units:** bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Up to `bytes_max` bytes from `offset` on: fewer only where it ends.
    ///
    /// **Errors:** where the machine fails.
    pub fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Vec<u8>, StorageError> {
        let bytes_max = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes_max);
        self.file.read_at(offset, bytes_max).map_err(|error| StorageError::io("read", &self.path, error))
    }
}
