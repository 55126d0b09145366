//! Why a server ends other than on request.

use std::fmt;

use crate::storage::StorageError;

/// What every sentence about a damaged file holds, and no other about a disk.
const DAMAGE_WORDS: &str = " is damaged at byte ";

/// Why a server ended, as one sentence for people.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration is wrong; nothing was done.
    Usage(String),
    /// The data directory can't be used.
    Storage(StorageError),
    /// The disk failed; after a failed sync nothing more is written by the process.
    Disk(String),
    /// The disk gave back something else than was written to it.
    Damage(String),
    /// The machine failed otherwise.
    Machine(String),
    /// A part of the program panicked: always a bug.
    Bug(String),
}

impl Failure {
    /// What ends a server whose disk failed while it ran.
    ///
    /// What comes from the threads of the disk has passed through the node as a sentence. The same reason at the start of
    /// a server is a [`StorageError`], and both end with the same code.
    pub(crate) fn of_disk(what: String) -> Self {
        if what.contains(DAMAGE_WORDS) { Self::Damage(what) } else { Self::Disk(what) }
    }

    /// The exit code of a program that ends for this reason: 2 where the command line is wrong, 3 where the machine
    /// failed, 4 where what was stored is not what is found.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Storage(error) => error.exit_code(),
            Self::Damage(_) => 4,
            Self::Disk(_) | Self::Machine(_) => 3,
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
            Self::Damage(what) => write!(
                f,
                "the disk does not keep what is written to it ({what}): nothing more was written; replace it, and start \
                 the server again, which then looks what is left"
            ),
            Self::Bug(what) => write!(f, "a bug in heirloom: {what}"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Usage(_) | Self::Disk(_) | Self::Damage(_) | Self::Machine(_) | Self::Bug(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;
    use crate::storage::Damage;

    #[test]
    fn a_disk_that_fails_ends_a_server_with_the_same_code_at_its_start_and_later() {
        let damaged = || {
            let what = "right after the sync it holds something else".to_owned();
            StorageError::Damaged(Damage { file: PathBuf::from("/d/log-1"), offset: 4096, what })
        };
        let failed = || {
            let source = io::Error::from_raw_os_error(28);
            StorageError::Io { what: "write", path: PathBuf::from("/d/log-1"), source }
        };
        assert_eq!(Failure::of_disk(damaged().to_string()).exit_code(), 4);
        assert_eq!(Failure::Storage(damaged()).exit_code(), 4);
        assert_eq!(Failure::of_disk(failed().to_string()).exit_code(), 3);
        assert_eq!(Failure::Storage(failed()).exit_code(), 3);
        assert_eq!(Failure::of_disk(crate::storage::QueueFull.to_string()).exit_code(), 3);
    }
}
