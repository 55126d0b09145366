//! The commands that talk to servers. `heirloom serve`, `heirloom recover` and `heirloom snapshot restore` are the server's
//! own, in its crate.
//!
//! Standard output carries the answer and nothing else; messages go to standard error. What an exit code means is in
//! `failure.rs`.

mod again;
mod change;
mod export;
mod failure;
mod fence;
mod import;
pub(crate) mod operator;
mod options;
pub(crate) mod output;
mod printer;
mod progress;
mod promote;
mod range;
mod read;
mod scan;
mod signals;
pub mod snapshot;
mod status;
mod table;
pub(crate) mod text;
mod verify;
mod watch;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use failure::Failure;
pub use options::Format;
pub use progress::Progress;

/// The client commands, to be flattened into a command line.
#[derive(Debug, Subcommand)]
// The words above are for programmers; without this they would replace those of the command line as a whole.
#[command(about = None, long_about = None)]
// Words here would take the place of what each command says of itself.
#[allow(missing_docs, reason = "each is documented where it is defined")]
pub enum Command {
    Add(change::Add),
    Read(read::Read),
    Scan(scan::Scan),
    Delete(change::Delete),
    Append(change::Append),
    Watch(watch::Watch),
    Export(export::Export),
    Import(import::Import),
    Status(status::Status),
    Verify(verify::Verify),
    Promote(promote::Promote),
    Fence(fence::Fence),
    Demo(crate::demo::Demo),
}

impl Command {
    /// Runs the command to its end and says how it ended.
    pub async fn run(self) -> ExitCode {
        let done = match self {
            Self::Add(add) => Box::pin(add.run()).await,
            Self::Read(read) => Box::pin(read.run()).await,
            Self::Scan(scan) => Box::pin(scan.run()).await,
            Self::Delete(delete) => Box::pin(delete.run()).await,
            Self::Append(append) => Box::pin(append.run()).await,
            Self::Watch(watch) => Box::pin(watch.run()).await,
            Self::Export(export) => Box::pin(export.run()).await,
            Self::Import(import) => Box::pin(import.run()).await,
            Self::Status(status) => Box::pin(status.run()).await,
            Self::Verify(verify) => Box::pin(verify.run()).await,
            Self::Promote(promote) => Box::pin(promote.run()).await,
            Self::Fence(fence) => Box::pin(fence.run()).await,
            Self::Demo(demo) => Box::pin(demo.run()).await,
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.tell(),
        }
    }
}
