//! What the writers were told, in the order in which they were told it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use heirloom_proto::Epoch;
use tokio::sync::Notify;

/// One acknowledged write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) at: Instant,
    pub(super) write: Write,
    pub(super) version: u64,
    pub(super) server: u8,
    pub(super) epoch: Epoch,
}

/// Names one write: each has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Write {
    pub(super) writer: u32,
    pub(super) number: u32,
}

/// All that was told; clones share it.
#[derive(Clone, Default)]
pub(super) struct Journal {
    pages: Arc<Mutex<Pages>>,
    news: Arc<Notify>,
}

/// The pages of a journal.
#[derive(Default)]
pub(super) struct Pages {
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Writes of which nobody knows whether they were applied.
    pub(super) unknown: Vec<Write>,
    /// How many certainly were not.
    pub(super) not_applied: usize,
}

/// How a failover looked to the writers.
pub(super) struct Gap {
    /// From the last acknowledged write of the old epoch to the first of a newer one.
    pub(super) length: Duration,
    /// When that one was acknowledged.
    pub(super) ended_at: Instant,
    /// Who acknowledged it.
    pub(super) server: u8,
}

impl Write {
    pub(super) fn key(self) -> String {
        format!("writer-{}/{:07}", self.writer, self.number)
    }

    pub(super) fn value(self) -> String {
        format!("{} of {}", self.number, self.writer)
    }
}

impl Journal {
    pub(super) fn acknowledge(&self, acknowledged: Acknowledged) {
        self.pages().acknowledged.push(acknowledged);
        self.news.notify_waiters();
    }

    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no writer panics while it writes down")
    }

    /// Waits for the first write after the kill that was acknowledged in a newer epoch than those before it. Who did that
    /// is told, not asked for: that it is another server than the killed one is for the verdict to see.
    pub(super) async fn gap_after(&self, killed_at: Instant) -> Gap {
        loop {
            let news = self.news.notified();
            if let Some(gap) = self.pages().gap_after(killed_at) {
                return gap;
            }
            news.await;
        }
    }
}

impl Pages {
    fn gap_after(&self, killed_at: Instant) -> Option<Gap> {
        let after = self.acknowledged.partition_point(|acknowledged| acknowledged.at < killed_at);
        let newest = self.acknowledged[..after].iter().map(|acknowledged| acknowledged.epoch).max()?;
        // What the killed server acknowledged may arrive a little later than the kill.
        let late = self.acknowledged[after..].iter().position(|acknowledged| acknowledged.epoch > newest)?;
        let first = self.acknowledged[after + late];
        let last = self.acknowledged[..after + late].last()?;
        Some(Gap { length: first.at.saturating_duration_since(last.at), ended_at: first.at, server: first.server })
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{RunId, ServerId};

    use super::*;

    /// The gap after a kill at 9 ms, in writes that were acknowledged at these times, by these servers, in these rounds.
    async fn gap(acknowledged: &[(u64, u8, u64)]) -> (u128, u8) {
        let journal = Journal::default();
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        for (ms, server, round) in acknowledged.iter().copied() {
            let write = Write { writer: 0, number: u32::try_from(ms).expect("small") };
            let epoch = Epoch { round, server: ServerId(server), run: RunId(1) };
            journal.acknowledge(Acknowledged { at: at(ms), write, version: ms, server, epoch });
        }
        let gap = journal.gap_after(at(9)).await;
        assert_eq!(gap.ended_at, at(35));
        (gap.length.as_millis(), gap.server)
    }

    #[tokio::test]
    async fn the_gap_lies_between_the_last_write_of_the_old_epoch_and_the_first_of_a_newer_one() {
        assert_eq!(gap(&[(0, 1, 1), (10, 1, 1), (35, 2, 2), (40, 2, 2)]).await, (25, 2));
    }

    #[tokio::test]
    async fn a_killed_server_that_leads_again_is_told_to_have_taken_over() {
        assert_eq!(gap(&[(0, 1, 1), (10, 1, 1), (35, 1, 2), (40, 2, 3)]).await, (25, 1));
    }
}
