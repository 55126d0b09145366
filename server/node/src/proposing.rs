//! Asking, and proposing (PROTOCOL 5 and 6): who may, when, and what.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_backup::Unanswered;
use heirloom_primary::Primary;
use heirloom_proto::event::{Cause, Note};
use heirloom_proto::message::Testimony;
use heirloom_proto::proposal::Vote;
use heirloom_proto::view::Derivation;
use heirloom_proto::{
    ClusterId, Epoch, Member, Message, Mutant, Outbox, Peer, Proposal, QuorumRule, RunId, ServerId, Standing, Time,
    View, planted, quorum,
};

use crate::node::{Node, Role};
use crate::voting::Then;

/// A question to all voters, and what came of it. It changes no state; safety doesn't rest on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inquiry {
    pub(crate) ask: u64,
    pub(crate) asked_at: Time,
    pub(crate) answers: BTreeMap<ServerId, Answered>,
    /// When a server was asked again out of turn: two that ask must not do so in answer to each other for ever.
    again: BTreeMap<ServerId, Time>,
}

/// One server's testimony.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Answered {
    pub(crate) from: Peer,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) testimony: Testimony,
}

/// Why a view is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// The first view of a cluster.
    Found,
    /// A member takes over.
    TakeOver {
        /// Whether the primary told it to.
        handed_over: bool,
    },
    /// The primary goes on, with these members changed.
    GoOn(Derivation),
}

/// A proposal under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) proposal: Proposal,
    purpose: Purpose,
    /// Who answered the question before: the view should be as wide as can be, so they are waited for a heartbeat.
    awaited: BTreeSet<ServerId>,
    reason: String,
    begun_at: Time,
}

impl Node {
    /// Whether this node has something to ask: it looks for a cluster, for its memory, for a primary, or wants to
    /// propose.
    pub(crate) fn wants_to_ask(&self, now: Time) -> bool {
        if self.attempt.is_some() {
            return false;
        }
        let lost = self.cluster().is_none() || self.register.standing == Standing::Amnesiac;
        match &self.role {
            Role::Over => false,
            Role::Witness => lost,
            Role::Copy(_) => lost || self.recovering || self.hears(now).is_none(),
            Role::Primary(_) => self.reason_to_go_on(now).is_some(),
        }
    }

    /// The primary that is heard, both ways.
    pub(crate) fn hears(&self, now: Time) -> Option<(ServerId, RunId)> {
        match &self.role {
            Role::Primary(primary) if !primary.is_frozen() => Some((self.config.me, self.run())),
            Role::Primary(_) | Role::Over => None,
            Role::Copy(_) | Role::Witness => self.watch.hears(now, self.config.suspicion),
        }
    }

    /// Asks, or asks again, and looks at what is known.
    pub(crate) fn consider(&mut self, now: Time, out: &mut Outbox) {
        if !self.wants_to_ask(now) {
            self.inquiry = None;
            return;
        }
        let stale = self.inquiry.as_ref().is_none_or(|inquiry| now.since(inquiry.asked_at) > self.config.suspicion);
        if stale {
            self.asks = self.asks.wrapping_add(1);
            self.inquiry =
                Some(Inquiry { ask: self.asks, asked_at: now, answers: BTreeMap::new(), again: BTreeMap::new() });
            for server in self.others() {
                out.send(server, Message::Question { ask: self.asks });
            }
        }
        self.decide(now, out);
    }

    /// Asks one server again, which is connected now or asks itself: what it said before may have changed.
    pub(crate) fn ask_again(&mut self, now: Time, server: ServerId, out: &mut Outbox) {
        if !self.wants_to_ask(now) {
            return;
        }
        match &self.inquiry {
            Some(inquiry) => out.send(server, Message::Question { ask: inquiry.ask }),
            None => self.consider(now, out),
        }
    }

    pub(crate) fn questioned(&mut self, now: Time, from: Peer, cluster: Option<ClusterId>, ask: u64, out: &mut Outbox) {
        self.testify(now, from, ask, out);
        if let Some(doubt) = &mut self.doubt {
            doubt.questioned(from, ask);
        }
        if cluster.is_none() || !self.has_counted(from.server) {
            self.enrol(from.member(), out);
        }
        // It asks because it misses the primary, or its place: it may have told us otherwise a moment ago.
        let heartbeat = self.config.heartbeat;
        let Some(inquiry) = &mut self.inquiry else { return };
        let outdated = inquiry
            .answers
            .get(&from.server)
            .is_some_and(|answered| answered.testimony.hears.is_some() || answered.from != from);
        let long_ago = inquiry.again.get(&from.server).is_none_or(|at| now.since(*at) >= heartbeat);
        if outdated && long_ago {
            inquiry.again.insert(from.server, now);
            self.ask_again(now, from.server, out);
        }
    }

