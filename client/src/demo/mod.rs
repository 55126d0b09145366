//! `heirloom demo`: a failover to watch, on real server processes.
//!
//! A cluster of three is started in a temporary folder, writers write without pause, the primary is killed with SIGKILL,
//! another server takes over, the dead one comes back; then it is checked that nothing acknowledged was lost or applied
//! twice and that all dictionaries are equal.

mod cluster;
mod journal;
mod ports;
mod screen;
mod story;
mod verdict;
mod writers;

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Failure;
use cluster::Cluster;
use screen::Screen;

/// After how long something must be wrong.
const DEMO_MAX: Duration = Duration::from_secs(28);

/// Show a failover.
#[derive(Args, Debug)]
pub struct Demo {
    /// How often the primary is killed.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=5))]
    rounds: u8,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let screen = Screen::new();
        let mut cluster = Cluster::prepare()?;
        let interrupted = interruption()?;
        let told = tokio::select! {
            // First, so that what the end of the terminal breaks beside is not taken for a fault.
            biased;
            () = interrupted => {
                cluster.stop().await;
                return Err(Failure::Unavailable("the demo was interrupted; its servers are stopped".to_owned()));
            }
            told = tokio::time::timeout(DEMO_MAX, story::tell(&screen, &mut cluster, self.rounds)) => {
                told.unwrap_or_else(|_| {
                    Err(Failure::Unavailable(format!("the demo did not come to its end within {DEMO_MAX:?}")))
                })
            }
        };
        let told = told.map_err(|failure| match failure {
            // It is no fault of the servers, but the verdict was not shown either.
            Failure::NobodyReads => Failure::Unavailable(
                "the demo could not show its verdict: nobody reads its output; its servers are stopped".to_owned(),
            ),
            failure => failure.and_then(&cluster.last_words()),
        });
        cluster.stop().await;
        told
    }
}

/// Ends when the user or the system asks for it.
fn interruption() -> Result<impl Future<Output = ()>, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::Unavailable(format!("signals can't be waited for: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hang_up = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
