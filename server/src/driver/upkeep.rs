//! What a server does for its store while it lives: it makes snapshots, looks at all that is stored from time to time, and
//! fetches the snapshot of another server where its own log lacks too much.

use std::time::{Duration, Instant};

use heirloom_backup::StateHead;
use heirloom_proto::{Cause, Event, LogIndex, ServerId};
use tokio::sync::oneshot;

use super::live::Living;
use crate::storage::{FetchPlace, SnapshotReport, StorageError, says_full};
use crate::transfer::Fetcher;

/// How often it is looked whether something is to be done.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often it is measured how much of the log is held.
const MEASURE_PAUSE: Duration = Duration::from_secs(1);

/// When a server does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How much log there is behind a snapshot at least before the next one is made. **Units:** bytes.
    pub log_bytes_min: u64,
    /// How many entries behind a snapshot are kept for servers that are a little behind.
    pub entries_kept: usize,
    /// How often all that is stored is read and checked.
    pub check_every: Duration,
    /// How long after a snapshot for which there was no room, or that showed damage, the next one is tried: not in the next
    /// run at once either, which may follow within a moment. For as long the room that a full disk has got back is kept.
    pub retry_after: Duration,
    /// How much of the log is kept in memory for servers that are being sent a snapshot. **Units:** bytes.
    pub held_bytes_max: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            log_bytes_min: 64 << 20,
            entries_kept: 16_384,
            check_every: Duration::from_secs(60 * 60),
            retry_after: Duration::from_secs(60),
            held_bytes_max: 512 << 20,
        }
    }
}

/// What is under way.
#[derive(Debug)]
pub(super) struct Upkeep {
    fetcher: Fetcher,
    place: FetchPlace,
    /// What was fetched, whole and right.
    fetched: Option<StateHead>,
    /// Who waits for a snapshot that reaches at least up to this index. As many as are saved at once, for whoever has gone
    /// away is forgotten.
    wanted: Vec<(LogIndex, oneshot::Sender<Result<(), String>>)>,
    /// A snapshot up to here is durable, and the log before it is still in memory.
    forgets: Option<LogIndex>,
    looks_at: Instant,
    measures_at: Instant,
    checks_at: Instant,
    /// The node wants to know whether what it has applied is what is stored.
    examines: bool,
    /// All that is stored is not what it should be: it is to be read again, as at a start.
    damaged: bool,
}

impl Upkeep {
    pub(super) fn new(place: FetchPlace, pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            fetcher: Fetcher::default(),
            place,
            fetched: None,
            wanted: Vec::new(),
            forgets: None,
            looks_at: now,
            measures_at: now,
            checks_at: now + pace.check_every,
            examines: false,
            damaged: false,
        }
    }

    /// Whether the run must end, for what is stored or what is in memory is damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// What was fetched last.
    pub(super) fn fetched(&self) -> Option<StateHead> {
        self.fetched
    }

    /// Ends what is under way.
    pub(super) async fn end(mut self) {
        self.fetcher.end().await;
    }
}

