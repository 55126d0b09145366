//! A cluster in a temporary folder.
#![allow(clippy::print_stderr, reason = "why a server ended belongs to the report of a test that failed")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use heirloom_histories::disk::SteeredFiles;
use heirloom_proto::wire::v1::cluster_client::ClusterClient;
use heirloom_proto::wire::v1::dictionary_client::DictionaryClient;
use heirloom_proto::wire::v1::{StatusRequest, StatusResponse};
use heirloom_server::settings::{Pace, ServeFlags, Settings};
use heirloom_server::{Failure, run};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// How long a test waits for what must come; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: ServeFlags,
}

/// The servers and where they are.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) addresses: Vec<SocketAddr>,
    options: Vec<String>,
    pace: Pace,
    disks: Vec<Arc<SteeredFiles>>,
    running: Vec<Option<Running>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Failure>>,
}

fn control(folder: &TempDir, id: usize) -> PathBuf {
    folder.path().join(format!("disk-{id}"))
}

impl World {
    /// `servers` servers, all started.
    pub(crate) async fn start(servers: usize, options: &[&str]) -> Self {
        Self::start_at(servers, options, Pace::default()).await
    }

    /// The same, where snapshots and checks come when this says.
    pub(crate) async fn start_at(servers: usize, options: &[&str], pace: Pace) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..servers {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
        }
        let addresses = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        let folder = TempDir::new().expect("a folder");
        let disk = |id| Arc::new(SteeredFiles::new(control(&folder, id)));
        let mut world = Self {
            disks: (0..servers).map(disk).collect(),
            folder,
            addresses,
            options: options.iter().map(ToString::to_string).collect(),
            pace,
            running: (0..servers).map(|_| None).collect(),
        };
        for (id, listener) in listeners.into_iter().enumerate() {
            let settings = world.settings(id);
            world.start_with(id, settings, listener);
        }
        world
    }

    /// Where a server keeps its data.
    pub(crate) fn data_dir(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("server-{id}"))
    }

    /// What the disk of a server does from now on, as [`SteeredFiles`] takes it; empty for what it should.
    pub(crate) fn steer_disk(&self, id: usize, word: &str) {
        let control = control(&self.folder, id);
        // In one step: half a word is another one.
        let next = control.with_extension("next");
        std::fs::write(&next, word).and_then(|()| std::fs::rename(&next, &control)).expect("written");
    }

    /// How often something could not be written there for want of room.
    pub(crate) fn refused(&self, id: usize) -> u64 {
        self.disks[id].refused()
    }

    /// The settings of one server.
    pub(crate) fn settings(&self, id: usize) -> Settings {
        let cluster: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let words = ["serve", "--id", &id.to_string(), "--cluster", &cluster.join(",")].map(ToString::to_string);
        let line = Line::try_parse_from(words.iter().chain(&self.options)).expect("parses");
        let mut settings = line.flags.settings().expect("valid");
        settings.data_dir = self.data_dir(id);
        settings.pace = self.pace;
        settings
    }

    /// Starts one server.
    pub(crate) fn start_with(&mut self, id: usize, settings: Settings, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel();
        let running = run(settings, listener, self.disks[id].clone(), async move {
            // A world that is dropped stops its servers too.
            let _ = stopped.await;
        });
        let ended = tokio::spawn(async move {
            let ended = running.await;
            if let Err(failure) = &ended {
                eprintln!("server {id} ended: {failure}");
            }
            ended
        });
        self.running[id] = Some(Running { stop, ended });
    }

    /// Starts one server again, on its old port and data.
    pub(crate) async fn restart(&mut self, id: usize) {
        let listener = TcpListener::bind(self.addresses[id]).await.expect("its own port");
        let settings = self.settings(id);
        self.start_with(id, settings, listener);
    }

    /// Stops one server in good order.
    pub(crate) async fn stop(&mut self, id: usize) {
        let running = self.running[id].take().expect("it runs");
        running.stop.send(()).expect("it waits for this");
        running.ended.await.expect("no panic").expect("ends in good order");
    }

    /// What one server ended with by itself.
    pub(crate) async fn ended(&mut self, id: usize) -> Result<(), Failure> {
        self.running[id].take().expect("it runs").ended.await.expect("no panic")
    }

    fn channel(&self, id: usize) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.addresses[id])).expect("an address").connect_lazy()
    }

    /// A client of one server.
    pub(crate) fn dictionary(&self, id: usize) -> DictionaryClient<Channel> {
        DictionaryClient::new(self.channel(id))
    }

    /// An operator at one server.
    pub(crate) fn cluster(&self, id: usize) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel(id))
    }

    /// Waits until a status of a server is as wanted.
    pub(crate) async fn status(
        &self,
        id: usize,
        what: &str,
        wanted: impl Fn(&StatusResponse) -> bool,
    ) -> StatusResponse {
        let mut last = None;
        let wait = async {
            loop {
                if let Ok(status) = self.cluster(id).status(StatusRequest {}).await {
                    let status = status.into_inner();
                    if wanted(&status) {
                        return status;
                    }
                    last = Some(status);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(status) => status,
            Err(_) => panic!("server {id} never came to be {what}: {last:?}"),
        }
    }

    /// Waits until some server leads and all that run are in sync with it; returns which.
    pub(crate) async fn primary(&self) -> usize {
        let first = self.running.iter().position(Option::is_some).expect("one runs");
        let servers = self.running.iter().flatten().count();
        let settled = |status: &StatusResponse| status.primary.is_some() && status.in_sync.len() == servers;
        let status = self.status(first, "in a settled cluster", settled).await;
        usize::try_from(status.primary.expect("just checked")).expect("small")
    }
}
