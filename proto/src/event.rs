//! What enters a node and what leaves it: the ports of the house.

use std::collections::BTreeMap;

use crate::config::Constants;
use crate::entry::Sealed;
use crate::ids::{ClusterId, Epoch, LogIndex, Peer, RunId, ServerId, StoreId};
use crate::message::Message;
use crate::register::Register;
use crate::request::{Refusal, Request, Response};
use crate::time::WallTime;

/// Names one durable write of a run; counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names one waiting caller of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What a node meets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A message came.
    Received {
        /// From whom, as the handshake of its stream said.
        from: Peer,
        /// The cluster that the message names; `None` where its sender is blank.
        cluster: Option<ClusterId>,
        /// The message.
        message: Message,
    },
    /// A stream to this peer stands, with handshakes both ways. Comes before any message of that stream.
    PeerConnected {
        /// The peer.
        peer: Peer,
    },
    /// The stream to this run of the peer broke.
    PeerBroken {
        /// The peer.
        peer: Peer,
    },
    /// A record is durable. For an append also what was then read back from the log.
    Persisted {
        /// Of which [`Action::Persist`].
        ticket: Ticket,
        /// The entries as the log gave them back; empty for other records.
        read_back: Vec<Sealed>,
    },
    /// The disk failed: this process writes nothing more.
    DiskFailed {
        /// What went wrong, for people.
        what: String,
    },
    /// The applied state at an index is durable as a snapshot: the log up to there need not be kept.
    Snapshotted {
        /// Up to where; no more than is applied.
        index: LogIndex,
        /// How many of those entries are kept all the same, at most, for copies that are a little behind.
        entries_kept: usize,
    },
    /// What an [`Action::FetchSnapshot`] asked for is here, whole and durable.
    SnapshotFetched {
        /// Up to where it reaches.
        index: LogIndex,
    },
    /// What an [`Action::Examine`] asked for: all that is stored was read and is right by its checksums, and it gives the
    /// state that is applied here.
    Examined,
    /// A caller asks.
    Requested {
        /// Under which the answer is awaited.
        token: Token,
        /// What.
        request: Request,
        /// The calendar, for the time of the change.
        at: WallTime,
    },
    /// A client says that the primary is gone. A hint: the node looks for itself.
    Nudged,
    /// What came of an [`Action::Probe`].
    Probed {
        /// The server probed.
        server: ServerId,
        /// The run that was asked about.
        run: RunId,
        /// Which probe.
        probe: u64,
        /// Whether that run is proven dead; false says nothing.
        dead: bool,
    },
    /// A deadline that [`next_deadline`] gave has passed; may come early or late.
    ///
    /// [`next_deadline`]: ../heirloom_node/struct.Node.html#method.next_deadline
    Deadline,
    /// Nothing else is waiting right now: what has gathered may go out.
    Flush,
}

/// What a node wants done. The actions of one step may be performed in any order, but for records: those of the log
/// ([`Record::Append`], [`Record::Cut`]) are carried out in the order of their tickets, and so are those of the register
/// and the identity among themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send a message; it may be lost.
    Send {
        /// To whom.
        to: ServerId,
        /// The cluster that it names.
        cluster: Option<ClusterId>,
        /// What.
        message: Message,
    },
    /// Make a record durable, then say [`Event::Persisted`].
    Persist {
        /// Names it.
        ticket: Ticket,
        /// What.
        record: Record,
    },
    /// Note how far the log is confirmed and committed, some time: no sync, no answer.
    NoteProgress {
        /// Confirmed up to here, so damage below is damage and not a torn tail.
        confirmed: LogIndex,
        /// Committed up to here.
        commit: LogIndex,
    },
    /// Fetch the newest snapshot of another server, then say [`Event::SnapshotFetched`]. Asked again as long as it is
    /// wanted; it may come to nothing.
    FetchSnapshot {
        /// From whom.
        from: ServerId,
        /// One that does not reach so far is of no use.
        at_least: LogIndex,
    },
    /// Two copies differ, and nobody else can say which one is wrong: read all that is stored, and compare what it gives with
    /// what is applied. Where that is right say [`Event::Examined`], and else end the run and begin another from disk. Asked
    /// again as long as it is wanted.
    Examine,
    /// Answer a caller.
    Respond {
        /// Which.
        token: Token,
        /// With what.
        result: Result<Response, Refusal>,
    },
    /// Find out whether this run is dead, then say [`Event::Probed`].
    Probe {
        /// The server.
        server: ServerId,
        /// The last run of it that was heard.
        run: RunId,
        /// Names the probe.
        probe: u64,
        /// Whether the fencing command may be run to make sure of it: the proof is needed, and the server has been silent
        /// for the suspicion time. Else only what costs the server nothing may be tried.
        may_fence: bool,
    },
    /// Something that people should know.
    Tell(Note),
    /// This run of the node is over.
    Halt(Cause),
}

