//! The story of the demo, in the order in which it is told.

use std::time::{Duration, Instant};

use heirloom_proto::wire::v1::StatusResponse;

use super::cluster::{Cluster, SERVERS};
use super::journal::Journal;
use super::screen::{Screen, Tone};
use super::verdict::{self, Failover};
use super::writers::{WRITERS, Writers};
use crate::cli::Failure;
use crate::client::Client;

/// How long the writers write before something is broken.
const WARM_UP: Duration = Duration::from_millis(1_000);
/// How long each step may take before it is called a failure.
const STEP_MAX: Duration = Duration::from_secs(8);
/// How often the servers are looked at while something is waited for.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Tells the story and the verdict.
pub(super) async fn tell(screen: &Screen, cluster: &mut Cluster, rounds: u8) -> Result<(), Failure> {
    screen.say(Tone::Plain, &format!("starting {SERVERS} servers on this machine, with the default options"))?;
    cluster.start().await?;
    let addresses: Vec<String> = cluster.addresses().iter().map(ToString::to_string).collect();
    let client = Client::connect(&addresses).await?;
    greet(screen, &client).await?;
    let journal = Journal::default();
    let writers = Writers::start(&client, &journal);
    screen.say(Tone::Plain, &format!("{WRITERS} writers begin to add keys without pause"))?;
    let mut failovers = Vec::new();
    for _ in 0..rounds {
        tokio::time::sleep(WARM_UP).await;
        failovers.push(fail_over(screen, cluster, &journal).await?);
    }
    tokio::time::sleep(WARM_UP / 2).await;
    writers.stop().await;
    screen.say(Tone::Plain, "the writers stop; now everything is compared")?;
    verdict::judge(screen, cluster, &client, &journal, &failovers).await
}

async fn greet(screen: &Screen, client: &Client) -> Result<(), Failure> {
    let added = client.add("word", "definition").await?;
    let primary = added.server;
    screen.say(
        Tone::Plain,
        &format!("server {primary} is the primary: added \"word\", read back on {} servers", added.copies),
    )?;
    let entry = client.read("word").await?;
    match entry.filter(|entry| entry.value == "definition") {
        Some(entry) => screen.say(Tone::Plain, &format!("read \"word\": \"definition\", version {}", entry.version)),
        None => Err(Failure::Integrity("\"word\" was added, and is not read".to_owned())),
    }
}

/// Kills the primary, sees who takes over, and brings it back.
async fn fail_over(screen: &Screen, cluster: &mut Cluster, journal: &Journal) -> Result<Failover, Failure> {
    let killed = primary(cluster).await?;
    let written = journal.pages().acknowledged.len();
    screen.say(Tone::Plain, &format!("{written} writes acknowledged so far; server {killed} leads"))?;
    let killed_at = Instant::now();
    let process = cluster.kill(killed).await?;
    screen.say(Tone::Bad, &format!("killed server {killed}, the primary (process {process}, SIGKILL)"))?;
    let gap = within("a write under a new primary", journal.gap_after(killed_at)).await?;
    let took = gap.ended_at.saturating_duration_since(killed_at);
    let failover = Failover { killed, took_over: gap.server, gap: gap.length, took };
    screen.say(
        if failover.is_one() { Tone::Good } else { Tone::Bad },
        &format!("server {} took over: the writers waited {:.1} ms", gap.server, millis(failover.gap)),
    )?;
    tokio::time::sleep(WARM_UP / 2).await;
    let revived_at = Instant::now();
    cluster.revive(killed)?;
    screen.say(Tone::Plain, &format!("started server {killed} again, with the data that it had"))?;
    within(&format!("server {killed} as a member"), membership(cluster, killed)).await?;
    let took = millis(revived_at.elapsed());
    screen.say(Tone::Good, &format!("server {killed} has caught up and is a member again, after {took:.0} ms"))?;
    Ok(failover)
}

/// Who leads, once all servers are members.
async fn primary(cluster: &Cluster) -> Result<u8, Failure> {
    let looking = async {
        loop {
            let statuses = cluster.look().await;
            if let Some(primary) = leader(&statuses).filter(|leader| leader.in_sync.len() == usize::from(SERVERS)) {
                return u8::try_from(primary.server).expect("one of three");
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    within("a primary with all servers in its view", looking).await
}

/// The primary of the newest epoch: an older one may not have heard of it yet.
fn leader(statuses: &[Option<StatusResponse>]) -> Option<&StatusResponse> {
    let primaries = statuses.iter().flatten().filter(|status| status.role == "primary");
    primaries.max_by_key(|status| status.epoch.map_or(0, |epoch| epoch.round))
}

/// Waits until the primary counts this server in, and the server knows it.
async fn membership(cluster: &Cluster, server: u8) {
    loop {
        let statuses = cluster.look().await;
        let is_counted_in = leader(&statuses).is_some_and(|leader| leader.in_sync.contains(&u32::from(server)));
        let role = statuses[usize::from(server)].as_ref().map(|status| status.role.as_str());
        // It may have been made the primary meanwhile, on a machine that is busy enough.
        let is_backup = matches!(role, Some("backup" | "primary"));
        if is_counted_in && is_backup {
            return;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Waits for a step of the story, but not for ever.
pub(super) async fn within<T>(what: &str, step: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(STEP_MAX, step)
        .await
        .map_err(|_| Failure::Unavailable(format!("waited {STEP_MAX:?} for {what}, and it did not come")))
}

/// A span of time for people.
pub(super) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}
