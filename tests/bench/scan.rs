//! What a scan of many keys takes: how fast the client library gets them, and how much more memory each server needs
//! meanwhile, with and without writers. It prints; it judges nothing but that every key comes once and in order.
//!
//! The servers keep their whole log in memory, so writers make them grow whether or not somebody scans: the same writers
//! are measured alone first, and the growth that they explain is told apart.
//!
//! `cargo bench -p heirloom-server --bench scan [-- KEYS [WRITERS]]`
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../world/mod.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heirloom::Client;
use world::Cluster;
use world::load::{VALUE_BYTES, key, load};

const KEYS: u64 = 1_000_000;
/// How many adds are under way while the keys are loaded.
const LOADERS: u64 = 4_000;
/// How many write without pause while others scan, unless told otherwise.
const WRITERS: u64 = 8;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (keys, writers) = (numbers.next().unwrap_or(KEYS), numbers.next().unwrap_or(WRITERS));
    println!("{keys} keys of 16 bytes with values of {VALUE_BYTES}, default settings, all on this machine");
    for servers in [1, 3] {
        measure(servers, keys, writers).await;
    }
}

async fn measure(servers: usize, keys: u64, writers: u64) {
    let cluster = Cluster::start(servers, 0, &[]);
    let members: Vec<u32> = (0..u32::try_from(servers).expect("few")).collect();
    cluster.wait_for_members(&members).await;
    let client = cluster.client().await.with_timeout(Duration::from_secs(60));
    let begun = Instant::now();
    load(&client, keys, LOADERS).await;
    println!("\n{servers} server(s): loaded at {} adds/s", rate(keys, begun.elapsed()));

    let before = Memory::of(&cluster);
    let took = scan(&client, keys).await;
    println!("a scan alone: {} keys/s; at its peak {} MiB more", rate(keys, took), before.grown(&cluster));

    let writing = Writers::start(&client, keys, writers);
    let before = Memory::of(&cluster);
    tokio::time::sleep(took).await;
    let alone = writing.stop().await;
    let grown = before.grown(&cluster);
    println!("{writers} writers alone for as long: {alone} writes; {grown} MiB more");

    let writing = Writers::start(&client, keys, writers);
    let before = Memory::of(&cluster);
    let took = scan(&client, keys).await;
    let peak = before.grown(&cluster);
    let beside = writing.stop().await;
    let rate = rate(keys, took);
    println!("a scan beside {writers} writers: {rate} keys/s, {beside} writes; at its peak {peak} MiB more");
}

async fn scan(client: &Client, keys: u64) -> Duration {
    let begun = Instant::now();
    let mut scan = client.scan("");
    let mut found = 0;
    while let Some(entry) = scan.next().await.expect("served") {
        assert_eq!(entry.key, key(found));
        assert_eq!(entry.value.len(), VALUE_BYTES);
        found += 1;
    }
    assert_eq!(found, keys);
    begun.elapsed()
}

/// Those who replace values, all over the keys.
struct Writers {
    ended: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(client: &Client, keys: u64, writers: u64) -> Self {
        let (ended, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let task = |writer: u64| {
            let (client, ended, written) = (client.clone(), ended.clone(), written.clone());
            tokio::spawn(async move {
                let mut number = writer * 31 % keys;
                while !ended.load(Ordering::Relaxed) {
                    number = (number + 7_919) % keys;
                    client.add(key(number), vec![b'w'; VALUE_BYTES]).await.expect("added");
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let tasks = (0..writers).map(task).collect();
        Self { ended, written, tasks }
    }

    /// How many writes were answered.
    async fn stop(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        self.written.load(Ordering::Relaxed)
    }
}

/// What each server's process holds. **Units:** KiB.
struct Memory(Vec<u64>);

impl Memory {
    /// Now; the peak is counted anew from here on.
    fn of(cluster: &Cluster) -> Self {
        let servers = 0..cluster.servers.len();
        Self(
            servers
                .map(|id| {
                    let file = format!("/proc/{}/clear_refs", cluster.pid(id));
                    std::fs::write(file, "5").expect("the process is ours");
                    status(cluster.pid(id), "VmRSS:")
                })
                .collect(),
        )
    }

    /// How much more each server held at its peak since. **Units:** MiB.
    fn grown(&self, cluster: &Cluster) -> String {
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
        let grown = |(id, before): (usize, &u64)| mib(status(cluster.pid(id), "VmHWM:").saturating_sub(*before));
        let all: Vec<String> = self.0.iter().enumerate().map(grown).collect();
        format!("{} (of {} at first)", all.join(", "), mib(*self.0.iter().max().expect("a server")))
    }
}

fn status(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn rate(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
}
