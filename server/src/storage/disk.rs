//! The threads that write: one for the log and the progress, one for register and identity, one for snapshots. None of the
//! first two waits for another, and nothing else waits for any.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use heirloom_backup::StateHead;
use heirloom_proto::limits::PREPARED_ENTRIES_MAX;
use heirloom_proto::{ClusterId, Event, Identity, LogIndex, Position, Record, Register, ServerId, StoreId, Ticket};

use super::data_dir::{LogStore, Store, VoteStore};
use super::error::StorageError;
use super::identity::{encode_identity, encode_register};
use super::log::LogRecord;
use super::queue::Queue;
use super::snapshot::{Asked, Bounds, Others, Shelf, SnapshotReport, Worker};
use crate::gentle;
use crate::mutants::Mutant;

/// How often whoever waits for a thread looks whether it has failed.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Twice what the core may have under way: more means that the disk does not answer.
const JOBS_MAX: usize = 2 * PREPARED_ENTRIES_MAX as usize;

/// The threads that write: one for the log and the progress, one for register and identity, and, once it is started, one for
/// snapshots.
///
/// **Invariants:** after a write or sync of log, register or identity that failed, no thread writes anything more.
pub struct Disk {
    log_jobs: Arc<Queue<LogJob>>,
    vote_jobs: Arc<Queue<VoteJob>>,
    threads: Vec<JoinHandle<()>>,
    disk_bytes: Arc<AtomicU64>,
    /// The log's end once all that waits is carried out: a record that does not fit is refused where it was made.
    log_end: Mutex<LogIndex>,
    owner: (ServerId, StoreId),
    shelf: Arc<Shelf>,
    snapshots: Option<Snapshots>,
    bounds: Bounds,
    reporter: Arc<Reporter>,
}

/// The thread for snapshots.
struct Snapshots {
    jobs: Arc<Queue<Asked>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// More records wait than the core may ever have under way: the disk does not answer. The driver gives the node
/// [`Event::DiskFailed`] with this sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

impl fmt::Display for QueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the disk does not answer, and more records wait for it than may ever be under way")
    }
}

impl std::error::Error for QueueFull {}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

enum LogJob {
    Change(Ticket, LogRecord),
    Progress {
        confirmed: LogIndex,
        commit: LogIndex,
    },
    /// A snapshot of this position is durable. Whoever waits for the other end gets nothing where that fails.
    Forget(Position, SyncSender<()>),
}

enum VoteJob {
    Register(Ticket, Register),
    Identity(Ticket, Identity),
    /// Read both again.
    Check(SyncSender<Result<u64, StorageError>>),
}

/// What all threads share.
struct Reporter {
    report: Box<dyn Fn(Event) + Send + Sync>,
    failed: AtomicBool,
}

impl Reporter {
    fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn fail(&self, what: String) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            (self.report)(Event::DiskFailed { what });
        }
    }

    fn persisted(&self, ticket: Ticket, read_back: Vec<heirloom_proto::Sealed>) {
        (self.report)(Event::Persisted { ticket, read_back });
    }
}

/// Says so where a thread ends by a panic: a node that waited for its tickets for ever would limp.
struct PanicAlarm(Arc<Reporter>);

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail("a thread of the storage has panicked, which is a bug".to_owned());
        }
    }
}

impl Disk {
    /// Starts both threads. `report` is called on them with [`Event::Persisted`] and [`Event::DiskFailed`], in the
    /// order of the tickets for records of the log; it may wait, but not for one of these threads. Where the system gives
    /// no thread, [`Event::DiskFailed`] is reported at once, on the caller's.
    pub fn start(store: Store, report: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let Store { log, votes, shelf, .. } = store;
        let reporter = Arc::new(Reporter { report: Box::new(report), failed: AtomicBool::new(false) });
        let mut disk = Self {
            log_jobs: Arc::new(Queue::new(JOBS_MAX)),
            vote_jobs: Arc::new(Queue::new(JOBS_MAX)),
            threads: Vec::new(),
            disk_bytes: log.log.disk_bytes(),
            log_end: Mutex::new(log.log.end().index),
            owner: votes.owner,
            shelf,
            snapshots: None,
            bounds: Bounds::default(),
            reporter: Arc::clone(&reporter),
        };
        let (jobs, shared) = (Arc::clone(&disk.log_jobs), Arc::clone(&reporter));
        disk.spawn("log", &reporter, move || write_log(&jobs, log, &shared));
        let (jobs, shared) = (Arc::clone(&disk.vote_jobs), Arc::clone(&reporter));
        disk.spawn("votes", &reporter, move || write_votes(&jobs, votes, &shared));
        disk
    }

    fn spawn(&mut self, name: &str, reporter: &Reporter, run: impl FnOnce() + Send + 'static) {
        let thread = spawn(name, reporter, run);
        self.threads.extend(thread);
    }

