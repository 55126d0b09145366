//! Sending entries to the other copies, and hearing from them (PROTOCOL 4.2, 8.1, 10).

use std::time::Duration;

use heirloom_proto::limits::{
    IN_FLIGHT_BYTES_MAX, IN_FLIGHT_ENTRIES_MAX, LOG_FED_BYTES_MAX, PREPARE_BYTES_MAX, PREPARE_ENTRIES_MAX,
};
use heirloom_proto::message::Grant;
use heirloom_proto::{Digest, Epoch, LogIndex, Message, Mutant, Outbox, Peer, Position, ServerId, Time, planted};

use crate::commit::Difference;
use crate::copies::{Copy, Phase};
use crate::primary::{Primary, Setting};

impl Primary {
    /// Sends what has gathered: to its own disk and to every copy that works, as far as their windows are open.
    pub fn flush(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        if self.replica.log().end() > self.persisted_to {
            self.replica.persist(self.persisted_to.next(), out);
            self.persisted_to = self.replica.log().end();
        }
        if self.frozen {
            return;
        }
        self.advance_hand_over(setting, out);
        let servers: Vec<ServerId> = self.copies.keys().copied().collect();
        for server in servers {
            self.feed(server, setting.now, out);
        }
        self.ask_for_reads(setting, out);
    }

    fn feed(&mut self, server: ServerId, now: Time, out: &mut Outbox) {
        let log = self.replica.log();
        let epoch = self.view.epoch;
        let commit_index = self.replica.applied_index();
        let copy = self.copies.get_mut(&server).expect("listed by the caller");
        while let Phase::Works { next } = copy.phase {
            let window_open =
                next.0 - 1 < copy.confirmed.0 + IN_FLIGHT_ENTRIES_MAX && copy.in_flight_bytes() < IN_FLIGHT_BYTES_MAX;
            if next > log.end() || !window_open {
                break;
            }
            let mut bytes = 0;
            let entries: Vec<_> = log
                .from(next)
                .iter()
                .take(PREPARE_ENTRIES_MAX)
                .take_while(|entry| {
                    let first = bytes == 0;
                    bytes += entry.bytes().len();
                    first || bytes <= PREPARE_BYTES_MAX
                })
                .cloned()
                .collect();
            let previous = log.position_at(LogIndex(next.0 - 1)).expect("in the log");
            let last = LogIndex(next.0 - 1 + entries.len() as u64);
            copy.sent(now, previous.index, last, entries.iter().map(|entry| entry.bytes().len()).sum());
            copy.commit_told = commit_index;
            out.send(server, Message::Prepare { epoch, previous, entries, commit_index });
        }
        if let Phase::Works { next } = copy.phase
            && copy.commit_told < commit_index
        {
            copy.commit_told = commit_index;
            let previous = log.position_at(LogIndex(next.0 - 1)).expect("in the log");
            out.send(server, Message::Prepare { epoch, previous, entries: Vec::new(), commit_index });
        }
    }

    /// The state at an index is stored: the log up to there need not be kept, but for what copies that work may have to be
    /// sent, as far as that is bounded, and some more. Who lacks more than that is told to take a snapshot when it is next
    /// heard.
    pub fn forget(&mut self, index: LogIndex, entries_kept: usize) {
        let fed_to = self.copies.values().filter_map(Copy::held).min().unwrap_or(index).min(index);
        let fed_bytes = self.replica.log().bytes_of(fed_to.next(), index);
        self.replica.forget(if fed_bytes <= LOG_FED_BYTES_MAX { fed_to } else { index }, entries_kept);
        let base = self.replica.log().base();
        for copy in self.copies.values_mut().filter(|copy| copy.held().is_some_and(|held| held < base)) {
            copy.phase = Phase::Starting;
        }
    }

    /// Heartbeats one voter; carries nothing that waits for a disk.
    pub fn heartbeat(&self, to: Peer, hears_you: bool, setting: Setting<'_>, out: &mut Outbox) {
        let heartbeat = Message::Heartbeat {
            epoch: self.view.epoch,
            to_run: to.run,
            sent_at: setting.now,
            hears_you,
            commit_index: self.replica.applied_index(),
            grant: self.grant(to, setting),
        };
        out.send(to.server, heartbeat);
    }

