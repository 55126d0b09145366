//! What a server says of itself to people.

use std::time::Duration;

use crate::hash::Digest;
use crate::ids::{ClusterId, Epoch, LogIndex, Member, ServerId, Version};

/// The part that a server plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Leads.
    Primary,
    /// A member that confirms.
    Backup,
    /// Catching up, not a member.
    Learner,
    /// Votes, keeps no data.
    Witness,
    /// Has restarted, or is blank, and looks for its place.
    Recovering,
    /// Was shut out by a higher epoch and is about to recover.
    Deposed,
}

impl RoleName {
    /// The word in `status`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
            Self::Learner => "learner",
            Self::Witness => "witness",
            Self::Recovering => "recovering",
            Self::Deposed => "deposed",
        }
    }
}

/// A snapshot of one node, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which server.
    pub server: ServerId,
    /// Its part.
    pub role: RoleName,
    /// The cluster it belongs to.
    pub cluster: Option<ClusterId>,
    /// The epoch it works in, or the highest that it has promised.
    pub epoch: Epoch,
    /// Who leads, as far as it knows.
    pub primary: Option<ServerId>,
    /// The members of the newest view that it has accepted.
    pub in_sync: Vec<Member>,
    /// The last log index.
    pub log_end: LogIndex,
    /// Everything up to here is committed, as far as it knows.
    pub commit: LogIndex,
    /// Everything up to here is applied.
    pub applied: LogIndex,
    /// The version of the applied state.
    pub version: Version,
    /// The digest of the applied state.
    pub digest: Digest,
    /// How many keys have a value.
    pub keys: u64,
    /// How many sessions are open.
    pub sessions: u64,
    /// What is left of its right to answer linearizable reads by itself; `None` where it has none.
    pub lease: Option<Duration>,
    /// One sentence, where it waits for something that a person may want to know.
    pub waits_for: Option<String>,
}
