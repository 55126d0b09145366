//! Messages and streams: who is heard, and which part of the node a message is for.

use heirloom_primary::Echo;
use heirloom_proto::event::{Action, Cause, Note};
use heirloom_proto::message::Grant;
use heirloom_proto::{
    ClusterId, Epoch, Message, Mutant, Outbox, Peer, QuorumRule, RunId, ServerId, Standing, Time, VoterKind, planted,
};

use crate::node::{Node, Role, takes_lower_epochs};

/// No honest cluster counts so far; a higher number would leave no room above it for ever.
const ROUND_MAX: u64 = u64::MAX / 4;

impl Node {
    pub(crate) fn peer_connected(&mut self, now: Time, peer: Peer, out: &mut Outbox) {
        if !self.is_other(peer.server) {
            return;
        }
        self.peers.connected(now, peer);
        self.proofs.void(peer.server);
        if let Role::Primary(primary) = &self.role {
            let excused = self.excused();
            primary.heartbeat(peer, true, self.setting(now, &excused), out);
        }
        self.ask_again(now, peer.server, out);
        self.ask_of_me(now, Some(peer.server), out);
    }

    pub(crate) fn peer_broken(&mut self, now: Time, peer: Peer, out: &mut Outbox) {
        let stood = self.peers.broken(peer);
        let was_primary = self.watch.broken(peer);
        if stood {
            self.probe(now, peer.server, out);
            if let Some(inquiry) = &mut self.inquiry {
                inquiry.answers.remove(&peer.server);
            }
            if self.register.promised.run == peer.run {
                // Whoever was given way to is gone.
                self.propose_after = now;
            }
            self.advance_attempt(now, out);
        }
        if was_primary {
            self.consider(now, out);
        }
    }

    /// Asks the runtime whether the last heard run of a server is dead, where that could be: no stream to it stands.
    pub(crate) fn probe(&mut self, now: Time, server: ServerId, out: &mut Outbox) {
        if self.peers.is_connected(server) {
            return;
        }
        let Some(run) = self.peers.run(server) else { return };
        // A majority does without proof; where there are two servers it is needed, but never at the first break.
        let may_fence = self.config.constants.quorum == QuorumRule::Survivors
            && self.peers.silent_for(now, server, self.config.suspicion);
        if let Some(probe) = self.proofs.ask(now, server, run) {
            out.act(Action::Probe { server, run, probe, may_fence });
        }
    }

    pub(crate) fn probed(&mut self, now: Time, server: ServerId, run: RunId, probe: u64, dead: bool, out: &mut Outbox) {
        let holds =
            self.peers.run(server) == Some(run) && !self.peers.is_connected(server) || planted(Mutant::ProofOfOlderRun);
        let known = self.proofs.dead().contains(&server);
        if self.proofs.answered(now, server, run, probe, dead && holds) && !known {
            out.tell(Note::ProvenDead { server, run });
        }
        self.after_proof(now, out);
    }

    /// What a new proof may set going.
    pub(crate) fn after_proof(&mut self, now: Time, out: &mut Outbox) {
        let times = self.proofs.times();
        self.lead(now, |primary, setting| primary.settle_by_proof(&times, setting, out));
        self.advance_attempt(now, out);
        self.consider(now, out);
    }

    pub(crate) fn received(
        &mut self,
        now: Time,
        from: Peer,
        cluster: Option<ClusterId>,
        message: Message,
        out: &mut Outbox,
    ) {
        if !self.is_other(from.server) || !self.of_my_cluster(now, from, cluster, &message, out) {
            return;
        }
        let current = self.peers.heard(now, from);
        self.proofs.heard(from.server, from.run);
        if let Some(epoch) = epoch_of(&message) {
            if epoch.round > ROUND_MAX {
                return out
                    .tell(Note::Warning(format!("server {} names the absurd epoch {epoch}: ignored", from.server)));
            }
            self.highest_seen = self.highest_seen.max(epoch);
        }
        self.memory.heard(from, current, &message);
        if let Some(message) = self.hold(from, message) {
            self.take(now, from, cluster, message, out);
        }
    }

