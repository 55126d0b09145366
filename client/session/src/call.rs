//! One call: what is asked, where it was sent, and what is known of it.

use bytes::Bytes;
use heirloom_proto::{At, Change, Consistency, Request, RequestId, Scan, ServerId, SessionId, Time, Version};

use crate::outcome::Heard;
use crate::port::{Attempt, CallId, Freshness, Operation, Seat};

/// Whose request: the session's own opening, which goes before all others, or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    /// The opening of a session; nobody is told of its end.
    Opening,
    /// A call.
    Call(CallId),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    Open,
    Close(SessionId),
    Read { lookup: Lookup, from: Option<ServerId> },
    Change(Change),
}

/// What a read looks up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lookup {
    Key { key: Bytes, freshness: Freshness },
    Page(Scan<Freshness>),
}

impl Lookup {
    /// Whether its answer is given under a lease, or by the primary.
    pub(crate) fn is_linearizable(&self) -> bool {
        match self {
            Self::Key { freshness, .. } => *freshness == Freshness::Linearizable,
            Self::Page(scan) => scan.at == At::Now(Freshness::Linearizable),
        }
    }

    fn request(&self, seen: Version) -> Request {
        let consistency = |freshness| match freshness {
            Freshness::Linearizable => Consistency::Linearizable,
            Freshness::Causal => Consistency::Causal { at_least: seen },
            Freshness::Stale => Consistency::Stale,
        };
        match self {
            Self::Key { key, freshness } => Request::Read { key: key.clone(), consistency: consistency(*freshness) },
            Self::Page(Scan { range, limit, keys_only, at, cluster }) => {
                let at = match at {
                    At::Now(freshness) => At::Now(consistency(*freshness)),
                    At::Version(version) => At::Version(*version),
                };
                let (range, limit, keys_only, cluster) = (range.clone(), *limit, *keys_only, *cluster);
                Request::Scan(Scan { range, limit, keys_only, at, cluster })
            }
        }
    }
}

/// The name of a numbered change. Unlike a `RequestId` it doesn't say what is unanswered: that is known at the sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Number {
    pub(crate) session: SessionId,
    pub(crate) sequence: u64,
}

/// One call.
///
/// **Invariants**
/// - Only a change has a number, and it has one from before its first sending.
/// - `attempts` are exactly its attempts in flight at the seats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) task: Task,
    pub(crate) deadline: Time,
    pub(crate) number: Option<Number>,
    /// In flight: sent on a connection that stands, and not answered.
    pub(crate) attempts: Vec<Attempt>,
    /// Whether an attempt that is no longer in flight may have been, or may still be, carried out.
    pub(crate) uncertain: bool,
    /// What came of attempts that are not in flight, the last one for each seat.
    pub(crate) heard: Vec<(Seat, Heard)>,
}

impl Call {
    pub(crate) fn new(task: Task, deadline: Time) -> Self {
        Self { task, deadline, number: None, attempts: Vec::new(), uncertain: false, heard: Vec::new() }
    }

    /// The task of an operation; `None` where there is nothing to do: no session to close.
    pub(crate) fn task_of(operation: Operation, session: Option<SessionId>) -> Option<Task> {
        match operation {
            Operation::Change(change) => Some(Task::Change(change)),
            Operation::Read { key, freshness, from } => {
                Some(Task::Read { lookup: Lookup::Key { key, freshness }, from })
            }
            Operation::Scan { scan, from } => Some(Task::Read { lookup: Lookup::Page(scan), from }),
            Operation::Close => session.map(Task::Close),
        }
    }

    /// Whether a number must be given before it can be sent.
    pub(crate) fn lacks_number(&self) -> bool {
        matches!(self.task, Task::Change(_)) && self.number.is_none()
    }

    /// Whether an answer is waited for from this seat.
    pub(crate) fn is_in_flight_at(&self, seat: Seat) -> bool {
        self.attempts.iter().any(|attempt| attempt.seat == seat)
    }

    /// Whether nothing was and nothing will be changed by what has been sent so far.
    pub(crate) fn is_certainly_not_applied(&self) -> bool {
        match self.task {
            Task::Open | Task::Close(_) | Task::Read { .. } => true,
            Task::Change(_) => !self.uncertain && self.attempts.is_empty(),
        }
    }

    /// Notes what came of the last attempt at a seat.
    pub(crate) fn hear(&mut self, seat: Seat, heard: Heard) {
        match self.heard.iter_mut().find(|(at, _)| *at == seat) {
            Some((_, last)) => *last = heard,
            None => self.heard.push((seat, heard)),
        }
    }

    /// What is known of this call at a seat; `None` where it was never sent there.
    pub(crate) fn heard_at(&self, seat: Seat) -> Option<Heard> {
        if self.is_in_flight_at(seat) {
            return Some(Heard::NoAnswer);
        }
        self.heard.iter().find(|(at, _)| *at == seat).map(|(_, heard)| heard.clone())
    }

    /// The request as it is sent; a change must have its number.
    pub(crate) fn request(&self, lowest_unanswered: impl Fn(Number) -> u64, seen: Version) -> Request {
        match &self.task {
            Task::Open => Request::OpenSession,
            Task::Close(session) => Request::CloseSession(*session),
            Task::Read { lookup, .. } => lookup.request(seen),
            Task::Change(change) => {
                let number = self.number.expect("a change is numbered before it is sent");
                let id = RequestId {
                    session: number.session,
                    sequence: number.sequence,
                    lowest_unanswered: lowest_unanswered(number),
                };
                Request::Change { id: Some(id), change: change.clone() }
            }
        }
    }
}