    /// What a copy may be told while the lease is held and the start of the epoch is complete: that the commit index was
    /// the newest, and for a member how long it may read by itself, which is no longer than the primary may.
    fn grant(&self, to: Peer, setting: Setting<'_>) -> Option<Grant> {
        let until = self.lease_until(setting).filter(|until| self.serves() && setting.now < *until)?;
        let copy = self.copies.get(&to.server).filter(|copy| copy.peer == Some(to) && copy.works())?;
        let clock = copy.clock?;
        let lease = setting.config.constants.lease;
        let left = if planted(Mutant::GrantBeyondLease) { lease } else { until.since(setting.now).min(lease) };
        let is_member = self.view.has(to.member()) || planted(Mutant::LearnerGranted);
        Some(Grant { clock, span: if is_member { left } else { Duration::ZERO } })
    }

    /// Takes the echo of a heartbeat by a copy that works in this epoch. True where the primary is wrong, and must step
    /// down.
    #[must_use]
    pub fn echoed(&mut self, from: Peer, echo: Echo, setting: Setting<'_>, out: &mut Outbox) -> bool {
        let frozen = self.frozen;
        let (base, own_end) = (self.replica.log().base(), self.replica.log().end());
        let Some(copy) = self.copy_of(from, echo.epoch).filter(|_| echo.end <= own_end) else { return false };
        copy.heard_at = setting.now;
        if !frozen {
            let from = if planted(Mutant::LeaseFromAnswer) { setting.now } else { echo.sent_at };
            copy.echoed = copy.echoed.max(Some(from));
            copy.clock = copy.clock.max(Some(echo.clock));
        }
        // An echo of this epoch comes only from a copy that works in it: its being begun again crossed with a late word.
        if copy.phase == Phase::Starting && self.gap(from, echo.epoch, echo.confirmed, setting, out) {
            return true;
        }
        let Some(copy) = self.copy_of(from, echo.epoch) else { return false };
        // It says so after everything that we sent it before the heartbeat should have arrived: something was lost.
        if let Phase::Works { next } = copy.phase
            && echo.end.next() < next
            && copy.sent_at < echo.sent_at
        {
            if echo.end < base {
                // Only whoever says where its log ends, with the hash there, can be told to take a snapshot.
                copy.phase = Phase::Starting;
            } else {
                copy.send_from(echo.end.next());
            }
        }
        let wrong = self.confirmed(from, echo.epoch, echo.confirmed, echo.applied, setting, out);
        self.answer_reads(setting, out);
        wrong
    }

    /// Takes a copy's word where its log ends: what followed was lost, or it was begun before. True where the primary is
    /// wrong, and must step down.
    #[must_use]
    pub fn gap(&mut self, from: Peer, epoch: Epoch, end: Position, setting: Setting<'_>, out: &mut Outbox) -> bool {
        let log = self.replica.log();
        let (own, forgotten) = (log.position_at(end.index), end.index < log.base());
        let Some(copy) = self.copy_of(from, epoch) else { return false };
        if copy.phase == Phase::Differs {
            return false;
        }
        if forgotten {
            self.leave_behind(from, end, out);
            return false;
        }
        if own != Some(end) {
            return self.found_to_differ(from, Difference::Log(end), out);
        }
        // Every message behind a lost one is answered with the same gap; it is filled once, and again only after a while.
        let filled = copy
            .filled
            .is_some_and(|(index, at)| index == end.index && setting.now.since(at) < setting.config.heartbeat);
        if copy.phase == Phase::Starting || !filled {
            copy.filled = Some((end.index, setting.now));
            copy.send_from(end.index.next());
        }
        false
    }
}

/// What an echo says.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// The epoch.
    pub epoch: Epoch,
    /// The heartbeat's send time.
    pub sent_at: Time,
    /// The copy's own clock.
    pub clock: Time,
    /// Where the copy's log ends.
    pub end: LogIndex,
    /// What it has confirmed.
    pub confirmed: Position,
    /// What it has applied, with the digest there.
    pub applied: (LogIndex, Digest),
}
