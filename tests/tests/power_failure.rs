//! Power fails under a whole cluster: three real servers, on a file system that forgets what was not synced.
//!
//! A killed process keeps the page cache, so it proves nothing about syncs. Here everything that a server was not told
//! to be durable may be gone. The same run on a file system whose sync does nothing, as a build without the sync would
//! have it, must lose what was acknowledged: else this test would prove nothing either.
#![allow(missing_docs, reason = "a test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use heirloom::Client;
use heirloom_proto::wire::v1::cluster_client::ClusterClient;
use heirloom_proto::wire::v1::{StatusRequest, StatusResponse};
use heirloom_server::settings::ServeFlags;
use heirloom_server::storage::PowerFailureFiles;
use heirloom_server::{Failure, run};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const SERVERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: ServeFlags,
}

struct World {
    addresses: Vec<SocketAddr>,
    disks: Vec<PowerFailureFiles>,
    servers: Vec<JoinHandle<Result<(), Failure>>>,
}

impl World {
    async fn start(disks: Vec<PowerFailureFiles>) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..SERVERS {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
        }
        let addresses = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        let mut world = Self { addresses, disks, servers: Vec::new() };
        for (id, listener) in listeners.into_iter().enumerate() {
            world.serve(id, listener);
        }
        world
    }

    fn serve(&mut self, id: usize, listener: TcpListener) {
        let list: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let line = ["serve", "--id", &id.to_string(), "--cluster", &list.join(","), "--data-dir", "/disk"];
        let settings = Line::try_parse_from(line).expect("parses").flags.settings().expect("valid");
        let files = Arc::new(self.disks[id].clone());
        self.servers.push(tokio::spawn(run(settings, listener, files, std::future::pending())));
    }

    /// Power fails everywhere at once; every server ends, for nothing on its disk works any more.
    async fn lose_power(&mut self, seed: u64) {
        for disk in &self.disks {
            disk.cut_power();
        }
        for server in self.servers.drain(..) {
            server.abort();
            // An end by itself or by the abort: either way it is over.
            let _ = server.await;
        }
        for (id, disk) in self.disks.iter().enumerate() {
            disk.restore_power(seed + id as u64);
        }
    }

    async fn restart(&mut self) {
        for id in 0..SERVERS {
            let listener = TcpListener::bind(self.addresses[id]).await.expect("its own port");
            self.serve(id, listener);
        }
    }

    async fn client(&self) -> Client {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        Client::builder().timeout(PATIENCE).connect(addresses).await.expect("addresses that can be read")
    }

    async fn status(&self, id: usize) -> Option<StatusResponse> {
        let mut client = ClusterClient::connect(format!("http://{}", self.addresses[id])).await.ok()?;
        client.status(StatusRequest {}).await.ok().map(tonic::Response::into_inner)
    }

    /// Waits until all servers are members and have applied the same; gives how many keys that is. `None` where that
    /// does not come to pass, or a server ended.
    async fn whole(&self, patience: Duration) -> Option<u64> {
        let wait = async {
            loop {
                if self.servers.iter().any(JoinHandle::is_finished) {
                    return None;
                }
                let mut all = Vec::new();
                for id in 0..SERVERS {
                    all.extend(self.status(id).await);
                }
                let equal =
                    all.windows(2).all(|two| (&two[0].digest, two[0].applied) == (&two[1].digest, two[1].applied));
                let serves = |status: &StatusResponse| {
                    status.role == "primary" && status.in_sync.len() == SERVERS && status.waits_for.is_empty()
                };
                if all.len() == SERVERS && equal && all.iter().any(serves) {
                    return Some(all[0].keys);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(patience, wait).await.unwrap_or(None)
    }

    /// Adds many keys, as many at a time; all are acknowledged when it returns.
    async fn add(&self, adds: usize, tasks: usize) {
        let client = self.client().await;
        let tasks: Vec<_> = (0..tasks)
            .map(|task| {
                let client = client.clone();
                tokio::spawn(async move {
                    for number in (task..adds).step_by(tasks) {
                        client.add(format!("key-{number:012}"), vec![b'v'; 128]).await.expect("added");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    }
}

#[tokio::test]
async fn two_hundred_thousand_adds_survive_the_loss_of_power_everywhere() {
    const ADDS: usize = 200_000;
    let mut world = World::start((0..SERVERS).map(|_| PowerFailureFiles::new()).collect()).await;
    assert_eq!(world.whole(PATIENCE).await, Some(0));
    world.add(ADDS, 256).await;
    world.lose_power(1).await;
    world.restart().await;
    assert_eq!(world.whole(PATIENCE).await, Some(ADDS as u64));
}

#[tokio::test]
async fn power_that_fails_again_and_again_in_the_midst_of_writes_loses_nothing_acknowledged() {
    let mut world = World::start((0..SERVERS).map(|_| PowerFailureFiles::new()).collect()).await;
    let mut acknowledged = Vec::new();
    for round in 0..10u64 {
        assert!(world.whole(PATIENCE).await.is_some(), "round {round}");
        let client = world.client().await.with_timeout(Duration::from_millis(200));
        // Somewhere in the midst of the writes below, on one disk after the other.
        for (id, disk) in world.disks.iter().enumerate() {
            disk.cut_power_after(40 + round * 7 + id as u64 * 3);
        }
        for number in 0..10_000 {
            let key = format!("key-{round}-{number}");
            match client.add(&key, "v").await {
                Ok(_) => acknowledged.push(key),
                Err(_) => break,
            }
        }
        world.lose_power(100 * round).await;
        world.restart().await;
    }
    assert!(world.whole(PATIENCE).await.is_some());
    assert!(acknowledged.len() > 20, "only {} were acknowledged", acknowledged.len());
    let client = world.client().await;
    for key in &acknowledged {
        assert!(client.read(key).await.expect("read").is_some(), "{key} was acknowledged and is gone");
    }
}

#[tokio::test]
async fn without_the_sync_the_same_loses_what_was_acknowledged() {
    const ADDS: usize = 2_000;
    let mut world = World::start((0..SERVERS).map(|_| PowerFailureFiles::without_syncs()).collect()).await;
    assert_eq!(world.whole(PATIENCE).await, Some(0));
    world.add(ADDS, 64).await;
    world.lose_power(1).await;
    world.restart().await;
    let kept = world.whole(Duration::from_secs(3)).await;
    assert_ne!(kept, Some(ADDS as u64), "this test can't tell a build with the sync from one without");
    assert!(Path::new("/disk").metadata().is_err(), "the disk of this test is in memory");
}
