//! `heirloom-histories`: runs real servers under faults and judges what their clients saw; or judges a history.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use heirloom_histories::disk::SteeredFiles;
use heirloom_histories::{
    Demands, Executable, Fault, FaultSet, Network, Options, Series, Shape, Told, judge, obstacle, read_lines, reads,
    run,
};
use heirloom_laws::{command_line, evidence};
use heirloom_server::settings::{ServeFlags, Settings, units};
use heirloom_server::{Failure, Rate, listen};
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
    /// Show what reads at every member promise: many short runs on few keys, with clocks as far off as the bound allows;
    /// then with clocks ten times further off, with leases, which may break, and without, which must not. Exit codes as of
    /// `run`.
    Reads(ReadsFlags),
    /// Judge a history: JSON lines with client, op, key, value, expected, start_ns, end_ns and result. Exit code 1 where
    /// a law is broken, 2 where it is no history.
    Check {
        /// The history.
        file: PathBuf,
    },
    /// One server, as `heirloom serve`, with a hand on its disk and its clock. What a run starts.
    #[command(hide = true)]
    Serve {
        #[command(flatten)]
        flags: Box<ServeFlags>,
        /// The file that says what the disk does.
        #[arg(long)]
        disk: PathBuf,
        /// How much faster its clock goes than the machine's.
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        clock_ppm: i32,
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
    /// How many operations a second all clients make together while all is well, beside those that append.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How many more clients append under one prefix.
    #[arg(long, default_value_t = 2)]
    appenders: u64,
    /// How long leases last; 0 turns them off.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    lease: Option<Duration>,
    /// Let the clocks of the servers be off by as much, one slow and one fast among them; 10000 is 1 %.
    #[arg(long, value_name = "PPM", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=500_000))]
    clock_ppm: i32,
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

#[derive(Args)]
struct ReadsFlags {
    /// How many runs with clocks within the bound.
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// How many runs of each kind with clocks beyond it.
    #[arg(long, default_value_t = 5)]
    beyond: u64,
    /// How long each run is.
    #[arg(long, default_value = "0.5", allow_negative_numbers = true, value_parser = minutes)]
    minutes: Duration,
    /// The seed of the first run; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clients read and write.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    clients: u64,
    /// How many keys they share.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How many operations a second all of them make together while all is well.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How many more clients append under one prefix.
    #[arg(long, default_value_t = 8)]
    appenders: u64,
    /// Where the servers live.
    #[arg(long, value_enum, default_value_t = Where::Auto)]
    network: Where,
    /// Write what came of it to docs/evidence/reads.md.
    #[arg(long)]
    write: bool,
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
        Command::Reads(flags) => judged(many(&flags)),
        Command::Check { file } => judged(check(&file)),
        Command::Serve { flags, disk, clock_ppm } => serve(*flags, disk, clock_ppm),
        Command::Client(command) => match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(Box::pin(command.run())),
            Err(error) => fail(3, &error.to_string()),
        },
    }
}

fn minutes(word: &str) -> Result<Duration, String> {
    command_line::minutes(word).ok_or_else(|| "give the minutes as a number, such as 1 or 0.5".to_owned())
}

/// The network for so many servers.
fn network(place: Where, servers: usize) -> Result<Network, String> {
    match (place, obstacle()) {
        (Where::Namespaces, Some(why)) => Err(why),
        (Where::Namespaces | Where::Auto, None) => Ok(Network::namespaces(servers)),
        (Where::Auto, Some(why)) => {
            say(&format!("no partitions: {why}\n"));
            Ok(Network::loopback(servers))
        }
        (Where::Loopback, _) => Ok(Network::loopback(servers)),
    }
}

fn own() -> Result<Executable, String> {
    std::env::current_exe().map(Executable::Own).map_err(|error| error.to_string())
}

