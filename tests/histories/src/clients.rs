//! The clients: workers that call one operation after the other and write down what they were told, no more and no less.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heirloom::{Client, Error};
use heirloom_laws::random::Random;

use crate::hosts::{Network, Place};
use crate::record::{Answer, Op, Record};

/// Keys are used for so long, then others: what is checked at once stays small.
const GENERATION: Duration = Duration::from_secs(30);
/// How long after its deadline a call must have ended, even on a busy machine.
const GRACE: Duration = Duration::from_secs(20);
/// The pause of a worker that uses the command line, beside the start of a process.
const COMMAND_PAUSE_MS: u64 = 300;

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
        let all = plan.workers + plan.commands.1;
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
        let door = if name >= plan.workers {
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
        let worker = Worker { name, client: name, calls: 0, door, random, plan: plan.clone(), shared: shared.clone() };
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

/// How a worker reaches the servers.
enum Door {
    Library(Client),
    Command { network: Arc<Network>, place: Place, program: PathBuf, servers: String },
}

struct Worker {
    name: u64,
    /// Its name in the history: a new one after each operation of unknown outcome.
    client: u64,
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
                self.client += self.plan.workers + self.plan.commands.1;
            }
            records.push(record);
            let pause_us = match self.door {
                Door::Library(_) => self.random.waiting(1_000_000 * self.plan.workers / self.plan.rate.max(1)),
                Door::Command { .. } => self.random.waiting(COMMAND_PAUSE_MS * 1_000),
            };
            tokio::time::sleep(Duration::from_micros(pause_us)).await;
        }
        records
    }

    async fn operation(&mut self) -> Record {
        self.calls += 1;
        let generation = self.shared.begun.elapsed().as_secs() / GENERATION.as_secs();
        let key = format!("g{generation}-k{}", self.random.below(self.plan.keys));
        let op = [Op::Add, Op::Read, Op::Delete][self.random.weighted(&[44, 48, 8])];
        let value = (op == Op::Add).then(|| format!("c{}-{}", self.name, self.calls));
        let timeout = Duration::from_millis(match self.random.weighted(&[10, 60, 30]) {
            0 => self.random.between(20, 300),
            1 => 1_000,
            _ => 4_000,
        });
        // Now and then somebody goes away in the midst of a call. Counted in turns, for no timer is as fine as an answer.
        let turns = self.random.per_mille(15).then(|| self.random.below(100));
        let start_ns = self.shared.now();
        let answered = match &self.door {
            Door::Library(client) => {
                let client = client.with_timeout(timeout);
                let call = tokio::time::timeout(timeout + GRACE, ask(&client, op, &key, value.as_deref()));
                tokio::select! {
                    biased;
                    answered = call => answered,
                    () = gone_after(turns) => Ok(Ok(None)),
                }
            }
            Door::Command { network, place, program, servers } => {
                let mut command = tokio::process::Command::from(network.command(*place, program));
                command.args(words(op, &key, value.as_deref())).args(["--servers", servers, "--output", "json"]);
                command.args(["--timeout", &format!("{}ms", timeout.as_millis())]);
                command.stdin(Stdio::null()).kill_on_drop(true);
                // The start of a process takes its time, above all on a busy machine.
                tokio::time::timeout(timeout + GRACE, run(command, op)).await
            }
        };
        let end_ns = self.shared.now();
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
        Record { client: self.client, op, key, value, expected: None, start_ns, end_ns, result }
    }
}

/// Somebody who has no patience beyond so many turns; none is all the patience in the world.
async fn gone_after(turns: Option<u64>) {
    let Some(turns) = turns else { return std::future::pending().await };
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// Asks through the library; none where the outcome is unknown.
pub(crate) async fn ask(client: &Client, op: Op, key: &str, value: Option<&str>) -> Result<Option<Answer>, String> {
    let changed = |changed: heirloom::Changed| Answer::Changed {
        version: Some(changed.version.0),
        existed: Some(changed.existed),
        epoch: Some([changed.epoch.round, u64::from(changed.epoch.server.0), changed.epoch.run.0]),
    };
    let answer = match op {
        Op::Add => client.add(key, value.unwrap_or_default().to_owned()).await.map(changed),
        Op::Delete => client.delete(key).await.map(changed),
        Op::Read => client.read(key).await.map(|entry| {
            entry.map_or(Answer::Absent, |entry| Answer::Found {
                value: String::from_utf8_lossy(&entry.value).into_owned(),
                version: Some(entry.version.0),
            })
        }),
    };
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Unknown(_)) => Ok(None),
        Err(Error::NotApplied(_)) => Ok(Some(Answer::NotApplied)),
        Err(error @ Error::BadInput(_)) => Err(error.to_string()),
    }
}

fn words<'a>(op: Op, key: &'a str, value: Option<&'a str>) -> Vec<&'a str> {
    match op {
        Op::Add => vec!["add", key, value.unwrap_or_default()],
        Op::Read => vec!["read", key],
        Op::Delete => vec!["delete", key],
    }
}

/// Runs a client command to its end.
async fn run(mut command: tokio::process::Command, op: Op) -> Result<Option<Answer>, String> {
    let output = command.output().await.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = || serde_json::from_slice::<serde_json::Value>(&output.stdout).map_err(|error| error.to_string());
    match (output.status.code(), op) {
        (Some(0), Op::Read) => {
            let told = json()?;
            let value = told["value"].as_str().ok_or("no value in the answer")?.to_owned();
            Ok(Some(Answer::Found { value, version: told["version"].as_u64() }))
        }
        (Some(0), Op::Add | Op::Delete) => {
            let told = json()?;
            let (version, existed) = (told["version"].as_u64(), told["existed"].as_bool());
            Ok(Some(Answer::Changed { version, existed, epoch: None }))
        }
        (Some(1), Op::Read) => Ok(Some(Answer::Absent)),
        (Some(1), Op::Delete) => Ok(Some(Answer::Changed { version: None, existed: Some(false), epoch: None })),
        (Some(3), _) if said.contains("was not applied") || said.contains("was not answered") => {
            Ok(Some(Answer::NotApplied))
        }
        (Some(3), Op::Add | Op::Delete) if said.contains("may or may not") => Ok(None),
        (code, _) => Err(format!("exit code {code:?}: {said}")),
    }
}
