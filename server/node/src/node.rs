//! The node: what it is, how a run begins, and the one flat match over its events.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_backup::{Backup, Durable, PrimaryWatch, Replica};
use heirloom_primary::{Primary, Setting};
use heirloom_proto::event::{Action, Birth, Cause, Event, Identity, Note, Ticket};
use heirloom_proto::status::RoleName;
use heirloom_proto::{
    ClusterId, Constants, Epoch, Member, Mutant, NodeConfig, Outbox, Peer, QuorumRule, Refusal, Register, RunId,
    ServerId, Standing, Time, VoterKind, WallTime, planted,
};

use crate::doubt::{Doubt, unheard};
use crate::memory::Memory;
use crate::patience::Patience;
use crate::peers::Peers;
use crate::proofs::Proofs;
use crate::proposing::{Attempt, Inquiry};
use crate::voting::After;

/// The part that a node plays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// A voter without data.
    Witness,
    /// A copy that works under a primary or looks for one.
    Copy(Box<Backup>),
    /// Leads.
    Primary(Box<Primary>),
    /// This run is over.
    Over,
}

/// One server.
///
/// **Invariants**
/// - What depends on a durable register is said in [`Event::Persisted`], never earlier.
/// - A copy works, and a primary leads unfrozen, only in the epoch that the register has promised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) birth: Birth,
    pub(crate) identity: Identity,
    /// The register as it will be once every write under way is done.
    pub(crate) register: Register,
    /// The register as it is on disk; `None` while blank.
    pub(crate) durable_register: Option<Register>,
    /// What is to be done when a write of register or identity is durable.
    pub(crate) writes: BTreeMap<Ticket, After>,
    pub(crate) next_ticket: u64,
    pub(crate) role: Role,
    pub(crate) peers: Peers,
    pub(crate) proofs: Proofs,
    pub(crate) watch: PrimaryWatch,
    pub(crate) patience: Patience,
    /// What is remembered of the other servers' stores.
    pub(crate) memory: Memory,
    /// While the own directory may be an older copy.
    pub(crate) doubt: Option<Doubt>,
    /// Other voters that have not said in this run what they remember of it.
    pub(crate) unheard: BTreeSet<ServerId>,
    /// The question under way.
    pub(crate) inquiry: Option<Inquiry>,
    pub(crate) asks: u64,
    /// The proposal under way.
    pub(crate) attempt: Option<Attempt>,
    /// Under the rule `survivors`: has restarted and may not use proof, nor propose (PROTOCOL 5).
    pub(crate) recovering: bool,
    /// Under the rule `survivors`: the last one standing, whose quorum is itself alone.
    pub(crate) last_standing: bool,
    /// No epoch above this was ever seen.
    pub(crate) highest_seen: Epoch,
    /// While blank: the cluster that others belong to, with its constants.
    pub(crate) met: Option<(ClusterId, Constants)>,
    /// Until when a better candidate is given way.
    pub(crate) defer_until: Option<Time>,
    /// No new proposal before this.
    pub(crate) propose_after: Time,
    /// As primary: since when a higher promise than the own epoch is known of.
    pub(crate) contested_since: Option<Time>,
    pub(crate) tick_at: Time,
    pub(crate) wall: WallTime,
    pub(crate) told: (RoleName, Option<ServerId>),
}

