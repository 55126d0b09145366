//! A client of a world: the real session, and somebody who uses it.

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_laws::Violation;
use heirloom_proto::{
    At, Change, Condition, KeyChange, KeyRange, Response, Scan, Scanned, ServerId, Time, Together, Version,
};
use heirloom_session::{CallId, Failure, Freshness, Input, Outcome, Output, Seat, Session};

use crate::clock::Instant;
use crate::linearizable::{self, Call, Operation};
use crate::plan::KEYS_MAX;
use crate::random::Random;

/// A call that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub key: Bytes,
    pub call: Call,
    /// The key is a prefix, and the primary makes the key.
    pub appends: bool,
    pub freshness: Freshness,
    /// The highest version that the client had been told of when it asked.
    pub known: Version,
    pub called_at: Instant,
}

/// A scan that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Scanning {
    /// The page that is asked for.
    page: Scan<Freshness>,
    /// How fresh the first one must be.
    freshness: Freshness,
    patience: Instant,
    /// The highest version that the client had been told of when it asked for the first page.
    known: Version,
    called_at: Instant,
    /// When the first page came.
    returned_at: Option<Instant>,
}

/// What a client came to know when a call ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// For the history of the key.
    Seen(Bytes, Operation),
    /// A value that was appended under a prefix, with its number where that is known.
    Appended(Bytes, Option<u64>, Operation),
    /// A read that need not be linearizable; an error where it saw less than it must.
    Weak(Result<(), Violation>),
    /// A page, with what it says of each key of the worlds, where that must be linearizable, and with what is left of the
    /// scan; an error where it saw less than it must.
    Page(Vec<(Bytes, Operation)>, Option<Scanning>, Result<(), Violation>),
    /// A page that did not come: the scan is over.
    NoPage,
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
    pub scans: BTreeMap<CallId, Scanning>,
    pub calls: u64,
    pub wake_for: Option<Time>,
    pub wake_number: u64,
    pub answered: u64,
    known: Version,
    /// The values that it has read, of each key the newest it was told of, with their versions.
    found: BTreeMap<Bytes, (Version, Bytes)>,
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
            scans: BTreeMap::new(),
            calls: 0,
            wake_for: None,
            wake_number: 0,
            answered: 0,
            known: Version(0),
            found: BTreeMap::new(),
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
            0 => {
                let value = Bytes::from(format!("c{}-{}", self.name, self.calls));
                match random.weighted(&[75, 8, 9, 8]) {
                    0 => Call::Add(value),
                    1 => Call::AddIf { value, expected: None },
                    2 => {
                        let expected = self.found.get(&key).map(|(_, value)| value.clone());
                        Call::AddIf { value, expected }
                    }
                    _ => {
                        let prefix = Bytes::from(format!("log{}/", random.below(2)));
                        return self.append(now, prefix, value, patience);
                    }
                }
            }
            1 => Call::Delete,
            _ => Call::Read,
        };
        let freshness = match random.weighted(&[80, 14, 6]) {
            0 => Freshness::Linearizable,
            1 => Freshness::Causal,
            _ => Freshness::Stale,
        };
        if call == Call::Read && random.per_mille(60) {
            return self.scan(now, key, freshness, patience);
        }
        self.begin(now, key, call, freshness, patience)
    }

    /// Begins to append a value.
    fn append(&mut self, now: Instant, prefix: Bytes, value: Bytes, patience: Instant) -> Vec<Output> {
        let change = Change::Append { prefix: prefix.clone(), value: value.clone() };
        let call = Call::Add(value);
        let pending = Pending {
            key: prefix,
            call,
            appends: true,
            freshness: Freshness::Linearizable,
            known: self.known,
            called_at: now,
        };
        self.send(heirloom_session::Operation::Change(change), pending, patience)
    }

    /// Begins to scan: everything, what begins as a key does, or a part.
    fn scan(&mut self, now: Instant, key: Bytes, freshness: Freshness, patience: Instant) -> Vec<Output> {
        let range = match self.random.below(4) {
            0 => KeyRange::default(),
            1 => KeyRange { start: Bytes::new(), end: Some(key) },
            2 => KeyRange { start: key, end: None },
            _ => KeyRange::of_prefix(Bytes::from_static(b"k")),
        };
        // Few keys a page, so that there are several pages.
        let limit = u32::try_from(self.random.below(4)).expect("small");
        let page = Scan { range, limit, keys_only: false, at: At::Now(freshness), cluster: None };
        let known = self.known;
        self.next_page(now, Scanning { page, freshness, patience, known, called_at: now, returned_at: None })
    }

    /// Asks for a page.
    pub(crate) fn next_page(&mut self, now: Instant, scanning: Scanning) -> Vec<Output> {
        self.calls += 1;
        let call = CallId(self.calls);
        let operation = heirloom_session::Operation::Scan { scan: scanning.page.clone(), from: None };
        let deadline = Time(now + scanning.patience);
        self.scans.insert(call, scanning);
        self.session.step(Time(now), Input::Call { call, operation, deadline })
    }

    /// Takes the end of a page. What the first one fixes holds of all: the later ones are of the same version, so each key is
    /// as if it had been read with the first.
    fn page(&mut self, now: Instant, mut scanning: Scanning, outcome: &Outcome) -> Ended {
        let Ok(answer) = outcome else { return Ended::NoPage };
        let Response::Scanned { entries, next, seen, cluster } = &answer.response else {
            panic!("not an answer to {scanning:?}: {answer:?}");
        };
        self.answered += 1;
        self.known = self.known.max(seen.version);
        let returned_at = *scanning.returned_at.get_or_insert(now);
        let range = scanning.page.range.clone();
        let part = KeyRange { start: range.start, end: next.clone().or_else(|| range.end.clone()) };
        let read = |key: Bytes| {
            let found = entries.iter().find(|entry| entry.key == key).map(|Scanned { value, .. }| value.clone());
            let outcome = found.map_or(linearizable::Outcome::NotFound, linearizable::Outcome::Found);
            let returned = Some((returned_at, outcome));
            (key, Operation { client: self.name, call: Call::Read, called_at: scanning.called_at, returned })
        };
        let keys = (0..KEYS_MAX).map(|key| Bytes::from(format!("k{key}"))).filter(|key| part.contains(key));
        let reads = if scanning.freshness == Freshness::Linearizable { keys.map(read).collect() } else { Vec::new() };
        let fresh = weakly(scanning.freshness, scanning.known, seen.version);
        let rest = next.clone().map(|start| {
            scanning.page.range = KeyRange { start, end: range.end };
            scanning.page.at = At::Version(seen.version);
            scanning.page.cluster = Some(*cluster);
            scanning
        });
        Ended::Page(reads, rest, fresh)
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
        let operation = match &call {
            Call::AddIf { value, expected } => {
                // Whoever expects a value has read it.
                let version = expected.as_ref().map(|_| self.found[&key].0);
                let conditions = vec![Condition { key: key.clone(), version }];
                let changes = vec![KeyChange { key: key.clone(), value: Some(value.clone()) }];
                heirloom_session::Operation::Change(Change::Together(Box::new(Together { conditions, changes })))
            }
            Call::Add(value) => {
                heirloom_session::Operation::Change(Change::Add { key: key.clone(), value: value.clone() })
            }
            Call::Delete => heirloom_session::Operation::Change(Change::Delete { key: key.clone() }),
            Call::Read => heirloom_session::Operation::Read { key: key.clone(), freshness, from: None },
        };
        let known = self.known;
        let pending = Pending { key, call, appends: false, freshness, known, called_at: now };
        self.send(operation, pending, patience)
    }

    fn send(&mut self, operation: heirloom_session::Operation, pending: Pending, patience: Instant) -> Vec<Output> {
        self.calls += 1;
        let (call, now) = (CallId(self.calls), pending.called_at);
        self.pending.insert(call, pending);
        self.session.step(Time(now), Input::Call { call, operation, deadline: Time(now + patience) })
    }

    /// Takes the end of a call.
    pub(crate) fn ended(&mut self, now: Instant, call: CallId, outcome: &Outcome) -> Ended {
        if let Some(scanning) = self.scans.remove(&call) {
            return self.page(now, scanning, outcome);
        }
        let pending = self.pending.remove(&call).expect("a call ends once");
        match outcome {
            Ok(answer) => {
                self.answered += 1;
                let is_weak = pending.call == Call::Read && pending.freshness != Freshness::Linearizable;
                let version = match &answer.response {
                    Response::Changed { version, .. }
                    | Response::Appended { version, .. }
                    | Response::NotMet { version, .. } => Some(*version),
                    other => other.seen().map(|seen| seen.version),
                };
                self.known = self.known.max(version.unwrap_or_default());
                if let Response::Found { value, version, .. } = &answer.response {
                    let newest = self.found.entry(pending.key.clone()).or_insert((*version, value.clone()));
                    if newest.0 < *version {
                        *newest = (*version, value.clone());
                    }
                }
                if is_weak {
                    return Ended::Weak(weakly(pending.freshness, pending.known, version.unwrap_or_default()));
                }
                let outcome = match &answer.response {
                    Response::Changed { existed, .. } => linearizable::Outcome::Changed { existed: *existed },
                    Response::NotMet { .. } => linearizable::Outcome::NotMet,
                    Response::Appended { number, .. } if pending.appends => {
                        let outcome = linearizable::Outcome::Changed { existed: false };
                        return self.appended(pending, Some((now, outcome)), Some(*number));
                    }
                    Response::Found { value, .. } => linearizable::Outcome::Found(value.clone()),
                    Response::NotFound { .. } => linearizable::Outcome::NotFound,
                    Response::SessionOpened { .. }
                    | Response::SessionClosed
                    | Response::Appended { .. }
                    | Response::Scanned { .. }
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
        self.scans.clear();
        let pending = std::mem::take(&mut self.pending);
        pending.into_values().map(|pending| self.seen(pending, None)).collect()
    }

    fn seen(&self, pending: Pending, returned: Option<(Instant, linearizable::Outcome)>) -> Ended {
        if pending.appends {
            return self.appended(pending, returned, None);
        }
        let Pending { key, call, called_at, .. } = pending;
        Ended::Seen(key, Operation { client: self.name, call, called_at, returned })
    }

    fn appended(
        &self,
        pending: Pending,
        returned: Option<(Instant, linearizable::Outcome)>,
        number: Option<u64>,
    ) -> Ended {
        let Pending { key, call, called_at, .. } = pending;
        Ended::Appended(key, number, Operation { client: self.name, call, called_at, returned })
    }
}

/// Law 7 of causal reads: none goes back behind what its client knew, its own changes included.
fn weakly(freshness: Freshness, known: Version, version: Version) -> Result<(), Violation> {
    if freshness == Freshness::Causal && version < known {
        let what = format!("a causal read saw {version}, and its client knew {known}");
        return Violation::of(7, what);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{Epoch, Seen};
    use heirloom_session::Answer;

    use super::*;

    const NOW: Instant = 0;

    fn ended(client: &mut Client, freshness: Freshness, version: u64) -> Ended {
        client.begin(NOW, Bytes::from_static(b"k"), Call::Read, freshness, 1_000);
        let call = CallId(client.calls);
        let seen = Seen { version: Version(version), epoch: Epoch::NONE, local: true, waited: false, age: None };
        client.ended(NOW, call, &Ok(Answer { response: Response::NotFound { seen }, server: None }))
    }

    #[test]
    fn a_causal_read_behind_what_its_client_knew_when_it_asked_breaks_law_7() {
        let mut client = Client::new(0, vec![ServerId(0)], Random::new(1));
        assert!(matches!(ended(&mut client, Freshness::Causal, 5), Ended::Weak(Ok(()))));
        assert!(matches!(ended(&mut client, Freshness::Causal, 5), Ended::Weak(Ok(()))), "the same again is no less");
        assert!(matches!(ended(&mut client, Freshness::Causal, 4), Ended::Weak(Err(Violation { law: 7, .. }))));
        assert!(matches!(ended(&mut client, Freshness::Stale, 4), Ended::Weak(Ok(()))), "a stale read may go back");
    }

    #[test]
    fn a_causal_read_is_held_to_what_its_client_has_changed_and_not_to_what_it_learnt_since_it_asked() {
        let mut client = Client::new(0, vec![ServerId(0)], Random::new(1));
        let key = Bytes::from_static(b"k");
        client.begin(NOW, key.clone(), Call::Read, Freshness::Causal, 1_000);
        let asked_before = CallId(client.calls);
        client.begin(NOW, key, Call::Delete, Freshness::Linearizable, 1_000);
        let response = Response::Changed { version: Version(3), existed: false, copies: 1, epoch: Epoch::NONE };
        client.ended(NOW, CallId(client.calls), &Ok(Answer { response, server: None }));
        let seen = Seen { version: Version(2), epoch: Epoch::NONE, local: true, waited: false, age: None };
        let read = Ok(Answer { response: Response::NotFound { seen }, server: None });
        assert!(matches!(client.ended(NOW, asked_before, &read), Ended::Weak(Ok(()))));
        assert!(matches!(ended(&mut client, Freshness::Causal, 2), Ended::Weak(Err(Violation { law: 7, .. }))));
    }
}
