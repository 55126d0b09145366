//! What an answer or a refusal says: of its call, of the session, and of who leads.

use heirloom_proto::{Epoch, Refusal, Request, Response, ServerId, Time};

use crate::call::{Call, Number, Task, Who};
use crate::outcome::{Answer, Heard, Reason};
use crate::port::{Attempt, Output, Seat};
use crate::route::{Leading, Route, Search};
use crate::session::Session;

impl Session {
    pub(crate) fn answered(&mut self, now: Time, attempt: Attempt, response: Response, server: Option<ServerId>) {
        let place = self.seats.place_mut(attempt.seat);
        place.refusal = None;
        let server = server.or(place.server);
        let spread = place.is_spread(attempt.number);
        match response {
            Response::Found { .. } | Response::NotFound { .. } => place.read_answered(now, attempt.number),
            // How long it takes to fill a page says nothing of how near a server is.
            Response::Scanned { .. } => place.page_answered(),
            Response::SessionOpened { .. }
            | Response::SessionClosed
            | Response::Changed { .. }
            | Response::Appended { .. }
            | Response::NotMet { .. }
            | Response::Promoted { .. }
            | Response::Fenced => {}
        }
        let Some(who) = place.take(attempt.number) else {
            return self.answered_late(attempt, &response);
        };
        self.forget_attempt(who, attempt);
        // What one server answers for its part says nothing of the primary's load.
        if !spread && self.asked_of(who).is_none() {
            self.hold = crate::sending::Hold::default();
        }
        self.learn_version(&response);
        let vouches = matches!(
            self.calls.get(&who).map(|call| &call.task),
            Some(Task::Read { lookup, .. }) if lookup.is_linearizable()
        );
        self.learn_primary(now, attempt, &response, Source { spread, vouches });
        match response {
            Response::SessionOpened { session } => self.numbers.open(session),
            Response::SessionClosed => {
                if let Some(Call { task: Task::Close(session), .. }) = self.calls.get(&who) {
                    let session = *session;
                    self.numbers.forget(session);
                }
            }
            Response::Changed { .. }
            | Response::Appended { .. }
            | Response::NotMet { .. }
            | Response::Found { .. }
            | Response::NotFound { .. }
            | Response::Scanned { .. }
            | Response::Promoted { .. }
            | Response::Fenced => {}
        }
        self.finish(who, Ok(Answer { response, server }));
    }

    /// The call was answered by another attempt, or is over. A session that was opened once too often is closed again:
    /// the servers keep a bounded number of them.
    fn answered_late(&mut self, attempt: Attempt, response: &Response) {
        let Response::SessionOpened { session } = response else { return };
        if self.numbers.session() != Some(*session) && self.seats.place(attempt.seat).connected {
            self.attempts_made += 1;
            let attempt = Attempt { seat: attempt.seat, number: self.attempts_made };
            self.outputs.push(Output::Send { attempt, request: Request::CloseSession(*session), forward: true });
        }
    }

    pub(crate) fn refused(&mut self, now: Time, attempt: Attempt, refusal: Refusal) {
        let place = self.seats.place_mut(attempt.seat);
        let spread = place.is_spread(attempt.number);
        let Some(who) = place.take(attempt.number) else { return };
        place.refusal = Some(refusal.clone());
        if matches!(refusal, Refusal::NotPrimary { .. } | Refusal::Overloaded) && spread {
            place.hold_off(now);
            if let Route::Search(search) = &mut self.route
                && search.scout.is_none()
            {
                search.skips(attempt.seat);
                search.goes_on(now);
            }
        }
        self.forget_attempt(who, attempt);
        let call = self.calls.get_mut(&who).expect("what is in flight belongs to a call");
        call.hear(attempt.seat, Heard::Refused(refusal.clone()));
        self.queue_again(who);
        let alone = self.asked_of(who).is_some();
        if alone {
            self.seats.place_mut(attempt.seat).hold_off(now);
        }
        let for_its_part = spread || alone;
        match refusal {
            // A server that was asked because it may read says nothing of who leads by not reading.
            Refusal::NotPrimary { .. } | Refusal::Recovering
                if for_its_part && matches!(self.route, Route::Leading(_)) => {}
            Refusal::Overloaded if for_its_part => {}
            Refusal::NotPrimary { primary } => self.turned_away(now, attempt, primary),
            Refusal::Recovering => self.turned_away(now, attempt, None),
            Refusal::OutcomeUnknown => {
                self.calls.get_mut(&who).expect("looked up above").uncertain = true;
                self.turned_away(now, attempt, None);
            }
            Refusal::Overloaded => self.told_to_wait(now, attempt),
            Refusal::VersionTooOld { .. } if !alone && self.asks_another(now, who) => {}
            Refusal::SessionUnknown => self.session_unknown(now, attempt, who),
            Refusal::SessionExpired => self.session_expired(now, attempt, who),
            Refusal::SequenceAnswered { .. }
            | Refusal::BadKey { .. }
            | Refusal::BadValue { .. }
            | Refusal::BadSet { .. }
            | Refusal::BadSequence
            | Refusal::BadServer { .. }
            | Refusal::VersionAhead { .. }
            | Refusal::VersionTooOld { .. }
            | Refusal::OtherCluster
            | Refusal::HandOverCalledOff => self.refused_for_good(now, attempt, who, refusal),
        }
    }

