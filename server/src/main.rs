//! The executable `heirloom`: a server, and the commands of its users and operators.

mod commands;
mod log;

use std::process::ExitCode;

use clap::Parser;

/// A replicated dictionary: primary-backup replication with failover.
#[derive(Parser)]
#[command(name = "heirloom", version, max_term_width = 100)]
struct CommandLine {
    /// How much a server logs on standard error.
    #[arg(long, env = "HEIRLOOM_LOG", value_enum, default_value_t = log::Level::Info, global = true)]
    log: log::Level,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    log::begin(line.log);
    // One thread for everything but the disk was the fastest by measurement, and leaves the other cores to the clients.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Box::pin(line.command.run())),
        Err(error) => commands::fail(3, &format!("no runtime to be had: {error}")),
    }
}
