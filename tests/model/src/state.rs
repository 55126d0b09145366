//! A state of a world, and what its clients know.

use std::collections::BTreeMap;
use std::rc::Rc;

use heirloom_laws::Violation;
use heirloom_proto::{Refusal, Response, Seen, Time, Token, Version};

use crate::intern::fingerprint;
use crate::rules::{Budget, Sight};
use crate::world::Universe;

/// What clients have asked and were told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    pub tokens: u64,
    pub written: u8,
    /// The newest version that any client knows of.
    pub known: Version,
    /// Of each read under way: what was known when it was asked.
    pub reads: BTreeMap<Token, Version>,
    /// Of each change under way: its number in the session.
    pub writes: BTreeMap<Token, u8>,
    pub answered: BTreeMap<u8, Version>,
}

/// A state of the world; servers, packets and laws by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub locals: Vec<u32>,
    /// In ascending order.
    pub network: Rc<Vec<u32>>,
    pub now: Time,
    pub left: Budget,
    pub laws: u32,
    pub history: History,
}

impl State {
    /// The fingerprint of all but the network.
    pub(crate) fn rest(&self) -> u128 {
        fingerprint(&(&self.locals, self.now, self.left, self.laws, &self.history))
    }

    /// False where it is on its way already.
    pub(crate) fn send(&mut self, packet: u32) -> bool {
        match self.network.binary_search(&packet) {
            Ok(_) => false,
            Err(place) => {
                Rc::make_mut(&mut self.network).insert(place, packet);
                true
            }
        }
    }
}

impl History {
    pub(crate) fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }
}

impl Universe {
    /// Laws 4 and 7: what clients are told agrees with what they were told before.
    pub(crate) fn answered(
        &mut self,
        next: &mut State,
        token: Token,
        result: &Result<Response, Refusal>,
    ) -> Result<(), Violation> {
        let history = &mut next.history;
        let asked = history.reads.remove(&token);
        let sequence = history.writes.remove(&token);
        match result {
            Ok(Response::SessionOpened { session }) => self.session = Some(*session),
            Ok(Response::Changed { version, .. }) => {
                history.known = history.known.max(*version);
                let Some(sequence) = sequence else { return Ok(()) };
                match history.answered.insert(sequence, *version) {
                    Some(before) if before != *version => {
                        let what = format!("change {sequence} was answered with {before} and with {version}");
                        return Violation::of(4, what);
                    }
                    Some(_) => *self.seen.entry(Sight::ARetryWasAnswered).or_default() += 1,
                    None => {}
                }
            }
            // There is one key: what was known of it when it was asked for is seen, whatever else is.
            Ok(Response::Found { version, .. } | Response::NotFound { seen: Seen { version, .. } }) => {
                let known = asked.unwrap_or_default();
                if *version < known {
                    let what = format!("a read found version {version}, and {known} was known when it was asked");
                    return Violation::of(7, what);
                }
                history.known = history.known.max(*version);
            }
            Err(Refusal::SessionExpired) => {
                return Violation::of(4, "an open session was called expired".to_owned());
            }
            Ok(
                Response::SessionClosed
                | Response::Appended { .. }
                | Response::NotMet { .. }
                | Response::Scanned { .. }
                | Response::Promoted { .. }
                | Response::Fenced,
            )
            | Err(_) => {}
        }
        Ok(())
    }
}
