//! The clients' side of a world: connections, answers, and what clients came to know.

use bytes::Bytes;
use heirloom_laws::Violation;
use heirloom_proto::request::append_key;
use heirloom_proto::{Request, ServerId, Time};
use heirloom_session::{Attempt, Input, Output};

use crate::client::{Client, Ended};
use crate::clock::{Instant, MICROSECOND, MILLISECOND, SECOND};
use crate::linearizable::{Call, Operation, Outcome};
use crate::random::Random;
use crate::server::Caller;
use crate::sometimes::Sight;
use crate::tally::{Asked, Told};
use crate::world::{Occurrence, World};

/// How many calls a client has under way at once.
const PIPELINED_MAX: usize = 3;
/// The purpose of the sources that clients draw from.
const CLIENTS: u64 = 3;

impl World {
    /// A client comes; gives its place.
    pub(crate) fn new_client(&mut self) -> usize {
        let place = self.clients.len();
        let client = self.fresh_client(place as u64);
        self.clients.push(client);
        self.client_begins(place);
        place
    }

    /// A client goes, and another comes in its place.
    pub(crate) fn restart_client(&mut self, place: usize) {
        let name = self.clients[place].name + 100;
        let ended = self.clients[place].abandon();
        for ended in ended {
            self.knows(ended);
        }
        self.trace.note(self.now, || format!("## client {place} is gone; {name} comes"));
        self.clients[place] = self.fresh_client(name);
        self.client_begins(place);
    }

    fn fresh_client(&mut self, name: u64) -> Client {
        let mut seats = self.plan.servers();
        if self.random.per_mille(300) {
            self.random.shuffle(&mut seats);
        }
        Client::new(name, seats, Random::of(self.seed, CLIENTS, name))
    }

    fn client_begins(&mut self, place: usize) {
        let name = self.clients[place].name;
        for server in self.plan.servers() {
            let delay = self.random.between(100 * MICROSECOND, 5 * MILLISECOND);
            self.after(delay, Occurrence::ClientDial { client: place, name, server });
        }
        let delay = self.clients[place].random.waiting(self.plan.think_mean) + MICROSECOND;
        self.after(delay, Occurrence::ClientThink { client: place, name });
    }

    /// The client, where it is still the same.
    fn client(&mut self, place: usize, name: u64) -> Option<&mut Client> {
        self.clients.get_mut(place).filter(|client| client.name == name)
    }

    pub(crate) fn client_think(&mut self, place: usize, name: u64) {
        let (now, keys, patience, mean) = (self.now, self.plan.keys, self.plan.call_patience, self.plan.think_mean);
        let calls_max = self.less.calls.unwrap_or(u64::MAX);
        if self.resting {
            return;
        }
        let Some(client) = self.client(place, name) else { return };
        if client.calls >= calls_max {
            return;
        }
        let delay = client.random.waiting(mean) + MICROSECOND;
        let outputs =
            (client.pending.len() + client.scans.len() < PIPELINED_MAX).then(|| client.ask(now, keys, patience));
        self.after(delay, Occurrence::ClientThink { client: place, name });
        let Some(outputs) = outputs else { return };
        self.client_does(place, outputs);
    }

    /// Carries out what a session wants.
    pub(crate) fn client_does(&mut self, place: usize, outputs: Vec<Output>) {
        let name = self.clients[place].name;
        for output in outputs {
            match output {
                Output::Send { attempt, request, forward } => self.client_sends(place, attempt, request, forward),
                Output::Nudge { seat } => {
                    let server = self.clients[place].server_at(seat);
                    if !self.clients[place].cut[usize::from(server.0)] {
                        let delay = self.random.between(self.plan.delay.0, self.plan.delay.1);
                        self.after(delay, Occurrence::NudgeArrives { server });
                    }
                }
                Output::Done { call, outcome } => {
                    let now = self.now;
                    self.trace.note(now, || {
                        format!("client {name} ends {call:?} {:?}: {outcome:?}", self.clients[place].pending.get(&call))
                    });
                    let mut ended = self.clients[place].ended(now, call, &outcome);
                    let rest = if let Ended::Page(_, rest, _) = &mut ended { rest.take() } else { None };
                    self.knows(ended);
                    if let Some(rest) = rest {
                        let outputs = self.clients[place].next_page(now, rest);
                        self.client_does(place, outputs);
                    }
                }
            }
        }
        self.arrange_client_wake(place);
    }

