//! What a server with [`super::Mutant::ConfirmNotMadeGood`] has told of its confirmations.

use std::collections::BTreeMap;

use heirloom_proto::{Epoch, Message, Position, ServerId};

/// What each server was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    confirmed: BTreeMap<ServerId, (Epoch, Position)>,
    /// What the first echo of the epoch said.
    echoed: BTreeMap<ServerId, (Epoch, Position)>,
}

impl Told {
    /// What goes out of a message: of a confirmation that was told nothing, and of an echo what the first one said.
    pub(crate) fn once(&mut self, to: ServerId, mut message: Message) -> Option<Message> {
        match &mut message {
            Message::Confirm { epoch, position, .. } => {
                let now = (*epoch, *position);
                if self.confirmed.insert(to, now) == Some(now) {
                    return None;
                }
            }
            Message::Echo { epoch, confirmed, .. } => {
                let first = self.echoed.entry(to).or_insert((*epoch, *confirmed));
                if first.0 != *epoch {
                    *first = (*epoch, *confirmed);
                }
                *confirmed = first.1;
            }
            _ => {}
        }
        Some(message)
    }
}
