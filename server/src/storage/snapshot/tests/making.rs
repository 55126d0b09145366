//! Snapshots made of random logs: with the log behind them they are the whole log, and what they stand for is forgotten.

use std::path::{Path, PathBuf};

use heirloom_proto::LogIndex;

use super::super::make::Bounds;
use super::super::{indices, path_of};
use super::*;
use crate::storage::files::Files;
use crate::storage::segment::Segment;

const STORE: &str = "/data/store";

fn segments(files: &PowerFailureFiles) -> Vec<u64> {
    Segment::numbers(files, Path::new(STORE)).expect("listed")
}

fn file_bytes(files: &PowerFailureFiles, path: &Path) -> Vec<u8> {
    files.open(path).and_then(|file| file.read_at(0, 1 << 20)).expect("there")
}

#[test]
fn a_snapshot_and_the_log_behind_it_are_the_whole_log() {
    let (mut made, mut forgotten, mut based, mut equal) = (0, 0, 0, 0);
    for seed in 0..60 {
        let files = PowerFailureFiles::new();
        let (mut dir, _, mut store) = member(&files);
        let mut live = Live::new(seed);
        for _ in 0..6 {
            let records = 1 + live.random.below(40) as usize;
            fill(&mut store, &mut live, records);
            let upto = live.applied.head();
            match snapshot(&mut store, upto).unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
                SnapshotReport::Made { head, .. } => {
                    assert_eq!(head, upto);
                    made += 1;
                }
                SnapshotReport::Scrubbed { .. } => assert_eq!(upto.position.index, store.shelf.index()),
                SnapshotReport::Failed(error) => panic!("{error}"),
            }
            assert_eq!(store.shelf.index(), upto.position.index);
            let stored: Vec<LogIndex> =
                Some(upto.position.index).filter(|index| *index > LogIndex::ZERO).into_iter().collect();
            assert_eq!(indices(&files, Path::new(STORE)).expect("listed"), stored);
            assert_eq!(store.log.log.end(), live.tip.head().position);
            if live.random.below(2) == 0 {
                // More behind it: the tail, cuts of it, and what follows.
                let records = live.random.below(9) as usize;
                fill(&mut store, &mut live, records);
            }
            let log_bytes = store.shelf.log_bytes();
            drop(store);
            let (found, again) = dir.load().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            live.assert_is(&found, &format!("seed {seed}"));
            assert_eq!(found.base.head(), upto);
            assert!(found.commit >= found.base.index());
            // What was cut back to the snapshot's index is not counted again.
            assert!(again.shelf.log_bytes() <= log_bytes, "seed {seed}");
            equal += u32::from(again.shelf.log_bytes() == log_bytes);
            forgotten += u32::from(segments(&files)[0] > 1);
            let first = Segment::path(Path::new(STORE), segments(&files)[0]);
            let (head, _) =
                crate::storage::frames::Frames::open(&files, &first, found.identity.store, segments(&files)[0])
                    .expect("a segment");
            based += u32::from(head.base.index > LogIndex::ZERO);
            store = again;
        }
    }
    assert!(made > 200 && forgotten > 100 && based > 50 && equal > 300, "{made} {forgotten} {based} {equal}");
}

#[test]
fn segments_that_hold_nothing_behind_the_snapshot_are_removed_and_their_bytes_no_longer_counted() {
    let files = PowerFailureFiles::new();
    let (_, _, mut store) = member(&files);
    let mut live = Live::new(3);
    fill(&mut store, &mut live, 200);
    let before = segments(&files);
    assert!(before.len() > 5, "{before:?}");
    let bytes = store.log.log.disk_bytes();
    let counted = || bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(counted(), 8192 * before.len() as u64);
    snapshot(&mut store, live.applied.head()).expect("made");
    let after = segments(&files);
    assert!(after.len() <= 2 && after.last() == before.last(), "{before:?} {after:?}");
    assert_eq!(counted(), 8192 * after.len() as u64);
    assert!(store.shelf.log_bytes() < 8000, "{}", store.shelf.log_bytes());
    // An older one goes with the next.
    let first = store.shelf.index();
    fill(&mut store, &mut live, 20);
    snapshot(&mut store, live.applied.head()).expect("made");
    assert!(store.shelf.index() > first);
    assert_eq!(indices(&files, Path::new(STORE)).expect("listed"), [store.shelf.index()]);
}

