//! The start of an epoch: finding the common prefix, and settling who is leaving (PROTOCOL 8).

use std::collections::{BTreeMap, BTreeSet};

use heirloom_proto::event::Note;
use heirloom_proto::limits::TAIL_EPOCHS_MAX;
use heirloom_proto::message::Tail;
use heirloom_proto::{Epoch, LogIndex, Member, Message, Mutant, Outbox, Peer, Position, ServerId, Time, planted};

use crate::copies::{Copy, Phase};
use crate::primary::{Primary, Setting};

/// When one run was proven dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProofTimes {
    /// When the newest proof was asked for; what it proves may be no newer.
    pub asked_at: Time,
    /// Of the proof of the same run before it: when it was asked for, and when it came.
    pub before: Option<(Time, Time)>,
}

/// What another log shares with the primary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Common {
    /// Everything up to here, and nothing behind it.
    UpTo(LogIndex),
    /// Less than the primary still keeps.
    Forgotten,
    /// Not even what it has applied.
    Nothing,
}

impl Primary {
    /// A voter answered a heartbeat without working in this epoch: it is begun for it, and where it is new here it is
    /// taken as a learner.
    pub fn idle(&mut self, from: Peer, epoch: Epoch, wants_copy: bool, setting: Setting<'_>, out: &mut Outbox) {
        if epoch != self.view.epoch || !wants_copy {
            return;
        }
        self.restart_copy(from, setting.now);
        let copy = self.copies.get_mut(&from.server).expect("restarted just now");
        if copy.phase == Phase::Differs {
            // It is not silent, and may be the one that is right.
            copy.heard_at = setting.now;
        } else {
            out.send(from.server, Message::StartEpoch { view: self.view.clone() });
        }
    }

    /// Counts `from` as the run of its server that is to be started.
    fn restart_copy(&mut self, from: Peer, now: Time) {
        let copy = self.copies.entry(from.server).or_insert_with(|| Copy::starting(Some(from), now));
        if copy.peer == Some(from) {
            if copy.works() {
                copy.phase = Phase::Starting;
            }
        } else {
            // The silence of a member counts on while its server comes up again and again without working.
            let heard_at = copy.heard_at;
            let ban = copy.ban;
            *copy = Copy::starting(Some(from), now);
            copy.heard_at = heard_at;
            copy.ban = ban;
        }
    }

    /// A server has stored the epoch and says where its log ends: it is told what to keep.
    pub fn epoch_started(&mut self, from: Peer, epoch: Epoch, tail: &Tail, setting: Setting<'_>, out: &mut Outbox) {
        if epoch != self.view.epoch || self.frozen {
            return;
        }
        self.settle(from.member(), setting, out);
        if self.copies.get(&from.server).is_none_or(|copy| copy.peer != Some(from)) {
            self.restart_copy(from, setting.now);
        }
        if self.copies[&from.server].phase == Phase::Differs {
            return;
        }
        let keep = match self.common_prefix(tail) {
            Common::UpTo(keep) => keep,
            Common::Forgotten => return self.leave_behind(from, tail.end, out),
            Common::Nothing => {
                // One that can't be reconciled gives up its store once it is out of the view; it accuses nobody.
                self.copies.get_mut(&from.server).expect("restarted above").phase = Phase::Differs;
                let (index, own) = (tail.applied.index, tail.applied.hash);
                out.tell(Note::Diverged { server: from.server, index, what: "the applied prefix" });
                return out.send(from.server, Message::Diverged { epoch, index, own });
            }
        };
        let copy = self.copies.get_mut(&from.server).expect("restarted above");
        copy.confirmed = LogIndex::ZERO;
        copy.progress_at = setting.now;
        copy.heard_at = setting.now;
        copy.commit_told = LogIndex::ZERO;
        copy.send_from(keep.next());
        out.send(from.server, Message::Cut { epoch, run: from.run, end: tail.end, keep });
    }

