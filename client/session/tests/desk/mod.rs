//! A desk at which a scenario is played by hand: what happens goes in, what the session does comes out as short lines.
#![allow(dead_code, reason = "each scenario file uses a part")]

use std::time::Duration;

use heirloom_proto::{
    Change, Epoch, LogIndex, Refusal, Request, Response, RunId, Seen, ServerId, SessionId, Time, Version, WallTime,
};
use heirloom_session::{Attempt, CallId, Failure, Freshness, Input, Operation, Output, Seat, Session};

/// One session and its clock.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) session: Session,
    pub(crate) now: Time,
    /// Attempts sent and not answered, with the request, in order.
    pub(crate) sent: Vec<(Attempt, Request)>,
    calls: u64,
    timeout: Duration,
}

/// The session that the servers open, by its nonce.
pub(crate) fn session_id(nonce: u64) -> SessionId {
    SessionId { opened_at: LogIndex(nonce), nonce }
}

pub(crate) fn epoch(round: u64, server: u8) -> Epoch {
    Epoch { round, server: ServerId(server), run: RunId(1) }
}

pub(crate) fn changed(epoch: Epoch) -> Response {
    Response::Changed { version: Version(1), existed: false, copies: 2, epoch }
}

pub(crate) fn found(epoch: Epoch) -> Response {
    Response::Found { value: "v".into(), version: Version(1), changed_at: WallTime(0), seen: seen(epoch) }
}

fn seen(epoch: Epoch) -> Seen {
    Seen { version: Version(1), epoch, local: true, waited: false, age: None }
}

pub(crate) fn not_primary(primary: Option<u8>) -> Refusal {
    Refusal::NotPrimary { primary: primary.map(ServerId) }
}

impl Desk {
    /// A client that knows this many addresses and is connected to none.
    pub(crate) fn alone(seats: u16) -> Self {
        let session = Session::new(usize::from(seats));
        Self { session, now: Time(0), sent: Vec::new(), calls: 0, timeout: Duration::from_secs(5) }
    }

    /// A client connected to all of so many servers, whose ids are their seats.
    pub(crate) fn connected(seats: u16) -> Self {
        let mut desk = Self::alone(seats);
        for seat in 0..seats {
            assert_eq!(desk.connect(seat), [""; 0]);
        }
        desk
    }

    /// The same, with a session open and server 0 known to lead in epoch 1.
    pub(crate) fn served(seats: u16) -> Self {
        let mut desk = Self::connected(seats);
        desk.add("first");
        desk.answer(0, Response::SessionOpened { session: session_id(1) });
        assert_eq!(desk.answer(0, changed(epoch(1, 0))), ["call 1 answered"]);
        desk
    }

    pub(crate) fn timeout_ms(mut self, ms: u64) -> Self {
        self.timeout = Duration::from_millis(ms);
        self
    }

    pub(crate) fn connect(&mut self, seat: u16) -> Vec<String> {
        let server = u8::try_from(seat).ok().map(ServerId);
        self.step(Input::Connected { seat: Seat(seat), server })
    }

    pub(crate) fn break_off(&mut self, seat: u16) -> Vec<String> {
        self.sent.retain(|(attempt, _)| attempt.seat != Seat(seat));
        self.step(Input::Broken { seat: Seat(seat) })
    }

    pub(crate) fn add(&mut self, key: &'static str) -> Vec<String> {
        self.call(Operation::Change(Change::Add { key: key.into(), value: "v".into() }))
    }

    pub(crate) fn read(&mut self, key: &'static str) -> Vec<String> {
        self.call(Operation::Read { key: key.into(), freshness: Freshness::Linearizable, from: None })
    }

    pub(crate) fn call(&mut self, operation: Operation) -> Vec<String> {
        self.calls += 1;
        let deadline = self.now + self.timeout;
        self.step(Input::Call { call: CallId(self.calls), operation, deadline })
    }

    /// Answers the oldest attempt at a seat.
    pub(crate) fn answer(&mut self, seat: u16, response: Response) -> Vec<String> {
        let attempt = self.take(seat);
        self.step(Input::Answered { attempt, response, server: None })
    }

    /// Refuses the oldest attempt at a seat.
    pub(crate) fn refuse(&mut self, seat: u16, refusal: Refusal) -> Vec<String> {
        let attempt = self.take(seat);
        self.step(Input::Refused { attempt, refusal })
    }

    /// Takes the oldest attempt at a seat away, to be answered later or never.
    pub(crate) fn take(&mut self, seat: u16) -> Attempt {
        let position = self.sent.iter().position(|(attempt, _)| attempt.seat == Seat(seat));
        self.sent.remove(position.expect("something was sent to the seat")).0
    }

    /// Lets time pass, deadline by deadline.
    pub(crate) fn wait_ms(&mut self, ms: u64) -> Vec<String> {
        let end = self.now + Duration::from_millis(ms);
        let mut lines = Vec::new();
        while let Some(deadline) = self.session.next_deadline().filter(|deadline| *deadline <= end) {
            assert!(deadline > self.now, "a deadline that has passed was served, or the session would spin");
            self.now = deadline;
            lines.extend(self.step(Input::Deadline));
        }
        self.now = end;
        lines
    }

    /// Lets time pass up to the next deadline.
    pub(crate) fn wait(&mut self) -> Vec<String> {
        let deadline = self.session.next_deadline().expect("a call waits");
        assert!(deadline > self.now, "a deadline that has passed was served, or the session would spin");
        self.now = deadline;
        self.step(Input::Deadline)
    }

    /// How long it is since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now.since(Time(0))
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<String> {
        let outputs = self.session.step(self.now, input);
        self.session.check_invariants();
        outputs.iter().map(|output| self.line(output)).collect()
    }

    fn line(&mut self, output: &Output) -> String {
        match output {
            Output::Nudge { seat } => format!("nudge {}", seat.0),
            Output::Done { call, outcome: Ok(_) } => format!("call {} answered", call.0),
            Output::Done { call, outcome: Err(Failure::NotApplied(failure)) } => {
                format!("call {} not applied: {:?}", call.0, failure.reason)
            }
            Output::Done { call, outcome: Err(Failure::Unknown(failure)) } => {
                format!("call {} unknown: {:?}", call.0, failure.reason)
            }
            Output::Send { attempt, request, forward } => {
                self.sent.push((*attempt, request.clone()));
                let forward = if *forward { " (forward)" } else { "" };
                format!("to {}: {}{forward}", attempt.seat.0, describe(request))
            }
        }
    }
}

fn describe(request: &Request) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match request {
        Request::OpenSession => "open".to_owned(),
        Request::CloseSession(session) => format!("close {}", session.nonce),
        Request::Read { key, .. } => format!("read {}", text(key)),
        Request::Change { id: Some(id), change: Change::Add { key, .. } } => {
            format!("add {} as {}.{} from {}", text(key), id.session.nonce, id.sequence, id.lowest_unanswered)
        }
        other => format!("{other:?}"),
    }
}
