//! The driver: owns the node, gives it every event with the time at which it was taken, and performs its actions.
//!
//! It never waits for a disk, a peer or a caller: records go to the threads of the disk, messages to bounded queues,
//! answers to slots of their own. So heartbeats and leases wait for nothing but other events.

mod ask;
mod callers;
mod live;
mod notes;
mod place;
mod restart;
mod upkeep;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use heirloom_backup::StateHead;
use heirloom_proto::{Address, Cause, Refusal};
use tokio::sync::{mpsc, watch};

use crate::failure::Failure;
use crate::history::{Feeder, History};
use crate::links::{Life, Warned};
use crate::probe::Prober;
use crate::settings::Settings;
use crate::storage::{DataDir, StorageError, says_full};

use callers::Callers;

pub(crate) use ask::{Ask, Replied, Reply, Report};
pub(crate) use place::Place;
pub use upkeep::Pace;

/// How many requests wait between the services and the driver.
pub(crate) const ASKS_MAX: usize = 4_096;
/// How many batches of peers and reports of disk and probes wait for the driver.
const INPUTS_MAX: usize = 4_096;
/// How many events are taken before what has gathered is sent.
const BATCH_MAX: usize = 1_024;

/// The driver, over all lives of the process.
pub(crate) struct Driver {
    settings: Arc<Settings>,
    servers: Arc<[Address]>,
    data_dir: Option<DataDir>,
    asks: mpsc::Receiver<Ask>,
    stop: watch::Receiver<bool>,
    place: watch::Sender<Place>,
    life: watch::Sender<Option<Arc<Life>>>,
    prober: Prober,
    callers: Callers,
    warned: Arc<Warned>,
    feeder: Feeder,
    last_report: Option<Report>,
    /// After one that came to nothing.
    no_snapshot_before: Option<Instant>,
    started: Instant,
}

/// What the rest of the runtime knows of the driver.
pub(crate) struct Handles {
    /// Into the driver; closed once the node has stopped for good.
    pub(crate) asks: mpsc::Sender<Ask>,
    /// What part the server plays.
    pub(crate) place: watch::Receiver<Place>,
    /// The life that is on.
    pub(crate) life: watch::Receiver<Option<Arc<Life>>>,
    /// What was committed lately.
    pub(crate) history: Arc<History>,
    /// Set to true, ends the driver in good order.
    pub(crate) stop: watch::Sender<bool>,
}

/// How one life ended.
enum Ended {
    /// A person asked for it.
    Stopped,
    /// The node did.
    Halted(Cause),
    /// So that a snapshot that was fetched takes the place of the log.
    Fetched(StateHead),
    /// What is stored, or what is in memory, is damaged.
    Damaged,
}

impl Driver {
    /// A driver over an open data directory, and the handles to it.
    pub(crate) fn new(settings: Arc<Settings>, data_dir: DataDir) -> (Self, Handles) {
        let (asks_in, asks) = mpsc::channel(ASKS_MAX);
        let (place, place_seen) = watch::channel(Place::UNKNOWN);
        let (life, life_seen) = watch::channel(None);
        let (stop_in, stop) = watch::channel(false);
        let (feeder, history) = History::new();
        let prober = Prober::new(settings.clone());
        let servers: Arc<[Address]> = settings.servers.clone().into();
        let driver = Self {
            settings,
            servers,
            data_dir: Some(data_dir),
            asks,
            stop,
            place,
            life,
            prober,
            callers: Callers::default(),
            warned: Arc::default(),
            feeder,
            last_report: None,
            no_snapshot_before: None,
            started: Instant::now(),
        };
        (driver, Handles { asks: asks_in, place: place_seen, life: life_seen, history, stop: stop_in })
    }

    /// Drives one life after the other, until it is told to stop or one ends for good.
    ///
    /// When it returns, the node has stopped and its records are on disk; its streams are closed.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let mut next = restart::Restart::Reload;
        let mut same_process = false;
        loop {
            let Some((durable, store)) = self.load(next).await? else { return Ok(()) };
            match self.live(durable, store, same_process).await? {
                Ended::Stopped => return Ok(()),
                Ended::Fetched(head) => next = restart::Restart::Install(head),
                Ended::Damaged => next = restart::Restart::Reload,
                Ended::Halted(Cause::Disk { what }) if says_full(&what) => {
                    if !self.wait_for_room(&what).await? {
                        return Ok(());
                    }
                    next = restart::Restart::Reload;
                }
                Ended::Halted(cause) => next = self.after(cause)?,
            }
            same_process = true;
        }
    }

    /// Does something slow on a thread of its own, and says meanwhile that nobody leads here.
    async fn meanwhile<T, F>(&mut self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let done = tokio::task::spawn_blocking(work);
        self.until(async { done.await.map_err(|panic| panic.to_string()) }).await
    }

    /// Waits for something, and says meanwhile that nobody leads here.
    async fn until<T>(&mut self, done: impl Future<Output = Result<T, String>>) -> Result<T, Failure> {
        let mut done = pin!(done);
        loop {
            tokio::select! {
                biased;
                result = &mut done => return result.map_err(Failure::Bug),
                Some(ask) = self.asks.recv() => match ask {
                    Ask::Request { reply, .. } => reply.send(Err(Refusal::NotPrimary { primary: None })),
                    Ask::Report(slot) => if let Some(report) = self.last_report.clone() {
                        let _ = slot.send(report);
                    },
                    // Dropped, which says that there will be none.
                    Ask::Snapshot(_) | Ask::Nudge => {}
                },
            }
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}
