//! What a node remembers of the other servers' stores, so that one which comes back with an older directory is told
//! (PROTOCOL 9, docs/decisions/0015).

use std::collections::BTreeMap;

use heirloom_backup::Replica;
use heirloom_proto::message::Remembered;
use heirloom_proto::{Epoch, LogIndex, Member, Message, Peer, ServerId};

use crate::node::Node;

/// What was heard in this run; what the own disk says of others is beside it ([`Node::remembered`]).
///
/// **Invariants:** whatever is kept of a store was durable there when it was said, so that no intact store is below it.
/// One record a server, of the store that was heard last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Memory {
    heard: BTreeMap<ServerId, Remembered>,
    /// What each server promised to others with any of its stores. One that takes the place of another asks them all before it
    /// votes, and each of them had promised what it proposed; of a server's own proposals nobody else may know.
    promised: BTreeMap<ServerId, Epoch>,
    /// On a witness, which has no log: what the primary of the view that is stored here called committed.
    committed: LogIndex,
}

impl Memory {
    /// Takes note of what a message says of its sender's store; `current` where it is of the run that is known to live.
    pub(crate) fn heard(&mut self, from: Peer, current: bool, message: &Message) {
        let Some(epoch) = vouched(message).filter(|epoch| *epoch > Epoch::NONE) else { return };
        let known = self.heard.entry(from.server).or_insert(Remembered::nothing_of(from.store));
        if known.store != from.store {
            // A late word of a store that was given up must not take the place of the one that came after it.
            if !current {
                return;
            }
            *known = Remembered::nothing_of(from.store);
        }
        known.promised = known.promised.max(epoch);
        if epoch.server != from.server {
            let promised = self.promised.entry(from.server).or_insert(epoch);
            *promised = epoch.max(*promised);
        }
        if let Message::Confirm { epoch, position, .. } | Message::Echo { epoch, confirmed: position, .. } = message
            && *epoch >= known.confirmed_in
        {
            let before = if *epoch > known.confirmed_in { LogIndex::ZERO } else { known.confirmed };
            (known.confirmed_in, known.confirmed) = (*epoch, before.max(position.index));
        }
    }

    /// Takes note of what the primary of the stored view calls committed.
    pub(crate) fn committed(&mut self, index: LogIndex) {
        self.committed = self.committed.max(index);
    }
}

impl Node {
    /// Forgets what it heard of the others' stores, as the next run does. For searches in which no directory is put back:
    /// no run then does anything otherwise for what another one remembers.
    pub fn forget(&mut self) {
        self.memory = Memory::default();
    }

    /// What this server knows of another one's store, by what it heard in this run and by its own disk; `None` where it
    /// knows nothing.
    ///
    /// A member of a view has, durably, every entry that was committed before the view or in it (PROTOCOL 12.2). So the
    /// stored view and what is known to be committed tell how long the logs of all members are at least, and where the
    /// last of these entries is of the view's own epoch, that they have promised it. This outlives the run.
    pub fn remembered(&self, of: Member) -> Option<Remembered> {
        let heard = self.memory.heard.get(&of.server);
        let register = self.durable_register.as_ref();
        let view = register.and_then(|register| register.accepted.as_ref()).filter(|view| view.has(of));
        if heard.is_none() && view.is_none() {
            return None;
        }
        let mut remembered = match heard {
            Some(heard) if heard.store == of.store => heard.clone(),
            Some(other) if view.is_none() => {
                let promised = self.memory.promised.get(&of.server).copied().unwrap_or(Epoch::NONE);
                return Some(Remembered { promised, ..Remembered::nothing_of(other.store) });
            }
            Some(_) | None => Remembered::nothing_of(of.store),
        };
        if let Some(view) = view {
            let replica = self.replica();
            // A state that was installed may be of a later view than the one that is stored here.
            let of_the_view = |replica: &&Replica| replica.state().head().epoch <= view.epoch;
            remembered.committed = match replica {
                Some(replica) => Some(replica).filter(of_the_view).map_or(LogIndex::ZERO, Replica::applied_index),
                None => self.memory.committed,
            };
            if replica.is_some_and(|replica| replica.state().head().epoch == view.epoch) {
                remembered.promised = remembered.promised.max(view.epoch);
            }
        }
        Some(remembered)
    }
}

/// The epoch that its sender had promised, durably, when it sent this; `None` where the message says nothing of that.
fn vouched(message: &Message) -> Option<Epoch> {
    match message {
        // It said so once its register was durable.
        Message::Promise { epoch }
        | Message::Promised { epoch, .. }
        | Message::Accepted { epoch }
        | Message::EpochStarted { epoch, .. }
        // It works in the epoch, so it has stored it, as its primary or under it.
        | Message::Cut { epoch, .. }
        | Message::Behind { epoch, .. }
        | Message::Prepare { epoch, .. }
        | Message::Confirm { epoch, .. }
        | Message::Gap { epoch, .. }
        | Message::Heartbeat { epoch, .. }
        | Message::Echo { epoch, .. }
        | Message::HandOver { epoch, .. }
        | Message::StillPromised { epoch, .. } => Some(*epoch),
        Message::Accept { view } | Message::StartEpoch { view } => Some(view.epoch),
        Message::Testimony(testimony) => testimony.register.as_ref().map(|register| register.promised),
        // A higher promise is named as soon as it is given, and may come to nothing with the process; the others are said
        // by who works in no epoch, too.
        Message::HigherPromise { .. }
        | Message::Diverged { .. }
        | Message::Idle { .. }
        | Message::NothingHigher { .. }
        | Message::Question { .. }
        | Message::Enrol { .. } => None,
    }
}
