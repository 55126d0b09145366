//! A world: servers, network, clients and time, moved from one occurrence to the next.

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_backup::StateHead;
use heirloom_proto::{ClusterId, Event, LogIndex, Message, Peer, Request, RunId, ServerId, StoreId, Token, WallTime};
use heirloom_session::{Attempt, Input};

use crate::client::Client;
use crate::clock::{Clock, Instant, MILLISECOND, SECOND};
use crate::disk::{Disk, Queue};
use crate::fault::Fault;
use crate::less::Less;
use crate::linearizable::History;
use crate::network::{Direction, Network};
use crate::plan::Plan;
use crate::random::Random;
use crate::run::Options;
use crate::server::{Birthday, Caller, Server, Waiting};
use crate::sights::Sights;
use crate::sometimes::Sometimes;
use crate::tally::Tally;
use crate::trace::Trace;
use crate::trouble::TROUBLES;
use heirloom_laws::{Laws, Violation};

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Occurrence {
    /// A message reaches whichever run lives there.
    Arrive {
        to: ServerId,
        born: Birthday,
        cluster: Option<ClusterId>,
        message: Box<Message>,
    },
    /// A run tries to shake hands with another server.
    Dial {
        from: ServerId,
        born: Birthday,
        to: ServerId,
    },
    /// A run notices that its stream is broken.
    Break {
        at: ServerId,
        born: Birthday,
        peer: ServerId,
        peer_born: Birthday,
    },
    /// The first write of a queue is durable.
    Synced {
        server: ServerId,
        born: Birthday,
        queue: Queue,
    },
    /// A server looks whether it should make a snapshot.
    SnapshotDue {
        server: ServerId,
    },
    /// A snapshot is made.
    SnapshotMade {
        server: ServerId,
        born: Birthday,
        head: StateHead,
    },
    /// A snapshot of another server is fetched.
    SnapshotArrives {
        server: ServerId,
        born: Birthday,
        from: ServerId,
        at_least: LogIndex,
    },
    Wake {
        server: ServerId,
        born: Birthday,
        number: u64,
    },
    Flush {
        server: ServerId,
        born: Birthday,
    },
    Resume {
        server: ServerId,
    },
    Start {
        server: ServerId,
    },
    ProbeArrives {
        asker: ServerId,
        born: Birthday,
        server: ServerId,
        run: RunId,
        probe: u64,
    },
    ProbeReturns {
        asker: ServerId,
        born: Birthday,
        server: ServerId,
        run: RunId,
        probe: u64,
        dead: bool,
    },
    /// A client's request reaches a server.
    Ask {
        caller: Caller,
        server: ServerId,
        request: Request,
    },
    /// An answer reaches a client.
    Answer {
        client: usize,
        name: u64,
        connection: u64,
        input: Box<Input>,
        attempt: Attempt,
    },
    NudgeArrives {
        server: ServerId,
    },
    ClientDial {
        client: usize,
        name: u64,
        server: ServerId,
    },
    ClientBreak {
        client: usize,
        connection: u64,
        server: ServerId,
    },
    ClientWake {
        client: usize,
        name: u64,
        number: u64,
    },
    ClientThink {
        client: usize,
        name: u64,
    },
    /// Something goes wrong.
    Trouble {
        number: u64,
    },
    Heal {
        directions: Vec<Direction>,
    },
    HealClient {
        client: usize,
        server: ServerId,
    },
}

/// The purpose of the sources that take the place of a world's own where it is shaken.
const SHAKES: u64 = 2;

/// How long a world that is in a hurry has for founding its cluster.
const HURRIED_CALM: Instant = 600 * MILLISECOND;

/// A world that takes more is spinning: the longest sound ones take a tenth.
const STEPS_MAX: u64 = 1_000_000;