impl Node {
    /// The node that a run begins with, from what its disk holds.
    ///
    /// **Panics if** the configuration was not checked, or is of another server than the disk: the runtime's to refuse.
    pub fn recover(config: NodeConfig, birth: Birth, durable: Durable, now: Time) -> (Self, Vec<Action>) {
        assert_eq!(config.check(), Ok(()), "checked at the wall");
        assert_eq!(durable.identity.server, config.me, "checked at the wall");
        let identity = durable.identity;
        let me = Member { server: config.me, store: identity.store };
        // A register is only worth something with an identity that names its cluster; an identity without a register
        // has lost it.
        let durable_register = identity.cluster.is_some().then(|| durable.register.unwrap_or(Register::LOST));
        let mut register = durable_register.clone().unwrap_or(Register::FRESH);
        if planted(Mutant::StaleRegisterAfterRestart) {
            register.promised = register.accepted_epoch();
        }
        let role = match config.kind() {
            VoterKind::Witness => Role::Witness,
            VoterKind::Data => {
                let replica = Replica::recover(durable.base, durable.log, durable.commit);
                Role::Copy(Box::new(Backup::new(me, replica)))
            }
        };
        let survivors = config.constants.quorum == QuorumRule::Survivors;
        let last_standing = survivors && is_last_standing(me, &register, &role);
        let mut node = Self {
            highest_seen: register.promised,
            recovering: survivors && identity.cluster.is_some(),
            last_standing,
            config,
            birth,
            identity,
            register,
            durable_register,
            writes: BTreeMap::new(),
            next_ticket: 1,
            role,
            peers: Peers::default(),
            proofs: Proofs::default(),
            watch: PrimaryWatch::default(),
            patience: Patience::default(),
            memory: Memory::default(),
            doubt: None,
            unheard: BTreeSet::new(),
            inquiry: None,
            // So that an answer to an earlier run is none to this one (docs/decisions/0005).
            asks: birth.run.0,
            attempt: None,
            met: None,
            defer_until: None,
            propose_after: now,
            contested_since: None,
            tick_at: now,
            wall: WallTime(0),
            told: (RoleName::Recovering, None),
        };
        node.unheard = unheard(node.others(), birth.same_process);
        node.doubt = (!node.unheard.is_empty()).then(|| Doubt::until(now + node.config.suspicion));
        let mut out = node.outbox();
        node.tick(now, &mut out);
        let actions = node.finish(now, out);
        (node, actions)
    }

