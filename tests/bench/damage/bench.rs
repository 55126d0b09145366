//! The cluster whose files are damaged, and what it has to hold.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use heirloom::{Client, ReadOptions, ServerId};

use crate::faults::{Fault, Kind};
use crate::world::load::{key, load, value};
use crate::world::{Cluster, PATIENCE, copy_folder, files_below};

/// How often each key is added: so often that there is a snapshot.
const ROUNDS: usize = 5;
/// How many adds are under way while the keys are loaded.
const LOADERS: u64 = 512;
/// How many keys are looked at after each case, beside the digest of all.
pub const LOOKED_AT: u64 = 50;
/// How long a server may take to be a member again.
const TOOK_MAX: Duration = Duration::from_secs(10);

pub struct Bench {
    pub cluster: Cluster,
    pub client: Client,
    keys: u64,
    /// Counts changes; each is of the one key that says how many there were.
    changes: u64,
    table: String,
    longest: Duration,
    /// Cases of which something else came than had to.
    wrong: Vec<String>,
}

/// What a server is to say of what was done to it.
pub struct Before {
    /// A copy of its directory.
    pub folder: tempfile::TempDir,
    /// How long its log was.
    said: usize,
}

impl Bench {
    pub async fn start(keys: u64) -> Self {
        let cluster = Cluster::start(3, 0, &[]);
        cluster.wait_for_members(&[0, 1, 2]).await;
        let client = cluster.client().await.with_timeout(PATIENCE);
        for _ in 0..ROUNDS {
            load(&client, keys, LOADERS).await;
        }
        cluster.wait_until("snapshots", |all| all.iter().flatten().all(|status| status.snapshot_bytes > 0)).await;
        Self { cluster, client, keys, changes: 0, table: String::new(), longest: Duration::ZERO, wrong: Vec::new() }
    }

