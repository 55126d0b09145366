//! The clients: workers that call one operation after the other and write down what they were told, no more and no less.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heirloom::{Client, ServerId};
use heirloom_laws::random::Random;

use crate::ask::{Door, Wish};
use crate::hosts::{Network, Place};
use crate::record::{Mode, Op, Record};

/// Keys are used for so long, then others: what is checked at once stays small.
const GENERATION: Duration = Duration::from_secs(30);
/// How long after its deadline a call must have ended, even on a busy machine.
const GRACE: Duration = Duration::from_secs(20);
/// The pause of a worker that uses the command line, beside the start of a process.
const COMMAND_PAUSE_MS: u64 = 300;
/// The pause of a worker that appends.
const APPEND_PAUSE_MS: u64 = 150;
/// How long a read that only one server is asked for waits, at most: that server may be down for long.
const FROM_ONE_MAX: Duration = Duration::from_secs(1);
/// Under which prefix all append.
const PREFIX: &str = "log/";

/// What the clients do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub seed: u64,
    /// How many workers use the library.
    pub workers: u64,
    /// How many keys are in use at a time.
    pub keys: u64,
    /// How many calls a second all workers make together, while all is well.
    pub rate: u64,
    /// The command line, and how many workers use it.
    pub commands: (PathBuf, u64),
    /// How many workers append, every other one at any server by itself.
    pub appenders: u64,
    /// How many servers hold data: a read may ask one of them alone.
    pub data: usize,
}

impl Plan {
    fn all(&self) -> u64 {
        self.workers + self.commands.1 + self.appenders
    }

    /// What the worker of this name asks for. The last quarter of those with the library only reads.
    fn part(&self, name: u64) -> Part {
        match name {
            name if name >= self.workers + self.commands.1 => Part::Appends,
            name if name < self.workers && name >= self.workers - self.workers / 4 => Part::Reads,
            _ => Part::All,
        }
    }
}

/// What the clients share.
#[derive(Debug)]
pub(crate) struct Shared {
    begun: Instant,
    stop: AtomicBool,
    /// What must never happen to a client, as sentences.
    troubles: Mutex<Vec<String>>,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).expect("shorter than 500 years")
    }

    fn trouble(&self, what: String) {
        self.troubles.lock().expect("nobody panicked").push(what);
    }
}

/// The clients at work.
#[derive(Debug)]
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Record>>>,
}

