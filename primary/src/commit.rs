//! Commit: an entry is committed when every member of the view has confirmed it (PROTOCOL 4.4 and 4.5).

use heirloom_proto::event::{Action, Note};
use heirloom_proto::limits::IN_FLIGHT_ENTRIES_MAX;
use heirloom_proto::{ChainHash, Digest, Epoch, LogIndex, Outbox, Peer, Position};

use crate::copies::{Copy, Phase};
use crate::primary::{Primary, Setting};

impl Primary {
    /// The copy that a message of this epoch is from, if it is from the run that works here.
    pub(crate) fn copy_of(&mut self, from: Peer, epoch: Epoch) -> Option<&mut Copy> {
        if epoch != self.view.epoch {
            return None;
        }
        self.copies.get_mut(&from.server).filter(|copy| copy.peer == Some(from))
    }

    /// Takes a confirmation.
    pub fn confirmed(
        &mut self,
        from: Peer,
        epoch: Epoch,
        position: Position,
        applied: (LogIndex, Digest),
        setting: Setting<'_>,
        out: &mut Outbox,
    ) {
        let own = self.replica.log().position_at(position.index);
        let digest_differs = self.digest_at(applied.0).is_some_and(|digest| digest != applied.1);
        let Some(copy) = self.copy_of(from, epoch).filter(|copy| copy.works()) else { return };
        if own != Some(position) || digest_differs {
            copy.phase = Phase::Differs;
            let (index, what) = if digest_differs {
                (applied.0, "the digest of the state")
            } else {
                (position.index, "the chain hash of the log")
            };
            out.tell(Note::Diverged { server: from.server, index, what });
            return;
        }
        copy.confirm(setting.now, position.index);
        self.try_commit(setting, out);
    }

    /// The digest of the state at an applied index, where it is remembered.
    fn digest_at(&self, index: LogIndex) -> Option<Digest> {
        let ago = usize::try_from(self.replica.applied_index().0.checked_sub(index.0)?).ok()?;
        self.digests.len().checked_sub(ago + 1).map(|position| self.digests[position])
    }

    /// Takes a member's word that its log says otherwise. Where two members agree against the primary it is the primary
    /// that is wrong: true, and it must step down.
    #[must_use]
    pub fn accused(&mut self, from: Peer, epoch: Epoch, index: LogIndex, own: ChainHash) -> bool {
        let Some(copy) = self.copy_of(from, epoch) else { return false };
        copy.phase = Phase::Differs;
        self.accusers.insert(from.server, (index, own));
        self.accusers.values().filter(|word| **word == (index, own)).count() >= 2
    }

    /// Commits what every member has confirmed, if this primary may commit at all.
    pub(crate) fn try_commit(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        if self.frozen || !self.unsettled.is_empty() {
            return;
        }
        let confirmed = self
            .others()
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
