//! What the parties of Heirloom agree on.
//!
//! This room holds the words: identities, time as a number, entries and their one encoding, views, the view register
//! (voter and proposer), the messages between servers, the events that enter a node and the actions that leave it.
//! It decides nothing about replication; that is what `backup`, `primary` and `node` are for.
//!
//! It is pure: no I/O, no clock, no randomness, no threads, no logging. The gRPC types and their conversions live
//! behind the feature `wire`, the only place in the house that names a prost type.

pub mod address;
mod bounds;
pub mod codec;
pub mod config;
pub mod entry;
pub mod event;
pub mod hash;
pub mod ids;
pub mod limits;
pub mod message;
pub mod mutants;
pub mod outbox;
pub mod proposal;
pub mod quorum;
pub mod register;
pub mod request;
pub mod scan;
pub mod span;
pub mod status;
pub mod time;
pub mod view;
#[cfg(feature = "wire")]
pub mod wire;

pub use address::{Address, BadAddress, ClusterEntry};
pub use config::{Constants, NodeConfig, QuorumRule, VoterKind};
pub use entry::{Answer, Effect, Entry, Origin, Sealed};
pub use event::{Action, Birth, Cause, Event, Identity, Note, Record, Ticket, Token};
pub use hash::{ChainHash, Digest};
pub use ids::{ClusterId, Epoch, LogIndex, Member, Peer, Position, RunId, ServerId, SessionId, StoreId, Version};
pub use message::Message;
pub use mutants::{Mutant, planted};
pub use outbox::Outbox;
pub use proposal::{Mandate, Proposal};
pub use register::{Register, Standing};
pub use request::{Change, Condition, Consistency, KeyChange, Refusal, Request, RequestId, Response, Seen, Together};
pub use scan::{At, KeyRange, Lookup, Scan, Scanned};
pub use span::span_from_text;
pub use time::{Time, WallTime};
pub use view::View;
