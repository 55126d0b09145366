//! The data directory as a folder among others: its names, its lock, and whether it is ours at all.

use std::io;
use std::path::Path;

use super::error::StorageError;
use super::files::{Files, LockGuard};

const LOCK: &str = "lock";
pub(super) const STORE: &str = "store";
/// A store that is being made; worthless after a crash.
pub(super) const FORMING: &str = "forming";
/// A store that is whole and durable and takes the place of the present one, whatever happens.
pub(super) const NEXT: &str = "next";
/// A snapshot of another server, on its way here.
pub(super) const FETCHED: &str = "fetched";
pub(super) const SET_ASIDE: &str = "set-aside-";
/// What an operator may still want to look at; older ones are removed.
pub(super) const SET_ASIDE_MAX: usize = 2;
/// What `mkfs` leaves in a file system that is a data directory as a whole.
const LOST_AND_FOUND: &str = "lost+found";

/// Gives a name in `dir` up for another, durably.
pub(super) fn rename_durably(files: &dyn Files, dir: &Path, from: &str, to: &str) -> Result<(), StorageError> {
    let path = dir.join(from);
    files.rename(&path, &dir.join(to)).map_err(|error| StorageError::io("rename", &path, error))?;
    files.sync_dir(dir).map_err(|error| StorageError::io("sync", dir, error))
}

/// The names in a directory.
pub(super) fn list(files: &dyn Files, path: &Path) -> Result<Vec<String>, StorageError> {
    let listed = files.list(path).map_err(|error| StorageError::io("read", path, error))?;
    Ok(listed.into_iter().map(|listed| listed.name).collect())
}

/// The number in the name of a file that is named by `prefix` and 16 hexadecimal digits. Another spelling of it is none: that
/// file would then be looked for under the name that it does not have.
pub(super) fn number_in(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:016x}") == digits).then_some(number)
}

/// Keeps every other process out.
pub(super) fn lock(files: &dyn Files, path: &Path) -> Result<LockGuard, StorageError> {
    let file = path.join(LOCK);
    let guard = files.lock(&file).map_err(|error| StorageError::io("lock", &file, error))?;
    guard.ok_or_else(|| StorageError::Locked { dir: path.to_owned() })
}

/// A directory without a store must hold nothing at all that is not ours: it may be somebody's home.
pub(super) fn refuse_foreign(files: &dyn Files, path: &Path, names: &[String]) -> Result<(), StorageError> {
    let has = |name: &str| names.iter().any(|found| found == name);
    for store in [STORE, NEXT] {
        let inside = if has(store) { list(files, &path.join(store))? } else { Vec::new() };
        if inside.iter().any(|name| name == "identity.a" || name == "identity.b") {
            return Ok(());
        }
    }
    // What may be there before the first store is, and what a crash may leave of making it.
    let ours = |name: &str| {
        [LOCK, LOST_AND_FOUND].contains(&name)
            || (has(LOCK) && (name == FORMING || name == FETCHED || name.starts_with(SET_ASIDE)))
    };
    match names.iter().find(|name| !ours(name)) {
        Some(found) => Err(StorageError::Foreign { dir: path.to_owned(), found: found.clone() }),
        None => Ok(()),
    }
}

/// The stores that were set aside, the oldest first.
pub(super) fn set_aside(names: &[String]) -> Vec<(u64, String)> {
    let numbered = |name: &String| {
        let number = name.strip_prefix(SET_ASIDE)?.rsplit('-').next()?.parse().ok()?;
        Some((number, name.clone()))
    };
    let mut found: Vec<(u64, String)> = names.iter().filter_map(numbered).collect();
    found.sort();
    found
}

/// Makes a directory with what is missing above it.
pub(super) fn create_all(files: &dyn Files, path: &Path) -> Result<(), StorageError> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let created = match (files.create_dir(path), above) {
        (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            create_all(files, above)?;
            files.create_dir(path)
        }
        (created, _) => created,
    };
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StorageError::io("create", path, error)),
        _ => Ok(()),
    }
}

/// Makes the names durable by which the directory is found. All of them, and not only those that this call made: an
/// earlier one may have been killed between making a name and syncing it.
pub(super) fn sync_above(files: &dyn Files, path: &Path) -> Result<(), StorageError> {
    for above in path.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match files.sync_dir(above) {
            // What this user may not read is not what it made, and some file systems sync no directories.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) => {}
            synced => synced.map_err(|error| StorageError::io("sync", above, error))?,
        }
    }
    Ok(())
}
