//! The commands that run or mend a server; those that talk to one are the client's.

mod snapshot;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use heirloom_server::settings::{ServeFlags, Settings};
use heirloom_server::storage::{self, OsFiles};
use heirloom_server::{Failure, listen, run};
use tokio::signal::unix::{SignalKind, signal};

/// What `heirloom` does.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run one server. With no options: a cluster of one on 127.0.0.1:7400 with ./heirloom-data.
    Serve(Box<ServeFlags>),
    /// Last resort, offline: start a new generation of the cluster from one server's data.
    Recover(RecoverFlags),
    /// Save all data to a file, and make a new cluster from one.
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// What talks to servers.
    #[command(flatten)]
    Client(heirloom::cli::Command),
}

/// The options of `heirloom recover`.
#[derive(Args)]
pub(crate) struct RecoverFlags {
    /// The data directory of the server from which the cluster goes on. No server may be using it.
    #[arg(long, env = "HEIRLOOM_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// Says that what other servers know and this one does not will be lost, answered writes too.
    #[arg(long)]
    accept_losing_newer_writes: bool,
}

impl Command {
    /// Runs the command to its end.
    pub(crate) async fn run(self) -> ExitCode {
        match self {
            Self::Serve(flags) => match serve(*flags).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => fail(failure.exit_code(), &failure.to_string()),
            },
            Self::Recover(flags) => recover(&flags),
            Self::Snapshot(snapshot) => Box::pin(snapshot.run()).await,
            Self::Client(command) => Box::pin(command.run()).await,
        }
    }
}

async fn serve(flags: ServeFlags) -> Result<(), Failure> {
    let settings: Settings = flags.settings().map_err(Failure::Usage)?;
    #[cfg(feature = "mutants")]
    let settings = plant(settings)?;
    let no_signals = |error: std::io::Error| Failure::Machine(format!("signals can't be waited for: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut told_to_stop = Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let listener = tokio::select! {
        listener = listen(&settings) => listener?,
        () = &mut told_to_stop => return Ok(()),
    };
    Box::pin(run(settings, listener, Arc::new(OsFiles), told_to_stop)).await
}

/// Plants the bug that the environment names, and says so loudly: this is no server for anybody's data.
#[cfg(feature = "mutants")]
fn plant(mut settings: Settings) -> Result<Settings, Failure> {
    use heirloom_server::mutants::Planted;
    settings.planted = Planted::from_environment().map_err(Failure::Usage)?;
    if settings.planted != Planted::NONE {
        let _ = writeln!(std::io::stderr(), "heirloom: a bug is planted in this server: {:?}", settings.planted);
    }
    Ok(settings)
}

fn recover(flags: &RecoverFlags) -> ExitCode {
    if !flags.accept_losing_newer_writes {
        return fail(
            2,
            "recover begins a new generation of the cluster from this server's data alone, and every write that others \
            have and it has not is lost: try everything else first, then add --accept-losing-newer-writes",
        );
    }
    match storage::recover(Arc::new(OsFiles), &flags.data_dir) {
        Ok(recovered) => {
            say(&recovered);
            ExitCode::SUCCESS
        }
        Err(error) => fail(error.exit_code(), &error.to_string()),
    }
}

fn say(recovered: &storage::Recovered) {
    let storage::Recovered { server, cluster, epoch, log_end, version, known_committed, was_member, .. } = recovered;
    let mut text = format!(
        "server {server} begins generation {} of cluster {:016x} in epoch {epoch}\n\
         version {version}, log end {log_end}, of which {known_committed} were known to be committed\n",
        cluster.generation, cluster.id
    );
    if !was_member {
        text.push_str("this server was catching up when it stopped: another one may have more\n");
    }
    text.push_str("start it again with its old options; start the others with theirs, and they are given its data\n");
    // A reader that has gone away is no failure of what was done.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Says what is wrong, and gives the exit code.
pub(crate) fn fail(code: u8, what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "heirloom: {what}");
    ExitCode::from(code)
}
