//! Noticing what a world reaches (see [`Sight`]); nothing here has an effect on it.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_proto::{
    At, Change, Consistency, Epoch, Event, Message, QuorumRule, Refusal, Request, Response, ServerId, SessionId,
    Standing, View, VoterKind,
};

use crate::clock::Instant;
use crate::disk::Disk;
use crate::linearizable::Call;
use crate::server::Server;
use crate::sometimes::Sight;
use crate::world::World;
use heirloom_laws::Inspect;

/// What must be remembered to recognise a sight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sights {
    /// Chosen views, and when their proposers learnt it.
    chosen: BTreeMap<Epoch, (View, Instant)>,
    answered: BTreeSet<(SessionId, u64)>,
}

impl World {
    /// Looks at an event before it is taken.
    pub(crate) fn look_at(&mut self, id: ServerId, event: &Event) {
        match event {
            Event::Received { message: Message::HigherPromise { .. }, .. } => self.seen.saw(Sight::AnEpochWasRefused),
            Event::Received { message: Message::Gap { .. }, .. } => self.seen.saw(Sight::AGapWasFilled),
            Event::Requested { request: Request::Read { .. }, .. } => {
                let now = self.now;
                let server = self.server(id);
                let leased = !self.plan.constants.lease.is_zero();
                let lease_over =
                    server.process().is_some_and(|process| process.node.status(server.clock.read(now)).lease.is_none());
                if leased && lease_over {
                    let leads = server.process().is_some_and(|process| process.node.leads().is_some());
                    self.seen.saw(if leads { Sight::ALeaseRanOut } else { Sight::ABackupHadNoLease });
                }
            }
            Event::Received { .. }
            | Event::PeerConnected { .. }
            | Event::PeerBroken { .. }
            | Event::Persisted { .. }
            | Event::Snapshotted { .. }
            | Event::SnapshotFetched { .. }
            | Event::Examined
            | Event::DiskFailed { .. }
            | Event::Requested { .. }
            | Event::Nudged
            | Event::Probed { .. }
            | Event::Deadline
            | Event::Flush => {}
        }
    }

    /// Looks at an answer for a client.
    pub(crate) fn watch_answer(&mut self, id: ServerId, request: &Request, result: &Result<Response, Refusal>) {
        let Ok(response) = result else { return };
        let leads = self.server(id).process().is_some_and(|process| process.node.leads().is_some());
        match (request, response) {
            (Request::Read { consistency, .. }, Response::Found { .. } | Response::NotFound { .. }) => {
                if *consistency != Consistency::Linearizable {
                    return;
                }
                let leased = !self.plan.constants.lease.is_zero();
                if response.seen().is_some_and(|seen| seen.waited) {
                    self.seen.saw(Sight::AReadWaitedAtABackup);
                }
                self.seen.saw(match (leads, leased) {
                    (false, _) => Sight::ABackupAnsweredARead,
                    (true, true) => Sight::APrimaryAnsweredAReadUnderLease,
                    (true, false) => Sight::AReadWasConfirmed,
                });
            }
            (Request::Scan(scan), Response::Scanned { seen, .. }) => match scan.at {
                At::Now(Consistency::Linearizable) => {
                    if seen.waited {
                        self.seen.saw(Sight::AScanWaitedAtABackup);
                    }
                    if !leads {
                        self.seen.saw(Sight::ABackupAnsweredAScan);
                    }
                }
                At::Now(Consistency::Causal { .. } | Consistency::Stale) => {}
                At::Version(version) => {
                    let copy = self.server(id).process().and_then(|process| process.node.copy());
                    if copy.is_some_and(|copy| copy.dictionary().version() > version) {
                        self.seen.saw(Sight::APageWasOfAnOlderVersion);
                    }
                }
            },
            (
                Request::Change { id: Some(request), change },
                Response::Changed { .. } | Response::Appended { .. } | Response::NotMet { .. },
            ) => {
                if let Change::Together(set) = change
                    && let Err(violation) = self.laws.judged(id, set, response)
                {
                    self.broke(violation);
                }
                let first = self.sights.answered.insert((request.session, request.sequence));
                self.seen.saw(if first {
                    Sight::AChangeWasAnswered
                } else {
                    Sight::ARetryWasAnsweredFromTheSessionTable
                });
            }
            _ => {}
        }
    }