    pub(crate) fn testify(&self, now: Time, to: Peer, ask: u64, out: &mut Outbox) {
        if !self.has_counted(to.server) {
            return;
        }
        let mut register = self.durable_register.clone().filter(|_| self.cluster().is_some());
        if let (Some(register), Some(_)) = (&mut register, &self.doubt) {
            // Nobody may take its word for all that it ever knew.
            register.standing = Standing::Amnesiac;
        }
        let testimony = Testimony {
            ask,
            register,
            constants: self.config.constants.clone(),
            cluster: self.cluster(),
            hears: self.hears(now),
            remembered: self.remembered(to.member()),
        };
        out.send(to.server, Message::Testimony(Box::new(testimony)));
    }

    pub(crate) fn testified(&mut self, now: Time, from: Peer, testimony: Testimony, out: &mut Outbox) {
        if !self.settings_agree(from.server, &testimony.constants, out) {
            return;
        }
        let cluster = testimony.cluster;
        if let (None, Some(theirs)) = (self.cluster(), cluster) {
            self.met = Some((theirs, testimony.constants.clone()));
        }
        if self.is_told_to_be_older(from.server, &testimony, out) {
            return;
        }
        self.has_answered(now, from.server, testimony.ask, out);
        if let Some(inquiry) = self.inquiry.as_mut().filter(|inquiry| inquiry.ask == testimony.ask) {
            inquiry.answers.insert(from.server, Answered { from, cluster, testimony });
            self.decide(now, out);
        }
    }

    /// Looks at the answers and does what they allow.
    fn decide(&mut self, now: Time, out: &mut Outbox) {
        if self.cluster().is_none() {
            return self.decide_to_found(out);
        }
        self.remember(now, out);
        match &self.role {
            Role::Copy(_) => self.decide_to_take_over(now, out),
            Role::Primary(_) => self.decide_to_go_on(now, out),
            Role::Witness | Role::Over => {}
        }
    }

    /// A voter that lost its register, or has restarted under the rule `survivors`, learns what all others know.
    fn remember(&mut self, now: Time, out: &mut Outbox) {
        let amnesiac = self.register.standing == Standing::Amnesiac;
        if !amnesiac && !self.recovering {
            return;
        }
        let Some(inquiry) = &self.inquiry else { return };
        // Of two servers this one may have gone on alone, on proof of the other's death: what it has lost then nobody
        // else was told, but for one that has led ever since its run began to, frozen or not: nobody can have proven
        // that run dead. A frozen primary does not call itself one, but its heartbeats are heard, be it of an epoch that
        // this server has promised away.
        let must_lead = amnesiac && self.config.constants.quorum == QuorumRule::Survivors;
        let heard = self.hears(now);
        let others: Option<Vec<_>> = self
            .others()
            .map(|server| {
                let answered = inquiry.answers.get(&server)?;
                let register = answered.testimony.register.as_ref()?;
                let run = (server, answered.from.run);
                let leads = answered.testimony.hears == Some(run) || heard == Some(run) || self.watch.is_frozen(run);
                (register.standing == Standing::Intact && (leads || !must_lead)).then(|| register.clone())
            })
            .collect();
        let Some(others) = others else { return };
        // What a store of this server promised before it was lost is promised still, be it that only a third remembers.
        let answers = inquiry.answers.values().filter_map(|answered| answered.testimony.remembered.as_ref());
        let remembered = answers.map(|remembered| remembered.promised).max().unwrap_or(Epoch::NONE);
        if planted(Mutant::RecoveryOnlyHeard) {
            self.recovering = false;
            self.register.standing = Standing::Intact;
            return;
        }
        let before = self.register.clone();
        for register in &others {
            self.register.learn(register.promised, register.accepted.as_ref());
        }
        self.register.learn(remembered, None);
        self.register.standing = Standing::Intact;
        if self.register == before && self.durable_register.as_ref() == Some(&before) {
            self.recovering = false;
            return;
        }
        let pending = self.writes.values().any(|after| {
            matches!(after, crate::voting::After::Register { then: Then::Remembered, register } if *register == self.register)
        });
        if pending {
            return;
        }
        self.freeze(now, self.register.promised);
        if let Some(view) = self.register.accepted.clone() {
            self.view_stored(&view);
        }
        self.persist_register(Then::Remembered, out);
    }

