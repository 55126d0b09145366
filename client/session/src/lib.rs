//! The pure half of a Heirloom client: request numbers, whom to ask next, and what is known of an outcome.
//!
//! A [`Session`] is a value and a total function: [`Session::step`] takes what happened ([`Input`]) and the time, and
//! gives what to do ([`Output`]). It reads no clock, draws no random number and opens no connection, so the simulator and
//! the library `heirloom` run the same code. [`Session::next_deadline`] says when to come back with
//! [`Input::Deadline`].
//!
//! What the driver owes the session:
//!
//! - It keeps a connection to every seat as well as it can and says [`Input::Connected`] and [`Input::Broken`].
//!   The session sends to connected seats only.
//! - A [`Output::Send`] reaches its server **at most once**, however late; never two times. (A stream gives this. A
//!   doubled request could be carried out after its first copy was refused, and *not applied* would be a lie.)
//! - After [`Input::Broken`] nothing more is reported of attempts that were sent before on that seat.
//! - [`CallId`]s count up: they are also the order in which calls are served.
//!
//! How a call goes:
//!
//! 1. The first change opens a session with the servers ([`Request::OpenSession`]); each change is then given the next
//!    sequence, at most [`limits::SESSION_ANSWERS_MAX`] away from the lowest unanswered one. Reads need none.
//! 2. A read is sent to any server that may answer it by itself, near ones first; where it can't, or does not within
//!    [`OVERDUE`], the read takes the way of everything else. While the primary is known, everything is sent there. While
//!    it is not, the oldest call alone is sent as a *scout* from server to server: hints first, then by id; the others
//!    wait for what it finds, but for reads, which any server may yet answer. A scout that is not answered in [`OVERDUE`]
//!    is sent to the next server too, under the same id; where the primary is gone, the server asked is nudged first.
//! 3. An answer ends the call. A refusal that another server may not give, a broken connection and an outcome that the
//!    server does not know lead to another attempt **with the same id**, until the call's deadline.
//! 4. At the deadline the outcome is [`NotApplied`] where no attempt was ever sent or all were definitely refused, and
//!    [`Unknown`] where one of them may have been or may still be carried out: one or none, never two.
//!
//! ```
//! use heirloom_proto::{Request, ServerId, Time};
//! use heirloom_session::{CallId, Freshness, Input, Operation, Output, Seat, Session};
//!
//! let mut session = Session::new(3);
//! let now = Time(0);
//! session.step(now, Input::Connected { seat: Seat(0), server: Some(ServerId(0)) });
//! let outputs = session.step(
//!     now,
//!     Input::Call {
//!         call: CallId(1),
//!         operation: Operation::Read { key: "word".into(), freshness: Freshness::Linearizable, from: None },
//!         deadline: now + std::time::Duration::from_secs(5),
//!     },
//! );
//! assert!(matches!(&outputs[..], [Output::Send { request: Request::Read { .. }, .. }]));
//! ```
//!
//! [`Request::OpenSession`]: heirloom_proto::Request::OpenSession
//! [`limits::SESSION_ANSWERS_MAX`]: heirloom_proto::limits::SESSION_ANSWERS_MAX

mod answers;
mod call;
mod numbers;
mod outcome;
mod port;
mod readers;
mod route;
mod seats;
mod sending;
mod session;
pub mod watch;

pub use outcome::{Answer, Failure, Heard, NotApplied, Outcome, Reason, Tried, Unknown};
pub use port::{Attempt, CallId, Freshness, Input, Operation, Output, Seat};
pub use route::OVERDUE;
pub use session::Session;
