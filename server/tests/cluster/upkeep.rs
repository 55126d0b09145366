//! What servers do for their stores while they live: snapshots, forgetting, and looking for damage.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::Duration;

use heirloom_proto::wire::v1::{AddRequest, StatusResponse};
use heirloom_server::settings::Pace;

use crate::world::World;

/// So short that a test sees many.
const SHORT: Pace =
    Pace { log_bytes_min: 64 << 10, entries_kept: 8, check_every: HOUR, retry_after: HOUR, held_bytes_max: 512 << 20 };
const HOUR: Duration = Duration::from_secs(3600);

/// Adds so many keys, with values that make some snapshots due.
async fn fill(world: &World, name: &str) {
    let primary = world.primary().await;
    fill_at(world, primary, name).await;
}

async fn fill_at(world: &World, primary: usize, name: &str) {
    let mut dictionary = world.dictionary(primary);
    for number in 0..40 {
        let key = format!("{name}-{number}");
        let request = AddRequest { key: key.into(), value: vec![7; 8 << 10].into(), ..Default::default() };
        dictionary.add(request).await.expect("added");
    }
}

/// Whether no snapshot is due.
fn at_rest(status: &StatusResponse) -> bool {
    status.log_bytes <= (status.snapshot_bytes / 2).max(SHORT.log_bytes_min)
}

fn files(world: &World, id: usize, prefix: &str) -> Vec<PathBuf> {
    let of_kind = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let entries = |dir| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let data_dir = world.data_dir(id);
    entries(data_dir.join("store")).chain(entries(data_dir)).filter(of_kind).collect()
}

