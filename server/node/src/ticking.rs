//! What happens by the clock: heartbeats, patience running out, questions asked again.

use heirloom_proto::{Message, Outbox, QuorumRule, ServerId, Standing, Time};

use crate::node::{Node, Role};

impl Node {
    /// When [`Event::Deadline`] is wanted, at the latest; `None` once the run is over.
    ///
    /// [`Event::Deadline`]: heirloom_proto::Event::Deadline
    pub fn next_deadline(&self) -> Option<Time> {
        let doubted = self.doubt.as_ref().map(|doubt| doubt.until);
        let mut deadline = doubted.map_or(self.tick_at, |until| until.min(self.tick_at));
        match &self.role {
            Role::Over => return None,
            Role::Primary(primary) => {
                let excused = self.excused();
                let own = [primary.settled_at(self.setting(self.tick_at, &excused)), primary.hand_over_deadline()];
                deadline = own.into_iter().flatten().fold(deadline, Time::min);
            }
            Role::Copy(backup) => {
                // One that has passed has been acted upon; the tick goes on asking.
                let suspected =
                    self.watch.suspected_at(self.config.suspicion).map(|at| at + self.config.heartbeat / 16);
                let own = [suspected, self.defer_until, backup.reads_due_at()];
                let last_tick = self.tick_at - self.config.heartbeat;
                deadline = own.into_iter().flatten().filter(|at| *at > last_tick).fold(deadline, Time::min);
            }
            Role::Witness => {}
        }
        Some(deadline)
    }

    /// Once a heartbeat.
    pub(crate) fn tick(&mut self, now: Time, out: &mut Outbox) {
        self.tick_at = now + self.config.heartbeat;
        self.heartbeat_all(now, out);
        self.repeat(out);
        self.probe_silent(now, out);
        self.probe_unsettled(now, out);
        self.examine(out);
        self.found_alone(now, out);
        self.ask_silent(now, out);
        self.ask_of_me(now, None, out);
        self.consider(now, out);
        if let Role::Primary(primary) = &self.role
            && primary.serves()
        {
            self.patience.goes_on(now, self.config.suspicion);
        }
        let wall = self.wall;
        self.lead(now, |primary, setting| {
            primary.repeat_question(setting, out);
            primary.remove_idle_sessions(wall);
        });
    }

    /// What may have become due with time.
    pub(crate) fn on_time(&mut self, now: Time, out: &mut Outbox) {
        if self.doubt.as_ref().is_some_and(|doubt| now >= doubt.until) {
            self.trust(now, out);
            self.consider(now, out);
        }
        let known = self.primary_known(now);
        if let Role::Copy(backup) = &mut self.role {
            backup.answer_reads(now, known, out);
        }
        let called_off = self.lead(now, |primary, setting| {
            primary.settle_by_time(setting, out);
            primary.call_off_hand_over(setting, out)
        });
        if called_off == Some(true) {
            self.contested_since.get_or_insert(now);
        }
        if self.attempt.as_ref().is_some_and(|attempt| now >= attempt.proposal.deadline) {
            self.attempt = None;
            self.propose_after = now + self.config.heartbeat * u32::from(self.config.me.0);
        }
        self.advance_attempt(now, out);
        let due = self.defer_until.is_some_and(|until| now >= until);
        let suspected = self.watch.suspected_at(self.config.suspicion).is_some_and(|at| now > at);
        if due || suspected && self.inquiry.is_none() {
            self.consider(now, out);
        }
    }

    /// The primary heartbeats all voters, the witness too.
    pub(crate) fn heartbeat_all(&self, now: Time, out: &mut Outbox) {
        let Role::Primary(primary) = &self.role else { return };
        let excused = self.excused();
        for peer in self.others().filter_map(|server| self.peers.peer(server)) {
            let hears_you = self.peers.heard_within(now, peer.server, self.config.suspicion);
            primary.heartbeat(peer, hears_you, self.setting(now, &excused), out);
        }
    }

    /// Sends the proposal under way again to those who have not answered: a message may be lost.
    fn repeat(&self, out: &mut Outbox) {
        let Some(attempt) = &self.attempt else { return };
        let epoch = attempt.proposal.epoch();
        let durable = self.durable_register.as_ref();
        match attempt.proposal.view() {
            Some(view) if durable.is_some_and(|register| register.accepted_epoch() >= epoch) => {
                for server in self.others() {
                    out.send(server, Message::Accept { view: view.clone() });
                }
            }
            None if durable.is_some_and(|register| register.promised >= epoch) => {
                let promised = attempt.proposal.promised();
                for server in self.others().filter(|server| !promised.contains(server)) {
                    out.send(server, Message::Promise { epoch });
                }
            }
            Some(_) | None => {}
        }
    }

    /// Asks again those who have not answered the question under way, or hear a primary that this server does not.
    fn ask_silent(&self, now: Time, out: &mut Outbox) {
        let Some(inquiry) = self.inquiry.as_ref().filter(|_| self.wants_to_ask(now)) else { return };
        let settled = |server: &ServerId| {
            inquiry.answers.get(server).is_some_and(|answered| {
                let testimony = &answered.testimony;
                testimony.hears.is_none()
                    && testimony.register.as_ref().is_some_and(|register| register.standing == Standing::Intact)
            })
        };
        for server in self.others().filter(|server| !settled(server)) {
            out.send(server, Message::Question { ask: inquiry.ask });
        }
    }

    /// Looks for proof against whoever is missed: a backup's primary, a primary's members.
    fn probe_silent(&mut self, now: Time, out: &mut Outbox) {
        let missed: Vec<ServerId> = match &self.role {
            Role::Over | Role::Witness => Vec::new(),
            Role::Copy(_) => {
                if self.hears(now).is_some() {
                    Vec::new()
                } else if self.config.constants.quorum == QuorumRule::Survivors {
                    // Whoever is not there is missed in the quorum, whether it led or not.
                    self.others().collect()
                } else {
                    self.register.accepted.as_ref().map(|view| view.primary).into_iter().collect()
                }
            }
            Role::Primary(primary) => primary.view().in_sync.iter().map(|member| member.server).collect(),
        };
        let dead = self.proofs.dead();
        for server in missed {
            if server != self.config.me && !dead.contains(&server) {
                self.probe(now, server, out);
            }
        }
    }

    /// Looks for proof, later than the choice of the view, against whoever may still hold a lease.
    pub(crate) fn probe_unsettled(&mut self, now: Time, out: &mut Outbox) {
        let Role::Primary(primary) = &self.role else { return };
        let servers: Vec<ServerId> = primary.unsettled().0.collect();
        for server in servers {
            self.probe(now, server, out);
        }
    }
}
