//! The one task behind all clones of a client: it owns the pure session and the links to the servers, hands each of them
//! what the other has for it, and decides nothing itself.

mod link;
mod outbox;
mod seats;

use std::collections::HashMap;
use std::time::Duration;

use heirloom_proto::wire::client::{request_to_wire, response_from_wire};
use heirloom_proto::wire::v1::{SessionRequest, SessionResponse};
use heirloom_proto::{ServerId, Time};
use heirloom_session::{Answer, Attempt, CallId, Failure, Input, Operation, Output, Reason, Seat, Session};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::error::ServerReport;
use heirloom_proto::Address;
use link::{Event, News};
use seats::Seats;

/// How many messages of servers wait for the driver; beyond it the connections are not read.
const EVENTS_MAX: usize = 256;
/// How many calls or messages are taken at once.
const BATCH_MAX: usize = 1_024;
/// How long the end of the session is waited for when the last client is dropped.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a client wants of its driver.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A call. Its permit is one of those that bound how many are under way, and is given back at its end.
    Call {
        call: CallId,
        operation: Operation,
        deadline: Instant,
        reply: oneshot::Sender<Ended>,
        permit: OwnedSemaphorePermit,
    },
    /// Its caller is gone.
    Cancel(CallId),
    /// Which servers are known by now?
    Servers(oneshot::Sender<Vec<(Option<ServerId>, Address)>>),
}

/// Whoever waits for the end of a call; the farewell needs no permit.
type Waiter = (oneshot::Sender<Ended>, Option<OwnedSemaphorePermit>);

/// How a call ended.
pub(crate) type Ended = Result<Answer, Box<Lost>>;

/// A call without an answer.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) is_unknown: bool,
    pub(crate) reason: Reason,
    pub(crate) servers: Vec<ServerReport>,
}

/// The state of the task.
pub(crate) struct Driver {
    session: Session,
    seats: Seats,
    asks: mpsc::UnboundedReceiver<Ask>,
    events: mpsc::Receiver<Event>,
    waiting: HashMap<CallId, Waiter>,
    /// What [`Time`] counts from.
    origin: Instant,
}