/// Waits until these have applied the same, which goes on meanwhile.
async fn equal(world: &World, servers: &[usize]) {
    loop {
        let mut states = Vec::new();
        for id in servers {
            let status = world.status(*id, "there", |_| true).await;
            states.push((status.applied, status.digest));
        }
        if states.iter().all(|state| *state == states[0]) {
            return;
        }
        // None can lag for ever: each wait below has its limit.
        let newest = states.iter().map(|(applied, _)| *applied).max().expect("some");
        for id in servers {
            world.status(*id, "as far as the first", |status| status.applied >= newest).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_was_away_for_some_snapshots_is_sent_one_and_so_is_a_new_one() {
    let mut world = World::start_at(3, &[], SHORT).await;
    fill(&world, "before").await;
    world.stop(2).await;
    fill(&world, "without").await;
    for id in [0, 1] {
        world
            .status(id, "with a short log", |status| status.snapshot_bytes > 300 << 10 && status.log_bytes < 300 << 10)
            .await;
    }
    world.restart(2).await;
    world.primary().await;
    equal(&world, &[0, 1, 2]).await;
    let installed = world.status(2, "with a snapshot", |status| status.snapshot_bytes > 0).await;
    assert_eq!(installed.keys, 80);
    world.stop(2).await;
    fs::remove_dir_all(world.data_dir(2)).expect("removed");
    world.restart(2).await;
    world.primary().await;
    equal(&world, &[0, 1, 2]).await;
    fill(&world, "after").await;
    equal(&world, &[0, 1, 2]).await;
}

#[tokio::test]
async fn damage_under_a_running_server_is_found_and_repaired() {
    let pace = Pace { check_every: Duration::from_millis(100), ..SHORT };
    let world = World::start_at(3, &[], pace).await;
    for (count, kind) in (1..).zip(["snapshot-", "log-", "register.a"]) {
        // In the first frame, or among the first parts; in the only record.
        let offset = if kind == "register.a" { 50 } else { 4_096 + 100 };
        let newest =
            || files(&world, 2, kind).into_iter().filter(|path| path.extension().is_none_or(|end| end != "new")).max();
        // What was reserved for the log is no log yet.
        let written = |status: &StatusResponse| match kind {
            "log-" => status.log_bytes > 8 << 10,
            _ => newest().is_some_and(|path| fs::metadata(path).is_ok_and(|metadata| metadata.len() > offset)),
        };
        loop {
            fill(&world, kind).await;
            equal(&world, &[0, 1, 2]).await;
            // No other snapshot is due, which would take its place.
            if written(&world.status(2, "at rest", at_rest).await) {
                break;
            }
        }
        let path = newest().expect("there is one");
        let file = File::options().read(true).write(true).open(&path).expect("it is there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("read");
        file.write_all_at(&[!byte[0]], offset).expect("written");
        drop(file);
        if kind == "register.a" {
            // Mended from its twin at the start that follows.
            let whole = |_: &StatusResponse| {
                fs::read(&path).expect("there") == fs::read(path.with_extension("b")).expect("there")
            };
            world.status(2, "mended", whole).await;
        } else {
            world.status(2, "with a new store", |_| files(&world, 2, "set-aside").len() == count).await;
        }
        world.primary().await;
        equal(&world, &[0, 1, 2]).await;
    }
}

#[tokio::test]
async fn what_is_stored_is_checked_now_and_then() {
    let pace = Pace { check_every: Duration::from_millis(50), ..SHORT };
    let world = World::start_at(1, &[], pace).await;
    fill(&world, "k").await;
    let first = world.status(0, "up for a while", |status| status.uptime_ms > 300).await;
    assert!(first.checked_ms_ago < first.uptime_ms, "{first:?}");
}

/// A server alone whose disk has no room for a snapshot that is due, once it has found out.
async fn without_room(retry_after: Duration) -> World {
    let world = World::start_at(1, &[], Pace { retry_after, ..SHORT }).await;
    world.primary().await;
    world.steer_disk(0, "full snapshot.new");
    fill(&world, "without room").await;
    world.status(0, "out of room for a snapshot", |_| world.refused(0) > 0).await;
    world
}

#[tokio::test]
async fn where_there_is_no_room_for_a_snapshot_the_server_serves_and_does_not_try_again_at_once() {
    let world = without_room(HOUR).await;
    fill(&world, "all the same").await;
    let now = world.status(0, "up", |_| true).await.uptime_ms;
    let later = world.status(0, "up for longer", |status| status.uptime_ms > now + 500).await;
    assert_eq!((later.role.as_str(), later.keys, later.snapshot_bytes), ("primary", 80, 0));
    assert_eq!(world.refused(0), 1);
}

#[tokio::test]
async fn a_snapshot_for_which_there_was_no_room_is_made_once_there_is() {
    let world = without_room(Duration::from_millis(20)).await;
    world.status(0, "still without", |_| world.refused(0) > 2).await;
    world.steer_disk(0, "");
    world.status(0, "with a snapshot", |status| status.snapshot_bytes > 0).await;
}

/// Server 2 is away for a snapshot of its primary.
async fn away_for_a_snapshot(world: &mut World) {
    world.primary().await;
    world.stop(2).await;
    let primary = world.primary().await;
    for part in ["one", "other"] {
        fill_at(world, primary, part).await;
    }
    // Both parts are more than what no snapshot is due for.
    world.status(primary, "with another snapshot", at_rest).await;
    world.restart(2).await;
}

/// The same; whether it is sent that snapshot when it comes back.
async fn is_sent_it(world: &mut World) -> bool {
    let store = |world: &World| fs::metadata(world.data_dir(2).join("store")).expect("it is there").ino();
    world.primary().await;
    let before = store(world);
    away_for_a_snapshot(world).await;
    world.primary().await;
    equal(world, &[0, 1, 2]).await;
    // What is fetched comes in a directory of its own.
    store(world) != before
}

/// The same until it is sent one: the primary forgets a moment after its snapshot is made.
async fn until_sent(world: &mut World) {
    let mut rounds = 0;
    while !is_sent_it(world).await {
        rounds += 1;
        assert!(rounds < 20, "it is always sent the log");
    }
}

#[tokio::test]
async fn the_log_behind_a_snapshot_is_held_for_whoever_was_sent_that() {
    let mut world = World::start_at(3, &[], SHORT).await;
    until_sent(&mut world).await;
    assert!(!is_sent_it(&mut world).await, "it was sent what it lacked of the log");
}

#[tokio::test]
async fn no_more_of_the_log_is_held_than_may_be() {
    let mut world = World::start_at(3, &[], Pace { held_bytes_max: 64 << 10, ..SHORT }).await;
    until_sent(&mut world).await;
    until_sent(&mut world).await;
}

#[tokio::test]
async fn where_there_is_no_room_for_what_was_fetched_the_server_goes_on_as_it_was_and_comes_back_later() {
    let mut world = World::start_at(3, &[], SHORT).await;
    world.primary().await;
    world.steer_disk(2, "full forming");
    let mut rounds = 0;
    while world.refused(2) == 0 {
        away_for_a_snapshot(&mut world).await;
        world.status(2, "back", |status| status.role == "backup" || world.refused(2) > 0).await;
        rounds += 1;
        assert!(rounds < 20, "it is always sent the log");
    }
    world.status(2, "short of room again", |_| world.refused(2) > 1).await;
    world.status(2, "up all the same", |status| status.role != "backup").await;
    fill_at(&world, 0, "meanwhile").await;
    world.steer_disk(2, "");
    world.primary().await;
    equal(&world, &[0, 1, 2]).await;
}
