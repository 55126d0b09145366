//! The primary: what it is, and how it comes to be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use heirloom_backup::Replica;
use heirloom_proto::event::{Note, Ticket};
use heirloom_proto::limits::PATIENCE_DOUBLED_MAX;
use heirloom_proto::{
    Answer, Digest, Entry, Epoch, LogIndex, Mandate, Member, Message, Mutant, NodeConfig, Outbox, Refusal, Request,
    Response, Sealed, ServerId, Time, Token, View, WallTime, planted,
};

use crate::commit::Difference;
use crate::copies::Copy;
use crate::hand_over::HandOver;
use crate::lease;
use crate::overlay::Overlay;
use crate::reads::Reads;

/// What a primary needs to know with every call.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The settings of this server.
    pub config: &'a NodeConfig,
    /// The clock.
    pub now: Time,
    /// Voters that a quorum may do without: proven dead, under the rule `survivors`.
    pub excused: &'a BTreeSet<ServerId>,
}

/// A change that waits until the primary may append again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) token: Token,
    pub(crate) request: Request,
    pub(crate) at: WallTime,
}

/// A copy that leads an epoch.
///
/// **Invariants**
/// - It commits nothing, sends no entries and holds no lease while it is frozen: from its own promise of a higher epoch
///   until it has a mandate for one.
/// - The applied index never passes what every member of the view has confirmed in this epoch, nor does it move before
///   everyone in `leaving` is settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Primary {
    pub(crate) me: Member,
    pub(crate) replica: Replica,
    pub(crate) view: View,
    /// The first entry of this epoch; nothing is committed in it before its marker is.
    pub(crate) marker: LogIndex,
    pub(crate) chosen_at: Time,
    /// How many epochs of its own, one after the other, ended before their markers were committed, as far as that matters.
    pub(crate) in_vain: u8,
    /// The members that go for being slow, if the view is chosen that was derived last.
    pub(crate) slow: BTreeSet<ServerId>,
    /// Members of `leaving` that may still hold a lease.
    pub(crate) unsettled: BTreeSet<Member>,
    /// When someone was last settled otherwise than by proof: only later proofs count (PROTOCOL 8.3).
    pub(crate) proofs_count_from: Time,
    pub(crate) frozen: bool,
    pub(crate) copies: BTreeMap<ServerId, Copy>,
    /// In memory, not yet sent to the disk: everything behind this.
    pub(crate) persisted_to: LogIndex,
    pub(crate) overlay: Overlay,
    pub(crate) callers: BTreeMap<LogIndex, Vec<Token>>,
    pub(crate) held: VecDeque<Held>,
    pub(crate) reads: Reads,
    /// Digests of the newest applied states, ending with the present one.
    pub(crate) digests: VecDeque<Digest>,
    pub(crate) hand_over: Option<HandOver>,
    /// Which copies were found to differ in this epoch, and in what.
    pub(crate) differences: BTreeMap<ServerId, Difference>,
    /// Whether the own copy was found to be what its disk gives, since it was found to differ from another.
    pub(crate) sound: bool,
}

impl Primary {
    /// The only way to lead: a replica inherits a mandate.
    pub fn inherit(
        me: Member,
        replica: Replica,
        mandate: &Mandate,
        setting: Setting<'_>,
        at: WallTime,
        out: &mut Outbox,
    ) -> Self {
        let overlay = Overlay::of(&replica);
        let persisted_to = replica.log().end();
        let digests = VecDeque::from([replica.digest()]);
        let mut primary = Self {
            me,
            replica,
            view: mandate.view().clone(),
            marker: LogIndex::ZERO,
            chosen_at: setting.now,
            in_vain: 0,
            slow: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            proofs_count_from: setting.now,
            frozen: false,
            copies: BTreeMap::new(),
            persisted_to,
            overlay,
            callers: BTreeMap::new(),
            held: VecDeque::new(),
            reads: Reads::default(),
            digests,
            hand_over: None,
            differences: BTreeMap::new(),
            sound: false,
        };
        primary.begin(mandate, setting, at, out);
        primary
    }

    /// Goes on in the next epoch, by a mandate of its own.
    pub fn renew(&mut self, mandate: &Mandate, setting: Setting<'_>, at: WallTime, out: &mut Outbox) {
        assert!(mandate.view().epoch > self.view.epoch, "epochs rise");
        assert_eq!(mandate.view().primary, self.me.server, "a mandate is for its proposer");
        self.in_vain = if self.has_begun() { 0 } else { (self.in_vain + 1).min(PATIENCE_DOUBLED_MAX) };
        for server in std::mem::take(&mut self.slow) {
            if mandate.view().store_of(server).is_none()
                && let Some(copy) = self.copies.get_mut(&server)
            {
                copy.ban.begin(setting.now, setting.config.suspicion);
            }
        }
        self.begin(mandate, setting, at, out);
        self.take_up_held(setting, out);
    }

