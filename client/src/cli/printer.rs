//! Output of any length, written beside what makes it.

use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;

/// Writes on a thread of its own: while nobody reads the output, the command must still end when it is told to.
pub(super) struct Printer {
    /// One batch is written and one waits; what is more is not taken from the servers.
    batches: Option<mpsc::Sender<Vec<u8>>>,
    end: oneshot::Receiver<Result<(), Failure>>,
}

impl Printer {
    /// Writes with this, until it fails.
    pub(super) fn start(mut write: impl FnMut(&[u8]) -> Result<(), Failure> + Send + 'static) -> Self {
        let (batches, mut taken) = mpsc::channel::<Vec<u8>>(1);
        let (ended, end) = oneshot::channel();
        thread::spawn(move || {
            let mut result = Ok(());
            while result.is_ok()
                && let Some(batch) = taken.blocking_recv()
            {
                result = write(&batch);
            }
            // The command may have ended meanwhile.
            let _ = ended.send(result);
        });
        Self { batches: Some(batches), end }
    }

    /// Why nothing more can be written, once that is so.
    pub(super) async fn failed(&mut self) -> Failure {
        match (&mut self.end).await {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) | Err(_) => Failure::Unavailable("the output ended".to_owned()),
        }
    }

    /// Takes lines to write; waits while there are enough of them.
    pub(super) async fn print(&mut self, lines: Vec<u8>) -> Result<(), Failure> {
        let batches = self.batches.as_ref().expect("it has not finished");
        if batches.send(lines).await.is_err() {
            return Err(self.failed().await);
        }
        Ok(())
    }

    /// Waits until all is written.
    pub(super) async fn finish(mut self) -> Result<(), Failure> {
        self.batches = None;
        (&mut self.end).await.unwrap_or(Ok(()))
    }
}
