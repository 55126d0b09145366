//! A file system in memory that forgets what was not synced: what a power failure leaves, made at will.
//!
//! What it may do is what a disk may do. Of each file's writes since its last sync it keeps any prefix, the last one
//! torn at any sector, or any sectors at all, since caches write back in any order. Of each directory's changes since
//! its last sync it keeps any prefix. The sectors are of 512 bytes, or smaller than those of any disk, so that small
//! records tear as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::files::{Files, Listed, LockGuard, OpenFile};
use super::medium::{Content, Fuse, Medium, Node, Random, Write};

/// A file system in memory, whose clones share one medium, with a switch for its power.
#[derive(Clone, Debug)]
pub struct PowerFailureFiles {
    medium: Arc<Mutex<Medium>>,
}

fn power_gone() -> Error {
    Error::other("the power is gone")
}

impl Default for PowerFailureFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl PowerFailureFiles {
    /// An empty medium on which a sync makes durable.
    pub fn new() -> Self {
        Self::with_syncs(true)
    }

    /// An empty medium on which a sync does nothing: what a build without the sync would have. A test of durability
    /// that passes on it tests nothing.
    pub fn without_syncs() -> Self {
        Self::with_syncs(false)
    }

    fn with_syncs(syncs_count: bool) -> Self {
        let root = Node::Directory { seen: BTreeMap::new(), kept: BTreeMap::new(), pending: Vec::new() };
        let medium = Medium {
            nodes: vec![root],
            syncs_count,
            boot: 0,
            operations: 0,
            fuse: None,
            off: false,
            lose_next_write: false,
            locks: BTreeSet::new(),
            read_bytes_max: 0,
        };
        Self { medium: Arc::new(Mutex::new(medium)) }
    }

    fn lock_medium(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().expect("no holder of this lock panics")
    }

    /// Turns the power off: every operation fails until [`Self::restore_power`].
    pub fn cut_power(&self) {
        self.lock_medium().off = true;
    }

    /// Turns the power off in the midst of the operation that comes after `operations` more: it may have happened,
    /// not at all, or in part. Followed by [`Self::crash_process`] it is the process alone that was killed there.
    pub fn cut_power_after(&self, operations: u64) {
        let mut medium = self.lock_medium();
        medium.fuse = Some(Fuse::PowerAt(medium.operations + operations));
    }

    /// Lets the one operation that comes after `operations` more fail with an error of this kind, without doing it.
    pub fn fail_after(&self, operations: u64, kind: ErrorKind) {
        let mut medium = self.lock_medium();
        medium.fuse = Some(Fuse::ErrorAt(medium.operations + operations, kind));
    }

    /// Turns the power on again. Of what was not synced, `seed` says what is there. Files opened before are dead, and
    /// locks are free.
    pub fn restore_power(&self, seed: u64) {
        let mut random = Random(seed);
        let mut medium = self.lock_medium();
        medium.lose(&mut random);
        medium.wake();
    }

    /// What a crash of the process leaves: every write, synced or not, but no lock and no open file. What was not
    /// synced may still be lost with the power. The power is on after this.
    pub fn crash_process(&self) {
        self.lock_medium().wake();
    }

    /// How many operations there were so far: a bound for [`Self::cut_power_after`].
    pub fn operations(&self) -> u64 {
        self.lock_medium().operations
    }

    /// How much was asked for by one read at most: what its reader may have to reserve, however little there is.
    /// **Units:** bytes.
    pub fn read_bytes_max(&self) -> usize {
        self.lock_medium().read_bytes_max
    }

    /// Lets the disk report the next write as done and not do it.
    pub fn lose_next_write(&self) {
        self.lock_medium().lose_next_write = true;
    }

    /// Lets one bit of a file rot.
    ///
    /// **Panics if** there is no such file or byte.
    pub fn rot(&self, path: &Path, offset: u64) {
        let mut medium = self.lock_medium();
        let number = medium.find(path).expect("a file to rot");
        let Node::File { seen, kept, .. } = &mut medium.nodes[number] else { panic!("a directory does not rot") };
        for content in [seen, kept] {
            let offset = usize::try_from(offset).expect("fits memory");
            assert!(offset < content.length, "a byte to rot");
            if content.bytes.len() <= offset {
                content.bytes.resize(offset + 1, 0);
            }
            content.bytes[offset] ^= 0x10;
        }
    }

    fn operate<T>(&self, boot: Option<u64>, act: impl FnOnce(&mut Medium) -> Result<T>) -> Result<T> {
        let mut medium = self.lock_medium();
        if medium.off || boot.is_some_and(|boot| boot != medium.boot) {
            return Err(power_gone());
        }
        let now = medium.operations;
        medium.operations += 1;
        match medium.fuse {
            Some(Fuse::PowerAt(at)) if now >= at => {
                medium.off = true;
                // What is under way reaches the list of what may be lost; a sync under way has not happened.
                let syncs_count = std::mem::replace(&mut medium.syncs_count, false);
                let done = act(&mut medium);
                medium.syncs_count = syncs_count;
                // What it gave may want the medium when it is dropped.
                drop(medium);
                drop(done);
                Err(power_gone())
            }
            Some(Fuse::ErrorAt(at, kind)) if now >= at => {
                medium.fuse = None;
                Err(Error::from(kind))
            }
            _ => act(&mut medium),
        }
    }

