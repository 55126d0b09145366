//! Commit: an entry is committed when every member of the view has confirmed it (PROTOCOL 4.4 and 4.5).

use heirloom_proto::event::{Action, Note};
use heirloom_proto::limits::IN_FLIGHT_ENTRIES_MAX;
use heirloom_proto::{ChainHash, Digest, Epoch, LogIndex, Message, Mutant, Outbox, Peer, Position, planted};

use crate::copies::{Copy, Phase};
use crate::primary::{Primary, Setting};

/// In what a copy differs from the primary, as the copy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Difference {
    Log(Position),
    State(LogIndex, Digest),
}

impl Primary {
    /// The copy that a message of this epoch is from, if it is from the run that works here.
    pub(crate) fn copy_of(&mut self, from: Peer, epoch: Epoch) -> Option<&mut Copy> {
        if epoch != self.view.epoch {
            return None;
        }
        self.copies.get_mut(&from.server).filter(|copy| copy.peer == Some(from))
    }

    /// Takes a confirmation. True where the primary is wrong, and must step down.
    #[must_use]
    pub fn confirmed(
        &mut self,
        from: Peer,
        epoch: Epoch,
        position: Position,
        applied: (LogIndex, Digest),
        setting: Setting<'_>,
        out: &mut Outbox,
    ) -> bool {
        let log = self.replica.log();
        // What is forgotten can't be compared; the next confirmation says the same of all before it.
        let same = position.index < log.base() || log.position_at(position.index) == Some(position);
        let digest_differs = self.digest_at(applied.0).is_some_and(|digest| digest != applied.1);
        let Some(copy) = self.copy_of(from, epoch).filter(|copy| copy.works()) else { return false };
        if !same {
            return self.found_to_differ(from, Difference::Log(position), out);
        }
        if digest_differs && !planted(Mutant::DigestNotCompared) {
            return self.found_to_differ(from, Difference::State(applied.0, applied.1), out);
        }
        copy.confirm(setting.now, position.index);
        self.try_commit(setting, out);
        false
    }

    /// The digest of the state at an applied index, where it is remembered.
    fn digest_at(&self, index: LogIndex) -> Option<Digest> {
        let ago = usize::try_from(self.replica.applied_index().0.checked_sub(index.0)?).ok()?;
        self.digests.len().checked_sub(ago + 1).map(|position| self.digests[position])
    }

    /// Takes a copy's word that its log says otherwise. True where the primary is wrong, and must step down.
    #[must_use]
    pub fn accused(&mut self, from: Peer, epoch: Epoch, index: LogIndex, hash: ChainHash, out: &mut Outbox) -> bool {
        let known = self.copy_of(from, epoch).is_some();
        known && self.found_to_differ(from, Difference::Log(Position { index, hash }), out)
    }

    /// A copy differs: it is fed no more, is to go, and is told. Where two agree against the primary it is the primary
    /// that is wrong: true, and it must step down (PROTOCOL 4.5).
    pub(crate) fn found_to_differ(&mut self, from: Peer, difference: Difference, out: &mut Outbox) -> bool {
        let epoch = self.view.epoch;
        if let Some(copy) = self.copies.get_mut(&from.server) {
            copy.phase = Phase::Differs;
        }
        let (index, what, own) = match difference {
            Difference::Log(position) => (position.index, "the chain hash of the log", position.hash),
            Difference::State(index, digest) => (index, "the digest of the state", ChainHash(digest.0)),
        };
        out.tell(Note::Diverged { server: from.server, index, what });
        out.send(from.server, Message::Diverged { epoch, index, own });
        self.differences.insert(from.server, difference);
        self.differences.values().filter(|other| **other == difference).count() >= 2
    }

    /// Commits what every member has confirmed, if this primary may commit at all.
    pub(crate) fn try_commit(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        if self.frozen || !self.unsettled.is_empty() && !planted(Mutant::NoLeaseWait) {
            return;
        }
        let confirmed = self
            .others()
            .skip(usize::from(planted(Mutant::OneConfirmationMissing)))
            .map(|(member, copy)| if copy.is(member) { copy.confirmed } else { LogIndex::ZERO })
            .fold(self.replica.durable_end(), LogIndex::min);
        if confirmed < self.marker || confirmed <= self.replica.applied_index() {
            return;
        }
        let served = self.serves();
        while self.replica.applied_index() < confirmed {
            self.commit_next(out);
        }
        let commit = self.replica.applied_index();
        out.act(Action::NoteProgress { confirmed: self.replica.durable_end(), commit });
        if !served {
            out.tell(Note::Serving { epoch: self.view.epoch });
            self.answer_reads(setting, out);
        }
    }

    fn commit_next(&mut self, out: &mut Outbox) {
        let sealed = self.replica.apply_next();
        let entry = sealed.entry();
        self.overlay.applied(entry, sealed.bytes().len());
        self.digests.push_back(self.replica.digest());
        if self.digests.len() as u64 > IN_FLIGHT_ENTRIES_MAX {
            self.digests.pop_front();
        }
        for token in self.callers.remove(&entry.index).unwrap_or_default() {
            out.respond(token, self.response(entry.answer, entry.version));
        }
    }
}
