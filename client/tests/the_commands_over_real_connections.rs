//! The commands against fake servers on real connections: how they end, when, and what they leave behind.
//!
//! Each runs in a runtime of its own that ends with it, as in the executable: what a command leaves to a task in the
//! background is not done.

mod fake;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fake::{Script, Shared, cluster};
use heirloom_proto::Refusal;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: heirloom::cli::Command,
}

/// How much later than its time-out a command may end on a machine that is busy.
const LATE_MAX: Duration = Duration::from_millis(400);

/// Runs a command against these servers to its end, and sees that it ends in time.
fn run(servers: &str, line: &[&str], timeout_ms: u64) -> ExitCode {
    let timeout = format!("{timeout_ms}ms");
    let words = [&["heirloom"], line, &["--servers", servers, "--timeout", &timeout]].concat();
    let command = Line::try_parse_from(words).expect("a good line").command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let began = Instant::now();
    let limit = Duration::from_secs(30);
    let run = async { tokio::time::timeout(limit, command.run()).await.expect("it hangs") };
    let code = runtime.block_on(run);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(timeout_ms) + LATE_MAX, "{line:?} took {took:?}, its time-out is {timeout}");
    code
}

fn addresses(shared: &Shared) -> String {
    shared.lock().addresses.join(",")
}

/// Lets the opening of a session pass.
const PASS: Script = Script::Delay(Duration::ZERO);

#[test]
fn a_command_that_is_refused_closes_its_session() {
    let (shared, _servers) = cluster(3);
    shared.script(0, [PASS, Script::Refuse(Refusal::BadValue { bytes_max: 1 })]);
    assert_eq!(run(&addresses(&shared), &["add", "k", "value"], 5_000), ExitCode::from(2));
    let world = shared.lock();
    assert_eq!((world.opened, world.sessions.len()), (1, 0));
}

#[test]
fn a_command_that_is_never_answered_closes_its_session_and_ends_in_time() {
    let (shared, _servers) = cluster(3);
    shared.script(0, [PASS]);
    shared.script(0, vec![Script::Swallow; 1_000]);
    assert_eq!(run(&addresses(&shared), &["add", "k", "v"], 1_000), ExitCode::from(3));
    let world = shared.lock();
    assert_eq!((world.applied, world.opened, world.sessions.len()), (1, 1, 0));
}

#[test]
fn nothing_outlasts_its_time_where_servers_are_silent() {
    let (shared, _servers) = cluster(3);
    for server in 0..3 {
        shared.script(server, vec![Script::Swallow; 1_000]);
        shared.lock().status_silences.insert(server, u32::MAX);
    }
    let servers = addresses(&shared);
    for line in [&["add", "k", "v"][..], &["read", "k"], &["promote", "1"], &["fence", "1", "--it-is-off"], &["status"]]
    {
        assert_eq!(run(&servers, line, 600), ExitCode::from(3), "{line:?}");
    }
}

#[test]
fn nothing_outlasts_its_time_where_something_else_listens() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let servers = silent.local_addr().expect("bound").to_string();
    for line in [&["add", "k", "v"][..], &["read", "k"], &["promote", "1"], &["fence", "1", "--it-is-off"], &["status"]]
    {
        assert_eq!(run(&servers, line, 600), ExitCode::from(3), "{line:?}");
    }
}
