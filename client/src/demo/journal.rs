//! What the writers were told, in the order in which they were told it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// One acknowledged write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) at: Instant,
    pub(super) write: Write,
    pub(super) version: u64,
    pub(super) server: u8,
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
    /// From the last acknowledged write before the failover to the first by the new primary.
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

    /// Waits for the first write that another server than the killed one acknowledged after the kill.
    pub(super) async fn gap_after(&self, killed: u8, killed_at: Instant) -> Gap {
        loop {
            let news = self.news.notified();
            if let Some(gap) = self.pages().gap_after(killed, killed_at) {
                return gap;
            }
            news.await;
        }
    }
}

impl Pages {
    fn gap_after(&self, killed: u8, killed_at: Instant) -> Option<Gap> {
        let after = self.acknowledged.partition_point(|acknowledged| acknowledged.at < killed_at);
        // What the killed server acknowledged may arrive a little later than the kill.
        let late = self.acknowledged[after..].iter().position(|acknowledged| acknowledged.server != killed)?;
        let first = self.acknowledged[after + late];
        let last = self.acknowledged[..after + late].last()?;
        Some(Gap { length: first.at.saturating_duration_since(last.at), ended_at: first.at, server: first.server })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_gap_lies_between_the_last_write_before_and_the_first_by_another_server() {
        let journal = Journal::default();
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        for (ms, server) in [(0, 1), (10, 1), (35, 2), (40, 2)] {
            let write = Write { writer: 0, number: u32::try_from(ms).expect("small") };
            journal.acknowledge(Acknowledged { at: at(ms), write, version: ms, server });
        }
        let gap = journal.gap_after(1, at(9)).await;
        assert_eq!((gap.length, gap.ended_at, gap.server), (Duration::from_millis(25), at(35), 2));
    }
}
