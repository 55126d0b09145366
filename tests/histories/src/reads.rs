//! Reads at every member, over many short runs on few keys: with clocks as far off as the bound allows, and with clocks
//! beyond it, where leases may break and reads that confirm must not.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use heirloom_server::settings::units::duration_text;

use crate::check::Law;
use crate::cluster::Told;
use crate::faults::{Fault, FaultSet};
use crate::run::{Options, run};
use crate::summary::{Report, line};

/// Runs that differ in their seeds alone.
#[derive(Clone, Debug)]
pub struct Series {
    /// What they are, as the head of a sentence.
    pub name: &'static str,
    /// How many.
    pub runs: u64,
    /// `--lease`; the server's own default where it is none.
    pub lease: Option<Duration>,
    /// How far off the clocks are at most. **Units:** parts per million.
    pub clock_ppm: i32,
    /// What is done to the servers: every fault in some run.
    pub faults: Vec<Fault>,
    /// Whether the clocks are beyond what leases bear, so that linearizable reads may be wrong.
    pub may_break: bool,
}

/// All series, with what they came to.
#[derive(Debug, Default)]
pub struct Reads {
    /// What came of them, for people.
    pub told: String,
    /// What makes the whole fail, as sentences.
    pub failures: Vec<String>,
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "FAILED: {failure}"))
    }
}

/// What is counted over the runs of a series.
#[derive(Debug, Default)]
struct Total {
    runs: u64,
    broken: u64,
    operations: u64,
    at_backups: u64,
    failovers: usize,
    unknown: usize,
    answered: BTreeMap<&'static str, u64>,
    faults: BTreeMap<Fault, u64>,
}

/// Runs all series, one run after the other. `options` gives what a run is made of, without its faults, its clocks and its lease.
///
/// **Errors:** where a run could not be begun or written down, or somebody ended it.
pub fn reads(
    all: &[Series],
    first_seed: u64,
    options: impl Fn(u64) -> Result<Options, String>,
) -> Result<Reads, String> {
    let mut done = Reads::default();
    let mut seed = first_seed;
    for series in all {
        let lease = series.lease.map_or("300ms".to_owned(), duration_text);
        let off = f64::from(series.clock_ppm) / 1e4;
        done.say(&format!("{}: {} runs, --lease {lease}, clocks up to {off} % off", series.name, series.runs));
        let mut total = Total::default();
        for _ in 0..series.runs {
            let mut options = options(seed)?;
            let servers = options.shape.data + options.shape.witnesses;
            let clocks_ppm = Told::clocks(servers, series.clock_ppm, seed);
            options.told = Told { lease: series.lease, clocks_ppm: clocks_ppm.clone() };
            options.faults = FaultSet::These(series.faults.clone());
            let report = run(options)?;
            if report.stopped {
                return Err("somebody ended it before all runs were made: nothing is shown".to_owned());
            }
            done.take(series, &clocks_ppm, &report, &mut total);
            seed += 1;
        }
        done.close(series, &total);
    }
    Ok(done)
}

impl Reads {
    fn say(&mut self, text: &str) {
        line(text);
        let _ = writeln!(self.told, "{text}");
    }

    /// One run more.
    fn take(&mut self, series: &Series, clocks_ppm: &[i32], report: &Report, total: &mut Total) {
        let breaks: Vec<_> = report.judged.violations.iter().collect();
        let is_borne = |law: Law| series.may_break && law == Law::Linearizable;
        let wrong: Vec<_> = breaks.iter().filter(|violation| !is_borne(violation.law)).collect();
        let verdict = match (report.failures.first(), wrong.first(), breaks.len()) {
            (Some(failure), ..) => format!("FAILED: {failure}"),
            (None, Some(violation), _) => format!("FAILED: {}", violation.what),
            (None, None, 0) => "linearizable".to_owned(),
            (None, None, keys) => format!("not linearizable, {keys} keys"),
        };
        let clocks: Vec<String> = clocks_ppm.iter().map(|ppm| format!("{:+}", f64::from(*ppm) / 1e4)).collect();
        let clocks = if clocks.is_empty() { "right".to_owned() } else { format!("{} %", clocks.join(" ")) };
        let applied: u64 = report.faults.values().sum();
        self.say(&format!(
            "  seed {}, clocks {clocks}: {} operations, {} of a key at most; {} reads at backups, {} causal, {} stale; {} \
            appends; {applied} faults, {} failovers: {verdict}",
            report.seed,
            report.operations(),
            report.judged.operations_of_a_key_max,
            report.reads_at_backups,
            report.answered("read, causal"),
            report.answered("read, stale"),
            report.answered("append"),
            report.failovers,
        ));
        if !report.is_good() {
            // Not for a page: it names a folder of this machine.
            line(&report.to_string());
        }
        if let Some(kept) = report.kept.as_ref().filter(|_| report.failures.is_empty() && wrong.is_empty()) {
            // It broke as it may: the seed is enough.
            let _ = std::fs::remove_dir_all(kept);
        }
        let seed = report.seed;
        self.failures.extend(report.failures.iter().map(|failure| format!("seed {seed}: {failure}")));
        self.failures.extend(wrong.iter().map(|violation| format!("seed {seed}: {}", violation.what)));
        if total.broken == 0
            && let Some(first) = breaks.first().filter(|first| is_borne(first.law))
        {
            self.say(&format!("    the first: {}", first.what));
            for record in first.piece.iter().take(PIECE_MAX) {
                self.say(&format!("      {}", serde_json::to_string(record).unwrap_or_default()));
            }
        }
        total.runs += 1;
        total.broken += u64::from(!breaks.is_empty());
        total.operations += report.operations();
        total.at_backups += report.reads_at_backups;
        total.failovers += report.failovers;
        total.unknown += report.unknown;
        for op in ["read, causal", "read, stale", "append"] {
            *total.answered.entry(op).or_default() += report.answered(op);
        }
        for (fault, count) in &report.faults {
            *total.faults.entry(*fault).or_default() += count;
        }
    }

    /// The end of a series: what all its runs together must have shown.
    fn close(&mut self, series: &Series, total: &Total) {
        let Total { runs, broken, operations, at_backups, failovers, unknown, answered, faults: applied } = total;
        let applied_text: Vec<String> = applied.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
        self.say(&format!(
            "  {operations} operations, {unknown} changes of unknown outcome, {at_backups} reads at backups, {failovers} \
            failovers; faults: {}",
            applied_text.join(", ")
        ));
        self.say(&format!("  not linearizable: {broken} of {runs}\n"));
        let mut lacks = |what: &str| self.failures.push(format!("{}: {what}", series.name));
        if *runs == 0 {
            return;
        }
        let has_leases = series.lease != Some(Duration::ZERO);
        if has_leases && *at_backups == 0 {
            lacks("no backup answered a linearizable read by itself");
        }
        if *failovers == 0 {
            lacks("there was no failover");
        }
        for (op, _) in answered.iter().filter(|(_, count)| **count == 0) {
            lacks(&format!("not one was answered: {op}"));
        }
        for fault in series.faults.iter().filter(|fault| !applied.contains_key(fault)) {
            lacks(&format!("{fault} was never applied"));
        }
    }
}

/// How many operations of a piece are shown.
const PIECE_MAX: usize = 12;
