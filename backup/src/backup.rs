//! A copy that works under a primary: prepare, read back, confirm, apply, roll back (PROTOCOL 4 and 8.1).

use heirloom_proto::event::{Action, Note, Ticket};
use heirloom_proto::limits::TAIL_EPOCHS_MAX;
use heirloom_proto::message::{Grant, Tail};
use heirloom_proto::time::Drift;
use heirloom_proto::{Epoch, LogIndex, Member, Message, Mutant, Outbox, Position, RunId, Sealed, Time, planted};

use crate::lease::Granted;
use crate::reads::Reads;
use crate::replica::{ReadBackWrong, Replica};

/// Where the start of an epoch stands for this copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// It has said where its log ends and takes nothing before it is told what to keep.
    AwaitsCut,
    /// Its log is a prefix of the primary's: whatever is durable here is confirmed.
    Works,
    /// What its log lacks is no longer kept there: it takes nothing more in this epoch, and waits for a snapshot.
    Behind,
}

/// The epoch in which a copy works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Work {
    epoch: Epoch,
    phase: Phase,
    commit_index: LogIndex,
}

/// What came of a `Prepare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Taken, or known already.
    Taken,
    /// The copy does not work in this epoch: the primary must begin it.
    NotStarted,
    /// The copy differs from the primary.
    Differs,
}

/// A replica that works under a primary, or waits for one.
///
/// **Invariants:** nothing is applied beyond what was confirmed in the present epoch or was applied before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backup {
    me: Member,
    pub(crate) replica: Replica,
    work: Option<Work>,
    /// In the present epoch alone; a promise and a new epoch end it.
    granted: Granted,
    pub(crate) reads: Reads,
    /// It differs from a primary: it confirms nothing more in this run, and is given up once it is out of the view.
    differs: bool,
}

impl Backup {
    /// A copy that works in no epoch yet.
    pub fn new(me: Member, replica: Replica) -> Self {
        let (granted, reads) = (Granted::default(), Reads::default());
        Self { me, replica, work: None, granted, reads, differs: false }
    }

    /// The copy.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The copy, for whoever inherits it.
    pub fn into_replica(self) -> Replica {
        self.replica
    }

    /// The epoch in which it takes entries.
    pub fn works_in(&self) -> Option<Epoch> {
        self.work.filter(|work| work.phase == Phase::Works && !self.differs).map(|work| work.epoch)
    }

    /// Whether it found that it differs from its primary.
    pub fn differs(&self) -> bool {
        self.differs
    }

    /// From a promise of `epoch` on: takes nothing of a lower one. What is on its way to disk then is discarded as far
    /// as confirming goes, for it is confirmed only while the epoch lasts.
    pub fn freeze(&mut self, epoch: Epoch) {
        if self.work.is_some_and(|work| work.epoch < epoch) {
            self.work = None;
            self.end_lease();
        }
    }

    fn end_lease(&mut self) {
        if !planted(Mutant::ReadLeaseKept) {
            self.granted = Granted::default();
        }
    }

    /// Begins an epoch, whose view is stored: says where the log ends. Once begun it is not begun again within a run, so
    /// that nothing can be cut a second time; a repeated call tells the primary how far this copy is.
    pub fn start_epoch(&mut self, epoch: Epoch, out: &mut Outbox) {
        if self.differs {
            return;
        }
        match self.work {
            Some(work) if work.epoch == epoch => match work.phase {
                Phase::AwaitsCut | Phase::Behind => {}
                Phase::Works => {
                    out.send(epoch.server, Message::Gap { epoch, end: self.replica.log().end_position() });
                    return;
                }
            },
            Some(_) | None => {
                self.work = Some(Work { epoch, phase: Phase::AwaitsCut, commit_index: self.replica.applied_index() });
                self.end_lease();
            }
        }
        out.send(epoch.server, Message::EpochStarted { epoch, tail: self.tail() });
    }

    /// Where the log ends, as another server needs to know it.
    pub fn tail(&self) -> Tail {
        let log = self.replica.log();
        let applied = self.replica.applied_index();
        Tail {
            applied: log.position_at(applied).expect("what is applied is in the log"),
            end: log.end_position(),
            epochs: log.epoch_ends(applied, TAIL_EPOCHS_MAX),
        }
    }

