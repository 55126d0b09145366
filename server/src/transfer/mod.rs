//! Snapshots on their way from one server to another (PROTOCOL 9), or to an operator's file: the file as it is, in chunks,
//! from where an earlier attempt ended.
//!
//! ```text
//!   node ── FetchSnapshot ──▶ fetch ── FetchSnapshotRequest ──▶ serve ── reads its newest snapshot
//!     ◀── SnapshotFetched ── checked, durable ◀── chunks ──
//! ```

mod fetch;
mod save;
mod serve;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use fetch::Fetcher;
pub(crate) use save::{Made, save_fresh, save_held};
pub(crate) use serve::{Chunks, serve};

/// How many transfers a server serves at once; whoever comes beyond that comes again.
const SERVED_MAX: usize = 2;
/// How many snapshots are sent to operators at once. Of their own, so that no server waits for them.
const SAVED_MAX: usize = 2;
/// How long the log behind a snapshot that was sent is kept for its receiver, which reads it and begins a run. **Why no
/// longer:** what is written meanwhile is kept in memory.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// How much is sent at a time. **Units:** bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How fast a snapshot is sent at most: what its primary has to do beside must not suffer much. **Units:** bytes a second.
const BYTES_PER_SECOND: u64 = 64 << 20;
/// How long either end waits for the other before it gives up.
const STALLED_MAX: Duration = Duration::from_secs(10);

/// The transfers that a server serves.
#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    seats: Arc<Semaphore>,
    saves: Arc<Semaphore>,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Default for Transfers {
    fn default() -> Self {
        let semaphore = |seats| Arc::new(Semaphore::new(seats));
        Self { seats: semaphore(SERVED_MAX), saves: semaphore(SAVED_MAX), last: Arc::default() }
    }
}

impl Transfers {
    /// A place for one more; `None` where there is none.
    fn begin(&self) -> Option<OwnedSemaphorePermit> {
        let seat = self.seats.clone().try_acquire_owned().ok()?;
        self.goes_on();
        Some(seat)
    }

    /// A place for one more operator, once there is one.
    pub(crate) async fn begin_save(&self) -> OwnedSemaphorePermit {
        self.saves.clone().acquire_owned().await.expect("nobody closes the semaphore")
    }

    fn goes_on(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether somebody is being sent a snapshot, or was a moment ago: the log behind it should be kept.
    pub(crate) fn need_the_log(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < KEPT_FOR)
    }
}
