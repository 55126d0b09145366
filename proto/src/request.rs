//! What clients ask, and what they are told.

use std::time::Duration;

use bytes::Bytes;

use crate::ids::{ClusterId, Epoch, LogIndex, ServerId, SessionId, Version};
use crate::scan::{Scan, Scanned};
use crate::time::WallTime;

/// The name of a request that may be retried: one that was carried out once is answered, not carried out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The client's session.
    pub session: SessionId,
    /// The number of the request, from 1, one more for each new request.
    pub sequence: u64,
    /// The lowest number whose answer the client has not seen.
    pub lowest_unanswered: u64,
}

/// A change of the dictionary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Adds or replaces.
    Add {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Deletes.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Adds under a key that the primary makes: see [`append_key`].
    Append {
        /// What the key begins with.
        prefix: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Several changes that take effect as one, or none of them where a condition is not met.
    Together(Box<Together>),
}

/// A change set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Together {
    /// All must be met, or nothing is changed.
    pub conditions: Vec<Condition>,
    /// At most one for each key; not empty.
    pub changes: Vec<KeyChange>,
}

/// What must be so of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The key.
    pub key: Bytes,
    /// The version of its last change; `None` where it must have no value.
    pub version: Option<Version>,
}

/// What is done to one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyChange {
    /// The key.
    pub key: Bytes,
    /// Its value then; `None` deletes, where there is something to delete.
    pub value: Option<Bytes>,
}

/// How many digits the number in an appended key has: all that there may be, so that keys and numbers have one order.
pub const APPEND_DIGITS: usize = 20;

/// The key of the `number`th value under a prefix; the first is 1.
pub fn append_key(prefix: &[u8], number: u64) -> Bytes {
    [prefix, format!("{number:0APPEND_DIGITS$}").as_bytes()].concat().into()
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// It sees every change that was answered before it was asked.
    Linearizable,
    /// It sees all that the client has seen before, and whatever that depended on.
    Causal {
        /// The highest version that the client has seen.
        at_least: Version,
    },
    /// What is committed as far as the server asked knows.
    Stale,
}

/// What a client or an operator asks of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A session, so that changes can be retried.
    OpenSession,
    /// The end of a session. `Ok` also where it was gone.
    CloseSession(SessionId),
    /// A change; without an id it can't be retried safely.
    Change {
        /// Its name.
        id: Option<RequestId>,
        /// What to do.
        change: Change,
    },
    /// The value of a key.
    Read {
        /// The key.
        key: Bytes,
        /// How fresh.
        consistency: Consistency,
    },
    /// A page of a range of keys.
    Scan(Scan),
    /// A planned hand-over to this server.
    Promote(ServerId),
    /// The operator's word that this server is off.
    Fence(ServerId),
}

/// The committed state that a read saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The dictionary's version; a causal read that names it sees no less.
    pub version: Version,
    /// The epoch of the server that answered.
    pub epoch: Epoch,
    /// Whether the server that was asked answered by itself, having asked nobody.
    pub local: bool,
    /// Whether the answer waited for a change of what was read to be committed.
    pub waited: bool,
    /// The state was the newest one at some moment no longer ago than this; `None` where that is not known.
    pub age: Option<Duration>,
}

