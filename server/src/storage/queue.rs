//! A bounded queue whose reader takes all that waits at once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

/// A queue from any number of threads to one.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    filled: Condvar,
    length_max: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    jobs: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(length_max: usize) -> Self {
        let waiting = Waiting { jobs: VecDeque::new(), closed: false };
        Self { waiting: Mutex::new(waiting), filled: Condvar::new(), length_max }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().expect("nothing panics under this lock")
    }

    /// Adds a job; gives it back where too many wait.
    pub(super) fn push(&self, job: T) -> Result<(), T> {
        let mut waiting = self.lock();
        if waiting.jobs.len() >= self.length_max {
            return Err(job);
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Lets the reader end once nothing waits any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits for jobs and takes all; none where the queue is closed and empty.
    pub(super) fn take_all(&self) -> VecDeque<T> {
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() && !waiting.closed {
            waiting = self.filled.wait(waiting).expect("nothing panics under this lock");
        }
        std::mem::take(&mut waiting.jobs)
    }
}
