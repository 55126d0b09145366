//! How a copy of the dictionary is kept.
//!
//! A copy is a [`Replica`]: the log, and the state that its committed part gives. A [`Backup`] is a replica that works
//! under a primary: it takes entries, confirms what it read back from its own log, applies what is committed and rolls
//! back what a new epoch does not have. It does not know that a role of primary exists; `primary` builds on this room.

mod backup;
mod changes;
mod check;
mod dictionary;
mod durable;
#[cfg(test)]
mod example;
pub mod lease;
mod log;
mod page;
mod part;
mod past;
mod prepared;
mod reads;
mod replica;
mod sessions;
mod state;
mod watch;

pub use backup::{Backup, Prepared};
pub use changes::Changes;
pub use check::StateCheck;
pub use dictionary::{Dictionary, Stored};
pub use durable::Durable;
pub use log::Log;
pub use part::{Part, Place};
pub use prepared::PreparedKey;
pub use reads::Unanswered;
pub use replica::{ReadBackWrong, Replica};
pub use sessions::{Answered, Sessions};
pub use state::{State, StateBuilder, StateHead};
pub use watch::PrimaryWatch;
