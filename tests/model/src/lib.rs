//! The model checker: every run of a small cluster, within bounds, on the node that ships.
//!
//! A world is a few servers, each the shipped [`heirloom_node::Node`] with a disk, and a network. A search begins where the
//! cluster is whole, or where a script has brought it ([`Ahead`]), and takes every choice in every state: which message
//! arrives next, who crashes when, who comes back, when the clocks go on, what clients ask. After each step of a node the
//! laws of `tests/laws` are checked, and what clients are told is compared with what was known when they asked.
//!
//! A script takes no liberties: it is one run among those that a larger world would search, told up to where it becomes
//! interesting. What passes between a server that it cuts off and the others is lost, but for what was on its way before
//! and for the news that a stream stands again: that comes in the search.
//!
//! # What the network may do
//!
//! It is a set that only grows: whatever was sent may arrive at any time, any number of times, in any order, or never.
//! Probes look when they arrive, and what they found comes back later, or never, or again. A broken stream is found
//! broken at any time, or never.
//!
//! # Bounds
//!
//! Each world has a [`Budget`] of crashes, starts, changes, reads and so on, a bound on the rounds of epochs, and on the
//! questions and probes of one run. A question or probe above that bound is lost, as any may be; a step that would send a
//! second one that is lost is not looked at ([`Rules::unsent`], and in some worlds not even the first).
//! A search is *complete* where no state is left within them.
//!
//! # Reductions, and why they lose nothing
//!
//! - *Saturation.* What only makes a server send, and changes nothing else, happens at once. As nothing is ever taken from
//!   the network, whatever can happen in a state can happen in one that has more on its way.
//! - *Subsumption.* For the same reason a state is not looked at where one was met with the same servers, clocks, clients
//!   and laws and with all that is on its way here, and perhaps more.
//! - *No-ops.* A message that changes nothing and says nothing new is as good as lost, which it may be anyway.
//! - *One node, one step.* What a node does depends on itself, its input and its clock alone, so it is computed once and
//!   looked up afterwards; the laws look at every step again.
//!
//! # Restrictions, and what they lose
//!
//! - *Disks at once*, but in worlds with slow disks: a write is durable in the step that asks for it. Lost are messages
//!   taken while a write is under way, and a crash after a step has sent and before it has stored.
//! - *A flush after every event.* Lost are batches of several events.
//! - *Handshakes at once*, but in worlds with late handshakes, where each end shakes hands by itself, at any time or
//!   never: elsewhere a run that begins has met all who live. Streams break only when a run ends or by a cut, each end
//!   finding it out by itself. Lost are runs that some have met and others have not.
//! - *Clocks together.* All clocks go on by the same jump, a little more than a heartbeat, and suspicion time and lease are
//!   between one and two jumps; or, in worlds with long jumps, a little more than all three. Deadlines, like messages, are
//!   taken at any time or never. Lost are rates that differ, and in worlds without jumps whatever takes a heartbeat's
//!   patience.
//! - *Short leases*, but in the worlds of read leases: a grant is over when it arrives, so backups do not read by
//!   themselves. Where they do, they are asked only while they hold a lease, but in worlds that begin shortly before one
//!   ends or is kept from a learner. Lost are read leases together with crashes and with a change of primary.
//! - *No older copies.* No directory is put back from an older copy, so what servers remember of each other's stores is left
//!   out, and a run begins as one of a process that goes on: it asks nobody before it votes. Asking would only make what
//!   reaches it wait.
//! - *No hints.* Servers notice by themselves that a primary is gone; clients do not tell them.
//!
//! What is lost here the simulator does by chance.
//!
//! # Whether it would notice
//!
//! Faults are planted in the code that ships, and each is looked for in the world that is meant for it ([`catches`]): there
//! a search, those states first that are fewest steps away, must come to a broken law. The test command runs those that are
//! found quickly. Without the fault the same worlds are searched with all others.
//!
//! # What it does not look at
//!
//! Real sizes and speeds, other clusters, damage on disk, the runtime: simulator and tests with real processes do.

mod beginning;
pub mod catches;
mod choices;
mod intern;
mod local;
mod packet;
mod rules;
mod run;
mod saturation;
mod search;
mod sharp;
mod state;
mod stepping;
mod table;
mod walk;
mod world;
pub mod worlds;

pub use rules::{Ahead, Beginning, Budget, Rules, Sight};
pub use run::{Limits, Order, run_all};
pub use search::{Found, search};
pub use sharp::sharp;
pub use table::page;
pub use walk::walk;