    /// Takes the cut that the primary answered; false, and ignored, unless it is for this very run and log end, and the
    /// first.
    pub fn cut(
        &mut self,
        my_run: RunId,
        epoch: Epoch,
        run: RunId,
        end: Position,
        keep: LogIndex,
        out: &mut Outbox,
    ) -> bool {
        let awaited = self.work.is_some_and(|work| work.epoch == epoch && work.phase == Phase::AwaitsCut);
        let applied = self.replica.applied_index();
        let again = planted(Mutant::SecondCut) && self.work.is_some_and(|work| work.epoch == epoch);
        let now_end = if again { end } else { self.replica.log().end_position() };
        if !(awaited || again) || keep < applied || run != my_run || end != now_end || keep > end.index {
            return false;
        }
        if keep < end.index {
            out.tell(Note::RolledBack { keep, end: end.index });
        }
        self.replica.cut(keep, out);
        self.work.as_mut().expect("awaited").phase = Phase::Works;
        self.confirm(out);
        true
    }

    /// The primary no longer keeps what this copy lacks; false, and ignored, unless that is said of this very run and log
    /// end. From then on it takes nothing more in this epoch, so that nothing that it confirmed is lost by a snapshot.
    pub fn told_to_be_behind(&mut self, my_run: RunId, epoch: Epoch, run: RunId, end: Position) -> bool {
        let meant = run == my_run && end == self.replica.log().end_position() && !self.differs;
        let Some(work) = self.work.as_mut().filter(|work| work.epoch == epoch && meant) else { return false };
        work.phase = Phase::Behind;
        self.end_lease();
        true
    }

    /// Whether it was told that what it lacks is no longer kept.
    pub fn waits_for_snapshot(&self) -> bool {
        self.work.is_some_and(|work| work.phase == Phase::Behind) && !self.differs
    }

    /// Whether a snapshot up to there would be of use.
    pub fn lacks(&self, index: LogIndex) -> bool {
        let waits = self.waits_for_snapshot() || planted(Mutant::SnapshotTakesAWorkingLog);
        waits && index > self.replica.applied_index()
    }

    /// The state at an index is stored: the log up to there need not be kept, but for some of it.
    pub fn forget(&mut self, index: LogIndex, entries_kept: usize) {
        self.replica.forget(index, entries_kept);
    }

    /// Takes entries of the primary (PROTOCOL 4.3).
    pub fn prepare(
        &mut self,
        epoch: Epoch,
        previous: Position,
        entries: &[Sealed],
        commit_index: LogIndex,
        out: &mut Outbox,
    ) -> Prepared {
        let Some(work) = self.work.as_mut().filter(|work| work.epoch == epoch) else {
            return Prepared::NotStarted;
        };
        if self.differs {
            return Prepared::Differs;
        }
        match work.phase {
            Phase::AwaitsCut | Phase::Behind => return Prepared::NotStarted,
            Phase::Works => {}
        }
        let log = self.replica.log();
        let Some(own) = log.position_at(previous.index) else {
            out.send(epoch.server, Message::Gap { epoch, end: log.end_position() });
            return Prepared::Taken;
        };
        if own != previous {
            return self.differ(epoch, own, out);
        }
        // All of it is looked at before any of it is taken: half a message would leave a hole between log and disk.
        let (mut position, mut newest) = (previous, log.epoch_at(previous.index));
        let mut new = Vec::new();
        for entry in entries {
            let (index, of_epoch) = (entry.index(), entry.entry().epoch);
            if position.index.next() != index || of_epoch > epoch || newest.is_some_and(|newest| of_epoch < newest) {
                out.tell(Note::Warning(format!("entries out of order in a prepare of epoch {epoch}: ignored")));
                return Prepared::Taken;
            }
            newest = Some(of_epoch);
            position = Position { index, hash: entry.extend(position.hash) };
            match log.position_at(index) {
                Some(own) if own != position => return self.differ(epoch, own, out),
                Some(_) => {}
                None => new.push(entry.clone()),
            }
        }
        let first_new = log.end().next();
        work.commit_index = work.commit_index.max(commit_index);
        for entry in new {
            self.replica.push(entry);
        }
        self.replica.persist(first_new, out);
        self.apply(out);
        if !entries.is_empty() && (self.replica.log().end() < first_new || planted(Mutant::SyncSkipped)) {
            // All of it was known: the confirmation may have been lost.
            self.confirm(out);
        }
        Prepared::Taken
    }

