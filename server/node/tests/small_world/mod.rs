//! The smallest world: nodes, a network that keeps order and loses nothing but what is cut, disks that are at once
//! durable, one clock for all. Time passes only when nothing else is to be done. Stories are told on it; chaos is the
//! simulator's.

mod delays;
mod judged;
mod stores;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use heirloom_backup::{Durable, State};
use heirloom_laws::stored::Stored;
use heirloom_laws::{Asker, Laws};
use heirloom_node::Node;
use heirloom_proto::event::{Action, Birth, Cause, Identity, Note, Record};
use heirloom_proto::status::{RoleName, Status};
use heirloom_proto::{
    Change, ClusterId, Consistency, Constants, Entry, Event, Message, NodeConfig, Peer, Refusal, Request, RequestId,
    Response, RunId, Sealed, ServerId, SessionId, StoreId, Ticket, Time, Token, VoterKind, WallTime,
};

pub const HEARTBEAT: Duration = Duration::from_millis(50);
pub const SUSPICION: Duration = Duration::from_millis(400);

pub struct World {
    pub now: Time,
    /// How far the calendar is ahead of the clock. **Units:** milliseconds.
    pub calendar_ahead_ms: u64,
    pub constants: Constants,
    nodes: BTreeMap<ServerId, Node>,
    disks: BTreeMap<ServerId, Durable>,
    queue: VecDeque<(ServerId, Event)>,
    /// One direction each: what the first sends the second is lost.
    cut: BTreeSet<(ServerId, ServerId)>,
    paused: BTreeSet<ServerId>,
    pub answers: BTreeMap<Token, Result<Response, Refusal>>,
    pub notes: Vec<(ServerId, Note)>,
    pub halts: Vec<(ServerId, Cause)>,
    /// Whether a probe of a server that is down proves its death.
    pub proofs: bool,
    /// Probes that allowed the fencing command, with how long ago a process last died.
    pub fencings: Vec<(ServerId, Duration)>,
    died_at: Time,
    /// The disk of this server keeps something else than what it is given next, and gives that back.
    pub garbles: Option<ServerId>,
    /// What every step is held to; `None` in a story in which somebody lies, or a disk is changed by hand.
    pub laws: Option<Laws>,
    asked: BTreeMap<Token, (Asker, Request)>,
    slow_log: delays::SlowLog,
    slow_disks: delays::SlowDisks,
    late_probes: delays::LateProbes,
    /// How many log entries were sent, those sent again counted again.
    pub sent_entries: usize,
    /// The memory of this server holds something else than its disk gives.
    pub unsound: Option<ServerId>,
    /// Whether those who look at what they have stored come to an end.
    pub examinations_end: bool,
    /// Whether a snapshot that is asked for arrives.
    pub snapshots_travel: bool,
    /// How often a snapshot was asked for.
    pub fetches: usize,
    fetched: BTreeMap<ServerId, State>,
    next: u64,
}

pub fn id(server: u8) -> ServerId {
    ServerId(server)
}

impl World {
    /// A world of blank servers, the last `witnesses` of them without data; nothing runs yet.
    pub fn new(data: usize, witnesses: usize) -> Self {
        let mut voters = vec![VoterKind::Data; data];
        voters.extend(vec![VoterKind::Witness; witnesses]);
        Self::with(Constants::defaults(voters))
    }

    pub fn with(constants: Constants) -> Self {
        Self {
            now: Time(1_000_000_000),
            calendar_ahead_ms: 0,
            laws: Some(Laws::new(constants.min_copies)),
            asked: BTreeMap::new(),
            slow_log: delays::SlowLog::default(),
            slow_disks: delays::SlowDisks::default(),
            late_probes: delays::LateProbes::default(),
            constants,
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            answers: BTreeMap::new(),
            notes: Vec::new(),
            halts: Vec::new(),
            proofs: true,
            fencings: Vec::new(),
            died_at: Time(0),
            garbles: None,
            sent_entries: 0,
            unsound: None,
            examinations_end: true,
            snapshots_travel: true,
            fetches: 0,
            fetched: BTreeMap::new(),
            next: 100,
        }
    }

