//! What becomes of a server whose files are damaged: each fault on each file of one server's data directory in turn, while
//! it is down and while it runs (found at its next start, then). A table of what happened, and how long the server took to
//! be a member again.
//!
//! It judges: nothing acknowledged may be lost, no server may answer wrongly, and the server must be a member again by
//! itself, with a new store where its directory was put back from an older copy; or, where the directory is another
//! server's or its identity says so, refuse it by name.
//!
//! `cargo bench -p heirloom-server --bench damage [-- KEYS] [--write]`
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../../world/mod.rs"]
mod world;

use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heirloom::{Client, ReadOptions, ServerId};
use heirloom_laws::evidence;
use world::{Cluster, PATIENCE, copy_folder, files_below, primary_with};

const KEYS: u64 = 100_000;
/// How often each key is added: so often that there is a snapshot.
const ROUNDS: usize = 5;
const VALUE_BYTES: usize = 128;
/// How many adds are under way while the keys are loaded.
const LOADERS: u64 = 512;
/// Whose files are damaged, and from whom files are taken.
const VICTIM: usize = 2;
const OTHER: usize = 1;
/// How the names of the files of a store begin.
const KINDS: [&str; 8] =
    ["identity.a", "identity.b", "register.a", "register.b", "progress.a", "progress.b", "snapshot-", "log-"];
/// How many keys are looked at after each case, beside the digest of all.
const LOOKED_AT: u64 = 50;

/// What is done to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    FlipFirst,
    FlipMiddle,
    FlipLast,
    Halve,
    Empty,
    Delete,
    Swap,
}

impl Fault {
    const ALL: [Self; 7] =
        [Self::FlipFirst, Self::FlipMiddle, Self::FlipLast, Self::Halve, Self::Empty, Self::Delete, Self::Swap];

    fn words(self) -> &'static str {
        match self {
            Self::FlipFirst => "a bit of the first byte flipped",
            Self::FlipMiddle => "a bit in the middle flipped",
            Self::FlipLast => "a bit of the last byte flipped",
            Self::Halve => "cut to half its length",
            Self::Empty => "cut to nothing",
            Self::Delete => "deleted",
            Self::Swap => "another server's in its place",
        }
    }

    /// Does it; `other` is the same file of another server.
    fn apply(self, path: &Path, other: &Path) {
        let file = || fs::File::options().read(true).write(true).open(path).expect("it is there");
        let used = used_bytes(path);
        match self {
            Self::FlipFirst => flip(&file(), 0),
            Self::FlipMiddle => flip(&file(), used / 2),
            Self::FlipLast => flip(&file(), used - 1),
            Self::Halve => file().set_len(used / 2).expect("cut"),
            Self::Empty => file().set_len(0).expect("cut"),
            Self::Delete => fs::remove_file(path).expect("deleted"),
            Self::Swap => drop(fs::copy(other, path).expect("copied")),
        }
    }
}

/// The bytes up to the last one that is not zero: behind them is room that was reserved.
fn used_bytes(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("read");
    bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1)
}

fn flip(file: &fs::File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("written");
}

/// What is done to the whole directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Deleted,
    Older,
    Others,
}

impl Whole {
    const ALL: [Self; 3] = [Self::Deleted, Self::Older, Self::Others];

    fn words(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Older => "an older copy of it in its place",
            Self::Others => "another server's in its place",
        }
    }
}

/// What came of a case.
enum Outcome {
    /// It was a member again after so long, and said this of a file.
    Member { took: Duration, said: Option<String> },
    /// It refused to start, with this code and word.
    Refused { code: i32, said: String },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member { took, said: None } => write!(f, "{} | member again; no file is named", millis(*took)),
            Self::Member { took, said: Some(said) } => {
                let how = if said.contains("made anew from") { "mended" } else { "with a new copy" };
                write!(f, "{} | member again, {how}: {said}", millis(*took))
            }
            Self::Refused { code, said } => write!(f, "– | refused, exit code {code}: {said}"),
        }
    }
}

