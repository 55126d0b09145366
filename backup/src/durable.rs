//! What a run begins with.

use heirloom_proto::{Identity, LogIndex, Register, Sealed};

use crate::state::State;

/// What was found on disk at the start of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Durable {
    /// Who.
    pub identity: Identity,
    /// The register; `None` where none was ever stored.
    pub register: Option<Register>,
    /// The state of the newest snapshot, which is committed; the empty one where there is none.
    pub base: State,
    /// The log behind it. A torn tail is already cut.
    pub log: Vec<Sealed>,
    /// A lower bound of what is committed.
    pub commit: LogIndex,
}

impl Durable {
    /// Of a store that holds nothing yet.
    pub fn blank(identity: Identity) -> Self {
        Self { identity, register: None, base: State::default(), log: Vec::new(), commit: LogIndex::ZERO }
    }
}
