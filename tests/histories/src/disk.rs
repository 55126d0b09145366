//! A disk that can be made slow, full or broken while a server runs on it, by what a control file says.
//!
//! `slow N`: every sync takes N milliseconds longer. `fail`: every sync fails. `full`: nothing more can be written; `full PART`:
//! not to files with that in their paths. Anything else, or no file: as the operating system has it.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heirloom_server::storage::{Files, Listed, LockGuard, OpenFile, OsFiles};

/// The files of the operating system, with a hand on them.
#[derive(Debug)]
pub struct SteeredFiles {
    hand: Arc<Hand>,
}

#[derive(Debug)]
struct Hand {
    control: PathBuf,
    refused: AtomicU64,
}

impl SteeredFiles {
    /// Files that obey this control file.
    pub fn new(control: PathBuf) -> Self {
        Self { hand: Arc::new(Hand { control, refused: AtomicU64::new(0) }) }
    }

    /// How often something could not be written for want of room.
    pub fn refused(&self) -> u64 {
        self.hand.refused.load(Ordering::Relaxed)
    }

    fn steered(&self, path: &Path, below: Box<dyn OpenFile>) -> Box<dyn OpenFile> {
        Box::new(SteeredFile { below, path: path.to_owned(), hand: self.hand.clone() })
    }
}

impl Hand {
    fn word(&self) -> String {
        std::fs::read_to_string(&self.control).unwrap_or_default()
    }

    fn before_sync(&self) -> Result<()> {
        let word = self.word();
        if word == "fail" {
            return Err(Error::other("a sync that was made to fail"));
        }
        if let Some(delay) = word.strip_prefix("slow ").and_then(|delay| delay.parse().ok()) {
            std::thread::sleep(Duration::from_millis(delay));
        }
        Ok(())
    }

    fn before_write(&self, path: &Path) -> Result<()> {
        let word = self.word();
        let Some(part) = word.strip_prefix("full") else { return Ok(()) };
        if path.to_string_lossy().contains(part.trim_start()) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            // As the operating system says it.
            return Err(Error::from(rustix::io::Errno::NOSPC));
        }
        Ok(())
    }
}

impl Files for SteeredFiles {
    fn create_dir(&self, path: &Path) -> Result<()> {
        OsFiles.create_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<Listed>> {
        OsFiles.list(path)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn OpenFile>> {
        self.hand.before_write(path)?;
        Ok(self.steered(path, OsFiles.create(path)?))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn OpenFile>> {
        Ok(self.steered(path, OsFiles.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        OsFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        OsFiles.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.hand.before_sync()?;
        OsFiles.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<Option<LockGuard>> {
        OsFiles.lock(path)
    }
}

struct SteeredFile {
    below: Box<dyn OpenFile>,
    path: PathBuf,
    hand: Arc<Hand>,
}

impl OpenFile for SteeredFile {
    fn length(&self) -> Result<u64> {
        self.below.length()
    }

    fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Vec<u8>> {
        self.below.read_at(offset, bytes_max)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.hand.before_write(&self.path)?;
        self.below.write_at(offset, bytes)
    }

    fn allocate(&self, bytes: u64) -> Result<()> {
        self.hand.before_write(&self.path)?;
        self.below.allocate(bytes)
    }

    fn sync(&self) -> Result<()> {
        self.hand.before_sync()?;
        self.below.sync()
    }

    fn evict(&self) -> Result<()> {
        self.below.evict()
    }
}
