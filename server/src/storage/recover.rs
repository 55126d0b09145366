//! The last resort of an operator: a new generation of the cluster from one server's data, made offline.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use heirloom_backup::Durable;
use heirloom_proto::{
    Answer, ClusterId, Constants, Entry, Epoch, Identity, LogIndex, Member, Register, RunId, Sealed, ServerId,
    Standing, StoreId, Version, View, VoterKind, WallTime,
};

use super::data_dir::DataDir;
use super::error::StorageError;
use super::files::Files;
use super::log::LogRecord;
use super::progress::Progress;
use super::replacement::draw;

/// What `heirloom recover` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The server whose data it is.
    pub server: ServerId,
    /// Its store.
    pub store: StoreId,
    /// The cluster in its new generation.
    pub cluster: ClusterId,
    /// The epoch of the view that holds this server alone.
    pub epoch: Epoch,
    /// The last entry, which is the marker of that epoch: all before it is committed now.
    pub log_end: LogIndex,
    /// The version of the dictionary.
    pub version: Version,
    /// How far the old generation was known to be committed here; what lies between may never have been answered.
    pub known_committed: LogIndex,
    /// Whether the last view that this server had accepted named its store as a member: if not, it was catching up,
    /// and others may have more.
    pub was_member: bool,
}

/// Why `heirloom recover` did nothing.
#[derive(Debug)]
pub enum RecoverError {
    /// There is no data directory.
    Missing {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The directory belongs to no cluster yet.
    Blank {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory is that of a witness, which keeps no data.
    Witness {
        /// The data directory.
        dir: PathBuf,
    },
    /// The log holds nothing.
    Empty {
        /// The data directory.
        dir: PathBuf,
    },
    /// It can't be read or written.
    Storage(StorageError),
}

impl RecoverError {
    /// The exit code of a program that ends for this reason.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Missing { .. } | Self::Blank { .. } | Self::Witness { .. } | Self::Empty { .. } => 2,
            Self::Storage(error) => error.exit_code(),
        }
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { dir } => {
                write!(f, "there is no data directory {}: name one that a server has used", dir.display())
            }
            Self::Blank { dir } => write!(
                f,
                "data directory {} belongs to no cluster, so there is nothing to recover: name one that holds data",
                dir.display()
            ),
            Self::Witness { dir } => write!(
                f,
                "data directory {} is a witness's, which keeps no data: recover from a data server",
                dir.display()
            ),
            Self::Empty { dir } => write!(
                f,
                "the log in {} holds no entry, so its server was never a member: recover from another server",
                dir.display()
            ),
            Self::Storage(StorageError::Damaged(damage)) => {
                write!(f, "{damage}; a new generation needs an undamaged store: recover from another server")
            }
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StorageError> for RecoverError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Starts a new generation of the cluster from the data in this directory: a view of this server alone, in a new epoch
/// whose marker ends the log, so that all that the log holds is committed. Every server of the old generation comes back
/// as a learner, and what only they had is lost.
///
/// The order is safe against a crash: first the marker (by itself an entry without effect of an epoch that nobody
/// promised, which the old generation cuts), then one record that says what register and identity become. Either that
/// record is there, and the next opening carries it out, or nothing has happened. Calling it again is harmless: it makes
/// one generation more.
///
/// **Errors:** [`RecoverError`], each before anything was changed, but for failures of the machine.
pub fn recover(files: Arc<dyn Files>, data_dir: &Path) -> Result<Recovered, RecoverError> {
    let dir = DataDir::open_existing(files, data_dir)?;
    recover_in(dir.ok_or_else(|| RecoverError::Missing { dir: data_dir.to_owned() })?)
}

/// The same for a directory that is open.
pub(super) fn recover_in(mut dir: DataDir) -> Result<Recovered, RecoverError> {
    let data_dir = dir.path().to_owned();
    let path = || data_dir.clone();
    let (Durable { identity, register, base, log, commit }, mut store) = dir.load()?;
    let Some((cluster, constants)) = &identity.cluster else { return Err(RecoverError::Blank { dir: path() }) };
    if constants.kind(identity.server) == Some(VoterKind::Witness) {
        return Err(RecoverError::Witness { dir: path() });
    }
    let base = base.head();
    let (last, last_epoch, version) = match log.last().map(|sealed| sealed.entry()) {
        Some(last) => (last.index, last.epoch, last.version),
        None => (base.position.index, base.epoch, base.version),
    };
    if last == LogIndex::ZERO {
        return Err(RecoverError::Empty { dir: path() });
    }
    let promised = register.as_ref().map_or(Epoch::NONE, |register| register.promised);
    let member = Member { server: identity.server, store: identity.store };
    let was_member =
        register.as_ref().and_then(|register| register.accepted.as_ref()).is_some_and(|view| view.has(member));
    // Above the log's last epoch as well: the marker of an attempt that was interrupted is there, and nobody promised it.
    let epoch = promised.max(last_epoch).next_for(identity.server, draw_run(&data_dir)?);
    let cluster = ClusterId { id: cluster.id, generation: cluster.generation + 1 };
    let Beginning { marker, register, identity } =
        Beginning::alone(member, (cluster, constants.clone()), last, version, epoch);
    let log_end = marker.index();

    store.log.log.carry_out(&[LogRecord::Append(vec![marker])])?;
    dir.begin_recovery(&identity, &register)?;
    dir.finish_recovery()?;
    let reached = Progress { confirmed: log_end, commit: log_end, synced: store.log.log.synced() };
    store.log.progress.note(&reached.encode())?;
    store.log.progress.sync_both()?;
    let Member { server, store } = member;
    Ok(Recovered { server, store, cluster, epoch, log_end, version, known_committed: commit, was_member })
}

/// What is stored of a cluster, or of a generation, that begins with one server's data.
pub(super) struct Beginning {
    /// The last entry: all before it is committed with it.
    pub(super) marker: Sealed,
    /// Of a voter that has chosen itself alone.
    pub(super) register: Register,
    /// Of one that counts the others, which are blank, as voters that have never voted.
    pub(super) identity: Identity,
}

impl Beginning {
    /// Of this member alone, in this epoch, behind the entry `last`, which gave this version.
    pub(super) fn alone(
        member: Member,
        cluster: (ClusterId, Constants),
        last: LogIndex,
        version: Version,
        epoch: Epoch,
    ) -> Self {
        let Member { server, store } = member;
        let marker = Sealed::new(Entry {
            index: last.next(),
            epoch,
            version,
            at: wall_time(),
            effects: Vec::new(),
            origin: None,
            answer: Answer::Nothing,
        });
        let view = View { epoch, primary: server, in_sync: BTreeSet::from([member]), leaving: BTreeSet::new() };
        view.check_invariants();
        let register = Register { promised: epoch, accepted: Some(view), standing: Standing::Intact };
        let enrolled = BTreeMap::from([(server, store)]);
        let identity = Identity { server, store, cluster: Some(cluster), enrolled, enrolment_open: true };
        Self { marker, register, identity }
    }
}

pub(super) fn draw_run(path: &Path) -> Result<RunId, StorageError> {
    draw("draw a random run id for", path).map(RunId)
}

fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
