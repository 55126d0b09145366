//! What the storage asks of a file system, so that tests can put one under it that forgets what was not synced.
//!
//! Nothing here decides anything: order, syncs and what to believe after a crash are the business of the modules above.

use std::io;
use std::path::Path;

/// A file system, or one data directory's share of it.
///
/// What was written is durable only after [`OpenFile::sync`]; a name, new, changed or removed, only after
/// [`Files::sync_dir`] of the directory that holds it.
pub trait Files: Send + Sync {
    /// Makes a directory that only its owner may enter. Its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// What a directory holds, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;

    /// Makes an empty file, or empties one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;

    /// Opens a file that is there, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;

    /// Gives a file or a directory another name in the same directory, as one step. A file takes the place of a file
    /// of that name. To another directory it may be two steps, in any order.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file or a directory with all that it holds.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in this directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock that this file stands for, making the file where it is absent; `None` where another holder has
    /// it. It is free again when the guard is dropped or its process ends.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;
}

/// Keeps a lock of [`Files::lock`].
pub type LockGuard = Box<dyn std::any::Any + Send + Sync>;

/// One open file.
pub trait OpenFile: Send + Sync {
    /// Its length.
    fn length(&self) -> io::Result<u64>;

    /// Up to `bytes_max` bytes from `offset` on: fewer only where the file ends.
    fn read_at(&self, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// Writes all bytes at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reserves room, so that the file is at least this long; the new bytes are zero.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Makes all that was written durable, and as much of the length as is needed to read it.
    fn sync(&self) -> io::Result<()>;

    /// Forgets what of the file is kept in memory, so that the next read asks the device: after a failed sync the
    /// memory may hold what the device does not (Rebello et al. 2020).
    fn evict(&self) -> io::Result<()>;
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: String,
    /// Whether it is a directory.
    pub directory: bool,
}
