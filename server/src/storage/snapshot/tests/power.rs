//! A power failure, or a killed process, at every moment of making a snapshot and of forgetting the log behind it.

use std::path::Path;

use super::super::indices;
use super::*;
use crate::storage::files::Files;

const STORE: &str = "/data/store";

/// What is there after a crash goes on as if there had been none.
fn go_on(files: &PowerFailureFiles, live: &mut Live, what: &str) -> Result<(), StorageError> {
    let (mut dir, found, mut store) = load(files)?;
    live.assert_is(&found, what);
    let left = indices(files, Path::new(STORE)).expect("listed");
    assert!(left.len() == 1 && left[0] == found.base.index(), "{what}: {left:?}");
    let names = files.list(Path::new(STORE)).expect("listed");
    assert!(!names.iter().any(|listed| listed.name.ends_with(".new")), "{what}: {names:?}");
    fill(&mut store, live, 6);
    snapshot(&mut store, live.applied.head())?;
    fill(&mut store, live, 2);
    drop(store);
    live.assert_is(&dir.load()?.0, what);
    Ok(())
}

/// A store with a snapshot and a log behind it of several segments, of which another snapshot is due.
fn prepared(files: &PowerFailureFiles, seed: u64) -> (Store, Live) {
    let (_, _, mut store) = member(files);
    let mut live = Live::new(seed);
    fill(&mut store, &mut live, 15);
    snapshot(&mut store, live.applied.head()).expect("made");
    fill(&mut store, &mut live, 55);
    (store, live)
}

#[test]
fn a_snapshot_cut_short_leaves_the_old_one_or_the_new_one_and_all_of_the_log() {
    let (mut moments, mut old, mut new) = (0, 0, 0);
    for cut_after in 0.. {
        let mut done = false;
        for seed in 0..6 {
            let files = PowerFailureFiles::new();
            let (mut store, mut live) = prepared(&files, seed);
            let before = store.shelf.index();
            files.cut_power_after(cut_after);
            done = snapshot(&mut store, live.applied.head()).is_ok();
            drop(store);
            if seed % 2 == 1 {
                // The process alone was killed, and the power fails while the next one starts.
                files.crash_process();
                files.cut_power_after(seed * 7);
                drop(load(&files));
            }
            files.cut_power();
            files.restore_power(seed * 7919 + cut_after);
            let what = format!("cut after {cut_after}, seed {seed}");
            let left = indices(&files, Path::new(STORE)).expect("listed");
            old += u32::from(left.last() == Some(&before));
            new += u32::from(left.last() != Some(&before));
            go_on(&files, &mut live, &what).unwrap_or_else(|error| panic!("{what}: {error}"));
            moments += 1;
        }
        if done {
            break;
        }
    }
    assert!(moments > 200 && old > 100 && new > 20, "{moments} {old} {new}");
}

#[test]
fn a_machine_that_fails_leaves_what_was_stored_before() {
    let mut failures = 0;
    for operation in 0.. {
        let files = PowerFailureFiles::new();
        let (mut store, mut live) = prepared(&files, 3);
        files.fail_after(operation, std::io::ErrorKind::StorageFull);
        let made = snapshot(&mut store, live.applied.head());
        if made.is_ok() {
            break;
        }
        failures += 1;
        drop(store);
        // With room again, in the same process.
        files.crash_process();
        let what = format!("failed at {operation}");
        go_on(&files, &mut live, &what).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert!(failures > 30, "{failures}");
}

#[test]
fn a_build_whose_syncs_do_nothing_loses_snapshots() {
    let lost = |seed: u64| {
        let files = PowerFailureFiles::without_syncs();
        let (mut store, mut live) = prepared(&files, seed);
        snapshot(&mut store, live.applied.head()).expect("made");
        drop(store);
        files.cut_power();
        files.restore_power(seed);
        let went_on = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| go_on(&files, &mut live, "later")));
        !matches!(went_on, Ok(Ok(())))
    };
    assert!((0..20).filter(|seed| lost(*seed)).count() > 15);
}

#[test]
fn random_schedules_of_writes_snapshots_and_crashes_lose_nothing() {
    let (mut made, mut crashes) = (0, 0);
    for seed in 0..150 {
        let files = PowerFailureFiles::new();
        let (_, _, mut store) = member(&files);
        let mut live = Live::new(seed);
        let mut random = Random(seed);
        for _ in 0..8 {
            let what = format!("seed {seed}");
            let records = random.below(30) as usize;
            fill(&mut store, &mut live, records);
            if random.below(2) == 0 {
                files.cut_power_after(random.below(400));
                made += u32::from(snapshot(&mut store, live.applied.head()).is_ok());
                crashes += 1;
            }
            drop(store);
            if random.below(2) == 0 {
                files.crash_process();
            } else {
                files.cut_power();
                files.restore_power(random.next());
            }
            let (_, found, again) = load(&files).unwrap_or_else(|error| panic!("{what}: {error}"));
            live.assert_is(&found, &what);
            store = again;
        }
    }
    assert!(made > 100 && crashes > made + 100, "{made} {crashes}");
}
