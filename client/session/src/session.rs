//! The session as a whole: one flat `match` over what may happen, and the calls' lives from asking to the end.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_proto::{Epoch, Time, Version, limits};

use crate::call::{Call, Number, Task, Who};
use crate::numbers::Numbers;
use crate::outcome::{Answer, Failure, Heard, NotApplied, Outcome, Reason, Tried, Unknown};
use crate::port::{Attempt, CallId, Input, Operation, Output, Seat};
use crate::route::{Leading, Route, Search};
use crate::seats::Seats;
use crate::sending::Hold;

/// One client's session with a cluster; see the head of the crate.
///
/// **Invariants** (see [`Session::check_invariants`])
/// - Every call is in flight somewhere, ready to be sent, or waits for a number; and has its deadline noted.
/// - Nothing is in flight at a seat that is not connected.
/// - A call ends once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    pub(crate) seats: Seats,
    pub(crate) route: Route,
    pub(crate) numbers: Numbers,
    pub(crate) calls: BTreeMap<Who, Call>,
    /// To be sent as soon as there is somebody to send to.
    pub(crate) ready: BTreeSet<Who>,
    /// Reads that were sent nowhere yet, or wait for the one server that they are asked of.
    pub(crate) unspread: BTreeSet<Who>,
    /// Changes that wait for the session to be opened, or for room in its window.
    pub(crate) unnumbered: BTreeSet<Who>,
    pub(crate) deadlines: BTreeSet<(Time, Who)>,
    pub(crate) attempts_made: u64,
    pub(crate) reads_spread: u64,
    /// The highest version that an answer named.
    pub(crate) seen: Version,
    /// The highest epoch that an answer named.
    pub(crate) epoch: Epoch,
    pub(crate) hold: Hold,
    pub(crate) outputs: Vec<Output>,
}

impl Session {
    /// A session of a client that knows this many addresses, none of them connected.
    pub fn new(seats: usize) -> Self {
        Self {
            seats: Seats::new(seats),
            route: Route::Search(Search::at_first()),
            numbers: Numbers::default(),
            calls: BTreeMap::new(),
            ready: BTreeSet::new(),
            unspread: BTreeSet::new(),
            unnumbered: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            attempts_made: 0,
            reads_spread: 0,
            seen: Version(0),
            epoch: Epoch::NONE,
            hold: Hold::default(),
            outputs: Vec::new(),
        }
    }

