//! A run from its start to its verdict.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::check::judge;
use crate::clients::{Clients, Plan};
use crate::cluster::{Cluster, Executable, Shape, Told};
use crate::faults::{FaultSet, Injector};
use crate::finale;
use crate::hosts::Network;
use crate::record::{Record, write_lines};
use crate::stop::Stop;
use crate::summary::Report;

/// What to run.
#[derive(Debug)]
pub struct Options {
    /// Which servers.
    pub shape: Shape,
    /// Where.
    pub network: Arc<Network>,
    /// What is run as a server.
    pub executable: Executable,
    /// What the servers are told beside their places.
    pub told: Told,
    /// Faults and calls are drawn from it.
    pub seed: u64,
    /// How long, at least.
    pub time: Duration,
    /// Which faults.
    pub faults: FaultSet,
    /// How many workers use the library.
    pub workers: u64,
    /// How many workers use the command line.
    pub commands: u64,
    /// How many workers append.
    pub appenders: u64,
    /// How many keys are in use at a time.
    pub keys: u64,
    /// How many calls a second all workers make together, while all is well.
    pub rate: u64,
    /// Whether it has to show something by itself.
    pub demands: Demands,
    /// Where the history is written.
    pub out: Option<PathBuf>,
    /// Where data and logs are kept; a temporary folder otherwise, which is kept where the run fails.
    pub folder: Option<PathBuf>,
    /// Says nothing while it runs.
    pub quiet: bool,
}

/// What must be seen in a run: one in which nothing happened shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demands {
    /// All: every fault has its turn, however long that takes, and there are so many failovers at least.
    All {
        /// With fewer failovers nothing was shown.
        failovers_min: usize,
    },
    /// Nothing: it is one run of many, of which all together must show it.
    None,
}

/// Runs servers, faults and clients, and judges what came of it.
///
/// **Errors:** where it could not be begun or written down; what the servers did wrong is in the report.
pub fn run(options: Options) -> Result<Report, String> {
    // A thread of its own, for it moves to another network.
    let driver = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime to be had: {error}"))?;
        // From the first on, for a signal that nobody waits for ends the driver and leaves servers and namespaces behind.
        let stop = runtime.block_on(async { Stop::heard() })?;
        options.network.make()?;
        options.network.enter(options.network.outside())?;
        runtime.block_on(Box::pin(drive(options, stop)))
    });
    driver.join().unwrap_or_else(|_| Err("the driver panicked".to_owned()))
}