    fn differ(&mut self, epoch: Epoch, own: Position, out: &mut Outbox) -> Prepared {
        self.differs = true;
        out.tell(Note::Diverged { server: self.me.server, index: own.index, what: "the chain hash of the log" });
        out.send(epoch.server, Message::Diverged { epoch, index: own.index, own: own.hash });
        Prepared::Differs
    }

    /// The primary of this epoch found that this copy differs: it confirms nothing more, and is given up once it is out of
    /// the view.
    pub fn told_to_differ(&mut self, epoch: Epoch) {
        self.differs |= self.work.is_some_and(|work| work.epoch == epoch);
    }

    /// All that is stored here is right, and gives what is applied: if somebody is wrong it is the other one, and this copy may
    /// be led by another, or lead. In the present epoch it goes on confirming nothing: its primary has it for one that differs.
    pub fn examined(&mut self) {
        if self.differs {
            self.differs = false;
            self.work = None;
        }
    }

    /// Takes the news that a write of the log is durable; false where it was none of this copy's.
    ///
    /// **Errors:** [`ReadBackWrong`] where the disk gave back something else.
    pub fn persisted(&mut self, ticket: Ticket, read_back: &[Sealed], out: &mut Outbox) -> Result<bool, ReadBackWrong> {
        let before = self.replica.durable_end();
        let known = self.replica.persisted(ticket, read_back)?;
        if self.replica.durable_end() > before {
            self.apply(out);
            self.confirm(out);
        }
        Ok(known)
    }

    /// Everything that was read back while this copy works in the present epoch.
    fn confirmed(&self) -> Option<(Epoch, Position)> {
        let epoch = self.works_in()?;
        let position = self.replica.log().position_at(self.replica.durable_end());
        Some((epoch, position.expect("what is durable is in the log")))
    }

    fn confirm(&self, out: &mut Outbox) {
        let Some((epoch, position)) = self.confirmed() else { return };
        let message = Message::Confirm {
            epoch,
            position,
            applied_index: self.replica.applied_index(),
            digest: self.replica.digest(),
        };
        out.send(epoch.server, message);
    }

    /// Applies what is committed, never beyond what was confirmed in this epoch (PROTOCOL 4.4).
    fn apply(&mut self, out: &mut Outbox) {
        let Some((_, confirmed)) = self.confirmed() else { return };
        let commit_index = self.work.expect("confirmed while working").commit_index;
        let before = self.replica.applied_index();
        self.replica.apply_to(commit_index.min(confirmed.index));
        if self.replica.applied_index() > before {
            let commit = self.replica.applied_index();
            out.act(Action::NoteProgress { confirmed: confirmed.index, commit });
        }
    }

    /// Takes what the primary of the epoch in which it works grants it, with the commit index that came with it.
    pub fn granted(&mut self, now: Time, epoch: Epoch, grant: Grant, commit_index: LogIndex, drift: Drift) {
        if self.works_in() == Some(epoch) {
            self.granted.take(grant, now, commit_index, self.replica.applied_index(), drift);
        }
    }

    /// Until when it may answer linearizable reads by itself; `None` where it was granted none in this epoch.
    pub fn lease_until(&self) -> Option<Time> {
        self.granted.until.filter(|_| self.works_in().is_some())
    }

    /// When the state that is applied here was certainly the newest one; `None` where that is not known.
    pub(crate) fn newest_at(&self) -> Option<Time> {
        self.granted.newest_at
    }

    /// The epoch in which it works, or last applied something.
    pub(crate) fn worked_in(&self) -> Epoch {
        self.works_in().unwrap_or(self.replica.state().head().epoch)
    }

    /// Answers a heartbeat of the epoch in which it works; false where it works in another or none.
    pub fn echo(&mut self, now: Time, epoch: Epoch, sent_at: Time, commit_index: LogIndex, out: &mut Outbox) -> bool {
        if planted(Mutant::AppliesBeyondConfirmed) {
            self.replica.apply_to(commit_index.min(self.replica.durable_end()));
        }
        if self.works_in() != Some(epoch) {
            return false;
        }
        let work = self.work.as_mut().expect("it works");
        work.commit_index = work.commit_index.max(commit_index);
        self.apply(out);
        let (_, confirmed) = self.confirmed().expect("it works");
        let echo = Message::Echo {
            epoch,
            to_run: epoch.run,
            sent_at,
            clock: now,
            end: self.replica.log().end(),
            confirmed,
            applied_index: self.replica.applied_index(),
            digest: self.replica.digest(),
        };
        out.send(epoch.server, echo);
        true
    }
}
