//! Commands, run as the executable runs them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::fake::Shared;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: heirloom::cli::Command,
}

/// How much later than its time-out a command may end on a machine that is busy.
const LATE_MAX: Duration = Duration::from_millis(400);

/// Runs a command against these servers to its end, and sees that it ends in time.
#[allow(dead_code, reason = "not every test is about time")]
pub(crate) fn run(servers: &str, line: &[&str], timeout_ms: u64) -> ExitCode {
    let began = Instant::now();
    let code = run_to_end(servers, line, timeout_ms);
    let took = began.elapsed();
    let timeout = Duration::from_millis(timeout_ms);
    assert!(took < timeout + LATE_MAX, "{line:?} took {took:?}, its time-out is {timeout:?}");
    code
}

/// Runs a command against these servers to its end.
pub(crate) fn run_to_end(servers: &str, line: &[&str], timeout_ms: u64) -> ExitCode {
    let timeout = format!("{timeout_ms}ms");
    let words = [&["heirloom"], line, &["--servers", servers, "--timeout", &timeout]].concat();
    let command = Line::try_parse_from(words).expect("a good line").command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limit = Duration::from_secs(30);
    let run = async { tokio::time::timeout(limit, command.run()).await.expect("it hangs") };
    runtime.block_on(run)
}

/// The servers, as `--servers` takes them.
pub(crate) fn addresses(shared: &Shared) -> String {
    shared.lock().addresses.join(",")
}
