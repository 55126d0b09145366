//! A new cluster from the file of a snapshot: all of it or nothing, whenever it is interrupted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use heirloom_backup::{State, StateHead};
use heirloom_proto::{ChainHash, LogIndex, Member, Standing, VoterKind};

use super::super::restore::restore_in;
use super::super::snapshot::path_of;
use super::super::{
    DataDir, Disk, OsFiles, PowerFailureFiles, RestoreError, RestoreFrom, Restored, SnapshotReport, StorageError,
};
use super::{CLUSTER, ME, append, constants, in_cluster, open, write};
use crate::storage::identity::encode_identity;

const SEGMENT_BYTES: u64 = 16 << 10;

/// The file of a snapshot of twenty entries of [`CLUSTER`], and of which state it is.
fn saved(folder: &Path) -> (PathBuf, StateHead) {
    let mut dir = open(&folder.join("from"));
    let (blank, mut store) = dir.load().expect("blank");
    store.votes.identity.write(&encode_identity(&in_cluster(blank.identity.store))).expect("written");
    write(&mut store, &[append(1, 20)]);
    drop(store);
    let (durable, store) = dir.load().expect("whole");
    let (mut state, mut hash) = (State::default(), ChainHash::EMPTY);
    for entry in &durable.log {
        hash = entry.extend(hash);
        state.apply(entry, hash);
    }
    let (reports, made) = mpsc::channel();
    let mut disk = Disk::start(store, |_| ());
    disk.start_snapshots(move |report| {
        let _ = reports.send(report);
    });
    assert!(disk.request_snapshot(CLUSTER, state.head()));
    let made = made.recv().expect("reported");
    assert!(matches!(made, SnapshotReport::Made { .. }), "{made:?}");
    disk.stop();
    (path_of(&folder.join("from/store"), LogIndex(20)), state.head())
}

fn restore_to(files: &Arc<dyn super::Files>, file: &Path, dir: &Path) -> Result<Restored, RestoreError> {
    let from = RestoreFrom { file: OsFiles::open_to_read(file).expect("there"), path: file.to_owned() };
    restore_in(files, from, dir, (ME, &constants()), SEGMENT_BYTES, &mut |_| ())
}

#[test]
fn a_restored_store_is_of_a_new_cluster_of_its_server_alone_and_goes_on_behind_the_snapshot() {
    let temp = tempfile::tempdir().expect("a folder");
    let (file, head) = saved(temp.path());
    let to = temp.path().join("to");
    let restored = restore_to(&super::os(), &file, &to).expect("restored");
    assert_eq!((restored.whole.head.cluster, restored.whole.head.state, restored.whole.keys), (CLUSTER, head, 1));
    let (found, _store) = super::load(&to);
    assert_eq!(found.base.head(), head);
    assert_eq!(super::indices(&found), [21]);
    let marker = found.log[0].entry();
    assert_eq!((marker.epoch, marker.version, found.commit), (restored.epoch, head.version, LogIndex(21)));
    assert!(marker.epoch > head.epoch && marker.effects.is_empty() && marker.origin.is_none());
    let (cluster, kept) = found.identity.cluster.clone().expect("in a cluster");
    assert_eq!((cluster, cluster.generation, kept), (restored.cluster, 1, constants()));
    assert_ne!(cluster.id, CLUSTER.id);
    let register = found.register.expect("stored");
    let view = register.accepted.clone().expect("a view");
    let member = Member { server: ME, store: found.identity.store };
    assert_eq!((view.epoch, view.in_sync), (restored.epoch, [member].into()));
    assert_eq!((register.promised, register.standing), (restored.epoch, Standing::Intact));
    assert_eq!(found.identity.enrolled, [(ME, member.store)].into());
    assert!(found.identity.enrolment_open);
}

