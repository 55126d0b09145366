//! The data directory: whose it is, who may use it, and what is loaded from the store in it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_backup::Durable;
use heirloom_proto::{Identity, Register, ServerId, StoreId};

use super::error::{Damage, StorageError, is_full};
use super::files::{Files, LockGuard};
use super::folder::{
    FORMING, NEXT, SET_ASIDE, STORE, create_all, list, lock, refuse_foreign, rename_durably, sync_above,
};
use super::identity::{
    decode_identity, decode_recovery, decode_register, encode_identity, encode_recovery, encode_register,
};
use super::log::{Log, Opened, SEGMENT_BYTES};
use super::progress::Progress;
use super::replacement::{STORE_ID, draw, form};
use super::scan;
use super::slots::{Kind, Slot, Slots};
use super::snapshot::{self, Shelf};
use crate::mutants::Planted;

/// What a store takes beside its log, many times over. **Units:** bytes.
const SPARE_BYTES: u64 = 1 << 20;

/// The data directory of a server, locked against every other process as long as this value or a [`Store`] of it lives.
pub struct DataDir {
    files: Arc<dyn Files>,
    path: PathBuf,
    server: ServerId,
    segment_bytes: u64,
    identity: Option<Identity>,
    /// What was found to be damaged before anything was loaded.
    damage: Option<Damage>,
    /// What was damaged and mended before anything was loaded.
    mended: Vec<Damage>,
    planted: Planted,
    lock: Arc<LockGuard>,
}

/// The open files of one store: what a [`super::Disk`] writes to.
pub struct Store {
    pub(super) log: LogStore,
    pub(super) votes: VoteStore,
    pub(super) shelf: Arc<Shelf>,
    mended: Vec<Damage>,
}

/// What the thread of the log writes to.
pub(super) struct LogStore {
    pub(super) path: PathBuf,
    pub(super) log: Log,
    pub(super) progress: Slots,
    pub(super) reached: Progress,
    torn_bytes: u64,
    pub(super) planted: Planted,
    _in_use: Arc<LockGuard>,
}

/// What the thread of the votes writes to.
pub(super) struct VoteStore {
    pub(super) owner: (ServerId, StoreId),
    pub(super) identity: Slots,
    pub(super) register: Slots,
    _in_use: Arc<LockGuard>,
}

impl fmt::Debug for DataDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataDir").field("path", &self.path).field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.log.path).finish_non_exhaustive()
    }
}

impl Store {
    /// How much of a torn tail of the log was cut when it was loaded: what a crash interrupted, and nobody was told of.
    /// **Units:** bytes.
    pub fn torn_bytes(&self) -> u64 {
        self.log.torn_bytes
    }

    /// What there is of snapshots in it.
    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    /// What was damaged when it was loaded, and mended from the second copy that is kept of it.
    pub fn mended(&self) -> &[Damage] {
        &self.mended
    }
}

impl DataDir {
    /// Opens, and where it is blank or absent formats, the data directory of `server`. A damaged store opens too, so that
    /// it can be set aside; [`DataDir::load`] tells.
    ///
    /// **Errors:** every [`StorageError`] but damage, each before anything was changed.
    pub fn open(files: Arc<dyn Files>, path: &Path, server: ServerId) -> Result<Self, StorageError> {
        let (lock, is_blank) = enter(&*files, path)?;
        if is_blank {
            let identity = Identity {
                server,
                store: StoreId(draw(STORE_ID, path)?),
                cluster: None,
                enrolled: BTreeMap::new(),
                enrolment_open: false,
            };
            form(&*files, path, &identity, None)?;
        }
        Self::open_store(files, path, Some(server), lock)
    }