#[test]
fn a_log_that_is_too_much_at_once_becomes_a_snapshot_in_steps() {
    let files = PowerFailureFiles::new();
    let (mut dir, _, mut store) = member(&files);
    let mut live = Live::new(4);
    fill(&mut store, &mut live, 200);
    let upto = live.applied.head();
    let bounds = Bounds { changes_bytes_max: 2000, ..SMALL };
    let (mut steps, mut last) = (0, LogIndex::ZERO);
    while last < upto.position.index {
        let asked = Asked::Snapshot { cluster: CLUSTER, upto };
        let SnapshotReport::Made { head, .. } = ask(&mut store, asked, bounds).expect("made") else { panic!("made") };
        assert!(head.position.index > last && head.position.index <= upto.position.index);
        last = head.position.index;
        steps += 1;
        drop(store);
        let (found, again) = dir.load().expect("whole");
        live.assert_is(&found, &format!("step {steps}"));
        store = again;
    }
    assert!(steps > 3, "{steps}");
}

#[test]
fn what_differs_from_the_state_in_memory_is_damage_and_leaves_no_snapshot() {
    let files = PowerFailureFiles::new();
    let (_, _, mut store) = member(&files);
    let mut live = Live::new(5);
    fill(&mut store, &mut live, 60);
    let right = live.applied.head();
    let mut other_state = right;
    other_state.digest.0 ^= 1;
    let mut other_log = right;
    other_log.position.hash.0 ^= 1;
    for (wrong, says) in [(other_state, "than the one in memory"), (other_log, "in memory it is")] {
        let damage = damage(snapshot(&mut store, wrong));
        assert!(damage.what.contains(says), "{damage}");
        assert_eq!(indices(&files, Path::new(STORE)).expect("listed"), []);
        assert!(files.open(&Path::new(STORE).join("snapshot.new")).is_err());
        assert_eq!(segments(&files)[0], 1);
    }
    let mut beyond = live.tip.head();
    beyond.position.index.0 += 1;
    assert!(damage(snapshot(&mut store, beyond)).what.contains("the log ends at entry"));
    snapshot(&mut store, right).expect("the right one is made");
}

#[test]
fn a_snapshot_that_the_disk_lost_is_noticed_before_anything_is_forgotten() {
    let files = PowerFailureFiles::new();
    let (_, _, mut store) = member(&files);
    let mut live = Live::new(6);
    fill(&mut store, &mut live, 60);
    // The first write after that is the first piece.
    files.lose_next_write();
    let damage = damage(snapshot(&mut store, live.applied.head()));
    assert!(damage.file.ends_with("snapshot.new"), "{damage}");
    assert_eq!(segments(&files)[0], 1);
}

#[test]
fn a_check_finds_a_flipped_bit_in_every_file_of_the_store_and_names_its_place() {
    let files = PowerFailureFiles::new();
    let (_, _, mut store) = member(&files);
    let mut live = Live::new(7);
    fill(&mut store, &mut live, 90);
    snapshot(&mut store, live.applied.head()).expect("made");
    fill(&mut store, &mut live, 90);
    let scrub = |store: &mut Store| ask(store, Asked::Scrub, SMALL);
    let SnapshotReport::Scrubbed { bytes } = scrub(&mut store).expect("right") else { panic!("checked") };
    assert!(bytes > 8000 && store.shelf.checked().bytes == bytes, "{bytes}");
    let path = |name: &str| Path::new(STORE).join(name);
    let segments = segments(&files);
    assert!(segments.len() > 2);
    let mut places: Vec<(PathBuf, u64)> = Vec::new();
    for name in ["identity.a", "identity.b", "register.a", "register.b"] {
        let length = file_bytes(&files, &path(name)).len() as u64;
        places.extend((0..length).map(|at| (path(name), at)));
    }
    let snapshot_path = path_of(Path::new(STORE), store.shelf.index());
    places.extend((0..105).chain(4096..store.shelf.snapshot_bytes()).map(|at| (snapshot_path.clone(), at)));
    for segment in segments {
        let file = Segment::path(Path::new(STORE), segment);
        let bytes = file_bytes(&files, &file);
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("a header") as u64;
        places.extend((0..72).chain(4096..end).map(|at| (file.clone(), at)));
    }
    let (mut found, mut padding) = (0, 0);
    for (file, at) in &places {
        files.rot(file, *at);
        match scrub(&mut store) {
            Err(StorageError::Damaged(damage)) => {
                assert_eq!(damage.file, *file, "byte {at}: {damage}");
                assert!(damage.offset <= *at, "byte {at}: {damage}");
                found += 1;
            }
            // Zeros that fill a frame up.
            Ok(_) if file.to_string_lossy().contains("/log-") => padding += 1,
            Ok(_) => panic!("byte {at} of {} is not watched", file.display()),
            Err(error) => panic!("byte {at} of {}: {error}", file.display()),
        }
        files.rot(file, *at);
    }
    assert!(found > 5000 && padding < found / 20, "{found} {padding}");
    scrub(&mut store).expect("right again");
}

