//! Whose directory it is, and what is refused.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use heirloom_proto::{LogIndex, Register, ServerId};

use super::super::slots::{Kind, Slot};
use super::super::{DataDir, Files as _, PowerFailureFiles, StorageError, says_full};
use super::{CLUSTER, ME, constants, in_cluster, load, open, os, register, write};

fn refusal(path: &Path, server: ServerId) -> StorageError {
    DataDir::open(os(), path, server).expect_err("refused")
}

#[test]
fn an_absent_directory_is_made_for_its_owner_alone_and_is_blank() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("a/b");
    let (durable, _store) = load(&path);
    assert_eq!(durable.identity.server, ME);
    assert_eq!(durable.identity.cluster, None);
    assert_eq!((durable.register, durable.log, durable.commit), (None, Vec::new(), LogIndex(0)));
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
}

#[test]
fn every_formatted_store_has_a_name_of_its_own_and_keeps_it() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = load(one.path()).0.identity.store;
    assert_ne!(store, load(two.path()).0.identity.store);
    assert_eq!(store, load(one.path()).0.identity.store);
}

#[test]
fn a_directory_of_another_server_is_refused_with_both_ids() {
    let temp = tempfile::tempdir().expect("a folder");
    drop(DataDir::open(os(), temp.path(), ServerId(1)).expect("formatted"));
    let error = refusal(temp.path(), ME);
    let said = error.to_string();
    assert!(said.contains("belongs to server 1, and --id is 0: start it with --id 1"), "{said}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_directory_in_use_is_refused_by_its_name() {
    let temp = tempfile::tempdir().expect("a folder");
    let first = open(temp.path());
    let error = refusal(temp.path(), ME);
    assert!(matches!(&error, StorageError::Locked { dir } if dir == temp.path()), "{error:?}");
    assert!(error.to_string().contains(&temp.path().display().to_string()));
    drop(first);
    open(temp.path());
}

#[test]
fn a_directory_that_holds_something_else_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().expect("a folder");
    for name in ["notes.txt", "store", "forming", "set-aside-x-1"] {
        let path = temp.path().join(name).join("");
        fs::create_dir_all(&path).expect("made");
        let error = refusal(temp.path(), ME);
        assert!(matches!(&error, StorageError::Foreign { found, .. } if found == name), "{error:?}");
        let names: Vec<_> =
            fs::read_dir(temp.path()).expect("there").map(|found| found.expect("a name").file_name()).collect();
        assert_eq!(names, [name], "touched");
        fs::remove_dir(path).expect("removed");
    }
}

#[test]
fn a_fresh_file_system_with_lost_and_found_is_blank() {
    let temp = tempfile::tempdir().expect("a folder");
    fs::create_dir(temp.path().join("lost+found")).expect("made");
    open(temp.path());
}

#[test]
fn foreign_files_beside_a_store_do_no_harm() {
    let temp = tempfile::tempdir().expect("a folder");
    let store = load(temp.path()).0.identity.store;
    fs::write(temp.path().join("notes.txt"), "mine").expect("written");
    fs::remove_file(temp.path().join("lock")).expect("removed");
    assert_eq!(load(temp.path()).0.identity.store, store);
}

#[test]
fn a_name_in_a_store_that_no_server_writes_is_no_snapshot_and_no_segment() {
    let temp = tempfile::tempdir().expect("a folder");
    drop(load(temp.path()));
    let names =
        ["snapshot-5", "snapshot-+000000000000005", "snapshot-000000000000000F", "log-2", "log-00000000000000002"];
    for name in names {
        fs::write(temp.path().join("store").join(name), b"a copy that somebody made").expect("written");
        let (durable, _store) = load(temp.path());
        assert_eq!(durable.base.index(), LogIndex::ZERO, "{name}");
        assert!(temp.path().join("store").join(name).exists(), "{name}");
    }
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("file");
    fs::write(&path, "mine").expect("written");
    for path in [path.clone(), path.join("below")] {
        let error = refusal(&path, ME);
        assert!(matches!(error, StorageError::NotADirectory { .. }), "{error:?}");
        assert_eq!(error.exit_code(), 2);
    }
    assert_eq!(fs::read(&path).expect("there"), b"mine");
}

