//! A world without chance, to measure by: every message takes the same time, every sync takes the same time, and nothing
//! else takes any. What happens in it is what the shipped nodes need, and no weather.
//!
//! A connection that breaks is noticed one message delay later, a handshake and a probe take a round trip, and a deposed
//! node recovers at once. Writes that wait for a disk are made durable together, as the runtime does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heirloom_backup::Durable;
use heirloom_laws::stored::Stored;
use heirloom_node::Node;
use heirloom_proto::event::{Birth, Identity, Note};
use heirloom_proto::limits::VALUE_BYTES_MAX;
use heirloom_proto::{
    Action, Cause, Constants, Event, Message, NodeConfig, Peer, Record, Refusal, Request, Response, RunId, ServerId,
    StoreId, Time, Token, VoterKind, WallTime,
};

use crate::clock::{Instant, MICROSECOND, SECOND};

/// What the time of everything is made of. **Units:** nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// A message.
    pub(crate) delay: Instant,
    /// A durable write.
    pub(crate) sync: Instant,
    pub(crate) heartbeat: Instant,
    pub(crate) suspicion: Instant,
    pub(crate) lease: Instant,
    pub(crate) phase: Phase,
}

/// How ticks lie to each other. **Units:** sixteenths of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Phase {
    /// From the ticks of one server to those of the next.
    pub(crate) servers: Instant,
    /// From a heartbeat of the primary to what is done to it.
    pub(crate) failure: Instant,
}

/// A file that is synced: what comes while a sync is under way waits, and is made durable together by the next.
#[derive(Clone, Copy, Debug, Default)]
struct Syncs {
    begins: Instant,
    ends: Instant,
}

impl Syncs {
    fn write(&mut self, now: Instant, sync: Instant) -> Instant {
        if now >= self.ends {
            *self = Self { begins: now, ends: now + sync };
        } else if now >= self.begins {
            *self = Self { begins: self.ends, ends: self.ends + sync };
        }
        self.ends
    }
}

/// One server.
struct Server {
    node: Option<Node>,
    durable: Durable,
    log_syncs: Syncs,
    register_syncs: Syncs,
    woken_at: Instant,
    /// What it is sent, and what it sends, is lost without a word.
    silent: bool,
}