impl Clients {
    /// Starts the workers, in turn at all places: beside every server, so that some are cut off together with it, and
    /// outside.
    pub(crate) fn start(network: &Arc<Network>, addresses: &[String], plan: &Plan, begun: Instant) -> Self {
        let shared = Arc::new(Shared { begun, stop: AtomicBool::new(false), troubles: Mutex::default() });
        let places: Vec<Place> =
            if network.can_cut() { (0..=network.outside()).rev().collect() } else { vec![network.outside()] };
        let all = plan.all();
        let threads = places.iter().enumerate().map(|(turn, place)| {
            let names: Vec<u64> = (0..all).filter(|name| *name as usize % places.len() == turn).collect();
            let (network, addresses, plan) = (network.clone(), addresses.to_vec(), plan.clone());
            let (shared, place) = (shared.clone(), *place);
            std::thread::spawn(move || {
                if let Err(what) = network.enter(place) {
                    shared.trouble(what);
                    return Vec::new();
                }
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(at_one_place(names, place, &network, &addresses, &plan, &shared))
            })
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// Ends the work; gives all records, and what must never happen.
    pub(crate) fn stop(self) -> (Vec<Record>, Vec<String>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut history = Vec::new();
        for thread in self.threads {
            match thread.join() {
                Ok(records) => history.extend(records),
                Err(_) => self.shared.trouble("a client panicked".to_owned()),
            }
        }
        history.sort_by_key(|record| record.start_ns);
        let troubles = std::mem::take(&mut *self.shared.troubles.lock().expect("nobody panicked"));
        (history, troubles)
    }
}

async fn at_one_place(
    names: Vec<u64>,
    place: Place,
    network: &Arc<Network>,
    addresses: &[String],
    plan: &Plan,
    shared: &Arc<Shared>,
) -> Vec<Record> {
    // Every other worker has a client of its own; the others share one, whose calls are under way at the same time.
    let common = Client::connect(addresses).await.expect("addresses that can be read");
    let mut tasks = Vec::new();
    for name in names {
        let appends = plan.part(name) == Part::Appends;
        let door = if appends && name % 2 == 1 {
            Door::each(addresses)
        } else if name >= plan.workers && !appends {
            let (network, program) = (network.clone(), plan.commands.0.clone());
            Door::Command { network, place, program, servers: addresses.join(",") }
        } else if name % 2 == 0 {
            Door::Library(common.clone())
        } else {
            // In another order than by id, which the client must find out.
            let turned = addresses.iter().cycle().skip(name as usize % addresses.len()).take(addresses.len());
            Door::Library(Client::connect(turned).await.expect("addresses that can be read"))
        };
        let random = Random::new(plan.seed ^ (name + 1).wrapping_mul(0x9e37_79b9));
        let part = plan.part(name);
        let (plan, shared) = (plan.clone(), shared.clone());
        let worker = Worker { name, client: name, part, calls: 0, door, random, plan, shared };
        tasks.push(tokio::spawn(worker.work()));
    }
    let mut records = Vec::new();
    for task in tasks {
        match task.await {
            Ok(mut seen) => records.append(&mut seen),
            Err(_) => shared.trouble("a client panicked".to_owned()),
        }
    }
    records
}

/// What a worker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Anything.
    All,
    /// Reads alone: it goes on where no change is answered, and sees first what is stale.
    Reads,
    /// Appends alone.
    Appends,
}

struct Worker {
    name: u64,
    /// Its name in the history: a new one after each operation of unknown outcome.
    client: u64,
    part: Part,
    calls: u64,
    door: Door,
    random: Random,
    plan: Plan,
    shared: Arc<Shared>,
}

impl Worker {
    async fn work(mut self) -> Vec<Record> {
        let mut records = Vec::new();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let record = self.operation().await;
            if record.result.is_none() {
                self.client += self.plan.all();
            }
            records.push(record);
            let pause_us = match (&self.door, self.part) {
                (_, Part::Appends) => self.random.waiting(APPEND_PAUSE_MS * 1_000),
                (Door::Command { .. }, _) => self.random.waiting(COMMAND_PAUSE_MS * 1_000),
                (Door::Library(_) | Door::Each(_), _) => {
                    self.random.waiting(1_000_000 * self.plan.workers / self.plan.rate.max(1))
                }
            };
            tokio::time::sleep(Duration::from_micros(pause_us)).await;
        }
        records
    }

    fn wish(&mut self) -> Wish {
        self.calls += 1;
        let op = match self.part {
            Part::All => [Op::Add, Op::Read, Op::Delete][self.random.weighted(&[44, 48, 8])],
            Part::Reads => Op::Read,
            Part::Appends => Op::Append,
        };
        let value = matches!(op, Op::Add | Op::Append).then(|| format!("c{}-{}", self.name, self.calls));
        if op == Op::Append {
            return Wish { op, key: PREFIX.to_owned(), value, mode: Mode::Linearizable, from: None };
        }
        let generation = self.shared.begun.elapsed().as_secs() / GENERATION.as_secs();
        let key = format!("g{generation}-k{}", self.random.below(self.plan.keys));
        let (mut mode, mut from) = (Mode::Linearizable, None);
        if op == Op::Read && matches!(self.door, Door::Library(_)) {
            mode = [Mode::Linearizable, Mode::Causal, Mode::Stale][self.random.weighted(&[75, 17, 8])];
            let server = u8::try_from(self.random.below(self.plan.data as u64)).expect("few servers");
            from = self.random.per_mille(250).then_some(ServerId(server));
        }
        Wish { op, key, value, mode, from }
    }

    async fn operation(&mut self) -> Record {
        let wish = self.wish();
        let mut timeout = Duration::from_millis(match self.random.weighted(&[10, 60, 30]) {
            0 => self.random.between(20, 300),
            1 => 1_000,
            _ => 4_000,
        });
        if wish.from.is_some() {
            timeout = timeout.min(FROM_ONE_MAX);
        }
        // Now and then somebody goes away in the midst of a call. Counted in turns, for no timer is as fine as an answer.
        let goes = self.random.per_mille(15) && matches!(self.door, Door::Library(_));
        let turns = goes.then(|| self.random.below(100));
        let start_ns = self.shared.now();
        // The start of a process takes its time, above all on a busy machine.
        let call = tokio::time::timeout(timeout + GRACE, self.door.ask(&wish, timeout, &mut self.random));
        let answered = tokio::select! {
            biased;
            answered = call => answered,
            () = gone_after(turns) => Ok(Ok(None)),
        };
        let end_ns = self.shared.now();
        let Wish { op, key, value, mode, .. } = wish;
        let result = match answered {
            Ok(Ok(result)) => result,
            Ok(Err(what)) => {
                self.shared.trouble(format!("{op:?} {key}: {what}"));
                None
            }
            Err(_) => {
                self.shared.trouble(format!("{op:?} {key} has not ended {GRACE:?} after its time-out of {timeout:?}"));
                None
            }
        };
        let end_ns = result.is_some().then_some(end_ns);
        // A client of the command line has seen nothing before.
        let session = matches!(self.door, Door::Library(_)).then_some(self.name);
        Record { client: self.client, op, mode, session, key, value, expected: None, start_ns, end_ns, result }
    }
}

/// Somebody who has no patience beyond so many turns; none is all the patience in the world.
async fn gone_after(turns: Option<u64>) {
    let Some(turns) = turns else { return std::future::pending().await };
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}
