//! A copy of a part of the dictionary that is never wrong: a scan, which is of one version, and a watch from there on.
//!
//! `cargo run -p heirloom --example mirror -- PREFIX`, with servers at the addresses in `HEIRLOOM_SERVERS`, or the usual
//! ones.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use heirloom::{Client, Error, Version, Watch, WatchOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let servers = std::env::var("HEIRLOOM_SERVERS").unwrap_or_else(|_| "127.0.0.1:7400,127.0.0.1:7401".to_owned());
    let client = Client::connect(servers.split(',')).await?;
    let prefix = std::env::args().nth(1).unwrap_or_default();
    let mut mirror = Mirror::of(&client, &prefix).await?;
    loop {
        println!("version {}: {} keys", mirror.version(), mirror.keys().len());
        match mirror.follow().await {
            Ok(()) => {}
            // So much was changed while this program stood still that the changes are no longer kept.
            Err(Error::WatchLost(lost)) => {
                println!("{lost}");
                mirror = Mirror::of(&client, &prefix).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// All keys with a prefix, as they were at one version.
pub struct Mirror {
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
    version: Version,
    watch: Watch,
}

impl Mirror {
    /// What there is now.
    pub async fn of(client: &Client, prefix: &str) -> Result<Self, Error> {
        let mut keys = BTreeMap::new();
        let mut scan = client.scan(prefix);
        while let Some(entry) = scan.next().await? {
            keys.insert(entry.key.to_vec(), entry.value.to_vec());
        }
        let version = scan.version().expect("it has asked");
        // Version and cluster: were the cluster set back in between, its versions would mean something else.
        let (from_version, cluster) = (Some(Version(version.0 + 1)), scan.cluster());
        let watch = client.watch_with(WatchOptions { from_version, cluster, ..WatchOptions::prefix(prefix) }).await?;
        Ok(Self { keys, version, watch })
    }

    /// Waits for the next change and takes it in. Whichever servers fail meanwhile, none is left out and none comes twice.
    pub async fn follow(&mut self) -> Result<(), Error> {
        let watched = self.watch.next().await?;
        for change in watched.changes {
            match change.value {
                Some(value) => self.keys.insert(change.key.to_vec(), value.to_vec()),
                None => self.keys.remove(change.key.as_ref()),
            };
        }
        self.version = watched.version;
        Ok(())
    }

    /// The keys and their values.
    pub fn keys(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.keys
    }

    /// The version of which they are.
    pub fn version(&self) -> Version {
        self.version
    }
}
