//! What ten thousand watchers on one server cost: how long until all have seen a change, with and without one that does
//! not read, how many writes a second the cluster takes with none and with all of them, and the server's memory.
//! It prints; it judges nothing but that every watcher saw every change once and in order, and that nobody took over.
//!
//! `cargo bench -p heirloom-server --bench watchers [-- WATCHERS]`
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../world/mod.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heirloom::{Client, Error, ServerId, Version, Watch, WatchLost, WatchOptions};
use tokio::sync::Notify;
use world::Cluster;

const WATCHERS: usize = 10_000;
/// How many of them share a client, and so a connection.
const PER_CLIENT: usize = 1_000;
const ROUNDS: usize = 9;
/// How many clients write at once, and for how long.
const WRITERS: usize = 32;
const WRITING: Duration = Duration::from_secs(5);
const VALUE_BYTES: usize = 100;
/// More than a server keeps of what was changed.
const FILLING: usize = 80;
const FILLING_BYTES: usize = 512 << 10;

/// Those who watch, and how many changes all of them have seen together.
#[derive(Default)]
struct Audience {
    seen: AtomicU64,
    wanted: AtomicU64,
    reached: Notify,
}

impl Audience {
    async fn until(&self, wanted: u64) {
        self.wanted.store(wanted, Ordering::SeqCst);
        while self.seen.load(Ordering::SeqCst) < wanted {
            self.reached.notified().await;
        }
    }

    fn saw(&self) {
        if self.seen.fetch_add(1, Ordering::SeqCst) + 1 >= self.wanted.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(WATCHERS);
    println!("three servers on this machine, default settings, {count} watchers at the primary");
    let cluster = Cluster::start(3, 0, &[]);
    let primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let epoch = cluster.status(primary).await.expect("it answers").epoch;
    let client = cluster.client().await;
    let memory = |what: &str| println!("{what}: {} MiB of memory at the server", cluster.memory_bytes(primary) >> 20);
    memory("no watchers");
    writes(&client, "w/", WRITING, "no watchers").await;

    let audience = Arc::new(Audience::default());
    let begun = Instant::now();
    // On a thread of their own, for the writers are not to wait for them here.
    let thread = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let thread = thread.expect("a thread");
    let beginning = watch(cluster.addresses(), primary, count, audience.clone());
    let clients = thread.spawn(beginning).await.expect("no panic");
    println!("{count} watches begun in {:.2} s", begun.elapsed().as_secs_f64());
    memory("all watchers");
    rounds(&client, &audience, count, "all watchers").await;

    let mut stuck = stuck(&clients[0], primary, &client).await;
    memory("all watchers and a stuck one, after 40 MiB of other changes");
    rounds(&client, &audience, count, "all watchers and a stuck one").await;

    writes(&client, "other/", WRITING, "all watchers, of other keys").await;
    let before = audience.seen.load(Ordering::SeqCst);
    let begun = Instant::now();
    // Ten times the watchers take ten times as long to read it all, and the ring is of one size.
    let span = WRITING / u32::try_from(count / 1_000).unwrap_or(1).max(1);
    let written = writes(&client, "w/", span, "all watchers, of the keys that all watch").await;
    audience.until(before + written * count as u64).await;
    println!("all had seen all of these {:.2} s after the writing began", begun.elapsed().as_secs_f64());
    memory("all watchers, after that");
    rounds(&client, &audience, count, "all watchers, once more").await;

    let lost = loop {
        match stuck.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(lost, Error::WatchLost(WatchLost::TooOld { .. })), "{lost}");
    println!("the stuck one was told: {lost}");
    thread.shutdown_background();
    let now = cluster.status(primary).await.expect("it answers").epoch;
    assert_eq!(now, epoch, "another server took over");
}

async fn watch(addresses: String, server: usize, count: usize, audience: Arc<Audience>) -> Vec<Client> {
    let mut clients = Vec::new();
    let mut beginning = Vec::new();
    for number in 0..count {
        if number % PER_CLIENT == 0 {
            let client = Client::connect(addresses.split(',')).await.expect("addresses that can be read");
            clients.push(client.with_timeout(Duration::from_secs(60)));
        }
        let client = clients.last().expect("just made").clone();
        beginning.push(tokio::spawn(async move { client.watch_with(at(server, "w/")).await.expect("begun") }));
    }
    for begun in beginning {
        let watch = begun.await.expect("no panic");
        tokio::spawn(see(watch, audience.clone()));
    }
    clients
}

fn at(server: usize, prefix: &str) -> WatchOptions {
    let server = u8::try_from(server).expect("few");
    WatchOptions { from: Some(ServerId(server)), ..WatchOptions::prefix(prefix) }
}

/// Sees every change once and in order, or ends all.
async fn see(mut watch: Watch, audience: Arc<Audience>) {
    let mut last = Version(0);
    loop {
        let watched = watch.next().await.expect("it goes on");
        assert!(watched.version > last, "{} after {last}", watched.version);
        last = watched.version;
        audience.saw();
    }
}

/// A watch of all keys that is not read while more is written than the server keeps.
async fn stuck(client: &Client, server: usize, writer: &Client) -> Watch {
    let stuck = client.watch_with(at(server, "")).await.expect("begun");
    for number in 0..FILLING {
        writer.add(format!("filling/{number}"), vec![0; FILLING_BYTES]).await.expect("added");
    }
    stuck
}

/// How long until all have seen one change.
async fn rounds(client: &Client, audience: &Audience, count: usize, what: &str) {
    let (mut acknowledged, mut seen) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let before = audience.seen.load(Ordering::SeqCst);
        let begun = Instant::now();
        client.add("w/round", round.to_string()).await.expect("added");
        acknowledged.push(begun.elapsed());
        audience.until(before + count as u64).await;
        seen.push(begun.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    println!(
        "{what}: one change acknowledged after {:.1} ms, seen by all after {:.1} ms (medians of {ROUNDS})",
        median(&mut acknowledged),
        median(&mut seen)
    );
}

/// How many adds a second are acknowledged; gives how many there were.
async fn writes(client: &Client, prefix: &'static str, span: Duration, what: &str) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (client, stop) = (client.clone(), stop.clone());
        writers.push(tokio::spawn(async move {
            let mut written = 0u64;
            while !stop.load(Ordering::Relaxed) {
                client.add(format!("{prefix}{writer}"), vec![b'v'; VALUE_BYTES]).await.expect("added");
                written += 1;
            }
            written
        }));
    }
    let begun = Instant::now();
    tokio::time::sleep(span).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.expect("no panic");
    }
    println!("{what}: {:.0} writes/s, {WRITERS} at once", written as f64 / begun.elapsed().as_secs_f64());
    written
}