/// The world.
pub(crate) struct Steady {
    pub(crate) now: Instant,
    pace: Pace,
    constants: Constants,
    servers: BTreeMap<ServerId, Server>,
    events: BTreeMap<(Instant, u64), (ServerId, Event)>,
    /// To be told that nothing else waits.
    unflushed: BTreeSet<ServerId>,
    numbers: u64,
    /// Every message sent, in order: when, and its name.
    pub(crate) sent: Vec<(Instant, &'static str)>,
    pub(crate) notes: Vec<(Instant, ServerId, Note)>,
    pub(crate) answers: BTreeMap<Token, (Instant, Result<Response, Refusal>)>,
}

impl Steady {
    /// A cluster of so many data servers and witnesses, all of them members and at rest, so long after a heartbeat.
    pub(crate) fn at_rest(data: usize, witnesses: usize, pace: Pace) -> Self {
        let mut voters = vec![VoterKind::Data; data];
        voters.extend(vec![VoterKind::Witness; witnesses]);
        let constants = Constants { lease: Duration::from_nanos(pace.lease), ..Constants::defaults(voters) };
        let servers: Vec<ServerId> = constants.servers().collect();
        let mut world = Self {
            now: SECOND,
            pace,
            constants,
            servers: BTreeMap::new(),
            events: BTreeMap::new(),
            unflushed: BTreeSet::new(),
            numbers: 100,
            sent: Vec::new(),
            notes: Vec::new(),
            answers: BTreeMap::new(),
        };
        for id in &servers {
            let store = StoreId(world.number());
            let identity =
                Identity { server: *id, store, cluster: None, enrolled: BTreeMap::new(), enrolment_open: false };
            let durable = Durable::blank(identity);
            let (log_syncs, register_syncs) = (Syncs::default(), Syncs::default());
            let server = Server { node: None, durable, log_syncs, register_syncs, woken_at: 0, silent: false };
            world.servers.insert(*id, server);
        }
        for id in &servers {
            world.start(*id);
            world.until_time(world.now + pace.heartbeat * pace.phase.servers / 16);
        }
        world.until("all are members", |world| {
            world.primary().is_some_and(|primary| world.members_at(primary) == data && world.serves(primary))
        });
        let rested = world.now + 3 * world.pace.heartbeat;
        world.until_time(rested);
        let beats = world.sent_of("heartbeat");
        if servers.len() > 1 {
            world.until("the next heartbeat", |world| world.sent_of("heartbeat") > beats);
        }
        world.until_time(world.now + pace.heartbeat * pace.phase.failure / 16);
        world
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The server that leads and was asked last to; there is one in a world at rest.
    pub(crate) fn primary(&self) -> Option<ServerId> {
        let leading = self.servers.iter().filter(|(_, server)| !server.silent);
        let epochs = leading.filter_map(|(id, server)| Some((server.node.as_ref()?.primary_epoch()?, *id)));
        epochs.max().map(|(_, id)| id)
    }

    fn serves(&self, id: ServerId) -> bool {
        let status = self.servers[&id].node.as_ref().map(|node| node.status(Time(self.now)));
        status.is_some_and(|status| status.waits_for.is_none())
    }

    fn members_at(&self, id: ServerId) -> usize {
        self.servers[&id].node.as_ref().map_or(0, |node| node.status(Time(self.now)).in_sync.len())
    }

    pub(crate) fn lease(&self) -> Instant {
        self.pace.lease
    }

    pub(crate) fn sync(&self) -> Instant {
        self.pace.sync
    }

    pub(crate) fn data_servers(&self) -> Vec<ServerId> {
        self.constants.data_servers().collect()
    }

    /// The servers that are not `id`, by id.
    pub(crate) fn others(&self, id: ServerId) -> Vec<ServerId> {
        self.servers.keys().copied().filter(|other| *other != id).collect()
    }

    fn sent_of(&self, name: &str) -> usize {
        self.sent.iter().filter(|(_, sent)| *sent == name).count()
    }

    fn start(&mut self, id: ServerId) {
        let config = NodeConfig {
            me: id,
            constants: self.constants.clone(),
            heartbeat: Duration::from_nanos(self.pace.heartbeat),
            suspicion: Duration::from_nanos(self.pace.suspicion),
            value_bytes_max: VALUE_BYTES_MAX,
        };
        let birth = Birth { run: RunId(self.number()), cluster: self.number(), same_process: false };
        let (node, actions) = Node::recover(config, birth, self.servers[&id].durable.clone(), Time(self.now));
        let peer = node.peer();
        self.server(id).node = Some(node);
        for other in self.others(id) {
            let Some(theirs) = self.servers[&other].node.as_ref().map(Node::peer) else { continue };
            self.after(2 * self.pace.delay, other, Event::PeerConnected { peer });
            self.after(2 * self.pace.delay, id, Event::PeerConnected { peer: theirs });
        }
        self.perform(id, peer, actions);
    }

    fn server(&mut self, id: ServerId) -> &mut Server {
        self.servers.get_mut(&id).expect("a server of this world")
    }

    fn after(&mut self, span: Instant, to: ServerId, event: Event) {
        let place = (self.now + span, self.number());
        self.events.insert(place, (to, event));
    }

    /// The process dies; the host refuses connections to it.
    pub(crate) fn kill(&mut self, id: ServerId) {
        let node = self.server(id).node.take().expect("it runs");
        self.end_of_run(node.peer());
    }

    /// The process starts again, with what was durable.
    pub(crate) fn restart(&mut self, id: ServerId) {
        assert!(self.server(id).node.is_none(), "it is down");
        self.start(id);
    }

    /// The host is gone without a word: no stream breaks, and nothing proves anything.
    pub(crate) fn silence(&mut self, id: ServerId) {
        self.server(id).silent = true;
    }

    fn end_of_run(&mut self, peer: Peer) {
        self.events.retain(|_, (to, _)| *to != peer.server);
        for other in self.others(peer.server) {
            self.after(self.pace.delay, other, Event::PeerBroken { peer });
        }
    }

    /// A request that arrives now.
    pub(crate) fn request(&mut self, id: ServerId, request: Request) -> Token {
        let token = Token(self.number());
        let at = WallTime(self.now / 1_000_000);
        self.after(0, id, Event::Requested { token, request, at });
        token
    }

    /// Time passes until the condition holds.
    ///
    /// **Panics if** it does not within a minute of the world's time.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = self.now;
        while !holds(self) {
            assert!(self.now < begun + 60 * SECOND, "{what}: waited for too long");
            self.advance(Instant::MAX);
        }
    }

    /// Time passes until `end`.
    pub(crate) fn until_time(&mut self, end: Instant) {
        while self.now < end {
            self.advance(end);
        }
    }

    /// Everything that happens at the next moment at which something does, or time passes to `end`.
    fn advance(&mut self, end: Instant) {
        let event = self.events.keys().next().map(|(at, _)| *at);
        let wakes = self.servers.values().filter_map(|server| {
            let deadline = server.node.as_ref()?.next_deadline()?;
            // One that stays though it has passed is looked at again a little later, as the runtime does.
            Some(deadline.0.max(server.woken_at + 10 * MICROSECOND))
        });
        let next = event.into_iter().chain(wakes).min().expect("heartbeats go on");
        if next > end {
            self.now = end;
            return;
        }
        self.now = next;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 == self.now) {
            let (id, event) = entry.remove();
            self.step(id, event);
        }
        let ids: Vec<ServerId> = self.servers.keys().copied().collect();
        for id in ids {
            let now = self.now;
            let server = self.server(id);
            let due = server.node.as_ref().and_then(Node::next_deadline).is_some_and(|at| at.0 <= now);
            if due && now >= server.woken_at + 10 * MICROSECOND {
                server.woken_at = now;
                self.step(id, Event::Deadline);
            }
        }
        for id in std::mem::take(&mut self.unflushed) {
            self.step(id, Event::Flush);
        }
        self.unflushed.clear();
    }

