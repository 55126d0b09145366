//! One server of a world: its process, its disk, and all that one event does to both.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;

use heirloom_backup::Durable;
use heirloom_laws::{Asker, Observed, listen};
use heirloom_node::Node;
use heirloom_proto::{
    Action, Birth, Cause, ChainHash, Event, Identity, LogIndex, Member, Mutant, Peer, Position, Record, Register,
    Request, RunId, ServerId, StoreId, Ticket, Time, Token, WallTime, planted,
};

use crate::rules::Rules;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Local {
    pub id: ServerId,
    pub process: Option<Process>,
    pub disk: Disk,
    /// How many runs began here: a run's id must not depend on what happens elsewhere.
    runs: u64,
    /// The process lives and is about to begin another run.
    between_runs: bool,
    stores: u64,
}

/// A run, with the callers that wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub node: Node,
    pub callers: BTreeMap<Token, Asker>,
}

/// A data directory, and what is on its way to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    durable: Durable,
    hashes: Vec<ChainHash>,
    log_queue: VecDeque<(Ticket, Record)>,
    register_queue: VecDeque<(Ticket, Record)>,
}

/// What happens to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// Something reaches its node.
    Event(Event),
    /// A caller asks.
    Ask {
        token: Token,
        asker: Asker,
        request: Request,
    },
    /// The next write of the log, or of the register, is durable.
    LogSynced,
    RegisterSynced,
    /// The process ends; what was not synced is kept, or lost.
    Crash {
        keeps_unsynced: bool,
    },
    /// A run begins.
    Start,
    /// While it is down its directory is emptied.
    Emptied,
    /// While it is down its register is lost.
    RegisterLost,
}

/// What one step of the node saw and wanted, for the laws.
#[derive(Debug)]
pub(crate) struct Substep {
    /// The server after the node's step and before anything of it was carried out.
    pub seen: Local,
    pub actions: Vec<Action>,
}

/// All that an input does.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub substeps: Vec<Substep>,
    pub after: Local,
    /// An assertion of the core failed.
    pub panicked: Option<String>,
}

impl Local {
    /// A server with a blank directory, not yet started.
    pub(crate) fn blank(id: ServerId) -> Self {
        let mut local =
            Self { id, process: None, disk: Disk::of(blank(id, StoreId(0))), runs: 0, between_runs: false, stores: 0 };
        local.format();
        local
    }

    fn format(&mut self) {
        self.stores += 1;
        self.disk = Disk::of(blank(self.id, StoreId(numbered(self.id, self.stores))));
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.process.as_ref().map(|process| &process.node)
    }

    pub(crate) fn peer(&self) -> Option<Peer> {
        self.node().map(Node::peer)
    }

    pub(crate) fn is_between_runs(&self) -> bool {
        self.between_runs
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.node().and_then(Node::next_deadline)
    }

    /// Whether a write of the log, or of the register, is under way.
    pub(crate) fn writes(&self) -> (bool, bool) {
        (!self.disk.log_queue.is_empty(), !self.disk.register_queue.is_empty())
    }

    /// Takes an input, with everything that it sets going within this server.
    pub(crate) fn take(&self, input: &Input, now: Time, rules: &Rules) -> Outcome {
        let mut taking = Taking { server: self.clone(), substeps: Vec::new(), now, rules };
        let taken = listen(AssertUnwindSafe(|| taking.take(input)));
        Outcome { substeps: taking.substeps, after: taking.server, panicked: taken.err() }
    }
}

fn blank(server: ServerId, store: StoreId) -> Identity {
    Identity { server, store, cluster: None, enrolled: BTreeMap::new(), enrolment_open: false }
}

/// A number that no other server draws, far enough from the next for a run to count its questions up from it. Server and
/// count stand in its highest digits, which are those that a story tells.
fn numbered(id: ServerId, count: u64) -> u64 {
    (u64::from(id.0) + 1) << 56 | count << 52
}