    fn client_sends(&mut self, place: usize, attempt: Attempt, request: Request, forward: bool) {
        let client = &self.clients[place];
        let server = client.server_at(attempt.seat);
        let Some(connection) = client.connections[usize::from(server.0)] else { return };
        if client.cut[usize::from(server.0)] {
            return;
        }
        let name = client.name;
        self.trace.note(self.now, || format!("client {name} asks {server}: {attempt:?} {request:?}"));
        let caller = Caller::Client { client: place, server, connection, attempt, forward };
        let mut delay = self.random.between(self.plan.delay.0, self.plan.delay.1);
        if self.random.per_mille(self.plan.late) {
            delay += self.random.below(SECOND);
        }
        self.after(delay, Occurrence::Ask { caller, server, request });
    }

    fn arrange_client_wake(&mut self, place: usize) {
        let now = self.now;
        let late = self.random.below(MILLISECOND);
        let client = &mut self.clients[place];
        let deadline = client.session.next_deadline();
        if client.wake_for == deadline {
            return;
        }
        client.wake_for = deadline;
        client.wake_number += 1;
        let (name, number) = (client.name, client.wake_number);
        if let Some(deadline) = deadline {
            let delay = deadline.0.max(now + 10 * MICROSECOND) - now + late;
            self.after(delay, Occurrence::ClientWake { client: place, name, number });
        }
    }

    pub(crate) fn client_wake(&mut self, place: usize, name: u64, number: u64) {
        let current = self.client(place, name).filter(|client| client.wake_number == number);
        if let Some(client) = current {
            client.wake_for = None;
            self.client_hears(place, Input::Deadline);
        }
    }

    fn client_hears(&mut self, place: usize, input: Input) {
        let outputs = self.clients[place].session.step(Time(self.now), input);
        self.client_does(place, outputs);
    }

    pub(crate) fn answer(&mut self, place: usize, name: u64, connection: u64, input: Input, attempt: Attempt) {
        let (now, holds) = (self.now, self.random.per_mille(500));
        let Some(client) = self.client(place, name) else { return };
        let asked = client.server_at(attempt.seat);
        if let Some(stop) = self.held_until(asked).filter(|stop| holds && stop.until > now) {
            let input = Box::new(input);
            self.after(stop.until - now, Occurrence::Answer { client: place, name, connection, input, attempt });
            return;
        }
        let Some(client) = self.client(place, name) else { return };
        let server = usize::from(asked.0);
        if client.connections[server] == Some(connection) && !client.cut[server] {
            self.client_hears(place, input);
        }
    }

    pub(crate) fn client_dial(&mut self, place: usize, name: u64, server: ServerId) {
        let off = self.server(server).is_off() || self.server(server).is_paused();
        let told = self.random.per_mille(800);
        self.connections += 1;
        let connection = self.connections;
        let Some(client) = self.client(place, name) else { return };
        let seat = client.seat_of(server);
        let reached = !off && !client.cut[usize::from(server.0)];
        if reached {
            client.connections[usize::from(server.0)] = Some(connection);
            self.client_hears(place, Input::Connected { seat, server: told.then_some(server) });
            if !told {
                self.client_hears(place, Input::Learnt { seat, server });
            }
        } else {
            let delay = self.random.between(5, 100) * MILLISECOND;
            self.after(delay, Occurrence::ClientDial { client: place, name, server });
            self.client_hears(place, Input::Broken { seat });
        }
    }

