//! `export` and `import` against fake servers on real connections.

mod command;
mod fake;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use command::{addresses, run_to_end};
use fake::{Fake, Script, Shared, cluster};
use heirloom_proto::{Refusal, Version};

const DONE: u8 = 0;
const USAGE: u8 = 2;
const NO: u8 = 1;
const UNAVAILABLE: u8 = 3;
const INTEGRITY: u8 = 4;

/// A file of this name in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("there, and text")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a folder to write to");
    }
}

/// Servers, and one word for what a command said at its end.
struct Side {
    shared: Shared,
    _servers: Vec<Fake>,
}

impl Side {
    fn new() -> Self {
        Self::of(3, [])
    }

    /// Three servers with these keys.
    fn with(keys: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        Self::of(3, keys)
    }

    fn of(servers: u8, keys: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let (shared, servers) = cluster(servers);
        let side = Self { shared, _servers: servers };
        let mut world = side.shared.lock();
        for (key, value) in keys {
            world.version += 1;
            let version = world.version;
            world.entries.insert(key.into(), (value.into(), version));
        }
        drop(world);
        side
    }

    /// Runs a command whose last word is this file, for which it has so long.
    fn run_for(&self, words: &[&str], place: &Place, name: &str, timeout_ms: u64) -> ExitCode {
        let path = place.path(name);
        let words = [words, &[path.to_str().expect("text")]].concat();
        run_to_end(&addresses(&self.shared), &words, timeout_ms)
    }

    fn export(&self, words: &[&str], place: &Place, name: &str) -> ExitCode {
        self.run_for(&[&["export"], words, &["--to"]].concat(), place, name, 5_000)
    }

    fn import(&self, words: &[&str], place: &Place, name: &str) -> ExitCode {
        self.run_for(&[&["import"], words].concat(), place, name, 5_000)
    }

    fn values(&self) -> BTreeMap<Bytes, Bytes> {
        let world = self.shared.lock();
        world.entries.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    fn applied(&self) -> u64 {
        self.shared.lock().applied
    }

    fn sessions(&self) -> usize {
        self.shared.lock().sessions.len()
    }
}

/// So many keys, in their order.
fn numbered(count: u32) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    (0..count).map(|number| (format!("k{number:05}").into_bytes(), format!("value {number}").into_bytes()))
}

/// Keys and values that are no text.
fn odd() -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    (0..=255u8).map(|byte| (vec![byte, 0, 255 - byte], vec![byte; usize::from(byte) * 4]))
}

/// Opening a session.
const PASS: Script = Script::Delay(Duration::ZERO);

#[test]
fn what_is_exported_here_is_imported_there_as_it_was() {
    let (place, here, there) = (Place::new(), Side::with(odd()), Side::new());
    assert_eq!(here.export(&[], &place, "all"), ExitCode::from(DONE));
    assert!(!place.path("all.part").exists());
    assert_eq!(there.import(&[], &place, "all"), ExitCode::from(DONE));
    assert_eq!(there.values(), here.values());
    assert_eq!(there.sessions(), 0, "its session is closed");
    assert_eq!(there.applied(), 1, "so few keys are one change");
}

#[test]
fn many_keys_are_added_in_batches_each_of_which_is_one_change() {
    let (place, here, there) = (Place::new(), Side::with(numbered(5_000)), Side::new());
    assert_eq!(here.export(&["k0"], &place, "all"), ExitCode::from(DONE));
    assert_eq!(there.import(&[], &place, "all"), ExitCode::from(DONE));
    assert_eq!(there.values(), here.values());
    assert_eq!(there.applied(), 5_000u64.div_ceil(256));
}

#[test]
fn an_export_of_no_keys_is_whole() {
    let (place, here, there) = (Place::new(), Side::with(numbered(3)), Side::new());
    assert_eq!(here.export(&["nothing"], &place, "all"), ExitCode::from(DONE));
    assert_eq!(place.read("all").lines().count(), 2);
    assert_eq!(there.import(&["--output", "json"], &place, "all"), ExitCode::from(DONE));
    assert_eq!((there.values().len(), there.sessions()), (0, 0));
}