    /// Starts the thread that makes snapshots and checks what is stored. `report` is called on it, once for all that was
    /// asked for and not stopped; it may wait, but not for one of the threads of this disk.
    ///
    /// **Panics if** it was started before.
    pub fn start_snapshots(&mut self, report: impl Fn(SnapshotReport) + Send + 'static) {
        assert!(self.snapshots.is_none(), "started once");
        let (jobs, stop) = (Arc::new(Queue::new(1)), Arc::new(AtomicBool::new(false)));
        let worker = Worker {
            shelf: Arc::clone(&self.shelf),
            jobs: Arc::clone(&jobs),
            stop: Arc::clone(&stop),
            bounds: self.bounds,
        };
        let others = Rest {
            log_jobs: Arc::clone(&self.log_jobs),
            vote_jobs: Arc::clone(&self.vote_jobs),
            reporter: Arc::clone(&self.reporter),
        };
        let thread = spawn("snapshots", &self.reporter, move || {
            let _alarm = PanicAlarm(Arc::clone(&others.reporter));
            gentle::this_thread();
            worker.run(&others, &report);
        });
        self.snapshots = Some(Snapshots { jobs, stop, thread });
    }

    /// Makes snapshots of small pieces in small steps, so that tests see many.
    #[cfg(test)]
    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    fn ask(&self, asked: Asked) -> bool {
        let Some(snapshots) = &self.snapshots else { return false };
        self.shelf.begin() && snapshots.jobs.push(asked).is_ok()
    }

    /// Asks for a snapshot of the log up to `upto`, which is the state in memory: all of it must have been reported durable.
    /// Never waits. False where the thread is busy, or was not started.
    pub fn request_snapshot(&self, cluster: ClusterId, upto: StateHead) -> bool {
        self.ask(Asked::Snapshot { cluster, upto })
    }

    /// Asks for a check of all that is stored. Never waits. False where the thread is busy, or was not started.
    pub fn request_scrub(&self) -> bool {
        self.ask(Asked::Scrub)
    }

    /// What there is of snapshots; it outlives the disk.
    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    /// Queues a record; never waits.
    ///
    /// **Errors:** [`QueueFull`]; the record is dropped, and so must be this run.
    ///
    /// **Panics if** an append does not continue the log as queued so far, a cut keeps more than there is, or an
    /// identity is another store's.
    pub fn persist(&self, ticket: Ticket, record: Record) -> Result<(), QueueFull> {
        match record {
            Record::Append(entries) => {
                // Under the lock until queued, so that the order of the queue is the order that was checked.
                let mut end = self.log_end.lock().expect("a panic under this lock is a bug and ends the run");
                for entry in &entries {
                    assert_eq!(entry.index(), end.next(), "an append continues the log");
                    *end = entry.index();
                }
                self.log_jobs.push(LogJob::Change(ticket, LogRecord::Append(entries))).map_err(|_| QueueFull)
            }
            Record::Cut { keep } => {
                let mut end = self.log_end.lock().expect("a panic under this lock is a bug and ends the run");
                assert!(keep <= *end, "a cut at {keep} of a log that ends at {end}");
                *end = keep;
                self.log_jobs.push(LogJob::Change(ticket, LogRecord::Cut(keep))).map_err(|_| QueueFull)
            }
            Record::Register(register) => {
                self.vote_jobs.push(VoteJob::Register(ticket, register)).map_err(|_| QueueFull)
            }
            Record::Identity(identity) => {
                assert_eq!((identity.server, identity.store), self.owner, "a store keeps its name");
                self.vote_jobs.push(VoteJob::Identity(ticket, identity)).map_err(|_| QueueFull)
            }
        }
    }

    /// Queues a note of progress; never waits.
    ///
    /// **Errors:** [`QueueFull`]; the note is dropped, which harms nothing by itself.
    pub fn note_progress(&self, confirmed: LogIndex, commit: LogIndex) -> Result<(), QueueFull> {
        self.log_jobs.push(LogJob::Progress { confirmed, commit }).map_err(|_| QueueFull)
    }

    /// How much of the disk the log takes, what is reserved included. **Units:** bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// Carries out and reports all that waits, then ends both threads and lets go of the store. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // First, while the others still answer it.
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.stop.store(true, Ordering::Relaxed);
            snapshots.jobs.close();
            if let Some(thread) = snapshots.thread.take() {
                let _ = thread.join();
            }
        }
        self.log_jobs.close();
        self.vote_jobs.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so by its alarm.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, reporter: &Reporter, run: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    match thread::Builder::new().name(name.to_owned()).spawn(run) {
        Ok(thread) => Some(thread),
        Err(error) => {
            reporter.fail(format!("could not start the thread for the {name}: {error}"));
            None
        }
    }
}

/// The other threads, as the one for snapshots sees them.
struct Rest {
    log_jobs: Arc<Queue<LogJob>>,
    vote_jobs: Arc<Queue<VoteJob>>,
    reporter: Arc<Reporter>,
}

