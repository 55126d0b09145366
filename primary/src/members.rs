//! Changing the members (PROTOCOL 7): who must go, who may come.

use std::collections::BTreeSet;
use std::time::Duration;

use heirloom_proto::view::Derivation;
use heirloom_proto::{Member, Mutant, ServerId, VoterKind, planted};

use crate::copies::{Copy, Phase};
use crate::primary::{Primary, Setting};

/// Why a member must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ProvenDead,
    Differs,
    OtherStore,
    Silent,
    Stuck,
}

impl Fault {
    fn words(self) -> &'static str {
        match self {
            Self::ProvenDead => "proven dead",
            Self::Differs => "differs",
            Self::OtherStore => "came back with another store",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
        }
    }

    /// Whether the member, which lives, may be as slow again as soon as it is back.
    fn may_return(self) -> bool {
        match self {
            Self::Silent | Self::Stuck => true,
            Self::ProvenDead | Self::Differs | Self::OtherStore => false,
        }
    }
}

/// A change of the members that the primary wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Members that go.
    pub remove: BTreeSet<Member>,
    /// Those of them that are not taken back at once.
    slow: BTreeSet<ServerId>,
    /// A learner that comes.
    pub add: Option<Member>,
    /// Why, for people.
    pub reason: String,
}

impl Primary {
    /// What is wrong with the members, if anything can be done about it; `proven` are the servers proven dead.
    pub fn wanted(&self, proven: &BTreeSet<ServerId>, setting: Setting<'_>) -> Option<Wanted> {
        if self.hand_over.is_some() {
            return None;
        }
        let mut faults: Vec<(Member, Fault)> = self
            .others()
            .filter_map(|(member, _)| self.fault(member, proven, setting).map(|fault| (member, fault)))
            .collect();
        // Where not all may go, the dead go first.
        faults.sort_by_key(|(_, fault)| *fault != Fault::ProvenDead);
        let floor = setting.config.constants.min_copies;
        let members = self.view.in_sync.len();
        // One that is gone, where there are no more than must be: whoever can take its place is wanted, however slow it was.
        let in_need = members <= floor && faults.iter().any(|(_, fault)| *fault != Fault::Stuck);
        // Whoever comes ends an epoch too; so where one was ended before it had begun, the next is left to begin.
        let may_begin = self.has_begun() || self.in_vain == 0 || !faults.is_empty();
        let add = self.caught_up(in_need, setting).filter(|_| may_begin);
        // A learner in place of the old store of the same server does not make the view wider.
        let replaced = add.and_then(|learner| self.view.in_sync.iter().find(|member| member.server == learner.server));
        let after = members + usize::from(add.is_some()) - usize::from(replaced.is_some());
        let may_go = after.saturating_sub(floor);
        let mut reasons = Vec::new();
        let (mut remove, mut slow) = (BTreeSet::new(), BTreeSet::new());
        for (member, fault) in faults.into_iter().filter(|(member, _)| Some(member) != replaced).take(may_go) {
            reasons.push(format!("server {} out: {}", member.server, fault.words()));
            remove.insert(member);
            slow.extend(fault.may_return().then_some(member.server));
        }
        if let Some(learner) = add {
            reasons.push(format!("server {} in: caught up", learner.server));
        }
        (!reasons.is_empty()).then(|| Wanted { remove, slow, add, reason: reasons.join(", ") })
    }

    /// Why a member must go; `None` where nothing is wrong.
    fn fault(&self, member: Member, proven: &BTreeSet<ServerId>, setting: Setting<'_>) -> Option<Fault> {
        let copy = &self.copies[&member.server];
        let suspicion = self.patience(setting);
        if self.is_undecided(member) && !self.sound {
            return None;
        }
        if proven.contains(&member.server) {
            Some(Fault::ProvenDead)
        } else if copy.phase == Phase::Differs && !self.is_undecided(member) {
            Some(Fault::Differs)
        } else if copy.peer.is_some() && !copy.is(member) {
            Some(Fault::OtherStore)
        } else if setting.now.since(copy.heard_at) > suspicion {
            Some(Fault::Silent)
        } else if copy.works() && copy.owes() && setting.now.since(copy.progress_at) > suspicion {
            Some(Fault::Stuck)
        } else {
            None
        }
    }

