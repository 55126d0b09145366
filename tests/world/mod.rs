//! Real server processes, as an end-to-end test starts, hurts and ends them.
//!
//! Nothing here sleeps to be on the safe side: every wait is for an event, looks again every few milliseconds, and gives
//! up loudly.

pub mod disk;
pub mod load;
pub mod writer;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use heirloom_proto::wire::v1;
use rustix::process::{Pid, Signal, kill_process};

pub const HEIRLOOM: &str = env!("CARGO_BIN_EXE_heirloom");

/// How long anything is waited for that should take a second at most.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A free port on loopback, below the kernel's ephemeral range: a dead port there could be dialled into oneself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 12_000 + (std::process::id() % 900) as u16 * 20;
    for _ in 0..2_000 {
        let port = 12_000 + (start - 12_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// One server of a cluster.
pub struct Server {
    pub id: usize,
    pub address: String,
    pub data_dir: PathBuf,
    process: Option<Child>,
}

/// A cluster of real processes, in a folder of its own; ended when it goes.
pub struct Cluster {
    pub servers: Vec<Server>,
    pub folder: tempfile::TempDir,
    flags: Vec<String>,
    list: String,
    /// What is loaded beneath each server, where its disk is steered.
    beneath: Option<PathBuf>,
}

impl Cluster {
    /// A cluster whose servers were all started: `data` of them with data, then `witnesses`.
    pub fn start(data: usize, witnesses: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::prepare(data, witnesses, flags);
        for id in 0..data + witnesses {
            cluster.start_server(id);
        }
        cluster
    }

    /// A cluster of which nothing runs yet.
    pub fn prepare(data: usize, witnesses: usize, flags: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("heirloom-e2e-").tempdir().expect("a temporary folder");
        let servers: Vec<Server> = (0..data + witnesses)
            .map(|id| Server {
                id,
                address: format!("127.0.0.1:{}", free_port()),
                data_dir: folder.path().join(format!("data-{id}")),
                process: None,
            })
            .collect();
        let list: Vec<String> = servers
            .iter()
            .map(|server| {
                let kind = if server.id < data { "" } else { "witness@" };
                format!("{kind}{}", server.address)
            })
            .collect();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { servers, folder, flags, list: list.join(","), beneath: None }
    }

    /// All servers, as each of them is told.
    pub fn list(&self) -> &str {
        &self.list
    }

    /// The addresses of all servers, as clients name them.
    pub fn addresses(&self) -> String {
        let addresses: Vec<&str> = self.servers.iter().map(|server| server.address.as_str()).collect();
        addresses.join(",")
    }

    pub fn log_path(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("log-{id}"))
    }

    fn command(&self, id: usize) -> Command {
        let server = &self.servers[id];
        let mut command = Command::new(HEIRLOOM);
        command.args(["serve", "--id", &id.to_string(), "--cluster", &self.list, "--log", "info", "--data-dir"]);
        command.arg(&server.data_dir).args(&self.flags).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(library) = &self.beneath {
            command.env("LD_PRELOAD", library).env("HEIRLOOM_DISK", self.disk_order(id));
        }
        command
    }

    /// Starts a server; its log goes to a file, behind what was there.
    pub fn start_server(&mut self, id: usize) {
        assert!(self.servers[id].process.is_none(), "server {id} runs");
        let log = File::options().create(true).append(true).open(self.log_path(id)).expect("a log");
        let child = self.command(id).stderr(log).spawn().expect("the executable starts");
        self.servers[id].process = Some(child);
    }

    /// Starts a server that is to end by itself; its exit code and what it said.
    pub fn run_server_to_its_end(&self, id: usize, more: &[&str]) -> (i32, String) {
        let mut child = self.command(id).args(more).stderr(Stdio::piped()).spawn().expect("the executable starts");
        let status = wait_with_limit(&mut child);
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (status, said)
    }

    /// The process of a server that runs.
    pub fn pid(&self, id: usize) -> u32 {
        self.servers[id].process.as_ref().expect("it runs").id()
    }

    /// How much memory a server's process has.
    pub fn memory_bytes(&self, id: usize) -> u64 {
        let child = self.servers[id].process.as_ref().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a Linux machine");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("told for every process");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    pub fn signal(&self, id: usize, signal: Signal) {
        signal_child(self.servers[id].process.as_ref().expect("it runs"), signal);
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&mut self, id: usize) {
        let mut child = self.servers[id].process.take().expect("it runs");
        child.kill().expect("the process is ours");
        child.wait().expect("it ends");
    }

    /// SIGTERM, and waits; gives the exit code.
    pub fn stop(&mut self, id: usize) -> i32 {
        self.signal(id, Signal::TERM);
        let mut child = self.servers[id].process.take().expect("it runs");
        wait_with_limit(&mut child)
    }

    /// The exit code of a server that has ended by itself; `None` while it runs.
    pub fn ended(&mut self, id: usize) -> Option<i32> {
        let child = self.servers[id].process.as_mut().expect("it was started");
        let status = child.try_wait().expect("it is ours")?;
        self.servers[id].process = None;
        Some(status.code().unwrap_or(-1))
    }

    pub fn runs(&self, id: usize) -> bool {
        self.servers[id].process.is_some()
    }

    /// What a server says of itself; `None` where it does not answer.
    pub async fn status(&self, id: usize) -> Option<v1::StatusResponse> {
        status_of(&self.servers[id].address).await
    }

    /// Waits until the condition holds of what all servers say of themselves.
    pub async fn wait_until(&self, what: &str, holds: impl Fn(&[Option<v1::StatusResponse>]) -> bool) {
        let begun = Instant::now();
        loop {
            let mut all = Vec::new();
            for id in 0..self.servers.len() {
                all.push(if self.runs(id) { self.status(id).await } else { None });
            }
            if holds(&all) {
                return;
            }
            if begun.elapsed() > PATIENCE {
                panic!("{what}: waited for too long\n{all:#?}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until one leads, and these are the members; gives who leads.
    pub async fn wait_for_members(&self, members: &[u32]) -> usize {
        let what = format!("the members {members:?}");
        self.wait_until(&what, |all| primary_with(all, members).is_some()).await;
        let mut all = Vec::new();
        for id in 0..self.servers.len() {
            all.push(if self.runs(id) { self.status(id).await } else { None });
        }
        match primary_with(&all, members) {
            Some(primary) => primary,
            None => Box::pin(self.wait_for_members(members)).await,
        }
    }

    /// Waits until all that run have applied the same, and it hashes to the same.
    pub async fn wait_until_equal(&self) {
        self.wait_until("equal dictionaries", |all| {
            let mut data = all.iter().flatten().filter(|status| status.role != "witness");
            let Some(first) = data.next() else { return false };
            data.all(|status| status.applied == first.applied && status.digest == first.digest)
        })
        .await;
    }

    /// A client of the library.
    pub async fn client(&self) -> heirloom::Client {
        let addresses: Vec<&str> = self.servers.iter().map(|server| server.address.as_str()).collect();
        heirloom::Client::connect(addresses).await.expect("addresses that can be read")
    }

    /// Runs a client command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        run_with(&self.addresses(), args)
    }

    /// Runs `heirloom recover` on the data of a server that does not run.
    pub fn recover(&self, id: usize, more: &[&str]) -> Output {
        let data_dir = &self.servers[id].data_dir;
        Command::new(HEIRLOOM).args(["recover", "--data-dir"]).arg(data_dir).args(more).output().expect("it runs")
    }

    /// The logs of all servers, for a failure.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for server in &self.servers {
            let log = std::fs::read_to_string(self.log_path(server.id)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(60);
            all.push_str(&format!("--- server {}\n{}\n", server.id, lines[last..].join("\n")));
        }
        all
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            if let Some(mut child) = server.process.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Who leads, if its members are these and it can commit; each member says itself that it is one.
///
/// The word of the primary is not enough: it does not know at once that a server was killed, and one that came back with an
/// emptied directory has the same id. Who loses the next one then has lost two registers of three.
pub fn primary_with(all: &[Option<v1::StatusResponse>], members: &[u32]) -> Option<usize> {
    let role = |id: u32| all.get(id as usize).and_then(|status| status.as_ref()).map(|status| status.role.as_str());
    if !members.iter().all(|id| matches!(role(*id), Some("primary" | "backup"))) {
        return None;
    }
    all.iter().flatten().find_map(|status| {
        let leads = status.role == "primary" && status.waits_for.is_empty() && status.in_sync == members;
        leads.then_some(status.server as usize)
    })
}

/// What the server at this address says of itself; `None` where it does not answer.
pub async fn status_of(address: &str) -> Option<v1::StatusResponse> {
    let asked = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).ok()?;
        let channel = endpoint.connect().await.ok()?;
        let mut cluster = v1::cluster_client::ClusterClient::new(channel);
        cluster.status(v1::StatusRequest {}).await.ok().map(tonic::Response::into_inner)
    };
    tokio::time::timeout(Duration::from_secs(1), asked).await.ok().flatten()
}

/// Runs a client command against these servers to its end.
pub fn run_with(servers: &str, args: &[&str]) -> Output {
    Command::new(HEIRLOOM).args(args).args(["--servers", servers]).stdin(Stdio::null()).output().expect("it runs")
}

/// Runs a client command that reads this from its standard input.
pub fn run_with_input(servers: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(HEIRLOOM)
        .args(args)
        .args(["--servers", servers])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // A command that refuses its arguments does not read on.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Sends a signal to a process that is not waited for yet.
pub fn signal_child(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("the process is ours");
}

/// Waits for a process that is to end by itself.
pub fn wait_with_limit(child: &mut Child) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status.code().unwrap_or(-1);
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Copies a folder with all that is below it, as a backup of it would be.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// All files below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}
