//! Snapshots: the log is cut behind them, a restart reads them, and servers that lack too much are sent them.

use std::path::PathBuf;

use crate::world::writer::Writer;
use crate::world::{Cluster, PATIENCE, files_below};

/// Values so large that a few of them fill a segment of the log.
const VALUE_BYTES: usize = 1 << 20;
/// More than what makes a snapshot due, and less than twice that.
const VALUES: usize = 80;

async fn add(cluster: &Cluster, range: std::ops::Range<usize>) {
    let client = cluster.client().await.with_timeout(PATIENCE);
    for number in range {
        let value = vec![b'a' + (number % 26) as u8; VALUE_BYTES];
        client.add(format!("large-{number:04}"), value).await.expect("added");
    }
}

fn names(cluster: &Cluster, id: usize, prefix: &str) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    let mut found: Vec<String> = files_below(&cluster.servers[id].data_dir)
        .into_iter()
        .map(name)
        .filter(|name| name.starts_with(prefix))
        .collect();
    found.sort_unstable();
    found
}

fn logged(cluster: &Cluster, id: usize, what: &str) -> usize {
    std::fs::read_to_string(cluster.log_path(id)).expect("a log").matches(what).count()
}

/// Two of three servers go on, and have forgotten the log that the third one lacks.
async fn one_is_behind() -> Cluster {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    add(&cluster, 0..1).await;
    cluster.kill(2);
    cluster.wait_for_members(&[0, 1]).await;
    add(&cluster, 1..VALUES).await;
    cluster
        .wait_until("snapshots", |all| {
            all[..2].iter().all(|status| status.as_ref().is_some_and(|status| status.snapshot_bytes > 0))
        })
        .await;
    cluster
}

#[tokio::test]
async fn the_log_is_cut_behind_a_snapshot_and_a_restart_reads_the_snapshot() {
    let mut cluster = one_is_behind().await;
    cluster
        .wait_until("a short log", |all| {
            all[..2].iter().flatten().all(|status| status.log_bytes < (VALUES * VALUE_BYTES / 2) as u64)
        })
        .await;
    assert_eq!(names(&cluster, 0, "snapshot-").len(), 1);
    assert!(!names(&cluster, 0, "log-").contains(&"log-0000000000000001".to_owned()), "its first segment is gone");
    let digest = cluster.status(0).await.expect("it runs").digest;
    for id in [0, 1] {
        cluster.kill(id);
    }
    for id in [0, 1] {
        cluster.start_server(id);
    }
    cluster.wait_for_members(&[0, 1]).await;
    let status = cluster.status(0).await.expect("it runs");
    assert_eq!((status.digest, status.keys), (digest, VALUES as u64));
}

#[tokio::test]
async fn a_server_that_lacks_what_was_cut_is_sent_a_snapshot_while_clients_write() {
    let mut cluster = one_is_behind().await;
    let writer = Writer::start(cluster.client().await, "behind");
    cluster.start_server(2);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(logged(&cluster, 2, "a snapshot takes the place of the log"), 1, "{}", cluster.logs());
    cluster.kill(2);
    std::fs::remove_dir_all(&cluster.servers[2].data_dir).expect("removed");
    cluster.start_server(2);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(logged(&cluster, 2, "a snapshot takes the place of the log"), 2, "{}", cluster.logs());
    let account = writer.stop().await;
    assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
    cluster.wait_until_equal().await;
    // Every key was added once, the large ones before.
    let added = (VALUES + account.acknowledged.len()) as u64;
    let status = cluster.status(2).await.expect("it runs");
    assert_eq!((status.keys, status.version), (added, added));
}

#[tokio::test]
async fn an_interrupted_transfer_goes_on_where_it_ended_and_leaves_nothing_half_used() {
    let mut cluster = one_is_behind().await;
    let fetched = cluster.servers[2].data_dir.join("fetched");
    let mut longest = 0;
    for _ in 0..5 {
        cluster.start_server(2);
        let longer = longest + VALUE_BYTES as u64;
        let begun = std::time::Instant::now();
        // Killed as soon as more has come than before, whether or not that was all.
        while std::fs::metadata(&fetched).map_or(0, |metadata| metadata.len()) < longer
            && logged(&cluster, 2, "a snapshot takes the place of the log") == 0
        {
            assert!(begun.elapsed() < PATIENCE, "nothing comes\n{}", cluster.logs());
            tokio::task::yield_now().await;
        }
        cluster.kill(2);
        longest = std::fs::metadata(&fetched).map_or(longest, |metadata| metadata.len());
    }
    cluster.start_server(2);
    cluster.wait_for_members(&[0, 1, 2]).await;
    cluster.wait_until_equal().await;
    assert!(!fetched.exists(), "what was fetched is in its place, or gone");
    let begun_at = |line: &str| {
        let at = line.split("from=").nth(1)?.split_whitespace().next()?;
        at.parse::<u64>().ok()
    };
    let log = std::fs::read_to_string(cluster.log_path(2)).expect("a log");
    let resumed = log.lines().filter(|line| line.contains("fetching a snapshot")).filter_map(begun_at);
    assert!(resumed.max() > Some(0), "no transfer went on where another had ended\n{log}");
}
