//! `heirloom-sim`: replays one world or searches many.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use heirloom_laws::evidence;
use heirloom_sim::{Less, Options, Report, Shape, is_chatter, run, run_many, shrink};

const USAGE: &str =
    "usage: heirloom-sim [--seed N [--trace] [--shrink]] [--seeds A..B] [--minutes M] [--shape NAME] [--failures N]
  --seed N       replay the world of this seed; with --trace tell its whole story
  --shrink       find the smallest world of this seed that breaks the same law, and tell its story
  --seeds A..B   run the worlds of these seeds (default 0..1000)
  --minutes M    search new seeds, from A on, for so long
  --shape NAME   One, Two, TwoAndWitness, Three, ThreeLoose, ThreeStrict, ThreeAndTwoWitnesses, Five
  --failures N   stop after so many failing worlds (default 10)
  --write        write the summary to docs/evidence/simulation.md
of a single seed, less than its whole world:
  --faults 3,7   only the faults of these numbers, or none; --without 3,7 all but these
  --only-faults Crash,Rot   only faults of these kinds
  --clients N, --calls N, --keys N, --turmoil-ms N   fewer, shorter; calls are of each client
  --hurry        the faults that are left come sooner
  --clean-network, --steady   messages in order and in time; clocks and disks without whims
  --shake N      other delays in the same world";

/// How many lines of the story of a failing world are shown.
const LINES_SHOWN: usize = 300;

struct Wanted {
    seed: Option<u64>,
    seeds: std::ops::Range<u64>,
    minutes: Option<f64>,
    shape: Option<Shape>,
    failures_max: usize,
    trace: bool,
    write: bool,
    shrink: bool,
    less: Less,
}

impl Wanted {
    fn options(&self) -> Options {
        Options { traced: true, shape: self.shape, less: self.less.clone(), ..Options::default() }
    }
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if std::env::args().nth(1).as_deref() == Some("mutants") {
        return heirloom_sim::mutants::command(&mut out, std::env::args().skip(2));
    }
    if std::env::args().nth(1).as_deref() == Some("distances") {
        return heirloom_sim::distances::command(&mut out, std::env::args().skip(2));
    }
    let Some(wanted) = parse(std::env::args().skip(1)) else {
        writeln!(io::stderr(), "{USAGE}")?;
        return Ok(ExitCode::from(2));
    };
    if let Some(seed) = wanted.seed {
        if wanted.shrink {
            return tell_shrunk(&mut out, seed, &wanted.options());
        }
        let report = run(seed, &wanted.options());
        let shown = if wanted.trace { usize::MAX } else { LINES_SHOWN };
        return tell(&mut out, &report, if wanted.trace || report.violation.is_some() { shown } else { 0 });
    }
    let limit = wanted.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let seeds = if limit.is_some() { wanted.seeds.start..u64::MAX } else { wanted.seeds.clone() };
    let summary = run_many(seeds, wanted.shape, limit, wanted.failures_max);
    write!(out, "{summary}")?;
    if wanted.write {
        let (words, printed) = (std::env::args().skip(1).collect::<Vec<_>>().join(" "), summary.to_string());
        let says = "Worlds drawn from their seeds, each with a cluster, clients and troubles of its own, on the node that \
                    ships; after every step the laws, at the end the history. `cargo sim -- --seed N` replays one of them.";
        let page = evidence::page("What the simulator has seen", &format!("cargo sim -- {words}"), says, &printed);
        std::fs::write(evidence::path("simulation.md"), page)?;
    }
    match summary.failures.first() {
        Some((seed, _, _)) => {
            writeln!(out, "\nseed {seed}, shrunk:")?;
            tell_shrunk(&mut out, *seed, &wanted.options())
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Tells the story of the smallest world that breaks the same law, and how to see it again.
fn tell_shrunk(out: &mut impl Write, seed: u64, options: &Options) -> io::Result<ExitCode> {
    let before = run(seed, &Options { traced: true, ..options.clone() });
    let Some(mut shrunk) = shrink(seed, options) else {
        return tell(out, &before, 0);
    };
    let lines = (before.trace.len(), shrunk.report.trace.len());
    shrunk.report.trace.retain(|line| !is_chatter(line));
    let told = shrunk.report.trace.len();
    let code = tell(out, &shrunk.report, LINES_SHOWN)?;
    writeln!(
        out,
        "shrunk in {} runs from {} faults, {} steps, {} operations and {} lines to {shrunk} and {} lines, {told} without chatter",
        shrunk.runs,
        before.troubles.len(),
        before.steps,
        before.operations,
        lines.0,
        lines.1
    )?;
    writeln!(out, "replay with: cargo sim -- {} --trace", shrunk.command())?;
    Ok(code)
}

fn tell(out: &mut impl Write, report: &Report, lines: usize) -> io::Result<ExitCode> {
    for line in &report.trace[report.trace.len().saturating_sub(lines)..] {
        writeln!(out, "{line}")?;
    }
    writeln!(
        out,
        "seed {} ({:?}): {} steps, {} operations, {} calls answered, {:.1} s, fingerprint {:016x}",
        report.seed,
        report.shape,
        report.steps,
        report.operations,
        report.answered,
        report.lasted.as_secs_f64(),
        report.fingerprint
    )?;
    let Some(violation) = &report.violation else { return Ok(ExitCode::SUCCESS) };
    for status in &report.statuses {
        writeln!(out, "{status}")?;
    }
    writeln!(out, "broke {violation}")?;
    Ok(ExitCode::FAILURE)
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted {
        seed: None,
        seeds: 0..1000,
        minutes: None,
        shape: None,
        failures_max: 10,
        trace: false,
        write: false,
        shrink: false,
        less: Less::default(),
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => wanted.seed = Some(words.next()?.parse().ok()?),
            "--seeds" => {
                let range = words.next()?;
                let (first, end) = range.split_once("..").unwrap_or((&range, ""));
                let end = if end.is_empty() { u64::MAX } else { end.parse().ok()? };
                wanted.seeds = first.parse().ok()?..end;
            }
            "--minutes" => wanted.minutes = Some(words.next()?.parse().ok().filter(|minutes| *minutes >= 0.0)?),
            "--failures" => wanted.failures_max = words.next()?.parse().ok()?,
            "--shape" => {
                let name = words.next()?;
                wanted.shape = Some(Shape::ALL.into_iter().find(|shape| format!("{shape:?}") == name)?);
            }
            "--trace" => wanted.trace = true,
            "--write" => wanted.write = true,
            "--shrink" => wanted.shrink = true,
            other => wanted.less.take(other, &mut words)?,
        }
    }
    // Many seeds have no faults of the same numbers.
    (wanted.seed.is_some() || wanted.less.is_nothing()).then_some(wanted)
}