    fn step(&mut self, id: ServerId, event: Event) {
        let now = Time(self.now);
        let server = self.server(id);
        if server.silent && matches!(event, Event::Received { .. } | Event::Probed { .. }) {
            return;
        }
        let Some(node) = server.node.as_mut() else { return };
        let peer = node.peer();
        let actions = node.step(now, event);
        self.unflushed.insert(id);
        self.perform(id, peer, actions);
    }

    fn perform(&mut self, id: ServerId, from: Peer, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, cluster, message } => {
                    if self.servers[&id].silent {
                        continue;
                    }
                    self.sent.push((self.now, label(&message)));
                    if !self.servers[&to].silent {
                        let event = Event::Received { from, cluster, message };
                        self.after(self.pace.delay, to, event);
                    }
                }
                Action::Persist { ticket, record } => {
                    let (now, sync) = (self.now, self.pace.sync);
                    let server = self.server(id);
                    let syncs = match record {
                        Record::Append(_) | Record::Cut { .. } => &mut server.log_syncs,
                        Record::Register(_) | Record::Identity(_) => &mut server.register_syncs,
                    };
                    let done = syncs.write(now, sync);
                    let read_back = server.store(record);
                    self.after(done - now, id, Event::Persisted { ticket, read_back });
                }
                Action::NoteProgress { commit, .. } => self.server(id).durable.commit = commit,
                Action::Respond { token, result } => {
                    self.answers.insert(token, (self.now, result));
                }
                Action::Probe { server, run, probe, may_fence: _ } => {
                    let probed = &self.servers[&server];
                    let dead = !probed.silent && probed.node.is_none();
                    self.after(2 * self.pace.delay, id, Event::Probed { server, run, probe, dead });
                }
                Action::FetchSnapshot { .. } | Action::Examine => {
                    unreachable!("nothing is forgotten in this world, and no copy differs")
                }
                Action::Tell(note) => self.notes.push((self.now, id, note)),
                Action::Halt(cause) => {
                    assert_eq!(cause, Cause::Deposed, "nothing else happens in this world");
                    self.server(id).node = None;
                    self.end_of_run(from);
                    self.start(id);
                }
            }
        }
    }

    /// When this note was told first, at or after `begun`.
    pub(crate) fn told(&self, begun: Instant, wanted: impl Fn(&Note) -> bool) -> Option<(Instant, ServerId)> {
        let mut notes = self.notes.iter().filter(|(at, _, note)| *at >= begun && wanted(note));
        notes.next().map(|(at, id, _)| (*at, *id))
    }

    /// How many messages of each name were sent from `begun` to `end`; those of the heartbeat are left out.
    pub(crate) fn messages(&self, begun: Instant, end: Instant) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (_, name) in self.sent.iter().filter(|(at, _)| (begun..=end).contains(at)) {
            if !["heartbeat", "echo", "idle"].contains(name) {
                *counts.entry(*name).or_default() += 1;
            }
        }
        counts
    }
}

impl Server {
    /// What a process that ends by a higher epoch finds again; in this world no other ends and comes back.
    fn store(&mut self, record: Record) -> Vec<heirloom_proto::Sealed> {
        match record {
            Record::Append(entries) => {
                self.durable.log.extend(entries.iter().cloned());
                return entries;
            }
            Record::Cut { keep } => {
                self.durable.cut(keep);
            }
            Record::Register(register) => self.durable.register = Some(register),
            Record::Identity(identity) => self.durable.identity = identity,
        }
        Vec::new()
    }
}

/// An add of a small value.
pub(crate) fn add(key: u64) -> Request {
    let key = bytes::Bytes::from(format!("key {key}"));
    let change = heirloom_proto::Change::Add { key, value: bytes::Bytes::from_static(b"value") };
    Request::Change { id: None, change }
}

/// A linearizable read.
pub(crate) fn read() -> Request {
    Request::Read { key: bytes::Bytes::from_static(b"key 1"), consistency: heirloom_proto::Consistency::Linearizable }
}

/// What a message is counted as: one that only says how far entries are committed is no part of a write.
fn label(message: &Message) -> &'static str {
    match message {
        Message::Prepare { entries, .. } if entries.is_empty() => "commit-index",
        other => other.name(),
    }
}