async fn drive(options: Options, mut stop: Stop) -> Result<Report, String> {
    if let Some(out) = &options.out {
        // Before servers are hurt for minutes.
        write(&[], out)?;
    }
    let temporary =
        tempfile::Builder::new().prefix("heirloom-histories-").tempdir().map_err(|error| error.to_string())?;
    let folder = options.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (executable, told) = (options.executable.clone(), options.told.clone());
    if matches!(executable, Executable::Shipped(_)) && told.clocks_ppm.iter().any(|ppm| *ppm != 0) {
        return Err("clocks that are off need a server with a steered clock: leave out --heirloom".to_owned());
    }
    let cluster = Cluster::new(options.network.clone(), options.shape, executable, told, folder);
    let cluster = Arc::new(cluster);
    // What is told of the faults and what stands in the history is in one clock.
    let begun = Instant::now();
    let mut injector =
        Injector::new(cluster.clone(), &options.faults, options.seed, options.told.lease, begun, options.quiet)?;
    for id in 0..cluster.servers() {
        cluster.start(id)?;
    }
    tokio::select! {
        whole = injector.whole("at the start") => whole?,
        death = cluster.a_death() => return Err(death),
        told = stop.told() => return Err(format!("{told} before the cluster was whole: nothing is judged")),
    }
    let plan = Plan {
        seed: options.seed,
        workers: options.workers,
        keys: options.keys,
        rate: options.rate,
        commands: (options.executable.path().to_owned(), options.commands),
        appenders: options.appenders,
        data: options.shape.data,
    };
    let clients = Clients::start(&options.network, &cluster.addresses, &plan, begun);
    let mut failures = Vec::new();
    let mut stopped = false;
    match hurt(&mut injector, options.time, options.demands, &mut stop).await {
        Ok(None) => {}
        Ok(Some(told)) => {
            stopped = true;
            failures.push(told);
        }
        Err(what) => failures.push(what),
    }
    let closing = async {
        injector.mend_all()?;
        if failures.is_empty() {
            failures.extend(injector.whole("when all was mended").await.err());
        }
        let stopped = tokio::task::spawn_blocking(move || clients.stop()).await;
        let (mut history, troubles) = stopped.map_err(|error| error.to_string())?;
        failures.extend(troubles);
        let end = finale::settle(&cluster).await.map_err(|what| failures.push(what)).ok();
        if end.is_some() {
            failures.extend(finale::read_all(&cluster, begun, &mut history).await.err());
        }
        Ok::<_, String>((history, end))
    };
    let (history, end) = tokio::select! {
        closed = closing => closed?,
        told = stop.told() => return Err(format!("{told} while the run was closed: nothing is judged")),
    };
    let deaths = std::iter::from_fn(|| cluster.take_death());
    failures.extend(deaths.map(|(id, how)| format!("server {id} ended by itself: {how}")));
    let unwritten = options.out.as_ref().and_then(|out| write(&history, out).err());
    failures.extend(unwritten.map(|what| format!("the history was not written: {what}")));

    let mut report = Report {
        seed: options.seed,
        ran: begun.elapsed(),
        faults: injector.counts(),
        judged: judge(&history, end.as_ref().map(|end| end.version)),
        end,
        failures,
        stopped,
        ..Report::of(&history)
    };
    if let Demands::All { failovers_min } = options.demands {
        sometimes(&mut report, &injector, &options, failovers_min);
    }
    if !report.is_good() && options.folder.is_none() {
        let kept = temporary.keep();
        write(&history, &kept.join("history.jsonl"))?;
        report.kept = Some(kept);
    }
    Ok(report)
}

/// Faults, until the time is over and what is demanded was seen, or somebody has seen enough: then how that was told.
async fn hurt(
    injector: &mut Injector,
    time: Duration,
    demands: Demands,
    stop: &mut Stop,
) -> Result<Option<String>, String> {
    let begun = Instant::now();
    let enough = |injector: &Injector| demands == Demands::None || injector.had_all();
    while begun.elapsed() < time || !enough(injector) {
        tokio::select! {
            round = injector.round() => round?,
            told = stop.told() => return Ok(Some(told)),
        }
    }
    Ok(None)
}

fn write(history: &[Record], path: &Path) -> Result<(), String> {
    let file = File::create(path).and_then(|file| write_lines(history, &mut BufWriter::new(file)));
    file.map_err(|error| format!("{}: {error}", path.display()))
}

/// A run in which nothing happened shows nothing.
fn sometimes(report: &mut Report, injector: &Injector, options: &Options, failovers_min: usize) {
    for fault in injector.set() {
        if !report.faults.contains_key(fault) {
            report.failures.push(format!("{fault} was never applied"));
        }
    }
    if report.failovers < failovers_min {
        report.failures.push(format!("only {} failovers were seen, and {failovers_min} are wanted", report.failovers));
    }
    let has_leases = options.told.lease != Some(Duration::ZERO);
    if has_leases && report.reads_at_backups == 0 {
        report.failures.push("no backup answered a linearizable read by itself".to_owned());
    }
    for weak in ["read, causal", "read, stale"] {
        if report.answered(weak) == 0 {
            report.failures.push(format!("not one was answered: {weak}"));
        }
    }
    if options.appenders > 0 && report.answered("append") == 0 {
        report.failures.push("nothing was appended".to_owned());
    }
    if report.unknown == 0 {
        report.failures.push("no change ended with an unknown outcome".to_owned());
    }
}