    /// Whether this node may propose at all.
    fn may_propose(&self) -> bool {
        self.attempt.is_none()
            && self.doubt.is_none()
            && self.register.standing == Standing::Intact
            && self.durable_register.as_ref().is_some_and(|register| register.standing == Standing::Intact)
            && (!self.recovering || self.last_standing)
    }

    /// The voters that answered and may vote, this one too.
    fn answerers(&self) -> BTreeSet<ServerId> {
        let others = self.inquiry.iter().flat_map(|inquiry| inquiry.answers.iter());
        let voting = others.filter(|(_, answered)| {
            let register = answered.testimony.register.as_ref();
            register.is_some_and(|register| register.standing == Standing::Intact || planted(Mutant::AmnesiacVotes))
        });
        voting.map(|(server, _)| *server).chain([self.config.me]).collect()
    }

    /// The newest view that anyone showed.
    pub(crate) fn newest_view(&self) -> Option<&View> {
        let shown = self.inquiry.iter().flat_map(|inquiry| inquiry.answers.values());
        let shown = shown.filter_map(|answered| answered.testimony.register.as_ref()?.accepted.as_ref());
        shown.chain(self.register.accepted.as_ref()).max_by_key(|view| view.epoch)
    }

    /// Whether everyone to whom a stream stands has answered, or had a heartbeat's time to.
    fn heard_all(&self, now: Time) -> bool {
        let Some(inquiry) = &self.inquiry else { return false };
        now.since(inquiry.asked_at) >= self.config.heartbeat
            || self.peers.all_connected().all(|server| inquiry.answers.contains_key(&server))
    }

    fn decide_to_take_over(&mut self, now: Time, out: &mut Outbox) {
        if !self.may_propose() || now < self.propose_after || self.inquiry.is_none() || self.hears(now).is_some() {
            return;
        }
        let constants = &self.config.constants;
        let excused = self.excused();
        let answered = self.answerers();
        if !quorum::reached(constants, &answered, &excused) || !self.heard_all(now) {
            return;
        }
        let me = self.me();
        let Some(view) = self.newest_view() else {
            if self.may_found() {
                self.attempt(now, Purpose::Found, "the first view".to_owned(), out);
            }
            return;
        };
        if !view.has(me) && !planted(Mutant::CandidateIsNoMember) {
            return;
        }
        let its_primary = Some((view.primary, view.epoch.run));
        let inquiry = self.inquiry.as_ref().expect("looked at above");
        let hears = |server: &ServerId| {
            inquiry.answers.get(server).is_some_and(|answered| answered.testimony.hears == its_primary)
        };
        let not_hearing: BTreeSet<ServerId> = answered.iter().filter(|server| !hears(server)).copied().collect();
        if !quorum::reached(constants, &not_hearing, &excused) {
            return;
        }
        // The old primary comes last, else the lower id goes first. (Not its same run: that leads still, or its view is a
        // proposal of its own that came to nothing.)
        let rank = |server: ServerId| (server == view.primary, server);
        let lives = |member: &Member| {
            inquiry.answers.get(&member.server).is_some_and(|answered| answered.from.member() == *member)
        };
        let better = view.in_sync.iter().any(|member| rank(member.server) < rank(me.server) && lives(member));
        let lost = view.primary;
        if better {
            let patience = self.patience.of(self.config.heartbeat);
            let until = *self.defer_until.get_or_insert(now + patience);
            if now < until {
                return;
            }
        }
        self.defer_until = None;
        let purpose = Purpose::TakeOver { handed_over: false };
        self.attempt(now, purpose, format!("server {lost} leads no more"), out);
    }

    /// Why the primary should propose; `None` where all is well.
    fn reason_to_go_on(&self, now: Time) -> Option<String> {
        let Role::Primary(primary) = &self.role else { return None };
        let patience = if primary.has_handed_over() { self.config.suspicion } else { self.config.heartbeat };
        if let Some(since) = self.contested_since {
            // Whoever was promised may be about to be chosen; it is given a moment, not fought.
            return (now.since(since) >= patience).then(|| "a higher epoch was promised".to_owned());
        }
        let excused = self.excused();
        primary.wanted(&self.proofs.dead(), self.setting(now, &excused)).map(|wanted| wanted.reason)
    }

