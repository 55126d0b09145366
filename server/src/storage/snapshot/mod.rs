//! Snapshots: the state at an index as a file, which stands for the log up to there.
//!
//! One is made from the one before it and the log behind that, without touching the state in memory, and read again before
//! anything is forgotten on its strength. What it must be equal to, the live copy says.

mod fetched;
mod format;
mod make;
mod reader;
mod saved;
mod shelf;
#[cfg(test)]
mod tests;
mod worker;
mod writer;

use std::path::{Path, PathBuf};

use heirloom_backup::{State, StateBuilder, StateHead};
use heirloom_proto::{ClusterId, LogIndex};

use super::error::StorageError;
use super::files::Files;
use super::folder::{list, number_in};
pub(super) use fetched::head_of as fetched_head;
pub use fetched::{FetchPlace, Fetched};
pub use format::SnapshotHead;
#[cfg(any(test, feature = "testing"))]
pub(super) use format::seal;
pub use make::Whole;
use make::check_whole;
pub(super) use make::{Bounds, check_and_keep};
pub(super) use reader::SnapshotReader;
pub use saved::SavedSnapshot;
pub(super) use shelf::Stored;
pub use shelf::{Checked, Shelf, SnapshotSource};
pub use worker::SnapshotReport;
pub(super) use worker::{Asked, Others, Worker};

const PREFIX: &str = "snapshot-";
/// One that is being made; worthless after a crash.
const UNFINISHED: &str = "snapshot.new";

/// The file of the snapshot at an index.
pub(super) fn path_of(dir: &Path, index: LogIndex) -> PathBuf {
    dir.join(format!("{PREFIX}{:016x}", index.0))
}

/// The indices of the snapshots in a store, in order.
pub(super) fn indices(files: &dyn Files, dir: &Path) -> Result<Vec<LogIndex>, StorageError> {
    let index = |name: &String| number_in(name, PREFIX).map(LogIndex);
    let mut found: Vec<LogIndex> = list(files, dir)?.iter().filter_map(index).collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads the snapshot at an index.
///
/// **Errors:** damage, a newer format, or a failure of the machine.
fn open(files: &dyn Files, dir: &Path, index: LogIndex) -> Result<SnapshotReader, StorageError> {
    let path = path_of(dir, index);
    let reader = SnapshotReader::open(files, &path)?;
    let found = reader.head().state.position.index;
    if found != index {
        return Err(StorageError::damaged(&path, 0, format!("it is the snapshot of entry {found}")));
    }
    Ok(reader)
}

/// Reads the newest snapshot of a store into memory; the state before the first entry where there is none.
///
/// **Errors:** damage, a newer format, or a failure of the machine.
pub(super) fn load(files: &dyn Files, dir: &Path) -> Result<(State, Option<Stored>), StorageError> {
    let Some(newest) = indices(files, dir)?.pop() else { return Ok((State::default(), None)) };
    let mut reader = open(files, dir, newest)?;
    let mut builder = StateBuilder::new(reader.head().state);
    while let Some(part) = reader.next() {
        builder.push(part?).map_err(|what| reader.damaged(what))?;
    }
    let state = builder.finish().map_err(|what| reader.damaged(what))?;
    Ok((state, Some(Stored { head: reader.head(), bytes: reader.length() })))
}

/// Reads all of the snapshot with this head.
///
/// **Errors:** damage, also where it is another; or a failure of the machine.
pub(super) fn check(files: &dyn Files, dir: &Path, head: &StateHead) -> Result<(), StorageError> {
    let reader = open(files, dir, head.position.index)?;
    if reader.head().state != *head {
        return Err(reader.damaged("it is another snapshot"));
    }
    check_whole(reader, &mut |_| ()).map(|_| ())
}

/// Removes what a snapshot has made useless: those before it, and one that was not finished. Its own name must be durable.
pub(super) fn remove_others(files: &dyn Files, dir: &Path, kept: LogIndex) -> Result<(), StorageError> {
    let remove = |path: &Path| files.remove(path).map_err(|error| StorageError::io("remove", path, error));
    for index in indices(files, dir)?.into_iter().filter(|index| *index < kept) {
        remove(&path_of(dir, index))?;
    }
    if list(files, dir)?.iter().any(|name| name == UNFINISHED) {
        remove(&dir.join(UNFINISHED))?;
    }
    Ok(())
}

/// Writes the snapshot of a state to a file, durable but for its name, in pieces of about this length. Gives how long it is.
#[cfg(any(test, feature = "testing"))]
pub(super) fn write(
    files: &dyn Files,
    path: &Path,
    cluster: ClusterId,
    state: &State,
    piece_bytes: usize,
) -> Result<u64, StorageError> {
    let mut writer = writer::SnapshotWriter::create(files, path, state.head().position)?;
    writer.set_piece_bytes(piece_bytes);
    state.parts().try_for_each(|part| writer.push(&part))?;
    writer.finish(SnapshotHead { cluster, state: state.head() })
}

/// Names the cluster's new generation in the newest snapshot, durably: what it holds belongs to that, and is sent to its
/// servers. The header lies in one sector, so it is the old one or the new one after a crash, and a load takes either.
pub(super) fn rename_cluster(files: &dyn Files, dir: &Path, cluster: ClusterId) -> Result<(), StorageError> {
    let Some(newest) = indices(files, dir)?.pop() else { return Ok(()) };
    let head = open(files, dir, newest)?.head();
    let path = path_of(dir, newest);
    let file = files.open(&path).map_err(|error| StorageError::io("open", &path, error))?;
    file.write_at(0, &SnapshotHead { cluster, ..head }.encode())
        .map_err(|error| StorageError::io("write", &path, error))?;
    file.sync().map_err(|error| StorageError::io("sync", &path, error))
}
