//! A snapshot of another server: fetched piece by piece, checked, and put in the place of the data.

use std::path::Path;

use heirloom_proto::{ClusterId, Identity, Register, StoreId};

use super::super::format::HEADER_BYTES;
use super::super::{Fetched, SnapshotSource};
use super::*;
use crate::storage::files::Files;
use crate::storage::tests::constants;

const FETCHED: &str = "/data/fetched";

/// Another server's newest snapshot, with the state that it is of.
fn elsewhere(seed: u64) -> (SnapshotSource, Live) {
    let files = PowerFailureFiles::new();
    let (_, _, mut store) = member(&files);
    let mut live = Live::new(seed);
    fill(&mut store, &mut live, 80);
    live.apply(1000);
    snapshot(&mut store, live.applied.head()).expect("made");
    let source = store.shelf.open_newest().expect("read").expect("there");
    assert_eq!(source.head().state, live.applied.head());
    (source, live)
}

/// A server far behind: in the cluster, with the first entries.
fn behind(files: &PowerFailureFiles, seed: u64) -> (DataDir, Durable) {
    let (mut dir, _, mut store) = member(files);
    let mut live = Live::new(seed);
    fill(&mut store, &mut live, 3);
    drop(store);
    let found = dir.load().expect("whole").0;
    (dir, found)
}

fn all_of(source: &SnapshotSource) -> Vec<u8> {
    source.read_at(0, usize::MAX).expect("read")
}

fn fetch(dir: &DataDir, bytes: &[u8]) -> Result<StateHead, StorageError> {
    let mut fetched = dir.fetch_place().open(CLUSTER)?;
    fetched.begin_anew()?;
    fetched.write(bytes)?;
    fetched.finish()
}

fn exists(files: &PowerFailureFiles, path: &str) -> bool {
    files.open(Path::new(path)).is_ok()
}

fn assert_installed(found: &Durable, before: &Durable, live: &Live, what: &str) {
    assert_eq!((&found.identity, &found.register), (&before.identity, &before.register), "{what}");
    assert_eq!(found.base.head(), live.applied.head(), "{what}");
    assert!(found.base.parts().eq(live.applied.parts()), "{what}");
    assert_eq!((found.log.len(), found.commit), (0, live.applied.index()), "{what}");
}

#[test]
fn a_snapshot_takes_the_place_of_the_data_and_name_and_register_stay() {
    let (source, mut live) = elsewhere(1);
    let files = PowerFailureFiles::new();
    let (mut dir, before) = behind(&files, 1);
    let head = fetch(&dir, &all_of(&source)).expect("whole");
    dir.install(&head).expect("installed");
    let names: Vec<String> =
        files.list(Path::new("/data")).expect("listed").into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, ["lock", "store"]);
    let (found, mut store) = dir.load().expect("whole");
    assert_installed(&found, &before, &live, "installed");
    // The log goes on behind it, and the next snapshot is made of this one.
    fill(&mut store, &mut live, 60);
    snapshot(&mut store, live.applied.head()).expect("made");
    fill(&mut store, &mut live, 10);
    drop(store);
    live.assert_is(&dir.load().expect("whole").0, "gone on");
}

#[test]
fn a_transfer_goes_on_where_it_was_interrupted() {
    let (source, _) = elsewhere(2);
    let bytes = all_of(&source);
    assert_eq!(bytes.len() as u64, source.length());
    let mut interruptions = 0;
    for seed in 0..40 {
        let mut random = Random(seed);
        let files = PowerFailureFiles::new();
        let (dir, _) = behind(&files, 2);
        let place = dir.fetch_place();
        let mut dir = Some(dir);
        let mut fetched: Fetched = place.open(CLUSTER).expect("opened");
        loop {
            let from = usize::try_from(fetched.offset()).expect("small");
            assert_eq!(fetched.head().is_some(), from >= HEADER_BYTES);
            if from == bytes.len() {
                break;
            }
            let to = bytes.len().min(from + 1 + random.below(3000) as usize);
            fetched.write(&bytes[from..to]).expect("written");
            if random.below(3) == 0 {
                interruptions += 1;
                drop(fetched);
                if random.below(2) == 0 {
                    // Of what was written much may be lost.
                    files.cut_power();
                    files.restore_power(random.next());
                    drop(dir.take());
                    dir = Some(load(&files).expect("whole").0);
                }
                fetched = place.open(CLUSTER).expect("opened");
                assert!(fetched.offset() <= to as u64);
            }
        }
        assert_eq!(fetched.finish().expect("whole"), source.head().state);
    }
    assert!(interruptions > 30, "{interruptions}");
}

