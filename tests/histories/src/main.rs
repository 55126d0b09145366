//! `heirloom-histories`: runs real servers under faults and judges what their clients saw; or judges a history.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use heirloom_histories::disk::SteeredFiles;
use heirloom_histories::{Executable, FaultSet, Network, Options, Shape, judge, obstacle, read_lines, run};
use heirloom_laws::{command_line, evidence};
use heirloom_server::settings::ServeFlags;
use heirloom_server::{Failure, listen};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// Histories of real processes under faults, and their judgement.
#[derive(Parser)]
#[command(name = "heirloom-histories")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start servers, hurt them while clients work, and judge what the clients saw. Exit code 1 where a law is broken,
    /// where too little happened, or where it was interrupted; 2 where it could not be begun.
    Run(RunFlags),
    /// Judge a history: JSON lines with client, op, key, value, expected, start_ns, end_ns and result. Exit code 1 where
    /// a law is broken, 2 where it is no history.
    Check {
        /// The history.
        file: PathBuf,
    },
    /// One server, as `heirloom serve`, with a hand on its disk. What a run starts.
    #[command(hide = true)]
    Serve {
        #[command(flatten)]
        flags: Box<ServeFlags>,
        /// The file that says what the disk does.
        #[arg(long)]
        disk: PathBuf,
    },
    /// The client commands, as `heirloom` has them. What a run starts.
    #[command(flatten)]
    Client(heirloom::cli::Command),
}

#[derive(Args)]
struct RunFlags {
    /// How many servers hold data.
    #[arg(long, default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=7))]
    servers: usize,
    /// One more voter, without data.
    #[arg(long)]
    witness: bool,
    /// How long, at least.
    #[arg(long, default_value = "1", allow_negative_numbers = true, value_parser = minutes)]
    minutes: Duration,
    /// Faults and calls are drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// all, none, or names separated by commas.
    #[arg(long, default_value = "all")]
    faults: FaultSet,
    /// Where the servers live: by default in namespaces where these can be made.
    #[arg(long, value_enum, default_value_t = Where::Auto)]
    network: Where,
    /// How many clients use the library.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..))]
    clients: u64,
    /// How many clients use the command line.
    #[arg(long, default_value_t = 1)]
    commands: u64,
    /// How many keys are in use at a time.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How many operations a second all clients make together while all is well.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// With fewer failovers the run fails, for it shows nothing.
    #[arg(long, default_value_t = 3)]
    failovers_min: usize,
    /// Write the history there.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write the summary to docs/evidence/histories.md.
    #[arg(long)]
    write: bool,
    /// Keep data and logs there.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Run this `heirloom` instead of the server that is built into this program; then disks can't be hurt.
    #[arg(long, value_name = "PATH")]
    heirloom: Option<PathBuf>,
    /// Do not tell of each fault.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    Auto,
    Loopback,
    Namespaces,
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Run(flags) => judged(begin(flags)),
        Command::Check { file } => judged(check(&file)),
        Command::Serve { flags, disk } => serve(*flags, disk),
        Command::Client(command) => match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(Box::pin(command.run())),
            Err(error) => fail(3, &error.to_string()),
        },
    }
}

fn minutes(word: &str) -> Result<Duration, String> {
    command_line::minutes(word).ok_or_else(|| "give the minutes as a number, such as 1 or 0.5".to_owned())
}

fn begin(flags: RunFlags) -> Result<(String, bool), String> {
    let shape = Shape { data: flags.servers, witnesses: usize::from(flags.witness) };
    let servers = shape.data + shape.witnesses;
    let network = match (flags.network, obstacle()) {
        (Where::Namespaces, Some(why)) => return Err(why),
        (Where::Namespaces | Where::Auto, None) => Network::namespaces(servers),
        (Where::Auto, Some(why)) => {
            say(&format!("no partitions: {why}\n"));
            Network::loopback(servers)
        }
        (Where::Loopback, _) => Network::loopback(servers),
    };
    let write = flags.write;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let report = run(Options {
        shape,
        network: Arc::new(network),
        executable: flags.heirloom.map_or(Executable::Own(own), Executable::Shipped),
        seed: flags.seed,
        time: flags.minutes,
        faults: flags.faults,
        workers: flags.clients,
        commands: flags.commands,
        keys: flags.keys,
        rate: flags.rate,
        failovers_min: flags.failovers_min,
        out: flags.out,
        folder: flags.folder,
        quiet: flags.quiet,
    })?;
    if write {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let command = format!("cargo run --release -p heirloom-histories -- {}", words.join(" "));
        let says = "Real servers, each a process of its own, hurt while clients work through the library and the command \
                    line; then what the clients saw is judged.";
        let page = evidence::page("What clients of real servers saw", &command, says, &report.to_string());
        let path = evidence::path("histories.md");
        std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok((report.to_string(), report.is_good()))
}

fn check(file: &PathBuf) -> Result<(String, bool), String> {
    let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let history = read_lines(BufReader::new(opened)).map_err(|what| format!("{}: {what}", file.display()))?;
    let begun = Instant::now();
    let judged = judge(&history, None);
    if history.is_empty() {
        return Err(format!("{}: no operations, so there is nothing to judge", file.display()));
    }
    let mut told = format!("{judged}in {:.2?}\n", begun.elapsed());
    if judged.violations.is_empty() {
        told.push_str("linearizable\n");
    }
    Ok((told, judged.violations.is_empty()))
}

fn judged(outcome: Result<(String, bool), String>) -> ExitCode {
    match outcome {
        Ok((told, good)) => {
            say(&told);
            if good { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(what) => fail(2, &what),
    }
}

/// As `heirloom serve`, but for the files.
fn serve(flags: ServeFlags, disk: PathBuf) -> ExitCode {
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let ours = Targets::new().with_target("heirloom", LevelFilter::INFO);
    tracing_subscriber::registry().with(lines.with_filter(ours)).init();
    let served = async {
        let settings = flags.settings().map_err(Failure::Usage)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::Machine(error.to_string()))?;
        let listener = listen(&settings).await?;
        let told_to_stop = async move {
            terminate.recv().await;
        };
        heirloom_server::run(settings, listener, Arc::new(SteeredFiles::new(disk)), told_to_stop).await
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match runtime.block_on(Box::pin(served)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => fail(failure.exit_code(), &failure.to_string()),
        },
        Err(error) => fail(3, &error.to_string()),
    }
}

fn say(text: &str) {
    // Nobody may be reading, which changes nothing.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn fail(code: u8, what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "heirloom-histories: {what}");
    ExitCode::from(code)
}