impl Driver {
    /// A driver for a client that knows these addresses.
    pub(crate) fn new(addresses: Vec<Address>, asks: mpsc::UnboundedReceiver<Ask>) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        Self {
            session: Session::new(addresses.len()),
            seats: Seats::new(addresses, sender),
            asks,
            events,
            waiting: HashMap::new(),
            origin: Instant::now(),
        }
    }

    /// Runs until the last client is gone and the session is closed. Connections are made from the first call on.
    pub(crate) async fn run(mut self) {
        let mut asks = Vec::new();
        let mut events = Vec::new();
        let mut open = true;
        let alarm = tokio::time::sleep_until(self.origin);
        tokio::pin!(alarm);
        let mut alarm_is_set = false;
        let mut farewell_is_said = false;
        while open || self.session.calls_under_way() > 0 {
            tokio::select! {
                count = self.asks.recv_many(&mut asks, BATCH_MAX), if open => open = count > 0,
                _ = self.events.recv_many(&mut events, BATCH_MAX) => {}
                () = &mut alarm, if alarm_is_set => alarm_is_set = false,
            }
            // Read after the waiting, so that a deadline that passed meanwhile has passed.
            let now = self.time(Instant::now());
            for event in events.drain(..) {
                self.learn(now, event);
            }
            for ask in asks.drain(..) {
                self.take(now, ask);
            }
            if !open && !farewell_is_said {
                farewell_is_said = true;
                self.say_farewell(now);
            }
            self.step(now, Input::Deadline);
            // An alarm that rings too early does no harm; setting it anew for each call would cost.
            if let Some(deadline) = self.session.next_deadline() {
                let at = self.origin + deadline.since(Time(0));
                if !alarm_is_set || at < alarm.deadline() {
                    alarm.as_mut().reset(at);
                    alarm_is_set = true;
                }
            }
        }
    }

    fn time(&self, at: Instant) -> Time {
        Time(0) + at.saturating_duration_since(self.origin)
    }

    fn take(&mut self, now: Time, ask: Ask) {
        self.seats.connect();
        match ask {
            Ask::Call { call, operation, deadline, reply, permit } => {
                self.waiting.insert(call, (reply, Some(permit)));
                let deadline = self.time(deadline);
                self.step(now, Input::Call { call, operation, deadline });
            }
            Ask::Servers(reply) => {
                // Whoever asked may have gone away.
                let _ = reply.send(self.seats.known());
            }
            Ask::Cancel(call) => {
                if self.waiting.remove(&call).is_some() {
                    self.step(now, Input::Cancel { call });
                }
            }
        }
    }

    /// Closes the session, for nobody in particular.
    fn say_farewell(&mut self, now: Time) {
        let (reply, _) = oneshot::channel();
        self.waiting.insert(FAREWELL_CALL, (reply, None));
        self.step(now, Input::Call { call: FAREWELL_CALL, operation: Operation::Close, deadline: now + FAREWELL });
    }

    fn learn(&mut self, now: Time, event: Event) {
        let Event { seat, news } = event;
        match news {
            News::Connected(connection) => {
                self.seats.connected(seat, connection);
                self.step(now, Input::Connected { seat, server: self.seats.server(seat) });
            }
            News::Broken { why } => {
                self.seats.broken(seat, why);
                self.step(now, Input::Broken { seat });
            }
            News::Told { server, servers } => {
                self.seats.identified(seat, server);
                self.step(now, Input::Learnt { seat, server });
                servers.into_iter().for_each(|(server, address)| self.seats.heard_of(server, address));
            }
            News::Answers(answers) => answers.into_iter().for_each(|answer| self.hear(now, seat, answer)),
        }
        for (seat, server) in self.seats.adopt() {
            self.step(now, Input::Learnt { seat, server });
        }
    }

    fn hear(&mut self, now: Time, seat: Seat, answer: SessionResponse) {
        let attempt = Attempt { seat, number: answer.tag };
        match answer.response.map(response_from_wire) {
            Some(Ok(Ok(answered))) => {
                self.step(now, Input::Answered { attempt, response: answered.response, server: answered.server });
            }
            Some(Ok(Err(refused))) => {
                if let (heirloom_proto::Refusal::NotPrimary { primary: Some(primary) }, Some(Ok(address))) =
                    (&refused.refusal, refused.primary_address.map(|address| address.parse()))
                {
                    self.seats.heard_of(*primary, address);
                }
                self.step(now, Input::Refused { attempt, refusal: refused.refusal });
            }
            // An answer that can't be read says nothing of the outcome.
            Some(Err(_)) | None => {
                self.step(now, Input::Refused { attempt, refusal: heirloom_proto::Refusal::OutcomeUnknown });
            }
        }
    }

    fn step(&mut self, now: Time, input: Input) {
        for output in self.session.step(now, input) {
            match output {
                Output::Send { attempt, request, forward } => {
                    let request = request_to_wire(&request, !forward);
                    self.seats.send(attempt.seat, SessionRequest { tag: attempt.number, request });
                }
                Output::Nudge { seat } => self.seats.nudge(seat),
                Output::Done { call, outcome } => {
                    let ended = outcome.map_err(|failure| Box::new(self.lost(failure)));
                    if let Some((reply, _permit)) = self.waiting.remove(&call) {
                        // Whoever asked may have gone away meanwhile.
                        let _ = reply.send(ended);
                    }
                }
            }
        }
    }

    fn lost(&self, failure: Failure) -> Lost {
        let (is_unknown, reason, tried) = match failure {
            Failure::NotApplied(failure) => (false, failure.reason, failure.tried),
            Failure::Unknown(failure) => (true, failure.reason, failure.tried),
        };
        Lost { is_unknown, reason, servers: tried.into_iter().map(|tried| self.seats.report(tried)).collect() }
    }
}

/// The call that closes the session when the last client is gone; callers count from 1.
const FAREWELL_CALL: CallId = CallId(u64::MAX);

/// A server's address as it is told by another one.
type Whereabouts = (ServerId, Address);
