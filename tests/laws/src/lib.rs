//! What must always hold of a cluster, as functions over the state of all its servers.
//!
//! Simulator and model checker drive the shipped node through different worlds and hold it to the same [`Laws`], through
//! whatever they can show of a server ([`Observed`]). [`linearizable`] judges what clients saw, of simulated and of real
//! processes alike; [`story`] tells events and actions in one short line each.
//!
//! What doesn't belong here: how a world moves (`tests/sim`, `tests/model`), and real processes (`tests`).

mod assertions;
pub mod command_line;
pub mod evidence;
mod inspect;
mod laws;
pub mod linearizable;
mod observed;
mod oracle;
pub mod random;
pub mod stored;
pub mod story;

pub use assertions::listen;
pub use inspect::Inspect;
pub use laws::{Laws, Violation};
pub use observed::{Asker, DurableAtOnce, Observed};
pub use oracle::Oracle;