#[test]
fn a_whole_piece_is_not_fetched_twice() {
    let (source, _) = elsewhere(2);
    let bytes = all_of(&source);
    let files = PowerFailureFiles::new();
    let (dir, _) = behind(&files, 2);
    let mut fetched = dir.fetch_place().open(CLUSTER).expect("opened");
    fetched.write(&bytes[..bytes.len() - 60]).expect("written");
    drop(fetched);
    let fetched = dir.fetch_place().open(CLUSTER).expect("opened");
    assert_eq!(fetched.head(), Some(source.head().state));
    assert!(fetched.offset() > bytes.len() as u64 - 1000, "{} of {}", fetched.offset(), bytes.len());
}

#[test]
fn what_came_wrong_is_refused_with_its_place_and_is_wanted_again_from_there() {
    let (source, _) = elsewhere(3);
    let bytes = all_of(&source);
    let files = PowerFailureFiles::new();
    let (mut dir, _) = behind(&files, 3);
    for at in (HEADER_BYTES..bytes.len()).step_by(17) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 4;
        let damage = damage(fetch(&dir, &wrong));
        assert!(damage.file == Path::new(FETCHED) && damage.offset <= at as u64, "{damage}");
        let fetched = dir.fetch_place().open(CLUSTER).expect("opened");
        assert_eq!(fetched.offset(), damage.offset);
        assert!(dir.install(&source.head().state).is_err(), "byte {at}");
        // What was refused may be lost by it, and nothing else.
        let (found, _store) = dir.load().expect("as it was");
        assert_eq!(found.base.index(), LogIndex::ZERO);
    }
    let head = fetch(&dir, &bytes).expect("whole");
    let mut other = head;
    other.digest.0 ^= 1;
    assert!(damage(dir.install(&other)).what.contains("not the snapshot that was to be put in place"));
    dir.install(&head).expect("the right one");
}

#[test]
fn a_snapshot_of_another_cluster_or_generation_is_refused() {
    let (source, _) = elsewhere(4);
    let bytes = all_of(&source);
    let files = PowerFailureFiles::new();
    let (dir, _) = behind(&files, 4);
    for other in [ClusterId { id: 78, ..CLUSTER }, ClusterId { generation: 9, ..CLUSTER }] {
        fetch(&dir, &bytes).expect("whole");
        let mut fetched = dir.fetch_place().open(other).expect("opened");
        assert_eq!((fetched.head(), fetched.offset()), (None, 0));
        assert!(damage(fetched.write(&bytes)).what.contains("it is a snapshot of"));
    }
}

#[test]
fn what_was_fetched_is_kept_over_a_start_and_removed_once_it_is_useless() {
    let (source, live) = elsewhere(5);
    let bytes = all_of(&source);
    let files = PowerFailureFiles::new();
    let (mut dir, _) = behind(&files, 5);
    let put = |dir: &DataDir| fetch(dir, &bytes).expect("whole");
    put(&dir);
    dir.load().expect("whole");
    assert!(exists(&files, FETCHED), "it is of use");
    // A new store of the same cluster may want it more than ever; one of no cluster does not.
    dir.reformat_as_amnesiac(CLUSTER, constants()).expect("reformatted");
    assert!(exists(&files, FETCHED));
    dir.reformat_as_amnesiac(ClusterId { generation: 9, ..CLUSTER }, constants()).expect("reformatted");
    assert!(!exists(&files, FETCHED), "of another generation");
    put(&dir);
    dir.reformat_blank().expect("reformatted");
    assert!(!exists(&files, FETCHED), "of no cluster");
    // A log that holds as much.
    drop(dir);
    let files = PowerFailureFiles::new();
    let (mut dir, _, mut store) = member(&files);
    let mut same = Live::new(5);
    fill(&mut store, &mut same, 80);
    assert_eq!(store.log.log.end(), live.tip.head().position);
    drop(store);
    put(&dir);
    dir.load().expect("whole");
    assert!(!exists(&files, FETCHED), "no more than the log");
}

#[test]
fn an_installation_cut_short_leaves_the_old_store_or_the_new_one_and_never_another_register() {
    let (source, live) = elsewhere(6);
    let bytes = all_of(&source);
    let (mut moments, mut old, mut new) = (0, 0, 0);
    for cut_after in 0.. {
        let mut done = false;
        for seed in 0..8 {
            let files = PowerFailureFiles::new();
            let (mut dir, before) = behind(&files, 6);
            let head = fetch(&dir, &bytes).expect("whole");
            files.cut_power_after(cut_after);
            done = dir.install(&head).is_ok();
            drop(dir);
            if seed % 2 == 1 {
                files.crash_process();
                files.cut_power_after(seed * 7);
                drop(load(&files));
            }
            files.cut_power();
            files.restore_power(seed * 7919 + cut_after);
            let what = format!("cut after {cut_after}, seed {seed}");
            let (mut dir, found, store) = load(&files).unwrap_or_else(|error| panic!("{what}: {error}"));
            drop(store);
            if found.base.index() == LogIndex::ZERO {
                // Progress may be lost.
                assert_eq!(Durable { commit: before.commit, ..found }, before, "{what}");
                old += 1;
                // Fetched once more where it was lost on the way.
                let head = fetch(&dir, &bytes).expect("whole");
                dir.install(&head).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_installed(&dir.load().expect("whole").0, &before, &live, &what);
            } else {
                assert_installed(&found, &before, &live, &what);
                new += 1;
            }
            let names = files.list(Path::new("/data")).expect("listed");
            assert!(names.iter().all(|listed| ["lock", "store"].contains(&listed.name.as_str())), "{what}: {names:?}");
            moments += 1;
        }
        if done {
            break;
        }
    }
    assert!(moments > 200 && old > 100 && new > 50, "{moments} {old} {new}");
}