    fn decide_to_go_on(&mut self, now: Time, out: &mut Outbox) {
        if !self.may_propose() || now < self.propose_after || self.inquiry.is_none() {
            return;
        }
        let Some(reason) = self.reason_to_go_on(now) else { return };
        let answered = self.answerers();
        if !quorum::reached(&self.config.constants, &answered, &self.excused()) {
            return;
        }
        let run = self.run();
        if let Some(newest) = self.newest_view().filter(|view| view.epoch.run != run) {
            let mine = self.primary_epoch().expect("it leads");
            if newest.epoch > mine {
                // Accepted by someone, chosen or not: not ours to change. What comes of it is for a member of it.
                let successor = newest.primary;
                return self.halt(Cause::Deposed, Some(successor), out);
            }
        }
        let dead = self.proofs.dead();
        let derivation = self.lead(now, |primary, setting| {
            let wanted = primary.wanted(&dead, setting);
            primary.derivation(wanted.as_ref(), setting)
        });
        let purpose = Purpose::GoOn(derivation.expect("it leads"));
        self.attempt(now, purpose, reason, out);
    }

    /// The primary hands its place over.
    pub(crate) fn handed_over(&mut self, now: Time, from: Peer, epoch: Epoch, to_run: RunId, out: &mut Outbox) {
        let works = matches!(&self.role, Role::Copy(backup) if backup.works_in() == Some(epoch));
        let right = to_run == self.run() && epoch.server == from.server && epoch == self.register.promised;
        if right && works && self.may_propose() {
            let purpose = Purpose::TakeOver { handed_over: true };
            self.attempt(now, purpose, format!("server {} handed over", from.server), out);
        }
    }

    /// Begins a proposal: the own promise goes to disk before anything is sent.
    fn attempt(&mut self, now: Time, purpose: Purpose, reason: String, out: &mut Outbox) {
        let above = self.highest_seen.max(self.register.promised);
        let mut epoch = above.next_for(self.config.me, self.run());
        let accepted = self.register.accepted.clone();
        if planted(Mutant::EpochUsedTwice) && self.register.promised.run == self.run() {
            epoch = self.register.promised;
        }
        assert!(self.register.promise(epoch) || planted(Mutant::EpochUsedTwice), "an epoch above every one seen");
        self.freeze(now, epoch);
        self.patience.promised();
        // Those who may not vote promise to freeze all the same, and stay members by it.
        // Where nobody was asked, the place being handed over, the members are the ones to wait for.
        let members = || accepted.iter().flat_map(|view| &view.in_sync).map(|member| member.server).collect();
        let awaited = match (&purpose, self.inquiry.take()) {
            (Purpose::TakeOver { handed_over: true }, _) | (_, None) => members(),
            (_, Some(inquiry)) => inquiry.answers.into_keys().collect(),
        };
        let deadline = now + self.patience.of(self.config.suspicion);
        self.attempt =
            Some(Attempt { proposal: Proposal::new(epoch, deadline), purpose, awaited, reason, begun_at: now });
        self.persist_register(Then::OwnPromise { epoch, accepted }, out);
    }

    fn attempt_of(&mut self, epoch: Epoch) -> Option<&mut Attempt> {
        self.attempt.as_mut().filter(|attempt| attempt.proposal.epoch() == epoch)
    }