impl Living<'_> {
    /// Looks whether something is to be done, now and then.
    pub(super) fn look_after_the_store(&mut self) {
        let now = Instant::now();
        if now < self.upkeep.looks_at {
            return;
        }
        self.upkeep.looks_at = now + LOOK_PAUSE;
        self.forget();
        let shelf = &self.life.shelf;
        if shelf.under_way() {
            return;
        }
        let pace = self.driver.settings.pace;
        let may_try = self.driver.no_snapshot_before.is_none_or(|at| now >= at);
        if may_try && (self.upkeep.examines || shelf.is_due(pace.log_bytes_min)) {
            self.request_snapshot();
        } else if now >= self.upkeep.checks_at && self.records.disk.request_scrub() {
            self.upkeep.checks_at = now + pace.check_every;
        }
    }

    fn request_snapshot(&mut self) {
        let Some((cluster, replica)) = self.node.cluster().zip(self.node.replica()) else { return };
        self.records.disk.request_snapshot(cluster, replica.state().head());
    }

    /// Answers once there is a snapshot of what is applied now. One that reaches so far already will do.
    pub(super) fn want_snapshot(&mut self, slot: oneshot::Sender<Result<(), String>>) {
        let Some(replica) = self.node.replica() else {
            // A caller that has gone away is none of the driver's business.
            let _ = slot.send(Err("this server keeps no data".to_owned()));
            return;
        };
        let applied = replica.state().head().position.index;
        self.upkeep.wanted.retain(|(_, slot)| !slot.is_closed());
        self.upkeep.wanted.push((applied, slot));
        self.make_what_is_wanted();
    }

    /// Tells those who waited for the snapshot that there is, and asks for the one that others wait for.
    fn make_what_is_wanted(&mut self) {
        let shelf = &self.life.shelf;
        let made = shelf.index();
        for (_, slot) in self.upkeep.wanted.extract_if(.., |(index, _)| *index <= made) {
            let _ = slot.send(Ok(()));
        }
        // While one is being made or checked, its report leads back here.
        if !self.upkeep.wanted.is_empty() && !shelf.under_way() {
            self.request_snapshot();
        }
    }

    /// Forgets the log behind a snapshot, unless somebody is being sent that very snapshot and will want what follows it.
    fn forget(&mut self) {
        if self.life.transfers.need_the_log(Instant::now()) && self.may_hold() {
            return;
        }
        if let Some(index) = self.upkeep.forgets.take() {
            // Those who watch are told of the entries first.
            self.feed();
            let entries_kept = self.driver.settings.pace.entries_kept;
            self.step(Event::Snapshotted { index, entries_kept });
        }
    }

    /// Whether the log that is held for others is no more than it may be. Who lacks what is forgotten then begins anew.
    fn may_hold(&mut self) -> bool {
        let now = Instant::now();
        let Some((index, replica)) = self.upkeep.forgets.zip(self.node.replica()) else { return true };
        if now < self.upkeep.measures_at {
            return true;
        }
        self.upkeep.measures_at = now + MEASURE_PAUSE;
        let log = replica.log();
        log.bytes_of(log.base().next(), index) <= self.driver.settings.pace.held_bytes_max
    }

    /// Takes what came of a snapshot or of a check.
    pub(super) fn take_report(&mut self, report: SnapshotReport) {
        let pause = self.driver.settings.pace.retry_after;
        match report {
            SnapshotReport::Made { head, bytes } => {
                tracing::info!(index = head.position.index.0, bytes, "made a snapshot");
                self.upkeep.forgets = Some(head.position.index);
                // At once: whoever sees the snapshot in the status may count on it.
                self.forget();
                self.examined(head);
                self.make_what_is_wanted();
            }
            SnapshotReport::Scrubbed { bytes } => {
                tracing::info!(bytes, "read all that is stored: it is right");
                self.examined(self.life.shelf.head().unwrap_or_default());
                self.make_what_is_wanted();
            }
            SnapshotReport::Failed(StorageError::Damaged(damage)) => {
                tracing::error!("{damage}: this run ends, and what is stored is read again");
                self.driver.no_snapshot_before = Some(Instant::now() + pause);
                self.upkeep.damaged = true;
            }
            SnapshotReport::Failed(error) if says_full(&error.to_string()) => {
                tracing::warn!("no room for a snapshot: {error}; trying again in {pause:?}");
                for (_, slot) in self.upkeep.wanted.drain(..) {
                    let _ = slot.send(Err(format!("this server has no room for a snapshot: {error}")));
                }
                self.driver.no_snapshot_before = Some(Instant::now() + pause);
            }
            SnapshotReport::Failed(error) => {
                self.halted.get_or_insert_with(|| Cause::Disk { what: error.to_string() });
            }
        }
    }

    /// The node wants to know whether what it has applied is what is stored; it asks at every heartbeat.
    pub(super) fn examine(&mut self) {
        if !self.upkeep.examines {
            tracing::warn!("this copy differs from another: reading all that is stored here");
        }
        self.upkeep.examines = true;
    }

    /// What is stored gives this state.
    fn examined(&mut self, stored: StateHead) {
        let Some(replica) = self.node.replica().filter(|_| self.upkeep.examines) else { return };
        let applied = replica.state().head();
        if stored.position.index < applied.position.index {
            // More was applied since it was asked for.
            return;
        }
        self.upkeep.examines = false;
        if stored == applied {
            tracing::warn!("this copy is what is stored here");
            self.step(Event::Examined);
        } else {
            tracing::error!("this copy is not what is stored here: this run ends, and what is stored is read again");
            self.upkeep.damaged = true;
        }
    }

    pub(super) fn fetch_snapshot(&mut self, from: ServerId, at_least: LogIndex) {
        self.upkeep.fetcher.fetch(&self.life, &self.upkeep.place, from, at_least);
    }

    pub(super) fn snapshot_fetched(&mut self, head: StateHead) {
        self.upkeep.fetched = Some(head);
        self.step(Event::SnapshotFetched { index: head.position.index });
    }
}
