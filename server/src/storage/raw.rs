//! Data directories as tests need them: made of given parts, and made to look whole after bytes of them were changed.
//!
//! A checksum keeps all that is changed at random away from what lies behind it. Sealed again, bytes that were never
//! written come as far as the readers of what they say.

use std::path::Path;
use std::sync::Arc;

use heirloom_backup::State;
use heirloom_proto::{ClusterId, Constants, Identity, LogIndex, Record, Register, ServerId, StoreId};

use super::data_dir::{DataDir, Store};
use super::error::StorageError;
use super::files::Files;
use super::folder::create_all;
use super::frame::Site;
use super::log::LogRecord;
use super::progress::Progress;
use super::replacement::form;
use super::restore::{RestoreError, RestoreFrom, Restored, restore_in};
use super::{segment, slots, snapshot};

/// Makes a data directory with this identity and this register; its log is empty.
///
/// **Errors:** where it can't be written.
pub fn format(
    files: &dyn Files,
    path: &Path,
    identity: &Identity,
    register: Option<&Register>,
) -> Result<(), StorageError> {
    create_all(files, path)?;
    form(files, path, identity, register)
}

/// Carries out changes of the log, those of a group by one write and one sync, and notes how far it is synced.
///
/// **Errors:** where they can't be written.
///
/// **Panics if** they do not continue the log, or are no changes of the log.
pub fn write(store: &mut Store, groups: &[Vec<Record>]) -> Result<(), StorageError> {
    for group in groups {
        let of_log = |record: &Record| match record {
            Record::Append(entries) => LogRecord::Append(entries.clone()),
            Record::Cut { keep } => LogRecord::Cut(*keep),
            Record::Register(_) | Record::Identity(_) => panic!("no change of the log: {record:?}"),
        };
        store.log.log.carry_out(&group.iter().map(of_log).collect::<Vec<_>>())?;
    }
    note_progress(store)
}

/// Notes that the log is confirmed and synced as far as it goes.
pub(super) fn note_progress(store: &mut Store) -> Result<(), StorageError> {
    let log = &store.log.log;
    let reached = Progress { confirmed: log.end().index, commit: LogIndex(0), synced: log.synced() };
    store.log.progress.note(&reached.encode())
}

/// Leaves a data directory as a `recover` does that was killed before it was done.
///
/// **Errors:** where it can't be written.
pub fn begin_recovery(dir: &mut DataDir, identity: &Identity, register: &Register) -> Result<(), StorageError> {
    dir.begin_recovery(identity, register)
}

/// Writes the snapshot of a state to a file, in pieces of about this length. **Units:** bytes.
///
/// **Errors:** where it can't be written.
pub fn write_snapshot(
    files: &dyn Files,
    path: &Path,
    cluster: ClusterId,
    state: &State,
    piece_bytes: usize,
) -> Result<(), StorageError> {
    snapshot::write(files, path, cluster, state, piece_bytes).map(|_| ())
}

/// [`super::restore()`] with segments of this length. **Units:** bytes.
///
/// **Errors:** as there.
pub fn restore(
    files: &Arc<dyn Files>,
    from: RestoreFrom,
    data_dir: &Path,
    of: (ServerId, &Constants),
    segment_bytes: u64,
) -> Result<Restored, RestoreError> {
    restore_in(files, from, data_dir, of, segment_bytes, &mut |_| ())
}

/// Makes the checksum right again of the bytes of an identity, a register, a progress or a recovery.
pub fn seal_record(bytes: &mut [u8]) {
    slots::seal(bytes);
}

/// Makes the checksums right again of the bytes of this segment of the log of a store.
pub fn seal_segment(bytes: &mut [u8], store: StoreId, segment: u64) {
    segment::seal(bytes, Site { store, segment });
}

/// Makes the checksums right again of the bytes of this snapshot.
pub fn seal_snapshot(bytes: &mut [u8]) {
    snapshot::seal(bytes);
}
