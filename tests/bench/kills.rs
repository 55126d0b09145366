//! `kill -9` at random moments while clients write, a thousand times: every start must be clean, nothing acknowledged may
//! be lost or applied twice. It prints how long servers took to be members again, and how long clients waited.
//!
//! `cargo bench -p heirloom-server --bench kills [-- KILLS [SEED]]`
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use world::writer::Writer;
use world::{Cluster, PATIENCE};

const KILLS: usize = 1_000;
const WRITERS: usize = 4;
/// How long after the cluster is whole the next kill comes at most: some starts, some syncs, some batches.
const PAUSE_MAX: u64 = 40_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let kills = numbers.next().map_or(KILLS, |kills: u64| usize::try_from(kills).expect("64 bits"));
    let mut random = Random(numbers.next().unwrap_or(1));
    let mut cluster = Cluster::start(3, 0, &[]);
    let mut primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await.with_timeout(PATIENCE);
    let writers: Vec<Writer> =
        (0..WRITERS).map(|number| Writer::start(client.clone(), &format!("writer-{number}"))).collect();
    println!("three servers, {WRITERS} writers, {kills} kills of one server each, every second one of the primary");
    let (mut back, mut gaps) = (Vec::with_capacity(kills), Vec::with_capacity(kills));
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_micros(random.below(PAUSE_MAX))).await;
        for writer in &writers {
            writer.take_longest_gap();
        }
        let victim = if kill % 2 == 0 { primary } else { usize::try_from(random.below(3)).expect("small") };
        cluster.kill(victim);
        let begun = Instant::now();
        cluster.start_server(victim);
        primary = cluster.wait_for_members(&[0, 1, 2]).await;
        back.push(begun.elapsed());
        gaps.extend(writers.iter().map(Writer::take_longest_gap).max());
        if (kill + 1) % 100 == 0 {
            let acknowledged: usize = writers.iter().map(Writer::acknowledged).sum();
            println!("{} kills, {acknowledged} adds acknowledged", kill + 1);
        }
    }
    let mut whole = world::writer::Account::default();
    for writer in writers {
        let account = writer.stop().await;
        whole.acknowledged.extend(account.acknowledged);
        whole.unknown.extend(account.unknown);
        whole.failed.extend(account.failed);
    }
    cluster.wait_until_equal().await;
    whole.check(&cluster).await;
    for id in 0..3 {
        let log = std::fs::read_to_string(cluster.log_path(id)).expect("a log");
        let damage = log.lines().find(|line| line.contains("is damaged at byte"));
        assert_eq!(damage, None, "server {id} found damage where there was none");
    }
    println!(
        "{} adds acknowledged, {} of unknown outcome, {} not applied; all that were acknowledged are there once, all \
        replicas are equal, and no start found damage",
        whole.acknowledged.len(),
        whole.unknown.len(),
        whole.failed.len()
    );
    println!("killed until a member again: {}", spread(&mut back));
    println!("the longest that a writer waited, with each kill: {}", spread(&mut gaps));
}

fn spread(spans: &mut [Duration]) -> String {
    spans.sort_unstable();
    let at = |share: usize| format!("{:.1} ms", spans[(spans.len() - 1) * share / 100].as_secs_f64() * 1e3);
    format!("median {}, 99 of 100 within {}, all within {}", at(50), at(99), at(100))
}

/// Equal seeds, equal moments.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 31) % bound
    }
}
