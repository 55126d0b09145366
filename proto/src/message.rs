//! What servers say to each other. Any of these may be lost, late, doubled, reordered, or meet any role.

use std::time::Duration;

use crate::config::Constants;
use crate::entry::Sealed;
use crate::hash::{ChainHash, Digest};
use crate::ids::{ClusterId, Epoch, LogIndex, Member, Position, RunId, ServerId, StoreId};
use crate::register::Register;
use crate::time::Time;
use crate::view::View;

/// A message between servers. Cluster, sender, its store and its run travel beside it ([`crate::Event::Received`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Asks for a [`Testimony`]; changes no state. Sent to all voters by whoever thinks of proposing or is recovering,
    /// and by a blank server to find out whether there is a cluster.
    Question {
        /// Names the question within the asker's run.
        ask: u64,
    },
    /// The answer to a question.
    Testimony(Box<Testimony>),
    /// From the founder of a cluster or generation to a blank server: your store is counted as one of its voters, which
    /// has never voted.
    Enrol {
        /// The store that is meant; another one of the same server is not.
        store: StoreId,
        /// The cluster's constants.
        constants: Constants,
    },
    /// Asks a voter to promise an epoch (PROTOCOL 5.2).
    Promise {
        /// The proposed epoch.
        epoch: Epoch,
    },
    /// The promise. From it on the sender takes nothing of a lower epoch.
    Promised {
        /// The epoch promised.
        epoch: Epoch,
        /// The view accepted before.
        accepted: Option<View>,
        /// Whether this is a vote; a voter that lost its register promises to freeze but does not vote.
        counts: bool,
        /// The sender's store where it keeps data.
        member: Option<Member>,
    },
    /// The answer to anything of an epoch below the promise.
    HigherPromise {
        /// The epoch that was refused.
        refused: Epoch,
        /// The promise that stands.
        promised: Epoch,
    },
    /// Asks a voter to accept a view (PROTOCOL 5.4).
    Accept {
        /// The view.
        view: View,
    },
    /// The view is accepted and stored.
    Accepted {
        /// Its epoch.
        epoch: Epoch,
    },
    /// The view is chosen: store it, and say where your log ends (PROTOCOL 8.1). To members, leaving servers and
    /// learners.
    StartEpoch {
        /// The chosen view.
        view: View,
    },
    /// The epoch is stored; nothing of a lower one is taken, and no lease of a lower one is held.
    EpochStarted {
        /// The epoch.
        epoch: Epoch,
        /// Where the sender's log ends, and what is needed to find the common prefix.
        tail: Tail,
    },
    /// Cut your log behind the common prefix and work in this epoch. Holds only for the run and the end it names, once.
    Cut {
        /// The epoch.
        epoch: Epoch,
        /// The receiver's run that sent the tail.
        run: RunId,
        /// Where that tail ended.
        end: Position,
        /// The length of the common prefix.
        keep: LogIndex,
    },
    /// What your log lacks is no longer kept: take a snapshot of mine (PROTOCOL 9). To one that is no member. Holds only for
    /// the run and the end it names.
    Behind {
        /// The epoch.
        epoch: Epoch,
        /// The receiver's run.
        run: RunId,
        /// Where its log ends.
        end: Position,
        /// The snapshot must reach so far at least.
        base: LogIndex,
    },
    /// Entries to append, in order (PROTOCOL 4.2).
    Prepare {
        /// The primary's epoch.
        epoch: Epoch,
        /// Where the log must end for these entries to follow.
        previous: Position,
        /// Consecutive entries; may be none, where only the commit index is news.
        entries: Vec<Sealed>,
        /// Everything up to here is committed.
        commit_index: LogIndex,
    },
    /// Everything up to here was read back from the sender's own log (PROTOCOL 4.3).
    Confirm {
        /// The epoch in which it was taken.
        epoch: Epoch,
        /// Up to where, with the chain hash of what was read.
        position: Position,
        /// How far the sender has applied.
        applied_index: LogIndex,
        /// The digest of its state there.
        digest: Digest,
    },
    /// The entries did not follow on the sender's log, which ends here: a gap, not divergence.
    Gap {
        /// The epoch.
        epoch: Epoch,
        /// The log's end.
        end: Position,
    },
    /// The sender's log says otherwise than the primary's at the same index and epoch. It stops working in this epoch.
    Diverged {
        /// The epoch.
        epoch: Epoch,
        /// Where.
        index: LogIndex,
        /// What the sender has.
        own: ChainHash,
    },
    /// The primary lives; to all voters. Carries nothing that waits for a disk.
    Heartbeat {
        /// The primary's epoch.
        epoch: Epoch,
        /// The receiver's run, as the sender knows it.
        to_run: RunId,
        /// The sender's clock when it was sent; comes back in the echo.
        sent_at: Time,
        /// Whether the sender has heard the receiver within the suspicion time.
        hears_you: bool,
        /// Everything up to here is committed.
        commit_index: LogIndex,
        /// While the primary holds its lease, to a copy that works in its epoch and has echoed.
        grant: Option<Grant>,
    },
    /// The answer to a heartbeat by a server that works in its epoch and has promised no higher one. The primary's lease
    /// rests on it.
    Echo {
        /// The heartbeat's epoch.
        epoch: Epoch,
        /// The primary's run.
        to_run: RunId,
        /// The heartbeat's `sent_at`.
        sent_at: Time,
        /// The sender's own clock, for the read leases of backups.
        clock: Time,
        /// Where the sender's log ends.
        end: LogIndex,
        /// How far it has confirmed in this epoch: a `Confirm` that was lost is made good by the next echo.
        confirmed: Position,
        /// How far it has applied.
        applied_index: LogIndex,
        /// The digest of its state there.
        digest: Digest,
    },
    /// The answer to a heartbeat by a server that does not work in its epoch: begin its epoch for me. A witness, and a
    /// server with nothing to copy, answer with this too; it keeps no lease alive.
    Idle {
        /// The heartbeat's epoch.
        epoch: Epoch,
        /// The primary's run.
        to_run: RunId,
        /// Whether the sender keeps data and wants to be given a copy.
        wants_copy: bool,
    },
    /// The primary hands its place over: propose at once (PROTOCOL 6).
    HandOver {
        /// The primary's epoch.
        epoch: Epoch,
        /// The target's run.
        to_run: RunId,
    },
    /// Has anything above this epoch been promised? For reads in mode `confirm` (PROTOCOL 10).
    StillPromised {
        /// The primary's epoch.
        epoch: Epoch,
        /// Names the round of reads.
        round: u64,
    },
    /// No.
    NothingHigher {
        /// The primary's epoch.
        epoch: Epoch,
        /// The round.
        round: u64,
    },
}

