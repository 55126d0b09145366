//! The simulator: whole clusters of real nodes and real client sessions in one thread, made from one seed.
//!
//! A world has true time, a network that loses, delays, doubles, reorders and cuts, clocks that run too fast or too slow,
//! disks that are slow, full or failing, that rot, read back wrongly and keep any prefix of what was not synced when a
//! process dies, servers that crash, pause, sleep with their machine, lose power and come back with or without their
//! directory, and clients that see all this from outside. After every
//! step the laws of PROTOCOL 12 are checked; at the end everything is mended and the cluster must become whole again.
//! The same seed gives the same world, to the byte: the seed *is* the bug report.
//!
//! `cargo sim -- --seed 7 --trace` tells one world's story, `cargo sim -- --minutes 10` searches, and what it finds is
//! shrunk to a world in which little else happens ([`shrink`]).
//!
//! What doesn't belong here: real processes and real time (`tests/`).

mod audience;
mod client;
mod clock;
mod disk;
pub mod distances;
mod fault;
mod finale;
pub mod focus;
mod hosting;
mod less;
pub use heirloom_laws::{linearizable, random};
mod links;
pub mod mutants;
mod network;
mod old_copies;
mod perform;
mod plan;
mod rot;
mod run;
mod server;
mod shares;
mod shrink;
mod sights;
mod snapshots;
pub mod sometimes;
mod spoiling;
mod steady;
mod stopping;
mod summary;
pub mod tally;
mod trace;
mod trouble;
mod world;

pub use fault::Fault;
pub use heirloom_laws::Violation;
pub use less::Less;
pub use plan::Shape;
pub use run::{Options, Report, STEPS_MIN, run};
pub use shrink::{Shrunk, shrink, shrink_while};
pub use summary::{Summary, run_many};
pub use trace::is_chatter;