    pub(crate) fn own_promise_durable(&mut self, now: Time, epoch: Epoch, accepted: Option<View>, out: &mut Outbox) {
        let me = self.config.me;
        let member = self.member();
        let Some(attempt) = self.attempt_of(epoch) else { return };
        attempt.proposal.vote(me, Vote { accepted, counts: true, member });
        for server in self.others() {
            out.send(server, Message::Promise { epoch });
        }
        self.advance_attempt(now, out);
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    pub(crate) fn promised(
        &mut self,
        now: Time,
        from: ServerId,
        epoch: Epoch,
        accepted: Option<View>,
        counts: bool,
        member: Option<Member>,
        out: &mut Outbox,
    ) {
        let Some(attempt) = self.attempt_of(epoch) else { return };
        attempt.proposal.vote(from, Vote { accepted, counts, member });
        self.advance_attempt(now, out);
    }

    pub(crate) fn own_accept_durable(&mut self, now: Time, epoch: Epoch, out: &mut Outbox) {
        let me = self.config.me;
        let Some(attempt) = self.attempt_of(epoch) else { return };
        attempt.proposal.accepted(me);
        let view = attempt.proposal.view().expect("it was accepted").clone();
        for server in self.others() {
            out.send(server, Message::Accept { view: view.clone() });
        }
        self.advance_attempt(now, out);
    }

    pub(crate) fn accepted(&mut self, now: Time, from: ServerId, epoch: Epoch, out: &mut Outbox) {
        let Some(attempt) = self.attempt_of(epoch) else { return };
        attempt.proposal.accepted(from);
        self.advance_attempt(now, out);
    }

    /// A voter has promised higher.
    pub(crate) fn refused(&mut self, now: Time, refused: Epoch, promised: Epoch) {
        if promised <= refused {
            return;
        }
        if self.attempt_of(refused).is_some() {
            self.give_up(now);
        }
        if self.primary_epoch() == Some(refused) {
            self.contested_since.get_or_insert(now);
        }
    }

    /// The proposal failed; two proposers must not meet again and again, so the higher id waits longer.
    fn give_up(&mut self, now: Time) {
        self.attempt = None;
        self.propose_after = now + self.config.heartbeat * (1 + u32::from(self.config.me.0)) / 2;
    }

    /// Goes on with the proposal as far as what came in allows.
    pub(crate) fn advance_attempt(&mut self, now: Time, out: &mut Outbox) {
        let excused = self.excused();
        let me = self.me();
        let Some(attempt) = &mut self.attempt else { return };
        let constants = &self.config.constants;
        if let Some(mandate) = attempt.proposal.chosen(constants, &excused) {
            let reason = attempt.reason.clone();
            let now = if planted(Mutant::WaitFromFreeze) { attempt.begun_at } else { now };
            self.attempt = None;
            return self.begin_to_lead(now, &mandate, reason, out);
        }
        let Some(since) = attempt.proposal.quorum_since(now, constants, &excused) else { return };
        let promised = attempt.proposal.promised();
        let may_still_come = |server: &&ServerId| self.peers.is_connected(**server) && !promised.contains(server);
        let all = !attempt.awaited.iter().any(|server| may_still_come(&server));
        if !all && now.since(since) < self.config.heartbeat {
            return;
        }
        let derivation = match &attempt.purpose {
            Purpose::GoOn(derivation) => derivation.clone(),
            Purpose::Found => Derivation::Found { members: self.founding_members() },
            Purpose::TakeOver { .. } => Derivation::TakeOver {
                candidate: me,
                promised: attempt.proposal.promised_members(),
                kept_first: self.peers.last_connected_first(),
                min_copies: constants.min_copies,
            },
        };
        let attempt = self.attempt.as_mut().expect("looked at above");
        match attempt.proposal.propose(&derivation, &self.config.constants, &excused) {
            Some(view) => {
                assert!(self.register.accept(&view), "a higher promise would have ended the proposal");
                self.view_stored(&view);
                self.persist_register(Then::OwnAccept { epoch: view.epoch }, out);
            }
            // Not allowed on the newest view: this node is no member of it, or as primary it was deposed by it.
            None => {
                self.give_up(now);
                if matches!(self.role, Role::Primary(_)) {
                    self.halt(Cause::Deposed, None, out);
                }
            }
        }
    }

    fn begin_to_lead(&mut self, now: Time, mandate: &heirloom_proto::Mandate, reason: String, out: &mut Outbox) {
        out.tell(Note::Chosen { view: mandate.view().clone(), reason });
        self.contested_since = None;
        self.defer_until = None;
        self.patience.led();
        // Whoever leads is where nobody can be ahead of it.
        self.recovering = false;
        let at = self.wall;
        let me = self.me();
        match std::mem::replace(&mut self.role, Role::Over) {
            Role::Copy(mut backup) => {
                let excused = self.excused();
                let reads = backup.take_reads();
                let replica = backup.into_replica();
                let primary = Primary::inherit(me, replica, mandate, self.setting(now, &excused), at, out);
                self.role = Role::Primary(Box::new(primary));
                for Unanswered { token, lookup } in reads {
                    self.requested_of_primary(now, token, lookup.into(), out);
                }
            }
            Role::Primary(mut primary) => {
                let excused = self.excused();
                primary.renew(mandate, self.setting(now, &excused), at, out);
                self.role = Role::Primary(primary);
            }
            Role::Witness | Role::Over => unreachable!("only a data server proposes, and only while its run lasts"),
        }
        self.heartbeat_all(now, out);
        self.probe_unsettled(now, out);
    }
}
