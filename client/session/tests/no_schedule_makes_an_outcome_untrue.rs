//! Random schedules of crashes, lost answers, hand-overs, expired sessions and cancellations against a toy cluster that
//! carries requests out by the protocol's rules (PROTOCOL 4.1, 11). Whatever happens: each call ends once and in time, an
//! answered change was applied once, one that is called *not applied* never is, and none is applied twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use heirloom_proto::{
    Change, Epoch, LogIndex, Refusal, Request, Response, RunId, ServerId, SessionId, Time, Version, WallTime, limits,
};
use heirloom_session::{Attempt, CallId, Failure, Freshness, Input, Operation, Output, Seat, Session};

/// A generator of its own, so that a seed means the same everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

#[derive(Default)]
struct Server {
    up: bool,
    connected: bool,
    /// Requests that arrived, then answers on their way back; both in order.
    requests: VecDeque<(Attempt, Request)>,
    answers: VecDeque<(Attempt, Result<Response, Refusal>)>,
}

/// What the whole cluster agrees on.
#[derive(Default)]
struct Dictionary {
    opened: u64,
    /// By session: what was applied, and the lowest number that is still kept.
    sessions: BTreeMap<SessionId, (BTreeMap<u64, Version>, u64)>,
    /// Every key is added by one call only, so the number of entries here is how often that call was applied.
    applied: BTreeMap<u64, u32>,
    version: u64,
}

struct World {
    dice: Dice,
    now: Time,
    session: Session,
    servers: Vec<Server>,
    primary: Option<u8>,
    epoch: u64,
    dictionary: Dictionary,
    /// Requests whose connection broke, or whose server called them unknown: they may still be carried out, once.
    ghosts: Vec<Request>,
    calls: u64,
    open: BTreeMap<CallId, (bool, Time)>,
    answered: BTreeSet<u64>,
    not_applied: BTreeSet<u64>,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    answered: u64,
    unknown: u64,
    not_applied: u64,
    retried: u64,
    expired: u64,
    cancelled: u64,
}

const SERVERS: u8 = 3;