    /// Takes a message whose time has come.
    pub(crate) fn take(
        &mut self,
        now: Time,
        from: Peer,
        cluster: Option<ClusterId>,
        message: Message,
        out: &mut Outbox,
    ) {
        match message {
            Message::Question { ask } => self.questioned(now, from, cluster, ask, out),
            Message::Testimony(testimony) => self.testified(now, from, *testimony, out),
            Message::Enrol { store, constants } => self.enrolled(cluster, store, &constants, out),
            Message::Promise { epoch } => self.asked_to_promise(now, from.server, epoch, out),
            Message::Promised { epoch, accepted, counts, member } => {
                let member = member.filter(|member| *member == from.member());
                self.promised(now, from.server, epoch, accepted, counts, member, out);
            }
            Message::HigherPromise { refused, promised } => self.refused(now, refused, promised),
            Message::Accept { view } => self.asked_to_accept(now, from.server, &view, out),
            Message::Accepted { epoch } => self.accepted(now, from.server, epoch, out),
            Message::StartEpoch { view } => self.asked_to_start(now, from.server, &view, out),
            Message::Heartbeat { epoch, to_run, sent_at, hears_you, commit_index, grant } => {
                let right = to_run == self.run()
                    && epoch.server == from.server
                    && epoch.run == from.run
                    && self.peers.is_current(from);
                if right {
                    self.heartbeat(now, from, epoch, sent_at, hears_you, (commit_index, grant), out);
                }
            }
            Message::Cut { epoch, run, end, keep } => {
                if epoch.run == from.run {
                    self.told_to_cut(epoch, run, end, keep, out);
                }
            }
            Message::Behind { epoch, run, end, base } => {
                if epoch.run == from.run {
                    self.told_to_be_behind(epoch, run, end, base, out);
                }
            }
            Message::Prepare { epoch, previous, entries, commit_index } => {
                if epoch.server != from.server {
                    return;
                }
                if epoch < self.register.promised && !takes_lower_epochs() {
                    let promised = self.register.promised;
                    return out.send(from.server, Message::HigherPromise { refused: epoch, promised });
                }
                if let Role::Copy(backup) = &mut self.role
                    && backup.prepare(epoch, previous, &entries, commit_index, out)
                        == heirloom_backup::Prepared::NotStarted
                {
                    out.send(from.server, Message::Idle { epoch, to_run: epoch.run, wants_copy: true });
                }
            }
            Message::HandOver { epoch, to_run } => self.handed_over(now, from, epoch, to_run, out),
            Message::StillPromised { epoch, round } => {
                if epoch == self.register.promised {
                    // Who lost its register may have promised higher and not know it.
                    if self.register.standing == Standing::Intact {
                        out.send(from.server, Message::NothingHigher { epoch, round });
                    }
                } else if epoch < self.register.promised {
                    let promised = self.register.promised;
                    out.send(from.server, Message::HigherPromise { refused: epoch, promised });
                }
            }
            for_primary @ (Message::EpochStarted { .. }
            | Message::Confirm { .. }
            | Message::Gap { .. }
            | Message::Diverged { .. }
            | Message::Echo { .. }
            | Message::Idle { .. }
            | Message::NothingHigher { .. }) => {
                if let Message::Diverged { epoch, .. } = &for_primary
                    && epoch.run == from.run
                {
                    self.told_to_differ(*epoch, out);
                }
                if self.peers.is_current(from) {
                    self.answered_as_primary(now, from, for_primary, out);
                }
            }
        }
    }

    /// Answers to a primary, by a run that is not known to be over.
    fn answered_as_primary(&mut self, now: Time, from: Peer, message: Message, out: &mut Outbox) {
        let wrong = self.lead(now, |primary, setting| match message {
            Message::EpochStarted { epoch, tail } => {
                primary.epoch_started(from, epoch, &tail, setting, out);
                false
            }
            Message::Confirm { epoch, position, applied_index, digest } => {
                primary.confirmed(from, epoch, position, (applied_index, digest), setting, out)
            }
            Message::Gap { epoch, end } => primary.gap(from, epoch, end, setting, out),
            Message::Diverged { epoch, index, own } => primary.accused(from, epoch, index, own, out),
            Message::Echo { epoch, to_run, sent_at, clock, end, confirmed, applied_index, digest } => {
                let echo = Echo { epoch, sent_at, clock, end, confirmed, applied: (applied_index, digest) };
                to_run == primary.view().epoch.run && primary.echoed(from, echo, setting, out)
            }
            Message::Idle { epoch, to_run, wants_copy } => {
                if to_run == primary.view().epoch.run && !primary.is_frozen() {
                    primary.idle(from, epoch, wants_copy, setting, out);
                }
                false
            }
            Message::NothingHigher { epoch, round } => {
                primary.nothing_higher(from.server, epoch, round, setting, out);
                false
            }
            _ => unreachable!("listed by the caller"),
        });
        if wrong == Some(true) {
            let what = "two members agree against the primary's log".to_owned();
            self.halt(Cause::Irreconcilable { what }, None, out);
        }
    }

