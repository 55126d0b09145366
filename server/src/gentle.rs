//! Work that may take long and must not slow what clients wait for.

use tokio::sync::oneshot;

/// How much lower than that of everything else the priority of such a thread is.
const NICE: i32 = 10;

/// Lowers the priority of this thread, for good. Where the system does not allow that it goes on as it is.
pub(crate) fn this_thread() {
    let _ = rustix::process::nice(NICE);
}

/// Does something slow on a thread of its own, which gives way to all others.
///
/// **Errors:** where the system gives no thread, or the work panics.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (done, result) = oneshot::channel();
    let run = move || {
        this_thread();
        // Nobody may be waiting any more.
        let _ = done.send(work());
    };
    std::thread::Builder::new().name("gentle".to_owned()).spawn(run).map_err(|error| error.to_string())?;
    result.await.map_err(|_| "a thread has panicked, which is a bug".to_owned())
}