impl World {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: Time(0),
            session: Session::new(usize::from(SERVERS)),
            servers: (0..SERVERS).map(|_| Server { up: true, ..Server::default() }).collect(),
            primary: Some(0),
            epoch: 1,
            dictionary: Dictionary::default(),
            ghosts: Vec::new(),
            calls: 0,
            open: BTreeMap::new(),
            answered: BTreeSet::new(),
            not_applied: BTreeSet::new(),
            seen: Seen::default(),
        }
    }

    fn run(mut self, steps: u64) -> Seen {
        for _ in 0..steps {
            self.happen();
        }
        self.now = self.now + Duration::from_secs(60);
        self.step(Input::Deadline);
        assert!(self.open.is_empty(), "calls without an end: {:?}", self.open);
        // Whatever is still on its way arrives in the end.
        self.primary = Some(0);
        for server in 0..SERVERS {
            let requests = std::mem::take(&mut self.servers[usize::from(server)].requests);
            self.ghosts.extend(requests.into_iter().map(|(_, request)| request));
        }
        for ghost in std::mem::take(&mut self.ghosts) {
            let _ = self.carry_out(&ghost);
        }
        self.judge();
        self.seen
    }

    fn judge(&self) {
        for (key, times) in &self.dictionary.applied {
            assert_eq!(*times, 1, "change {key} was applied {times} times");
            assert!(!self.not_applied.contains(key), "change {key} was called not applied, and was applied");
        }
        for key in &self.answered {
            assert!(self.dictionary.applied.contains_key(key), "change {key} was acknowledged, and is lost");
        }
    }

    fn happen(&mut self) {
        self.now = self.now + Duration::from_micros(self.dice.roll(4_000));
        let at = usize::try_from(self.dice.roll(u64::from(SERVERS))).expect("small");
        match self.dice.roll(100) {
            0..=24 => self.ask(),
            25..=54 => (0..self.dice.roll(20)).for_each(|_| self.serve(at)),
            55..=74 => (0..self.dice.roll(20)).for_each(|_| self.deliver(at)),
            75..=84 => self.step(Input::Deadline),
            85..=89 => self.connect(at),
            90 if self.dice.roll(2) == 0 => self.break_off(at),
            91 if self.dice.roll(4) == 0 => self.crash(at),
            92 => self.servers[at].up = true,
            93 => self.elect(at),
            94 => (0..SERVERS).for_each(|at| self.connect(usize::from(at))),
            95 => self.expire_sessions(),
            96 => self.haunt(),
            97 if self.dice.roll(4) == 0 => self.now = self.now + Duration::from_millis(self.dice.roll(400)),
            98 => self.cancel(),
            _ => {}
        }
    }

    fn ask(&mut self) {
        self.calls += 1;
        let call = CallId(self.calls);
        let key: bytes::Bytes = self.calls.to_string().into();
        let is_change = self.dice.roll(4) > 0;
        let operation = match is_change {
            true => Operation::Change(Change::Add { key, value: "v".into() }),
            false => Operation::Read { key, freshness: Freshness::Linearizable, from: None },
        };
        let deadline = self.now + Duration::from_millis(1 + self.dice.roll(1_000));
        self.open.insert(call, (is_change, deadline));
        self.step(Input::Call { call, operation, deadline });
    }

    fn cancel(&mut self) {
        if let Some(call) = self.open.keys().next().copied() {
            self.open.remove(&call);
            self.seen.cancelled += 1;
            self.step(Input::Cancel { call });
        }
    }

    fn connect(&mut self, at: usize) {
        if self.servers[at].up && !self.servers[at].connected {
            self.servers[at].connected = true;
            let server = u8::try_from(at).ok().map(ServerId);
            self.step(Input::Connected { seat: seat(at), server });
        }
    }

    fn break_off(&mut self, at: usize) {
        if !self.servers[at].connected {
            return;
        }
        self.servers[at].connected = false;
        self.servers[at].answers.clear();
        for (_, request) in std::mem::take(&mut self.servers[at].requests) {
            if self.dice.roll(2) == 0 {
                self.ghosts.push(request);
            }
        }
        self.step(Input::Broken { seat: seat(at) });
    }

    fn crash(&mut self, at: usize) {
        self.servers[at].up = false;
        if self.primary == u8::try_from(at).ok() {
            self.primary = None;
        }
        self.break_off(at);
    }

    fn elect(&mut self, at: usize) {
        if self.servers[at].up {
            self.primary = u8::try_from(at).ok();
            self.epoch += 1;
        }
    }

    fn expire_sessions(&mut self) {
        if self.dice.roll(4) == 0 {
            self.dictionary.sessions.clear();
            self.seen.expired += 1;
        }
    }

    /// A request whose connection broke long ago arrives at a primary.
    fn haunt(&mut self) {
        if self.primary.is_some() && !self.ghosts.is_empty() {
            let ghost = self.ghosts.remove(0);
            let _ = self.carry_out(&ghost);
        }
    }

    fn serve(&mut self, at: usize) {
        let Some((attempt, request)) = self.servers[at].requests.pop_front() else { return };
        let leads = self.primary == u8::try_from(at).ok();
        let result = match self.dice.roll(40) {
            0 => Err(Refusal::Overloaded),
            1 => Err(Refusal::SessionUnknown),
            2 => {
                self.ghosts.push(request);
                Err(Refusal::OutcomeUnknown)
            }
            // Silence: it is carried out, and nobody is told.
            3 if leads => {
                let _ = self.carry_out(&request);
                return;
            }
            _ if leads => self.carry_out(&request),
            // What others know of the primary may be old.
            _ => Err(Refusal::NotPrimary {
                primary: match self.dice.roll(3) {
                    0 => None,
                    1 => Some(ServerId(u8::try_from(self.dice.roll(3)).expect("small"))),
                    _ => self.primary.map(ServerId),
                },
            }),
        };
        self.servers[at].answers.push_back((attempt, result));
    }

    fn deliver(&mut self, at: usize) {
        let Some((attempt, result)) = self.servers[at].answers.pop_front() else { return };
        match result {
            Ok(response) => self.step(Input::Answered { attempt, response, server: None }),
            Err(refusal) => self.step(Input::Refused { attempt, refusal }),
        }
    }

    fn carry_out(&mut self, request: &Request) -> Result<Response, Refusal> {
        let epoch = Epoch { round: self.epoch, server: ServerId(self.primary.unwrap_or(0)), run: RunId(1) };
        let dictionary = &mut self.dictionary;
        match request {
            Request::OpenSession => {
                dictionary.opened += 1;
                let session = SessionId { opened_at: LogIndex(dictionary.opened), nonce: 0 };
                dictionary.sessions.insert(session, (BTreeMap::new(), 1));
                Ok(Response::SessionOpened { session })
            }
            Request::CloseSession(session) => {
                dictionary.sessions.remove(session);
                Ok(Response::SessionClosed)
            }
            Request::Change { id: Some(id), change: Change::Add { key, .. } } => {
                let (answers, lowest) = dictionary.sessions.get_mut(&id.session).ok_or(Refusal::SessionExpired)?;
                let (sequence, window) = (id.sequence, limits::SESSION_ANSWERS_MAX as u64);
                assert!(sequence >= id.lowest_unanswered && sequence - id.lowest_unanswered < window, "{id:?}");
                if sequence < *lowest {
                    return Err(Refusal::SequenceAnswered { lowest_unanswered: *lowest });
                }
                *lowest = id.lowest_unanswered.max(*lowest);
                *answers = answers.split_off(lowest);
                let version = *answers.entry(sequence).or_insert_with(|| {
                    let key = String::from_utf8_lossy(key).parse().expect("a number");
                    *dictionary.applied.entry(key).or_default() += 1;
                    dictionary.version += 1;
                    Version(dictionary.version)
                });
                Ok(Response::Changed { version, existed: false, copies: 2, epoch })
            }
            Request::Read { .. } => {
                let version = Version(dictionary.version);
                let seen = heirloom_proto::Seen { version, epoch, local: true, waited: false, age: None };
                Ok(Response::Found { value: "v".into(), version, changed_at: WallTime(0), seen })
            }
            other => panic!("never asked: {other:?}"),
        }
    }

    fn step(&mut self, input: Input) {
        let is_deadline = input == Input::Deadline;
        let outputs = self.session.step(self.now, input);
        self.session.check_invariants();
        for output in outputs {
            match output {
                Output::Nudge { .. } => {}
                Output::Send { attempt, request, .. } => {
                    let server = &mut self.servers[usize::from(attempt.seat.0)];
                    assert!(server.connected, "sent where there is no connection");
                    self.seen.retried += 1;
                    server.requests.push_back((attempt, request));
                }
                Output::Done { call, outcome } => {
                    let (is_change, _) = self.open.remove(&call).expect("each call ends once, and not after its end");
                    match outcome {
                        Ok(_) => {
                            self.seen.answered += 1;
                            self.answered.extend(is_change.then_some(call.0));
                        }
                        Err(Failure::NotApplied(_)) => {
                            self.seen.not_applied += 1;
                            self.not_applied.extend(is_change.then_some(call.0));
                        }
                        Err(Failure::Unknown(_)) => {
                            assert!(is_change, "a read is never unknown");
                            self.seen.unknown += 1;
                        }
                    }
                }
            }
        }
        if let Some(deadline) = self.session.next_deadline() {
            assert!(!is_deadline || deadline > self.now, "the session would spin at {:?}", self.now);
        }
        assert!(self.open.values().all(|(_, deadline)| *deadline > self.now), "a call outlived its deadline");
    }
}

