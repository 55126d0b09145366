//! Three server processes in a temporary folder.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use heirloom_proto::wire::v1::StatusResponse;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::ports;
use crate::cli::{Failure, operator};
use heirloom_proto::Address;

/// How many servers.
pub(super) const SERVERS: u8 = 3;
/// How long one look at the servers may take.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// The servers, dead and alive.
///
/// **Invariants:** whatever way it ends (return, error, panic, signal), its processes are killed and its folder is removed.
pub(super) struct Cluster {
    executable: PathBuf,
    folder: TempDir,
    ports: Vec<u16>,
    servers: Vec<Option<Child>>,
    /// Counts the attempts to find ports; each has data directories of its own.
    attempt: u32,
}

impl Cluster {
    /// A folder, and nothing running yet.
    pub(super) fn prepare() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("heirloom-demo-").tempdir();
        let folder =
            folder.map_err(|error| Failure::Unavailable(format!("a temporary folder can't be made: {error}")))?;
        let executable = std::env::current_exe()
            .map_err(|error| Failure::Unavailable(format!("the executable can't be found: {error}")))?;
        Ok(Self { executable, folder, ports: Vec::new(), servers: Vec::new(), attempt: 0 })
    }

    /// Starts all, on ports that are free, and on others where somebody else was faster.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        const ATTEMPTS_MAX: u32 = 5;
        loop {
            self.attempt += 1;
            self.ports = ports::free(usize::from(SERVERS))
                .ok_or_else(|| Failure::Unavailable("no free ports between 20000 and 32000".to_owned()))?;
            self.servers = (0..SERVERS).map(|_| None).collect();
            for id in 0..SERVERS {
                self.revive(id)?;
            }
            if self.all_listen().await? {
                return Ok(());
            }
            self.kill_all().await;
            if self.attempt == ATTEMPTS_MAX {
                return Err(Failure::Unavailable("the servers did not stay up".to_owned()));
            }
        }
    }

    /// Starts one server that is not running; the same data, the same options.
    pub(super) fn revive(&mut self, id: u8) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::Unavailable(format!("server {id} can't be started: {error}"));
        let log = File::options().create(true).append(true).open(self.log(id)).map_err(failed)?;
        let mut command = Command::new(&self.executable);
        let cluster: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        command
            .args(["serve", "--log", "info", "--id", &id.to_string(), "--cluster", &cluster.join(",")])
            .arg("--data-dir")
            .arg(self.folder.path().join(format!("{}-{id}", self.attempt)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // Ctrl-C is for the demo, which ends its servers itself.
            .process_group(0)
            .kill_on_drop(true);
        // The demo shows the defaults, whatever the user's environment says.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEIRLOOM_")) {
            command.env_remove(name);
        }
        self.servers[usize::from(id)] = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// Kills a server with SIGKILL, and waits until the system says that it is dead.
    pub(super) async fn kill(&mut self, id: u8) -> Result<u32, Failure> {
        let failed = |error: std::io::Error| Failure::Unavailable(format!("server {id} can't be killed: {error}"));
        let mut server = self.servers[usize::from(id)].take().expect("only living servers are killed");
        let process = server.id().unwrap_or_default();
        server.kill().await.map_err(failed)?;
        Ok(process)
    }

    /// Where the servers are, by id.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let address = |port: &u16| format!("127.0.0.1:{port}").parse().expect("a host and a port");
        self.ports.iter().map(address).collect()
    }

    /// What each server says of itself, by id; `None` where it says nothing.
    pub(super) async fn look(&self) -> Vec<Option<StatusResponse>> {
        let seen = operator::look(&self.addresses(), LOOK_TIMEOUT).await;
        let mut statuses = vec![None; usize::from(SERVERS)];
        for status in seen.into_iter().filter_map(|seen| seen.status.ok()) {
            if let Some(place) = usize::try_from(status.server).ok().and_then(|id| statuses.get_mut(id)) {
                *place = Some(status);
            }
        }
        statuses
    }

    /// Waits until each server answers; false where one has given up, as it does where its port is taken.
    async fn all_listen(&mut self) -> Result<bool, Failure> {
        loop {
            for server in self.servers.iter_mut().flatten() {
                if server.try_wait().map_or(true, |ended| ended.is_some()) {
                    return Ok(false);
                }
            }
            if self.look().await.iter().all(Option::is_some) {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The last lines that the servers logged.
    pub(super) fn last_words(&self) -> String {
        const LINES_MAX: usize = 8;
        let mut words = String::new();
        for id in 0..SERVERS {
            let log = std::fs::read_to_string(self.log(id)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            words.push_str(&format!("\nlast lines of server {id}:"));
            for line in &lines[lines.len().saturating_sub(LINES_MAX)..] {
                words.push_str(&format!("\n  {line}"));
            }
        }
        words
    }

    /// Kills what runs and removes the folder.
    pub(super) async fn stop(mut self) {
        self.kill_all().await;
        // A folder that can't be removed is in the temporary one, which the system tidies.
        let _ = self.folder.close();
    }

    async fn kill_all(&mut self) {
        for server in self.servers.iter_mut().filter_map(Option::take) {
            let mut server = server;
            // One that is dead already can't be killed.
            let _ = server.kill().await;
        }
    }

    fn log(&self, id: u8) -> PathBuf {
        self.folder.path().join(format!("server-{id}.log"))
    }
}