    /// Whether a message names my cluster and generation, or is one that crosses that line.
    fn of_my_cluster(
        &mut self,
        now: Time,
        from: Peer,
        cluster: Option<ClusterId>,
        message: &Message,
        out: &mut Outbox,
    ) -> bool {
        match (self.cluster(), cluster) {
            (Some(mine), Some(theirs)) if mine == theirs => true,
            (Some(mine), Some(theirs)) if mine.id == theirs.id => {
                if theirs.generation > mine.generation {
                    self.halt(Cause::Superseded { cluster: theirs }, None, out);
                } else if !matches!(message, Message::Testimony(_)) {
                    // Any word of ours tells it that there is a higher generation.
                    self.testify(now, from, 0, out);
                }
                false
            }
            (Some(_), Some(theirs)) => {
                if matches!(message, Message::Question { .. }) {
                    let from = from.server;
                    out.tell(Note::Warning(format!("server {from} belongs to another cluster, {theirs}: ignored")));
                }
                false
            }
            (Some(_), None) => matches!(message, Message::Question { .. } | Message::Testimony(_)),
            (None, None) => matches!(message, Message::Question { .. } | Message::Testimony(_)),
            (None, Some(_)) => matches!(
                message,
                Message::Question { .. } | Message::Testimony(_) | Message::Enrol { .. } | Message::Heartbeat { .. }
            ),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    fn heartbeat(
        &mut self,
        now: Time,
        from: Peer,
        epoch: Epoch,
        sent_at: Time,
        hears_you: bool,
        (commit_index, grant): (heirloom_proto::LogIndex, Option<Grant>),
        out: &mut Outbox,
    ) {
        if self.cluster().is_none() {
            return self.join_as_amnesiac(out);
        }
        if epoch < self.register.promised && !takes_lower_epochs() {
            let promised = self.register.promised;
            if self.register.standing == Standing::Amnesiac {
                // It may be frozen because its own proposal waits for the very vote that is lost here, and was promised
                // by us before we remember (docs/decisions/0007).
                self.watch.heard_frozen(from);
            }
            return out.send(from.server, Message::HigherPromise { refused: epoch, promised });
        }
        if matches!(self.role, Role::Primary(_)) {
            return self.halt(Cause::Deposed, Some(from.server), out);
        }
        if self.watch.heard(now, epoch, from, hears_you) {
            self.patience.led();
        }
        self.patience.goes_on(now, self.config.suspicion);
        if self.durable_register.as_ref().is_some_and(|register| register.accepted_epoch() == epoch)
            && matches!(self.role, Role::Witness)
        {
            self.memory.committed(commit_index);
        }
        self.defer_until = None;
        if !self.wants_to_ask(now) {
            // What was asked while it was missed says nothing about the next time.
            self.inquiry = None;
        }
        if let Role::Copy(backup) = &mut self.role
            && (epoch == self.register.promised || takes_lower_epochs())
            && backup.echo(now, epoch, sent_at, commit_index, out)
        {
            if let Some(grant) = grant {
                backup.granted(now, epoch, grant, commit_index, self.config.constants.drift);
            }
            return;
        }
        let wants_copy = self.config.kind() == VoterKind::Data;
        out.send(from.server, Message::Idle { epoch, to_run: epoch.run, wants_copy });
    }

    fn is_other(&self, server: ServerId) -> bool {
        server != self.config.me && self.config.constants.kind(server).is_some()
    }
}

/// The epoch that a message names, so that a later proposal is above it.
fn epoch_of(message: &Message) -> Option<Epoch> {
    match message {
        Message::Promise { epoch }
        | Message::Promised { epoch, .. }
        | Message::Accepted { epoch }
        | Message::EpochStarted { epoch, .. }
        | Message::Cut { epoch, .. }
        | Message::Behind { epoch, .. }
        | Message::Prepare { epoch, .. }
        | Message::Confirm { epoch, .. }
        | Message::Gap { epoch, .. }
        | Message::Diverged { epoch, .. }
        | Message::Heartbeat { epoch, .. }
        | Message::Echo { epoch, .. }
        | Message::Idle { epoch, .. }
        | Message::HandOver { epoch, .. }
        | Message::StillPromised { epoch, .. }
        | Message::NothingHigher { epoch, .. } => Some(*epoch),
        Message::Accept { view } | Message::StartEpoch { view } => Some(view.epoch),
        Message::HigherPromise { promised, .. } => Some(*promised),
        Message::Testimony(testimony) => testimony.register.as_ref().map(|register| register.promised),
        Message::Question { .. } | Message::Enrol { .. } => None,
    }
}
