//! The view: who leads, and whose confirmation commits.

use std::collections::BTreeSet;

use crate::codec::{Malformed, Reader, Writer};
use crate::entry::{read_epoch, write_epoch};
use crate::ids::{Epoch, Member, ServerId, StoreId};
use crate::limits::SERVERS_MAX;
use crate::mutants::{Mutant, planted};

/// One value of the view register.
///
/// The voters of PROTOCOL 2 are not repeated here: they are fixed at bootstrap and stand in [`crate::Constants`].
///
/// **Invariants**
/// - `primary` is in `in_sync`, and is the server that the epoch names.
/// - `in_sync` names a server once; `leaving` shares no member with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Its number.
    pub epoch: Epoch,
    /// Who leads.
    pub primary: ServerId,
    /// Whose confirmation commits; the primary is one of them.
    pub in_sync: BTreeSet<Member>,
    /// Former members whose leases may still be valid.
    pub leaving: BTreeSet<Member>,
}

/// How a view follows from the one before: the change function `f` of PROTOCOL 5.3.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Derivation {
    /// The first view, from no view: these members.
    Found {
        /// All data stores that answered.
        members: BTreeSet<Member>,
    },
    /// A member takes over.
    TakeOver {
        /// The candidate.
        candidate: Member,
        /// The stores, undamaged, that promised.
        promised: BTreeSet<Member>,
        /// In which order others are kept where fewer than `min_copies` promised: those connected last first.
        kept_first: Vec<ServerId>,
        /// The floor.
        min_copies: usize,
    },
    /// The primary changes the members of its own view.
    Change {
        /// The primary, as its own views name it.
        primary: Member,
        /// Members that go.
        remove: BTreeSet<Member>,
        /// The learner that comes.
        add: Option<Member>,
        /// The epoch whose wait for `leaving` is over, so that its `leaving` counts as empty.
        settled: Option<Epoch>,
        /// The floor.
        min_copies: usize,
    },
}

impl View {
    /// Whether this store is a member.
    pub fn has(&self, member: Member) -> bool {
        self.in_sync.contains(&member)
            || planted(Mutant::EmptiedStoreStaysMember) && self.store_of(member.server).is_some()
    }

    /// The store under which `server` is a member.
    pub fn store_of(&self, server: ServerId) -> Option<StoreId> {
        self.in_sync.iter().find(|member| member.server == server).map(|member| member.store)
    }

    /// The view of `epoch` that follows from `current` by `derivation`; `None` where it isn't allowed on this one.
    pub fn derive(current: Option<&Self>, epoch: Epoch, derivation: &Derivation) -> Option<Self> {
        let (primary, in_sync, former) = match derivation {
            Derivation::Found { members } => match current {
                None => (epoch.server, members.clone(), BTreeSet::new()),
                Some(_) => return None,
            },
            Derivation::TakeOver { candidate, promised, kept_first, min_copies } => {
                let current = current?;
                if !current.has(*candidate) && !planted(Mutant::CandidateIsNoMember) {
                    return None;
                }
                let mut in_sync: BTreeSet<Member> = current.in_sync.intersection(promised).copied().collect();
                if planted(Mutant::EmptiedStoreStaysMember) || planted(Mutant::CandidateIsNoMember) {
                    in_sync.retain(|member| member.server != candidate.server);
                }
                in_sync.insert(*candidate);
                let by_id = current.in_sync.iter().map(|member| member.server);
                for server in kept_first.iter().copied().chain(by_id) {
                    if in_sync.len() >= *min_copies || planted(Mutant::MinCopiesNotKept) {
                        break;
                    }
                    in_sync.extend(current.in_sync.iter().filter(|member| member.server == server));
                }
                let mut former = current.in_sync.clone();
                if !planted(Mutant::LeavingForgotten) {
                    former.extend(&current.leaving);
                }
                (candidate.server, in_sync, former)
            }
            Derivation::Change { primary, remove, add, settled, min_copies } => {
                let current = current?;
                // Its own: proposed by this primary in this run, chosen or not.
                let own = current.primary == primary.server && current.epoch.run == epoch.run && current.has(*primary);
                if !own {
                    return None;
                }
                let mut in_sync: BTreeSet<Member> = current.in_sync.difference(remove).copied().collect();
                in_sync.insert(*primary);
                if let Some(learner) = add {
                    in_sync.retain(|member| member.server != learner.server);
                    in_sync.insert(*learner);
                }
                if in_sync.len() < (*min_copies).min(current.in_sync.len()) {
                    return None;
                }
                let mut former = current.in_sync.clone();
                if *settled != Some(current.epoch) && !planted(Mutant::LeavingForgotten) {
                    former.extend(&current.leaving);
                }
                (primary.server, in_sync, former)
            }
        };
        let leaving = former.difference(&in_sync).copied().collect();
        let view = Self { epoch, primary, in_sync, leaving };
        view.check_invariants();
        Some(view)
    }

    /// **Panics if** an invariant of the type is broken: always a bug.
    pub fn check_invariants(&self) {
        assert!(self.store_of(self.primary).is_some(), "the primary is a member: {self:?}");
        assert_eq!(self.epoch.server, self.primary, "the proposer of a view leads it");
        assert!(self.in_sync.is_disjoint(&self.leaving), "a member is not leaving: {self:?}");
        let servers: BTreeSet<ServerId> = self.in_sync.iter().map(|member| member.server).collect();
        assert_eq!(servers.len(), self.in_sync.len(), "a server is a member once: {self:?}");
    }

    /// Writes the view.
    pub fn encode(&self, out: &mut Writer) {
        write_epoch(out, self.epoch);
        out.u8(self.primary.0);
        for members in [&self.in_sync, &self.leaving] {
            out.count(members.len());
            for member in members {
                out.u8(member.server.0).u64(member.store.0);
            }
        }
    }

    /// Reads a view.
    ///
    /// **Errors:** [`Malformed`] where the bytes are no view, or one that breaks an invariant.
    pub fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        let epoch = read_epoch(reader)?;
        let primary = ServerId(reader.u8("view primary")?);
        let in_sync = read_members(reader)?;
        let leaving = read_members(reader)?;
        let servers: BTreeSet<ServerId> = in_sync.iter().map(|member| member.server).collect();
        let well_formed = servers.contains(&primary)
            && epoch.server == primary
            && servers.len() == in_sync.len()
            && in_sync.is_disjoint(&leaving);
        if well_formed { Ok(Self { epoch, primary, in_sync, leaving }) } else { Err(Malformed("view")) }
    }
}

fn read_members(reader: &mut Reader) -> Result<BTreeSet<Member>, Malformed> {
    let count = reader.count(9, "view members")?;
    // A server may be leaving under several stores, but never under more than there were views to leave.
    if count > SERVERS_MAX * 64 {
        return Err(Malformed("view members"));
    }
    let mut members = BTreeSet::new();
    for _ in 0..count {
        let member =
            Member { server: ServerId(reader.u8("member server")?), store: StoreId(reader.u64("member store")?) };
        // In one order and none twice, so that a view has one encoding.
        if members.last().is_some_and(|last| *last >= member) {
            return Err(Malformed("view members"));
        }
        members.insert(member);
    }
    Ok(members)
}
