//! Disks on which a sync fails, or takes long: at a backup, at the primary.

use std::time::{Duration, Instant};

use crate::world::disk::Disk;
use crate::world::writer::{Account, Writer};
use crate::world::{Cluster, PATIENCE, primary_with};

/// Where a death or a broken stream tells enough, a busy machine must not make a living server look silent.
const PATIENT: &[&str] = &["--suspicion", "10s"];
/// Where silence is told apart from a slow disk.
const SUSPICION: Duration = Duration::from_secs(1);
const SUSPICIOUS: &[&str] = &["--suspicion", "1s"];

/// Three servers with steered disks and a writer at work; who leads, and a backup.
async fn at_work(flags: &[&str]) -> (Cluster, Writer, [usize; 2]) {
    let cluster = Cluster::start_on_steered_disks(3, flags);
    let primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let writer = Writer::start(cluster.client().await.with_timeout(PATIENCE), "disk");
    writer.wait_for_more(20).await;
    (cluster, writer, [primary, (primary + 1) % 3])
}

/// All but this one.
fn others(id: usize) -> Vec<u32> {
    (0..3).filter(|other| *other != id as u32).collect()
}

/// All three are members again, every write had an answer, and what was acknowledged is there, once and everywhere.
async fn whole_again(cluster: &Cluster, writer: Writer) -> Account {
    cluster.wait_for_members(&[0, 1, 2]).await;
    writer.wait_for_more(20).await;
    let account = writer.stop().await;
    assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
    cluster.wait_until_equal().await;
    account.check(cluster).await;
    account
}

/// Waits until a server has ended for its disk's sake, and says so.
async fn ends_by_its_disk(cluster: &mut Cluster, id: usize) {
    let begun = Instant::now();
    let code = loop {
        if let Some(code) = cluster.ended(id) {
            break code;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let said = std::fs::read_to_string(cluster.log_path(id)).expect("a log");
    assert!(code == 3 && said.contains("could not sync "), "{code}\n{said}");
}

/// How many runs a server has begun.
fn runs(cluster: &Cluster, id: usize) -> usize {
    let log = std::fs::read_to_string(cluster.log_path(id)).expect("a log");
    log.matches("begins a run").count()
}

/// The epoch in which these lead and follow.
async fn epoch(cluster: &Cluster, primary: usize) -> Option<heirloom_proto::wire::v1::Epoch> {
    cluster.status(primary).await.expect("it runs").epoch
}

#[tokio::test]
async fn a_sync_that_fails_at_a_backup_ends_it_and_it_is_a_member_again_when_it_is_started() {
    let (mut cluster, writer, [_, backup]) = at_work(PATIENT).await;
    cluster.steer_disk(backup, Disk::FailsOnce);
    ends_by_its_disk(&mut cluster, backup).await;
    // A refused connection proves its death.
    cluster.wait_for_members(&others(backup)).await;
    writer.wait_for_more(20).await;
    cluster.start_server(backup);
    whole_again(&cluster, writer).await;
}

#[tokio::test]
async fn a_sync_that_fails_at_the_primary_makes_another_one_lead_and_loses_nothing() {
    let (mut cluster, writer, [primary, _]) = at_work(PATIENT).await;
    cluster.steer_disk(primary, Disk::FailsOnce);
    ends_by_its_disk(&mut cluster, primary).await;
    let next = cluster.wait_for_members(&others(primary)).await;
    assert_ne!(next, primary);
    writer.wait_for_more(20).await;
    cluster.start_server(primary);
    whole_again(&cluster, writer).await;
}

#[tokio::test]
async fn a_backup_whose_syncs_take_a_while_slows_the_writes_and_stays_a_member() {
    const SYNC: Duration = Duration::from_millis(100);
    const ADDS: u32 = 10;
    let (cluster, writer, [primary, backup]) = at_work(PATIENT).await;
    let before = epoch(&cluster, primary).await;
    cluster.steer_disk(backup, Disk::Slow(SYNC));
    // Those under way may have been synced before.
    writer.wait_for_more(2).await;
    let begun = Instant::now();
    writer.wait_for_more(ADDS as usize).await;
    assert!(begun.elapsed() >= SYNC * (ADDS - 1), "{:?} for {ADDS} adds", begun.elapsed());
    assert_eq!(epoch(&cluster, primary).await, before, "{}", cluster.logs());
    cluster.steer_disk(backup, Disk::Well);
    whole_again(&cluster, writer).await;
    assert_eq!(epoch(&cluster, primary).await, before, "{}", cluster.logs());
}

#[tokio::test]
async fn a_backup_whose_syncs_take_too_long_loses_its_place_in_time_and_is_a_member_again_once_they_do_not() {
    let sync = SUSPICION * 10;
    let (cluster, writer, [_, backup]) = at_work(SUSPICIOUS).await;
    writer.take_longest_gap();
    cluster.steer_disk(backup, Disk::Slow(sync));
    cluster.wait_for_members(&others(backup)).await;
    writer.wait_for_more(50).await;
    // It is waited for no longer than what says that it is slow.
    let gap = writer.take_longest_gap();
    assert!(gap >= SUSPICION && gap < sync, "{gap:?}\n{}", cluster.logs());
    cluster.steer_disk(backup, Disk::Well);
    whole_again(&cluster, writer).await;
    assert_eq!(runs(&cluster, backup), 1, "{}", cluster.logs());
}

#[tokio::test]
async fn a_primary_whose_syncs_take_long_does_not_look_dead() {
    // What is slow is so for longer than this, which is more than a busy machine keeps a server from talking.
    let suspicion = Duration::from_secs(3);
    let sync = suspicion * 3 / 2;
    let (cluster, writer, [primary, _]) = at_work(&["--suspicion", "3s"]).await;
    let before = epoch(&cluster, primary).await;
    // A read that waited for this disk would not be answered in time.
    cluster.steer_disk(primary, Disk::Slow(PATIENCE));
    cluster.client().await.read("disk-00000000").await.expect("read").expect("acknowledged");
    cluster.steer_disk(primary, Disk::Slow(sync));
    let begun = Instant::now();
    writer.wait_for_more(2).await;
    assert!(begun.elapsed() >= sync, "{:?} for two adds", begun.elapsed());
    assert_eq!(epoch(&cluster, primary).await, before, "{}", cluster.logs());
    cluster.wait_until("all follow", |all| primary_with(all, &[0, 1, 2]) == Some(primary)).await;
    cluster.steer_disk(primary, Disk::Well);
    whole_again(&cluster, writer).await;
    assert_eq!(epoch(&cluster, primary).await, before, "{}", cluster.logs());
}