    /// Asks a server that was not asked yet for a page that the one asked no longer has: one that began with a snapshot does
    /// not know what was before. False where there is none.
    fn asks_another(&mut self, now: Time, who: Who) -> bool {
        let call = &self.calls[&who];
        let another = self.seats.all().find(|(seat, place)| place.connected && call.heard_at(*seat).is_none());
        let Some((seat, _)) = another else { return false };
        let attempt = self.attempt(now, who, seat, false);
        self.seats.place_mut(seat).spread(attempt.number);
        true
    }

    fn forget_attempt(&mut self, who: Who, attempt: Attempt) {
        let call = self.calls.get_mut(&who).expect("what is in flight belongs to a call");
        call.attempts.retain(|other| *other != attempt);
    }

    /// Causal reads see no less than any answer before.
    fn learn_version(&mut self, response: &Response) {
        let version = match response {
            Response::Changed { version, .. }
            | Response::Appended { version, .. }
            | Response::NotMet { version, .. } => *version,
            Response::Found { seen, .. } | Response::NotFound { seen } | Response::Scanned { seen, .. } => seen.version,
            Response::SessionOpened { .. } | Response::SessionClosed | Response::Promoted { .. } | Response::Fenced => {
                return;
            }
        };
        self.seen = self.seen.max(version);
    }

    /// Answers name the epoch, and the epoch names its primary.
    fn learn_primary(&mut self, now: Time, attempt: Attempt, response: &Response, source: Source) {
        // A read that was forwarded is the primary's answer, as a change is.
        let (epoch, is_read) = match response {
            Response::Changed { epoch, .. } | Response::Appended { epoch, .. } | Response::NotMet { epoch, .. } => {
                (Some(*epoch), false)
            }
            Response::Found { seen, .. } | Response::NotFound { seen } | Response::Scanned { seen, .. } => {
                (Some(seen.epoch), seen.local)
            }
            Response::SessionOpened { .. } | Response::SessionClosed | Response::Promoted { .. } | Response::Fenced => {
                (None, false)
            }
        };
        let leads = epoch.and_then(|epoch| self.seats.connected_seat_of(epoch.server));
        // An old primary's answer may come after a new one's.
        let newest = epoch.is_some_and(|epoch| epoch >= self.epoch);
        let newer = epoch.is_some_and(|epoch| epoch > self.epoch);
        self.epoch = self.epoch.max(epoch.unwrap_or(Epoch::NONE));
        match &mut self.route {
            // Any member answers reads: under a primary that has just fallen silent, too.
            Route::Leading(_) => {
                if let Some(leads) = leads.filter(|_| newer || newest && !is_read) {
                    self.follow(now, leads, false);
                }
            }
            Route::Search(search) if is_read => {
                let suspect = search.suspect;
                let itself = leads == Some(attempt.seat);
                let trusted = |leads: &Seat| !source.spread && suspect != Some(*leads) && !search.gone;
                match leads.filter(|leads| newer || newest && (itself || trusted(leads))) {
                    Some(leads) => self.follow(now, leads, false),
                    // Another server answers under a lease that the primary gave it, whose own answer is overdue.
                    None if search.scout == Some(attempt) && source.vouches && leads.is_some() && leads == suspect => {
                        let seat = leads.expect("looked at just now");
                        self.insist(now, Leading { seat, patient_from: now, forward: false });
                    }
                    None if search.scout == Some(attempt) => search.goes_on(now),
                    None => {}
                }
            }
            Route::Search(search) => {
                let forward = leads.is_none() && search.wants_forwarding(&self.seats, now);
                self.follow(now, leads.unwrap_or(attempt.seat), forward);
            }
        }
    }

