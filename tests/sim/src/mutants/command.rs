//! `heirloom-sim mutants`: looks for what catches each mutant.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use heirloom_laws::command_line::{self, Words, asks_for_help};
use heirloom_proto::mutants::Mutant;

use super::record::{line, recorded, write_record};
use super::{Catch, look_in, search};
use crate::focus::Focus;

const USAGE: &str = "usage: heirloom-sim mutants [--none | --name NAME [--replay]] [--seeds N] [--minutes M] [--write]
  --none       plant nothing, and look into worlds of every focus: no law may break
  --name NAME  this one only; else all but those that a story or nothing is on record for
  --replay     tell the story of the world on record
  --seeds N    look at so many worlds for each (default 20000)
  --minutes M  and for so long for each (default 5)
  --write      write what was found to tests/sim/mutants.txt and docs/mutants.md";

struct Wanted {
    named: Option<Mutant>,
    none: bool,
    replay: bool,
    write: bool,
    seeds: u64,
    limit: Duration,
}

fn parse(words: &mut Words<impl Iterator<Item = String>>) -> Option<Wanted> {
    let mut wanted = Wanted {
        named: None,
        none: false,
        replay: false,
        write: false,
        seeds: 20_000,
        limit: Duration::from_secs(300),
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--name" => {
                let name = words.next()?;
                wanted.named = Some(*Mutant::ALL.iter().find(|mutant| mutant.name() == name)?);
            }
            "--seeds" => wanted.seeds = words.next()?.parse().ok()?,
            "--minutes" => wanted.limit = command_line::minutes(&words.next()?)?,
            "--none" => wanted.none = true,
            "--write" => wanted.write = true,
            "--replay" => wanted.replay = true,
            _ => return None,
        }
    }
    Some(wanted)
}

/// The command `mutants`.
///
/// **Errors:** of writing.
pub fn command(out: &mut impl Write, words: impl Iterator<Item = String>) -> io::Result<ExitCode> {
    let words: Vec<String> = words.collect();
    if asks_for_help(words.iter().cloned()) {
        writeln!(out, "{USAGE}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = match Words::new(words.into_iter()).read_by(parse) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(command_line::refuse("heirloom-sim mutants", &why, USAGE)),
    };
    let limit = Some(wanted.limit);
    if wanted.none {
        let grounds: Vec<_> = Focus::ALL.into_iter().map(|focus| (None, focus)).collect();
        let broken = look_in(&grounds, None, wanted.seeds, limit);
        writeln!(out, "with nothing planted: {broken:?}")?;
        return Ok(if broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut record = recorded()?;
    let mut all = true;
    let by_world = |mutant: &Mutant| matches!(record.get(mutant), Some(Catch::World { .. }) | None);
    let mutants =
        wanted.named.map_or_else(|| Mutant::ALL.iter().copied().filter(by_world).collect(), |name| vec![name]);
    for mutant in mutants {
        if wanted.replay {
            all &= tell(out, mutant, record.get(&mutant))?;
            continue;
        }
        let begun = Instant::now();
        let caught = search(mutant, wanted.seeds, limit);
        let seconds = begun.elapsed().as_secs_f64();
        match caught {
            Some(caught) => {
                writeln!(out, "{} ({seconds:.1} s)", line(mutant, &caught))?;
                // A mutant that is known to cost progress alone is not caught by a world that waits in vain.
                let safety = matches!(caught, Catch::World { law: 1..=9, .. });
                let by_hand = match record.get(&mutant) {
                    Some(Catch::Story { .. } | Catch::Model { .. }) => true,
                    Some(Catch::Nothing { .. }) => !safety,
                    Some(Catch::World { .. }) | None => false,
                };
                if !by_hand {
                    record.insert(mutant, caught);
                }
            }
            None => {
                writeln!(out, "{} was not caught ({seconds:.1} s)", mutant.name())?;
                all &= record.contains_key(&mutant);
            }
        }
        out.flush()?;
    }
    if wanted.write {
        write_record(&record)?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells the story of the world on record; false where none is, or no law breaks in it.
fn tell(out: &mut impl Write, mutant: Mutant, catch: Option<&Catch>) -> io::Result<bool> {
    let Some(Catch::World { setting, .. }) = catch else {
        writeln!(out, "{}: no world is on record", mutant.name())?;
        return Ok(false);
    };
    let report = setting.run(Some(mutant), true);
    for line in &report.trace {
        writeln!(out, "{line}")?;
    }
    for status in &report.statuses {
        writeln!(out, "{status}")?;
    }
    match &report.violation {
        Some(violation) => writeln!(out, "{}: {setting:?} broke {violation}", mutant.name())?,
        None => writeln!(out, "{}: {setting:?} broke no law", mutant.name())?,
    }
    Ok(report.violation.is_some())
}
