//! What servers do for their stores while they live: snapshots, forgetting, and looking for damage.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use heirloom_proto::wire::v1::{AddRequest, StatusResponse};
use heirloom_server::settings::Pace;

use crate::world::World;

/// So short that a test sees many.
const SHORT: Pace = Pace { log_bytes_min: 64 << 10, entries_kept: 8, check_every: Duration::from_secs(3600) };

/// Adds so many keys, with values that make some snapshots due.
async fn fill(world: &World, name: &str) {
    let primary = world.primary().await;
    let mut dictionary = world.dictionary(primary);
    for number in 0..40 {
        let key = format!("{name}-{number}");
        let request = AddRequest { key: key.into(), value: vec![7; 8 << 10].into(), ..Default::default() };
        dictionary.add(request).await.expect("added");
    }
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
        fill(&world, kind).await;
        equal(&world, &[0, 1, 2]).await;
        // In the first frame, or among the first parts; in the only record.
        let offset = if kind == "register.a" { 50 } else { 4_096 + 100 };
        let newest =
            || files(&world, 2, kind).into_iter().filter(|path| path.extension().is_none_or(|end| end != "new")).max();
        let long = |path: PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.len() > offset);
        // No other snapshot is due, which would take its place.
        let at_rest =
            |status: &StatusResponse| status.log_bytes <= (status.snapshot_bytes / 2).max(SHORT.log_bytes_min);
        world.status(2, "at rest, with such a file", |status| at_rest(status) && newest().is_some_and(long)).await;
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
