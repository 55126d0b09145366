//! Who asks a run to stop: a person at the terminal, or what started it.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What sends a signal to a process and to its group, as `timeout` does, means it once.
const ONCE: Duration = Duration::from_secs(1);

/// Both signals, heard from the making of this on.
#[derive(Debug)]
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    told_at: Option<Instant>,
}

impl Stop {
    /// **Errors:** as the system does.
    pub(crate) fn heard() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals can't be heard: {error}"));
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, told_at: None })
    }

    /// Waits until one comes; which.
    pub(crate) async fn told(&mut self) -> String {
        loop {
            let which = tokio::select! {
                _ = self.interrupt.recv() => "interrupted",
                _ = self.terminate.recv() => "terminated",
            };
            if self.told_at.is_none_or(|before| before.elapsed() >= ONCE) {
                self.told_at = Some(Instant::now());
                return which.to_owned();
            }
        }
    }
}