fn millis(span: Duration) -> String {
    format!("{} ms", span.as_millis())
}

struct Bench {
    cluster: Cluster,
    client: Client,
    keys: u64,
    /// Counts cases; each writes a key of its own.
    cases: u64,
    table: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keys = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(KEYS);
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await.with_timeout(PATIENCE);
    for _ in 0..ROUNDS {
        load(&client, keys).await;
    }
    cluster.wait_until("snapshots", |all| all.iter().flatten().all(|status| status.snapshot_bytes > 0)).await;
    let table = format!(
        "three servers, {keys} keys with values of {VALUE_BYTES} bytes; server {VICTIM} is hurt\n\
        after each case every server has the same digest, and {LOOKED_AT} keys and the newest read right at server {VICTIM}\n\n\
        file | fault | when | took | outcome\n"
    );
    let mut bench = Bench { cluster, client, keys, cases: 0, table };
    print!("{}", bench.table);
    bench.files().await;
    bench.directories().await;
    if arguments.iter().any(|argument| argument == "--write") {
        let says = "Each fault on each file of one server's data directory, in turn. `when` is `down` where the server was down, \
            and `running` where it ran, and was killed afterwards: what is damaged under a running server shows at its next \
            start. `took` counts from the start of the server until it was a member again.";
        let command = "cargo bench -p heirloom-server --bench damage -- --write";
        let page = evidence::page("Damage to a data directory, and what came of it", command, says, &bench.table);
        fs::write(evidence::path("damage.md"), page).expect("written");
    }
}

