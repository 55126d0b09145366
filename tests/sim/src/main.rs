//! `heirloom-sim`: replays one world or searches many.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use heirloom_laws::command_line::{self, Words, asks_for_help};
use heirloom_laws::evidence;
use heirloom_proto::mutants::{Mutant, plant};
use heirloom_sim::{Less, Options, Report, Shape, is_chatter, run, run_many, shrink};

const USAGE: &str = "usage: heirloom-sim --seed N [--trace | --shrink] [--shape NAME] [--mutant NAME]
       heirloom-sim [--seeds A..B] [--minutes M] [--shape NAME] [--failures N] [--write]
       heirloom-sim mutants | distances ...
  --seed N       replay the world of this seed; with --trace tell its whole story
  --shrink       find the smallest world of this seed that breaks the same law, and tell its story
  --seeds A..B   run the worlds of these seeds (default 0..1000)
  --minutes M    search new seeds, from A on (--seeds A, default 0), for so long
  --shape NAME   One, Two, TwoAndWitness, Three, ThreeLoose, ThreeStrict, ThreeAndTwoWitnesses, Five
  --failures N   stop after so many failing worlds (default 10)
  --write        write the summary to docs/evidence/simulation.md
ends with 0 where no law broke, 1 where one did, or where 500 worlds or more of any shape did not see all sights,
and 2 where this is not understood
of a single seed:
  --mutant NAME  with this fault planted (see docs/mutants.md)
and less than its whole world:
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
    seeds: Option<(u64, Option<u64>)>,
    limit: Option<Duration>,
    shape: Option<Shape>,
    failures_max: usize,
    trace: bool,
    write: bool,
    shrink: bool,
    mutant: Option<Mutant>,
    less: Less,
}

impl Wanted {
    fn options(&self) -> Options {
        Options { traced: true, shape: self.shape, less: self.less.clone(), ..Options::default() }
    }
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let words = || std::env::args().skip(1);
    if words().next().as_deref() == Some("mutants") {
        return heirloom_sim::mutants::command(&mut out, words().skip(1));
    }
    if words().next().as_deref() == Some("distances") {
        return heirloom_sim::distances::command(&mut out, words().skip(1));
    }
    if asks_for_help(words()) {
        writeln!(out, "{USAGE}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let (wanted, seeds) = match Words::new(words()).read_by(parse).and_then(sensible) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(command_line::refuse("heirloom-sim", &why, USAGE)),
    };
    if let Some(seed) = wanted.seed {
        let _planted = wanted.mutant.map(plant);
        if wanted.shrink {
            return tell_shrunk(&mut out, seed, &wanted);
        }
        let report = run(seed, &wanted.options());
        let shown = if wanted.trace { usize::MAX } else { LINES_SHOWN };
        return tell(&mut out, &report, if wanted.trace || report.violation.is_some() { shown } else { 0 });
    }
    let summary = run_many(seeds, wanted.shape, wanted.limit, wanted.failures_max);
    write!(out, "{summary}")?;
    if wanted.write {
        let (words, printed) = (words().collect::<Vec<_>>().join(" "), summary.to_string());
        let says = "Worlds drawn from their seeds, each with a cluster, clients and troubles of its own, on the node that \
                    ships; after every step the laws, at the end the history. `cargo sim -- --seed N` replays one of them.";
        let page = evidence::page("What the simulator has seen", &format!("cargo sim -- {words}"), says, &printed);
        std::fs::write(evidence::path("simulation.md"), page)?;
    }
    match summary.failures.first() {
        Some((seed, _, _)) => {
            writeln!(out, "\nseed {seed}, shrunk:")?;
            tell_shrunk(&mut out, *seed, &wanted)
        }
        None => {
            let unseen = summary.unseen(wanted.shape);
            if unseen.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            writeln!(out, "no law broke, and these were never seen: {unseen:?}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Tells the story of the smallest world that breaks the same law, and how to see it again.
fn tell_shrunk(out: &mut impl Write, seed: u64, wanted: &Wanted) -> io::Result<ExitCode> {
    let options = &wanted.options();
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
    let mutant = wanted.mutant.map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
    writeln!(out, "replay with: cargo sim -- {}{mutant} --trace", shrunk.command())?;
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
    let Some(violation) = &report.violation else {
        writeln!(out, "broke no law")?;
        return Ok(ExitCode::SUCCESS);
    };
    for status in &report.statuses {
        writeln!(out, "{status}")?;
    }
    writeln!(out, "broke {violation}")?;
    Ok(ExitCode::FAILURE)
}

fn parse(words: &mut Words<impl Iterator<Item = String>>) -> Option<Wanted> {
    let mut wanted = Wanted {
        seed: None,
        seeds: None,
        limit: None,
        shape: None,
        failures_max: 10,
        trace: false,
        write: false,
        shrink: false,
        mutant: None,
        less: Less::default(),
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => wanted.seed = Some(words.next()?.parse().ok()?),
            "--seeds" => {
                let range = words.next()?;
                let (first, end) = range.split_once("..").unwrap_or((&range, ""));
                let end = if end.is_empty() { None } else { Some(end.parse().ok()?) };
                wanted.seeds = Some((first.parse().ok()?, end));
            }
            "--minutes" => wanted.limit = Some(command_line::minutes(&words.next()?)?),
            "--failures" => wanted.failures_max = words.next()?.parse().ok().filter(|most| *most > 0)?,
            "--shape" => {
                let name = words.next()?;
                wanted.shape = Some(Shape::ALL.into_iter().find(|shape| format!("{shape:?}") == name)?);
            }
            "--mutant" => {
                let name = words.next()?;
                wanted.mutant = Some(*Mutant::ALL.iter().find(|mutant| mutant.name() == name)?);
            }
            "--trace" => wanted.trace = true,
            "--write" => wanted.write = true,
            "--shrink" => wanted.shrink = true,
            other => wanted.less.take(other, words)?,
        }
    }
    Some(wanted)
}

/// What is wanted, and which seeds where it is many; refused where a part of it would be passed over in silence.
fn sensible(wanted: Wanted) -> Result<(Wanted, std::ops::Range<u64>), String> {
    let many = wanted.seeds.is_some() || wanted.limit.is_some() || wanted.write;
    if wanted.seed.is_some() && many {
        return Err("--seed replays one world: leave out --seeds, --minutes and --write".to_owned());
    }
    // Many seeds have no faults of the same numbers.
    let one = wanted.trace || wanted.shrink || wanted.mutant.is_some() || !wanted.less.is_nothing();
    if wanted.seed.is_none() && one {
        return Err(
            "--trace, --shrink, --mutant and what leaves out a part of the world are for one world: give --seed N"
                .to_owned(),
        );
    }
    let seeds = match (wanted.seeds, wanted.limit) {
        (None, None) => 0..1000,
        (None, Some(_)) => 0..u64::MAX,
        (Some((first, None)), Some(_)) => first..u64::MAX,
        (Some((first, None)), None) => {
            return Err(format!("--seeds {first} has no end: use --seeds {first}..B or --minutes M"));
        }
        (Some((first, Some(end))), _) if first >= end => {
            return Err(format!("--seeds {first}..{end} holds no seed: B stands for the first one that is left out"));
        }
        (Some((_, Some(_))), Some(_)) => {
            return Err("--minutes goes on as long as there is time: give --seeds A without an end".to_owned());
        }
        (Some((first, Some(end))), None) => first..end,
    };
    Ok((wanted, seeds))
}
