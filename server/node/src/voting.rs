//! The voter: promising, accepting, and beginning epochs, each answered when it is durable (PROTOCOL 5 and 8.1).

use heirloom_proto::event::{Action, Cause, Identity, Record, Ticket};
use heirloom_proto::{
    Epoch, LogIndex, Message, Mutant, Outbox, Position, Register, RunId, Sealed, ServerId, Standing, Time, View,
    VoterKind, planted,
};

use crate::node::{Node, Role};

/// What is to be done when a write of the register or the identity is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum After {
    /// The register is durable.
    Register { register: Register, then: Then },
    /// The identity is durable.
    Identity { identity: Identity, enrol: Option<ServerId> },
}

/// What follows from a durable register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    /// Answer a proposer with the view accepted before its epoch.
    Promised { to: ServerId, epoch: Epoch, accepted: Option<View>, counts: bool },
    /// Ask the others for the same promise.
    OwnPromise { epoch: Epoch, accepted: Option<View> },
    /// Answer a proposer.
    Accepted { to: ServerId, epoch: Epoch },
    /// Ask the others to accept the same view.
    OwnAccept { epoch: Epoch },
    /// Begin the epoch, as a member of its view or not.
    StartEpoch { epoch: Epoch },
    /// All voters were heard: this one remembers again.
    Remembered,
    /// Take on an identity.
    Join { identity: Identity },
}

impl Node {
    pub(crate) fn persist_register(&mut self, then: Then, out: &mut Outbox) {
        let ticket = out.persist(Record::Register(self.register.clone()));
        self.writes.insert(ticket, After::Register { register: self.register.clone(), then });
    }

    pub(crate) fn persist_identity(&mut self, identity: Identity, enrol: Option<ServerId>, out: &mut Outbox) {
        let ticket = out.persist(Record::Identity(identity.clone()));
        self.writes.insert(ticket, After::Identity { identity, enrol });
    }

    pub(crate) fn persisted(&mut self, now: Time, ticket: Ticket, read_back: &[Sealed], out: &mut Outbox) {
        match self.writes.remove(&ticket) {
            Some(After::Register { register, then }) => {
                self.durable_register = Some(register);
                self.register_durable(now, then, out);
            }
            Some(After::Identity { identity, enrol }) => {
                let joined = self.identity.cluster.is_none();
                self.identity = identity;
                let (cluster, _) = self.identity.cluster.clone().expect("an identity is only stored to join");
                out.belong_to(cluster);
                if let Some(server) = enrol {
                    self.send_enrol(server, out);
                }
                if joined {
                    self.joined(now, out);
                }
            }
            None => self.log_durable(now, ticket, read_back, out),
        }
    }

    fn log_durable(&mut self, now: Time, ticket: Ticket, read_back: &[Sealed], out: &mut Outbox) {
        let excused = self.excused();
        let setting = heirloom_primary::Setting { config: &self.config, now, excused: &excused };
        let result = match &mut self.role {
            Role::Copy(backup) => backup.persisted(ticket, read_back, out),
            Role::Primary(primary) => primary.persisted(ticket, read_back, setting, out),
            Role::Witness | Role::Over => Ok(false),
        };
        if let Err(wrong) = result {
            let what = format!("entry {} was read back from the log otherwise than it was written", wrong.index);
            self.halt(Cause::Disk { what }, None, out);
        }
    }

    fn register_durable(&mut self, now: Time, then: Then, out: &mut Outbox) {
        match then {
            Then::Promised { to, epoch, mut accepted, mut counts } => {
                if planted(Mutant::PromiseShowsLater) {
                    accepted = self.register.accepted.clone();
                }
                if planted(Mutant::PromiseShowsLater) || planted(Mutant::PromiseCountsLater) {
                    counts = self.register.standing == Standing::Intact;
                }
                self.send_promised(to, epoch, accepted, counts, out);
            }
            Then::OwnPromise { epoch, accepted } => self.own_promise_durable(now, epoch, accepted, out),
            Then::Accepted { to, epoch } => out.send(to, Message::Accepted { epoch }),
            Then::OwnAccept { epoch } => self.own_accept_durable(now, epoch, out),
            Then::StartEpoch { epoch } => self.start_epoch_durable(epoch, out),
            Then::Remembered => {
                if self.durable_register.as_ref().is_some_and(|register| register.standing == Standing::Intact) {
                    self.recovering = false;
                }
            }
            Then::Join { identity } => self.persist_identity(identity, None, out),
        }
    }