#[test]
fn a_restore_cut_short_leaves_all_of_it_or_a_blank_directory() {
    let temp = tempfile::tempdir().expect("a folder");
    let (file, head) = saved(temp.path());
    let (data, mut blank, mut whole) = (Path::new("/data"), 0, 0);
    for cut_after in 0.. {
        let mut done = false;
        for seed in 0..4 {
            let files = PowerFailureFiles::new();
            files.cut_power_after(cut_after);
            let shared: Arc<dyn super::Files> = Arc::new(files.clone());
            done = restore_to(&shared, &file, data).is_ok();
            if seed % 2 == 1 {
                // The process alone was killed, and the power fails while a server starts on it.
                files.crash_process();
                files.cut_power_after(seed * 5);
                drop(DataDir::open(Arc::new(files.clone()), data, ME).map(|mut dir| dir.load()));
            }
            files.cut_power();
            files.restore_power(seed * 7919 + cut_after);
            let mut dir = DataDir::open(Arc::new(files.clone()), data, ME)
                .unwrap_or_else(|error| panic!("cut after {cut_after}, seed {seed}: {error}"));
            let found = dir.load().unwrap_or_else(|error| panic!("cut after {cut_after}, seed {seed}: {error}")).0;
            match &found.identity.cluster {
                None => {
                    assert!(!done, "cut after {cut_after}, seed {seed}: it said that it was done");
                    assert_eq!((found.register, found.log.len(), found.base.index()), (None, 0, LogIndex::ZERO));
                    blank += 1;
                }
                Some((cluster, _)) => {
                    assert_ne!(cluster.id, CLUSTER.id);
                    assert_eq!((found.base.head(), super::indices(&found)), (head, vec![21]));
                    assert!(found.register.is_some_and(|register| register.promised > head.epoch));
                    whole += 1;
                }
            }
        }
        if done {
            break;
        }
    }
    assert!(blank > 50 && whole > 10, "blank {blank} times, whole {whole} times");
}

#[test]
fn a_directory_with_a_store_and_a_witness_are_refused() {
    let temp = tempfile::tempdir().expect("a folder");
    let (file, _) = saved(temp.path());
    let from = temp.path().join("from");
    let refused = restore_to(&super::os(), &file, &from).expect_err("a store is there");
    assert!(matches!(&refused, RestoreError::NotBlank { dir } if *dir == from), "{refused:?}");
    let witness = constants().servers().find(|server| constants().kind(*server) == Some(VoterKind::Witness));
    let source = RestoreFrom { file: OsFiles::open_to_read(&file).expect("there"), path: file.clone() };
    let place = (witness.expect("there is one"), &constants());
    let to = temp.path().join("to");
    let refused = restore_in(&super::os(), source, &to, place, SEGMENT_BYTES, &mut |_| ()).expect_err("a witness");
    assert!(matches!(refused, RestoreError::Witness { .. }) && !to.exists(), "{refused:?}");
}

#[test]
fn each_byte_that_is_missing_or_wrong_is_refused_and_nothing_is_made() {
    let temp = tempfile::tempdir().expect("a folder");
    let (file, _) = saved(temp.path());
    let bytes = std::fs::read(&file).expect("read");
    let (hurt, to) = (temp.path().join("hurt"), temp.path().join("to"));
    let refused = |bytes: &[u8]| {
        std::fs::write(&hurt, bytes).expect("written");
        match restore_to(&super::os(), &hurt, &to) {
            Err(RestoreError::Storage(StorageError::Damaged(damage))) => assert_eq!(damage.file, hurt),
            other => panic!("{other:?}"),
        }
        assert!(!to.exists(), "something was made");
    };
    // Behind what the checksum of the header covers it is filled up with bytes that mean nothing.
    for at in (0..105).chain(4096..bytes.len()) {
        let mut hurt = bytes.clone();
        hurt[at] ^= 1 << (at % 8);
        refused(&hurt);
    }
    for length in [0, 1, 104, 4095, 4096, 4100, bytes.len() - 1] {
        refused(&bytes[..length]);
    }
    refused(&[bytes.as_slice(), b"x"].concat());
    std::fs::write(&hurt, &bytes).expect("written");
    restore_to(&super::os(), &hurt, &to).expect("undamaged");
}
