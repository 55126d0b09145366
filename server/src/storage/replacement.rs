//! How one store takes the place of another: by renames, each of them one step, so that a crash leaves the old store or the
//! new one, and never a store that has forgotten that it once voted.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use heirloom_backup::StateHead;
use heirloom_proto::{ClusterId, Constants, Identity, Position, Register, StoreId};

use super::data_dir::{DataDir, read_identity};
use super::error::StorageError;
use super::files::Files;
use super::folder::{FETCHED, FORMING, NEXT, SET_ASIDE, SET_ASIDE_MAX, STORE, list, rename_durably, set_aside};
use super::identity::{decode_register, encode_identity, encode_register};
use super::log::Log;
use super::progress::Progress;
use super::slots::{Kind, Slots};
use super::snapshot::{self, FetchPlace};

/// What is tried where the machine gives no random store id.
pub(super) const STORE_ID: &str = "draw a random store id for";

impl DataDir {
    /// Sets the store aside, because it is damaged or can't be reconciled, and formats a new one in its place, which
    /// remembers its cluster, that it has lost its register, and, where that can be read, whom it had enrolled. Crash
    /// safe: there is the old store or the new one, never a blank one.
    ///
    /// **Panics if** a [`super::Store`] is still in use.
    pub fn reformat_as_amnesiac(&mut self, cluster: ClusterId, constants: Constants) -> Result<StoreId, StorageError> {
        let (enrolled, enrolment_open) = match self.identity() {
            Some(old) => (old.enrolled.clone(), old.enrolment_open),
            None => (BTreeMap::new(), false),
        };
        let store = StoreId(draw(STORE_ID, self.path())?);
        let cluster = Some((cluster, constants));
        let identity = Identity { server: self.server(), store, cluster, enrolled, enrolment_open };
        self.reformat(identity, Some(&Register::LOST))
    }

    /// Sets the store aside, because its cluster went on without it, and formats a blank one in its place.
    ///
    /// **Panics if** a [`super::Store`] is still in use.
    pub fn reformat_blank(&mut self) -> Result<StoreId, StorageError> {
        let identity = Identity {
            server: self.server(),
            store: StoreId(draw(STORE_ID, self.path())?),
            cluster: None,
            enrolled: BTreeMap::new(),
            enrolment_open: false,
        };
        self.reformat(identity, None)
    }

    fn reformat(&mut self, identity: Identity, register: Option<&Register>) -> Result<StoreId, StorageError> {
        self.check_unused();
        form(self.files(), self.path(), &identity, register)?;
        self.finish_replacement()?;
        self.remove_useless_fetched(&identity, Position::START)?;
        let store = identity.store;
        self.replaced(identity);
        Ok(store)
    }