#[test]
fn a_missing_permission_is_named_wherever_it_is_missing() {
    // Not with real permissions: tests may run as root, for whom there are none missing.
    let operations = {
        let files = PowerFailureFiles::new();
        DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME).expect("formatted");
        files.operations()
    };
    let mut not_needed = 0;
    for operation in 0..operations {
        let files = PowerFailureFiles::new();
        files.fail_after(operation, ErrorKind::PermissionDenied);
        match DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME) {
            Ok(_) => not_needed += 1,
            Err(error) => {
                assert!(matches!(error, StorageError::NoPermission { .. }), "operation {operation}: {error:?}");
                assert_eq!(error.exit_code(), 2);
            }
        }
        drop(DataDir::open(Arc::new(files), Path::new("/data"), ME).expect("the next time it may"));
    }
    assert_eq!(not_needed, 1, "only reading the directory above, which may be another user's");
}

#[test]
fn a_full_disk_is_an_error_of_the_machine_and_can_be_tried_again() {
    for operation in 0..20 {
        let files = PowerFailureFiles::new();
        files.fail_after(operation, ErrorKind::StorageFull);
        let error = DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME).expect_err("refused");
        assert!(matches!(error, StorageError::Io { .. }), "operation {operation}: {error:?}");
        assert_eq!(error.exit_code(), 3);
        let mut dir = DataDir::open(Arc::new(files), Path::new("/data"), ME).expect("now there is room");
        assert_eq!(dir.load().expect("whole").0.register, None);
    }
}

#[test]
fn whether_there_is_room_is_tried_and_leaves_nothing_behind() {
    let files = PowerFailureFiles::new();
    let dir = DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME).expect("formatted");
    let before = files.list(Path::new("/data")).expect("there");
    for operation in 0..2 {
        files.fail_after(operation, ErrorKind::StorageFull);
        assert!(!dir.has_room().expect("it is full, and well"), "operation {operation}");
        assert_eq!(files.list(Path::new("/data")).expect("there"), before);
    }
    files.fail_after(1, ErrorKind::Other);
    assert!(dir.has_room().is_err(), "not every failure is a full disk");
    assert!(dir.has_room().expect("well"));
    assert_eq!(files.list(Path::new("/data")).expect("there"), before);
}

#[test]
fn a_full_disk_is_told_by_the_sentence_that_a_failed_write_leaves() {
    let failed = |number: i32| {
        let source = std::io::Error::from_raw_os_error(number);
        StorageError::Io { what: "reserve", path: "/data/log-2".into(), source }.to_string()
    };
    assert!(says_full(&failed(28)) && says_full(&failed(122)));
    assert!(!says_full(&failed(5)));
}

#[test]
fn a_store_of_a_newer_format_is_refused_by_name() {
    let temp = tempfile::tempdir().expect("a folder");
    let store = load(temp.path()).0.identity.store;
    let path = temp.path().join("store/identity.b");
    // The format stands at byte 8, and the checksum of the first 40 bytes and the payload at 40.
    let mut bytes = Slot { store, sequence: 9, payload: vec![1, 2, 3] }.encode(Kind::Identity);
    bytes[8] = 2;
    let covered = [&bytes[..40], &bytes[48..]].concat();
    bytes[40..48].copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&covered).to_le_bytes());
    fs::write(&path, bytes).expect("written");
    let error = refusal(temp.path(), ME);
    assert!(matches!(&error, StorageError::NewerFormat { file, found: 2, known: 1 } if *file == path), "{error:?}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_directory_with_nothing_but_stores_set_aside_is_not_blank() {
    let temp = tempfile::tempdir().expect("a folder");
    open(temp.path()).reformat_blank().expect("reformatted");
    fs::remove_dir_all(temp.path().join("store")).expect("removed");
    let error = refusal(temp.path(), ME);
    assert!(matches!(error, StorageError::NoStore { .. }), "{error:?}");
}