    /// Takes one event; returns what is to be done.
    ///
    /// Total: it takes any event in any state. After [`Action::Halt`] it takes none.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        if matches!(self.role, Role::Over) {
            return Vec::new();
        }
        let mut out = self.outbox();
        match event {
            Event::Received { from, cluster, message } => self.received(now, from, cluster, message, &mut out),
            Event::PeerConnected { peer } => self.peer_connected(now, peer, &mut out),
            Event::PeerBroken { peer } => self.peer_broken(now, peer, &mut out),
            Event::Persisted { ticket, read_back } => self.persisted(now, ticket, &read_back, &mut out),
            Event::DiskFailed { what } => self.halt(Cause::Disk { what }, None, &mut out),
            Event::Snapshotted { index, entries_kept } => self.snapshotted(index, entries_kept),
            Event::Examined => self.examined(),
            Event::SnapshotFetched { index } => self.snapshot_fetched(index, &mut out),
            Event::Requested { token, request, at } => self.requested(now, token, request, at, &mut out),
            Event::Nudged => self.consider(now, &mut out),
            Event::Probed { server, run, probe, dead } => self.probed(now, server, run, probe, dead, &mut out),
            Event::Deadline => {}
            Event::Flush => self.flush(now, &mut out),
        }
        if now >= self.tick_at {
            self.tick(now, &mut out);
        }
        self.on_time(now, &mut out);
        self.finish(now, out)
    }

    fn outbox(&self) -> Outbox {
        Outbox::new(self.cluster(), self.next_ticket)
    }

    fn finish(&mut self, now: Time, mut out: Outbox) -> Vec<Action> {
        self.tell_role(now, &mut out);
        let (next_ticket, actions) = out.finish();
        self.next_ticket = next_ticket;
        self.check_invariants();
        actions
    }

    /// People are told when the part changes.
    fn tell_role(&mut self, now: Time, out: &mut Outbox) {
        let role = self.role_name();
        let primary = self.primary_known(now);
        if (role, primary) != self.told {
            self.told = (role, primary);
            out.tell(Note::Role { role, epoch: self.epoch(), primary });
        }
    }

    /// This run is over; every caller is told the truth about time.
    pub(crate) fn halt(&mut self, cause: Cause, successor: Option<ServerId>, out: &mut Outbox) {
        match &mut self.role {
            Role::Primary(primary) => primary.depose(successor, out),
            Role::Copy(backup) => {
                for read in backup.take_reads() {
                    out.respond(read.token, Err(Refusal::NotPrimary { primary: successor }));
                }
            }
            Role::Witness | Role::Over => {}
        }
        self.role = Role::Over;
        out.act(Action::Halt(cause));
    }

    /// What each call of the primary needs to know; `excused` are the voters that a quorum may do without.
    pub(crate) fn setting<'a>(&'a self, now: Time, excused: &'a BTreeSet<ServerId>) -> Setting<'a> {
        Setting { config: &self.config, now, excused }
    }

    /// Calls the primary with its setting; nothing where this node does not lead.
    pub(crate) fn lead<R>(&mut self, now: Time, act: impl FnOnce(&mut Primary, Setting<'_>) -> R) -> Option<R> {
        let excused = self.excused();
        let Role::Primary(primary) = &mut self.role else { return None };
        Some(act(primary, Setting { config: &self.config, now, excused: &excused }))
    }

    /// This server as a view names it.
    pub(crate) fn me(&self) -> Member {
        Member { server: self.config.me, store: self.identity.store }
    }

    /// This run.
    pub fn run(&self) -> RunId {
        self.birth.run
    }

    /// This server as its handshakes name it.
    pub fn peer(&self) -> Peer {
        Peer { server: self.config.me, store: self.identity.store, run: self.birth.run }
    }

    /// Who the data belongs to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The cluster that it belongs to; `None` while blank.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.identity.cluster.as_ref().map(|(cluster, _)| *cluster)
    }

    /// The register as it is on disk; `None` while blank.
    pub fn register(&self) -> Option<&Register> {
        self.durable_register.as_ref()
    }

    /// The copy; `None` on a witness and once the run is over.
    pub fn replica(&self) -> Option<&Replica> {
        match &self.role {
            Role::Copy(backup) => Some(backup.replica()),
            Role::Primary(primary) => Some(primary.replica()),
            Role::Witness | Role::Over => None,
        }
    }

    /// The epoch that it leads, frozen or not.
    pub fn primary_epoch(&self) -> Option<Epoch> {
        match &self.role {
            Role::Primary(primary) => Some(primary.view().epoch),
            Role::Witness | Role::Copy(_) | Role::Over => None,
        }
    }

    /// Whether this run is over.
    pub fn is_over(&self) -> bool {
        matches!(self.role, Role::Over)
    }

    /// The voters that a quorum may do without (PROTOCOL 5).
    pub(crate) fn excused(&self) -> BTreeSet<ServerId> {
        if self.config.constants.quorum != QuorumRule::Survivors {
            BTreeSet::new()
        } else if self.last_standing {
            self.others().collect()
        } else if self.recovering {
            BTreeSet::new()
        } else {
            self.proofs.dead()
        }
    }

    /// All servers but this one.
    pub(crate) fn others(&self) -> impl Iterator<Item = ServerId> + use<> {
        let me = self.config.me;
        self.config.constants.servers().filter(move |server| *server != me)
    }

    /// **Panics if** an invariant of the type is broken: always a bug.
    pub fn check_invariants(&self) {
        self.register.check_invariants();
        match &self.role {
            Role::Primary(primary) => {
                primary.check_invariants();
                let leads = primary.view().epoch == self.register.promised;
                assert!(
                    leads || primary.is_frozen() || takes_lower_epochs(),
                    "an unfrozen primary has promised its own epoch"
                );
            }
            Role::Copy(backup) => {
                backup.replica().check_invariants();
                if let Some(epoch) = backup.works_in().filter(|_| !takes_lower_epochs()) {
                    assert_eq!(epoch, self.register.promised, "a copy works in the epoch that it has promised");
                }
            }
            Role::Witness | Role::Over => {}
        }
        assert!(
            self.durable_register.as_ref().is_none_or(|durable| durable.promised <= self.register.promised)
                || planted(Mutant::StaleRegisterAfterRestart),
            "the disk is never ahead of the memory"
        );
    }
}

/// The faults by which a copy goes on in an epoch below its promise.
pub(crate) fn takes_lower_epochs() -> bool {
    planted(Mutant::NoFreezeOnPromise) || planted(Mutant::StartEpochUnchecked)
}

/// Whether a server's stored view is of itself alone and its log holds that epoch's marker: then the view was chosen,
/// and nobody can be ahead of it.
fn is_last_standing(me: Member, register: &Register, role: &Role) -> bool {
    let Role::Copy(backup) = role else { return false };
    register.standing == Standing::Intact
        && register.accepted.as_ref().is_some_and(|view| {
            let marked = backup.replica().log().has_marker(view.epoch);
            view.in_sync == BTreeSet::from([me]) && (marked || planted(Mutant::LastStandingWithoutMarker))
        })
}