    /// Puts the snapshot that was fetched in the place of all data: the store keeps its name and, as it is durable now, its
    /// register; its log begins behind the snapshot. What was there before is removed: it is only for a server that is in no
    /// view, whose data are the beginning of what the snapshot holds. Crash safe: there is the old store or the new one.
    ///
    /// `head` is what [`super::Fetched::finish`] gave.
    ///
    /// **Errors:** where the store is damaged, another snapshot or none was fetched, or the machine fails; nothing was
    /// changed then, but that the fetched snapshot may be gone.
    ///
    /// **Panics if** a [`super::Store`] is still in use.
    pub fn install(&mut self, head: &StateHead) -> Result<(), StorageError> {
        self.check_unused();
        let fetched = self.path().join(FETCHED);
        let found = snapshot::fetched_head(self.files(), &fetched)?;
        let store = self.path().join(STORE);
        let (identity, _) = read_identity(self.files(), &store)?;
        let (_, register) = Slots::open(self.files(), &store, Kind::Register, Some(identity.store))?;
        let register = decode_register(register)
            .map_err(|error| StorageError::damaged(&store.join("register.a"), 0, error.to_string()))?;
        let cluster = identity.cluster.as_ref().map(|(cluster, _)| *cluster);
        if found.is_none_or(|found| found.state != *head || Some(found.cluster) != cluster) {
            return Err(StorageError::damaged(&fetched, 0, "it is not the snapshot that was to be put in place"));
        }
        let forming = begin_forming(self.files(), self.path())?;
        let files = self.files();
        format_store(files, &forming, &identity, register.as_ref(), head.position)?;
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |error| StorageError::io(what, &path, error)
        };
        // Should a crash lose it on the way it is fetched once more.
        files.rename(&fetched, &snapshot::path_of(&forming, head.position.index)).map_err(io("rename", &fetched))?;
        files.sync_dir(&forming).map_err(io("sync", &forming))?;
        files.sync_dir(self.path()).map_err(io("sync", self.path()))?;
        // Once more, where nobody knows it by name: a store that can't be loaded would take the register with it.
        snapshot::check(files, &forming, head)?;
        rename_durably(files, self.path(), FORMING, NEXT)?;
        self.finish_replacement()?;
        self.replaced(identity);
        Ok(())
    }

    /// Puts a store that is whole in its place.
    pub(super) fn finish_replacement(&self) -> Result<(), StorageError> {
        let names = list(self.files(), self.path())?;
        let has = |name: &str| names.iter().any(|found| found == name);
        if has(FORMING) {
            self.remove(FORMING)?;
        }
        if has(NEXT) {
            let mut same_store = false;
            if has(STORE) {
                let owner =
                    |name| read_identity(self.files(), &self.path().join(name)).ok().map(|(owner, _)| owner.store);
                let old = owner(STORE);
                same_store = old.is_some() && old == owner(NEXT);
                let aside = if same_store {
                    // The same store with a snapshot in the place of its data; what is left of them is worthless.
                    FORMING.to_owned()
                } else {
                    let owner = old.map_or_else(|| "unknown".to_owned(), |store| store.to_string());
                    let number = 1 + set_aside(&names).last().map_or(0, |(number, _)| *number);
                    format!("{SET_ASIDE}{owner}-{number}")
                };
                rename_durably(self.files(), self.path(), STORE, &aside)?;
            }
            rename_durably(self.files(), self.path(), NEXT, STORE)?;
            if same_store {
                self.remove(FORMING)?;
            }
        }
        let old = set_aside(&list(self.files(), self.path())?);
        for (_, name) in &old[..old.len().saturating_sub(SET_ASIDE_MAX)] {
            self.remove(name)?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.path().join(name);
        self.files().remove(&path).map_err(|error| StorageError::io("remove", &path, error))?;
        self.files().sync_dir(self.path()).map_err(|error| StorageError::io("sync", self.path(), error))
    }

    /// Where a snapshot of another server is written to as it comes. Nothing may be written there during a load, which
    /// removes what has become useless, or while it is installed.
    pub fn fetch_place(&self) -> FetchPlace {
        FetchPlace::new(self.shared_files(), self.path().join(FETCHED))
    }

    /// Removes a fetched snapshot that is of another cluster, or holds no more than a log that ends here.
    pub(super) fn remove_useless_fetched(&self, identity: &Identity, end: Position) -> Result<(), StorageError> {
        if !list(self.files(), self.path())?.iter().any(|name| name == FETCHED) {
            return Ok(());
        }
        let cluster = identity.cluster.as_ref().map(|(cluster, _)| *cluster);
        match snapshot::fetched_head(self.files(), &self.path().join(FETCHED))? {
            Some(head) if Some(head.cluster) == cluster && head.state.position.index > end.index => Ok(()),
            Some(_) | None => self.remove(FETCHED),
        }
    }
}

/// Makes the folder for a new store.
pub(super) fn begin_forming(files: &dyn Files, dir: &Path) -> Result<PathBuf, StorageError> {
    let path = dir.join(FORMING);
    match files.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StorageError::io("remove", &path, error)),
        _ => {}
    }
    files.create_dir(&path).map_err(|error| StorageError::io("create", &path, error))?;
    Ok(path)
}

/// Fills the folder of a store whose log goes on from `base`.
pub(super) fn format_store(
    files: &dyn Files,
    path: &Path,
    identity: &Identity,
    register: Option<&Register>,
    base: Position,
) -> Result<(), StorageError> {
    let reached = Progress { confirmed: base.index, commit: base.index, synced: 0 };
    Slots::format(files, path, Kind::Identity, identity.store, &encode_identity(identity))?;
    Slots::format(files, path, Kind::Register, identity.store, &encode_register(register))?;
    Slots::format(files, path, Kind::Progress, identity.store, &reached.encode())?;
    Log::format(files, path, identity.store, base)
}

/// Makes a store that is whole and durable, under the name from which it takes the place of the present one.
pub(super) fn form(
    files: &dyn Files,
    dir: &Path,
    identity: &Identity,
    register: Option<&Register>,
) -> Result<(), StorageError> {
    let path = begin_forming(files, dir)?;
    format_store(files, &path, identity, register, Position::START)?;
    finish_forming(files, dir)
}

/// Gives the store that was formed, and whose files are durable, the name from which it takes its place.
pub(super) fn finish_forming(files: &dyn Files, dir: &Path) -> Result<(), StorageError> {
    let path = dir.join(FORMING);
    files.sync_dir(&path).map_err(|error| StorageError::io("sync", &path, error))?;
    rename_durably(files, dir, FORMING, NEXT)
}

/// A random number for a store; `what` says of which kind, as "draw a random store id for".
pub(super) fn draw(what: &'static str, path: &Path) -> Result<u64, StorageError> {
    getrandom::u64().map_err(|error| StorageError::io(what, path, io::Error::other(error.to_string())))
}