struct Taking<'a> {
    server: Local,
    substeps: Vec<Substep>,
    now: Time,
    rules: &'a Rules,
}

impl Taking<'_> {
    fn take(&mut self, input: &Input) {
        match input {
            Input::Event(event) => self.events(event.clone()),
            Input::Ask { token, asker, request } => {
                let Some(process) = &mut self.server.process else { return };
                process.callers.insert(*token, *asker);
                self.events(Event::Requested { token: *token, request: request.clone(), at: WallTime(0) });
            }
            Input::LogSynced => {
                let completed = self.server.disk.complete_log();
                completed.into_iter().for_each(|event| self.events(event));
            }
            Input::RegisterSynced => {
                let completed = self.server.disk.complete_register();
                completed.into_iter().for_each(|event| self.events(event));
            }
            Input::Crash { keeps_unsynced } => {
                self.server.process = None;
                self.server.disk.end_of_process(*keeps_unsynced);
                if !self.rules.commit_kept {
                    self.server.disk.durable.commit = LogIndex::ZERO;
                }
            }
            Input::Start => self.start(),
            Input::Emptied => self.server.format(),
            Input::RegisterLost => self.server.disk.durable.register = Some(Register::LOST),
        }
    }

    fn start(&mut self) {
        let server = &mut self.server;
        server.runs += 1;
        server.between_runs = false;
        let run = RunId(numbered(server.id, server.runs));
        let birth = Birth { run, cluster: 7, same_process: true };
        let (mut node, actions) =
            Node::recover(self.rules.config(server.id), birth, server.disk.durable.clone(), self.now);
        node.forget();
        server.process = Some(Process { node, callers: BTreeMap::new() });
        let mut waiting = VecDeque::new();
        self.stepped(actions, &mut waiting);
        self.go_on(waiting);
    }

    fn events(&mut self, event: Event) {
        self.go_on(VecDeque::from([event]));
    }

    /// Steps the node until all that follows at once has followed, the flush at last.
    fn go_on(&mut self, mut waiting: VecDeque<Event>) {
        let mut flushed = false;
        loop {
            let event = match waiting.pop_front() {
                Some(event) => event,
                None if !flushed => {
                    flushed = true;
                    Event::Flush
                }
                None => return,
            };
            let Some(process) = &mut self.server.process else { return };
            let actions = process.node.step(self.now, event);
            // What it remembers of others is for directories that are put back, of which there are none here.
            process.node.forget();
            self.stepped(actions, &mut waiting);
        }
    }

    fn stepped(&mut self, actions: Vec<Action>, waiting: &mut VecDeque<Event>) {
        self.substeps.push(Substep { seen: self.server.clone(), actions: actions.clone() });
        for action in actions {
            self.perform(action);
        }
        if !self.rules.slow_disks {
            // Reduction: a write is durable at once. What the node would have met meanwhile it meets before or after.
            while let Some(event) = self.server.disk.complete_log().or_else(|| self.server.disk.complete_register()) {
                waiting.push_back(event);
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Persist { ticket, record } => self.server.disk.enqueue(ticket, record),
            Action::NoteProgress { commit, confirmed: _ } => self.server.disk.durable.commit = commit,
            Action::Respond { token, .. } => {
                if let Some(process) = &mut self.server.process {
                    process.callers.remove(&token);
                }
            }
            Action::Halt(cause) => self.halt(&cause),
            Action::Send { .. }
            | Action::Probe { .. }
            | Action::FetchSnapshot { .. }
            | Action::Examine
            | Action::Tell(_) => {}
        }
    }

    /// What the runtime does at the end of a run.
    fn halt(&mut self, cause: &Cause) {
        let server = &mut self.server;
        server.process = None;
        server.disk.end_of_process(true);
        match cause {
            Cause::Disk { .. } => {}
            Cause::Deposed | Cause::SnapshotFetched => server.between_runs = true,
            Cause::Superseded { .. } => {
                server.between_runs = true;
                server.format();
            }
            Cause::Irreconcilable { .. } | Cause::Outdated { .. } => {
                server.between_runs = true;
                server.stores += 1;
                let store = StoreId(numbered(server.id, server.stores));
                let identity = Identity { store, ..server.disk.durable.identity.clone() };
                server.disk = Disk::of(identity);
                server.disk.durable.register = Some(Register::LOST);
            }
            Cause::Misconfigured { what } => panic!("server {} thinks that it is misconfigured: {what}", server.id),
        }
    }
}

