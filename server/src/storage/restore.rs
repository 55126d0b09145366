//! A new cluster from the file of a snapshot, made offline.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_proto::{ClusterId, Constants, Epoch, LogIndex, Member, Position, ServerId, StoreId, VoterKind};

use super::data_dir::{DataDir, is_blank};
use super::error::StorageError;
use super::files::{Files, OpenFile};
use super::log::{Log, LogRecord, SEGMENT_BYTES};
use super::progress::Progress;
use super::recover::{Beginning, draw_run};
use super::replacement::{STORE_ID, begin_forming, draw, finish_forming, format_store};
use super::slots::{Kind, Slots};
use super::snapshot::{self, Fetched, SnapshotHead, SnapshotReader, Whole};

/// How much is copied at a time. **Units:** bytes.
const COPY_BYTES: usize = 1 << 20;

/// A file that should hold a snapshot.
pub struct RestoreFrom {
    /// The file.
    pub file: Box<dyn OpenFile>,
    /// Its name, for errors.
    pub path: PathBuf,
}

impl fmt::Debug for RestoreFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreFrom").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoring {
    /// The file was checked up to this byte.
    Checked(u64),
    /// It was copied up to this byte.
    Copied(u64),
}

/// What `heirloom snapshot restore` made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The server whose data directory it is.
    pub server: ServerId,
    /// The new cluster.
    pub cluster: ClusterId,
    /// The snapshot, as the file has it: with the cluster in which it was saved.
    pub whole: Whole,
    /// The epoch of the view that holds this server alone: above all of the snapshot.
    pub epoch: Epoch,
    /// The last entry, which is the marker of that epoch.
    pub log_end: LogIndex,
}

/// Why `heirloom snapshot restore` did nothing.
#[derive(Debug)]
pub enum RestoreError {
    /// There is a store in the data directory.
    NotBlank {
        /// The data directory.
        dir: PathBuf,
    },
    /// The server is to be a witness, which keeps no data.
    Witness {
        /// Which.
        server: ServerId,
    },
    /// The file, or the data directory, can't be read or written.
    Storage(StorageError),
}

impl RestoreError {
    /// The exit code of a program that ends for this reason.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotBlank { .. } | Self::Witness { .. } => 2,
            Self::Storage(error) => error.exit_code(),
        }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBlank { dir } => write!(
                f,
                "data directory {} holds a store already, and was left as it is: name an empty one",
                dir.display()
            ),
            Self::Witness { server } => write!(
                f,
                "server {server} is a witness in --cluster, which keeps no data: restore as a data server, and start the \
                 witness with an empty data directory"
            ),
            Self::Storage(StorageError::Damaged(damage)) => write!(f, "{damage}; nothing was restored"),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            Self::NotBlank { .. } | Self::Witness { .. } => None,
        }
    }
}

impl From<StorageError> for RestoreError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Makes the store of a new cluster, in which `server` alone is a member, from the file of a snapshot: log and versions go
/// on behind it, in a new epoch above all of its own. The other servers join it with blank data directories.
///
/// All of the file is read and checked before anything is made, and what was copied of it is read and checked again. The
/// store is made beside its place and gets there by renames: after a crash it is all there, or the directory is blank.
///
/// **Errors:** [`RestoreError`]; the data directory is blank then.
pub fn restore(
    files: &Arc<dyn Files>,
    from: RestoreFrom,
    data_dir: &Path,
    (server, constants): (ServerId, &Constants),
    tell: &mut dyn FnMut(Restoring),
) -> Result<Restored, RestoreError> {
    restore_in(files, from, data_dir, (server, constants), SEGMENT_BYTES, tell)
}

/// The same with segments of this length.
pub(super) fn restore_in(
    files: &Arc<dyn Files>,
    from: RestoreFrom,
    data_dir: &Path,
    (server, constants): (ServerId, &Constants),
    segment_bytes: u64,
    tell: &mut dyn FnMut(Restoring),
) -> Result<Restored, RestoreError> {
    if constants.kind(server) == Some(VoterKind::Witness) {
        return Err(RestoreError::Witness { server });
    }
    let not_blank = || RestoreError::NotBlank { dir: data_dir.to_owned() };
    if !is_blank(&**files, data_dir)? {
        return Err(not_blank());
    }
    let reader = SnapshotReader::of(from.file, &from.path)?;
    reader.evict()?;
    let (whole, source) = snapshot::check_and_keep(reader, &mut |byte| tell(Restoring::Checked(byte)))?;

    let state = whole.head.state;
    let member = Member { server, store: StoreId(draw(STORE_ID, data_dir)?) };
    let cluster = ClusterId { id: draw("draw a random cluster id for", data_dir)?, generation: 1 };
    let epoch = state.epoch.next_for(server, draw_run(data_dir)?);
    let beginning = Beginning::alone(member, (cluster, constants.clone()), state.position.index, state.version, epoch);
    let log_end = beginning.marker.index();
    let form = || {
        let forming = begin_forming(&**files, data_dir)?;
        let head = SnapshotHead { cluster, ..whole.head };
        let copied = copy(files, &*source, (&from.path, whole.bytes), head, &forming, tell)?;
        if copied != head {
            return Err(StorageError::damaged(&from.path, 0, "it was changed while it was copied"));
        }
        fill(files, &forming, beginning, state.position, segment_bytes)?;
        finish_forming(&**files, data_dir)
    };
    match DataDir::open_formed(Arc::clone(files), data_dir, server, form)? {
        Some(_) => Ok(Restored { server, cluster, whole, epoch, log_end }),
        None => Err(not_blank()),
    }
}

/// Copies the file into the store that is being made, with another header; reads and checks what was written.
fn copy(
    files: &Arc<dyn Files>,
    source: &dyn OpenFile,
    (path, bytes): (&Path, u64),
    head: SnapshotHead,
    forming: &Path,
    tell: &mut dyn FnMut(Restoring),
) -> Result<SnapshotHead, StorageError> {
    let to = snapshot::path_of(forming, head.state.position.index);
    let mut copy = Fetched::open(Arc::clone(files), to, Some(head.cluster))?;
    copy.write(&head.encode())?;
    while copy.offset() < bytes {
        let more = source.read_at(copy.offset(), COPY_BYTES).map_err(|error| StorageError::io("read", path, error))?;
        if more.is_empty() {
            break;
        }
        copy.write(&more)?;
        tell(Restoring::Copied(copy.offset()));
    }
    copy.finish_telling(&mut |_| ()).map(|whole| whole.head)
}

/// Fills the folder of a store with the snapshot in it: who it is, what it voted, and the marker behind the snapshot.
fn fill(
    files: &Arc<dyn Files>,
    forming: &Path,
    beginning: Beginning,
    base: Position,
    segment_bytes: u64,
) -> Result<(), StorageError> {
    let Beginning { marker, register, identity } = beginning;
    let (store, log_end) = (identity.store, marker.index());
    format_store(&**files, forming, &identity, Some(&register), base)?;
    let mut log = Log::open(Arc::clone(files), forming, store, segment_bytes, 0, base)?.log;
    log.carry_out(&[LogRecord::Append(vec![marker])])?;
    let (mut progress, _) = Slots::open_lossy(&**files, forming, Kind::Progress, store)?;
    progress.note(&Progress { confirmed: log_end, commit: log_end, synced: log.synced() }.encode())?;
    progress.sync_both()
}
