//! A disk that hangs at will: the syncs of some files wait at a gate.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::storage::{Files, Listed, LockGuard, OpenFile, PowerFailureFiles};

/// How long a sync waits for a gate that nobody opens: the check may be waiting for the very server whose disk this is.
const HANGS_MAX: Duration = Duration::from_secs(4);

/// The gate. Dropped it opens, so that no thread waits for a check that has ended.
pub(super) struct Gate(Arc<Inner>);

struct Inner {
    /// The files whose syncs it stops are those whose names begin so.
    prefix: &'static str,
    state: Mutex<State>,
    opened: Condvar,
    /// How many syncs have come to the gate while it was closed.
    arrivals: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// How many may pass all the same.
    passes: u64,
    given_up: bool,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self) {
        let state = self.lock();
        if !state.closed {
            return;
        }
        self.arrivals.send_modify(|arrivals| *arrivals += 1);
        let waited = self.opened.wait_timeout_while(state, HANGS_MAX, |state| state.closed && state.passes == 0);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.given_up |= timeout.timed_out();
        state.passes = state.passes.saturating_sub(1);
    }
}

impl Gate {
    /// A gate that stands open, and the disk that it is in.
    pub(super) fn before(files: PowerFailureFiles, prefix: &'static str) -> (Self, Arc<dyn Files>) {
        let arrivals = watch::Sender::new(0);
        let inner = Arc::new(Inner { prefix, state: Mutex::default(), opened: Condvar::new(), arrivals });
        (Self(inner.clone()), Arc::new(GatedFiles { files, gate: inner }))
    }

    pub(super) fn close(&self) {
        self.0.lock().closed = true;
    }

    pub(super) fn open(&self) {
        self.0.lock().closed = false;
        self.0.opened.notify_all();
    }

    /// Lets one sync pass.
    pub(super) fn let_one_pass(&self) {
        self.0.lock().passes += 1;
        self.0.opened.notify_all();
    }

    /// Returns once so many syncs have come to the closed gate.
    pub(super) async fn reached(&self, times: u64) {
        self.0.arrivals.subscribe().wait_for(|arrivals| *arrivals >= times).await.expect("the gate stands");
    }

    /// Whether a sync has waited for so long that whoever was to open the gate must have been waiting for the disk.
    pub(super) fn was_given_up(&self) -> bool {
        self.0.lock().given_up
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

struct GatedFiles {
    files: PowerFailureFiles,
    gate: Arc<Inner>,
}

impl GatedFiles {
    fn gated(&self, path: &Path, file: Box<dyn OpenFile>) -> Box<dyn OpenFile> {
        let name = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(self.gate.prefix));
        if name { Box::new(GatedFile { file, gate: self.gate.clone() }) } else { file }
    }
}

impl Files for GatedFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.files.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.files.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(self.gated(path, self.files.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(self.gated(path, self.files.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.files.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.files.lock(path)
    }
}

struct GatedFile {
    file: Box<dyn OpenFile>,
    gate: Arc<Inner>,
}

impl OpenFile for GatedFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        self.file.read_at(offset, bytes_max)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync()
    }

    fn evict(&self) -> io::Result<()> {
        self.file.evict()
    }
}