#[test]
fn what_is_promised_after_an_installation_that_failed_halfway_is_not_taken_back_by_the_next_start() {
    let (source, _) = elsewhere(7);
    let bytes = all_of(&source);
    let mut failed_halfway = 0;
    for operation in 0.. {
        let files = PowerFailureFiles::new();
        let (mut dir, before) = behind(&files, 7);
        let head = fetch(&dir, &bytes).expect("whole");
        files.fail_after(operation, std::io::ErrorKind::Other);
        let done = dir.install(&head).is_ok();
        failed_halfway += u32::from(!done && files.list(Path::new("/data/next")).is_ok());
        // The process goes on all the same, and votes.
        let promised = register(before.identity.store, 6);
        let (_, mut store) = dir.load().expect("whole");
        store.votes.register.write(&encode_register(Some(&promised))).expect("written");
        drop((store, dir));
        assert_eq!(load(&files).expect("whole").1.register, Some(promised), "failed at {operation}");
        if done {
            break;
        }
    }
    assert!(failed_halfway > 1, "{failed_halfway}");
}

#[test]
fn a_recovery_makes_a_generation_of_a_store_that_begins_with_a_snapshot() {
    for entries_behind in [0, 5] {
        let (source, mut live) = elsewhere(8);
        let files = PowerFailureFiles::new();
        let (mut dir, _) = behind(&files, 8);
        let head = fetch(&dir, &all_of(&source)).expect("whole");
        dir.install(&head).expect("installed");
        let (_, mut store) = dir.load().expect("whole");
        let behind = live.append(entries_behind);
        write(&mut store, &live, &behind).expect("written");
        drop(store);
        let recovered = crate::storage::recover::recover_in(dir).expect("recovered");
        assert_eq!(recovered.log_end.0, head.position.index.0 + entries_behind + 1);
        let (_, found, store) = load(&files).expect("whole");
        assert_eq!(found.base.head(), head);
        assert_eq!(found.log.len() as u64, entries_behind + 1);
        let marker = found.log.last().expect("a marker").entry();
        assert_eq!((marker.epoch, marker.version), (recovered.epoch, live.tip.head().version));
        // What is sent from now on is of the new generation.
        let source = store.shelf.open_newest().expect("read").expect("there");
        assert_eq!(source.head().cluster, recovered.cluster);
        assert_eq!(recovered.cluster.generation, CLUSTER.generation + 1);
    }
}

#[test]
fn what_is_being_sent_can_be_read_to_its_end_though_a_newer_one_takes_its_place() {
    let temp = tempfile::tempdir().expect("a folder");
    let os: Arc<dyn Files> = Arc::new(crate::storage::OsFiles);
    let mut dir = DataDir::open(Arc::clone(&os), temp.path(), ME).expect("formatted");
    let (_, mut store) = dir.load().expect("blank");
    let mut live = Live::new(9);
    fill(&mut store, &mut live, 30);
    live.apply(1000);
    snapshot(&mut store, live.applied.head()).expect("made");
    let source = store.shelf.open_newest().expect("read").expect("there");
    let whole = all_of(&source);
    fill(&mut store, &mut live, 30);
    live.apply(1000);
    snapshot(&mut store, live.applied.head()).expect("made");
    let newer = store.shelf.open_newest().expect("read").expect("there");
    assert!(newer.head().state.position.index > source.head().state.position.index);
    let mut again = Vec::new();
    while (again.len() as u64) < source.length() {
        again.extend(source.read_at(again.len() as u64, 1000).expect("read"));
    }
    assert_eq!(again, whole);
    assert!(source.read_at(source.length(), 1000).expect("read").is_empty());
}

#[test]
fn a_blank_store_takes_no_snapshot() {
    let (source, _) = elsewhere(10);
    let files = PowerFailureFiles::new();
    let (mut dir, found, store) = load(&files).expect("blank");
    drop(store);
    let head = fetch(&dir, &all_of(&source)).expect("whole");
    assert!(dir.install(&head).is_err());
    let blank: (Option<&Register>, Option<StoreId>) = (None, Some(found.identity.store));
    let (again, _store) = dir.load().expect("as it was");
    assert_eq!((again.register.as_ref(), Some(again.identity.store)), blank);
    assert_eq!(Identity { ..again.identity }.cluster, None);
}