    pub(crate) fn client_break(&mut self, place: usize, connection: u64, server: ServerId) {
        let Some(client) = self.clients.get_mut(place) else { return };
        let slot = &mut client.connections[usize::from(server.0)];
        if *slot != Some(connection) {
            return;
        }
        *slot = None;
        let (name, seat) = (client.name, client.seat_of(server));
        let delay = self.random.between(1, 30) * MILLISECOND;
        self.after(delay, Occurrence::ClientDial { client: place, name, server });
        self.client_hears(place, Input::Broken { seat });
    }

    /// The connections of clients to a server break, soon or late.
    pub(crate) fn clients_break(&mut self, server: ServerId, most: Instant) {
        for place in 0..self.clients.len() {
            if let Some(connection) = self.clients[place].connections[usize::from(server.0)] {
                let delay = self.random.below(most);
                self.after(delay, Occurrence::ClientBreak { client: place, connection, server });
            }
        }
    }

    /// Law 4 of appended values: no number is given twice. What is read under the key is judged like any other.
    fn was_appended(&mut self, prefix: &Bytes, number: u64, operation: Operation) {
        self.seen.saw(Sight::AValueWasAppended);
        let key = append_key(prefix, number);
        let Call::Add(value) = &operation.call else { unreachable!("an append adds") };
        if let Some(before) = self.appended.insert((prefix.clone(), number), value.clone()) {
            let what = format!("{key:?} was told to those who appended {before:?} and {value:?}");
            self.broke(Violation { law: 4, what });
        }
        self.history.note(&key, operation);
    }

    /// Keeps what a client came to know.
    pub(crate) fn knows(&mut self, ended: Ended) {
        match ended {
            Ended::Seen(key, operation) => {
                let told = if operation.returned.is_some() { Told::Answered } else { Told::Unknown };
                self.tally.operation(asked(&operation.call), told);
                match (&operation.call, &operation.returned) {
                    (_, None) => self.seen.saw(Sight::AnOutcomeStayedUnknown),
                    (Call::AddIf { value, .. }, Some((_, Outcome::NotMet))) => {
                        self.seen.saw(Sight::AConditionWasNotMet);
                        if let Err(violation) = self.laws.oracle.not_applied(value) {
                            self.broke(violation);
                        }
                    }
                    (Call::AddIf { .. }, Some(_)) => self.seen.saw(Sight::AConditionWasMet),
                    (Call::Add(_) | Call::Delete | Call::Read, Some(_)) => {}
                }
                self.history.note(&key, operation);
            }
            Ended::Appended(prefix, number, operation) => {
                let told = if number.is_some() { Told::Answered } else { Told::Unknown };
                self.tally.operation(Asked::Append, told);
                match number {
                    Some(number) => self.was_appended(&prefix, number, operation),
                    None => self.seen.saw(Sight::AnOutcomeStayedUnknown),
                }
            }
            Ended::Weak(result) => {
                self.tally.operation(Asked::Read, Told::Answered);
                self.seen.saw(Sight::AWeakReadWasAnswered);
                if let Err(violation) = result {
                    self.broke(violation);
                }
            }
            Ended::Page(reads, _, fresh) => {
                self.tally.operation(Asked::Scan, Told::Answered);
                for (key, operation) in reads {
                    self.history.note(&key, operation);
                }
                if let Err(violation) = fresh {
                    self.broke(violation);
                }
            }
            Ended::NoPage => self.tally.operation(Asked::Scan, Told::NotApplied),
            Ended::NotApplied(pending) => {
                let asked = if pending.appends { Asked::Append } else { asked(&pending.call) };
                self.tally.operation(asked, Told::NotApplied);
                self.seen.saw(Sight::ACallWasDefinitelyNotApplied);
                if let Call::Add(value) | Call::AddIf { value, .. } = &pending.call
                    && let Err(violation) = self.laws.oracle.not_applied(value)
                {
                    self.broke(violation);
                }
            }
        }
    }
}

fn asked(call: &Call) -> Asked {
    match call {
        Call::Add(_) => Asked::Add,
        Call::AddIf { .. } => Asked::AddIf,
        Call::Delete => Asked::Delete,
        Call::Read => Asked::Read,
    }
}
