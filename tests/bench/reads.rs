//! What reads at every member are worth: linearizable reads a second at the primary, at each backup and at all members;
//! and the share that the server asked answers by itself while a tenth of the load are adds. It prints; it judges nothing.
//!
//! `cargo bench -p heirloom-server --bench reads [-- ROUNDS]`
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../world/mod.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heirloom::{Client, ReadOptions, ServerId};
use heirloom_laws::random::Random;
use tokio::task::JoinSet;
use world::Cluster;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const KEYS: u64 = 10_000;
const IN_FLIGHT: u64 = 64;
const VALUE: &[u8] = &[b'v'; 128];

/// What a round of the load came to.
#[derive(Debug, Default)]
struct Tally {
    reads: AtomicU64,
    local: AtomicU64,
    adds: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    println!(
        "three servers and the client on this machine, default settings, {KEYS} keys of 16 bytes, values of 128 bytes,"
    );
    println!("{IN_FLIGHT} operations in flight, {rounds} rounds of {} s each, interleaved", ROUND.as_secs());
    let cluster = Cluster::start(3, 0, &[]);
    let primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await;
    fill(&client).await;

    let server = |id: usize| Some(ServerId(u8::try_from(id).expect("few servers")));
    let places: Vec<(String, Option<ServerId>)> = (0..3)
        .map(|id| (format!("server {id}, {}", if id == primary { "the primary" } else { "a backup" }), server(id)))
        .chain([("any member, as the library chooses".to_owned(), None)])
        .collect();
    let mut rates = vec![Vec::new(); places.len()];
    let mut shares = Vec::new();
    for round in 0..rounds {
        for ((_, from), rates) in places.iter().zip(&mut rates) {
            let tally = load(&client, *from, 0, round as u64).await;
            rates.push(tally.reads.load(Ordering::Relaxed) as f64 / ROUND.as_secs_f64());
        }
        let tally = load(&client, None, 10, round as u64).await;
        let (reads, local) = (tally.reads.load(Ordering::Relaxed), tally.local.load(Ordering::Relaxed));
        let all = reads + tally.adds.load(Ordering::Relaxed);
        shares.push((100.0 * local as f64 / reads as f64, all as f64 / ROUND.as_secs_f64()));
    }
    let of_primary = median(rates[primary].clone());
    println!("\nlinearizable reads a second, and how many times those of the primary:");
    for ((what, _), rates) in places.iter().zip(rates) {
        let median = median(rates);
        println!("  {what}: {median:.0} ({:.2})", median / of_primary);
    }
    let (local, all): (Vec<f64>, Vec<f64>) = shares.into_iter().unzip();
    println!("\n90 % reads and 10 % adds, uniform: {:.0} operations a second", median(all));
    println!("  answered by the server that was asked, having asked nobody: {:.2} % of the reads", median(local));
    for id in 0..3 {
        let counts = cluster.status(id).await.and_then(|status| status.reads).unwrap_or_default();
        println!(
            "  server {id} since it started: {} at once, {} after a commit, {} confirmed, {} not here",
            counts.local, counts.waited, counts.confirmed, counts.forwarded
        );
    }
}

fn key(number: u64) -> String {
    format!("key-{number:012}")
}

async fn fill(client: &Client) {
    let mut tasks = JoinSet::new();
    for task in 0..IN_FLIGHT {
        let client = client.clone();
        tasks.spawn(async move {
            for number in (task..KEYS).step_by(IN_FLIGHT as usize) {
                client.add(key(number), VALUE).await.expect("added");
            }
        });
    }
    while tasks.join_next().await.transpose().expect("no task panics").is_some() {}
}

/// One round: as many tasks as there are operations in flight, `adds` of a hundred being adds.
async fn load(client: &Client, from: Option<ServerId>, adds: u64, seed: u64) -> Arc<Tally> {
    let tally = Arc::new(Tally::default());
    let until = Instant::now() + ROUND;
    let mut tasks = JoinSet::new();
    for task in 0..IN_FLIGHT {
        let (client, tally) = (client.clone(), tally.clone());
        let mut random = Random::new(seed * IN_FLIGHT + task);
        tasks.spawn(async move {
            let options = ReadOptions { from, ..ReadOptions::default() };
            while Instant::now() < until {
                let key = key(random.below(KEYS));
                if random.below(100) < adds {
                    client.add(key, VALUE).await.expect("added");
                    tally.adds.fetch_add(1, Ordering::Relaxed);
                } else {
                    let entry = client.read_with(key, options).await.expect("read").expect("it was added");
                    tally.local.fetch_add(u64::from(entry.looked.local), Ordering::Relaxed);
                    tally.reads.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while tasks.join_next().await.transpose().expect("no task panics").is_some() {}
    tally
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