/// What a primary that holds its lease says to a copy: the commit index beside it was the newest one at some moment after
/// `clock`, and a member may answer linearizable reads until `clock` plus `span`, less drift (PROTOCOL 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The receiver's own clock, from the last echo that came of it.
    pub clock: Time,
    /// No more than what is left of the primary's own lease; zero for who is no member.
    pub span: Duration,
}

/// What a voter knows, asked for by a question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Testimony {
    /// The question.
    pub ask: u64,
    /// The sender's register, as durably stored; `None` where it is blank: it belongs to no cluster yet. One that has
    /// just come back and may be an older copy says that it does not vote.
    pub register: Option<Register>,
    /// The cluster's constants, or those that a blank sender was started with.
    pub constants: Constants,
    /// The cluster of the sender.
    pub cluster: Option<ClusterId>,
    /// The primary that the sender hears, both ways.
    pub hears: Option<(ServerId, RunId)>,
    /// What the sender remembers of the asker's store.
    pub remembered: Option<Remembered>,
}

/// What one server knows of another one's store: a lower bound of what an intact directory of that store holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remembered {
    /// The store.
    pub store: StoreId,
    /// It has promised this epoch.
    pub promised: Epoch,
    /// The newest epoch in which it is known to have confirmed anything.
    pub confirmed_in: Epoch,
    /// How far it has confirmed in that epoch: its log goes as far, unless it has promised a higher one since.
    pub confirmed: LogIndex,
    /// Its log goes as far, whatever it has promised since.
    pub committed: LogIndex,
}

impl Remembered {
    /// A store of which nothing is known.
    pub fn nothing_of(store: StoreId) -> Self {
        Self {
            store,
            promised: Epoch::NONE,
            confirmed_in: Epoch::NONE,
            confirmed: LogIndex::ZERO,
            committed: LogIndex::ZERO,
        }
    }
}

/// The end of a log as another server needs to know it to find the common prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tail {
    /// Everything up to here is applied, and so common to all.
    pub applied: Position,
    /// Where the log ends.
    pub end: Position,
    /// For every epoch with entries above `applied`, in order: the last entry of that epoch. At most
    /// [`crate::limits::TAIL_EPOCHS_MAX`], the highest ones.
    pub epochs: Vec<EpochEnd>,
}

/// The last entry of one epoch in a log: an epoch and an index name one entry, for only one primary wrote in the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochEnd {
    /// The epoch of the entries.
    pub epoch: Epoch,
    /// The last of them, and the chain hash there.
    pub last: Position,
}

impl Message {
    /// A word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Question { .. } => "question",
            Self::Testimony(_) => "testimony",
            Self::Enrol { .. } => "enrol",
            Self::Promise { .. } => "promise",
            Self::Promised { .. } => "promised",
            Self::HigherPromise { .. } => "higher-promise",
            Self::Accept { .. } => "accept",
            Self::Accepted { .. } => "accepted",
            Self::StartEpoch { .. } => "start-epoch",
            Self::EpochStarted { .. } => "epoch-started",
            Self::Cut { .. } => "cut",
            Self::Behind { .. } => "behind",
            Self::Prepare { .. } => "prepare",
            Self::Confirm { .. } => "confirm",
            Self::Gap { .. } => "gap",
            Self::Diverged { .. } => "diverged",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Echo { .. } => "echo",
            Self::Idle { .. } => "idle",
            Self::HandOver { .. } => "hand-over",
            Self::StillPromised { .. } => "still-promised",
            Self::NothingHigher { .. } => "nothing-higher",
        }
    }
}