#[test]
fn a_file_that_is_there_is_not_replaced_unasked() {
    let (place, here) = (Place::new(), Side::with(numbered(3)));
    place.write("all", "dear to somebody");
    assert_eq!(here.export(&[], &place, "all"), ExitCode::from(USAGE));
    assert_eq!(here.export(&["--resume"], &place, "all"), ExitCode::from(USAGE));
    assert_eq!(place.read("all"), "dear to somebody");
    assert_eq!(here.export(&["--force"], &place, "all"), ExitCode::from(DONE));
    assert_eq!(place.read("all").lines().count(), 5);
    assert_eq!(here.export(&["--force"], &place, "."), ExitCode::from(USAGE), "a folder is not replaced");
    place.write("other.part", "another export may be writing it");
    assert_eq!(here.export(&[], &place, "other"), ExitCode::from(USAGE));
    assert_eq!(place.read("other.part"), "another export may be writing it");
    assert_eq!(here.export(&["--resume"], &place, "other"), ExitCode::from(INTEGRITY));
    assert_eq!(here.export(&["--force"], &place, "other"), ExitCode::from(DONE));
}

#[test]
fn a_damaged_file_adds_nothing() {
    let (place, here, there) = (Place::new(), Side::with(numbered(600)), Side::new());
    assert_eq!(here.export(&[], &place, "all"), ExitCode::from(DONE));
    let all = place.read("all");
    let lines: Vec<&str> = all.lines().collect();
    place.write("cut", &(lines[..lines.len() - 1].join("\n") + "\n"));
    place.write("torn", &all[..all.len() / 2]);
    place.write("other", &all.replace("value 555", "value 556"));
    place.write("none", "");
    place.write("text", "no export at all");
    for damaged in ["cut", "torn", "other", "none", "text"] {
        assert_eq!(there.import(&[], &place, damaged), ExitCode::from(INTEGRITY), "{damaged}");
    }
    place.write("newer", &all.replace("\"format_version\":1", "\"format_version\":2"));
    for refused in ["newer", "not there", "."] {
        assert_eq!(there.import(&[], &place, refused), ExitCode::from(USAGE), "{refused}");
    }
    assert_eq!(there.import(&["--from-line", "603"], &place, "all"), ExitCode::from(USAGE));
    assert_eq!((there.applied(), there.shared.lock().opened), (0, 0));
}

#[test]
fn keys_that_are_there_are_replaced_or_left_alone_as_it_is_asked() {
    let mine = || vec![(b"k00007".to_vec(), b"mine".to_vec()), (b"other".to_vec(), b"too".to_vec())];
    let (place, here) = (Place::new(), Side::with(numbered(300)));
    assert_eq!(here.export(&[], &place, "all"), ExitCode::from(DONE));
    let (replaced, left) = (Side::with(mine()), Side::with(mine()));
    assert_eq!(replaced.import(&[], &place, "all"), ExitCode::from(DONE));
    assert_eq!(left.import(&["--if-absent"], &place, "all"), ExitCode::from(DONE));
    assert_eq!(replaced.values()["k00007".as_bytes()], "value 7");
    assert_eq!(left.values()["k00007".as_bytes()], "mine");
    for side in [replaced, left] {
        assert_eq!(side.values().len(), 301);
        assert_eq!(side.values()["other".as_bytes()], "too");
        assert_eq!(side.values()["k00008".as_bytes()], "value 8");
    }
}

#[test]
fn where_servers_take_small_values_only_keys_are_added_one_by_one() {
    let (place, here, there) = (Place::new(), Side::with(numbered(100)), Side::new());
    assert_eq!(here.export(&[], &place, "all"), ExitCode::from(DONE));
    there.shared.script(0, [PASS, Script::Refuse(Refusal::BadValue { bytes_max: 100 })]);
    assert_eq!(there.import(&[], &place, "all"), ExitCode::from(DONE));
    assert_eq!((there.values(), there.applied()), (here.values(), 100));
}

#[test]
fn an_import_goes_on_from_a_line_and_leaves_those_before_alone() {
    let (place, here, there) = (Place::new(), Side::with(numbered(600)), Side::new());
    assert_eq!(here.export(&[], &place, "all"), ExitCode::from(DONE));
    assert_eq!(there.import(&["--from-line", "102"], &place, "all"), ExitCode::from(DONE));
    let keys = there.values();
    assert_eq!((keys.len(), keys.keys().next()), (500, Some(&Bytes::from("k00100"))));
    assert_eq!(there.import(&["--from-line", "602"], &place, "all"), ExitCode::from(DONE), "nothing is left to do");
    assert_eq!(there.import(&["--from-line", "1"], &place, "all"), ExitCode::from(DONE));
    assert_eq!(there.values(), here.values());
}

