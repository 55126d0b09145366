//! The walls and pages of the house, looked at as files: what no lint sees.
#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pure rooms, and all that each may depend on when it is resolved by itself, its dependencies' dependencies too.
const PURE: [(&str, &[&str]); 5] = [
    ("heirloom-proto", &["bytes", "xxhash-rust"]),
    ("heirloom-backup", &["heirloom-proto", "bytes", "xxhash-rust"]),
    ("heirloom-primary", &["heirloom-backup", "heirloom-proto", "bytes", "xxhash-rust"]),
    ("heirloom-node", &["heirloom-primary", "heirloom-backup", "heirloom-proto", "bytes", "xxhash-rust"]),
    ("heirloom-session", &["heirloom-proto", "bytes", "xxhash-rust"]),
];

const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// All files below the root that are ours, by their ending.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the house") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "heirloom-data"].contains(&name.as_str()) {
                    walk(&path, ending, found);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    assert!(!found.is_empty(), "no {ending} found");
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_pure_room_resolved_by_itself_depends_on_pure_rooms_alone() {
    for (room, allowed) in PURE {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--package", room])
            .args(["--format", "{p}"])
            .current_dir(root())
            .output()
            .expect("cargo tree runs");
        assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).expect("text");
        let found: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().chain([room]).collect();
        let more: Vec<_> = found.difference(&allowed).collect();
        assert!(more.is_empty(), "{room} depends on {more:?}");
        assert!(found.contains(room), "{room} was not looked at");
    }
}

#[test]
fn no_bug_is_planted_in_what_is_released() {
    // The features that the executable is built with where no test is: what `mutants` and `testing` add is in none.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--depth", "0", "--prefix", "none"])
        .args(["--package", "heirloom-server", "--format", "features: {f}"])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).expect("text").trim(), "features:");
}

#[test]
fn the_server_is_built_without_the_faults_that_tests_plant() {
    let features = |package: &str| {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--edges", "normal,build,features", "--prefix", "none"])
            .args(["--format", "{p}|{f}", "--package", package])
            .current_dir(root())
            .output()
            .expect("cargo tree runs");
        assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).expect("text");
        assert!(tree.contains("heirloom-proto "), "{package} was not looked at");
        let switched_on = |line: &str| line.split_once('|').is_some_and(|(_, features)| features.contains("mutants"));
        tree.lines().filter(|line| line.starts_with("heirloom")).any(switched_on)
    };
    for package in ["heirloom-server", "heirloom"] {
        assert!(!features(package), "{package} is built with planted faults");
    }
    assert!(features("heirloom-sim"), "the simulator plants them, or this test sees nothing");
}

#[test]
fn the_pure_rooms_name_no_clock_and_no_hash_map() {
    let forbidden = ["std::time::Instant", "SystemTime", "HashMap", "HashSet", "std::fs", "std::net", "std::thread"];
    for folder in ["proto/src", "backup/src", "primary/src", "server/node/src", "client/session/src"] {
        for path in files(".rs").into_iter().filter(|path| path.starts_with(root().join(folder))) {
            if path.components().any(|part| part.as_os_str() == "wire") {
                continue;
            }
            let text = read(&path);
            for word in forbidden {
                assert!(!text.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn no_file_has_grown_beyond_one_noun() {
    for path in files(".rs") {
        let lines = read(&path).lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: split it", path.display());
    }
}

#[test]
fn nothing_is_left_open_or_skipped() {
    // Put together here, so that this file does not find itself.
    let forbidden =
        [["todo", "!("].concat(), ["unimplemented", "!("].concat(), ["FIX", "ME"].concat(), ["#[ig", "nore"].concat()];
    for path in files(".rs") {
        let text = read(&path);
        for word in &forbidden {
            assert!(!text.contains(word.as_str()), "{} has {word}", path.display());
        }
    }
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut links = 0;
    for page in files(".md") {
        let text = read(&page);
        for (start, _) in text.match_indices("](") {
            let target = text[start + 2..].split(')').next().expect("split gives one part");
            let target = target.split('#').next().expect("split gives one part");
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            let path = page.parent().expect("a page lies in a folder").join(target);
            assert!(path.exists(), "{} links to {target}, which is not there", page.display());
            links += 1;
        }
    }
    assert!(links > 5, "only {links} links were found");
}

#[test]
fn the_files_and_commands_that_the_readme_names_are_there() {
    let readme = read(&root().join("README.md"));
    assert!(readme.contains("./demo/failover.sh"), "the demo command");
    assert!(readme.contains("\ncargo test --workspace --locked\n"), "the test command");
    let script = root().join("demo/failover.sh");
    let mode = {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(&script).expect("the demo script").permissions().mode()
    };
    assert!(mode & 0o111 != 0, "{} can't be run", script.display());
    assert!(read(&root().join(".ci/run")).contains("README.md"), ".ci/run takes the test command from the README");
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let forbidden = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/ho", "me/"].concat()];
    for ending in [".rs", ".md", ".toml", ".sh", ".proto"] {
        for path in files(ending) {
            let text = read(&path);
            for word in &forbidden {
                assert!(!text.contains(word.as_str()), "{} names {word}", path.display());
            }
        }
    }
}