    /// `accepted` and `counts` are as they were at the promise, both: a vote that counts must show what it knew.
    fn send_promised(&self, to: ServerId, epoch: Epoch, accepted: Option<View>, counts: bool, out: &mut Outbox) {
        out.send(to, Message::Promised { epoch, accepted, counts, member: self.member() });
    }

    /// The store that promises to freeze, where it keeps data and does not differ from its primary.
    pub(crate) fn member(&self) -> Option<heirloom_proto::Member> {
        let sound = match &self.role {
            Role::Copy(backup) => !backup.differs(),
            Role::Primary(_) => true,
            Role::Witness | Role::Over => false,
        };
        (self.config.kind() == VoterKind::Data && sound).then(|| self.me())
    }

    fn refuse_lower(&self, to: ServerId, refused: Epoch, out: &mut Outbox) {
        out.send(to, Message::HigherPromise { refused, promised: self.register.promised });
    }

    /// From a promise on, for a proposal of its own too, nothing of a lower epoch is taken, held or granted.
    pub(crate) fn freeze(&mut self, now: Time, epoch: Epoch) {
        match &mut self.role {
            _ if planted(Mutant::NoFreezeOnPromise) => {}
            Role::Copy(backup) => backup.freeze(epoch),
            Role::Primary(primary) if primary.view().epoch < epoch => {
                primary.freeze();
                self.contested_since.get_or_insert(now);
            }
            Role::Primary(_) | Role::Witness | Role::Over => {}
        }
        self.watch.shut_out(epoch);
        // A proposal of ours for a lower epoch would need our own acceptance, which we have just given away.
        if self.attempt.as_ref().is_some_and(|attempt| attempt.proposal.epoch() < epoch) {
            self.attempt = None;
        }
        self.highest_seen = self.highest_seen.max(epoch);
    }

    /// A proposer asks for a promise.
    pub(crate) fn asked_to_promise(&mut self, now: Time, from: ServerId, epoch: Epoch, out: &mut Outbox) {
        if epoch.server != from {
            return;
        }
        if epoch == self.register.promised && self.register.accepted_epoch() < epoch {
            // Asked again: the answer may be lost. One still on its way to disk will be given when it is there.
            if let Some(durable) = self.durable_register.as_ref().filter(|durable| durable.promised == epoch) {
                let counts = durable.standing == Standing::Intact;
                self.send_promised(from, epoch, durable.accepted.clone(), counts, out);
            }
            return;
        }
        let counts = self.register.standing == Standing::Intact || planted(Mutant::AmnesiacVotes);
        let accepted = self.register.accepted.clone();
        if !self.register.promise(epoch) {
            return self.refuse_lower(from, epoch, out);
        }
        self.freeze(now, epoch);
        if planted(Mutant::PromiseUnsynced) {
            self.send_promised(from, epoch, accepted.clone(), counts, out);
        }
        // The proposer is given the time to bring it to an end.
        self.patience.promised();
        self.propose_after = self.propose_after.max(now + self.patience.of(self.config.heartbeat * 2));
        self.persist_register(Then::Promised { to: from, epoch, accepted, counts }, out);
    }

    /// A proposer asks for acceptance.
    pub(crate) fn asked_to_accept(&mut self, now: Time, from: ServerId, view: &View, out: &mut Outbox) {
        let epoch = view.epoch;
        let forgot = self.register.standing == Standing::Amnesiac && !planted(Mutant::AmnesiacVotes);
        if epoch.server != from || forgot {
            return;
        }
        // Given again only while no higher promise stands: a view that was learnt with a higher promise was never
        // accepted here, and must not become chosen by a late repetition.
        let highest = epoch == self.register.promised || planted(Mutant::AcceptedSaidAgain);
        if epoch == self.register.accepted_epoch() && highest {
            if self.durable_register.as_ref().is_some_and(|durable| durable.accepted_epoch() == epoch) {
                out.send(from, Message::Accepted { epoch });
            }
            return;
        }
        if !self.register.accept(view) {
            return self.refuse_lower(from, epoch, out);
        }
        self.freeze(now, epoch);
        self.view_stored(view);
        self.persist_register(Then::Accepted { to: from, epoch }, out);
    }

    /// What storing a view changes beside the register.
    pub(crate) fn view_stored(&mut self, view: &View) {
        self.proofs.view_stored(view);
        if view.in_sync.iter().any(|member| *member != self.me()) {
            self.last_standing = false;
        }
    }

