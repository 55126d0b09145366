//! The servers: processes that are started, hurt and watched. Who ends without being told to is noted.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom_laws::random::Random;
use heirloom_proto::wire::v1;
use heirloom_server::settings::units::duration_text;
use rustix::process::{Pid, Signal, kill_process};

use crate::hosts::Network;

/// How often is looked whether what is waited for has come.
const LOOK: Duration = Duration::from_millis(10);

/// The purpose of the random numbers for the clocks.
const CLOCKS: u64 = 0x636c_6f63_6b73;

/// Which servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Servers with data.
    pub data: usize,
    /// Voters without.
    pub witnesses: usize,
}

/// What is run as a server.
#[derive(Clone, Debug)]
pub enum Executable {
    /// `heirloom` as it ships: no hand on its disk.
    Shipped(PathBuf),
    /// This program: the same server on [`crate::disk::SteeredFiles`], and the same client commands.
    Own(PathBuf),
}

impl Executable {
    /// Its path.
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Shipped(path) | Self::Own(path) => path,
        }
    }
}

/// What the servers of a run are told beside their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `--lease`; the server's own default where it is none.
    pub lease: Option<Duration>,
    /// By server: how much faster its clock goes than the machine's; empty for clocks that are right. **Units:** parts per
    /// million.
    pub clocks_ppm: Vec<i32>,
}

impl Told {
    /// Clocks as far off as `ppm` allows, one slow and one fast among them, in any order; the others are drawn.
    pub fn clocks(servers: usize, ppm: i32, seed: u64) -> Vec<i32> {
        if ppm == 0 {
            return Vec::new();
        }
        let mut random = Random::of(seed, CLOCKS, 0);
        let mut clocks = vec![-ppm, ppm];
        clocks.resize_with(servers.max(2), || random.pick(&[-ppm, 0, ppm]));
        clocks.truncate(servers);
        random.shuffle(&mut clocks);
        clocks
    }
}

/// All servers of a run.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub network: Arc<Network>,
    pub shape: Shape,
    pub addresses: Vec<String>,
    pub executable: Executable,
    folder: PathBuf,
    pub told: Told,
    list: String,
    processes: Vec<Mutex<Option<Child>>>,
    /// Who ended without being told to, with the exit code.
    deaths: Mutex<VecDeque<(usize, String)>>,
}

impl Cluster {
    pub(crate) fn new(
        network: Arc<Network>,
        shape: Shape,
        executable: Executable,
        told: Told,
        folder: PathBuf,
    ) -> Self {
        let addresses = network.addresses();
        let list: Vec<String> = addresses
            .iter()
            .enumerate()
            .map(|(id, address)| if id < shape.data { address.clone() } else { format!("witness@{address}") })
            .collect();
        let processes = addresses.iter().map(|_| Mutex::new(None)).collect();
        let list = list.join(",");
        Self { network, shape, addresses, executable, folder, told, list, processes, deaths: Mutex::default() }
    }

    pub(crate) fn servers(&self) -> usize {
        self.addresses.len()
    }