    /// Whether a member differs, and no third one says that it is the one that is wrong (PROTOCOL 4.5). It stays a member
    /// then: where its own disk gives another state than it has it begins anew; where it is silent or gone, and this copy is
    /// what its disk gives, it goes for that. As long as both are right by their checksums nothing is committed, for a choice
    /// between two is a guess.
    fn is_undecided(&self, member: Member) -> bool {
        let differs = |copy: &Copy| copy.phase == Phase::Differs;
        let mut allies = self.others().filter(|(other, copy)| *other != member && copy.is(*other) && !differs(copy));
        let copy = &self.copies[&member.server];
        differs(copy) && copy.is(member) && allies.next().is_none()
    }

    /// The members that differ, with nobody to say who is wrong.
    pub fn undecided(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.others().filter(|(member, _)| self.is_undecided(*member)).map(|(member, _)| member.server)
    }

    /// The own copy is what its disk gives.
    pub fn examined(&mut self) {
        self.sound = true;
    }

    /// Whether the own copy must be looked at to decide who is wrong.
    pub fn wants_examination(&self) -> bool {
        !self.sound && self.undecided().next().is_some()
    }

    /// How long a member may be silent, or owe a confirmation. Twice as long for each epoch in a row that was ended before
    /// it had begun: to begin takes two writes one after the other, and where all disks are slow members would be put out and
    /// taken back for ever, and nothing committed (docs/decisions/0013).
    fn patience(&self, setting: Setting<'_>) -> Duration {
        let doubled = if self.has_begun() { 0 } else { self.in_vain };
        setting.config.suspicion * (1 << doubled)
    }

    /// Members whose confirmation has been missing for longer than the suspicion time; `None` where all is well.
    pub fn waits_for_members(&self, setting: Setting<'_>) -> Option<Vec<ServerId>> {
        let suspicion = setting.config.suspicion;
        let missing: Vec<ServerId> = self
            .others()
            .filter(|(member, copy)| !copy.is(*member) || setting.now.since(copy.heard_at) > suspicion)
            .map(|(member, _)| member.server)
            .collect();
        (!missing.is_empty()).then_some(missing)
    }

    /// A learner that has confirmed our log up to the marker of this epoch and everything committed since; one that is
    /// banned only where there is need.
    fn caught_up(&self, in_need: bool, setting: Setting<'_>) -> Option<Member> {
        let known = self.replica.applied_index();
        let needed = if planted(Mutant::KnownCommittedIsEnough) { known } else { self.marker.max(known) };
        self.copies.values().find_map(|copy| {
            let learner = copy.peer?.member();
            let keeps_data = setting.config.constants.kind(learner.server) == Some(VoterKind::Data);
            let may_come = keeps_data
                && !self.view.has(learner)
                && copy.works()
                && copy.confirmed >= needed
                && (in_need || copy.ban.is_over(setting.now))
                && setting.now.since(copy.heard_at) <= setting.config.suspicion;
            may_come.then_some(learner)
        })
    }

    /// The derivation of the next own view. Members that go for being silent or stuck are not taken back at once.
    pub fn derivation(&mut self, wanted: Option<&Wanted>, setting: Setting<'_>) -> Derivation {
        let remove = wanted.map(|wanted| wanted.remove.clone()).unwrap_or_default();
        self.slow = wanted.map(|wanted| wanted.slow.clone()).unwrap_or_default();
        Derivation::Change {
            primary: self.me,
            remove,
            add: wanted.and_then(|wanted| wanted.add),
            settled: self.settled_epoch(),
            min_copies: setting.config.constants.min_copies,
        }
    }
}