#[test]
fn a_missing_snapshot_is_damage_unless_the_whole_log_is_there() {
    let files = PowerFailureFiles::new();
    let (mut dir, _, mut store) = member(&files);
    let mut live = Live::new(8);
    fill(&mut store, &mut live, 5);
    assert_eq!(segments(&files), [1]);
    snapshot(&mut store, live.applied.head()).expect("made");
    let remove = |store: &Store| files.remove(&path_of(Path::new(STORE), store.shelf.index())).expect("removed");
    remove(&store);
    drop(store);
    let (found, mut store) = dir.load().expect("the first segment is there");
    live.assert_is(&found, "without a snapshot");
    fill(&mut store, &mut live, 150);
    snapshot(&mut store, live.applied.head()).expect("made");
    remove(&store);
    drop(store);
    let damage = damage(dir.load());
    assert!(damage.what.contains("the snapshot is missing"), "{damage}");
}

#[test]
fn segments_that_are_missing_behind_a_snapshot_are_damage() {
    let files = PowerFailureFiles::new();
    let (mut dir, _, mut store) = member(&files);
    let mut live = Live::new(9);
    fill(&mut store, &mut live, 100);
    snapshot(&mut store, live.applied.head()).expect("made");
    fill(&mut store, &mut live, 150);
    drop(store);
    let segments = segments(&files);
    assert!(segments.len() > 3, "{segments:?}");
    let whole = |number: u64| file_bytes(&files, &Segment::path(Path::new(STORE), number));
    for number in segments {
        let path = Segment::path(Path::new(STORE), number);
        let bytes = whole(number);
        files.remove(&path).expect("removed");
        let damage = damage(dir.load());
        assert!(damage.what.contains("missing") || damage.what.contains("were synced"), "{number}: {damage}");
        files.create(&path).and_then(|file| file.write_at(0, &bytes)).expect("written");
    }
    let (found, _store) = dir.load().expect("whole again");
    live.assert_is(&found, "put back");
}

#[test]
fn what_a_crash_left_of_forgetting_the_log_does_no_harm_and_is_removed() {
    let files = PowerFailureFiles::new();
    let (mut dir, _, mut store) = member(&files);
    let mut live = Live::new(12);
    fill(&mut store, &mut live, 150);
    let path = |number: u64| Segment::path(Path::new(STORE), number);
    // Removals reach the disk in any order: of five segments the first and the third are left.
    let left: Vec<(u64, Vec<u8>)> =
        [1, 3].into_iter().map(|number| (number, file_bytes(&files, &path(number)))).collect();
    snapshot(&mut store, live.applied.head()).expect("made");
    let held = segments(&files);
    assert!(held[0] > 5, "{held:?}");
    for (number, bytes) in left {
        files.create(&path(number)).and_then(|file| file.write_at(0, &bytes)).expect("written");
    }
    drop(store);
    let (found, _store) = dir.load().expect("whole");
    live.assert_is(&found, "with holes");
    assert_eq!(segments(&files), held);
}

