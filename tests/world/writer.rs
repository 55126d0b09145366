//! A client that writes without pause and keeps account of what it was told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom::{Client, Error};
use tokio::task::JoinHandle;

use super::{Cluster, PATIENCE};

/// How many keys are read back at once.
const READS_AT_ONCE: usize = 2_000;

/// What a writer was told, in the end.
#[derive(Debug, Default)]
pub struct Account {
    /// Keys whose add was acknowledged.
    pub acknowledged: Vec<String>,
    /// Keys whose add may have been applied or not.
    pub unknown: Vec<String>,
    /// Keys whose add was certainly not applied, with the reason.
    pub failed: Vec<(String, String)>,
    /// The longest time between two acknowledgements that followed each other, since it was last taken.
    pub longest_gap: Duration,
}

/// A writer at work.
pub struct Writer {
    stop: Arc<AtomicBool>,
    account: Arc<Mutex<Account>>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Writes keys of its own, one behind the other, until it is stopped. Each key is added once, so the dictionary's
    /// version counts the keys if nothing is applied twice.
    pub fn start(client: Client, prefix: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let account = Arc::new(Mutex::new(Account::default()));
        let (stopped, kept, prefix) = (stop.clone(), account.clone(), prefix.to_owned());
        let task = tokio::spawn(async move {
            let mut last: Option<Instant> = None;
            for number in 0u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("{prefix}-{number:08}");
                let result = client.add(&key, key.clone()).await;
                let mut account = kept.lock().expect("no writer panicked");
                match result {
                    Ok(_) => {
                        let now = Instant::now();
                        if let Some(last) = last.replace(now) {
                            account.longest_gap = account.longest_gap.max(now - last);
                        }
                        account.acknowledged.push(key);
                    }
                    Err(Error::Unknown(_)) => account.unknown.push(key),
                    Err(error) => account.failed.push((key, error.to_string())),
                }
            }
        });
        Self { stop, account, task }
    }

    /// The longest time between two acknowledgements that followed each other, since this was last asked.
    pub fn take_longest_gap(&self) -> Duration {
        std::mem::take(&mut self.account.lock().expect("no writer panicked").longest_gap)
    }

    /// How many adds were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.account.lock().expect("no writer panicked").acknowledged.len()
    }

    /// Waits until so many more adds were acknowledged.
    pub async fn wait_for_more(&self, adds: usize) {
        let (before, begun) = (self.acknowledged(), Instant::now());
        while self.acknowledged() < before + adds {
            assert!(begun.elapsed() < PATIENCE, "of {adds} adds {} are acknowledged", self.acknowledged() - before);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the writing; gives the account.
    pub async fn stop(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer does not panic");
        std::mem::take(&mut self.account.lock().expect("no writer panicked"))
    }
}

impl Account {
    /// Nothing that was acknowledged is missing, nothing was applied twice: every key was added at most once, so the
    /// version is the number of keys.
    pub async fn check(&self, cluster: &Cluster) {
        let client = cluster.client().await;
        let mut found = 0;
        let keys: Vec<&String> = self.acknowledged.iter().chain(&self.unknown).collect();
        for (chunk, keys) in keys.chunks(READS_AT_ONCE).enumerate() {
            let read = |key: &String| {
                let (client, key) = (client.clone(), key.clone());
                tokio::spawn(async move { (client.read(&key).await, key) })
            };
            let tasks: Vec<_> = keys.iter().map(|key| read(key)).collect();
            for (place, task) in tasks.into_iter().enumerate() {
                let (result, key) = task.await.expect("a read does not panic");
                let entry = result.unwrap_or_else(|error| panic!("{key} can't be read: {error}"));
                match entry {
                    Some(entry) => {
                        assert_eq!(entry.value, key.as_bytes(), "{key} has another value");
                        found += 1;
                    }
                    None => {
                        let was_acknowledged = chunk * READS_AT_ONCE + place < self.acknowledged.len();
                        assert!(!was_acknowledged, "{key} was acknowledged and is gone");
                    }
                }
            }
        }
        let mut checked = false;
        for server in &cluster.servers {
            let Some(status) = cluster.status(server.id).await else { continue };
            if status.role == "primary" {
                assert_eq!(status.keys, found, "keys that nobody added");
                assert_eq!(status.version, found, "something was applied twice");
                checked = true;
            }
        }
        assert!(checked, "nobody leads");
    }
}