/// A world.
#[derive(Debug)]
pub(crate) struct World {
    pub now: Instant,
    pub plan: Plan,
    pub random: Random,
    pub servers: Vec<Server>,
    pub clients: Vec<Client>,
    pub network: Network,
    pub laws: Laws,
    pub history: History,
    /// The values of which a client was told the number, by prefix and number.
    pub appended: BTreeMap<(Bytes, u64), Bytes>,
    pub seen: Sometimes,
    pub trace: Trace,
    pub tally: Tally,
    /// The faults that were applied, by their numbers.
    pub troubles: Vec<(u64, Fault)>,
    pub seed: u64,
    pub less: Less,
    /// No more troubles begin.
    pub healed: bool,
    /// Clients ask nothing new.
    pub resting: bool,
    /// How many events nodes have taken.
    pub steps: u64,
    pub violation: Option<Violation>,
    pub sights: Sights,
    /// Set where nothing but safety can be asked for any more, with the reason.
    pub stuck_is_fine: Option<&'static str>,
    queue: BTreeMap<(Instant, u64), Occurrence>,
    scheduled: u64,
    /// Who each run was, by its birthday.
    pub runs: Vec<Peer>,
    tokens: u64,
    pub connections: u64,
}

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> Self {
        let mut random = Random::new(seed);
        let mut plan = Plan::of(&mut random, options.shape);
        options.focus.apply(&mut plan);
        options.less.apply(&mut plan);
        if options.less.shake != 0 {
            random = Random::of(seed, SHAKES, options.less.shake);
        }
        let ids = plan.servers();
        let servers = ids
            .iter()
            .map(|id| {
                let fast = plan.fast_ppm_max;
                let fast_ppm = random.pick(&[-fast, 0, fast]);
                let clock = Clock::new(0, random.between(SECOND, 1_000 * SECOND), fast_ppm);
                Server::new(*id, plan.config(*id), clock, Disk::blank(*id, StoreId(random.number())))
            })
            .collect();
        let mut world = Self {
            now: 0,
            network: Network::new(ids.len()),
            laws: Laws::new(plan.constants.min_copies),
            plan,
            random,
            servers,
            clients: Vec::new(),
            history: History::default(),
            appended: BTreeMap::new(),
            seen: Sometimes::default(),
            trace: Trace::new(options.traced),
            tally: Tally::default(),
            troubles: Vec::new(),
            seed,
            less: options.less.clone(),
            healed: false,
            resting: false,
            steps: 0,
            violation: None,
            sights: Sights::default(),
            stuck_is_fine: None,
            queue: BTreeMap::new(),
            scheduled: 0,
            runs: Vec::new(),
            tokens: 0,
            connections: 0,
        };
        world.trace.note(0, || format!("seed {seed}: {:?}", world.plan));
        for id in ids {
            let late = if world.random.per_mille(150) { SECOND } else { 50 * MILLISECOND };
            let delay = world.random.below(late);
            world.after(delay, Occurrence::Start { server: id });
            world.snapshot_due(id);
        }
        for _ in 0..world.plan.clients {
            world.new_client();
        }
        if let Some(mean) = world.plan.fault_mean {
            // Most worlds get some time to be founded in; in some that is part of the fun.
            let calm = if world.random.per_mille(800) { SECOND } else { 0 };
            let first = calm + Random::of(seed, TROUBLES, 0).waiting(mean);
            let delay = if world.less.hurry { first.min(HURRIED_CALM) } else { first };
            world.after(delay, Occurrence::Trouble { number: 1 });
        }
        world
    }

    /// Lets the world go on until then, or until a law is broken.
    pub(crate) fn run_until(&mut self, end: Instant) {
        while self.violation.is_none() {
            let Some(first) = self.queue.first_entry() else { break };
            if first.key().0 > end {
                break;
            }
            let ((at, _), occurrence) = first.remove_entry();
            self.now = at;
            self.occur(occurrence);
            if self.steps > STEPS_MAX {
                self.broke(Violation { law: 10, what: format!("the nodes took {STEPS_MAX} events and find no rest") });
            }
        }
        if self.violation.is_none() {
            self.now = self.now.max(end);
        }
    }

    pub(crate) fn after(&mut self, delay: Instant, occurrence: Occurrence) {
        self.scheduled += 1;
        self.queue.insert((self.now + delay, self.scheduled), occurrence);
    }

    pub(crate) fn broke(&mut self, violation: Violation) {
        self.trace.note(self.now, || format!("!! {violation}"));
        self.violation.get_or_insert(violation);
    }

    pub(crate) fn server(&self, id: ServerId) -> &Server {
        &self.servers[usize::from(id.0)]
    }

    pub(crate) fn server_mut(&mut self, id: ServerId) -> &mut Server {
        &mut self.servers[usize::from(id.0)]
    }

    pub(crate) fn peer(&self, born: Birthday) -> Peer {
        self.runs[usize::try_from(born.0).expect("few runs")]
    }

    fn occur(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Arrive { to, born, cluster, message } => self.arrive(to, born, cluster, *message),
            Occurrence::Dial { from, born, to } => self.dial(from, born, to),
            Occurrence::Break { at, born, peer, peer_born } => self.stream_broke(at, born, peer, peer_born),
            Occurrence::Synced { server, born, queue } => self.synced(server, born, queue),
            Occurrence::SnapshotDue { server } => self.snapshot_due(server),
            Occurrence::SnapshotMade { server, born, head } => self.snapshot_made(server, born, head),
            Occurrence::SnapshotArrives { server, born, from, at_least } => {
                self.snapshot_arrives(server, born, from, at_least);
            }
            Occurrence::Wake { server, born, number } => {
                if let Some(stop) = self.held_until(server).filter(|stop| stop.until > self.now) {
                    // A timer does not count the time of a suspension, though the clock does.
                    let delay = stop.until - stop.since;
                    self.after(delay, Occurrence::Wake { server, born, number });
                    return;
                }
                let current = self.server_mut(server).process_of(born).filter(|process| process.wake_number == number);
                if let Some(process) = current {
                    process.wake_for = None;
                    self.deliver(server, Event::Deadline);
                }
            }
            Occurrence::Flush { server, born } => {
                if let Some(process) = self.server_mut(server).process_of(born) {
                    process.flush_on_its_way = false;
                    self.deliver(server, Event::Flush);
                }
            }
            Occurrence::Resume { server } => self.resume(server),
            Occurrence::Start { server } => self.start(server),
            Occurrence::ProbeArrives { asker, born, server, run, probe } => {
                self.probe_arrives(asker, born, server, run, probe);
            }
            Occurrence::ProbeReturns { asker, born, server, run, probe, dead } => {
                if self.server_mut(asker).process_of(born).is_some() {
                    self.deliver(asker, Event::Probed { server, run, probe, dead });
                }
            }
            Occurrence::Ask { caller, server, request } => self.ask(caller, server, request),
            Occurrence::Answer { client, name, connection, input, attempt } => {
                self.answer(client, name, connection, *input, attempt);
            }
            Occurrence::NudgeArrives { server } => self.deliver(server, Event::Nudged),
            Occurrence::ClientDial { client, name, server } => self.client_dial(client, name, server),
            Occurrence::ClientBreak { client, connection, server } => self.client_break(client, connection, server),
            Occurrence::ClientWake { client, name, number } => self.client_wake(client, name, number),
            Occurrence::ClientThink { client, name } => self.client_think(client, name),
            Occurrence::Trouble { number } => self.trouble(number),
            Occurrence::Heal { directions } => {
                self.trace.note(self.now, || format!("## heal {directions:?}"));
                self.network.heal(&directions);
            }
            Occurrence::HealClient { client, server } => {
                if let Some(client) = self.clients.get_mut(client) {
                    client.cut[usize::from(server.0)] = false;
                }
            }
        }
    }

    /// Gives an event to a server's node, or to its inbox while it is stopped.
    pub(crate) fn deliver(&mut self, to: ServerId, event: Event) {
        let server = self.server_mut(to);
        if server.process().is_none() {
            return;
        }
        if server.is_paused() {
            server.inbox.push_back(event);
        } else {
            self.step(to, event);
        }
    }

    /// Gives a request to a node.
    pub(crate) fn ask(&mut self, caller: Caller, server: ServerId, request: Request) {
        let at = WallTime(1_790_000_000_000 + self.now / MILLISECOND);
        self.tokens += 1;
        let token = Token(self.tokens);
        if let Caller::Client { client, server: asked, connection, .. } = caller {
            // The stream's end is gone with its process; what was sent on it and not read is lost.
            let stands = self.clients.get(client).is_some_and(|client| {
                client.connections[usize::from(asked.0)] == Some(connection) && !client.cut[usize::from(asked.0)]
            });
            if !stands && self.random.per_mille(700) {
                return;
            }
        }
        let Some(process) = self.server_mut(server).process_mut() else { return };
        process.callers.insert(token, Waiting { caller, request: request.clone() });
        self.deliver(server, Event::Requested { token, request, at });
    }
}
