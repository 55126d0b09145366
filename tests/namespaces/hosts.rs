//! Hosts made of network namespaces, each with one server; a router namespace between them drops what it is told to.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::world::{HEIRLOOM, PATIENCE};

const PORT: u16 = 7400;

/// Why namespaces can't be made here; `None` where they can.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("making network namespaces needs root".to_owned());
    }
    let name = format!("hl-{}-try", std::process::id());
    match Command::new("ip").args(["netns", "add", &name]).output() {
        Err(error) => Some(format!("`ip` does not run: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("`ip netns add` failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
            None
        }
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("`ip` runs");
    assert!(output.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
}

/// What a client command came to.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Servers, each in a namespace of its own.
pub struct Hosts {
    /// Makes the names of one test's namespaces its own.
    name: String,
    count: usize,
    servers: Vec<Child>,
    cuts: Vec<(usize, usize)>,
    /// A host whose data directory is a file system of its own.
    small_disk: Option<usize>,
    folder: tempfile::TempDir,
}

impl Hosts {
    /// Makes the hosts, the router, and starts a server on each.
    pub fn start(count: usize) -> Self {
        Self::start_with(count, None)
    }

    /// The same, where the data directory of one host has room for so many MiB.
    pub fn start_with_small_disk(count: usize, host: usize, mib: u32) -> Self {
        Self::start_with(count, Some((host, mib)))
    }

    fn start_with(count: usize, small_disk: Option<(usize, u32)>) -> Self {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let name = format!("hl-{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("heirloom-netns-").tempdir().expect("a temporary folder");
        let mut hosts = Self { name, count, servers: Vec::new(), cuts: Vec::new(), small_disk: None, folder };
        if let Some((host, mib)) = small_disk {
            let data = hosts.data_path(host);
            std::fs::create_dir(&data).expect("made");
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "heirloom-test"])
                .arg(&data)
                .status();
            assert!(mounted.expect("`mount` runs").success());
            hosts.small_disk = Some(host);
        }
        let router = hosts.router();
        ip(&["netns", "add", &router]);
        for host in 0..count {
            let namespace = hosts.namespace(host);
            ip(&["netns", "add", &namespace]);
            let port = format!("port{host}");
            ip(&["link", "add", &port, "netns", &router, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
            ip(&["-n", &router, "addr", "add", &format!("10.77.{host}.1/24"), "dev", &port]);
            ip(&["-n", &router, "link", "set", &port, "up"]);
            ip(&["-n", &namespace, "addr", "add", &format!("{}/24", address(host)), "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
            ip(&["-n", &namespace, "route", "add", "default", "via", &format!("10.77.{host}.1")]);
        }
        ip(&["netns", "exec", &router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        for host in 0..count {
            hosts.start_server(host);
        }
        hosts
    }

    fn router(&self) -> String {
        format!("{}-r", self.name)
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    pub fn data_path(&self, host: usize) -> PathBuf {
        self.folder.path().join(format!("data-{host}"))
    }

    fn log_path(&self, host: usize) -> PathBuf {
        self.folder.path().join(format!("log-{host}"))
    }

    /// A command that runs on a host.
    fn on(&self, host: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), HEIRLOOM]).stdin(Stdio::null());
        command
    }

    fn start_server(&mut self, host: usize) {
        let list: Vec<String> = (0..self.count).map(|host| format!("{}:{PORT}", address(host))).collect();
        let log = File::create(self.log_path(host)).expect("a log");
        let child = self
            .on(host)
            .args(["serve", "--insecure", "--id", &host.to_string(), "--cluster", &list.join(","), "--data-dir"])
            .arg(self.data_path(host))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the executable starts");
        self.servers.push(child);
    }

    /// What `from` sends `to` is dropped from now on, silently.
    pub fn cut(&mut self, from: usize, to: usize) {
        ip(&["-n", &self.router(), "rule", "add", "from", &address(from), "to", &address(to), "blackhole"]);
        self.cuts.push((from, to));
    }

    /// Nothing is dropped any more.
    pub fn heal(&mut self) {
        for (from, to) in std::mem::take(&mut self.cuts) {
            ip(&["-n", &self.router(), "rule", "del", "from", &address(from), "to", &address(to), "blackhole"]);
        }
    }

    /// Runs a client command on a host; it knows these servers.
    pub fn client(&self, host: usize, servers: &[usize], args: &[&str]) -> Said {
        let output = self.on(host).args(args).args(["--servers", &list_of(servers)]).output().expect("it runs");
        Said {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Adds a value of so many bytes, too large for a command line.
    pub fn add_large(&self, host: usize, servers: &[usize], key: &str, bytes: usize) -> i32 {
        let mut command = self.on(host);
        command.args(["add", key, "-", "--servers", &list_of(servers)]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(&vec![b'v'; bytes]).expect("it reads");
        drop(stdin);
        child.wait().expect("it ends").code().expect("it was not killed")
    }

    /// Waits until a host's server says that it waits for this.
    pub fn wait_until_it_waits_for(&self, host: usize, what: &str) {
        self.wait_until(what, |all| {
            let waits_for = all[host].as_ref().and_then(|status| status["waits_for"].as_str());
            waits_for.is_some_and(|waits_for| waits_for.contains(what))
        });
    }

    /// A client on a host that writes one key after another until it is stopped.
    pub fn writer(&self, host: usize, servers: &[usize], prefix: &str) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let (send, acknowledged) = channel();
        let stopped = stop.clone();
        let prefix = prefix.to_owned();
        let namespace = self.namespace(host);
        let servers = list_of(servers);
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let key = format!("{prefix}-{number}");
                let output = Command::new("ip")
                    .args(["netns", "exec", &namespace, HEIRLOOM, "add", &key, "v", "--timeout", "500ms"])
                    .args(["--servers", &servers])
                    .stdin(Stdio::null())
                    .output()
                    .expect("it runs");
                // The answer was given before the command ended, so this is late rather than early.
                if output.status.success() && send.send((key, Instant::now())).is_err() {
                    return;
                }
            }
        });
        Writer { stop, acknowledged, thread }
    }

    /// What a host's server says of itself, asked on that host.
    fn status(&self, host: usize) -> Option<serde_json::Value> {
        let said = self.client(host, &[host], &["status", "--output", "json", "--timeout", "500ms"]);
        said.stdout.lines().find_map(|line| {
            let status: serde_json::Value = serde_json::from_str(line).ok()?;
            (status["id"] == host && status["role"] != "unreachable").then_some(status)
        })
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&[Option<serde_json::Value>]) -> bool) {
        let begun = Instant::now();
        loop {
            let all: Vec<_> = (0..self.count).map(|host| self.status(host)).collect();
            if holds(&all) {
                return;
            }
            if begun.elapsed() > PATIENCE {
                let logs: String = (0..self.count)
                    .map(|host| std::fs::read_to_string(self.log_path(host)).unwrap_or_default())
                    .collect::<Vec<_>>()
                    .join("\n---\n");
                panic!("{what}: waited for too long\n{all:#?}\n{logs}");
            }
        }
    }

    pub fn wait_for_primary(&self, host: usize, members: &[u64]) {
        self.wait_until("a primary", |all| leads(&all[host]) && members_of(&all[host]) == members);
    }

    pub fn wait_for_another_primary(&self, than: usize) {
        self.wait_until("another primary", |all| {
            all.iter().enumerate().any(|(host, status)| host != than && leads(status))
        });
    }

    pub fn wait_for_members(&self, members: &[u64]) {
        self.wait_until("all members", |all| {
            all.iter().filter(|status| leads(status)).count() == 1
                && all.iter().any(|status| leads(status) && members_of(status) == members)
        });
    }

    pub fn wait_until_equal(&self) {
        self.wait_until("equal dictionaries", |all| {
            let digests: Option<Vec<_>> =
                all.iter().map(|s| s.as_ref().map(|s| (&s["applied"], &s["digest"]))).collect();
            digests.is_some_and(|digests| digests.iter().all(|digest| *digest == digests[0]))
        });
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for child in &mut self.servers {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(host) = self.small_disk {
            let _ = Command::new("umount").arg(self.data_path(host)).output();
        }
        for host in 0..self.count {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(host)]).output();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.router()]).output();
    }
}

/// A writer at work on a host.
pub struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Receiver<(String, Instant)>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Waits for a write that was acknowledged after `moment`, and gives when.
    pub fn wait_for_acknowledgement_after(&self, moment: Instant) -> Instant {
        loop {
            let (_, at) = self.acknowledged.recv_timeout(PATIENCE).expect("nothing is acknowledged");
            if at > moment {
                return at;
            }
        }
    }

    /// Ends the writing; gives what was acknowledged and not asked about before.
    pub fn stop(self) -> Vec<(String, Instant)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer does not panic");
        self.acknowledged.try_iter().collect()
    }
}

fn address(host: usize) -> String {
    format!("10.77.{host}.2")
}

fn list_of(servers: &[usize]) -> String {
    let addresses: Vec<String> = servers.iter().map(|host| format!("{}:{PORT}", address(*host))).collect();
    addresses.join(",")
}

fn leads(status: &Option<serde_json::Value>) -> bool {
    status
        .as_ref()
        .is_some_and(|status| status["role"] == "primary" && status["waits_for"].as_str().unwrap_or("").is_empty())
}

fn members_of(status: &Option<serde_json::Value>) -> Vec<u64> {
    let members = status.as_ref().and_then(|status| status["in_sync"].as_array());
    members.map(|members| members.iter().filter_map(serde_json::Value::as_u64).collect()).unwrap_or_default()
}
