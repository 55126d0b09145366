//! How a server keeps what it must not forget: identity, register, log and progress, in one data directory.
//!
//! The format, byte by byte, and the rules of recovery are in `docs/storage.md`. What is durable, and when, is decided
//! here; what it means is decided by the node. Nothing here knows the network.
//!
//! ```text
//! DataDir::open ── locks, formats where blank ──▶ load ──▶ (Durable for the node, Store)
//!                                                             │
//!        Event::Persisted ◀── report ◀── Disk (two threads) ◀─┘── persist, note_progress
//! ```
//!
//! A life of it in a runtime:
//!
//! 1. [`DataDir::open`]; its errors end the program with [`StorageError::exit_code`].
//! 2. [`DataDir::load`]; on [`StorageError::Damaged`] the damage is reported, and [`DataDir::reformat_as_amnesiac`] with
//!    the cluster of [`DataDir::identity`] (or [`DataDir::reformat_blank`] where that is lost too or blank) makes a new
//!    store, which then loads.
//! 3. [`Disk::start`]; the actions of the node go to [`Disk::persist`] and [`Disk::note_progress`], events come back.
//! 4. [`Disk::stop`] drains; then [`DataDir::load`] again, for the next run in the same process, or the end.

mod data_dir;
mod disk;
mod error;
mod files;
mod folder;
mod frame;
mod frames;
mod identity;
mod log;
#[cfg(any(test, feature = "testing"))]
mod medium;
mod os_files;
#[cfg(any(test, feature = "testing"))]
mod power_failure;
mod progress;
mod queue;
#[cfg(any(test, feature = "testing"))]
pub mod raw;
mod recover;
mod replacement;
mod restore;
mod scan;
mod segment;
mod slots;
mod snapshot;
#[cfg(test)]
mod tests;

pub use data_dir::{DataDir, Store};
pub use disk::{Disk, QueueFull};
pub(crate) use error::says_full;
pub use error::{Damage, StorageError};
pub use files::{Files, Listed, LockGuard, OpenFile};
pub use os_files::OsFiles;
#[cfg(any(test, feature = "testing"))]
pub use power_failure::PowerFailureFiles;
pub use recover::{RecoverError, Recovered, recover};
pub use restore::{RestoreError, RestoreFrom, Restored, Restoring, restore};
pub use snapshot::{
    Checked, FetchPlace, Fetched, SavedSnapshot, Shelf, SnapshotHead, SnapshotReport, SnapshotSource, Whole,
};
