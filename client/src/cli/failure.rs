//! How a command fails, and the exit code that says so.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use heirloom_proto::Refusal;

use crate::error::Error;

/// Why a command did not do what was asked; each with one message for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A true "no": the key is not there, the condition is not met. Exit code 1.
    No(String),
    /// It was asked wrongly, and nothing was done. Exit code 2.
    Usage(String),
    /// No answer in the time given. Exit code 3.
    Unavailable(String),
    /// Something that must never differ does, or a check failed. Exit code 4.
    Integrity(String),
    /// Nobody reads the output any more: not worth a word. Exit code 0, as other tools do it.
    NobodyReads,
}

impl Failure {
    /// Says it on standard error and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        let code = self.code();
        if self != Self::NobodyReads {
            // Where nobody hears even this, the exit code has to do.
            let _ = writeln!(io::stderr(), "heirloom: {self}");
        }
        ExitCode::from(code)
    }

    /// The same with more to say.
    pub(crate) fn and_then(self, more: &str) -> Self {
        match self {
            Self::No(what) => Self::No(what + more),
            Self::Usage(what) => Self::Usage(what + more),
            Self::Unavailable(what) => Self::Unavailable(what + more),
            Self::Integrity(what) => Self::Integrity(what + more),
            Self::NobodyReads => Self::NobodyReads,
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::NobodyReads => 0,
            Self::No(_) => 1,
            Self::Usage(_) => 2,
            Self::Unavailable(_) => 3,
            Self::Integrity(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No(what) | Self::Usage(what) | Self::Unavailable(what) | Self::Integrity(what) => f.write_str(what),
            Self::NobodyReads => Ok(()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = format!("{error:#}");
        match (&error, error.refusal()) {
            (Error::BadInput(_), _) => Self::Usage(message),
            (
                Error::NotApplied(_),
                Some(Refusal::BadKey { .. } | Refusal::BadValue { .. } | Refusal::BadSet { .. }),
            ) => Self::Usage(message),
            // What is wanted is gone, and waiting won't bring it back: a "no" that stays one.
            (Error::WatchLost(_), _)
            | (Error::NotApplied(_), Some(Refusal::VersionTooOld { .. } | Refusal::OtherCluster)) => Self::No(message),
            (Error::NotApplied(_) | Error::Unknown(_), _) => Self::Unavailable(message),
        }
    }
}

impl From<io::Error> for Failure {
    /// A failure to write the answer.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Unavailable(format!("the answer can't be written to standard output: {error}")),
        }
    }
}
