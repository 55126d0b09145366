//! Writers that never pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::journal::{Acknowledged, Journal, Write};
use crate::client::Client;
use crate::error::Error;

/// How many write at once, over one connection.
pub(super) const WRITERS: u32 = 4;
/// How many writes one writer makes at most: what is written is read back at the end.
const WRITES_MAX: u32 = 10_000;
/// The pause between writes once that many are made, and after one that could not be made.
const PAUSE: Duration = Duration::from_millis(2);

/// The running writers; they stop when it is dropped.
pub(super) struct Writers {
    tasks: JoinSet<()>,
    told_to_stop: Arc<AtomicBool>,
}

impl Writers {
    /// Begins to write.
    pub(super) fn start(client: &Client, journal: &Journal) -> Self {
        let told_to_stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            tasks.spawn(write(client.clone(), journal.clone(), writer, told_to_stop.clone()));
        }
        Self { tasks, told_to_stop }
    }

    /// Lets each writer come to the end of its write.
    pub(super) async fn stop(self) {
        self.told_to_stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
    }
}

async fn write(client: Client, journal: Journal, writer: u32, told_to_stop: Arc<AtomicBool>) {
    let mut number = 0;
    while !told_to_stop.load(Ordering::Relaxed) {
        number += 1;
        let write = Write { writer, number };
        match client.add(write.key(), write.value()).await {
            Ok(changed) => journal.acknowledge(Acknowledged {
                at: Instant::now(),
                write,
                version: changed.version.0,
                server: changed.server.0,
                epoch: changed.epoch,
            }),
            Err(Error::Unknown(_)) => journal.pages().unknown.push(write),
            Err(Error::NotApplied(_) | Error::BadInput(_) | Error::WatchLost(_)) => {
                journal.pages().not_applied += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
        if number > WRITES_MAX {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