/// Writes what the command line of this process printed to a page.
fn write_page(name: &str, title: &str, says: &str, printed: &str) -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("cargo run --release -p heirloom-histories -- {}", words.join(" "));
    let path = evidence::path(name);
    std::fs::write(&path, evidence::page(title, &command, says, printed))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn begin(flags: RunFlags) -> Result<(String, bool), String> {
    let shape = Shape { data: flags.servers, witnesses: usize::from(flags.witness) };
    let servers = shape.data + shape.witnesses;
    let clocks_ppm = Told::clocks(servers, flags.clock_ppm, flags.seed);
    let report = run(Options {
        shape,
        network: Arc::new(network(flags.network, servers)?),
        executable: flags.heirloom.map_or_else(own, |path| Ok(Executable::Shipped(path)))?,
        told: Told { lease: flags.lease, clocks_ppm },
        seed: flags.seed,
        time: flags.minutes,
        faults: flags.faults,
        workers: flags.clients,
        commands: flags.commands,
        appenders: flags.appenders,
        keys: flags.keys,
        rate: flags.rate,
        demands: Demands::All { failovers_min: flags.failovers_min },
        out: flags.out,
        folder: flags.folder,
        quiet: flags.quiet,
    })?;
    if flags.write {
        let says = "Real servers, each a process of its own, hurt while clients work through the library and the command \
                    line; then what the clients saw is judged.";
        write_page("histories.md", "What clients of real servers saw", says, &report.to_string())?;
    }
    Ok((report.to_string(), report.is_good()))
}

/// The faults of short runs: those that move the place of the primary, and those that keep an old one from knowing it.
const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::PauseShort,
    Fault::PauseLong,
    Fault::HandOver,
    Fault::CutBoth,
    Fault::CutIn,
    Fault::CutOut,
    Fault::CutPair,
    Fault::Outlive,
];
/// Those that go with a long lease.
const LONG_FAULTS: [Fault; 2] = [Fault::Kill, Fault::Outlive];
/// What the default of `--drift` covers, and ten times as much.
const WITHIN_PPM: i32 = 10_000;
const BEYOND_PPM: i32 = 100_000;
/// A lease that lasts so much longer than the suspicion that clocks alone keep an old primary's reads from being stale.
const LONG_LEASE: Duration = Duration::from_secs(6);

fn many(flags: &ReadsFlags) -> Result<(String, bool), String> {
    let shape = Shape { data: 3, witnesses: 0 };
    let can_cut = network(flags.network, shape.data)?.can_cut();
    let series = |name, runs, lease, clock_ppm, may_break| {
        let faults = if lease == Some(LONG_LEASE) { &LONG_FAULTS[..] } else { &FAULTS };
        let faults = faults.iter().copied().filter(|fault| can_cut || !fault.is_cut()).collect();
        Series { name, runs, lease, clock_ppm, faults, may_break }
    };
    let all = [
        series("within the bound", flags.runs, None, WITHIN_PPM, false),
        series("within the bound, a long lease", flags.beyond, Some(LONG_LEASE), WITHIN_PPM, false),
        series("beyond the bound", flags.beyond, None, BEYOND_PPM, true),
        series("beyond the bound, a long lease", flags.beyond, Some(LONG_LEASE), BEYOND_PPM, true),
        series("beyond the bound, confirm", flags.beyond, Some(Duration::ZERO), BEYOND_PPM, false),
    ];
    let done = reads(&all, flags.seed, |seed| {
        Ok(Options {
            shape,
            network: Arc::new(network(flags.network, shape.data)?),
            executable: own()?,
            told: Told::default(),
            seed,
            time: flags.minutes,
            faults: FaultSet::All,
            workers: flags.clients,
            commands: 0,
            appenders: flags.appenders,
            keys: flags.keys,
            rate: flags.rate,
            demands: Demands::None,
            out: None,
            folder: None,
            quiet: true,
        })
    })?;
    if flags.write {
        let says = "Three real servers with clocks of different rates, hurt while clients read and write the same few keys \
                    at all members, by the library's choice and at a server of their own, and append under one prefix; \
                    each run by itself is judged.\nOne server's clock is slow and one is fast by the share that is named, \
                    the third is right or like one of them.\nA backup's reads are counted where it answered them by \
                    itself.\nBeyond the bound of `--drift`, 1 %, leases promise nothing: whether these runs break is a \
                    matter of luck, and that some do shows that the judgement can fail.\nWithout leases (`--lease 0`) \
                    every read is confirmed by a quorum, and no clock matters.";
        write_page("reads.md", "What reads at every member showed", says, &done.to_string())?;
    }
    Ok((done.failures.iter().map(|failure| format!("FAILED: {failure}\n")).collect(), done.failures.is_empty()))
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

/// As `heirloom serve`, but for the files and the clock.
fn serve(flags: ServeFlags, disk: PathBuf, clock_ppm: i32) -> ExitCode {
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let ours = Targets::new().with_target("heirloom", LevelFilter::INFO);
    tracing_subscriber::registry().with(lines.with_filter(ours)).init();
    let served = async {
        let clock = Rate::off_by(clock_ppm).map_err(Failure::Usage)?;
        let settings = Settings { clock, ..flags.settings().map_err(Failure::Usage)? };
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