    /// Opens a data directory that is blank or absent, with the first store that `form` makes for it under the name from
    /// which it takes its place; `None` where there is a store.
    ///
    /// **Errors:** as [`DataDir::open`], and those of `form`; the directory is blank then.
    pub(super) fn open_formed(
        files: Arc<dyn Files>,
        path: &Path,
        server: ServerId,
        form: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<Option<Self>, StorageError> {
        let (lock, is_blank) = enter(&*files, path)?;
        if !is_blank {
            return Ok(None);
        }
        form()?;
        Self::open_store(files, path, Some(server), lock).map(Some)
    }

    /// Opens a data directory that must be there, whosever it is; `None` where there is no store in it.
    pub(super) fn open_existing(files: Arc<dyn Files>, path: &Path) -> Result<Option<Self>, StorageError> {
        let names = match list(&*files, path) {
            Ok(names) => names,
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        refuse_foreign(&*files, path, &names)?;
        if !names.iter().any(|name| name == STORE || name == NEXT) {
            return Ok(None);
        }
        let lock = lock(&*files, path)?;
        Self::open_store(files, path, None, lock).map(Some)
    }

    fn open_store(
        files: Arc<dyn Files>,
        path: &Path,
        server: Option<ServerId>,
        lock: LockGuard,
    ) -> Result<Self, StorageError> {
        // Whose it is comes before everything that changes something.
        let names = list(&*files, path)?;
        let newest = if names.iter().any(|name| name == NEXT) { NEXT } else { STORE };
        let identity = read_identity(&*files, &path.join(newest));
        if let (Ok((identity, _)), Some(asked)) = (&identity, server)
            && identity.server != asked
        {
            return Err(StorageError::OtherServer { dir: path.to_owned(), found: identity.server, asked });
        }
        let server = identity.as_ref().map_or(server, |(identity, _)| Some(identity.server));
        let (server, (identity, mended), damage) = match (server, identity) {
            (Some(server), Ok((identity, mended))) => (server, (Some(identity), mended), None),
            (Some(server), Err(StorageError::Damaged(damage))) => (server, (None, None), Some(damage)),
            (_, Err(error)) => return Err(error),
            (None, Ok(_)) => unreachable!("an identity names its server"),
        };
        let mut dir = Self {
            files,
            path: path.to_owned(),
            server,
            segment_bytes: SEGMENT_BYTES,
            identity,
            damage,
            mended: mended.into_iter().collect(),
            planted: Planted::NONE,
            lock: Arc::new(lock),
        };
        dir.finish_replacement()?;
        dir.finish_recovery()?;
        // What was renamed may so far be renamed in memory only, where a process crashed before its sync.
        dir.files.sync_dir(path).map_err(|error| StorageError::io("sync", path, error))?;
        Ok(dir)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who it belongs to; `None` where the identity is damaged.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whether there is room for one more segment of the log and some more. It is tried, for a quota shows in no other way.
    ///
    /// **Errors:** where the machine fails otherwise.
    pub fn has_room(&self) -> Result<bool, StorageError> {
        // Under a name that is removed at the next start.
        let path = self.path.join(FORMING);
        let tried = self.files.create(&path).and_then(|file| file.allocate(self.room_bytes()));
        let removed = self.files.remove(&path).map_err(|error| StorageError::io("remove", &path, error));
        match tried {
            Ok(()) => removed.map(|()| true),
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(StorageError::io("reserve room in", &path, error)),
        }
    }

    /// How much [`DataDir::has_room`] looks for. **Units:** bytes.
    pub fn room_bytes(&self) -> u64 {
        self.segment_bytes + SPARE_BYTES
    }

    pub(super) fn server(&self) -> ServerId {
        self.server
    }

    pub(super) fn files(&self) -> &dyn Files {
        &*self.files
    }

    pub(super) fn shared_files(&self) -> Arc<dyn Files> {
        Arc::clone(&self.files)
    }

    /// Notes that another store is in use now, which is whole.
    pub(super) fn replaced(&mut self, identity: Identity) {
        (self.identity, self.damage) = (Some(identity), None);
    }

    fn store_path(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// Plants a bug in what is loaded from here on.
    pub(crate) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Makes segments of the log short, so that tests see many.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// Reads and checks all that is stored, cuts a torn tail of the log, and makes durable what was found.
    ///
    /// **Errors:** damage, a newer format, or a failure of the machine.
    ///
    /// **Panics if** a [`Store`] of an earlier load, or a [`super::Disk`] started with it, is still in use.
    pub fn load(&mut self) -> Result<(Durable, Store), StorageError> {
        self.check_unused();
        // A replacement that failed halfway comes first: were it carried out later, what is voted until then would be lost.
        self.finish_replacement()?;
        if let Some(damage) = &self.damage {
            return Err(StorageError::Damaged(damage.clone()));
        }
        let path = self.store_path();
        let (identity_slots, bytes) = Slots::open(&*self.files, &path, Kind::Identity, None)?;
        let identity = decode_identity(bytes)
            .map_err(|error| StorageError::damaged(&path.join("identity.a"), 0, error.to_string()))?;
        self.identity = Some(identity.clone());
        let store = identity.store;
        if identity_slots.store() != store {
            return Err(StorageError::damaged(&path.join("identity.a"), 0, "it belongs to another store"));
        }
        let (register_slots, bytes) = Slots::open(&*self.files, &path, Kind::Register, Some(store))?;
        let register = decode_register(bytes)
            .map_err(|error| StorageError::damaged(&path.join("register.a"), 0, error.to_string()))?;
        let (progress, bytes) = Slots::open_lossy(&*self.files, &path, Kind::Progress, store)?;
        let reached = bytes.and_then(|bytes| Progress::decode(bytes).ok()).unwrap_or_default();
        let (base, stored) = snapshot::load(&*self.files, &path)?;
        let base_at = base.head().position;
        let opened = Log::open(Arc::clone(&self.files), &path, store, self.segment_bytes, reached.synced, base_at)?;
        let Opened { log, entries, base_mark, torn_bytes } = opened;
        if reached.commit > log.end().index {
            let what = format!("the log ends at {}, and {} entries were committed", log.end().index, reached.commit);
            return Err(StorageError::damaged(&path, 0, what));
        }
        // All names are durable now, and all that is kept was read and is right.
        snapshot::remove_others(&*self.files, &path, base_at.index)?;
        scan::remove_forgotten(&*self.files, &path, log.first_segment())?;
        self.remove_useless_fetched(&identity, log.end())?;
        let commit = reached.commit.max(base_at.index);
        let shelf = Shelf::new(Arc::clone(&self.files), path.clone(), store, log.reach(), stored, base_mark);
        let durable = Durable { identity, register, base, log: entries, commit };
        let in_use = || Arc::clone(&self.lock);
        let votes = VoteStore {
            owner: (durable.identity.server, store),
            identity: identity_slots,
            register: register_slots,
            _in_use: in_use(),
        };
        let log = LogStore { path, log, progress, reached, torn_bytes, planted: self.planted, _in_use: in_use() };
        let mut mended = std::mem::take(&mut self.mended);
        mended.extend([&votes.identity, &votes.register].into_iter().filter_map(Slots::mended).cloned());
        Ok((durable, Store { log, votes, shelf: Arc::new(shelf), mended }))
    }

    pub(super) fn check_unused(&self) {
        assert_eq!(Arc::strong_count(&self.lock), 1, "the store is still in use");
    }

    /// Writes down what a new generation stores in register and identity, durably and as one step: from here on it
    /// happens, if not now then when the directory is next opened.
    pub(super) fn begin_recovery(&mut self, identity: &Identity, register: &Register) -> Result<(), StorageError> {
        let path = self.store_path();
        let (unfinished, finished) = ("recovery.new", Kind::Recovery.name());
        let payload = encode_recovery(identity, register);
        let bytes = Slot { store: identity.store, sequence: 1, payload }.encode(Kind::Recovery);
        let file_path = path.join(unfinished);
        let io = |error| StorageError::io("write", &file_path, error);
        let file = self.files.create(&file_path).map_err(io)?;
        file.write_at(0, &bytes).map_err(io)?;
        file.sync().map_err(io)?;
        rename_durably(&*self.files, &path, unfinished, finished)
    }

    /// Carries out what [`Self::begin_recovery`] wrote down, if anything.
    pub(super) fn finish_recovery(&mut self) -> Result<(), StorageError> {
        let store = self.store_path();
        let path = store.join(Kind::Recovery.name());
        let io = |what| {
            let path = path.clone();
            move |error| StorageError::io(what, &path, error)
        };
        let file = match self.files.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io("open")(error)),
        };
        file.sync().map_err(io("sync"))?;
        let planned = Slot::read(&*file, &path, Kind::Recovery)?
            .map_err(str::to_owned)
            .and_then(|slot| decode_recovery(slot.payload).map_err(|error| error.to_string()));
        let written = match planned {
            Err(what) => Err(StorageError::damaged(&path, 0, format!("it holds {what}"))),
            Ok((identity, register)) => self.write_recovery(identity, &register),
        };
        match written {
            // The damage must not keep the directory from being opened and set aside.
            Err(StorageError::Damaged(damage)) => {
                self.damage = Some(damage);
                return Ok(());
            }
            written => written?,
        }
        self.files.remove(&path).map_err(io("remove"))?;
        self.files.sync_dir(&store).map_err(io("sync"))
    }

    fn write_recovery(&mut self, identity: Identity, register: &Register) -> Result<(), StorageError> {
        let path = self.store_path();
        let store = Some(identity.store);
        let (mut registers, _) = Slots::open(&*self.files, &path, Kind::Register, store)?;
        let (mut identities, _) = Slots::open(&*self.files, &path, Kind::Identity, store)?;
        if let Some((cluster, _)) = &identity.cluster {
            snapshot::rename_cluster(&*self.files, &path, *cluster)?;
        }
        registers.write(&encode_register(Some(register)))?;
        identities.write(&encode_identity(&identity))?;
        self.identity = Some(identity);
        Ok(())
    }
}

/// Makes the directory where it is absent, and locks it; gives whether a first store is to be made in it.
fn enter(files: &dyn Files, path: &Path) -> Result<(LockGuard, bool), StorageError> {
    if is_absent(files, path)? {
        create_all(files, path)?;
    }
    let lock = lock(files, path)?;
    let is_blank = is_blank(files, path)?;
    if is_blank {
        sync_above(files, path)?;
    }
    Ok((lock, is_blank))
}

/// Whether there is no directory. One that holds something else than stores is refused.
fn is_absent(files: &dyn Files, path: &Path) -> Result<bool, StorageError> {
    match list(files, path) {
        Ok(names) => refuse_foreign(files, path, &names).map(|()| false),
        Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether there is no store in a directory, nor ever was; changes nothing.
///
/// **Errors:** where it holds something else, or stores that were set aside alone; or the machine fails.
pub(super) fn is_blank(files: &dyn Files, path: &Path) -> Result<bool, StorageError> {
    if is_absent(files, path)? {
        return Ok(true);
    }
    let names = list(files, path)?;
    if names.iter().any(|name| name == STORE || name == NEXT) {
        return Ok(false);
    }
    match names.iter().any(|name| name.starts_with(SET_ASIDE)) {
        true => Err(StorageError::NoStore { dir: path.to_owned() }),
        false => Ok(true),
    }
}

/// With what was damaged of it, and is mended.
pub(super) fn read_identity(files: &dyn Files, store: &Path) -> Result<(Identity, Option<Damage>), StorageError> {
    let (slots, bytes) = Slots::open(files, store, Kind::Identity, None)?;
    let identity = decode_identity(bytes)
        .map_err(|error| StorageError::damaged(&store.join("identity.a"), 0, error.to_string()))?;
    Ok((identity, slots.mended().cloned()))
}