    fn begin(&mut self, mandate: &Mandate, setting: Setting<'_>, at: WallTime, out: &mut Outbox) {
        let view = mandate.view();
        let mut copies: BTreeMap<ServerId, Copy> = BTreeMap::new();
        let concerned = view.in_sync.iter().chain(&view.leaving).map(|member| member.server);
        let known = self.copies.keys().copied();
        for server in concerned.chain(known).filter(|server| *server != self.me.server) {
            let before = self.copies.get(&server);
            let mut copy = Copy::starting(before.and_then(|copy| copy.peer), setting.now);
            copy.ban = before.map(|copy| copy.ban).unwrap_or_default();
            if planted(Mutant::LearnerOutsideLease) && self.view.store_of(server) != view.store_of(server) {
                copy.echoed = Some(Time(u64::MAX / 2));
            }
            copies.insert(server, copy);
            out.send(server, Message::StartEpoch { view: view.clone() });
        }
        self.copies = copies;
        self.view = view.clone();
        self.chosen_at = setting.now;
        self.proofs_count_from = setting.now;
        self.unsettled = view.leaving.clone();
        self.frozen = false;
        self.differences.clear();
        self.sound = false;
        self.reads.begin_again();
        self.marker = if planted(Mutant::NoMarker) {
            self.replica.log().end()
        } else {
            self.append(at, Vec::new(), None, Answer::Nothing)
        };
        if planted(Mutant::NoMarker) {
            self.try_commit(setting, out);
        }
    }

    /// Puts an entry at the end of the log in memory.
    pub(crate) fn append(
        &mut self,
        at: WallTime,
        effects: Vec<heirloom_proto::Effect>,
        origin: Option<heirloom_proto::Origin>,
        answer: Answer,
    ) -> LogIndex {
        let index = self.replica.log().end().next();
        let version = self.overlay.version();
        let mut entry = Entry { index, epoch: self.view.epoch, version, at, effects, origin, answer };
        if entry.changes_keys() {
            entry.version = version.next();
        }
        let sealed = Sealed::new(entry);
        self.overlay.prepare(sealed.entry(), sealed.bytes().len());
        self.replica.push(sealed);
        index
    }

    /// Its own promise of a higher epoch: commits nothing, grants nothing, takes nothing of the lower epoch any more.
    pub fn freeze(&mut self) {
        self.frozen = true;
        if planted(Mutant::LeaseKeptAfterOwnPromise) {
            return;
        }
        for copy in self.copies.values_mut() {
            copy.echoed = None;
            copy.clock = None;
        }
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// The view that it leads.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The copy.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether the marker of its epoch is committed, and with it all before.
    pub(crate) fn has_begun(&self) -> bool {
        self.replica.applied_index() >= self.marker
    }

    /// Whether the start of the epoch is complete.
    pub fn serves(&self) -> bool {
        let frozen = self.frozen && !planted(Mutant::LeaseKeptAfterOwnPromise);
        !frozen && self.has_begun()
    }

    /// Until when the lease runs; `None` where there is none.
    pub fn lease_until(&self, setting: Setting<'_>) -> Option<Time> {
        if self.frozen && !planted(Mutant::LeaseKeptAfterOwnPromise) {
            return None;
        }
        let echoed = self.others().map(|(member, copy)| copy.echoed.filter(|_| copy.is(member)));
        lease::until(&setting.config.constants, echoed)
    }

    /// The members of the view but itself, each with the copy that its server keeps now: of that member only where
    /// [`Copy::is`] says so.
    pub(crate) fn others(&self) -> impl Iterator<Item = (Member, &Copy)> {
        self.view
            .in_sync
            .iter()
            .filter(|member| **member != self.me)
            .map(|member| (*member, &self.copies[&member.server]))
    }

    /// The epoch whose wait for `leaving` is over, so that the next view may count it as empty.
    pub fn settled_epoch(&self) -> Option<Epoch> {
        self.unsettled.is_empty().then_some(self.view.epoch)
    }

    /// Takes the news that a write of the log is durable; false where it was none of this copy's.
    ///
    /// **Errors:** the own log gave back something else: the primary must step down.
    pub fn persisted(
        &mut self,
        ticket: Ticket,
        read_back: &[Sealed],
        setting: Setting<'_>,
        out: &mut Outbox,
    ) -> Result<bool, heirloom_backup::ReadBackWrong> {
        let known = self.replica.persisted(ticket, read_back)?;
        self.try_commit(setting, out);
        Ok(known)
    }

    /// The end of the role: every caller is told the truth about time.
    pub fn depose(&mut self, successor: Option<ServerId>, out: &mut Outbox) {
        if let Some(hand_over) = self.hand_over.take() {
            let result = match successor {
                Some(primary) if primary == hand_over.target => Ok(Response::Promoted { primary }),
                _ => Err(Refusal::HandOverCalledOff),
            };
            out.respond(hand_over.token, result);
        }
        for token in std::mem::take(&mut self.callers).into_values().flatten() {
            out.respond(token, Err(Refusal::OutcomeUnknown));
        }
        let never_begun = std::mem::take(&mut self.held).into_iter().map(|held| held.token);
        for token in never_begun.chain(self.reads.take_all()) {
            out.respond(token, Err(Refusal::NotPrimary { primary: successor }));
        }
    }

    /// Tells people where a request went.
    pub(crate) fn note_prepared(&self, token: Token, index: LogIndex, out: &mut Outbox) {
        out.tell(Note::Prepared { token, index, epoch: self.view.epoch });
    }

    /// **Panics if** an invariant of the type is broken: always a bug.
    pub fn check_invariants(&self) {
        self.replica.check_invariants();
        self.view.check_invariants();
        assert!(self.view.has(self.me), "the primary is a member");
        assert!(self.marker <= self.replica.log().end(), "the marker is in the log");
        assert!(self.persisted_to <= self.replica.log().end(), "persisted beyond the log");
    }
}
