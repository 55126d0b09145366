//! What can be wrong with a data directory, each as one sentence with its remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use heirloom_proto::ServerId;

/// A file that does not hold what was once stored in it.
///
/// A torn tail of the log is none: that was never reported durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What was found there, as half a sentence.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.file.display(), self.offset, self.what)
    }
}

/// Why a data directory could not be used.
#[derive(Debug)]
pub enum StorageError {
    /// It belongs to another server.
    OtherServer {
        /// The data directory.
        dir: PathBuf,
        /// To whom it belongs.
        found: ServerId,
        /// Who wanted it.
        asked: ServerId,
    },
    /// Another process uses it.
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// There is a file of that name.
    NotADirectory {
        /// The data directory.
        dir: PathBuf,
    },
    /// The system does not let this user at it.
    NoPermission {
        /// What may not be touched.
        path: PathBuf,
    },
    /// It holds something else than a store of Heirloom; nothing in it was touched.
    Foreign {
        /// The data directory.
        dir: PathBuf,
        /// One of the names found.
        found: String,
    },
    /// A store is missing where stores had been set aside.
    NoStore {
        /// The data directory.
        dir: PathBuf,
    },
    /// It was written by a newer Heirloom.
    NewerFormat {
        /// The file that says so.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this build reads.
        known: u32,
    },
    /// A file is damaged.
    Damaged(Damage),
    /// The machine failed.
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

impl StorageError {
    /// The exit code of a program that ends for this reason: 2 where the command line is wrong, 4 where a file is
    /// damaged, 3 where the machine failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OtherServer { .. }
            | Self::Locked { .. }
            | Self::NotADirectory { .. }
            | Self::NoPermission { .. }
            | Self::Foreign { .. }
            | Self::NoStore { .. }
            | Self::NewerFormat { .. } => 2,
            Self::Damaged(_) => 4,
            Self::Io { .. } => 3,
        }
    }

    /// An error of the system, told apart where a person can do something about it.
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NoPermission { path: path.to_owned() },
            io::ErrorKind::NotADirectory => Self::NotADirectory { dir: path.to_owned() },
            _ => Self::Io { what, path: path.to_owned(), source },
        }
    }

    /// A damaged file.
    pub(super) fn damaged(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged(Damage { file: file.to_owned(), offset, what: what.into() })
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherServer { dir, found, asked } => write!(
                f,
                "data directory {} belongs to server {found}, and --id is {asked}: \
                 start it with --id {found}, or name another --data-dir",
                dir.display()
            ),
            Self::Locked { dir } => write!(
                f,
                "data directory {} is in use by another heirloom process: stop that one, or name another --data-dir",
                dir.display()
            ),
            Self::NotADirectory { dir } => write!(
                f,
                "--data-dir {} is not a directory: name a directory, or a path where one can be made",
                dir.display()
            ),
            Self::NoPermission { path } => write!(
                f,
                "no permission to use {}: give it to the user that runs heirloom, or name another --data-dir",
                path.display()
            ),
            Self::Foreign { dir, found } => write!(
                f,
                "--data-dir {} holds {found}, which is not Heirloom's, and was left as it is: name an empty directory",
                dir.display()
            ),
            Self::NoStore { dir } => write!(
                f,
                "data directory {} holds stores that were set aside, and none in use: \
                 rename one of them to \"store\", or name another --data-dir",
                dir.display()
            ),
            Self::NewerFormat { file, found, known } => write!(
                f,
                "{} is of format {found}, and this build reads up to {known}: use the heirloom that wrote it, or a newer one",
                file.display()
            ),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Io { what, path, source } => write!(f, "could not {what} {}: {source}", path.display()),
        }
    }
}

/// Whether there is no room left, on the device or for this user.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether that is what a sentence about a disk says: what comes from its threads has passed through the node as one.
pub(crate) fn says_full(what: &str) -> bool {
    let said = |error: rustix::io::Errno| what.ends_with(&io::Error::from(error).to_string());
    said(rustix::io::Errno::NOSPC) || said(rustix::io::Errno::DQUOT)
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