    /// What to do about what happened.
    ///
    /// **Panics if** a call's id is in use.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Output> {
        match input {
            Input::Call { call, operation, deadline } => self.call(now, call, operation, deadline),
            Input::Cancel { call } => drop(self.remove(Who::Call(call))),
            Input::Connected { seat, server } => self.connected(now, seat, server),
            Input::Broken { seat } => self.broken(now, seat),
            Input::Learnt { seat, server } => self.seats.place_mut(seat).server = Some(server),
            Input::Answered { attempt, response, server } => self.answered(now, attempt, response, server),
            Input::Refused { attempt, refusal } => self.refused(now, attempt, refusal),
            Input::Deadline => {}
        }
        self.expire(now);
        self.number();
        self.send(now);
        std::mem::take(&mut self.outputs)
    }

    /// When to come back with [`Input::Deadline`], unless something else happens before; `None` while nobody waits.
    pub fn next_deadline(&self) -> Option<Time> {
        let (expiry, _) = self.deadlines.first()?;
        Some(self.next_sending().into_iter().chain(self.next_reading()).fold(*expiry, Time::min))
    }

    /// How many calls are under way. A driver that has no bound of its own would let them grow without one.
    pub fn calls_under_way(&self) -> usize {
        self.calls.len() - usize::from(self.calls.contains_key(&Who::Opening))
    }

    /// The id of the open session, where there is one.
    pub fn id(&self) -> Option<heirloom_proto::SessionId> {
        self.numbers.session()
    }

    /// Who is taken to be the primary right now.
    pub fn primary(&self) -> Option<Seat> {
        match &self.route {
            Route::Leading(Leading { seat, forward: false, .. }) => Some(*seat),
            Route::Leading(_) | Route::Search(_) => None,
        }
    }

    fn call(&mut self, now: Time, call: CallId, operation: Operation, deadline: Time) {
        let who = Who::Call(call);
        assert!(!self.calls.contains_key(&who), "{call:?} is under way already");
        let Some(task) = Call::task_of(operation, self.numbers.session()) else {
            let answer = Answer { response: heirloom_proto::Response::SessionClosed, server: None };
            self.outputs.push(Output::Done { call, outcome: Ok(answer) });
            return;
        };
        if self.calls.is_empty() {
            self.hold = Hold::default();
            if let Route::Search(search) = &mut self.route {
                search.refresh(now);
            }
        }
        // While reads alone were under way there was perhaps nothing to search with.
        if let (Route::Search(search), Task::Change(_)) = (&mut self.route, &task)
            && search.scout.is_none()
        {
            search.goes_on(now);
        }
        self.admit(who, Call::new(task, deadline));
    }

    pub(crate) fn admit(&mut self, who: Who, call: Call) {
        let queue = match call.task {
            Task::Read { .. } => &mut self.unspread,
            Task::Change(_) => &mut self.unnumbered,
            Task::Open | Task::Close(_) => &mut self.ready,
        };
        queue.insert(who);
        self.deadlines.insert((call.deadline, who));
        self.calls.insert(who, call);
    }

    fn connected(&mut self, now: Time, seat: Seat, server: Option<heirloom_proto::ServerId>) {
        let place = self.seats.place_mut(seat);
        place.connected = true;
        place.server = server.or(place.server);
        if let Route::Search(search) = &mut self.route {
            search.welcomes(seat, now);
        }
    }

    fn broken(&mut self, now: Time, seat: Seat) {
        let place = self.seats.place_mut(seat);
        place.connected = false;
        place.refusal = None;
        for (number, who) in place.take_all() {
            let call = self.calls.get_mut(&who).expect("what is in flight belongs to a call");
            call.attempts.retain(|attempt| attempt.number != number);
            // It may have arrived, and it may be carried out even now: whoever sends it again uses the same number.
            call.uncertain = true;
            call.hear(seat, Heard::ConnectionLost);
            self.spread_again(who);
        }
        match &mut self.route {
            Route::Leading(leading) if leading.seat == seat => {
                self.route = Route::Search(Search::for_lost(now));
            }
            Route::Leading(_) => {}
            Route::Search(search) => {
                search.gone |= search.suspect == Some(seat);
                if search.scout.is_some_and(|scout| scout.seat == seat) {
                    search.goes_on(now);
                }
            }
        }
    }

    fn expire(&mut self, now: Time) {
        let due: Vec<Who> =
            self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, who)| *who).collect();
        // The opening last: a change that waited for it is told what came of it.
        let (opening, calls): (Vec<Who>, Vec<Who>) = due.into_iter().partition(|who| *who == Who::Opening);
        for who in calls.into_iter().chain(opening) {
            self.fail(who, Reason::OutOfTime);
        }
    }

    /// Gives numbers to waiting changes, in order, as far as the window reaches; opens a session where there is none.
    fn number(&mut self) {
        let Some(last) = self.unnumbered.last() else { return };
        if self.numbers.session().is_none() {
            let deadline = self.calls[last].deadline;
            return self.open(deadline);
        }
        while let Some(who) = self.unnumbered.first().copied() {
            let Some(number) = self.numbers.take() else { return };
            self.unnumbered.remove(&who);
            self.calls.get_mut(&who).expect("whoever waits is a call").number = Some(number);
            self.ready.insert(who);
        }
    }

    /// Keeps an opening under way for as long as the last change waits for it.
    fn open(&mut self, deadline: Time) {
        match self.calls.get_mut(&Who::Opening) {
            None => self.admit(Who::Opening, Call::new(Task::Open, deadline)),
            Some(opening) if opening.deadline < deadline => {
                self.deadlines.remove(&(opening.deadline, Who::Opening));
                self.deadlines.insert((deadline, Who::Opening));
                opening.deadline = deadline;
            }
            Some(_) => {}
        }
    }

    /// Ends a call without an answer.
    pub(crate) fn fail(&mut self, who: Who, reason: Reason) {
        let Some(call) = self.calls.get(&who) else { return };
        let tried = self.tried(call);
        let failure = if call.is_certainly_not_applied() {
            Failure::NotApplied(NotApplied { reason, tried })
        } else {
            Failure::Unknown(Unknown { reason, tried })
        };
        self.finish(who, Err(failure));
    }

    /// Ends a call.
    pub(crate) fn finish(&mut self, who: Who, outcome: Outcome) {
        if self.remove(who).is_none() {
            return;
        }
        match who {
            Who::Call(call) => self.outputs.push(Output::Done { call, outcome }),
            Who::Opening => {}
        }
    }

    fn remove(&mut self, who: Who) -> Option<Call> {
        let call = self.calls.remove(&who)?;
        self.deadlines.remove(&(call.deadline, who));
        self.ready.remove(&who);
        self.unspread.remove(&who);
        self.unnumbered.remove(&who);
        for Attempt { seat, number } in &call.attempts {
            self.seats.place_mut(*seat).take(*number);
        }
        if let Some(number) = call.number {
            self.numbers.settle(number);
        }
        Some(call)
    }

    /// Gives a change whose session is gone another number later, if nothing was or will be applied by it so far.
    pub(crate) fn unnumber(&mut self, who: Who, gone: Number) {
        let Some(call) = self.calls.get_mut(&who) else { return };
        if call.number.map(|number| number.session) == Some(gone.session) && call.is_certainly_not_applied() {
            call.number = None;
            self.ready.remove(&who);
            self.unnumbered.insert(who);
        }
    }

    fn tried(&self, call: &Call) -> Vec<Tried> {
        // A change that waits for a session was not sent itself, but the session's opening was.
        let ahead = self.calls.get(&Who::Opening).filter(|_| call.lacks_number());
        let heard = |seat| call.heard_at(seat).or_else(|| ahead.and_then(|ahead| ahead.heard_at(seat)));
        self.seats
            .all()
            .map(|(seat, place)| {
                let heard = heard(seat).unwrap_or_else(|| match (&place.refusal, place.connected) {
                    (_, false) => Heard::NotConnected,
                    (Some(refusal), true) => Heard::Refused(refusal.clone()),
                    (None, true) if place.waits() => Heard::NoAnswer,
                    (None, true) => Heard::NotAsked,
                });
                Tried { seat, server: place.server, heard }
            })
            .collect()
    }

    /// Asserts what always holds.
    ///
    /// **Panics if** it doesn't.
    pub fn check_invariants(&self) {
        self.numbers.check_invariants();
        assert!(self.outputs.is_empty(), "an output was kept back");
        assert_eq!(self.deadlines.len(), self.calls.len(), "each call has one deadline");
        let in_flight: usize = self.seats.all().map(|(_, place)| place.count_in_flight()).sum();
        let attempts: usize = self.calls.values().map(|call| call.attempts.len()).sum();
        assert_eq!(in_flight, attempts, "calls and seats agree on what is in flight");
        for (seat, place) in self.seats.all() {
            assert!(place.connected || !place.waits(), "{seat:?} is not connected, and something is in flight there");
        }
        let mut numbered = 0;
        for (who, call) in &self.calls {
            assert!(self.deadlines.contains(&(call.deadline, *who)), "{who:?} has no deadline");
            assert_eq!(self.unnumbered.contains(who), call.lacks_number(), "{who:?} waits for a number, or has one");
            assert!(
                call.lacks_number()
                    || self.ready.contains(who)
                    || self.unspread.contains(who)
                    || !call.attempts.is_empty(),
                "{who:?} is neither in flight nor ready to be sent"
            );
            let current = call.number.is_some_and(|number| Some(number.session) == self.numbers.session());
            numbered += usize::from(current);
        }
        assert!(numbered <= limits::SESSION_ANSWERS_MAX, "the window of unanswered changes is bounded");
        if let Route::Leading(leading) = &self.route {
            assert!(self.seats.place(leading.seat).connected, "the primary that everything is sent to is connected");
        }
    }
}