    /// A chosen view begins (PROTOCOL 8.1): it is stored before the log's end is told.
    pub(crate) fn asked_to_start(&mut self, now: Time, from: ServerId, view: &View, out: &mut Outbox) {
        let epoch = view.epoch;
        if epoch.server != from || epoch.server == self.config.me {
            return;
        }
        if epoch < self.register.promised && !planted(Mutant::StartEpochUnchecked) {
            return self.refuse_lower(from, epoch, out);
        }
        let member = view.has(self.me());
        match &self.role {
            Role::Primary(_) => return self.halt(Cause::Deposed, Some(view.primary), out),
            Role::Copy(backup) if backup.differs() && !member => {
                let what = format!("the log differed from that of the primary of an epoch before {epoch}");
                return self.halt(Cause::Irreconcilable { what }, None, out);
            }
            Role::Copy(_) => {}
            Role::Witness | Role::Over => return,
        }
        self.freeze(now, epoch);
        let before = self.register.clone();
        // A chosen view is stored by who is no member of it too: else it might take itself for a member of the one
        // before (docs/decisions/0004).
        self.register.learn(epoch, Some(view));
        self.view_stored(view);
        if planted(Mutant::StartEpochEndsRecovery) && member {
            self.recovering = false;
        }
        let stored = self.register == before && self.durable_register.as_ref() == Some(&before);
        if stored || planted(Mutant::StartEpochUnstored) {
            self.start_epoch_durable(epoch, out);
        } else if !self.stores_start_of(epoch) {
            self.persist_register(Then::StartEpoch { epoch }, out);
        }
    }

    /// Whether this very register is on its way to disk for the start of this epoch. The primary asks again at every
    /// heartbeat, and a disk that is slower than that must not be given the same again and again.
    fn stores_start_of(&self, epoch: Epoch) -> bool {
        self.writes.values().any(|after| match after {
            After::Register { register, then: Then::StartEpoch { epoch: stored } } => {
                *stored == epoch && *register == self.register
            }
            After::Register { .. } | After::Identity { .. } => false,
        })
    }

    fn start_epoch_durable(&mut self, epoch: Epoch, out: &mut Outbox) {
        if self.register.promised != epoch && !planted(Mutant::StartEpochUnchecked) {
            return;
        }
        if let Role::Copy(backup) = &mut self.role {
            backup.start_epoch(epoch, out);
        }
    }

    /// The primary has answered this run with what to keep of its log.
    pub(crate) fn told_to_cut(&mut self, epoch: Epoch, run: RunId, end: Position, keep: LogIndex, out: &mut Outbox) {
        let my_run = self.run();
        let Role::Copy(backup) = &mut self.role else { return };
        if !backup.cut(my_run, epoch, run, end, keep, out) {
            return;
        }
        // A live primary has answered *this run*: it holds no proof of its death, so nobody goes on without its vote, be it
        // a member or not. That it was merely told of the epoch is not enough: that word may be from before the primary
        // put the run before this one out of the view, on proof of its death (docs/decisions/0004).
        self.recovering = false;
    }

    /// Where two copies differ, and nobody else says which of them is wrong, each looks at itself (PROTOCOL 4.5).
    pub(crate) fn examine(&self, out: &mut Outbox) {
        let wanted = match &self.role {
            Role::Primary(primary) => primary.wants_examination(),
            Role::Copy(backup) => backup.differs(),
            Role::Witness | Role::Over => false,
        };
        if wanted {
            out.act(Action::Examine);
        }
    }

    pub(crate) fn examined(&mut self) {
        match &mut self.role {
            Role::Primary(primary) => primary.examined(),
            Role::Copy(backup) => backup.examined(),
            Role::Witness | Role::Over => {}
        }
    }

    /// The primary found that this copy differs. One that is out of the view gives up its store at once; a member stays
    /// what it is until it was put out, for several that gave theirs up could take the last good data with them.
    pub(crate) fn told_to_differ(&mut self, epoch: Epoch, out: &mut Outbox) {
        let me = self.me();
        let Role::Copy(backup) = &mut self.role else { return };
        backup.told_to_differ(epoch);
        let out_of_view = self.register.accepted.as_ref().is_some_and(|view| view.epoch == epoch && !view.has(me));
        if backup.differs() && out_of_view {
            let what = format!("the primary of epoch {epoch} found that this copy differs from its own");
            self.halt(Cause::Irreconcilable { what }, None, out);
        }
    }
}
