//! A file system beneath a storage with a bug in it: what the storage leaves undone is swallowed here.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Mutant;
use crate::storage::{Files, Listed, LockGuard, OpenFile};

/// Passes everything on but what the bug leaves out.
pub(super) struct PlantedFiles {
    files: Arc<dyn Files>,
    bug: Mutant,
}

impl PlantedFiles {
    pub(super) fn new(files: Arc<dyn Files>, bug: Mutant) -> Self {
        Self { files, bug }
    }

    fn wrap(&self, path: &Path, file: Box<dyn OpenFile>, formed: bool) -> Box<dyn OpenFile> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Box::new(PlantedFile { file, bug: self.bug, name, formed, written: Mutex::default() })
    }
}

impl Files for PlantedFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.files.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.files.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(self.wrap(path, self.files.create(path)?, true))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(self.wrap(path, self.files.open(path)?, false))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // The directory of a store alone, where segments are made: a server that can't be formatted catches nothing.
        match self.bug == Mutant::NameSyncLeftOut && path.ends_with("store") {
            true => Ok(()),
            false => self.files.sync_dir(path),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        match self.bug == Mutant::LockLeftOut {
            true => Ok(Some(Box::new(()))),
            false => self.files.lock(path),
        }
    }
}

struct PlantedFile {
    file: Box<dyn OpenFile>,
    bug: Mutant,
    name: String,
    /// Whether it was opened to be made, and not to be used.
    formed: bool,
    /// The last write, with its offset.
    written: Mutex<(u64, Vec<u8>)>,
}

impl PlantedFile {
    /// Whether the storage never touches this file again once it is made.
    fn is_left_alone(&self) -> bool {
        self.bug == Mutant::RegisterKeptOnce && self.name == "register.b" && !self.formed
    }
}

impl OpenFile for PlantedFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        if self.bug == Mutant::ReadBackFromMemory {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            if written.0 == offset && written.1.len() == bytes_max {
                return Ok(written.1.clone());
            }
        }
        self.file.read_at(offset, bytes_max)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.is_left_alone() {
            return Ok(());
        }
        if self.bug == Mutant::ReadBackFromMemory {
            *self.written.lock().unwrap_or_else(PoisonError::into_inner) = (offset, bytes.to_vec());
        }
        self.file.write_at(offset, bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let left_out = match self.bug {
            Mutant::LogSyncLeftOut => self.name.starts_with("log-"),
            Mutant::RegisterSyncLeftOut => self.name.starts_with("register."),
            _ => self.is_left_alone(),
        };
        if left_out { Ok(()) } else { self.file.sync() }
    }

    fn evict(&self) -> io::Result<()> {
        self.file.evict()
    }
}