    fn handle(&self, node: usize, boot: u64) -> Box<dyn OpenFile> {
        Box::new(Handle { files: self.clone(), node, boot })
    }
}

impl Files for PowerFailureFiles {
    fn create_dir(&self, path: &Path) -> Result<()> {
        self.operate(None, |medium| {
            if medium.find(path).is_ok() {
                return Err(Error::from(ErrorKind::AlreadyExists));
            }
            let node = Node::Directory { seen: BTreeMap::new(), kept: BTreeMap::new(), pending: Vec::new() };
            medium.add(path, node).map(|_| ())
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<Listed>> {
        self.operate(None, |medium| {
            let names = medium.names(medium.find(path)?)?;
            let listed = |(name, node): (&String, &usize)| Listed {
                name: name.clone(),
                directory: matches!(medium.nodes[*node], Node::Directory { .. }),
            };
            Ok(names.iter().map(listed).collect())
        })
    }

    fn create(&self, path: &Path) -> Result<Box<dyn OpenFile>> {
        self.operate(None, |medium| {
            let node = match medium.find(path) {
                Ok(node) => {
                    medium.write(node, Write::Empty);
                    node
                }
                Err(_) => medium.add(
                    path,
                    Node::File { seen: Content::default(), kept: Content::default(), pending: Vec::new() },
                )?,
            };
            Ok(self.handle(node, medium.boot))
        })
    }

    fn open(&self, path: &Path) -> Result<Box<dyn OpenFile>> {
        self.operate(None, |medium| Ok(self.handle(medium.find(path)?, medium.boot)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.operate(None, |medium| {
            let node = medium.find(from)?;
            let ((directory, old), (other, new)) = (medium.parent(from)?, medium.parent(to)?);
            if directory == other {
                return medium.change(directory, vec![(old, None), (new, Some(node))]);
            }
            medium.change(directory, vec![(old, None)])?;
            medium.change(other, vec![(new, Some(node))])
        })
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.operate(None, |medium| {
            medium.find(path)?;
            let (directory, name) = medium.parent(path)?;
            medium.change(directory, vec![(name, None)])
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.operate(None, |medium| {
            let node = medium.find(path)?;
            if let (true, Node::Directory { seen, kept, pending }) = (medium.syncs_count, &mut medium.nodes[node]) {
                pending.clear();
                *kept = seen.clone();
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> Result<Option<LockGuard>> {
        if self.operate(None, |medium| Ok(medium.find(path).is_err()))? {
            self.create(path)?;
        }
        self.operate(None, |medium| {
            if !medium.locks.insert(path.to_owned()) {
                return Ok(None);
            }
            let guard: LockGuard = Box::new(Guard { files: self.clone(), path: path.to_owned(), boot: medium.boot });
            Ok(Some(guard))
        })
    }
}

struct Guard {
    files: PowerFailureFiles,
    path: PathBuf,
    boot: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut medium = self.files.lock_medium();
        if medium.boot == self.boot {
            medium.locks.remove(&self.path);
        }
    }
}

struct Handle {
    files: PowerFailureFiles,
    node: usize,
    boot: u64,
}

impl Handle {
    fn operate<T>(&self, act: impl FnOnce(&mut Medium) -> Result<T>) -> Result<T> {
        self.files.operate(Some(self.boot), act)
    }
}

fn in_memory(offset: u64) -> usize {
    usize::try_from(offset).expect("what is kept in memory fits memory")
}

impl OpenFile for Handle {
    fn length(&self) -> Result<u64> {
        self.operate(|medium| match &medium.nodes[self.node] {
            Node::File { seen, .. } => Ok(seen.length as u64),
            Node::Directory { .. } => Err(Error::from(ErrorKind::IsADirectory)),
        })
    }

    fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Vec<u8>> {
        self.operate(|medium| match &medium.nodes[self.node] {
            Node::File { seen, .. } => {
                medium.read_bytes_max = medium.read_bytes_max.max(bytes_max);
                let from = in_memory(offset).min(seen.length);
                let to = from.saturating_add(bytes_max).min(seen.length);
                let written = seen.bytes.len().clamp(from, to);
                let mut bytes = seen.bytes[from.min(seen.bytes.len())..written.min(seen.bytes.len())].to_vec();
                bytes.resize(to - from, 0);
                Ok(bytes)
            }
            Node::Directory { .. } => Err(Error::from(ErrorKind::IsADirectory)),
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.operate(|medium| {
            if !std::mem::take(&mut medium.lose_next_write) {
                medium.write(self.node, Write::Bytes(in_memory(offset), bytes.to_vec()));
            }
            Ok(())
        })
    }

    fn allocate(&self, bytes: u64) -> Result<()> {
        self.operate(|medium| {
            medium.write(self.node, Write::Length(in_memory(bytes)));
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        self.operate(|medium| {
            if let (true, Node::File { kept, pending, .. }) = (medium.syncs_count, &mut medium.nodes[self.node]) {
                for write in pending.drain(..) {
                    kept.apply(&write);
                }
            }
            Ok(())
        })
    }

    fn evict(&self) -> Result<()> {
        self.operate(|_| Ok(()))
    }
}