async fn load(client: &Client, keys: u64) {
    let tasks: Vec<_> = (0..LOADERS)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in (task..keys).step_by(usize::try_from(LOADERS).expect("few")) {
                    client.add(key(number), value(number)).await.expect("added");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

fn key(number: u64) -> String {
    format!("key-{number:012}")
}

fn value(number: u64) -> String {
    format!("{number:0>VALUE_BYTES$}")
}

impl Bench {
    fn store(&self, server: usize) -> PathBuf {
        self.cluster.servers[server].data_dir.join("store")
    }

    async fn files(&mut self) {
        for kind in KINDS {
            for running in [false, true] {
                for fault in Fault::ALL {
                    let path = self.newest(VICTIM, kind);
                    let other = self.newest(OTHER, kind);
                    let name = path.file_name().expect("a file").to_string_lossy().into_owned();
                    if !running {
                        self.cluster.kill(VICTIM);
                    }
                    let before = self.keep();
                    fault.apply(&path, &other);
                    if running {
                        self.cluster.kill(VICTIM);
                    }
                    let outcome = self.outcome(before).await;
                    self.tell(&name, fault.words(), if running { "running" } else { "down" }, &outcome);
                }
            }
        }
    }

    /// The newest file of a kind.
    fn newest(&self, server: usize, kind: &str) -> PathBuf {
        let names = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind));
        files_below(&self.store(server)).into_iter().filter(names).max().expect("one of each kind")
    }

    async fn directories(&mut self) {
        let old = {
            self.cluster.kill(VICTIM);
            let old = self.keep();
            self.cluster.start_server(VICTIM);
            self.cluster.wait_for_members(&[0, 1, 2]).await;
            old
        };
        for whole in Whole::ALL {
            self.change().await;
            self.cluster.kill(VICTIM);
            let before = self.keep();
            let data_dir = self.cluster.servers[VICTIM].data_dir.clone();
            fs::remove_dir_all(&data_dir).expect("removed");
            match whole {
                Whole::Deleted => {}
                Whole::Older => copy_folder(old.path(), &data_dir),
                Whole::Others => copy_folder(&self.cluster.servers[OTHER].data_dir, &data_dir),
            }
            let outcome = self.outcome(before).await;
            if whole == Whole::Older {
                let told = matches!(&outcome, Outcome::Member { said: Some(said), .. } if said.contains("remembers"));
                assert!(told, "nobody noticed: {outcome}\n{}", self.cluster.logs());
            }
            self.tell("(the directory)", whole.words(), "down", &outcome);
        }
    }

    /// A copy of the victim's directory.
    fn keep(&self) -> tempfile::TempDir {
        let folder = tempfile::Builder::new().prefix("heirloom-damage-").tempdir().expect("a folder");
        copy_folder(&self.cluster.servers[VICTIM].data_dir, folder.path());
        folder
    }

    /// A change that the victim will not have seen.
    async fn change(&mut self) {
        self.cases += 1;
        self.client.add("case", self.cases.to_string()).await.expect("the others serve");
    }

    /// Starts the hurt server and looks what comes of it; in the end all is whole again. The server is down.
    async fn outcome(&mut self, before: tempfile::TempDir) -> Outcome {
        self.change().await;
        let log = self.cluster.log_path(VICTIM);
        let said_before = fs::read_to_string(&log).expect("a log").len();
        self.cluster.start_server(VICTIM);
        let begun = Instant::now();
        let refused = loop {
            if let Some(code) = self.cluster.ended(VICTIM) {
                break Some(code);
            }
            let mut all = Vec::new();
            for id in 0..3 {
                all.push(self.cluster.status(id).await);
            }
            let own = all[VICTIM].as_ref().is_some_and(|status| status.role == "backup" || status.role == "primary");
            if own && primary_with(&all, &[0, 1, 2]).is_some() {
                break None;
            }
            assert!(begun.elapsed() < PATIENCE, "it is no member again\n{}", self.cluster.logs());
        };
        let took = begun.elapsed();
        let said = fs::read_to_string(&log).expect("a log")[said_before..].to_owned();
        let folder = self.cluster.servers[VICTIM].data_dir.to_string_lossy().into_owned();
        let plain = |line: &str| line.replace(&format!("{folder}/"), "");
        let outcome = if let Some(code) = refused {
            let data_dir = self.cluster.servers[VICTIM].data_dir.clone();
            fs::remove_dir_all(&data_dir).expect("removed");
            copy_folder(before.path(), &data_dir);
            self.cluster.start_server(VICTIM);
            self.cluster.wait_for_members(&[0, 1, 2]).await;
            // Whatever it was, it is not to be guessed: the directory as it was before is put back.
            let said = said.lines().last().map(|line| line.replace(&folder, "DIR")).unwrap_or_default();
            Outcome::Refused { code, said }
        } else {
            let damage = said.lines().find(|line| line.contains("damaged at byte")).map(plain);
            let damage = damage.map(|line| {
                let from = line.find("store/").unwrap_or(0);
                line[from..].split(';').next().unwrap_or_default().to_owned()
            });
            let told = said.lines().find(|line| line.contains("put back from an older copy"));
            let told = told.map(|line| line.split(['(', ')']).nth(1).unwrap_or_default().to_owned());
            Outcome::Member { took, said: damage.or(told) }
        };
        self.check().await;
        outcome
    }

    async fn check(&self) {
        self.cluster.wait_until_equal().await;
        let options =
            ReadOptions { from: Some(ServerId(u8::try_from(VICTIM).expect("few"))), ..ReadOptions::default() };
        let step = (self.keys / LOOKED_AT).max(1);
        for number in (0..self.keys).step_by(usize::try_from(step).expect("few")) {
            let found = self.client.read_with(key(number), options).await.expect("read").expect("acknowledged");
            assert_eq!(found.value, value(number).as_bytes());
        }
        let newest = self.client.read_with("case", options).await.expect("read").expect("acknowledged");
        assert_eq!(newest.value, self.cases.to_string().as_bytes());
    }

    fn tell(&mut self, name: &str, fault: &str, when: &str, outcome: &Outcome) {
        let line = format!("{name} | {fault} | {when} | {outcome}");
        println!("{line}");
        writeln!(self.table, "{line}").expect("memory");
    }
}