fn seat(at: usize) -> Seat {
    Seat(u16::try_from(at).expect("small"))
}

#[test]
fn no_schedule_makes_an_outcome_untrue() {
    let mut all = Seen::default();
    for seed in 1..=400 {
        let seen = World::new(seed).run(3_000);
        all.answered += seen.answered;
        all.unknown += seen.unknown;
        all.not_applied += seen.not_applied;
        all.retried += seen.retried;
        all.expired += seen.expired;
        all.cancelled += seen.cancelled;
    }
    // A run in which nothing happened would prove nothing.
    assert!(all.answered > 10_000 && all.unknown > 1_000 && all.not_applied > 1_000, "{all:?}");
    assert!(all.retried > all.answered && all.expired > 100 && all.cancelled > 1_000, "{all:?}");
}

/// Once the cluster is calm, calls are answered promptly, whatever went before.
#[test]
fn after_any_turmoil_a_calm_cluster_answers_at_once() {
    for seed in 1..=300 {
        let mut world = World::new(seed);
        for _ in 0..500 {
            world.happen();
        }
        world.primary = Some(2);
        world.epoch += 1;
        for at in 0..usize::from(SERVERS) {
            world.servers[at].up = true;
            world.connect(at);
        }
        world.dice = Dice(seed | 1);
        let answered = world.answered.len();
        let calm_from = world.now;
        world.calls += 1;
        let call = CallId(world.calls);
        let deadline = world.now + Duration::from_secs(5);
        world.open.insert(call, (true, deadline));
        let key = world.calls.to_string().into();
        let operation = Operation::Change(Change::Add { key, value: "v".into() });
        world.step(Input::Call { call, operation, deadline });
        while world.open.contains_key(&call) {
            world.now = world.now + Duration::from_millis(1);
            for at in 0..usize::from(SERVERS) {
                while let Some((attempt, request)) = world.servers[at].requests.pop_front() {
                    let result = match at == 2 {
                        true => world.carry_out(&request),
                        false => Err(Refusal::NotPrimary { primary: Some(ServerId(2)) }),
                    };
                    world.servers[at].answers.push_back((attempt, result));
                }
                while !world.servers[at].answers.is_empty() {
                    world.deliver(at);
                }
            }
            world.step(Input::Deadline);
        }
        let took = world.now.since(calm_from);
        assert!(world.answered.len() > answered, "seed {seed}");
        assert!(took <= Duration::from_millis(750), "seed {seed} took {took:?}");
    }
}
