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

impl Failover {
    /// Whether another server took over; one that was killed must not lead again before it is started again.
    pub(super) fn is_one(&self) -> bool {
        self.killed != self.took_over
    }
}

/// What the check of everything found.
struct Found {
    acknowledged: u64,
    lost: u64,
    unknown: u64,
    applied_unknown: u64,
    not_applied: u64,
    /// Of the first server; all have the same where the digests are equal.
    version: u64,
    keys: u64,
    /// How many writes must have been made.
    written: u64,
    /// Whether each acknowledged write has a version of its own.
    versions_differ: bool,
    digests: Vec<String>,
}

impl Found {
    /// Every write has a key of its own, so one that was applied twice would have raised the version twice for one key.
    fn is_once(&self) -> bool {
        self.versions_differ && self.version == self.keys && self.keys == self.written
    }

    fn is_equal(&self) -> bool {
        self.digests.iter().all(|digest| *digest == self.digests[0])
    }

    fn holds(&self, failovers: &[Failover]) -> bool {
        self.lost == 0 && self.is_once() && self.is_equal() && failovers.iter().all(Failover::is_one)
    }
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
    let found = Found {
        acknowledged: acknowledged.len() as u64,
        lost,
        unknown: unknown_count,
        applied_unknown,
        not_applied: not_applied as u64,
        version: statuses[0].version,
        keys: statuses[0].keys,
        written: acknowledged.len() as u64 + applied_unknown + OTHER_KEYS,
        versions_differ: versions.len() == acknowledged.len(),
        digests: statuses.into_iter().map(|status| status.digest).collect(),
    };
    let told = sum_up(screen, failovers, &found);
    // A fault that was found counts for more than whether somebody reads of it.
    if !found.holds(failovers) {
        return Err(Failure::Integrity("the demo found a fault; see the summary".to_owned()));
    }
    told
}

fn sum_up(screen: &Screen, failovers: &[Failover], found: &Found) -> Result<(), Failure> {
    screen.title("Summary")?;
    for failover in failovers {
        let Failover { killed, took_over, gap, took } = failover;
        let text = format!(
            "primary {killed} was killed; server {took_over} took over, {:.1} ms after the kill; writers waited {:.1} ms",
            millis(*took),
            millis(*gap)
        );
        screen.sum_up(failover.is_one(), &text)?;
    }
    let Found { acknowledged, lost, unknown, applied_unknown, not_applied, version, keys, written, .. } = found;
    let text =
        format!("{acknowledged} writes were acknowledged, {} of them read back, {lost} lost", acknowledged - lost);
    screen.sum_up(*lost == 0, &text)?;
    let text = format!("none applied twice: {keys} keys, version {version}, {written} writes expected");
    screen.sum_up(found.is_once(), &text)?;
    if unknown + not_applied > 0 {
        let text = format!("{unknown} writes ended unknown ({applied_unknown} applied), {not_applied} not applied");
        screen.sum_up(true, &text)?;
    }
    let text =
        format!("the dictionaries of all {} servers are equal: digest {}", found.digests.len(), found.digests[0]);
    screen.sum_up(found.is_equal(), &text)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Found {
        Found {
            acknowledged: 3,
            lost: 0,
            unknown: 0,
            applied_unknown: 0,
            not_applied: 0,
            version: 4,
            keys: 4,
            written: 4,
            versions_differ: true,
            digests: vec!["a".to_owned(), "a".to_owned()],
        }
    }

    #[test]
    fn each_fault_alone_spoils_the_verdict() {
        let failover = |took_over| Failover { killed: 0, took_over, gap: Duration::ZERO, took: Duration::ZERO };
        assert!(good().holds(&[failover(1), failover(2)]));
        assert!(!good().holds(&[failover(1), failover(0)]), "the killed one leads");
        let digests = vec!["a".to_owned(), "b".to_owned()];
        let faults = [
            Found { lost: 1, ..good() },
            Found { version: 5, ..good() },
            Found { keys: 3, ..good() },
            Found { written: 5, ..good() },
            Found { versions_differ: false, ..good() },
            Found { digests, ..good() },
        ];
        for (place, fault) in faults.iter().enumerate() {
            assert!(!fault.holds(&[failover(1)]), "fault {place}");
        }
    }
}
