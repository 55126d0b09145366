//! `heirloom-sim`: replays one world or searches many.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use heirloom_sim::{Options, Report, Shape, distances, run, run_many};

const USAGE: &str =
    "usage: heirloom-sim [--seed N [--trace]] [--seeds A..B] [--minutes M] [--shape NAME] [--failures N]
       heirloom-sim distances [--write]
  --seed N       replay the world of this seed; with --trace tell its whole story
  --seeds A..B   run the worlds of these seeds (default 0..1000)
  --minutes M    search new seeds, from A on, for so long
  --shape NAME   One, Two, TwoAndWitness, Three, ThreeLoose, ThreeStrict, ThreeAndTwoWitnesses, Five
  --failures N   stop after so many failing worlds (default 10)";

/// How many lines of the story of a failing world are shown.
const LINES_SHOWN: usize = 300;

struct Wanted {
    seed: Option<u64>,
    seeds: std::ops::Range<u64>,
    minutes: Option<f64>,
    shape: Option<Shape>,
    failures_max: usize,
    trace: bool,
}

/// The page of the distances, from the root of the repository.
const DISTANCES: &str = "docs/evidence/distances.md";

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["distances"] => return write!(out, "{}", distances::page()).map(|()| ExitCode::SUCCESS),
        ["distances", "--write"] => {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            std::fs::write(root.join(DISTANCES), distances::page())?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let Some(wanted) = parse(std::env::args().skip(1)) else {
        writeln!(io::stderr(), "{USAGE}")?;
        return Ok(ExitCode::from(2));
    };
    if let Some(seed) = wanted.seed {
        let report = run(seed, Options { traced: true, shape: wanted.shape });
        let shown = if wanted.trace { usize::MAX } else { LINES_SHOWN };
        return tell(&mut out, &report, if wanted.trace || report.violation.is_some() { shown } else { 0 });
    }
    let limit = wanted.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let seeds = if limit.is_some() { wanted.seeds.start..u64::MAX } else { wanted.seeds };
    let summary = run_many(seeds, wanted.shape, limit, wanted.failures_max);
    write!(out, "{summary}")?;
    match summary.failures.first() {
        Some((seed, _, _)) => {
            writeln!(out, "\nthe story of seed {seed}:")?;
            tell(&mut out, &run(*seed, Options { traced: true, shape: wanted.shape }), LINES_SHOWN)
        }
        None => Ok(ExitCode::SUCCESS),
    }
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
    let mut wanted = Wanted { seed: None, seeds: 0..1000, minutes: None, shape: None, failures_max: 10, trace: false };
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
            _ => return None,
        }
    }
    Some(wanted)
}