/// The answer to a request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Response {
    /// The session is open.
    SessionOpened {
        /// Its id.
        session: SessionId,
    },
    /// The session is closed.
    SessionClosed,
    /// The change is committed.
    Changed {
        /// The dictionary's version with this change; of a delete that found nothing, the version it found nothing at.
        version: Version,
        /// Whether the key had a value before.
        existed: bool,
        /// On how many servers the change was read back; for a retried request, at least on how many.
        copies: u32,
        /// The primary's epoch.
        epoch: Epoch,
    },
    /// The value is appended: see [`append_key`].
    Appended {
        /// Its number, without gap or repeat among all under the prefix.
        number: u64,
        /// The dictionary's version with it.
        version: Version,
        /// On how many servers it was read back; for a retried request, at least on how many.
        copies: u32,
        /// The primary's epoch.
        epoch: Epoch,
    },
    /// A condition was not met: nothing was changed.
    NotMet {
        /// The position of the first one among those that were given.
        condition: u32,
        /// The version of its key's last change; `None` where it has no value.
        found: Option<Version>,
        /// The dictionary's version at that moment.
        version: Version,
        /// The primary's epoch.
        epoch: Epoch,
    },
    /// The key has this value.
    Found {
        /// The value.
        value: Bytes,
        /// The version of its last change.
        version: Version,
        /// The time of its last change.
        changed_at: WallTime,
        /// What was looked at.
        seen: Seen,
    },
    /// The key has no value.
    NotFound {
        /// What was looked at.
        seen: Seen,
    },
    /// A page of a range of keys, in their order, as they were at the version that was looked at.
    Scanned {
        /// The keys that have a value.
        entries: Vec<Scanned>,
        /// Where the next page begins, behind where this one began; `None` where nothing is left. A page may hold nothing and
        /// go on all the same: a server looks at so many keys at once, and what they have now may all be newer.
        next: Option<Bytes>,
        /// What was looked at.
        seen: Seen,
        /// Whose version that is.
        cluster: ClusterId,
    },
    /// The target leads now, or the view that makes it lead is on its way.
    Promoted {
        /// Who leads.
        primary: ServerId,
    },
    /// The operator's word is taken.
    Fenced,
}

impl Response {
    /// What a read looked at; `None` for other answers.
    pub fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Found { seen, .. } | Self::NotFound { seen } | Self::Scanned { seen, .. } => Some(seen),
            Self::SessionOpened { .. }
            | Self::SessionClosed
            | Self::Changed { .. }
            | Self::Appended { .. }
            | Self::NotMet { .. }
            | Self::Promoted { .. }
            | Self::Fenced => None,
        }
    }

    /// The answer as it is passed on by a server that did not give it itself.
    #[must_use]
    pub fn forwarded(mut self) -> Self {
        if let Self::Found { seen, .. } | Self::NotFound { seen } | Self::Scanned { seen, .. } = &mut self {
            seen.local = false;
        }
        self
    }
}

/// An expected "no", with a hint. Unless it says *unknown*, nothing was or will be applied by this request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// This server does not lead.
    NotPrimary {
        /// Who does, as far as it knows; `None` while nobody does.
        primary: Option<ServerId>,
    },
    /// The outcome is unknown: the server lost its place while the change was under way. Ask again with the same id.
    OutcomeUnknown,
    /// The session had been removed; open another. An unanswered change of the old one stays unknown.
    SessionExpired,
    /// The session's opening is not known here yet.
    SessionUnknown,
    /// The answer to this sequence was forgotten, because the client said that it had seen it.
    SequenceAnswered {
        /// The lowest sequence that is still kept.
        lowest_unanswered: u64,
    },
    /// Too many requests wait here.
    Overloaded,
    /// The key is empty or too long.
    BadKey {
        /// The largest that is taken. **Units:** bytes.
        bytes_max: usize,
    },
    /// The value is too large.
    BadValue {
        /// The largest that is taken. **Units:** bytes.
        bytes_max: usize,
    },
    /// The change set is empty, too large, or changes a key twice.
    BadSet {
        /// How many changes and how many conditions it may have at most.
        count_max: usize,
    },
    /// The request's number is 0, or beyond the window of unanswered requests.
    BadSequence,
    /// The server named is not one of the cluster's, or not one that this can be done with.
    BadServer {
        /// Why, and what to do.
        reason: &'static str,
    },
    /// The hand-over was called off; the primary goes on.
    HandOverCalledOff,
    /// The server has restarted and may not use proof; `recover` is the way.
    Recovering,
    /// The cluster has never been at the version that a causal read or a later page names: it was set back, or the version is
    /// of another cluster.
    VersionAhead {
        /// The version that the cluster is at.
        version: Version,
    },
    /// The version that a page is to be of, or that a watch is to begin with, is no longer kept: too much was changed since.
    VersionTooOld {
        /// The oldest that is.
        oldest: Version,
    },
    /// The version that a page or a watch names is of another cluster, or of this one before it was set back.
    OtherCluster,
}

/// Where a stored entry stands, for tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    /// Its position.
    pub index: LogIndex,
    /// Its epoch.
    pub epoch: Epoch,
}