/// What is made durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// Entries at the end of the log.
    Append(Vec<Sealed>),
    /// The log ends with this index from now on.
    Cut {
        /// The last index that is kept.
        keep: LogIndex,
    },
    /// The register, as a whole.
    Register(Register),
    /// The identity, as a whole.
    Identity(Identity),
}

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The server.
    pub server: ServerId,
    /// The store, drawn at format.
    pub store: StoreId,
    /// The cluster and its constants; `None` while blank.
    pub cluster: Option<(ClusterId, Constants)>,
    /// On the founder of a cluster or generation: which store of each server was counted as a voter that has never
    /// voted. Another store of that server has lost its register.
    pub enrolled: BTreeMap<ServerId, StoreId>,
    /// On the founder of a generation made by `recover`: servers not yet in `enrolled` may still be.
    pub enrolment_open: bool,
}

/// What the runtime gives a run: its random numbers, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Birth {
    /// The run.
    pub run: RunId,
    /// Used where this run founds a cluster.
    pub cluster: u64,
    /// Whether the process goes on in which the run before this one ended: nobody can have put another directory in the
    /// place of the one that it left.
    pub same_process: bool,
}

/// Why a run of the node is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Shut out by a higher epoch: recover from disk in the same process, with a new run. Not an error.
    Deposed,
    /// The cluster went on to a higher generation without this server's data: set the store aside, format a new one and
    /// come back as a learner.
    Superseded {
        /// The cluster as it is now.
        cluster: ClusterId,
    },
    /// The log can't be reconciled: set the store aside, format a new one and come back as a learner.
    Irreconcilable {
        /// What was found.
        what: String,
    },
    /// A snapshot was fetched that takes the place of the log: put it there, and begin another run. Not an error.
    SnapshotFetched,
    /// Another server knows this store better than it is: its directory was put back from an older copy. Its register
    /// counts as lost: set the store aside, format a new one and come back as a learner.
    Outdated {
        /// Who remembers what.
        what: String,
    },
    /// The disk failed.
    Disk {
        /// What went wrong.
        what: String,
    },
    /// The servers were started with different settings, or belong to different clusters: exit 2.
    Misconfigured {
        /// One sentence with the remedy.
        what: String,
    },
}

/// Something that people should know; the runtime logs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// A request was given its place in the log.
    Prepared {
        /// The caller.
        token: Token,
        /// The place.
        index: LogIndex,
        /// The epoch.
        epoch: Epoch,
    },
    /// The node plays this part now.
    Role {
        /// The part.
        role: crate::status::RoleName,
        /// The epoch.
        epoch: Epoch,
        /// Who leads, where it is known.
        primary: Option<ServerId>,
    },
    /// A view of the own proposal was chosen.
    Chosen {
        /// The view.
        view: crate::view::View,
        /// Why it was proposed.
        reason: String,
    },
    /// The start of the epoch is complete: writes are committed from here on.
    Serving {
        /// The epoch.
        epoch: Epoch,
    },
    /// A server was proven dead.
    ProvenDead {
        /// Which.
        server: ServerId,
        /// Its run.
        run: RunId,
    },
    /// A tail that only this server had was cut.
    RolledBack {
        /// What is kept.
        keep: LogIndex,
        /// Where the log ended.
        end: LogIndex,
    },
    /// A replica differs: it is put out of the view.
    Diverged {
        /// Which.
        server: ServerId,
        /// Where.
        index: LogIndex,
        /// What was compared.
        what: &'static str,
    },
    /// Something unexpected that was survived; one sentence.
    Warning(String),
}