    /// A copy lacks what is no longer kept: it is told to take a snapshot.
    ///
    /// A member has all that is committed, so its word is a late one, and ignored. One that said so truly would never work in
    /// this epoch, and be put out for that.
    pub(crate) fn leave_behind(&mut self, from: Peer, end: Position, out: &mut Outbox) {
        if self.view.has(from.member()) {
            return;
        }
        if let Some(copy) = self.copies.get_mut(&from.server) {
            copy.phase = Phase::Starting;
        }
        let (epoch, base) = (self.view.epoch, self.replica.log().base());
        out.send(from.server, Message::Behind { epoch, run: from.run, end, base });
    }

    /// The longest prefix that a log with this tail shares with ours.
    ///
    /// An epoch and an index name one entry, for an epoch has one primary, which never takes an entry back. So the newest
    /// epoch that both logs have entries of tells: below the shorter of the two runs of its entries they are equal, and
    /// above it nothing is.
    ///
    /// What is forgotten can't be compared; but all that is sent after it is taken only behind the chain hash of it all.
    fn common_prefix(&self, tail: &Tail) -> Common {
        let log = self.replica.log();
        let (applied, base) = (tail.applied.index, log.base());
        if applied >= base && log.position_at(applied) != Some(tail.applied) {
            return Common::Nothing;
        }
        for end in tail.epochs.iter().rev() {
            let Some(own_last) = log.last_of(end.epoch) else { continue };
            if own_last < end.last.index {
                return Common::UpTo(own_last.max(applied));
            }
            if end.last.index < base {
                return Common::Forgotten;
            }
            let same = log.position_at(end.last.index) == Some(end.last);
            return if same { Common::UpTo(end.last.index) } else { Common::Nothing };
        }
        if applied < base {
            return Common::Forgotten;
        }
        // Where the tail was cut short, what it does not name may be committed: rather nothing than too much.
        if tail.epochs.len() < TAIL_EPOCHS_MAX { Common::UpTo(applied) } else { Common::Nothing }
    }

    /// Takes the acknowledgement of a server that is leaving.
    fn settle(&mut self, member: Member, setting: Setting<'_>, out: &mut Outbox) {
        if self.unsettled.remove(&member) {
            if !planted(Mutant::ProofsBeforeTheLastWord) {
                self.proofs_count_from = setting.now;
            }
            self.try_commit(setting, out);
        }
    }

    /// Those who may still hold a lease, and the moment from which proofs of their death count.
    pub fn unsettled(&self) -> (impl Iterator<Item = ServerId> + '_, Time) {
        (self.unsettled.iter().map(|member| member.server), self.proofs_count_from)
    }

    /// Takes proofs of death of unsettled servers. Where one server is unsettled a proof asked for after the epoch was
    /// chosen will do; where there are several all must be proven, and then all again (PROTOCOL 8.3): else one that was
    /// proven early might have come back and be proven no more by the time the last one is.
    pub fn settle_by_proof(&mut self, proofs: &BTreeMap<ServerId, ProofTimes>, setting: Setting<'_>, out: &mut Outbox) {
        let servers: BTreeSet<ServerId> = self.unsettled.iter().map(|member| member.server).collect();
        let Some(found) = servers.iter().map(|server| proofs.get(server)).collect::<Option<Vec<_>>>() else { return };
        let stale_too = planted(Mutant::StaleProofSettles);
        let from = if stale_too { Time(0) } else { self.proofs_count_from };
        let Some(asked_first) = found.iter().map(|proof| proof.asked_at).min().filter(|asked| *asked >= from) else {
            return;
        };
        if servers.len() > 1 && !stale_too && !planted(Mutant::ProofsInOneRound) {
            let Some(before) = found.iter().map(|proof| proof.before).collect::<Option<Vec<_>>>() else { return };
            let again = before.iter().all(|(asked_at, proven_at)| *asked_at >= from && *proven_at <= asked_first);
            if !again {
                return;
            }
        }
        self.unsettled.clear();
        self.try_commit(setting, out);
    }

    /// When the wait for leases that may still be held is over.
    pub fn settled_at(&self, setting: Setting<'_>) -> Option<Time> {
        let constants = &setting.config.constants;
        (!self.unsettled.is_empty()).then(|| self.chosen_at + constants.drift.lengthen(constants.lease))
    }

    /// Ends the wait where it is over.
    pub fn settle_by_time(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        if self.settled_at(setting).is_some_and(|at| setting.now >= at) {
            self.unsettled.clear();
            self.try_commit(setting, out);
        }
    }
}
