//! Whether parts are all of one state, without keeping its keys.

use heirloom_proto::Digest;

use crate::part::{Part, Place};
use crate::sessions::Sessions;
use crate::state::StateHead;

/// Checks parts, one after the other, against the head of the state that they are to be. Sessions are kept, whose number is
/// bounded; prefixes and keys are not.
#[derive(Debug)]
pub struct StateCheck {
    head: StateHead,
    digest: Digest,
    sessions: Sessions,
    last: Option<Place>,
}

impl StateCheck {
    /// For the state with this head.
    pub fn new(head: StateHead) -> Self {
        Self { head, digest: Digest::default(), sessions: Sessions::default(), last: None }
    }

    /// What is checked against.
    pub fn head(&self) -> StateHead {
        self.head
    }

    /// Takes the next part.
    ///
    /// **Errors:** half a sentence where it does not belong there.
    pub fn take(&mut self, part: &Part) -> Result<(), &'static str> {
        let place = part.place();
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err("parts out of order");
        }
        match part {
            Part::Session { id, lowest_unanswered, used_at_index, used_at } => {
                if *used_at_index > self.head.position.index {
                    return Err("a session that was used behind the state");
                }
                self.sessions.put(*id, *lowest_unanswered, *used_at_index, *used_at, &mut self.digest)?;
            }
            Part::Answer { session, sequence, answered } => {
                self.sessions.put_answer(*session, *sequence, *answered, &mut self.digest)?;
            }
            Part::Appended { .. } => self.digest.add(&part.digested()),
            Part::Key { stored, .. } => {
                if stored.version > self.head.version {
                    return Err("a key that is newer than the state");
                }
                self.digest.add(&part.digested());
            }
        }
        self.last = Some(place);
        Ok(())
    }

    /// The sessions so far.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The sessions of the whole state.
    ///
    /// **Errors:** half a sentence where the parts do not have the digest of the head.
    pub fn finish(self) -> Result<Sessions, &'static str> {
        if self.digest != self.head.digest {
            return Err("a state with another digest than its head says");
        }
        Ok(self.sessions)
    }
}