    /// Looks at a view that was chosen, through the eyes of its proposer.
    pub(crate) fn chosen(&mut self, id: ServerId, view: &View, reason: &str) {
        let before = self.sights.chosen.range(..view.epoch).next_back().map(|(_, (view, _))| view.clone());
        self.sights.chosen.insert(view.epoch, (view.clone(), self.now));
        let Some(before) = before else { return };
        let prepared = self.server(id).process().is_some_and(|process| {
            let own_marker = 1;
            process
                .node
                .applied()
                .is_some_and(|(applied, _)| process.node.log_end().is_some_and(|end| end.0 > applied.0 + own_marker))
        });
        if before.primary != view.primary {
            self.seen.saw(Sight::AServerWasPromoted);
            if prepared {
                self.seen.saw(Sight::APromotionInheritedPreparedEntries);
            }
            return;
        }
        let writes = |client: &crate::client::Client| client.pending.values().any(|pending| pending.call != Call::Read);
        if !view.in_sync.is_subset(&before.in_sync) && self.clients.iter().any(writes) {
            self.seen.saw(Sight::ALearnerWasAddedWhileClientsWrote);
        }
        if !before.in_sync.is_subset(&view.in_sync) {
            let proven = reason.contains("dead");
            self.seen.saw(if proven { Sight::AMemberWasRemovedByProof } else { Sight::AMemberWasRemovedForSilence });
        }
    }

    /// An epoch's start is complete.
    pub(crate) fn serving(&mut self, epoch: Epoch) {
        let Some((view, since)) = self.sights.chosen.get(&epoch) else { return };
        let lease = u64::try_from(self.plan.constants.lease.as_nanos()).unwrap_or(u64::MAX);
        if !view.leaving.is_empty() && lease > 0 && self.now - since >= lease {
            self.seen.saw(Sight::AnEpochWaitedForALease);
        }
    }

    /// Notices when an emptied server has found its place again.
    pub(crate) fn look_for_return(&mut self, id: ServerId) {
        let server = self.server(id);
        if !server.wiped {
            return;
        }
        let votes = server.disk.register().is_some_and(|register| register.standing == Standing::Intact);
        let witness = server.config.kind() == VoterKind::Witness;
        let member = server.disk.member();
        let is_member = self.laws.newest_view().is_some_and(|view| view.has(member));
        if votes && (witness || is_member) {
            let server = self.server_mut(id);
            server.wiped = false;
            let damaged = std::mem::take(&mut server.damaged);
            self.seen.saw(if damaged {
                Sight::ADamagedServerBecameAMemberAgain
            } else {
                Sight::AWipedServerBecameAMemberAgain
            });
        }
    }

    /// Of two voters one has lost its directory, an older copy in its place included, or joined so late that it has yet to learn what it may have voted for: if now
    /// the other's run ends, nobody can tell who was ahead, and the cluster must wait for `recover`.
    pub(crate) fn look_for_the_end(&mut self) {
        let survivors = self.plan.constants.quorum == QuorumRule::Survivors;
        let remembers_nothing =
            |disk: &Disk| disk.register().is_some_and(|register| register.standing == Standing::Amnesiac);
        let is_lost = |server: &Server| server.wiped || server.put_back || remembers_nothing(&server.disk);
        if survivors && self.servers.iter().any(is_lost) {
            self.stuck_is_fine = Some("of two voters one remembered nothing when the other's run ended");
        }
    }
}
