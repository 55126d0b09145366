//! Whether the own directory is the newest of its store, which the others are asked at the beginning of a run (PROTOCOL 9,
//! docs/decisions/0015).

use std::collections::{BTreeMap, BTreeSet};

use heirloom_proto::event::Cause;
use heirloom_proto::message::{Remembered, Testimony};
use heirloom_proto::{LogIndex, Message, Mutant, Outbox, Peer, Register, ServerId, Standing, Time, planted};

use crate::node::{Node, Role};

/// The directory may be an older copy: until the others have said what they remember of it, or the suspicion time is over,
/// this server promises, accepts, begins and proposes nothing, and says that it does not vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Doubt {
    pub(crate) until: Time,
    /// What asks for a vote or for work, the last of each server, taken up when the doubt is over.
    held: BTreeMap<ServerId, (Peer, Message)>,
    /// The last question of each server, answered once more when the doubt is over.
    questions: BTreeMap<ServerId, (Peer, u64)>,
}

impl Doubt {
    /// A doubt that lasts until then at the latest.
    pub(crate) fn until(until: Time) -> Self {
        Self { until, held: BTreeMap::new(), questions: BTreeMap::new() }
    }

    /// A question was answered in doubt.
    pub(crate) fn questioned(&mut self, from: Peer, ask: u64) {
        self.questions.insert(from.server, (from, ask));
    }
}

/// The voters that a run asks, which are those that have not answered: none where it is the same process, which holds the
/// lock of the directory.
pub(crate) fn unheard(others: impl Iterator<Item = ServerId>, same_process: bool) -> BTreeSet<ServerId> {
    if same_process || planted(Mutant::OldCopyVotes) { BTreeSet::new() } else { others.collect() }
}

impl Node {
    /// Gives back what is to be taken at once.
    pub(crate) fn hold(&mut self, from: Peer, message: Message) -> Option<Message> {
        let Some(doubt) = &mut self.doubt else { return Some(message) };
        match message {
            Message::Promise { .. }
            | Message::Accept { .. }
            | Message::StartEpoch { .. }
            | Message::StillPromised { .. } => {
                doubt.held.insert(from.server, (from, message));
                None
            }
            other => Some(other),
        }
    }

    /// Asks those to whom a stream stands and who have not answered, where no other question is under way: also once the
    /// doubt is over, for an older copy is one whenever that is found.
    pub(crate) fn ask_of_me(&self, now: Time, server: Option<ServerId>, out: &mut Outbox) {
        if self.wants_to_ask(now) {
            return;
        }
        let asked = |other: &ServerId| server.is_none_or(|server| server == *other) && self.peers.is_connected(*other);
        for other in self.unheard.iter().copied().filter(asked) {
            // The number below that of all inquiries of this run.
            out.send(other, Message::Question { ask: self.birth.run.0 });
        }
    }

    /// Takes what another server remembers of this one's store. True where that is more than this server does: its run is
    /// over.
    pub(crate) fn is_told_to_be_older(&mut self, from: ServerId, testimony: &Testimony, out: &mut Outbox) -> bool {
        let remembered = testimony.remembered.as_ref().filter(|_| !planted(Mutant::OldCopyVotes));
        let Some(what) = remembered.and_then(|remembered| self.older_than(from, remembered)) else { return false };
        self.halt(Cause::Outdated { what }, None, out);
        true
    }

    /// In what the own store is behind what is remembered of it.
    fn older_than(&self, from: ServerId, remembered: &Remembered) -> Option<String> {
        // A store that belongs to no cluster yet takes the place of another, and votes only once it has asked all others.
        let same = remembered.store == self.identity.store;
        if !same && self.cluster().is_none() {
            return None;
        }
        let register = self.durable_register.as_ref().unwrap_or(&Register::FRESH);
        let (promised, own) = (remembered.promised, register.promised);
        // Whoever knows that its register is lost gives no vote in any case.
        if register.standing == Standing::Intact && promised > own {
            return Some(format!(
                "server {from} remembers that this server promised epoch {promised}, and its register says {own}"
            ));
        }
        if !same {
            return None;
        }
        // In a higher epoch than the one in which it was confirmed it may have been cut since; what is committed never is.
        let confirmed = if remembered.confirmed_in == own { remembered.confirmed } else { LogIndex::ZERO };
        let (had, end) = (confirmed.max(remembered.committed), self.replica()?.durable_end());
        (had > end)
            .then(|| format!("server {from} remembers that this store has the log up to {had}, and it ends with {end}"))
    }

    /// Takes note that a server has answered a question of this run.
    pub(crate) fn has_answered(&mut self, now: Time, from: ServerId, ask: u64, out: &mut Outbox) {
        let first = self.birth.run.0;
        if ask.wrapping_sub(first) > self.asks.wrapping_sub(first) {
            return;
        }
        self.unheard.remove(&from);
        if self.unheard.is_empty() {
            self.trust(now, out);
        }
    }

    /// The doubt is over: what waited for that is taken up, and who asked meanwhile is told that this server votes.
    pub(crate) fn trust(&mut self, now: Time, out: &mut Outbox) {
        let Some(doubt) = self.doubt.take() else { return };
        for (from, ask) in doubt.questions.into_values() {
            self.testify(now, from, ask, out);
        }
        for (from, message) in doubt.held.into_values() {
            if !matches!(self.role, Role::Over) {
                self.take(now, from, None, message, out);
            }
        }
    }
}
