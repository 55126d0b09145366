//! One Heirloom server: the runtime around the pure node. The only room where anything happens.
//!
//! ```text
//!  clients ──▶ grpc ──▶ driver ── now, Event ──▶ Node::step ──▶ [Action] ──┐
//!  peers ◀──▶ links ──▶   ▲                                                │
//!                         └── storage · probe · links · callers ◀── perform┘
//! ```
//!
//! - [`settings`]: what a person set, parsed and checked.
//! - `driver`: owns the node; takes events, performs actions; one life after the other.
//! - `links`: the streams between servers.
//! - `grpc`: the services on the port, and the desk that forwards and waits on behalf of clients.
//! - `history`: what was committed lately, for those who watch.
//! - `probe`: proof of death.
//! - [`storage`]: what a server must not forget.
//! - [`mutants`]: bugs that tests plant in one server, to see that they are caught; none in a release.
//!
//! What is decided, the node decides; nothing here knows the protocol.

mod clock;
mod driver;
mod failure;
mod gentle;
mod grpc;
mod history;
mod links;
mod listen;
pub mod mutants;
mod probe;
mod random;
mod serve;
pub mod settings;
pub mod storage;
mod transfer;

pub use clock::Rate;
pub use failure::Failure;
pub use listen::listen;
pub use serve::run;