    /// The server asked does not lead: go where it points, or to the next.
    fn turned_away(&mut self, now: Time, attempt: Attempt, hint: Option<ServerId>) {
        match &mut self.route {
            Route::Leading(leading) if leading.seat == attempt.seat => {
                self.route = Route::Search(Search::for_deposed(now, attempt.seat, hint));
            }
            Route::Leading(_) => {}
            Route::Search(search) => {
                search.hint = hint.or(search.hint);
                let was_scout = search.scout == Some(attempt);
                if was_scout {
                    search.goes_on(now);
                }
                let vouched = hint.and_then(|server| self.seats.connected_seat_of(server));
                match search.suspect {
                    // Another server says that the primary whose answer is overdue still leads.
                    Some(suspect) if was_scout && vouched == Some(suspect) && suspect != attempt.seat => {
                        self.insist(now, Leading { seat: suspect, patient_from: now, forward: false });
                    }
                    Some(_) | None => {}
                }
            }
        }
    }

    /// A refusal that asks for patience.
    fn told_to_wait(&mut self, now: Time, attempt: Attempt) {
        self.hold.extend(now);
        if let Route::Search(search) = &mut self.route
            && search.scout == Some(attempt)
        {
            search.goes_on(now);
        }
    }

    fn session_unknown(&mut self, now: Time, attempt: Attempt, who: Who) {
        self.told_to_wait(now, attempt);
        let Some(number) = self.calls.get(&who).and_then(|call| call.number) else { return };
        if self.numbers.is_unknown_for_too_long(number.session, now) {
            self.give_up_session(who, number);
        }
    }

    fn session_expired(&mut self, now: Time, attempt: Attempt, who: Who) {
        if let Route::Search(search) = &mut self.route
            && search.scout == Some(attempt)
        {
            search.goes_on(now);
        }
        if let Some(number) = self.calls.get(&who).and_then(|call| call.number) {
            self.give_up_session(who, number);
        }
    }

    /// The session is gone. A change that may have been carried out under it stays unknown for ever; one that certainly
    /// was not gets a number of the next session, and so do all others of this session that were not sent.
    fn give_up_session(&mut self, who: Who, gone: Number) {
        self.numbers.forget(gone.session);
        if !self.calls[&who].is_certainly_not_applied() {
            self.fail(who, Reason::SessionExpired);
        }
        let all: Vec<Who> = self.ready.iter().copied().chain([who]).collect();
        for who in all {
            self.unnumber(who, gone);
        }
    }

    /// Neither another server nor another time would make a difference.
    fn refused_for_good(&mut self, now: Time, attempt: Attempt, who: Who, refusal: Refusal) {
        match who {
            // Nothing is wrong with the opening of a session that the next moment could not mend.
            Who::Opening => self.told_to_wait(now, attempt),
            Who::Call(_) => {
                if let Route::Search(search) = &mut self.route
                    && search.scout == Some(attempt)
                {
                    search.goes_on(now);
                }
                if matches!(refusal, Refusal::SequenceAnswered { .. }) {
                    self.calls.get_mut(&who).expect("it was refused just now").uncertain = true;
                }
                self.fail(who, Reason::Refused(refusal));
            }
        }
    }
}

/// What an answer is worth as a word about who leads.
#[derive(Clone, Copy, Debug)]
struct Source {
    /// It was sent to a server because it may read, not because it may lead.
    spread: bool,
    /// It was given under a lease, or by the primary.
    vouches: bool,
}
