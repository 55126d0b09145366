//! What is known when a call is over. *Not applied* and *unknown* are different types, so that nobody takes one for the
//! other.

use heirloom_proto::{Refusal, Response, ServerId};

use crate::port::Seat;

/// What came of a call.
pub type Outcome = Result<Answer, Failure>;

/// The call was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The answer.
    pub response: Response,
    /// Who carried it out, where that is known.
    pub server: Option<ServerId>,
}

/// No answer came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Nothing was and nothing will be changed by this call.
    NotApplied(NotApplied),
    /// The change was carried out once, will still be, or never is.
    Unknown(Unknown),
}

/// Nothing was and nothing will be changed by this call: it was never sent, or every attempt was definitely refused, or it
/// changes nothing anyway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NotApplied {
    /// Why the call ended.
    pub reason: Reason,
    /// What is known of each server, by seat.
    pub tried: Vec<Tried>,
}

/// An attempt may have been, or may still be, carried out: once or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unknown {
    /// Why the call ended.
    pub reason: Reason,
    /// What is known of each server, by seat.
    pub tried: Vec<Tried>,
}

/// Why a call ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its deadline passed.
    OutOfTime,
    /// A server refused it for a reason that holds at every server and at every time.
    Refused(Refusal),
    /// Its session was removed while an attempt was unanswered, so no server can tell any more.
    SessionExpired,
}

/// What one server did with a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tried {
    /// The server's seat.
    pub seat: Seat,
    /// Its id, where it has told it.
    pub server: Option<ServerId>,
    /// What came of it.
    pub heard: Heard,
}

/// What was heard from one server about a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// There is no connection, and the call was not sent there.
    NotConnected,
    /// Connected, but the call was not sent there, and nothing is known of its view of things.
    NotAsked,
    /// The call, or the one that was sent ahead of it to find the primary, was sent and not answered.
    NoAnswer,
    /// The call was sent, then the connection broke.
    ConnectionLost,
    /// The server refused this call, or the one that was sent ahead of it to find the primary.
    Refused(Refusal),
}
