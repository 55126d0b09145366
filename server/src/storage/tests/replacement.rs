//! One store in the place of another, and a new generation: whenever it is interrupted, all of it or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use heirloom_backup::Durable;
use heirloom_proto::{Identity, LogIndex, Register, ServerId, Standing, StoreId, VoterKind};

use super::super::identity::{encode_identity, encode_register};
use super::super::recover::recover_in;
use super::super::{DataDir, Files, PowerFailureFiles, RecoverError, StorageError, recover};
use super::{CLUSTER, ME, append, constants, in_cluster, indices, load, open, os, register, write};

/// A store that is a member of a view of the cluster, with three entries.
fn fill(dir: &mut DataDir) -> Durable {
    dir.set_segment_bytes(16 << 10);
    let (blank, mut store) = dir.load().expect("blank");
    let id = blank.identity.store;
    store.votes.identity.write(&encode_identity(&in_cluster(id))).expect("written");
    store.votes.register.write(&encode_register(Some(&register(id, 5)))).expect("written");
    write(&mut store, &[append(1, 3)]);
    drop(store);
    dir.load().expect("whole").0
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .expect("there")
        .map(|found| found.expect("a name").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_store_that_lost_its_memory_keeps_its_cluster_and_knows_that_it_lost_it() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut dir = open(temp.path());
    let old = fill(&mut dir);
    let store = dir.reformat_as_amnesiac(CLUSTER, constants()).expect("reformatted");
    assert_ne!(store, old.identity.store);
    let (found, _store) = dir.load().expect("whole");
    assert_eq!(found.identity, Identity { store, ..old.identity.clone() });
    assert_eq!(found.register, Some(Register::LOST));
    assert_eq!((found.log, found.commit), (Vec::new(), LogIndex(0)));
    let aside = format!("set-aside-{}-1", old.identity.store);
    assert_eq!(names(temp.path()), ["lock".to_owned(), aside.clone(), "store".to_owned()]);
    assert!(temp.path().join(aside).join("log-0000000000000001").exists());
}

#[test]
fn a_superseded_store_comes_back_blank() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut dir = open(temp.path());
    let old = fill(&mut dir);
    let store = dir.reformat_blank().expect("reformatted");
    drop(dir);
    let (found, _store) = load(temp.path());
    let blank = Identity { server: ME, store, cluster: None, enrolled: BTreeMap::new(), enrolment_open: false };
    assert_ne!(store, old.identity.store);
    assert_eq!((found.identity, found.register, found.log), (blank, None, Vec::new()));
}

#[test]
fn two_stores_are_kept_aside_and_the_oldest_goes() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut dir = open(temp.path());
    let stores: Vec<StoreId> = (0..12).map(|_| dir.reformat_blank().expect("reformatted")).collect();
    assert_eq!(
        names(temp.path())
            .into_iter()
            .filter(|name| name.starts_with("set-aside"))
            .collect::<std::collections::BTreeSet<_>>(),
        [format!("set-aside-{}-11", stores[9]), format!("set-aside-{}-12", stores[10])].into()
    );
}

/// Does `act` to a filled store with the power cut after each number of operations, and gives what is found after each.
fn at_every_moment(act: impl Fn(&PowerFailureFiles) -> bool, check: impl Fn(&Durable, &Durable)) -> u64 {
    let mut moments = 0;
    for cut_after in 0.. {
        let mut done = false;
        for seed in 0..8 {
            let files = PowerFailureFiles::new();
            let mut dir = DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME).expect("formatted");
            let before = fill(&mut dir);
            drop(dir);
            files.cut_power_after(cut_after);
            done = act(&files);
            if seed % 2 == 1 {
                // The process alone was killed, and the power fails while the next one starts.
                files.crash_process();
                files.cut_power_after(seed * 5);
                drop(DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME).map(|mut dir| dir.load()));
            }
            files.cut_power();
            files.restore_power(seed * 7919 + cut_after);
            let mut dir = DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME)
                .unwrap_or_else(|error| panic!("cut after {cut_after}, seed {seed}: {error}"));
            let found = dir.load().unwrap_or_else(|error| panic!("cut after {cut_after}, seed {seed}: {error}")).0;
            assert_eq!(dir.identity(), Some(&found.identity));
            let left = files.list(Path::new("/data")).expect("there");
            assert!(left.iter().all(|listed| !["forming", "next"].contains(&listed.name.as_str())), "{left:?}");
            check(&before, &found);
            moments += 1;
        }
        if done {
            return moments;
        }
    }
    unreachable!("it ends")
}