impl Rest {
    /// What a thread answers; `None` where it has failed, which it may do without a word.
    fn wait_for<T>(&self, answer: &Receiver<T>) -> Option<T> {
        loop {
            match answer.recv_timeout(LOOK_PAUSE) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Timeout) if !self.reporter.failed() => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

impl Others for Rest {
    fn forget(&self, at: Position) -> bool {
        let (done, wait) = sync_channel(1);
        if self.log_jobs.push(LogJob::Forget(at, done)).is_err() {
            self.reporter.fail(QueueFull.to_string());
        }
        self.wait_for(&wait).is_some()
    }

    fn check_records(&self) -> Option<Result<u64, StorageError>> {
        let (done, wait) = sync_channel(1);
        if self.vote_jobs.push(VoteJob::Check(done)).is_err() {
            self.reporter.fail(QueueFull.to_string());
        }
        self.wait_for(&wait)
    }

    fn failed(&self) -> bool {
        self.reporter.failed()
    }
}

fn write_log(jobs: &Queue<LogJob>, mut store: LogStore, reporter: &Arc<Reporter>) {
    let _alarm = PanicAlarm(Arc::clone(reporter));
    work(jobs, reporter, |taken| carry_out(taken, &mut store, reporter));
    if !reporter.failed()
        && let Err(error) = store.progress.sync_both()
    {
        reporter.fail(error.to_string());
    }
}

fn carry_out(jobs: VecDeque<LogJob>, store: &mut LogStore, reporter: &Reporter) -> Result<(), StorageError> {
    let (mut tickets, mut records, mut forgotten) = (Vec::new(), Vec::new(), None);
    let mut reached = store.reached;
    for job in jobs {
        match job {
            LogJob::Change(ticket, record) => {
                tickets.push(ticket);
                records.push(record);
            }
            LogJob::Progress { confirmed, commit } => {
                (reached.confirmed, reached.commit) = (confirmed, commit);
            }
            LogJob::Forget(at, done) => forgotten = Some((at, done)),
        }
    }
    if store.planted.has(Mutant::AnswerBeforePersisted) {
        for (ticket, record) in std::mem::take(&mut tickets).into_iter().zip(&records) {
            let entries = match record {
                LogRecord::Append(entries) => entries.clone(),
                LogRecord::Cut(_) => Vec::new(),
            };
            reporter.persisted(ticket, entries);
        }
    }
    let read_back = store.log.carry_out(&records)?;
    drop(records);
    for (ticket, entries) in tickets.into_iter().zip(read_back) {
        reporter.persisted(ticket, entries);
    }
    let end = store.log.end().index;
    assert!(reached.commit <= end, "{} entries are committed, and the log ends at {end}", reached.commit);
    reached.synced = store.log.synced();
    if reached != store.reached {
        store.reached = reached;
        store.progress.note(&reached.encode())?;
    }
    if let Some((at, done)) = forgotten {
        store.log.forget(at)?;
        // Whoever waited may have been told to stop.
        let _ = done.send(());
    }
    Ok(())
}

fn write_votes(jobs: &Queue<VoteJob>, mut store: VoteStore, reporter: &Arc<Reporter>) {
    let _alarm = PanicAlarm(Arc::clone(reporter));
    work(jobs, reporter, |taken| vote(taken, &mut store, reporter));
}

/// Carries out what comes until the queue is closed and empty. After a failure, of whichever thread, it is only taken.
fn work<J>(jobs: &Queue<J>, reporter: &Reporter, mut carry_out: impl FnMut(VecDeque<J>) -> Result<(), StorageError>) {
    loop {
        let taken = jobs.take_all();
        if taken.is_empty() {
            return;
        }
        if reporter.failed() {
            continue;
        }
        if let Err(error) = carry_out(taken) {
            reporter.fail(error.to_string());
        }
    }
}

/// Stores the last register and the last identity that wait: each is a whole, so the last one stands for those before.
fn vote(jobs: VecDeque<VoteJob>, store: &mut VoteStore, reporter: &Reporter) -> Result<(), StorageError> {
    let (mut tickets, mut register, mut identity, mut checks) = (Vec::new(), None, None, Vec::new());
    for job in jobs {
        match job {
            VoteJob::Register(ticket, newer) => {
                tickets.push(ticket);
                register = Some(newer);
            }
            VoteJob::Identity(ticket, newer) => {
                tickets.push(ticket);
                identity = Some(newer);
            }
            VoteJob::Check(done) => checks.push(done),
        }
    }
    // The identity first: a register with a view is of a cluster, and no crash should leave one without the other's name.
    if let Some(identity) = identity {
        store.identity.write(&encode_identity(&identity))?;
    }
    if let Some(register) = register {
        register.check_invariants();
        store.register.write(&encode_register(Some(&register)))?;
    }
    for ticket in tickets {
        reporter.persisted(ticket, Vec::new());
    }
    for done in checks {
        let bytes = store.identity.check().and_then(|bytes| Ok(bytes + store.register.check()?));
        // Whoever waited may have been told to stop.
        let _ = done.send(bytes);
    }
    Ok(())
}
