//! The streams between servers. Every server dials every other and sends on the stream that it dialled; what it receives
//! comes on the streams that the others dialled.
//!
//! ```text
//!   dial ── Hello ──▶ accept          one stream each way makes a pair; only a pair of the same run of a peer is a
//!     ◀── Hello ──                    connection that the node hears of
//!   outgoing ── messages ──▶ accept ──▶ driver
//! ```
//!
//! A stream belongs to one run at either end: with a new run all streams are dialled anew.

mod accept;
mod dial;
mod handshake;
mod outgoing;
mod pairs;
mod warned;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heirloom_backup::StateHead;
use heirloom_proto::wire::link::{Hello, PROTOCOL_VERSION};
use heirloom_proto::{Address, ClusterId, Event, Message, Peer, ServerId};
use tokio::sync::{Notify, mpsc, watch};

use crate::storage::{Shelf, SnapshotReport};
use crate::transfer::Transfers;

pub(crate) use accept::Acceptor;
pub(crate) use dial::{dial, reach};
pub(crate) use outgoing::Outgoing;
#[cfg(test)]
pub(crate) use outgoing::OutgoingStream;
pub(crate) use pairs::Pairs;
pub(crate) use warned::Warned;

/// How long a connection and its handshakes may take. Longer than a round trip around the world, shorter than a person's
/// patience.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(2);
/// Backstop for a connection that no packet passes any more: how often HTTP/2 asks, and how long it waits.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long HTTP/2 waits for the answer to its keep-alive.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Flow control of one stream. **Units:** bytes.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Flow control of a connection. Large, because h2 ends a connection on which many small frames wait to be read, and what
/// keeps the frames few is the room for them. **Units:** bytes.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Names one stream within the process; counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(u64);

impl StreamId {
    /// A name that no other stream of this process has.
    pub(crate) fn next() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What comes to the driver of one life from outside, requests apart.
#[derive(Debug)]
pub(crate) enum Input {
    /// From the disk or from a probe.
    Event(Event),
    /// What came of a snapshot or a check.
    Snapshot(SnapshotReport),
    /// The snapshot of another server is here, whole and right.
    SnapshotFetched(StateHead),
    /// Messages of one stream dialled by a peer, in their order.
    Received { from: Peer, stream: StreamId, messages: Vec<(Option<ClusterId>, Message)> },
    /// A stream that was dialled stands, with handshakes both ways.
    Dialled { peer: Peer, stream: StreamId, address: SocketAddr, outgoing: Arc<Outgoing> },
    /// A stream that was dialled broke.
    DialledBroke { server: ServerId, stream: StreamId },
    /// A stream dialled by a peer stands. Nothing of it is read before the gate opens; it is ended by dropping the gate.
    Accepted { peer: Peer, stream: StreamId, gate: watch::Sender<Gate> },
    /// A stream dialled by a peer broke.
    AcceptedBroke { server: ServerId, stream: StreamId },
}

/// Whether messages of an accepted stream may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Not before the stream in the other direction stands too.
    Shut,
    /// They may.
    Open,
}

/// One run of the node, as its streams know it. When the run is over its inputs are closed, and all that belongs to it
/// ends.
#[derive(Debug)]
pub(crate) struct Life {
    /// This server, in this run.
    pub(crate) me: Peer,
    /// The cluster that it belongs to.
    pub(crate) cluster: watch::Sender<Option<ClusterId>>,
    /// Into the driver.
    pub(crate) inputs: mpsc::Sender<Input>,
    /// By server: wakes whoever waits before dialling it again.
    pub(crate) redial: Vec<Notify>,
    /// Where the servers are found, by id.
    pub(crate) servers: Arc<[Address]>,
    /// The snapshots of its store.
    pub(crate) shelf: Arc<Shelf>,
    /// Those that others are being sent.
    pub(crate) transfers: Transfers,
    /// What people have been told already.
    pub(crate) warned: Arc<Warned>,
}

impl Life {
    /// How this run introduces itself now.
    pub(crate) fn hello(&self) -> Hello {
        Hello { peer: self.me, cluster: *self.cluster.borrow(), protocol: PROTOCOL_VERSION }
    }
}