#[test]
fn a_replacement_cut_short_leaves_the_old_store_or_the_new_one_and_never_a_blank_one() {
    let replace = |files: &PowerFailureFiles| {
        DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME)
            .and_then(|mut dir| dir.reformat_as_amnesiac(CLUSTER, constants()))
            .is_ok()
    };
    let moments = at_every_moment(replace, |before, found| {
        if found.identity.store == before.identity.store {
            assert_eq!(found, before);
        } else {
            assert_eq!(found.register, Some(Register::LOST));
            assert_eq!(found.identity.cluster, before.identity.cluster);
        }
    });
    assert!(moments > 200, "{moments}");
}

#[test]
fn a_recovery_makes_a_generation_of_its_server_alone() {
    let temp = tempfile::tempdir().expect("a folder");
    let before = fill(&mut open(temp.path()));
    let done = recover(os(), temp.path()).expect("recovered");
    let (found, _store) = load(temp.path());
    assert_eq!(indices(&found), [1, 2, 3, 4]);
    assert_eq!(found.log[..3], before.log);
    let marker = found.log[3].entry();
    assert_eq!((marker.epoch, marker.version), (done.epoch, before.log[2].entry().version));
    assert!(marker.effects.is_empty() && marker.origin.is_none());
    assert_eq!((done.epoch.round, done.epoch.server), (6, ME));
    let register = found.register.expect("stored");
    let view = register.accepted.clone().expect("a view");
    assert_eq!((register.promised, register.standing, view.epoch), (done.epoch, Standing::Intact, done.epoch));
    let member = heirloom_proto::Member { server: ME, store: before.identity.store };
    assert_eq!((view.in_sync, view.leaving.len()), ([member].into(), 0));
    let (cluster, kept) = found.identity.cluster.clone().expect("in a cluster");
    assert_eq!((cluster.id, cluster.generation, kept), (CLUSTER.id, CLUSTER.generation + 1, constants()));
    assert_eq!(found.identity.enrolled, BTreeMap::from([(ME, before.identity.store)]));
    assert!(found.identity.enrolment_open);
    assert_eq!((found.commit, done.log_end), (LogIndex(4), LogIndex(4)));
    assert!(done.was_member);
    assert_eq!(done.cluster, cluster);
}

#[test]
fn a_recovery_cut_short_is_done_or_not_begun_and_can_be_repeated() {
    // In short segments: a whole one of 64 MiB would be read at each moment.
    let begin = |files: &PowerFailureFiles| {
        let recovered = DataDir::open_existing(Arc::new(files.clone()), Path::new("/data")).map(|dir| {
            let mut dir = dir.expect("there");
            dir.set_segment_bytes(16 << 10);
            recover_in(dir)
        });
        matches!(recovered, Ok(Ok(_)))
    };
    let moments = at_every_moment(begin, |before, found| {
        let (cluster, _) = found.identity.cluster.as_ref().expect("in a cluster");
        let epoch = found.register.as_ref().expect("stored").promised;
        // The register of the new generation and the name of the old one would be two clusters under one name.
        if cluster.generation == CLUSTER.generation {
            assert_eq!((&found.identity, &found.register), (&before.identity, &before.register));
            assert!(indices(found) == [1, 2, 3] || indices(found) == [1, 2, 3, 4]);
        } else {
            assert_eq!(epoch.round, 6);
            assert_eq!(found.log[3].entry().epoch, epoch);
            assert!(found.identity.enrolment_open);
        }
    });
    assert!(moments > 200, "{moments}");
    let temp = tempfile::tempdir().expect("a folder");
    fill(&mut open(temp.path()));
    let (once, twice) = (recover(os(), temp.path()).expect("once"), recover(os(), temp.path()).expect("twice"));
    assert!(twice.epoch > once.epoch && twice.cluster.generation == once.cluster.generation + 1);
    let (found, _store) = load(temp.path());
    assert!(found.log.windows(2).all(|two| two[0].entry().epoch <= two[1].entry().epoch));
}