impl Disk {
    fn of(identity: Identity) -> Self {
        let durable = Durable::blank(identity);
        Self { durable, hashes: Vec::new(), log_queue: VecDeque::new(), register_queue: VecDeque::new() }
    }

    fn enqueue(&mut self, ticket: Ticket, record: Record) {
        match record {
            Record::Append(_) | Record::Cut { .. } => self.log_queue.push_back((ticket, record)),
            Record::Register(_) | Record::Identity(_) => self.register_queue.push_back((ticket, record)),
        }
    }

    fn complete_log(&mut self) -> Option<Event> {
        let (ticket, record) = self.log_queue.pop_front()?;
        Some(self.complete(ticket, record))
    }

    fn complete_register(&mut self) -> Option<Event> {
        let (ticket, record) = self.register_queue.pop_front()?;
        Some(self.complete(ticket, record))
    }

    fn complete(&mut self, ticket: Ticket, record: Record) -> Event {
        let mut read_back = Vec::new();
        match record {
            Record::Append(entries) => {
                for entry in &entries {
                    assert_eq!(entry.index().0, self.hashes.len() as u64 + 1, "an append follows on the durable log");
                    let previous = self.hashes.last().copied().unwrap_or(ChainHash::EMPTY);
                    self.hashes.push(entry.extend(previous));
                    self.durable.log.push(entry.clone());
                }
                read_back = entries;
            }
            Record::Cut { keep } => {
                let keep = usize::try_from(keep.0).expect("a log of a world is short");
                self.durable.log.truncate(keep);
                self.hashes.truncate(keep);
            }
            Record::Register(register) => {
                if let Some(before) = &self.durable.register {
                    let forgets = planted(Mutant::StaleRegisterAfterRestart);
                    assert!(register.promised >= before.promised || forgets, "a promise is taken back");
                    assert!(register.accepted_epoch() >= before.accepted_epoch(), "a vote is taken back");
                }
                self.durable.register = Some(register);
            }
            Record::Identity(identity) => self.durable.identity = identity,
        }
        Event::Persisted { ticket, read_back }
    }

    fn end_of_process(&mut self, keeps_unsynced: bool) {
        if keeps_unsynced {
            while self.complete_log().or_else(|| self.complete_register()).is_some() {}
        }
        self.log_queue.clear();
        self.register_queue.clear();
    }
}

impl Observed for &Local {
    fn id(&self) -> ServerId {
        self.id
    }

    fn node(&self) -> Option<&Node> {
        Local::node(self)
    }

    fn clock(&self, now: u64) -> Time {
        Time(now)
    }

    fn asker(&self, token: Token) -> Option<Asker> {
        self.process.as_ref()?.callers.get(&token).copied()
    }

    fn member(&self) -> Member {
        Member { server: self.id, store: self.disk.durable.identity.store }
    }

    fn register(&self) -> Option<&Register> {
        self.disk.durable.register.as_ref()
    }

    fn durable_end(&self) -> LogIndex {
        LogIndex(self.disk.hashes.len() as u64)
    }

    fn durable_position_at(&self, index: LogIndex) -> Option<Position> {
        if index == LogIndex::ZERO {
            return Some(Position::START);
        }
        let hash = *self.disk.hashes.get(usize::try_from(index.0).ok()?.checked_sub(1)?)?;
        Some(Position { index, hash })
    }
}
