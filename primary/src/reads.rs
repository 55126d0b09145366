//! Linearizable reads at the primary (PROTOCOL 10): under its lease, or confirmed by a round with the voters.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::limits::WAITING_REQUESTS_MAX;
use heirloom_proto::{
    At, Consistency, Effect, Lookup, Message, Mutant, Outbox, Refusal, Response, Seen, ServerId, Time, Token, Version,
    planted, quorum,
};

use heirloom_backup::lease::{self, LeaseHeld};

use crate::primary::{Primary, Setting};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    token: Token,
    lookup: Lookup,
    /// The version that a causal read or a later page must see.
    at_least: Version,
}

/// Reads that wait for the start of the epoch, for the lease, or for a round of confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reads {
    waiting: Vec<Waiting>,
    /// The reads of the round under way: those that arrived before its question was sent.
    asked: Vec<Waiting>,
    round: u64,
    answered: BTreeSet<ServerId>,
    asked_at: Time,
}

impl Reads {
    /// A new epoch: what was asked in the old one says nothing.
    pub(crate) fn begin_again(&mut self) {
        let mut all = std::mem::take(&mut self.asked);
        all.append(&mut self.waiting);
        self.waiting = all;
        self.answered.clear();
    }

    /// All callers, who are waited for no longer.
    pub(crate) fn take_all(&mut self) -> Vec<Token> {
        self.begin_again();
        std::mem::take(&mut self.waiting).into_iter().map(|read| read.token).collect()
    }
}

impl Primary {
    pub(crate) fn read(&mut self, token: Token, lookup: Lookup, setting: Setting<'_>, out: &mut Outbox) {
        let version = self.replica.dictionary().version();
        let (at_least, at_once) = match lookup.at() {
            At::Now(Consistency::Stale) => (version, true),
            At::Now(Consistency::Causal { at_least }) | At::Version(at_least) => (at_least, version >= at_least),
            At::Now(Consistency::Linearizable) => (Version(0), false),
        };
        let read = Waiting { token, lookup, at_least };
        if at_once {
            return self.answer(&read, true, setting, out);
        }
        // What a causal read has seen, or a first page has told, and this primary has not is prepared here at least, or of no
        // history of ours: a linearizable read finds out.
        if self.serves()
            && let Some(held) = lease::prove(self.lease_until(setting), setting.now)
        {
            return self.answer_locally(&read, &held, setting, out);
        }
        if self.reads.waiting.len() >= WAITING_REQUESTS_MAX {
            return out.respond(token, Err(Refusal::Overloaded));
        }
        self.reads.waiting.push(read);
    }

    /// Answers what can be answered now; called when an echo, the start of the epoch or a confirmation came.
    pub(crate) fn answer_reads(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        if self.reads.waiting.is_empty() || !self.serves() {
            return;
        }
        if let Some(held) = lease::prove(self.lease_until(setting), setting.now) {
            for read in std::mem::take(&mut self.reads.waiting) {
                self.answer_locally(&read, &held, setting, out);
            }
        }
    }

    /// Begins a round of confirmation for all reads that wait, where leases are off and no round is under way.
    pub(crate) fn ask_for_reads(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        let leases_off = setting.config.constants.lease.is_zero();
        if !leases_off || !self.serves() || !self.reads.asked.is_empty() || self.reads.waiting.is_empty() {
            return;
        }
        self.reads.asked = std::mem::take(&mut self.reads.waiting);
        self.reads.round += 1;
        // Itself: it has promised nothing higher, else it would be frozen.
        self.reads.answered = BTreeSet::from([self.me.server]);
        self.repeat_question(setting, out);
        self.finish_round(setting, out);
    }

    /// Asks again those who have not answered: the question or the answer may be lost.
    pub fn repeat_question(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        if self.reads.asked.is_empty() || self.frozen {
            return;
        }
        self.reads.asked_at = setting.now;
        for server in setting.config.constants.servers().filter(|server| !self.reads.answered.contains(server)) {
            out.send(server, Message::StillPromised { epoch: self.view.epoch, round: self.reads.round });
        }
    }

    /// Takes a voter's word that it has promised nothing higher.
    pub fn nothing_higher(
        &mut self,
        from: ServerId,
        epoch: heirloom_proto::Epoch,
        round: u64,
        setting: Setting<'_>,
        out: &mut Outbox,
    ) {
        if epoch == self.view.epoch && round == self.reads.round && !self.reads.asked.is_empty() {
            self.reads.answered.insert(from);
            self.finish_round(setting, out);
        }
    }

    fn finish_round(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        if !self.serves() || !quorum::reached(&setting.config.constants, &self.reads.answered, setting.excused) {
            return;
        }
        for read in std::mem::take(&mut self.reads.asked) {
            self.answer(&read, false, setting, out);
        }
        self.ask_for_reads(setting, out);
    }

    fn answer_locally(&self, read: &Waiting, _held: &LeaseHeld, setting: Setting<'_>, out: &mut Outbox) {
        self.answer(read, true, setting, out);
    }

    fn answer(&self, read: &Waiting, local: bool, setting: Setting<'_>, out: &mut Outbox) {
        let version = self.replica.dictionary().version();
        if version < read.at_least {
            return out.respond(read.token, Err(Refusal::VersionAhead { version }));
        }
        let leads = self.lease_until(setting).is_some_and(|until| setting.now < until);
        let newest = match read.lookup.at() {
            At::Now(_) => leads || !local,
            At::Version(_) => false,
        };
        let version = self.replica.version_of(&read.lookup);
        let age = newest.then_some(Duration::ZERO);
        let seen = Seen { version, epoch: self.view.epoch, local, waited: false, age };
        if let Lookup::Key { key, .. } = &read.lookup
            && planted(Mutant::ReadsPrepared)
            && let Some((value, version)) = self.prepared_value(key)
        {
            let changed_at = heirloom_proto::WallTime(0);
            return out.respond(read.token, Ok(Response::Found { value, version, changed_at, seen }));
        }
        out.respond(read.token, self.replica.look(&read.lookup, seen, out.cluster()));
    }

    /// The fault [`Mutant::ReadsPrepared`]: what a prepared entry would give the key.
    fn prepared_value(&self, key: &Bytes) -> Option<(Bytes, Version)> {
        let prepared = self.replica.log().from(self.replica.applied_index().next()).iter().rev();
        prepared.map(heirloom_proto::Sealed::entry).find_map(|entry| {
            entry.effects.iter().find_map(|effect| match effect {
                Effect::Put { key: put, value } if put == key => Some((value.clone(), entry.version)),
                _ => None,
            })
        })
    }
}
