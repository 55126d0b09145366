//! Snapshots: what a node does once the runtime has stored one of its own, or fetched one of another's (PROTOCOL 9).
//!
//! A node knows nothing of files. Of its own snapshots it hears that they are durable, and forgets the log behind them. As a
//! copy that lacks what its primary has forgotten it asks for the primary's, goes on voting while that is fetched, and ends
//! its run once it is there.

use heirloom_proto::event::{Action, Cause};
use heirloom_proto::{Epoch, LogIndex, Mutant, Outbox, Position, RunId, planted};

use crate::node::{Node, Role};

impl Node {
    pub(crate) fn snapshotted(&mut self, index: LogIndex, entries_kept: usize) {
        match &mut self.role {
            Role::Copy(backup) => backup.forget(index, entries_kept),
            Role::Primary(primary) => primary.forget(index, entries_kept),
            Role::Witness | Role::Over => {}
        }
    }

    /// The primary no longer keeps what this copy lacks.
    pub(crate) fn told_to_be_behind(
        &mut self,
        epoch: Epoch,
        run: RunId,
        end: Position,
        base: LogIndex,
        out: &mut Outbox,
    ) {
        let (me, my_run) = (self.me(), self.run());
        // What a member has confirmed must not be lost: only who stands outside the view of this very epoch gives its log
        // away, for whoever leads after it has what the members have (docs/decisions/0014).
        let outside = self.register.accepted.as_ref().is_some_and(|view| view.epoch == epoch && !view.has(me))
            || planted(Mutant::MemberGivesItsLogAway);
        let Role::Copy(backup) = &mut self.role else { return };
        if outside && self.register.promised == epoch && backup.told_to_be_behind(my_run, epoch, run, end) {
            out.act(Action::FetchSnapshot { from: epoch.server, at_least: base });
        }
    }

    pub(crate) fn snapshot_fetched(&mut self, index: LogIndex, out: &mut Outbox) {
        if let Role::Copy(backup) = &self.role
            && backup.lacks(index)
        {
            self.halt(Cause::SnapshotFetched, None, out);
        }
    }
}
