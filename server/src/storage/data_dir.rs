//! The data directory: whose it is, who may use it, and how one store takes the place of another.
//!
//! The store is a folder of its own, so that making one and setting one aside are renames, each of them one step: a
//! crash leaves the old store or the new one, and never a store that has forgotten that it once voted.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_proto::{ClusterId, Constants, Durable, Identity, Register, ServerId, StoreId};

use super::error::{Damage, StorageError, is_full};
use super::files::{Files, LockGuard};
use super::folder::{
    FORMING, NEXT, SET_ASIDE, SET_ASIDE_MAX, STORE, create_all, list, lock, refuse_foreign, rename_durably, set_aside,
    sync_above,
};
use super::identity::{
    decode_identity, decode_recovery, decode_register, encode_identity, encode_recovery, encode_register,
};
use super::log::{Log, Opened, SEGMENT_BYTES};
use super::progress::Progress;
use super::slots::{Kind, Slot, Slots};
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
        match list(&*files, path) {
            Ok(names) => refuse_foreign(&*files, path, &names)?,
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create_all(&*files, path)?;
            }
            Err(error) => return Err(error),
        }
        let lock = lock(&*files, path)?;
        let names = list(&*files, path)?;
        refuse_foreign(&*files, path, &names)?;
        let has = |name: &str| names.iter().any(|found| found == name);
        if !has(STORE) && !has(NEXT) {
            if names.iter().any(|name| name.starts_with(SET_ASIDE)) {
                return Err(StorageError::NoStore { dir: path.to_owned() });
            }
            let identity = Identity {
                server,
                store: draw_store(path)?,
                cluster: None,
                enrolled: BTreeMap::new(),
                enrolment_open: false,
            };
            sync_above(&*files, path)?;
            form(&*files, path, &identity, None)?;
        }
        Self::open_store(files, path, Some(server), lock)
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
        let opened = Log::open(Arc::clone(&self.files), &path, store, self.segment_bytes, reached.synced)?;
        let Opened { log, entries, torn_bytes } = opened;
        if reached.commit > log.end().index {
            let what = format!("the log ends at {}, and {} entries were committed", log.end().index, reached.commit);
            return Err(StorageError::damaged(&path, 0, what));
        }
        let durable = Durable { identity, register, log: entries, commit: reached.commit };
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
        Ok((durable, Store { log, votes, mended }))
    }

    fn check_unused(&self) {
        assert_eq!(Arc::strong_count(&self.lock), 1, "the store is still in use");
    }

    /// Sets the store aside, because it is damaged or can't be reconciled, and formats a new one in its place, which
    /// remembers its cluster, that it has lost its register, and, where that can be read, whom it had enrolled. Crash
    /// safe: there is the old store or the new one, never a blank one.
    ///
    /// **Panics if** a [`Store`] is still in use.
    pub fn reformat_as_amnesiac(&mut self, cluster: ClusterId, constants: Constants) -> Result<StoreId, StorageError> {
        let (enrolled, enrolment_open) = match &self.identity {
            Some(old) => (old.enrolled.clone(), old.enrolment_open),
            None => (BTreeMap::new(), false),
        };
        let store = draw_store(&self.path)?;
        let cluster = Some((cluster, constants));
        let identity = Identity { server: self.server, store, cluster, enrolled, enrolment_open };
        self.reformat(identity, Some(&Register::LOST))
    }

    /// Sets the store aside, because its cluster went on without it, and formats a blank one in its place.
    ///
    /// **Panics if** a [`Store`] is still in use.
    pub fn reformat_blank(&mut self) -> Result<StoreId, StorageError> {
        let identity = Identity {
            server: self.server,
            store: draw_store(&self.path)?,
            cluster: None,
            enrolled: BTreeMap::new(),
            enrolment_open: false,
        };
        self.reformat(identity, None)
    }

    fn reformat(&mut self, identity: Identity, register: Option<&Register>) -> Result<StoreId, StorageError> {
        self.check_unused();
        form(&*self.files, &self.path, &identity, register)?;
        self.finish_replacement()?;
        let store = identity.store;
        (self.identity, self.damage) = (Some(identity), None);
        Ok(store)
    }

    /// Puts a store that is whole in its place.
    fn finish_replacement(&self) -> Result<(), StorageError> {
        let names = list(&*self.files, &self.path)?;
        let has = |name: &str| names.iter().any(|found| found == name);
        if has(FORMING) {
            self.remove(FORMING)?;
        }
        if has(NEXT) {
            if has(STORE) {
                let owner = read_identity(&*self.files, &self.store_path());
                let owner = owner.map_or_else(|_| "unknown".to_owned(), |(identity, _)| identity.store.to_string());
                let number = 1 + set_aside(&names).last().map_or(0, |(number, _)| *number);
                self.rename(STORE, &format!("{SET_ASIDE}{owner}-{number}"))?;
            }
            self.rename(NEXT, STORE)?;
        }
        let old = set_aside(&list(&*self.files, &self.path)?);
        for (_, name) in &old[..old.len().saturating_sub(SET_ASIDE_MAX)] {
            self.remove(name)?;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        rename_durably(&*self.files, &self.path, from, to)
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.path.join(name);
        self.files.remove(&path).map_err(|error| StorageError::io("remove", &path, error))?;
        self.files.sync_dir(&self.path).map_err(|error| StorageError::io("sync", &self.path, error))
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
        registers.write(&encode_register(Some(register)))?;
        identities.write(&encode_identity(&identity))?;
        self.identity = Some(identity);
        Ok(())
    }
}

/// Makes a store that is whole and durable, under the name from which it takes the place of the present one.
pub(super) fn form(
    files: &dyn Files,
    dir: &Path,
    identity: &Identity,
    register: Option<&Register>,
) -> Result<(), StorageError> {
    let path = dir.join(FORMING);
    let io = |what| {
        let path = path.clone();
        move |error| StorageError::io(what, &path, error)
    };
    match files.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("remove")(error)),
        _ => {}
    }
    files.create_dir(&path).map_err(io("create"))?;
    Slots::format(files, &path, Kind::Identity, identity.store, &encode_identity(identity))?;
    Slots::format(files, &path, Kind::Register, identity.store, &encode_register(register))?;
    Slots::format(files, &path, Kind::Progress, identity.store, &Progress::default().encode())?;
    Log::format(files, &path, identity.store)?;
    files.sync_dir(&path).map_err(io("sync"))?;
    rename_durably(files, dir, FORMING, NEXT)
}

/// With what was damaged of it, and is mended.
fn read_identity(files: &dyn Files, store: &Path) -> Result<(Identity, Option<Damage>), StorageError> {
    let (slots, bytes) = Slots::open(files, store, Kind::Identity, None)?;
    let identity = decode_identity(bytes)
        .map_err(|error| StorageError::damaged(&store.join("identity.a"), 0, error.to_string()))?;
    Ok((identity, slots.mended().cloned()))
}

fn draw_store(path: &Path) -> Result<StoreId, StorageError> {
    getrandom::u64()
        .map(StoreId)
        .map_err(|error| StorageError::io("draw a random store id for", path, io::Error::other(error.to_string())))
}
