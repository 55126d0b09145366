//! What the loss of the primary costs a client that writes without pause: the gap between two acknowledgements, over
//! several losses with the lost server's return in between. It prints; it judges nothing but that nothing was lost.
//!
//! `cargo bench -p heirloom-server --bench failover [-- ROUNDS]`
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../world/mod.rs"]
mod world;

use std::time::Duration;

use rustix::process::Signal;
use world::Cluster;
use world::writer::Writer;

const ROUNDS: usize = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    println!("three servers on this machine, default settings, one writer with one add in flight");
    report("kill -9 of the primary", killed(rounds).await);
    report("SIGSTOP of the primary", stopped(rounds).await);
}

async fn killed(rounds: usize) -> Vec<Duration> {
    let mut cluster = Cluster::start(3, 0, &[]);
    let mut primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let writer = Writer::start(cluster.client().await, "killed");
    let mut gaps = Vec::new();
    // A gap has two ends: the writer must have been acknowledged before the first loss.
    settled_gap(&writer).await;
    for _ in 0..rounds {
        writer.take_longest_gap();
        cluster.kill(primary);
        let rest: Vec<u32> = (0..3).filter(|id| *id != primary as u32).collect();
        let next = cluster.wait_for_members(&rest).await;
        gaps.push(settled_gap(&writer).await);
        cluster.start_server(primary);
        cluster.wait_for_members(&[0, 1, 2]).await;
        primary = next;
    }
    writer.stop().await.check(&cluster).await;
    gaps
}

async fn stopped(rounds: usize) -> Vec<Duration> {
    let cluster = Cluster::start(3, 0, &[]);
    let mut primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let writer = Writer::start(cluster.client().await, "stopped");
    let mut gaps = Vec::new();
    // A gap has two ends: the writer must have been acknowledged before the first loss.
    settled_gap(&writer).await;
    for _ in 0..rounds {
        writer.take_longest_gap();
        cluster.signal(primary, Signal::STOP);
        let rest: Vec<u32> = (0..3).filter(|id| *id != primary as u32).collect();
        cluster.wait_for_members(&rest).await;
        gaps.push(settled_gap(&writer).await);
        cluster.signal(primary, Signal::CONT);
        primary = cluster.wait_for_members(&[0, 1, 2]).await;
    }
    writer.stop().await.check(&cluster).await;
    gaps
}

/// The gap of this loss: it is over when the writer was acknowledged again and again.
async fn settled_gap(writer: &Writer) -> Duration {
    let before = writer.acknowledged();
    while writer.acknowledged() < before + 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    writer.take_longest_gap()
}

fn report(what: &str, mut gaps: Vec<Duration>) {
    let each: Vec<String> = gaps.iter().map(|gap| format!("{:.1}", gap.as_secs_f64() * 1e3)).collect();
    gaps.sort();
    let median = gaps[gaps.len() / 2].as_secs_f64() * 1e3;
    println!("{what}: median {median:.1} ms of {} ms", each.join(" "));
}
