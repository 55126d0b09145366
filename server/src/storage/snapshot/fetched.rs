//! A snapshot of another server, on its way here.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_backup::StateHead;
use heirloom_proto::ClusterId;

use super::format::{HEADER_BYTES, SnapshotHead};
use super::make::{Whole, check_whole};
use super::reader::SnapshotReader;
use crate::storage::error::StorageError;
use crate::storage::files::{Files, OpenFile};

/// How much is written between two syncs. **Units:** bytes.
const SYNC_BYTES: u64 = 4 << 20;

/// Where a data directory keeps what is fetched.
#[derive(Clone)]
pub struct FetchPlace {
    files: Arc<dyn Files>,
    path: PathBuf,
}

impl fmt::Debug for FetchPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchPlace").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FetchPlace {
    pub(in crate::storage) fn new(files: Arc<dyn Files>, path: PathBuf) -> Self {
        Self { files, path }
    }

    /// Opens the file, with what an earlier transfer left of a snapshot of this cluster: header and whole pieces.
    ///
    /// **Errors:** where the machine fails.
    pub fn open(&self, cluster: ClusterId) -> Result<Fetched, StorageError> {
        Fetched::open(Arc::clone(&self.files), self.path.clone(), Some(cluster))
    }
}

/// The file that a transfer fills. It outlives the process, so that the transfer can go on where it ended.
pub struct Fetched {
    files: Arc<dyn Files>,
    path: PathBuf,
    /// Of which cluster alone it may be; `None`: of any.
    cluster: Option<ClusterId>,
    file: Box<dyn OpenFile>,
    head: Option<SnapshotHead>,
    offset: u64,
    /// Whether what was found at the opening ends with the end mark.
    found_whole: bool,
    synced_to: u64,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("head", &self.head).field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// The head of what has been fetched so far; `None` where there is nothing of use.
pub(in crate::storage) fn head_of(files: &dyn Files, path: &Path) -> Result<Option<SnapshotHead>, StorageError> {
    match SnapshotReader::open(files, path) {
        Ok(reader) => Ok(Some(reader.head())),
        Err(StorageError::Damaged(_) | StorageError::NewerFormat { .. }) => Ok(None),
        Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Fetched {
    /// Opens the file, with what is there already of a snapshot of this cluster, or of any.
    pub(in crate::storage) fn open(
        files: Arc<dyn Files>,
        path: PathBuf,
        cluster: Option<ClusterId>,
    ) -> Result<Self, StorageError> {
        let left = head_of(&*files, &path)?.filter(|head| cluster.is_none_or(|cluster| head.cluster == cluster));
        let io = |error| StorageError::io("open", &path, error);
        let file = if left.is_some() { files.open(&path).map_err(io)? } else { files.create(&path).map_err(io)? };
        let mut fetched = Self { files, path, cluster, file, head: left, offset: 0, found_whole: false, synced_to: 0 };
        if left.is_some() {
            let mut reader = SnapshotReader::open(&*fetched.files, &fetched.path)?;
            fetched.found_whole = reader.skip_whole()?;
            fetched.offset = reader.offset();
            fetched.synced_to = fetched.offset;
        }
        Ok(fetched)
    }

    /// Which snapshot it is, once the header is here.
    pub fn head(&self) -> Option<StateHead> {
        self.head.map(|head| head.state)
    }

    /// The same, with its cluster.
    pub(in crate::storage) fn snapshot_head(&self) -> Option<SnapshotHead> {
        self.head
    }

    /// Whether what was found at the opening lacks nothing.
    pub(in crate::storage) fn found_whole(&self) -> bool {
        self.found_whole
    }

    /// From where on it is wanted. **Units:** bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Throws away what is here, because what is to come is of another snapshot, or was wrong.
    ///
    /// **Errors:** where the machine fails.
    pub fn begin_anew(&mut self) -> Result<(), StorageError> {
        self.file = self.files.create(&self.path).map_err(|error| StorageError::io("create", &self.path, error))?;
        (self.head, self.offset, self.found_whole, self.synced_to) = (None, 0, false, 0);
        Ok(())
    }

    /// Takes the bytes that come next.
    ///
    /// **Errors:** where the machine fails, or the header is not that of a snapshot of this cluster.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_at(self.offset, bytes).map_err(|error| StorageError::io("write", &self.path, error))?;
        self.offset += bytes.len() as u64;
        if self.head.is_none() && self.offset >= HEADER_BYTES as u64 {
            let head = SnapshotReader::open(&*self.files, &self.path)?.head();
            self.check_cluster(head)?;
            self.head = Some(head);
        }
        if self.offset - self.synced_to >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    fn check_cluster(&self, head: SnapshotHead) -> Result<(), StorageError> {
        match self.cluster.filter(|cluster| head.cluster != *cluster) {
            None => Ok(()),
            Some(cluster) => {
                let what = format!("it is a snapshot of {:?}, and this server is of {cluster:?}", head.cluster);
                Err(StorageError::damaged(&self.path, 0, what))
            }
        }
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.synced_to = self.offset;
        self.file.sync().map_err(|error| StorageError::io("sync", &self.path, error))
    }

    /// Makes all of it durable, reads it again and checks it, end mark and digest included: what
    /// [`crate::storage::DataDir::install`] takes. This reads the whole file.
    ///
    /// **Errors:** damage with its place, where it is not whole and right; or a failure of the machine.
    pub fn finish(self) -> Result<StateHead, StorageError> {
        Ok(self.finish_telling(&mut |_| ())?.head.state)
    }

    /// The same, and tells now and then up to which byte it was checked.
    pub(in crate::storage) fn finish_telling(mut self, tell: &mut dyn FnMut(u64)) -> Result<Whole, StorageError> {
        self.sync()?;
        let reader = SnapshotReader::open(&*self.files, &self.path)?;
        reader.evict()?;
        self.check_cluster(reader.head())?;
        check_whole(reader, tell)
    }
}
