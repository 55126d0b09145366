//! A client of a world: the real session, and somebody who uses it.

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_laws::Violation;
use heirloom_proto::{Change, Response, ServerId, Time, Version};
use heirloom_session::{CallId, Failure, Freshness, Input, Outcome, Output, Seat, Session};

use crate::clock::Instant;
use crate::linearizable::{self, Call, Operation};
use crate::random::Random;

/// A call that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub key: Bytes,
    pub call: Call,
    pub freshness: Freshness,
    /// The highest version that the client had been told of when it asked.
    pub known: Version,
    pub called_at: Instant,
}

/// What a client came to know when a call ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// For the history of the key.
    Seen(Bytes, Operation),
    /// A read that need not be linearizable; an error where it saw less than it must.
    Weak(Result<(), Violation>),
    /// Certainly nothing was changed.
    NotApplied(Pending),
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub name: u64,
    pub session: Session,
    /// Which server sits at each seat: clients need not be told the servers in the order of their ids.
    pub seats: Vec<ServerId>,
    /// By server: the number of the connection that stands.
    pub connections: Vec<Option<u64>>,
    /// By server: cut off from it.
    pub cut: Vec<bool>,
    pub pending: BTreeMap<CallId, Pending>,
    pub calls: u64,
    pub wake_for: Option<Time>,
    pub wake_number: u64,
    pub answered: u64,
    known: Version,
    /// What it asks and when, whatever else happens in the world.
    pub random: Random,
}

impl Client {
    pub(crate) fn new(name: u64, seats: Vec<ServerId>, random: Random) -> Self {
        let servers = seats.len();
        Self {
            name,
            session: Session::new(servers),
            seats,
            connections: vec![None; servers],
            cut: vec![false; servers],
            pending: BTreeMap::new(),
            calls: 0,
            wake_for: None,
            wake_number: 0,
            answered: 0,
            known: Version(0),
            random,
        }
    }

    pub(crate) fn seat_of(&self, server: ServerId) -> Seat {
        let place = self.seats.iter().position(|seated| *seated == server).expect("each server has a seat");
        Seat(u16::try_from(place).expect("few servers"))
    }

    pub(crate) fn server_at(&self, seat: Seat) -> ServerId {
        self.seats[usize::from(seat.0)]
    }

    /// Begins a call drawn at random; unique values tell every add from all others.
    pub(crate) fn ask(&mut self, now: Instant, keys: u64, patience: Instant) -> Vec<Output> {
        let random = &mut self.random;
        let key = Bytes::from(format!("k{}", random.below(keys)));
        let call = match random.weighted(&[45, 8, 47]) {
            0 => Call::Add(Bytes::from(format!("c{}-{}", self.name, self.calls))),
            1 => Call::Delete,
            _ => Call::Read,
        };
        let freshness = match random.weighted(&[80, 14, 6]) {
            0 => Freshness::Linearizable,
            1 => Freshness::Causal,
            _ => Freshness::Stale,
        };
        self.begin(now, key, call, freshness, patience)
    }

    /// Begins this call.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        key: Bytes,
        call: Call,
        freshness: Freshness,
        patience: Instant,
    ) -> Vec<Output> {
        self.calls += 1;
        let id = CallId(self.calls);
        let operation = match &call {
            Call::Add(value) => {
                heirloom_session::Operation::Change(Change::Add { key: key.clone(), value: value.clone() })
            }
            Call::Delete => heirloom_session::Operation::Change(Change::Delete { key: key.clone() }),
            Call::Read => heirloom_session::Operation::Read { key: key.clone(), freshness, from: None },
        };
        let known = self.known;
        self.pending.insert(id, Pending { key, call, freshness, known, called_at: now });
        self.session.step(Time(now), Input::Call { call: id, operation, deadline: Time(now + patience) })
    }

    /// Takes the end of a call.
    pub(crate) fn ended(&mut self, now: Instant, call: CallId, outcome: &Outcome) -> Ended {
        let pending = self.pending.remove(&call).expect("a call ends once");
        match outcome {
            Ok(answer) => {
                self.answered += 1;
                let is_weak = pending.call == Call::Read && pending.freshness != Freshness::Linearizable;
                let version = match &answer.response {
                    Response::Changed { version, .. } => Some(*version),
                    other => other.seen().map(|seen| seen.version),
                };
                self.known = self.known.max(version.unwrap_or_default());
                if is_weak {
                    return Ended::Weak(weakly(&pending, version.unwrap_or_default()));
                }
                let outcome = match &answer.response {
                    Response::Changed { existed, .. } => linearizable::Outcome::Changed { existed: *existed },
                    Response::Found { value, .. } => linearizable::Outcome::Found(value.clone()),
                    Response::NotFound { .. } => linearizable::Outcome::NotFound,
                    Response::SessionOpened { .. }
                    | Response::SessionClosed
                    | Response::Appended { .. }
                    | Response::NotMet { .. }
                    | Response::Promoted { .. }
                    | Response::Fenced => panic!("not an answer to {pending:?}: {answer:?}"),
                };
                self.seen(pending, Some((now, outcome)))
            }
            Err(Failure::NotApplied(_)) => Ended::NotApplied(pending),
            Err(Failure::Unknown(_)) => self.seen(pending, None),
        }
    }

    /// The client is gone: what it had asked stays unknown.
    pub(crate) fn abandon(&mut self) -> Vec<Ended> {
        let pending = std::mem::take(&mut self.pending);
        pending.into_values().map(|pending| self.seen(pending, None)).collect()
    }

    fn seen(&self, pending: Pending, returned: Option<(Instant, linearizable::Outcome)>) -> Ended {
        let Pending { key, call, called_at, .. } = pending;
        Ended::Seen(key, Operation { client: self.name, call, called_at, returned })
    }
}

/// Law 7 of causal reads: none goes back behind what its client knew, its own changes included.
fn weakly(pending: &Pending, version: Version) -> Result<(), Violation> {
    if pending.freshness == Freshness::Causal && version < pending.known {
        let what = format!("a causal read saw {version}, and its client knew {}", pending.known);
        return Violation::of(7, what);
    }
    Ok(())
}