#[test]
fn a_recovery_after_one_that_left_only_its_marker_is_of_a_higher_epoch() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut dir = open(temp.path());
    fill(&mut dir);
    let (_, mut store) = dir.load().expect("whole");
    let marker = super::entry(4, 60, 0);
    write(&mut store, &[super::LogRecord::Append(vec![marker])]);
    drop((store, dir));
    assert_eq!(recover(os(), temp.path()).expect("recovered").epoch.round, 61);
}

#[test]
fn a_recovery_needs_a_data_store_of_a_cluster_that_nobody_uses() {
    let temp = tempfile::tempdir().expect("a folder");
    let refused = |path: &Path| recover(os(), path).expect_err("refused");

    let absent = temp.path().join("absent");
    assert!(matches!(refused(&absent), RecoverError::Missing { .. }));
    assert!(!absent.exists(), "made by a question");

    let path = temp.path().join("blank");
    let mut dir = open(&path);
    assert!(matches!(refused(&path), RecoverError::Storage(StorageError::Locked { .. })));
    drop(dir);
    assert!(matches!(refused(&path), RecoverError::Blank { .. }));

    dir = open(&path);
    let (blank, mut store) = dir.load().expect("blank");
    store.votes.identity.write(&encode_identity(&in_cluster(blank.identity.store))).expect("written");
    drop((store, dir));
    assert!(matches!(refused(&path), RecoverError::Empty { .. }));

    let path = temp.path().join("witness");
    let mut dir = DataDir::open(os(), &path, ServerId(2)).expect("formatted");
    let (blank, mut store) = dir.load().expect("blank");
    assert_eq!(constants().kind(ServerId(2)), Some(VoterKind::Witness));
    let identity = Identity { server: ServerId(2), ..in_cluster(blank.identity.store) };
    store.votes.identity.write(&encode_identity(&identity)).expect("written");
    drop((store, dir));
    let error = refused(&path);
    assert!(matches!(error, RecoverError::Witness { .. }));
    assert_eq!(error.exit_code(), 2);

    let path = temp.path().join("damaged");
    fill(&mut open(&path));
    let log = path.join("store/log-0000000000000001");
    let mut bytes = fs::read(&log).expect("there");
    bytes[4100] ^= 1;
    fs::write(&log, bytes).expect("written");
    let error = refused(&path);
    assert!(matches!(error, RecoverError::Storage(StorageError::Damaged(_))), "{error}");
    assert_eq!(error.exit_code(), 4);

    fs::write(temp.path().join("file"), "mine").expect("written");
    assert!(matches!(refused(&temp.path().join("file")), RecoverError::Storage(StorageError::NotADirectory { .. })));
    assert!(matches!(refused(temp.path()), RecoverError::Storage(StorageError::Foreign { .. })));
}

#[test]
fn a_half_done_recovery_that_rotted_is_damage() {
    let temp = tempfile::tempdir().expect("a folder");
    fill(&mut open(temp.path()));
    fs::write(temp.path().join("store/recovery"), "rot").expect("written");
    let mut dir = open(temp.path());
    assert!(matches!(dir.load(), Err(StorageError::Damaged(damage)) if damage.file.ends_with("recovery")));
    dir.reformat_as_amnesiac(CLUSTER, constants()).expect("reformatted");
    assert_eq!(dir.load().expect("whole").0.register, Some(Register::LOST));
}
