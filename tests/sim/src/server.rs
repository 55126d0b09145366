//! One server of a world: its host, its disk, its clock and, while it runs, its process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use heirloom_laws::{Asker, Observed};
use heirloom_node::Node;
use heirloom_proto::{
    Event, LogIndex, Member, NodeConfig, Position, Register, Request, RunId, ServerId, Ticket, Time, Token,
};
use heirloom_session::Attempt;

use crate::clock::{Clock, Instant};
use crate::disk::{Disk, Queue};
use crate::spoiling::Wrong;
use crate::stopping::Stop;

/// Counts the runs of a world in the order of their beginning, which their ids do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Birthday(pub(crate) u64);

/// Whether anything runs.
#[derive(Debug)]
pub(crate) enum State {
    /// No process; the host may refuse connections, or be dead silent.
    Off { host_up: bool },
    /// The process lives and is between two runs of the node.
    Between,
    /// A run of the node.
    Running(Box<Process>),
}

/// Who waits for an answer of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A client; `server` is where it asked, which may have forwarded.
    Client { client: usize, server: ServerId, connection: u64, attempt: Attempt, forward: bool },
    /// The operator, who promotes and fences.
    Operator,
}

/// A request that a node has not answered.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub caller: Caller,
    pub request: Request,
}

/// One run of a node and what its runtime keeps for it.
#[derive(Debug)]
pub(crate) struct Process {
    pub node: Node,
    pub run: RunId,
    pub born: Birthday,
    /// By server: to which run a stream stands.
    pub streams: Vec<Option<Birthday>>,
    /// By server: with which runs hands were shaken.
    pub met: Vec<BTreeSet<Birthday>>,
    /// An answer to anybody else is one too many.
    pub callers: BTreeMap<Token, Waiting>,
    /// For which deadline a wake-up is on its way, and its number: others are void.
    pub wake_for: Option<Time>,
    pub wake_number: u64,
    pub flush_on_its_way: bool,
    /// How many deadlines in a row left a deadline that was over already.
    pub idle_deadlines: u32,
    /// The write that was read back otherwise than it was written, until the node is told.
    pub wrongly_read: Option<Ticket>,
    /// A snapshot of another server is on its way.
    pub fetching: bool,
    /// It is here.
    pub fetched: Option<heirloom_backup::State>,
    /// The last cut of the log: what was written before it may be void.
    pub last_cut: Option<Ticket>,
}

impl Process {
    pub(crate) fn new(node: Node, run: RunId, born: Birthday, servers: usize) -> Self {
        Self {
            node,
            run,
            born,
            streams: vec![None; servers],
            met: vec![BTreeSet::new(); servers],
            callers: BTreeMap::new(),
            wake_for: None,
            wake_number: 0,
            flush_on_its_way: false,
            idle_deadlines: 0,
            wrongly_read: None,
            fetching: false,
            fetched: None,
            last_cut: None,
        }
    }
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    pub id: ServerId,
    pub config: NodeConfig,
    pub clock: Clock,
    pub disk: Disk,
    pub state: State,
    /// While it is stopped nothing is stepped; what comes waits in `inbox`.
    pub stopped: Option<Stop>,
    pub inbox: VecDeque<Event>,
    /// Queues of the disk whose next sync begins when the process goes on.
    pub stalled: BTreeSet<Queue>,
    pub slow_disk_until: Instant,
    pub full_until: Instant,
    pub wrong_read_back: Option<Wrong>,
    pub disk_failed: bool,
    /// After how many performed actions of the next step the process is killed.
    pub crash_within_step: Option<u64>,
    /// A start is on its way.
    pub start_due: bool,
    /// Set when the directory was emptied, until it is a member again.
    pub wiped: bool,
    pub ever_wiped: bool,
    /// Set when the directory was found damaged, until it is a member again.
    pub damaged: bool,
    /// An older copy of the directory.
    pub copy: Option<Disk>,
    /// Set when that copy was put in its place, until the server votes or finds out.
    pub put_back: bool,
}

impl Server {
    pub(crate) fn new(id: ServerId, config: NodeConfig, clock: Clock, disk: Disk) -> Self {
        Self {
            id,
            config,
            clock,
            disk,
            state: State::Off { host_up: true },
            stopped: None,
            inbox: VecDeque::new(),
            stalled: BTreeSet::new(),
            slow_disk_until: 0,
            full_until: 0,
            wrong_read_back: None,
            disk_failed: false,
            crash_within_step: None,
            start_due: true,
            wiped: false,
            ever_wiped: false,
            damaged: false,
            copy: None,
            put_back: false,
        }
    }
}

impl Server {
    pub(crate) fn process(&self) -> Option<&Process> {
        match &self.state {
            State::Running(process) => Some(process),
            State::Off { .. } | State::Between => None,
        }
    }

    pub(crate) fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.state {
            State::Running(process) => Some(process),
            State::Off { .. } | State::Between => None,
        }
    }

    /// The process, where it is the run that began then.
    pub(crate) fn process_of(&mut self, born: Birthday) -> Option<&mut Process> {
        self.process_mut().filter(|process| process.born == born)
    }

    pub(crate) fn is_off(&self) -> bool {
        matches!(self.state, State::Off { .. })
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.stopped.is_some()
    }
}

impl Observed for Server {
    fn id(&self) -> ServerId {
        self.id
    }

    fn node(&self) -> Option<&Node> {
        self.process().map(|process| &process.node)
    }

    fn clock(&self, now: u64) -> Time {
        self.clock.read(now)
    }

    fn asker(&self, token: Token) -> Option<Asker> {
        let waiting = self.process()?.callers.get(&token)?;
        Some(match waiting.caller {
            Caller::Client { .. } => Asker::Client,
            Caller::Operator => Asker::Operator,
        })
    }

    fn asked(&self, token: Token) -> Option<&Request> {
        Some(&self.process()?.callers.get(&token)?.request)
    }

    fn member(&self) -> Member {
        self.disk.member()
    }

    fn register(&self) -> Option<&Register> {
        self.disk.register()
    }

    fn durable_base(&self) -> LogIndex {
        self.disk.base()
    }

    fn durable_end(&self) -> LogIndex {
        self.disk.end()
    }

    fn durable_position_at(&self, index: LogIndex) -> Option<Position> {
        self.disk.position_at(index)
    }
}
