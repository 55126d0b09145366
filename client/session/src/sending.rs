//! What is sent, where, and when: everything to a known primary, a scout while there is none.

use std::time::Duration;

use heirloom_proto::Time;

use crate::call::Who;
use crate::port::{Attempt, Output, Seat};
use crate::route::{Leading, OVERDUE, Route, Search};
use crate::session::Session;

/// The shortest and the longest pause after a refusal that asks for patience.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A pause that a server asked for: it is overloaded, or has not caught up with our session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Hold {
    pub(crate) until: Time,
    pause: Duration,
}

impl Hold {
    /// Waits, twice as long as the last time. Refusals that come together count as one.
    pub(crate) fn extend(&mut self, now: Time) {
        if now >= self.until {
            self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.until = now + self.pause;
        }
    }
}

impl Session {
    /// Sends what can be sent.
    pub(crate) fn send(&mut self, now: Time) {
        self.send_reads(now);
        match self.route {
            Route::Leading(leading) => {
                if now >= self.hold.until {
                    while let Some(who) = self.ready.pop_first() {
                        if !self.calls[&who].is_in_flight_at(leading.seat) {
                            self.attempt(now, who, leading.seat, leading.forward);
                        }
                    }
                }
                if self.overdue_at(leading).is_some_and(|at| now >= at) {
                    self.doubt(now, leading);
                }
            }
            Route::Search(_) => self.search(now),
        }
    }

    /// When [`Session::send`] has something to do again; there are calls.
    pub(crate) fn next_sending(&self) -> Option<Time> {
        match &self.route {
            Route::Leading(leading) => {
                let held = (!self.ready.is_empty()).then_some(self.hold.until);
                held.into_iter().chain(self.overdue_at(*leading)).min()
            }
            Route::Search(search) => self.seats.any_connected().then_some(search.next_at),
        }
    }

    fn overdue_at(&self, leading: Leading) -> Option<Time> {
        let (_, sent_at) = self.seats.place(leading.seat).oldest()?;
        Some(sent_at.max(leading.patient_from) + OVERDUE)
    }

    /// An answer is overdue: the next server is asked too. Calls that were not sent yet wait until somebody has said
    /// whether the primary still leads: were it gone, sending to it would make their outcome unknown for nothing.
    fn doubt(&mut self, now: Time, leading: Leading) {
        if self.seats.any_connected_but(leading.seat) {
            self.route = Route::Search(Search::for_overdue(now, leading.seat));
            self.search(now);
        } else {
            self.insist(now, leading);
        }
    }

    /// The primary is slow, but it leads: asks it again for the oldest call, in case that one was lost, and is patient
    /// with the others. One at a time: a primary that is slow under load must not be sent everything twice.
    pub(crate) fn insist(&mut self, now: Time, leading: Leading) {
        self.route = Route::Leading(Leading { patient_from: now, ..leading });
        let Some((who, sent_at)) = self.seats.place(leading.seat).oldest() else { return };
        if now.since(sent_at) >= OVERDUE {
            self.attempt(now, who, leading.seat, leading.forward);
        }
    }

    /// Sends the oldest call to the next server that may lead, when it is time.
    fn search(&mut self, now: Time) {
        loop {
            let Route::Search(search) = &mut self.route else { return };
            if now < search.next_at || self.calls.is_empty() {
                return;
            }
            let Some(seat) = search.candidate(&self.seats) else {
                if self.seats.any_connected() {
                    search.ends_round(now);
                }
                return;
            };
            let Some(who) = self.scout_for(seat, now) else {
                let Route::Search(search) = &mut self.route else { return };
                search.skips(seat);
                continue;
            };
            let Route::Search(search) = &self.route else { return };
            let forward = search.wants_forwarding(&self.seats, now);
            if (search.gone || search.names_unreachable(&self.seats)) && self.seats.place_mut(seat).nudge(now) {
                self.outputs.push(Output::Nudge { seat });
            }
            let scout = self.attempt(now, who, seat, forward);
            let Route::Search(search) = &mut self.route else { return };
            search.asks(scout, now);
        }
    }

    /// The oldest call that can be sent and is not being waited for at this seat.
    fn scout_for(&self, seat: Seat, now: Time) -> Option<Who> {
        let place = self.seats.place(seat);
        let waited_for = |attempt: &Attempt| {
            attempt.seat == seat && place.sent_at(attempt.number).is_some_and(|at| now.since(at) < OVERDUE)
        };
        let sendable = |(who, call): &(&Who, &crate::call::Call)| {
            self.may_be_routed(**who, call) && !call.attempts.iter().any(waited_for)
        };
        self.calls.iter().find(sendable).map(|(who, _)| *who)
    }

    pub(crate) fn attempt(&mut self, now: Time, who: Who, seat: Seat, forward: bool) -> Attempt {
        self.attempts_made += 1;
        let attempt = Attempt { seat, number: self.attempts_made };
        let call = self.calls.get_mut(&who).expect("what is sent is a call");
        let numbers = &self.numbers;
        let request = call.request(|number| numbers.lowest_unanswered_for(number), self.seen);
        call.attempts.push(attempt);
        self.ready.remove(&who);
        self.unspread.remove(&who);
        self.seats.place_mut(seat).sent(attempt.number, who, now);
        self.outputs.push(Output::Send { attempt, request, forward });
        attempt
    }

    /// Somebody leads: everything that is not in flight there goes there.
    pub(crate) fn follow(&mut self, now: Time, seat: Seat, forward: bool) {
        if let Route::Leading(leading) = self.route
            && leading.seat == seat
        {
            return;
        }
        self.route = Route::Leading(Leading { seat, patient_from: now, forward });
        let elsewhere =
            self.calls.iter().filter(|(who, call)| self.may_be_routed(**who, call) && !call.is_in_flight_at(seat));
        let elsewhere: Vec<Who> = elsewhere.map(|(who, _)| *who).collect();
        for who in elsewhere {
            self.unspread.remove(&who);
            self.ready.insert(who);
        }
    }

    /// Whether a call takes the way of all others: not where it lacks its number, where a server that may answer it by
    /// itself has it, or where it is for one server alone.
    fn may_be_routed(&self, who: Who, call: &crate::call::Call) -> bool {
        let is_spread = |attempt: &Attempt| self.seats.place(attempt.seat).is_spread(attempt.number);
        !call.lacks_number() && self.asked_of(who).is_none() && !call.attempts.iter().any(is_spread)
    }
}
