//! What the library answers.

use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::{Epoch, ServerId, Version, WallTime};
use heirloom_session::Freshness;

/// A change that is committed: no crash that the cluster survives undoes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Changed {
    /// The dictionary's version with this change. Of a delete that found nothing, the version at which it found nothing.
    pub version: Version,
    /// Whether the key had a value before.
    pub existed: bool,
    /// On how many servers the change was read back; for a change that had to be retried, at least on how many.
    pub copies: u32,
    /// The server that carried it out: the primary.
    pub server: ServerId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// What came of a change under conditions. Either is certain: no answer at all is an error.
#[must_use = "a condition that is not met is no error, and nothing was changed"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conditional {
    /// The conditions were met and the change is committed.
    Done(Changed),
    /// A condition was not met and nothing was changed.
    NotMet(NotMet),
}

impl Conditional {
    /// The change, where it was made.
    pub fn changed(self) -> Option<Changed> {
        match self {
            Self::Done(changed) => Some(changed),
            Self::NotMet(_) => None,
        }
    }
}

/// A condition that was not met. What it was judged by is committed: it was so at that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotMet {
    /// Which, by its position among the conditions of the set; the first of those not met.
    pub condition: usize,
    /// The version of its key's last change; `None` where it had no value.
    pub found: Option<Version>,
    /// The dictionary's version at which it was judged.
    pub version: Version,
    /// The server that judged it: the primary.
    pub server: ServerId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// A value that was appended and is committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Appended {
    /// The key that was made: the prefix and the number in 20 digits, so that keys and numbers have one order.
    pub key: Bytes,
    /// Its number under the prefix, from 1.
    pub number: u64,
    /// The dictionary's version with it.
    pub version: Version,
    /// On how many servers it was read back; where it had to be retried, at least on how many.
    pub copies: u32,
    /// The server that carried it out: the primary.
    pub server: ServerId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// The version of the key's last change.
    pub version: Version,
    /// The time of the key's last change, by the calendar of the server that was the primary then; for people.
    pub changed_at: WallTime,
    /// The server that answered.
    pub server: ServerId,
    /// Its epoch.
    pub epoch: Epoch,
    /// What was looked at.
    pub looked: Looked,
}

/// What a read looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Looked {
    /// The dictionary's version, of which the answer is a part.
    pub version: Version,
    /// Whether the server that was asked answered by itself, having asked no other.
    pub local: bool,
    /// That state was the newest one at some moment no longer ago than this; `None` where that is not known.
    pub age: Option<Duration>,
}

/// How a key is read; [`Default`] is what [`crate::Client::read`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ReadOptions {
    /// How fresh the answer must be.
    pub consistency: Freshness,
    /// The only server that is to be asked; `None` for any, near ones first. It asks the primary where it must.
    pub from: Option<ServerId>,
}
