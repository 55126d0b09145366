//! What enters a session and what leaves it.

use bytes::Bytes;
use heirloom_proto::{Change, Refusal, Request, Response, Scan, ServerId, Time};

use crate::outcome::Outcome;

/// The position of an address in the client's own list; servers are known by their ids only once they have told them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub u16);

/// Names one call; chosen by the caller, each higher than all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names one sending of one request to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// Where it was sent.
    pub seat: Seat,
    /// Counts up over all attempts of the session, so that attempts at one seat are ordered by their sending.
    pub number: u64,
}

/// What a caller wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A change, carried out once or not at all.
    Change(Change),
    /// The value of a key.
    Read {
        /// The key.
        key: Bytes,
        /// How fresh.
        freshness: Freshness,
        /// The only server that is to be asked; it asks the primary where it must.
        from: Option<ServerId>,
    },
    /// A page of a range of keys.
    Scan {
        /// The page.
        scan: Scan<Freshness>,
        /// The only server that is to be asked; it asks the primary where it must.
        from: Option<ServerId>,
    },
    /// The end of the session with the servers; done at once where none is open. Changes that are under way keep
    /// their ids and may be told that their session is gone.
    Close,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Freshness {
    /// At least as new as every change that was answered, to whomever, before the read was asked for.
    #[default]
    Linearizable,
    /// At least as new as all that this client has seen or changed before, at any server.
    Causal,
    /// What is committed as far as the server asked knows, at once; the answer says how old it may be.
    Stale,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Somebody asks.
    Call {
        /// Names the call.
        call: CallId,
        /// What.
        operation: Operation,
        /// Until when.
        deadline: Time,
    },
    /// Whoever asked is gone: no answer is given. A change that was sent may be carried out all the same.
    Cancel {
        /// The call.
        call: CallId,
    },
    /// A connection stands.
    Connected {
        /// Where to.
        seat: Seat,
        /// Who answers there, where it is known already.
        server: Option<ServerId>,
    },
    /// The connection is gone, or could not be made. Attempts that were sent on it may have arrived.
    Broken {
        /// Where to.
        seat: Seat,
    },
    /// A server told its id, or where another one is. A seat beyond the last one makes the list longer.
    Learnt {
        /// The seat.
        seat: Seat,
        /// Who sits there.
        server: ServerId,
    },
    /// A request was carried out.
    Answered {
        /// Which.
        attempt: Attempt,
        /// The answer.
        response: Response,
        /// Who carried it out, where the answer says so; `None` means the server asked.
        server: Option<ServerId>,
    },
    /// A request was refused.
    Refused {
        /// Which.
        attempt: Attempt,
        /// Why.
        refusal: Refusal,
    },
    /// The time of [`crate::Session::next_deadline`] has come; may come early or late.
    Deadline,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send a request to `attempt.seat`.
    Send {
        /// Names the answer.
        attempt: Attempt,
        /// The request.
        request: Request,
        /// Whether the server should forward what it can't answer itself. The usual `false` lets it name the primary
        /// instead; `true` is for a primary that others reach and this client does not.
        forward: bool,
    },
    /// Tell a server that the primary seems to be gone. A hint; its answer is not needed.
    Nudge {
        /// Where.
        seat: Seat,
    },
    /// A call is over.
    Done {
        /// Which.
        call: CallId,
        /// What came of it.
        outcome: Outcome,
    },
}