#[test]
fn an_import_whose_changes_are_not_answered_ends_in_time_and_may_be_done_again() {
    let (place, here, there) = (Place::new(), Side::with(numbered(600)), Side::new());
    assert_eq!(here.export(&[], &place, "all"), ExitCode::from(DONE));
    // Of three batches the first is answered.
    there.shared.script(0, [PASS, PASS]);
    there.shared.script(0, vec![Script::Swallow; 1_000]);
    assert_eq!(there.run_for(&["import"], &place, "all", 1_000), ExitCode::from(UNAVAILABLE));
    assert_eq!((there.applied(), there.sessions()), (3, 0), "each is carried out once");
    there.shared.lock().scripts.clear();
    assert_eq!(there.import(&["--from-line", "258"], &place, "all"), ExitCode::from(DONE));
    assert_eq!((there.values(), there.applied()), (here.values(), 5));
}

#[test]
fn an_export_that_was_interrupted_goes_on_at_its_version() {
    let (place, here) = (Place::new(), Side::with(numbered(20)));
    assert_eq!(here.export(&[], &place, "whole"), ExitCode::from(DONE));
    // Three pages of two keys come, and then no more.
    here.shared.script(0, [PASS, PASS, PASS]);
    here.shared.script(0, vec![Script::Swallow; 1_000]);
    let export = |words: &[&str], timeout_ms| {
        here.run_for(&[&["export"], words, &["--to"]].concat(), &place, "parts", timeout_ms)
    };
    assert_eq!(export(&[], 600), ExitCode::from(UNAVAILABLE));
    assert!(!place.path("parts").exists());
    assert_eq!(place.read("parts.part").lines().count(), 1 + 6);
    here.shared.lock().scripts.clear();
    assert_eq!(export(&[], 5_000), ExitCode::from(USAGE), "it goes on with what was left only if it is told to");
    assert_eq!(export(&["--resume", "k"], 5_000), ExitCode::from(USAGE), "of the same range");
    // What is written since is of a later version, behind all keys that were there.
    let version = {
        let mut world = here.shared.lock();
        world.version += 1;
        world.requests.clear();
        Version(world.version - 1)
    };
    // The end of the file was torn off in the midst of a line.
    let part = place.read("parts.part");
    place.write("parts.part", &part[..part.len() - 10]);
    assert_eq!(export(&["--resume"], 5_000), ExitCode::from(DONE));
    assert!(!place.path("parts.part").exists());
    assert_eq!(place.read("parts"), place.read("whole"), "of version {version}");
    let world = here.shared.lock();
    let pages = world.requests.iter().filter(|(server, words)| *server == 0 && words == "Scan").count();
    assert_eq!(pages, 15_usize.div_ceil(fake::PAGE_COUNT), "what is there is not asked for again");
}

#[test]
fn an_export_that_lacks_nothing_but_its_name_needs_no_server() {
    let (place, here) = (Place::new(), Side::with(numbered(20)));
    assert_eq!(here.export(&[], &place, "whole"), ExitCode::from(DONE));
    fs::rename(place.path("whole"), place.path("named.part")).expect("a file");
    here.shared.script(0, vec![Script::Swallow; 1_000]);
    assert_eq!(here.export(&["--resume"], &place, "named"), ExitCode::from(DONE));
    assert_eq!(place.read("named").lines().count(), 22);
}

#[test]
fn an_export_whose_version_is_no_longer_kept_does_not_become_another_one() {
    let (place, here) = (Place::new(), Side::of(1, numbered(20)));
    let too_old = Script::Refuse(Refusal::VersionTooOld { oldest: Version(77) });
    here.shared.script(0, [PASS, PASS, too_old.clone()]);
    assert_eq!(here.export(&[], &place, "all"), ExitCode::from(NO));
    assert_eq!(place.read("all.part").lines().count(), 1 + 4);
    here.shared.script(0, [too_old]);
    assert_eq!(here.export(&["--resume"], &place, "all"), ExitCode::from(NO));
    here.shared.lock().set_back = 1;
    assert_eq!(here.export(&["--resume"], &place, "all"), ExitCode::from(NO));
    assert_eq!(place.read("all.part").lines().count(), 1 + 4);
    assert_eq!(here.export(&["--force"], &place, "all"), ExitCode::from(DONE));
    assert_eq!(place.read("all").lines().count(), 22);
}

#[test]
fn an_export_of_which_nothing_came_leaves_nothing() {
    let (place, here) = (Place::new(), Side::new());
    for server in 0..3 {
        here.shared.script(server, vec![Script::Swallow; 1_000]);
    }
    assert_eq!(here.run_for(&["export", "--to"], &place, "all", 600), ExitCode::from(UNAVAILABLE));
    assert_eq!(fs::read_dir(place.folder.path()).expect("a folder").count(), 0);
}