    /// Prints lines, and keeps them for the page.
    pub fn note(&mut self, lines: &str) {
        println!("{lines}");
        writeln!(self.table, "{lines}").expect("memory");
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// A line of the table.
    pub fn tell(&mut self, what: &str, fault: &str, running: bool, took: Option<Duration>, outcome: &str) {
        self.longest = self.longest.max(took.unwrap_or_default());
        let took = took.map_or("–".to_owned(), |took| format!("{} ms", took.as_millis()));
        let when = if running { "running" } else { "down" };
        self.note(&format!("{what} | {fault} | {when} | {took} | {outcome}"));
    }

    pub fn summary(&self) -> String {
        format!(
            "the longest that servers took: {} ms, of {} ms at most",
            self.longest.as_millis(),
            TOOK_MAX.as_millis()
        )
    }

    /// Something else has to come of this case: told at the end, when all is seen.
    pub fn is_wrong(&mut self, case: String) {
        self.wrong.push(case);
    }

    pub fn judge(&self) {
        assert!(self.wrong.is_empty(), "it has to be otherwise: {:?}", self.wrong);
        assert!(self.longest <= TOOK_MAX, "{}", self.summary());
    }

    pub fn data_dir(&self, server: usize) -> PathBuf {
        self.cluster.servers[server].data_dir.clone()
    }

    /// The newest file whose name begins like this.
    pub fn newest(&self, server: usize, name: &str) -> PathBuf {
        let of_kind = |path: &PathBuf| path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name));
        files_below(&self.data_dir(server).join("store")).into_iter().filter(of_kind).max().expect("one of each kind")
    }

    /// Hurts these servers alike; each is given the files of `other` where they are swapped. Gives the names of the files.
    pub fn hurt(&self, kind: Kind, fault: Fault, servers: &[(usize, usize)]) -> String {
        let read = |server, name| fs::read(self.newest(server, name)).expect("read");
        let held: Vec<Vec<Vec<u8>>> = servers
            .iter()
            .map(|(_, other)| match fault {
                Fault::Swap => kind.files.iter().map(|name| read(*other, name)).collect(),
                _ => vec![Vec::new(); kind.files.len()],
            })
            .collect();
        let mut names = Vec::new();
        for ((server, _), held) in servers.iter().zip(&held) {
            names.clear();
            for (name, held) in kind.files.iter().zip(held) {
                let path = self.newest(*server, name);
                fault.apply(&path, held);
                names.push(path.file_name().expect("a file").to_string_lossy().into_owned());
            }
        }
        // Data may lie in files of other numbers on another server.
        if servers.len() > 1 { kind.words() } else { names.join(" and ") }
    }

    /// What is there of a server before something is done to it.
    pub fn keep(&self, server: usize) -> Before {
        let folder = tempfile::Builder::new().prefix("heirloom-damage-").tempdir().expect("a folder");
        copy_folder(&self.data_dir(server), folder.path());
        Before { folder, said: self.log(server).len() }
    }

    /// Puts a copy in the place of a directory; where there is none the directory is gone.
    pub fn put_back(&self, server: usize, copy: Option<&std::path::Path>) {
        let data_dir = self.data_dir(server);
        fs::remove_dir_all(&data_dir).expect("removed");
        if let Some(copy) = copy {
            copy_folder(copy, &data_dir);
        }
    }

    fn log(&self, server: usize) -> String {
        fs::read_to_string(self.cluster.log_path(server)).expect("a log")
    }

    /// The last line that a server said since.
    pub fn last_word(&self, server: usize, before: &Before) -> String {
        let folder = self.data_dir(server).to_string_lossy().into_owned();
        self.log(server)[before.said..].lines().last().map(|line| line.replace(&folder, "DIR")).unwrap_or_default()
    }

    /// What a server said since of its damage, and how it came back, in one sentence.
    pub fn came_back(&self, server: usize, before: &Before) -> String {
        let folder = self.data_dir(server).to_string_lossy().into_owned();
        let log = self.log(server);
        let said = &log[before.said..];
        let damage = said.lines().find(|line| line.contains("damaged at byte"));
        let damage = damage.map(|line| line.replace(&format!("{folder}/"), "")).map(|line| {
            let from = line.find("store/").unwrap_or(0);
            line[from..].split(';').next().unwrap_or_default().to_owned()
        });
        let told = said.lines().find(|line| line.contains("put back from an older copy"));
        let told = told.map(|line| line.split(['(', ')']).nth(1).unwrap_or_default().to_owned());
        match damage.or(told) {
            None => "no file is named".to_owned(),
            Some(said) if said.contains("made anew from") => format!("mended: {said}"),
            Some(said) => format!("with a new copy: {said}"),
        }
    }

    /// How many changes were made.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A change that whoever is down will not have seen.
    pub async fn change(&mut self) {
        self.changes += 1;
        self.client.add("case", self.changes.to_string()).await.expect("the others serve");
    }

    /// All are equal, and what was acknowledged is read at these servers.
    pub async fn check(&self, servers: &[usize]) {
        self.cluster.wait_until_equal().await;
        for server in servers {
            let from = Some(ServerId(u8::try_from(*server).expect("few")));
            let options = ReadOptions { from, ..ReadOptions::default() };
            let step = (self.keys / LOOKED_AT).max(1);
            for number in (0..self.keys).step_by(usize::try_from(step).expect("few")) {
                let found = self.client.read_with(key(number), options).await.expect("read").expect("acknowledged");
                assert_eq!(found.value, value(number).as_bytes());
            }
            let newest = self.client.read_with("case", options).await.expect("read").expect("acknowledged");
            assert_eq!(newest.value, self.changes.to_string().as_bytes());
        }
        let primary = self.cluster.wait_for_members(&[0, 1, 2]).await;
        let keys = self.cluster.status(primary).await.expect("it runs").keys;
        assert_eq!(keys, self.keys + u64::from(self.changes > 0));
    }
}