    /// Starts a server that does not run.
    pub(crate) fn start(&self, id: usize) -> Result<(), String> {
        let mut process = self.processes[id].lock().expect("nobody panicked");
        if process.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(self.log(id));
        let log = log.map_err(|error| format!("no log: {error}"))?;
        let mut command = self.network.command(id, self.executable.path());
        command.args(["serve", "--id", &id.to_string(), "--cluster", &self.list, "--data-dir"]);
        command.arg(self.data_dir(id));
        if self.network.can_cut() {
            // Between namespaces of one machine nobody refuses a connection but the machine itself.
            command.args(["--insecure", "--trust-connection-refused"]);
        }
        if let Some(lease) = self.told.lease {
            command.args(["--lease", &duration_text(lease)]);
        }
        if let Executable::Own(_) = self.executable {
            command.arg("--disk").arg(self.control(id));
            let off = self.told.clocks_ppm.get(id).copied().unwrap_or(0);
            command.args(["--clock-ppm", &off.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        *process = Some(child.map_err(|error| format!("{}: {error}", self.executable.path().display()))?);
        Ok(())
    }

    pub(crate) fn data_dir(&self, id: usize) -> PathBuf {
        self.folder.join(format!("data-{id}"))
    }

    fn log(&self, id: usize) -> PathBuf {
        self.folder.join(format!("log-{id}"))
    }

    fn control(&self, id: usize) -> PathBuf {
        self.folder.join(format!("disk-{id}"))
    }

    /// What a server's disk does from now on; empty for what it should.
    pub(crate) fn steer(&self, id: usize, word: &str) -> Result<(), String> {
        std::fs::write(self.control(id), word).map_err(|error| format!("the disk of {id} can't be steered: {error}"))
    }

    pub(crate) fn signal(&self, id: usize, signal: Signal) {
        if let Some(child) = self.processes[id].lock().expect("nobody panicked").as_ref() {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
            // It may have ended by itself, which `watch` finds.
            let _ = kill_process(pid, signal);
        }
    }

    /// kill -9, and waits until the process is gone.
    pub(crate) fn kill(&self, id: usize) {
        self.watch(id);
        if let Some(mut child) = self.processes[id].lock().expect("nobody panicked").take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for a process that is to end; its exit code, `None` where it does not.
    pub(crate) async fn ended(&self, id: usize, patience: Duration) -> Option<i32> {
        let begun = Instant::now();
        loop {
            {
                let mut process = self.processes[id].lock().expect("nobody panicked");
                let child = process.as_mut()?;
                if let Ok(Some(status)) = child.try_wait() {
                    *process = None;
                    return Some(status.code().unwrap_or(-1));
                }
            }
            if begun.elapsed() > patience {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Notes whether this one has ended without being told to. Of others nothing is noted: they may just be meant to end.
    fn watch(&self, id: usize) {
        let mut process = self.processes[id].lock().expect("nobody panicked");
        if let Some(Ok(Some(status))) = process.as_mut().map(Child::try_wait) {
            *process = None;
            self.deaths.lock().expect("nobody panicked").push_back((id, status.to_string()));
        }
    }

    /// Who has ended without being told to, and was not asked about before.
    pub(crate) fn take_death(&self) -> Option<(usize, String)> {
        (0..self.servers()).for_each(|id| self.watch(id));
        self.deaths.lock().expect("nobody panicked").pop_front()
    }

    /// Waits until one has ended by itself: how, with the end of its log.
    pub(crate) async fn a_death(&self) -> String {
        loop {
            if let Some((id, how)) = self.take_death() {
                let log = std::fs::read_to_string(self.log(id)).unwrap_or_default();
                return format!(
                    "server {id} ended by itself, {how}: {}",
                    log.lines().last().unwrap_or("without a word")
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What all servers say of themselves; asked at once.
    pub(crate) async fn look(&self) -> Vec<Option<v1::StatusResponse>> {
        let mut asked = Vec::new();
        for address in &self.addresses {
            asked.push(tokio::spawn(status_of(address.clone())));
        }
        let mut all = Vec::new();
        for answer in asked {
            all.push(answer.await.unwrap_or(None));
        }
        all
    }

    /// Waits until this holds of what the servers say; what they said in the end.
    pub(crate) async fn wait(
        &self,
        patience: Duration,
        holds: impl Fn(&[Option<v1::StatusResponse>]) -> bool,
    ) -> Result<Vec<Option<v1::StatusResponse>>, String> {
        let begun = Instant::now();
        loop {
            let all = self.look().await;
            if holds(&all) {
                return Ok(all);
            }
            if begun.elapsed() > patience {
                return Err(said(&all));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether all servers answer, one leads and serves, and all with data are its members.
    pub(crate) fn is_whole(&self, all: &[Option<v1::StatusResponse>]) -> bool {
        let recovered = |status: &v1::StatusResponse| ["primary", "backup", "witness"].contains(&status.role.as_str());
        all.iter().all(|status| status.as_ref().is_some_and(recovered))
            && leader(all).is_some_and(|leader| leader.in_sync.len() == self.shape.data)
    }

    /// Whether it is whole and all dictionaries are the same.
    pub(crate) fn is_equal(&self, all: &[Option<v1::StatusResponse>]) -> bool {
        let of = |status: &v1::StatusResponse| (status.applied, status.digest.clone());
        let mut states = all.iter().flatten().filter(|status| status.role != "witness").map(of);
        let first = states.next();
        self.is_whole(all) && states.all(|state| Some(state) == first)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in 0..self.processes.len() {
            self.kill(id);
        }
    }
}

/// Who leads and can commit.
pub(crate) fn leader(all: &[Option<v1::StatusResponse>]) -> Option<&v1::StatusResponse> {
    let leads = |status: &&v1::StatusResponse| status.role == "primary" && status.waits_for.is_empty();
    all.iter().flatten().find(leads)
}

fn said(all: &[Option<v1::StatusResponse>]) -> String {
    let one = |(id, status): (usize, &Option<v1::StatusResponse>)| match status {
        None => format!("{id} does not answer"),
        Some(status) => format!(
            "{id} is {} in epoch {:?}, members {:?}, applied {}, digest {}, waits for {:?}",
            status.role,
            status.epoch.as_ref().map(|epoch| epoch.round),
            status.in_sync,
            status.applied,
            status.digest,
            status.waits_for
        ),
    };
    all.iter().enumerate().map(one).collect::<Vec<_>>().join("; ")
}

async fn status_of(address: String) -> Option<v1::StatusResponse> {
    let asked = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).ok()?;
        let mut cluster = v1::cluster_client::ClusterClient::new(endpoint.connect().await.ok()?);
        cluster.status(v1::StatusRequest {}).await.ok().map(tonic::Response::into_inner)
    };
    tokio::time::timeout(Duration::from_secs(1), asked).await.ok().flatten()
}