    /// A world in which all servers were started and one leads.
    pub fn started(data: usize, witnesses: usize) -> Self {
        let mut world = Self::new(data, witnesses);
        world.start_all();
        world.run_until("a primary serves", World::all_are_members);
        world
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn start_all(&mut self) {
        for server in self.constants.clone().servers() {
            self.start(server);
        }
    }

    /// Starts a server with whatever its disk holds.
    pub fn start(&mut self, server: ServerId) {
        self.begin_run(server, false);
    }

    fn begin_run(&mut self, server: ServerId, same_process: bool) {
        let store = StoreId(self.number());
        let blank = Identity { server, store, cluster: None, enrolled: BTreeMap::new(), enrolment_open: false };
        let durable = self.disks.entry(server).or_insert_with(|| Durable::blank(blank)).clone();
        let config = NodeConfig {
            me: server,
            constants: self.constants.clone(),
            heartbeat: HEARTBEAT,
            suspicion: SUSPICION,
            value_bytes_max: 1 << 20,
        };
        let birth = Birth { run: RunId(self.number()), cluster: self.number(), same_process };
        let (node, actions) = Node::recover(config, birth, durable, self.now);
        let peer = node.peer();
        let others: Vec<Peer> = self.nodes.values().map(Node::peer).collect();
        self.nodes.insert(server, node);
        for other in others {
            if self.connects(peer.server, other.server) {
                self.queue.push_back((other.server, Event::PeerConnected { peer }));
                self.queue.push_back((server, Event::PeerConnected { peer: other }));
            }
        }
        self.judge(server, &actions);
        self.perform(server, peer, actions);
    }

    fn connects(&self, one: ServerId, two: ServerId) -> bool {
        !self.cut.contains(&(one, two)) && !self.cut.contains(&(two, one))
    }

    /// The process dies; what was written is durable. The others notice at once.
    pub fn kill(&mut self, server: ServerId) {
        let node = self.nodes.remove(&server).expect("it runs");
        self.slow_log.crash(server);
        self.slow_disks.crash(server);
        self.died_at = self.now;
        self.queue.retain(|(to, _)| *to != server);
        self.say_broken(node.peer());
    }

    fn say_broken(&mut self, peer: Peer) {
        let others: Vec<ServerId> = self.nodes.keys().copied().filter(|other| *other != peer.server).collect();
        for other in others {
            self.queue.push_back((other, Event::PeerBroken { peer }));
        }
    }

    /// The server loses its disk; it must not run.
    pub fn wipe(&mut self, server: ServerId) {
        assert!(!self.nodes.contains_key(&server));
        self.disks.remove(&server);
    }

    pub fn disk(&mut self, server: ServerId) -> &mut Durable {
        self.disks.get_mut(&server).expect("it was started")
    }

    /// What `from` sends `to` is lost from now on, silently.
    pub fn cut(&mut self, from: ServerId, to: ServerId) {
        self.cut.insert((from, to));
    }

    /// What `from` sends `to` arrives again; what was lost stays lost, and no hands are shaken.
    pub fn uncut(&mut self, from: ServerId, to: ServerId) {
        self.cut.remove(&(from, to));
    }

    /// These two reach each other again, and have shaken hands anew.
    pub fn reconnect(&mut self, one: ServerId, other: ServerId) {
        for (at, peer) in [(one, other), (other, one)] {
            self.uncut(at, peer);
            self.queue.push_back((at, Event::PeerConnected { peer: self.nodes[&peer].peer() }));
        }
    }

    pub fn cut_off(&mut self, server: ServerId) {
        for other in self.constants.clone().servers().filter(|other| *other != server) {
            self.cut(server, other);
            self.cut(other, server);
        }
    }

    /// Messages on their way to this server are lost.
    pub fn drop_to(&mut self, server: ServerId) {
        self.queue.retain(|(to, event)| *to != server || !matches!(event, Event::Received { .. }));
    }

    /// Nothing is lost any more, and hands are shaken anew: a stream through a cut breaks in the end.
    pub fn heal(&mut self) {
        self.cut.clear();
        let peers: Vec<Peer> = self.nodes.values().map(Node::peer).collect();
        for at in &peers {
            for peer in peers.iter().filter(|peer| peer.server != at.server) {
                self.queue.push_back((at.server, Event::PeerConnected { peer: *peer }));
            }
        }
    }

    /// The process is stopped: its events wait.
    pub fn pause(&mut self, server: ServerId) {
        self.paused.insert(server);
    }

    pub fn resume(&mut self, server: ServerId) {
        self.paused.remove(&server);
    }

    pub fn node(&self, server: ServerId) -> &Node {
        &self.nodes[&server]
    }

    pub fn status(&self, server: ServerId) -> Status {
        self.nodes[&server].status(self.now)
    }

    /// How many sessions are open at each server.
    pub fn sessions(&self) -> Vec<u64> {
        self.nodes.keys().map(|server| self.status(*server).sessions).collect()
    }

    pub fn role(&self, server: ServerId) -> RoleName {
        self.status(server).role
    }

    /// The one server that leads and can commit; `None` while there is none.
    pub fn primary(&self) -> Option<ServerId> {
        let mut serving = self.nodes.values().filter(|node| {
            let status = node.status(self.now);
            status.role == RoleName::Primary && status.waits_for.is_none()
        });
        serving.next().map(|node| node.peer().server)
    }

    pub fn members(&self) -> Vec<u8> {
        let Some(primary) = self.primary() else { return Vec::new() };
        self.status(primary).in_sync.iter().map(|member| member.server.0).collect()
    }

    pub fn all_are_members(&self) -> bool {
        self.primary().is_some() && self.members().len() == self.constants.data_servers().count()
    }

    fn perform(&mut self, server: ServerId, from: Peer, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, cluster, message } => {
                    if let Message::Prepare { entries, .. } = &message {
                        self.sent_entries += entries.len();
                    }
                    if !self.cut.contains(&(server, to)) && self.nodes.contains_key(&to) {
                        self.queue.push_back((to, Event::Received { from, cluster, message }));
                    }
                }
                Action::Persist { ticket, record } => {
                    if let Some(record) = self.slow_log.keep(server, ticket, record)
                        && let Some(record) = self.slow_disks.keep(self.now, server, ticket, record)
                    {
                        self.store(server, ticket, record);
                    }
                }
                Action::NoteProgress { commit, .. } => {
                    self.disks.get_mut(&server).expect("a started server has a disk").commit = commit;
                }
                Action::Respond { token, result } => {
                    self.asked.remove(&token);
                    let before = self.answers.insert(token, result);
                    assert_eq!(before, None, "a caller is answered once");
                }
                Action::Probe { server: probed, run, probe, may_fence } => {
                    if may_fence {
                        self.fencings.push((probed, self.now.since(self.died_at)));
                    }
                    let dead = self.proofs && !self.nodes.contains_key(&probed);
                    let event = Event::Probed { server: probed, run, probe, dead };
                    if let Some(event) = self.late_probes.keep(server, probed, event) {
                        self.queue.push_back((server, event));
                    }
                }
                Action::Examine if self.unsound == Some(server) => {
                    self.unsound = None;
                    self.halted(server, from, &Cause::Deposed);
                }
                Action::Examine if self.examinations_end => self.queue.push_back((server, Event::Examined)),
                Action::Examine => {}
                Action::FetchSnapshot { from, at_least } => {
                    self.fetches += 1;
                    let snapshot = self.disks[&from].base.clone();
                    let index = snapshot.index();
                    if self.snapshots_travel && index >= at_least {
                        self.fetched.insert(server, snapshot);
                        self.queue.push_back((server, Event::SnapshotFetched { index }));
                    }
                }
                Action::Tell(note) => self.notes.push((server, note)),
                Action::Halt(cause) => self.halted(server, from, &cause),
            }
        }
    }

    fn store(&mut self, server: ServerId, ticket: Ticket, record: Record) {
        let disk = self.disks.get_mut(&server).expect("a started server has a disk");
        let mut read_back = Vec::new();
        match record {
            Record::Append(mut entries) => {
                if self.garbles.take_if(|garbled| *garbled == server).is_some() {
                    let last = entries.pop().expect("an append has entries").entry().clone();
                    entries.push(Sealed::new(Entry { at: WallTime(last.at.0 + 1), ..last }));
                }
                disk.log.extend(entries.iter().cloned());
                read_back = entries;
            }
            Record::Cut { keep } => disk.cut(keep),
            Record::Register(register) => disk.register = Some(register),
            Record::Identity(identity) => disk.identity = identity,
        }
        self.queue.push_back((server, Event::Persisted { ticket, read_back }));
    }

    /// What the runtime does when a run is over.
    fn halted(&mut self, server: ServerId, peer: Peer, cause: &Cause) {
        self.halts.push((server, cause.clone()));
        self.nodes.remove(&server);
        self.slow_disks.crash(server);
        let (lost, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.queue).into_iter().partition(|(to, _)| *to == server);
        self.queue = kept;
        for (_, event) in lost {
            if let Event::Requested { token, .. } = event {
                self.answers.insert(token, Err(Refusal::NotPrimary { primary: None }));
            }
        }
        self.say_broken(peer);
        match cause {
            Cause::Deposed => self.begin_run(server, true),
            Cause::SnapshotFetched => {
                let snapshot = self.fetched.remove(&server).expect("it was fetched");
                self.disk(server).install(snapshot);
                self.begin_run(server, true);
            }
            Cause::Superseded { .. } => {
                self.disks.remove(&server);
                self.begin_run(server, true);
            }
            Cause::Irreconcilable { .. } | Cause::Outdated { .. } => {
                let store = StoreId(self.number());
                let disk = self.disk(server);
                disk.identity.store = store;
                *disk = Durable::blank(disk.identity.clone());
                self.begin_run(server, true);
            }
            Cause::Disk { .. } | Cause::Misconfigured { .. } => {}
        }
    }

    fn step(&mut self, server: ServerId, event: Event) {
        let Some(node) = self.nodes.get_mut(&server) else { return };
        let from = node.peer();
        if let (Some(laws), Event::Received { from, message, .. }) = (&mut self.laws, &event) {
            laws.received(*from, message);
        }
        for event in [event, Event::Flush] {
            let Some(node) = self.nodes.get_mut(&server).filter(|node| node.peer() == from) else { return };
            let actions = node.step(self.now, event);
            self.judge(server, &actions);
            self.perform(server, from, actions);
        }
    }

    /// Everything that can happen without time passing, happens.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let Some(at) = self.queue.iter().position(|(to, _)| !self.paused.contains(to)) else { return };
            let (server, event) = self.queue.remove(at).expect("found above");
            self.step(server, event);
        }
        panic!("it never comes to rest");
    }

    /// The next event happens, and nothing else; false where there is none.
    pub fn one(&mut self) -> bool {
        let Some((server, event)) = self.queue.pop_front() else { return false };
        self.step(server, event);
        true
    }

    /// A little time passes, and what comes of it waits for [`Self::one`].
    pub fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(10);
        let all: Vec<ServerId> = self.nodes.keys().copied().collect();
        for server in all {
            self.step(server, Event::Deadline);
        }
    }

    /// One event after the other, until just after the one that makes it so.
    pub fn step_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = self.now;
        while !holds(self) {
            assert!(
                self.now.since(begun) < Duration::from_secs(60),
                "{what}: waited for too long\n{}",
                self.describe()
            );
            if !self.one() {
                self.tick();
            }
        }
    }

    /// Time passes until the condition holds.
    pub fn run_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let begun = self.now;
        self.settle();
        while !holds(self) {
            assert!(
                self.now.since(begun) < Duration::from_secs(60),
                "{what}: waited for too long\n{}",
                self.describe()
            );
            self.pass_to_next_deadline();
        }
        self.now.since(begun)
    }

    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while self.now < end {
            self.pass_to_next_deadline();
        }
    }

    fn pass_to_next_deadline(&mut self) {
        let running = self.nodes.iter().filter(|(server, _)| !self.paused.contains(server));
        let deadline = running.filter_map(|(_, node)| node.next_deadline()).min().unwrap_or(Time(0));
        let next = self.slow_disks.next_at().map_or(deadline, |durable| durable.min(deadline));
        self.now = next.max(self.now + Duration::from_millis(1));
        while let Some((server, ticket, record)) = self.slow_disks.done(self.now) {
            self.store(server, ticket, record);
        }
        let due: Vec<ServerId> = self.nodes.keys().filter(|server| !self.paused.contains(server)).copied().collect();
        for server in due {
            self.step(server, Event::Deadline);
        }
        self.settle();
    }

    pub fn describe(&self) -> String {
        self.nodes.values().map(|node| format!("{:?}\n", node.status(self.now))).collect()
    }

    /// Asks without waiting.
    pub fn ask(&mut self, server: ServerId, request: Request) -> Token {
        let token = self.enqueue(server, request);
        self.settle();
        token
    }

    /// Asks, and leaves it in the queue.
    pub fn enqueue(&mut self, server: ServerId, request: Request) -> Token {
        let token = Token(self.number());
        self.asked.insert(token, (Asker::Client, request.clone()));
        let at = WallTime(self.now.0 / 1_000_000 + self.calendar_ahead_ms);
        self.queue.push_back((server, Event::Requested { token, request, at }));
        token
    }

    /// What was queued last comes before everything else: two connections know no order.
    pub fn hurry(&mut self) {
        let last = self.queue.pop_back().expect("something is queued");
        self.queue.push_front(last);
    }

    /// Says that a server is off, and leaves it in the queue.
    pub fn enqueue_fence(&mut self, at: ServerId, fenced: ServerId) {
        let token = Token(self.number());
        let request = Request::Fence(fenced);
        self.asked.insert(token, (Asker::Operator, request.clone()));
        self.queue.push_back((at, Event::Requested { token, request, at: WallTime(0) }));
    }

    pub fn answer(&self, token: Token) -> Option<&Result<Response, Refusal>> {
        self.answers.get(&token)
    }

    /// Asks the primary and waits.
    pub fn request(&mut self, request: Request) -> Result<Response, Refusal> {
        let primary = self.primary().expect("somebody leads");
        let token = self.ask(primary, request);
        self.run_until("an answer", |world| world.answers.contains_key(&token));
        self.answers[&token].clone()
    }

    pub fn add(&mut self, key: &str, value: &str) -> Result<Response, Refusal> {
        self.request(add(None, key, value))
    }

    pub fn read(&mut self, key: &str) -> Option<String> {
        match self.request(read(key)) {
            Ok(Response::Found { value, .. }) => Some(String::from_utf8(value.to_vec()).expect("text")),
            Ok(Response::NotFound { .. }) => None,
            other => panic!("a read was answered {other:?}"),
        }
    }

    pub fn open_session(&mut self) -> SessionId {
        match self.request(Request::OpenSession) {
            Ok(Response::SessionOpened { session }) => session,
            other => panic!("a session was answered {other:?}"),
        }
    }

    /// All data servers that run have applied the same, and it hashes to the same.
    pub fn assert_equal(&self) {
        let data: Vec<Status> = self
            .constants
            .data_servers()
            .filter_map(|server| self.nodes.get(&server))
            .map(|node| node.status(self.now))
            .collect();
        for status in &data {
            assert_eq!((status.applied, status.digest), (data[0].applied, data[0].digest), "{}", self.describe());
        }
    }

    pub fn forge(&mut self, to: ServerId, from: Peer, cluster: Option<ClusterId>, message: Message) {
        self.enqueue_message(to, from, cluster, message);
        self.settle();
    }

    /// Forges a message, and leaves it in the queue.
    pub fn enqueue_message(&mut self, to: ServerId, from: Peer, cluster: Option<ClusterId>, message: Message) {
        self.queue.push_back((to, Event::Received { from, cluster, message }));
    }
}

pub fn add(id: Option<RequestId>, key: &str, value: &str) -> Request {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let value = Bytes::copy_from_slice(value.as_bytes());
    Request::Change { id, change: Change::Add { key, value } }
}

pub fn delete(key: &str) -> Request {
    Request::Change { id: None, change: Change::Delete { key: Bytes::copy_from_slice(key.as_bytes()) } }
}

pub fn read(key: &str) -> Request {
    Request::Read { key: Bytes::copy_from_slice(key.as_bytes()), consistency: Consistency::Linearizable }
}
