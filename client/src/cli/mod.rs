//! The commands that talk to servers. `heirloom serve` and `heirloom recover` are the server's own, in its crate.
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
mod status;
mod table;
pub(crate) mod text;
mod verify;
mod watch;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use failure::Failure;

/// The client commands, to be flattened into a command line.
#[derive(Debug, Subcommand)]
// The words above are for programmers; without this they would replace those of the command line as a whole.
#[command(about = None, long_about = None)]
pub enum Command {
    /// Add a key, or replace its value.
    Add(change::Add),
    /// Print the value of a key.
    Read(read::Read),
    /// Print keys and their values in the order of the keys, all at one version.
    Scan(scan::Scan),
    /// Delete a key.
    Delete(change::Delete),
    /// Add a value under a key that the primary makes: the prefix and the next number.
    Append(change::Append),
    /// Print changes as they are committed, each once and in order, through any failover.
    Watch(watch::Watch),
    /// Write keys and their values to a file, all as they were at one version.
    Export(export::Export),
    /// Add the keys of a file that `export` has written.
    Import(import::Import),
    /// Show all servers: who leads, how far each is, and whether they agree.
    Status(status::Status),
    /// Compare the copies of all servers: by their digests, and key by key where those differ.
    Verify(verify::Verify),
    /// Hand the part of the primary over to a server, with nothing lost.
    Promote(promote::Promote),
    /// Give your word, as proof of death, that a server is off.
    Fence(fence::Fence),
    /// Watch a failover: a cluster of three in a temporary folder, whose primary is killed while it writes.
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