#[test]
fn one_copy_of_register_or_identity_that_rots_is_mended_from_the_other() {
    let temp = tempfile::tempdir().expect("a folder");
    let (durable, mut store) = load(temp.path());
    let id = durable.identity.store;
    let (identity, register) = (in_cluster(id), register(id, 5));
    store.votes.identity.write(&super::super::identity::encode_identity(&identity)).expect("written");
    store.votes.register.write(&super::super::identity::encode_register(Some(&register))).expect("written");
    drop(store);
    for name in ["identity.a", "identity.b", "register.a", "register.b"] {
        let path = temp.path().join("store").join(name);
        let whole = fs::read(&path).expect("there");
        for broken in [Some(whole[..whole.len() - 1].to_vec()), Some(vec![0; 50]), Some(Vec::new()), None] {
            match broken {
                Some(bytes) => fs::write(&path, bytes).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            let (found, _store) = load(temp.path());
            // The newest, not the one before: both copies had it when it was reported.
            assert_eq!((found.identity, found.register), (identity.clone(), Some(register.clone())), "{name}");
            assert_eq!(fs::read(&path).expect("there"), whole, "{name} is mended");
        }
    }
}

#[test]
fn a_damaged_copy_is_made_anew_from_the_other_and_named() {
    for name in ["identity.a", "identity.b", "register.a", "register.b"] {
        let temp = tempfile::tempdir().expect("a folder");
        let (before, store) = load(temp.path());
        assert_eq!(store.mended(), []);
        drop(store);
        let path = temp.path().join("store").join(name);
        let whole = fs::read(&path).expect("there");
        let mut broken = whole.clone();
        broken[20] ^= 1;
        fs::write(&path, &broken).expect("written");
        let (after, store) = load(temp.path());
        let mended: Vec<String> = store.mended().iter().map(ToString::to_string).collect();
        assert!(mended.len() == 1 && mended[0].contains(&format!("{name} is damaged at byte 0")), "{mended:?}");
        assert_eq!((fs::read(&path).expect("there"), after.register), (whole, before.register), "{name}");
        drop(store);
        assert_eq!(load(temp.path()).1.mended(), [], "once");
    }
}

#[test]
fn a_register_without_a_whole_copy_is_damage_and_not_blank() {
    for never_stored in [true, false] {
        for removed in [true, false] {
            let temp = tempfile::tempdir().expect("a folder");
            let (durable, mut store) = load(temp.path());
            if !never_stored {
                let bytes = super::super::identity::encode_register(Some(&Register::FRESH));
                store.votes.register.write(&bytes).expect("written");
            }
            write(&mut store, &[super::append(1, 3)]);
            drop(store);
            for name in ["register.a", "register.b"] {
                let path = temp.path().join("store").join(name);
                if removed {
                    fs::remove_file(path).expect("removed");
                } else {
                    let mut bytes = fs::read(&path).expect("there");
                    *bytes.last_mut().expect("a byte") ^= 1;
                    fs::write(path, bytes).expect("written");
                }
            }
            let mut dir = open(temp.path());
            let error = dir.load().expect_err("damaged");
            assert!(
                matches!(&error, StorageError::Damaged(damage) if damage.file.ends_with("register.a")),
                "{error:?}"
            );
            assert_eq!(error.exit_code(), 4);
            assert_eq!(dir.identity(), Some(&durable.identity));
        }
    }
}

#[test]
fn a_register_of_another_store_is_damage() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    open(one.path());
    open(two.path());
    for name in ["register.a", "register.b"] {
        let name = Path::new("store").join(name);
        fs::copy(one.path().join(&name), two.path().join(&name)).expect("copied");
    }
    let error = open(two.path()).load().expect_err("damaged");
    assert!(error.to_string().contains("a record of another store"), "{error}");
}

#[test]
fn two_copies_that_differ_under_one_number_are_damage() {
    let temp = tempfile::tempdir().expect("a folder");
    let store = load(temp.path()).0.identity.store;
    let bytes = Slot { store, sequence: 1, payload: vec![1] }.encode(Kind::Register);
    fs::write(temp.path().join("store/register.b"), bytes).expect("written");
    let error = open(temp.path()).load().expect_err("damaged");
    assert!(error.to_string().contains("under one number"), "{error}");
}

#[test]
fn a_directory_whose_identity_is_lost_opens_and_can_be_set_aside() {
    let temp = tempfile::tempdir().expect("a folder");
    open(temp.path());
    for name in ["identity.a", "identity.b"] {
        fs::write(temp.path().join("store").join(name), "rot").expect("written");
    }
    let mut dir = open(temp.path());
    assert_eq!(dir.identity(), None);
    assert!(matches!(dir.load(), Err(StorageError::Damaged(_))));
    let store = dir.reformat_as_amnesiac(CLUSTER, constants()).expect("reformatted");
    let (durable, _store) = dir.load().expect("whole");
    assert_eq!((durable.identity.store, durable.identity.server), (store, ME));
    assert_eq!(durable.register, Some(Register::LOST));
    assert!(temp.path().join("set-aside-unknown-1").exists());
}
