//! What the library answers.

use bytes::Bytes;
use heirloom_proto::{Epoch, ServerId, Version, WallTime};

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
}
