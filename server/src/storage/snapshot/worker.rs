//! The thread that makes snapshots and checks what is stored, one thing at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heirloom_backup::StateHead;
use heirloom_proto::{ClusterId, Position};

use super::make::{Bounds, Made, Undone, make, scrub};
use super::remove_others;
use super::shelf::{Checked, Shelf};
use crate::clock;
use crate::storage::error::StorageError;
use crate::storage::queue::Queue;

/// What came of what was asked for.
#[derive(Debug)]
pub enum SnapshotReport {
    /// A snapshot is durable, and the log behind it is all that is kept. Everything that is stored was read and is right.
    Made {
        /// Of which state; an earlier one than was asked for where the log was too long for one step: ask again.
        head: StateHead,
        /// How long it is. **Units:** bytes.
        bytes: u64,
    },
    /// Everything that is stored was read and is right.
    Scrubbed {
        /// How much that is. **Units:** bytes.
        bytes: u64,
    },
    /// The machine failed, or something is damaged. Of the snapshot nothing is left; what was stored before is as it was.
    Failed(StorageError),
}

/// What the thread is asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) enum Asked {
    Snapshot { cluster: ClusterId, upto: StateHead },
    Scrub,
}

/// What the other threads of the storage do for this one.
pub(in crate::storage) trait Others: Send {
    /// Lets the log forget its entries up to here. False where it has failed, and said so.
    fn forget(&self, at: Position) -> bool;

    /// Checks identity and register, and gives how long they are; `None` where that thread has failed, and said so.
    fn check_records(&self) -> Option<Result<u64, StorageError>>;

    /// Whether something has failed, so that nothing may be written any more.
    fn failed(&self) -> bool;
}

/// What the thread works with.
pub(in crate::storage) struct Worker {
    pub(in crate::storage) shelf: Arc<Shelf>,
    pub(in crate::storage) jobs: Arc<Queue<Asked>>,
    pub(in crate::storage) stop: Arc<AtomicBool>,
    pub(in crate::storage) bounds: Bounds,
}

impl Worker {
    /// Works until the queue is closed.
    pub(in crate::storage) fn run(self, others: &dyn Others, report: &dyn Fn(SnapshotReport)) {
        loop {
            let taken = self.jobs.take_all();
            if taken.is_empty() {
                return;
            }
            for asked in taken {
                let done = self.carry_out(asked, others);
                self.shelf.end();
                match done {
                    Ok(done) => report(done),
                    Err(Undone::Failed(error)) => report(SnapshotReport::Failed(error)),
                    Err(Undone::Stopped) => {}
                }
            }
        }
    }

    pub(super) fn carry_out(&self, asked: Asked, others: &dyn Others) -> Result<SnapshotReport, Undone> {
        let go_on = || !self.stop.load(Ordering::Relaxed) && !others.failed();
        if !go_on() {
            return Err(Undone::Stopped);
        }
        let records = others.check_records().ok_or(Undone::Stopped)??;
        let (report, bytes) = match asked {
            Asked::Snapshot { cluster, upto } if upto.position.index > self.shelf.index() => {
                let Made { stored, log_mark, read_bytes } = make(&self.shelf, cluster, &upto, self.bounds, &go_on)?;
                let head = stored.head.state;
                self.shelf.put(stored, log_mark);
                if !others.forget(head.position) {
                    return Err(Undone::Stopped);
                }
                remove_others(&*self.shelf.files, &self.shelf.dir, head.position.index)?;
                (SnapshotReport::Made { head, bytes: stored.bytes }, records + read_bytes)
            }
            // There is nothing new to be stored.
            Asked::Snapshot { .. } | Asked::Scrub => {
                let bytes = records + scrub(&self.shelf, &go_on)?;
                (SnapshotReport::Scrubbed { bytes }, bytes)
            }
        };
        self.shelf.put_checked(Checked { at: clock::calendar(), bytes });
        Ok(report)
    }
}
