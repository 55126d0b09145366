//! What snapshots cost, and what they save, with a million keys of 16 bytes and values of 128 bytes: the time of a restart,
//! memory and disk per key, the time until a server with an emptied directory is a member again while clients write, and
//! what writing loses meanwhile, and while a snapshot is being made.
//!
//! `cargo bench -p heirloom-server --bench snapshots [-- KEYS] [--write]`
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../world/mod.rs"]
mod world;

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heirloom::Client;
use heirloom_laws::evidence;
use world::load::{KEY_BYTES, VALUE_BYTES, key, load, value};
use world::{Cluster, PATIENCE};

const KEYS: u64 = 1_000_000;
/// How many adds are under way while the keys are loaded, and while something is measured.
const LOADERS: u64 = 512;
const WRITERS: [u64; 2] = [4, 64];
/// How often each thing is measured.
const ROUNDS: usize = 5;
/// For how long writing alone is measured.
const SPAN: Duration = Duration::from_secs(3);
/// How often it is looked whether a server is a member again: seldom, for to be asked is work too.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
const VICTIM: usize = 2;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keys = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(KEYS);
    let mut bench = Bench { cluster: Cluster::start(3, 0, &[]), keys, table: String::new() };
    bench.cluster.wait_for_members(&[0, 1, 2]).await;
    bench.load().await;
    bench.space().await;
    bench.restarts().await;
    for writers in WRITERS {
        bench.emptied(writers).await;
    }
    if arguments.iter().any(|argument| argument == "--write") {
        let says = "Three servers and the client on one machine. `disk` is what snapshot and log hold, what is reserved for the \
            log left out. The time of a restart counts from the start of the process, that of an emptied directory too; writing is \
            compared with the same writing before, and each line gives the median of its rounds.";
        let command = "cargo bench -p heirloom-server --bench snapshots -- --write";
        let page = evidence::page("Snapshots: what they cost, and what they save", command, says, &bench.table);
        fs::write(evidence::path("snapshots.md"), page).expect("written");
    }
}

struct Bench {
    cluster: Cluster,
    keys: u64,
    table: String,
}

/// Clients that replace values, until they are told to stop.
struct Writing {
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writing {
    fn start(client: &Client, keys: u64, writers: u64) -> Self {
        let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let tasks = (0..writers)
            .map(|task| {
                let (client, count, stop) = (client.clone(), count.clone(), stop.clone());
                tokio::spawn(async move {
                    let mut number = task;
                    while !stop.load(Ordering::Relaxed) {
                        number = (number + 7_919 * writers) % keys;
                        client.add(key(number), value(number)).await.expect("added");
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { count, stop, tasks }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many writes a second are answered.
    async fn rate(&self) -> f64 {
        let (count, begun) = (self.count(), Instant::now());
        tokio::time::sleep(SPAN).await;
        (self.count() - count) as f64 / begun.elapsed().as_secs_f64()
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
    }
}

fn median<T: PartialOrd + Copy>(mut found: Vec<T>) -> T {
    found.sort_by(|one, other| one.partial_cmp(other).expect("numbers"));
    found[found.len() / 2]
}

impl Bench {
    fn tell(&mut self, line: &str) {
        println!("{line}");
        writeln!(self.table, "{line}").expect("memory");
    }

    async fn client(&self) -> Client {
        self.cluster.client().await.with_timeout(PATIENCE)
    }

    async fn load(&mut self) {
        let (client, keys) = (self.client().await, self.keys);
        let begun = Instant::now();
        load(&client, keys, LOADERS).await;
        let rate = keys as f64 / begun.elapsed().as_secs_f64();
        self.tell(&format!(
            "{keys} keys of {KEY_BYTES} bytes, values of {VALUE_BYTES} bytes: loaded at {rate:.0} a second"
        ));
        self.wait_for_rest().await;
    }

    /// Waits until no server makes a snapshot any more.
    async fn wait_for_rest(&self) {
        // What is due behind a snapshot of the whole is no more than half of it.
        self.cluster
            .wait_until("snapshots", |all| {
                all.iter()
                    .flatten()
                    .all(|s| s.snapshot_bytes > 0 && s.log_bytes <= (s.snapshot_bytes / 2).max(64 << 20))
            })
            .await;
    }

    async fn space(&mut self) {
        let raw = self.keys * (KEY_BYTES + VALUE_BYTES as u64);
        for id in 0..3 {
            let status = self.cluster.status(id).await.expect("it runs");
            let (memory, disk) = (self.cluster.memory_bytes(id), status.log_bytes + status.snapshot_bytes);
            self.tell(&format!(
                "server {id} ({}): {} bytes of memory a key, {:.2} times the raw bytes; {} bytes of disk a key, {:.2} times",
                status.role,
                memory / self.keys,
                memory as f64 / raw as f64,
                disk / self.keys,
                disk as f64 / raw as f64,
            ));
        }
    }

    /// How long it takes from its start until a server is a member again.
    async fn comes_back(&mut self) -> Duration {
        let begun = Instant::now();
        self.cluster.start_server(VICTIM);
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            if self
                .cluster
                .status(VICTIM)
                .await
                .is_some_and(|status| status.role == "backup" || status.role == "primary")
            {
                self.cluster.wait_for_members(&[0, 1, 2]).await;
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "it is no member again\n{}", self.cluster.logs());
        }
    }

    async fn restarts(&mut self) {
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            self.cluster.kill(VICTIM);
            took.push(self.comes_back().await.as_secs_f64());
        }
        let memory = self.cluster.memory_bytes(VICTIM) / self.keys;
        self.tell(&format!(
            "a restart: a member again after {:.2} s (median of {ROUNDS}); {memory} bytes of memory a key then",
            median(took)
        ));
    }

    async fn emptied(&mut self, writers: u64) {
        let client = self.client().await;
        let writing = Writing::start(&client, self.keys, writers);
        let (mut took, mut of_two, mut of_three) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let three = writing.rate().await;
            self.cluster.kill(VICTIM);
            fs::remove_dir_all(&self.cluster.servers[VICTIM].data_dir).expect("removed");
            self.cluster.wait_for_members(&[0, 1]).await;
            let two = writing.rate().await;
            let (count, begun) = (writing.count(), Instant::now());
            took.push(self.comes_back().await.as_secs_f64());
            let meanwhile = (writing.count() - count) as f64 / begun.elapsed().as_secs_f64();
            println!(
                "  {three:.0} writes a second by three, {two:.0} by two, {meanwhile:.0} meanwhile, {:.2} s",
                took[took.len() - 1]
            );
            of_two.push(100.0 * meanwhile / two);
            of_three.push(100.0 * meanwhile / three);
        }
        writing.stop().await;
        self.tell(&format!(
            "an emptied directory, {writers} writes under way: a member again after {:.2} s; meanwhile {:.0} % of the writes \
            of the two others before, {:.0} % of those of all three",
            median(took),
            median(of_two),
            median(of_three),
        ));
        self.cluster.wait_until_equal().await;
    }
}
