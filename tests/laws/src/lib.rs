//! What must always hold of a cluster, as functions over the state of all its servers.
//!
//! Simulator and model checker drive the shipped node through different worlds and hold it to the same [`Laws`], through
//! whatever they can show of a server ([`Observed`]). `story` tells events and actions in one short line each.
//!
//! What doesn't belong here: how a world moves (`tests/sim`, `tests/model`), and real processes (`tests`).

mod inspect;
mod laws;
mod observed;
mod oracle;
pub mod story;

pub use inspect::Inspect;
pub use laws::{Laws, Violation};
pub use observed::{Asker, Observed};
pub use oracle::Oracle;
