//! What can go wrong, told truthfully about time: *not applied* and *unknown* are different types.

use std::fmt;
use std::time::Duration;

use heirloom_proto::wire::refusal::sentence;
use heirloom_proto::{Refusal, ServerId, Version};
use heirloom_session::{Heard, Reason};

use heirloom_proto::{Address, BadAddress};

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The call was wrong; nothing was sent.
    BadInput(BadInput),
    /// Nothing was and nothing will be changed by this call. It may be made again.
    NotApplied(NotApplied),
    /// The change was carried out, will still be, or never is: once or not at all. Read the key to find out.
    Unknown(Unknown),
    /// A watch can't go on without a gap.
    WatchLost(WatchLost),
}

/// A call that no server could carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadInput {
    /// An address can't be read.
    Address(BadAddress),
    /// No address was given.
    NoAddress,
    /// The key is empty or too long. **Units:** bytes.
    Key {
        /// How long it is.
        bytes: usize,
    },
    /// The prefix is longer than its number leaves room for. **Units:** bytes.
    Prefix {
        /// How long it is.
        bytes: usize,
    },
    /// A change set is empty, too large, or changes a key twice.
    Set {
        /// How many changes it has.
        changes: usize,
        /// How many conditions it has.
        conditions: usize,
    },
    /// The range ends before it begins.
    Range,
    /// The cluster has no such server.
    Server {
        /// Which.
        server: ServerId,
        /// How many there are, counted from 0.
        servers: usize,
    },
    /// The value is larger than any server takes. **Units:** bytes.
    Value {
        /// How large it is.
        bytes: usize,
    },
}

/// A call that changed nothing and will change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotApplied(pub Report);

/// A change of which nobody knows whether it was carried out; it was, or will be, at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub Report);

/// Why a watch is over. What is in the keys now must be read, or scanned, and watched from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchLost {
    /// The watch was too slow, or began too late: no server that answers keeps what it wants next.
    TooOld {
        /// What was asked, for people.
        asked: String,
        /// The version that it wants next.
        wanted: Version,
        /// The oldest version that is kept: the lowest to watch from.
        oldest: Version,
    },
    /// The cluster was set back by an operator, or another one has taken its place: versions are counted anew.
    SetBack {
        /// What was asked, for people.
        asked: String,
        /// All up to this version was told, before.
        told: Version,
    },
}

/// What was asked, which servers were tried, and what each answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was asked, for people: `add "word"`.
    pub asked: String,
    /// Whether it would have changed something; a read doesn't.
    pub is_change: bool,
    /// How long an answer was waited for at most.
    pub timeout: Duration,
    /// Why the call ended; `None` where the client was closed.
    pub reason: Option<Reason>,
    /// The servers, in the order of the client's list.
    pub servers: Vec<ServerReport>,
}

/// What one server did with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// Where it is.
    pub address: Address,
    /// Its id, where it has told it.
    pub server: Option<ServerId>,
    /// What came of the call there.
    pub heard: Heard,
    /// Why there is no connection, where there is none.
    pub trouble: Option<String>,
}

impl Error {
    /// Whether the change may have been, or may still be, carried out.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// The refusal, where a server refused the call for a reason that holds at every server and every time.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::NotApplied(NotApplied(report)) | Self::Unknown(Unknown(report)) => match &report.reason {
                Some(Reason::Refused(refusal)) => Some(refusal),
                Some(Reason::OutOfTime | Reason::SessionExpired) | None => None,
            },
            Self::BadInput(_) | Self::WatchLost(_) => None,
        }
    }
}

impl std::error::Error for Error {}

impl From<WatchLost> for Error {
    fn from(lost: WatchLost) -> Self {
        Self::WatchLost(lost)
    }
}

impl From<BadInput> for Error {
    fn from(bad: BadInput) -> Self {
        Self::BadInput(bad)
    }
}

impl Error {
    /// The same, with a word more of what was asked.
    pub(crate) fn about(mut self, more: &str) -> Self {
        match &mut self {
            Self::NotApplied(NotApplied(report)) | Self::Unknown(Unknown(report)) => report.asked.push_str(more),
            Self::BadInput(_) | Self::WatchLost(_) => {}
        }
        self
    }
}

impl fmt::Display for Error {
    /// One line; with `{:#}` one line for each server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadInput(bad) => bad.fmt(f),
            Self::WatchLost(lost) => lost.fmt(f),
            Self::NotApplied(NotApplied(report)) => report.tell(f, false),
            Self::Unknown(Unknown(report)) => report.tell(f, true),
        }
    }
}

