//! Why a server ends other than on request.

use std::fmt;

use crate::storage::StorageError;

/// Why a server ended, as one sentence for people.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration is wrong; nothing was done.
    Usage(String),
    /// The data directory can't be used.
    Storage(StorageError),
    /// The disk failed; after a failed sync nothing more is written by the process.
    Disk(String),
    /// The machine failed otherwise.
    Machine(String),
    /// A part of the program panicked: always a bug.
    Bug(String),
}

impl Failure {
    /// The exit code of a program that ends for this reason.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Storage(error) => error.exit_code(),
            Self::Disk(_) => 4,
            Self::Machine(_) => 3,
            Self::Bug(_) => 101,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Machine(what) => f.write_str(what),
            Self::Storage(error) => error.fmt(f),
            Self::Disk(what) => write!(
                f,
                "the disk failed ({what}): nothing more was written; mend or replace it and start the server again"
            ),
            Self::Bug(what) => write!(f, "a bug in heirloom: {what}"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Usage(_) | Self::Disk(_) | Self::Machine(_) | Self::Bug(_) => None,
        }
    }
}
