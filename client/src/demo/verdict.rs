//! What must hold at the end: nothing acknowledged was lost, nothing was applied twice, all dictionaries are equal.

use std::collections::BTreeSet;
use std::time::Duration;

use heirloom_proto::wire::v1::StatusResponse;
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::journal::{Journal, Write};
use super::screen::Screen;
use super::story::{millis, within};
use crate::cli::Failure;
use crate::client::Client;
use crate::error::Error;

/// How many reads are under way at once.
const READERS: usize = 64;
/// How many keys were added beside those of the writers.
const OTHER_KEYS: u64 = 1;

/// One failover that was seen.
pub(super) struct Failover {
    pub(super) killed: u8,
    pub(super) took_over: u8,
    /// How long the writers waited.
    pub(super) gap: Duration,
    /// From the kill to the first write under the new primary.
    pub(super) took: Duration,
}

/// Checks everything and prints the summary.
pub(super) async fn judge(
    screen: &Screen,
    cluster: &Cluster,
    client: &Client,
    journal: &Journal,
    failovers: &[Failover],
) -> Result<(), Failure> {
    let statuses = within("all servers at one version", equal_positions(cluster)).await?;
    let (acknowledged, unknown, not_applied) = {
        let pages = journal.pages();
        let acknowledged: Vec<(Write, u64)> =
            pages.acknowledged.iter().map(|acknowledged| (acknowledged.write, acknowledged.version)).collect();
        (acknowledged, pages.unknown.clone(), pages.not_applied)
    };
    let lost = missing(client, acknowledged.iter().map(|(write, _)| *write).collect()).await?;
    let unknown_count = unknown.len() as u64;
    let applied_unknown = unknown_count - missing(client, unknown).await?;

    let versions: BTreeSet<u64> = acknowledged.iter().map(|(_, version)| *version).collect();
    let written = acknowledged.len() as u64 + applied_unknown + OTHER_KEYS;
    // Every write has a key of its own, so one that was applied twice would have raised the version twice for one key.
    let (version, keys) = (statuses[0].version, statuses[0].keys);
    let is_once = versions.len() == acknowledged.len() && version == keys && keys == written;
    let digests: BTreeSet<&str> = statuses.iter().map(|status| status.digest.as_str()).collect();

    screen.title("Summary")?;
    for failover in failovers {
        let Failover { killed, took_over, gap, took } = failover;
        let text = format!(
            "primary {killed} was killed; server {took_over} took over, {:.1} ms after the kill; writers waited {:.1} ms",
            millis(*took),
            millis(*gap)
        );
        screen.sum_up(killed != took_over, &text)?;
    }
    let count = acknowledged.len();
    screen.sum_up(
        lost == 0,
        &format!("{count} writes were acknowledged, {} of them read back, {lost} lost", count as u64 - lost),
    )?;
    screen
        .sum_up(is_once, &format!("none applied twice: {keys} keys, version {version}, {written} writes expected"))?;
    if unknown_count + not_applied as u64 > 0 {
        let text =
            format!("{unknown_count} writes ended unknown ({applied_unknown} applied), {not_applied} not applied");
        screen.sum_up(true, &text)?;
    }
    let digest = &statuses[0].digest;
    screen.sum_up(
        digests.len() == 1,
        &format!("the dictionaries of all {} servers are equal: digest {digest}", statuses.len()),
    )?;
    if lost > 0
        || !is_once
        || digests.len() != 1
        || failovers.iter().any(|failover| failover.killed == failover.took_over)
    {
        return Err(Failure::Integrity("the demo found a fault; see the summary".to_owned()));
    }
    Ok(())
}

/// How many of these writes are not read back as they were made.
async fn missing(client: &Client, writes: Vec<Write>) -> Result<u64, Failure> {
    let share = writes.len().div_ceil(READERS).max(1);
    let mut readers = JoinSet::new();
    for part in writes.chunks(share) {
        let (client, part) = (client.clone(), part.to_vec());
        readers.spawn(async move {
            let mut missing = 0;
            for write in part {
                let entry = client.read(write.key()).await?;
                missing += u64::from(entry.is_none_or(|entry| entry.value != write.value()));
            }
            Ok::<u64, Error>(missing)
        });
    }
    let mut missing = 0;
    for part in readers.join_all().await {
        missing += part?;
    }
    Ok(missing)
}

/// Waits until all servers have applied the same.
async fn equal_positions(cluster: &Cluster) -> Vec<StatusResponse> {
    loop {
        let statuses = cluster.look().await;
        let all: Option<Vec<StatusResponse>> = statuses.into_iter().collect();
        if let Some(all) = all.filter(|all| all.iter().all(|status| status.applied == all[0].log_end)) {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