#[test]
fn a_cut_in_a_kept_segment_may_go_below_where_that_segment_begins() {
    let files = PowerFailureFiles::new();
    let (mut dir, _, mut store) = member(&files);
    let mut live = Live::new(13);
    let base_of = |number: u64| {
        let path = Segment::path(Path::new(STORE), number);
        crate::storage::frames::Frames::open(&files, &path, store_id(&files), number).expect("a segment").0.base.index
    };
    let first = live.append(20);
    write(&mut store, &live, &first).expect("written");
    live.apply(20);
    // Another segment begins above the entries that will be kept, and cuts below its beginning.
    while segments(&files).len() < 2 {
        let more = live.append(10);
        write(&mut store, &live, &more).expect("written");
    }
    let begins_at = base_of(2);
    live.tail.truncate(3);
    live.tip = live.applied.clone();
    live.tail.iter().for_each(|sealed| extend(&mut live.tip, sealed));
    live.round += 1;
    write(&mut store, &live, &LogRecord::Cut(live.tip.index())).expect("written");
    assert!(live.tip.index() < begins_at);
    while live.tip.index() <= begins_at {
        let more = live.append(5);
        write(&mut store, &live, &more).expect("written");
    }
    live.apply(1000);
    snapshot(&mut store, live.applied.head()).expect("made");
    assert_eq!(segments(&files)[0], 2, "the first segment is gone");
    drop(store);
    let (found, mut store) = dir.load().expect("whole");
    live.assert_is(&found, "cut below");
    fill(&mut store, &mut live, 30);
    snapshot(&mut store, live.applied.head()).expect("made");
    drop(store);
    live.assert_is(&dir.load().expect("whole").0, "gone on");
}

fn store_id(files: &PowerFailureFiles) -> heirloom_proto::StoreId {
    crate::storage::data_dir::read_identity(files, Path::new(STORE)).expect("whole").0.store
}

#[test]
fn one_that_is_told_to_stop_leaves_nothing_behind_whenever_that_is() {
    let files = PowerFailureFiles::new();
    let (mut dir, _, mut store) = member(&files);
    let mut live = Live::new(14);
    fill(&mut store, &mut live, 60);
    let upto = live.applied.head();
    let mut stopped = 0;
    for steps in 0.. {
        let asked = std::cell::Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) < steps;
        match super::super::make::make(&store.shelf, CLUSTER, &upto, SMALL, &go_on) {
            Ok(made) => {
                assert_eq!(made.stored.head.state, upto);
                break;
            }
            Err(Undone::Stopped) => stopped += 1,
            Err(Undone::Failed(error)) => panic!("after {steps}: {error}"),
        }
        let names = files.list(Path::new(STORE)).expect("listed");
        assert!(!names.iter().any(|listed| listed.name.starts_with("snapshot")), "after {steps}: {names:?}");
    }
    assert!(stopped > 100, "{stopped}");
    drop(store);
    live.assert_is(&dir.load().expect("whole").0, "made, and the log not forgotten");
}

#[test]
fn a_snapshot_of_another_log_is_damage() {
    let files = PowerFailureFiles::new();
    let (mut dir, _, mut store) = member(&files);
    let mut live = Live::new(10);
    let mut fork = live.clone();
    fork.round = 2;
    fill(&mut store, &mut live, 30);
    let own = live.applied.head();
    // As long as its own, of other entries.
    while fork.applied.index() < own.position.index {
        fork.append(1);
        fork.apply(1);
    }
    let other = PowerFailureFiles::new();
    let (_, _, mut elsewhere) = member(&other);
    elsewhere.log.log.carry_out(&[LogRecord::Append(replayed(&fork))]).expect("written");
    snapshot(&mut elsewhere, fork.applied.head()).expect("made");
    let name = path_of(Path::new(STORE), own.position.index);
    let bytes = file_bytes(&other, &name);
    files.create(&name).and_then(|file| file.write_at(0, &bytes)).expect("written");
    drop(store);
    assert!(damage(dir.load()).what.contains("the snapshot is of a log where it is"));
}

/// All entries of a copy that never cut any.
fn replayed(live: &Live) -> Vec<Sealed> {
    let mut again = Live::new(10);
    again.round = live.round;
    (0..live.applied.index().0).map(|_| again.entry()).collect()
}
