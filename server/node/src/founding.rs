//! The first view of a cluster or generation, and how blank servers join (PROTOCOL 3, 9).

use std::collections::BTreeSet;

use heirloom_proto::event::{Cause, Identity};
use heirloom_proto::{
    ClusterId, Constants, Member, Message, Outbox, QuorumRule, Register, ServerId, StoreId, Time, VoterKind,
};

use crate::node::Node;
use crate::voting::{After, Then};

impl Node {
    /// Whether another server was started with the same settings; this run is over where it was not.
    pub(crate) fn settings_agree(&mut self, other: ServerId, theirs: &Constants, out: &mut Outbox) -> bool {
        let mine = &self.config.constants;
        if theirs == mine {
            return true;
        }
        // A server that belongs to a cluster has checked its settings against it: it goes on, the other must not.
        if self.cluster().is_none() {
            let what = format!(
                "server {other} was started with other settings, and they must be the same everywhere: {}",
                difference(mine, theirs)
            );
            self.halt(Cause::Misconfigured { what }, None, out);
        }
        false
    }

    /// A blank server founds where it is the lowest data server and *all* voters say that they are blank: two blank ones
    /// never found a new cluster over a third one's data.
    pub(crate) fn decide_to_found(&mut self, out: &mut Outbox) {
        if self.config.constants.data_servers().next() != Some(self.config.me) || !self.writes.is_empty() {
            return;
        }
        let Some(inquiry) = &self.inquiry else { return };
        let mut enrolled = std::collections::BTreeMap::from([(self.config.me, self.identity.store)]);
        for server in self.others() {
            match inquiry.answers.get(&server) {
                Some(answered) if answered.cluster.is_none() => enrolled.insert(server, answered.from.store),
                Some(_) | None => return,
            };
        }
        let cluster = ClusterId { id: self.birth.cluster, generation: 1 };
        let identity = Identity {
            cluster: Some((cluster, self.config.constants.clone())),
            enrolled,
            enrolment_open: false,
            ..self.identity.clone()
        };
        self.join(identity, Register::FRESH, out);
    }

    /// Takes on an identity: the register first, so that an identity without a register has lost it.
    fn join(&mut self, identity: Identity, register: Register, out: &mut Outbox) {
        self.register = register;
        self.persist_register(Then::Join { identity }, out);
    }

    /// The identity is durable.
    pub(crate) fn joined(&mut self, now: Time, out: &mut Outbox) {
        self.inquiry = None;
        self.met = None;
        // What a server that was enrolled has missed since it was blank it does not know: others may have gone on without
        // it, on proof of its death.
        self.recovering = self.config.constants.quorum == QuorumRule::Survivors && !self.may_found();
        for server in self.others() {
            self.send_enrol(server, out);
        }
        self.consider(now, out);
    }

    /// Whether this server founded the cluster or generation, and so may propose the first view.
    pub(crate) fn may_found(&self) -> bool {
        self.identity.enrolled.contains_key(&self.config.me) && !self.identity.enrolment_open
    }

    /// All data stores that answered when the cluster was founded.
    pub(crate) fn founding_members(&self) -> BTreeSet<Member> {
        let enrolled = self.identity.enrolled.iter();
        let data = enrolled.filter(|(server, _)| self.config.constants.kind(**server) == Some(VoterKind::Data));
        data.map(|(server, store)| Member { server: *server, store: *store }).collect()
    }

    /// A server asks. The founder counts its store as a voter that has never voted, once: another store of the same
    /// server has lost its register.
    pub(crate) fn enrol(&mut self, asks: Member, out: &mut Outbox) {
        if self.cluster().is_none() {
            return;
        }
        match self.identity.enrolled.get(&asks.server) {
            Some(_) => self.send_enrol(asks.server, out),
            None if self.identity.enrolment_open => {
                let pending = self.writes.values().any(|after| matches!(after, After::Identity { .. }));
                if !pending {
                    let mut identity = self.identity.clone();
                    identity.enrolled.insert(asks.server, asks.store);
                    self.persist_identity(identity, Some(asks.server), out);
                }
            }
            None => {}
        }
    }

    /// Whether it is noted that this server may have voted. Who begins a generation tells nobody what it knows before that:
    /// a server that joins without being counted as one that has never voted votes once all others have told it, and another
    /// store of it must not be counted then.
    pub(crate) fn has_counted(&self, server: ServerId) -> bool {
        !self.identity.enrolment_open || self.identity.enrolled.contains_key(&server)
    }

    pub(crate) fn send_enrol(&self, server: ServerId, out: &mut Outbox) {
        let Some((_, constants)) = &self.identity.cluster else { return };
        if let Some(store) = self.identity.enrolled.get(&server).filter(|_| server != self.config.me) {
            out.send(server, Message::Enrol { store: *store, constants: constants.clone() });
        }
    }

    /// The founder counts this store as a voter that has never voted: true, for it belongs to no cluster yet.
    pub(crate) fn enrolled(
        &mut self,
        cluster: Option<ClusterId>,
        store: StoreId,
        constants: &Constants,
        out: &mut Outbox,
    ) {
        let Some(cluster) = cluster else { return };
        let blank = self.cluster().is_none() && self.writes.is_empty();
        // Where another store of this server was counted, this one waits for a primary before it joins: of two servers the
        // other may be waiting for what this one has lost, and must not take its blank memory for an answer.
        if !blank || store != self.identity.store || *constants != self.config.constants {
            return;
        }
        let identity = Identity { cluster: Some((cluster, constants.clone())), ..self.identity.clone() };
        self.join(identity, Register::FRESH, out);
    }

    /// A blank server meets a cluster that works: its own votes, if it ever gave any, are lost.
    pub(crate) fn join_as_amnesiac(&mut self, out: &mut Outbox) {
        let Some((cluster, constants)) = self.met.clone() else { return };
        if !self.writes.is_empty() {
            return;
        }
        let identity = Identity { cluster: Some((cluster, constants)), ..self.identity.clone() };
        self.join(identity, Register::LOST, out);
    }

    /// Asks while blank: there is nobody else to ask in a cluster of one.
    pub(crate) fn found_alone(&mut self, now: Time, out: &mut Outbox) {
        if self.cluster().is_none() && self.config.constants.voters.len() == 1 {
            self.consider(now, out);
        }
    }
}

/// The first setting in which two servers differ, in the words of the flags.
fn difference(mine: &Constants, theirs: &Constants) -> String {
    if mine.voters != theirs.voters {
        format!(
            "--cluster names {} servers here and {} there, or other witnesses",
            mine.voters.len(),
            theirs.voters.len()
        )
    } else if mine.quorum != theirs.quorum {
        format!("--quorum is {:?} here and {:?} there", mine.quorum, theirs.quorum).to_lowercase()
    } else if mine.min_copies != theirs.min_copies {
        format!("--min-copies is {} here and {} there", mine.min_copies, theirs.min_copies)
    } else if mine.lease != theirs.lease {
        format!("--lease is {:?} here and {:?} there", mine.lease, theirs.lease)
    } else {
        format!("--drift is {} ppm here and {} ppm there", mine.drift.0, theirs.drift.0)
    }
}
