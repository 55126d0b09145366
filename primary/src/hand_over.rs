//! The planned hand-over (PROTOCOL 6): nothing lost, no error seen by clients.

use std::time::Duration;

use heirloom_proto::{Message, Outbox, Refusal, Response, RunId, ServerId, Time, Token};

use crate::primary::{Primary, Setting};

/// How long the target has to confirm everything, and the view to settle.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// A hand-over under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandOver {
    pub(crate) token: Token,
    pub(crate) target: ServerId,
    run: RunId,
    /// When it is called off.
    deadline: Time,
    /// Whether the target was told to propose.
    sent: bool,
}

impl Primary {
    pub(crate) fn hand_over_to(&mut self, token: Token, target: ServerId, setting: Setting<'_>, out: &mut Outbox) {
        if target == self.me.server {
            return out.respond(token, Ok(Response::Promoted { primary: target }));
        }
        let refuse = |out: &mut Outbox, reason| out.respond(token, Err(Refusal::BadServer { reason }));
        match setting.config.constants.kind(target) {
            None => return refuse(out, "the cluster has no such server: see `heirloom status`"),
            Some(heirloom_proto::VoterKind::Witness) => {
                return refuse(out, "it is a witness and keeps no data: name a data server");
            }
            Some(heirloom_proto::VoterKind::Data) => {}
        }
        if self.hand_over.is_some() || self.frozen || !self.serves() {
            // The members are changing: that passes, so whoever asked waits for it as for a primary.
            return out.respond(token, Err(Refusal::NotPrimary { primary: None }));
        }
        let run = self.others().find(|(member, copy)| member.server == target && copy.is(*member) && copy.works());
        let Some(run) = run.and_then(|(_, copy)| copy.peer).map(|peer| peer.run) else {
            return refuse(out, "it is not a member of the view now: wait until `heirloom status` shows it as backup");
        };
        let deadline = setting.now + CATCH_UP_MAX;
        self.hand_over = Some(HandOver { token, target, run, deadline, sent: false });
        self.advance_hand_over(setting, out);
    }

    /// Goes on with a hand-over: the target is told when everything is committed and it has all of it.
    pub(crate) fn advance_hand_over(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        let end = self.replica.log().end();
        let all_committed = self.replica.applied_index() == end;
        let epoch = self.view.epoch;
        let Some(hand_over) = self.hand_over.as_mut().filter(|hand_over| !hand_over.sent) else { return };
        if all_committed && self.copies.get(&hand_over.target).is_some_and(|copy| copy.confirmed == end) {
            hand_over.sent = true;
            hand_over.deadline = setting.now + setting.config.suspicion;
            out.send(hand_over.target, Message::HandOver { epoch, to_run: hand_over.run });
        }
    }

    /// Calls a hand-over off that takes too long. True where the target had been told, so that the primary must propose
    /// above whatever that promised.
    #[must_use]
    pub fn call_off_hand_over(&mut self, setting: Setting<'_>, out: &mut Outbox) -> bool {
        let Some(hand_over) = self.hand_over.take_if(|hand_over| setting.now >= hand_over.deadline) else {
            return false;
        };
        out.respond(hand_over.token, Err(Refusal::HandOverCalledOff));
        if !hand_over.sent {
            self.take_up_held(setting, out);
        }
        hand_over.sent
    }

    /// Carries out the changes that waited.
    pub(crate) fn take_up_held(&mut self, setting: Setting<'_>, out: &mut Outbox) {
        if self.frozen {
            return;
        }
        for held in std::mem::take(&mut self.held) {
            self.request(held.token, held.request, held.at, setting, out);
        }
    }

    /// When a hand-over under way is called off.
    pub fn hand_over_deadline(&self) -> Option<Time> {
        self.hand_over.as_ref().map(|hand_over| hand_over.deadline)
    }

    /// Whether the target of a hand-over has been told to propose: its promise is waited for, not fought.
    pub fn has_handed_over(&self) -> bool {
        self.hand_over.as_ref().is_some_and(|hand_over| hand_over.sent)
    }
}