impl fmt::Display for WatchLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld { asked, wanted, oldest } => write!(
                f,
                "{asked} was cut off: what was changed at version {wanted} is no longer kept, and the oldest version that is \
                 kept is {oldest}; read or scan the keys anew, and watch from the version after that"
            ),
            Self::SetBack { asked, told } => write!(
                f,
                "{asked} was cut off: the cluster was set back, or is another one, and counts its versions anew; all up to \
                 version {told} was told before; read or scan the keys anew, and watch from the version after that"
            ),
        }
    }
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_max = heirloom_proto::limits::KEY_BYTES_MAX;
        let value_max = heirloom_proto::limits::VALUE_BYTES_MAX_MAX;
        match self {
            Self::Address(bad) => bad.fmt(f),
            Self::NoAddress => f.write_str("no server address is given: name at least one, such as 127.0.0.1:7400"),
            Self::Key { bytes: 0 } => write!(f, "the key is empty: use 1 to {key_max} bytes"),
            Self::Key { bytes } => write!(f, "the key has {bytes} bytes: use 1 to {key_max}"),
            Self::Prefix { bytes } => {
                let prefix_max = key_max - heirloom_proto::request::APPEND_DIGITS;
                write!(f, "the prefix has {bytes} bytes: use {prefix_max} at most, for the number comes behind it")
            }
            Self::Set { changes, conditions } => {
                let count_max = heirloom_proto::limits::SET_COUNT_MAX;
                write!(
                    f,
                    "the set has {changes} changes and {conditions} conditions: use 1 to {count_max} changes, each of \
                     another key, and at most {count_max} conditions"
                )
            }
            Self::Range => f.write_str("the range ends before it begins, so that no key can be in it"),
            Self::Server { server, servers } => {
                write!(f, "the cluster has no server {server}: its servers are 0 to {}", servers.saturating_sub(1))
            }
            Self::Value { bytes } => write!(f, "the value has {bytes} bytes: no server takes more than {value_max}"),
        }
    }
}

impl Report {
    fn tell(&self, f: &mut fmt::Formatter<'_>, unknown: bool) -> fmt::Result {
        let Self { asked, timeout, .. } = self;
        match (unknown, self.is_change) {
            (true, _) => write!(f, "{asked} may or may not be applied, once at most: ")?,
            (false, true) => write!(f, "{asked} was not applied: ")?,
            (false, false) => write!(f, "{asked} was not answered: ")?,
        }
        match &self.reason {
            Some(Reason::OutOfTime) => write!(f, "there was no answer within {timeout:?}")?,
            Some(Reason::Refused(refusal)) => return f.write_str(&sentence(refusal, None)),
            Some(Reason::SessionExpired) => {
                f.write_str(
                    "the connection was lost, and the session ended before the answer could be asked for again",
                )?;
            }
            None => f.write_str("this client is closed")?,
        }
        for server in &self.servers {
            f.write_str(if f.alternate() { "\n  " } else { "; " })?;
            write!(f, "{server}")?;
        }
        f.write_str(if f.alternate() { "\n" } else { "; " })?;
        match (unknown, &self.reason) {
            (_, None) => f.write_str("connect again"),
            (true, Some(_)) => {
                f.write_str("read what it changes to see whether it was; see the servers with heirloom status")
            }
            (false, Some(_)) => f.write_str("try again; if it lasts, see the servers with heirloom status"),
        }
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(server) = self.server {
            write!(f, " (server {server})")?;
        }
        f.write_str(": ")?;
        let trouble = self.trouble.as_deref().unwrap_or("there is no connection yet");
        match &self.heard {
            Heard::NotConnected => f.write_str(trouble),
            Heard::ConnectionLost => match &self.trouble {
                Some(trouble) => write!(f, "the connection was lost after asking, and then: {trouble}"),
                None => f.write_str("the connection was lost after asking"),
            },
            Heard::NotAsked => f.write_str("was not asked"),
            Heard::NoAnswer => f.write_str("was asked and did not answer"),
            Heard::Refused(Refusal::NotPrimary { primary: Some(primary) }) => {
                write!(f, "takes server {primary} for the primary")
            }
            Heard::Refused(Refusal::NotPrimary { primary: None }) => f.write_str("knows no primary at the moment"),
            Heard::Refused(Refusal::Recovering) => f.write_str("has restarted and not found its place yet"),
            Heard::Refused(refusal) => f.write_str(&sentence(refusal, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(heard: Heard) -> Report {
        let server = ServerReport {
            address: "127.0.0.1:7400".parse().expect("well formed"),
            server: Some(ServerId(0)),
            heard,
            trouble: Some("connection refused".to_owned()),
        };
        Report {
            asked: "add \"k\"".to_owned(),
            is_change: true,
            timeout: Duration::from_secs(5),
            reason: Some(Reason::OutOfTime),
            servers: vec![server],
        }
    }

    #[test]
    fn not_applied_says_what_was_asked_who_was_tried_and_what_to_do() {
        let error = Error::NotApplied(NotApplied(report(Heard::NotConnected)));
        assert_eq!(
            error.to_string(),
            "add \"k\" was not applied: there was no answer within 5s; 127.0.0.1:7400 (server 0): connection refused; \
             try again; if it lasts, see the servers with heirloom status"
        );
        assert!(!error.is_outcome_unknown());
    }

    #[test]
    fn unknown_never_claims_that_nothing_happened() {
        let error = Error::Unknown(Unknown(report(Heard::NoAnswer)));
        let text = error.to_string();
        assert!(text.contains("may or may not be applied") && !text.contains("not applied:"), "{text}");
        assert!(text.contains("read what it changes"), "{text}");
        assert_eq!(format!("{error:#}").lines().count(), 3);
    }

    #[test]
    fn a_refusal_for_good_is_all_there_is_to_say() {
        let refusal = Refusal::BadValue { bytes_max: 10 };
        let report = Report { reason: Some(Reason::Refused(refusal.clone())), ..report(Heard::NotAsked) };
        let error = Error::NotApplied(NotApplied(report));
        assert_eq!(error.to_string(), "add \"k\" was not applied: the value is too large: use at most 10 bytes");
        assert_eq!(error.refusal(), Some(&refusal));
    }
}
