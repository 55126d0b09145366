//! The proposer of the view register: one epoch, one proposal (PROTOCOL 5.2 to 5.4).

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Constants;
use crate::ids::{Epoch, Member, ServerId};
use crate::quorum;
use crate::time::Time;
use crate::view::{Derivation, View};

/// The right to lead an epoch. Only a proposal whose view was chosen can make one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mandate {
    view: View,
}

impl Mandate {
    /// The chosen view.
    pub fn view(&self) -> &View {
        &self.view
    }
}

/// What a voter's promise said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vote {
    /// The view it had accepted.
    pub accepted: Option<View>,
    /// Whether it counts for the quorum; a voter that lost its register freezes but does not vote.
    pub counts: bool,
    /// The store that promised to freeze, where it keeps data and none of it is damaged.
    pub member: Option<Member>,
}

/// Where a proposal stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Promising { votes: BTreeMap<ServerId, Vote>, quorum_since: Option<Time> },
    Accepting { view: View, accepted: BTreeSet<ServerId> },
}

/// One proposal, from the own promise on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    epoch: Epoch,
    phase: Phase,
    /// When it is given up.
    pub deadline: Time,
}

impl Proposal {
    /// A proposal whose own promise is on its way to disk: nothing may be sent before that is durable.
    pub fn new(epoch: Epoch, deadline: Time) -> Self {
        Self { epoch, phase: Phase::Promising { votes: BTreeMap::new(), quorum_since: None }, deadline }
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The derived view, once there is one.
    pub fn view(&self) -> Option<&View> {
        match &self.phase {
            Phase::Promising { .. } => None,
            Phase::Accepting { view, .. } => Some(view),
        }
    }

    /// Who has promised so far; empty in the second phase.
    pub fn promised(&self) -> BTreeSet<ServerId> {
        match &self.phase {
            Phase::Promising { votes, .. } => votes.keys().copied().collect(),
            Phase::Accepting { .. } => BTreeSet::new(),
        }
    }

    /// The stores, undamaged, that have promised so far.
    pub fn promised_members(&self) -> BTreeSet<Member> {
        match &self.phase {
            Phase::Promising { votes, .. } => votes.values().filter_map(|vote| vote.member).collect(),
            Phase::Accepting { .. } => BTreeSet::new(),
        }
    }

    /// Takes a promise for this epoch; one that comes twice or late changes nothing.
    pub fn vote(&mut self, from: ServerId, vote: Vote) {
        if let Phase::Promising { votes, .. } = &mut self.phase {
            votes.entry(from).or_insert(vote);
        }
    }

    /// Since when a quorum has promised; `None` while it has not.
    pub fn quorum_since(&mut self, now: Time, constants: &Constants, excused: &BTreeSet<ServerId>) -> Option<Time> {
        let Phase::Promising { votes, quorum_since } = &mut self.phase else { return None };
        let counted = votes.iter().filter(|(_, vote)| vote.counts).map(|(server, _)| *server).collect();
        if !quorum::reached(constants, &counted, excused) {
            *quorum_since = None;
            return None;
        }
        Some(*quorum_since.get_or_insert(now))
    }

    /// The accepted view of the highest epoch among the votes that count.
    pub fn current(&self) -> Option<&View> {
        match &self.phase {
            Phase::Promising { votes, .. } => votes
                .values()
                .filter(|vote| vote.counts)
                .filter_map(|vote| vote.accepted.as_ref())
                .max_by_key(|view| view.epoch),
            Phase::Accepting { .. } => None,
        }
    }

    /// Derives the view to propose from the newest one that a quorum showed and begins the second phase; `None` where
    /// the derivation is not allowed on that view, or no quorum has promised.
    pub fn propose(
        &mut self,
        derivation: &Derivation,
        constants: &Constants,
        excused: &BTreeSet<ServerId>,
    ) -> Option<View> {
        let Phase::Promising { votes, .. } = &self.phase else { return None };
        let counted = votes.iter().filter(|(_, vote)| vote.counts).map(|(server, _)| *server).collect();
        if !quorum::reached(constants, &counted, excused) {
            return None;
        }
        let view = View::derive(self.current(), self.epoch, derivation)?;
        self.phase = Phase::Accepting { view: view.clone(), accepted: BTreeSet::new() };
        Some(view)
    }

    /// Takes an acceptance of this epoch's view, the own one too.
    pub fn accepted(&mut self, from: ServerId) {
        if let Phase::Accepting { accepted, .. } = &mut self.phase {
            accepted.insert(from);
        }
    }

    /// The mandate, as soon as a quorum has accepted the view.
    pub fn chosen(&self, constants: &Constants, excused: &BTreeSet<ServerId>) -> Option<Mandate> {
        match &self.phase {
            Phase::Promising { .. } => None,
            Phase::Accepting { view, accepted } => {
                // The proposer belongs to its own quorum, also where all others are excused.
                (accepted.contains(&self.epoch.server) && quorum::reached(constants, accepted, excused))
                    .then(|| Mandate { view: view.clone() })
            }
        }
    }
}
