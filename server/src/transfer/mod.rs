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
/// How long at least the log behind a snapshot that was sent is kept for its receiver, which checks it, reads it and begins a
/// run; for a long one as much longer as it takes to send. **Why no longer:** what is written meanwhile is kept in memory.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// How much is sent at a time. **Units:** bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How fast a snapshot is sent at most: writes must not suffer much meanwhile, on one machine and one disk with its receiver
/// either (docs/evidence/snapshots.md). **Units:** bytes a second.
const BYTES_PER_SECOND: u64 = 32 << 20;
/// How long either end waits for the other before it gives up.
const STALLED_MAX: Duration = Duration::from_secs(10);

/// The transfers that a server serves.
#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    seats: Arc<Semaphore>,
    saves: Arc<Semaphore>,
    log_needed_until: Arc<Mutex<Option<Instant>>>,
}

impl Default for Transfers {
    fn default() -> Self {
        let semaphore = |seats| Arc::new(Semaphore::new(seats));
        Self { seats: semaphore(SERVED_MAX), saves: semaphore(SAVED_MAX), log_needed_until: Arc::default() }
    }
}

impl Transfers {
    /// A place for one more; `None` where there is none.
    fn begin(&self) -> Option<OwnedSemaphorePermit> {
        let seat = self.seats.clone().try_acquire_owned().ok()?;
        self.go_on(Instant::now(), 0);
        Some(seat)
    }

    /// A place for one more operator, once there is one.
    pub(crate) async fn begin_save(&self) -> OwnedSemaphorePermit {
        self.saves.clone().acquire_owned().await.expect("nobody closes the semaphore")
    }

    /// A snapshot of this length is being sent to another server.
    fn go_on(&self, now: Instant, bytes: u64) {
        let until = now + KEPT_FOR + sent_in(bytes);
        let mut needed = self.log_needed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *needed = (*needed).max(Some(until));
    }

    /// Whether somebody is being sent a snapshot, or was a while ago: the log behind it should be kept.
    pub(crate) fn need_the_log(&self, now: Instant) -> bool {
        let until = *self.log_needed_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }
}

/// How long it takes at least to send so much.
fn sent_in(bytes: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_behind_a_long_snapshot_is_kept_for_longer_than_that_behind_a_short_one() {
        let (now, gib) = (Instant::now(), 1 << 30);
        let kept = |sent: &[u64]| {
            let transfers = Transfers::default();
            assert!(!transfers.need_the_log(now));
            sent.iter().for_each(|bytes| transfers.go_on(now, *bytes));
            (0..).take_while(|seconds| transfers.need_the_log(now + Duration::from_secs(*seconds))).count()
        };
        assert_eq!(kept(&[1 << 20]), 31, "reading it takes a moment");
        assert_eq!(kept(&[gib]), 62, "as long as sending it");
        assert_eq!(kept(&[gib, 0]), 62, "another one, of which nothing was sent yet, takes nothing away");
    }
}
