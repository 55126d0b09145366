//! `heirloom-model`: searches small worlds.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use heirloom_laws::command_line::{self, Words, asks_for_help};
use heirloom_laws::evidence;
use heirloom_model::catches::{self, Catch};
use heirloom_model::{Found, Limits, Order, Rules, page, run_all, search, sharp, walk, worlds};
use heirloom_proto::mutants::Mutant;

const USAGE: &str =
    "usage: heirloom-model [--quick | --world NAME] [--states N] [--minutes M] [--walk S] [--mutant NAME] [--order ORDER]
                      [--write]
       heirloom-model mutants [--write]
  (nothing)      the quick worlds, those sharp for a fault, the long ones, then random walks
  mutants        each fault in the world that is meant for it
  --quick        the worlds of the test command alone
  --world NAME   this world alone
  --states N     look at no more than N states of a world (default 20 million)
  --minutes M    and for no longer than M minutes (default 20)
  --walk S       walk through each large world for S seconds (default 60)
  --mutant NAME  with this fault planted (see docs/mutants.md)
  --order ORDER  look first at the states with `most` on their way (the default), or `fewest` steps from the beginning
  --write        write what came of it to docs/evidence/model.md, or model-mutants.md
ends with 0 where no law broke and all was seen that should be, else 1, and 2 where this is not understood";

struct Wanted {
    mutants: bool,
    quick: bool,
    world: Option<Rules>,
    limits: Limits,
    walk: Duration,
    write: bool,
}

fn main() -> io::Result<ExitCode> {
    if asks_for_help(std::env::args().skip(1)) {
        writeln!(io::stdout(), "{USAGE}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = match Words::new(std::env::args().skip(1)).read_by(parse) {
        Ok(wanted) if wanted.quick && wanted.world.is_some() => {
            return Ok(command_line::refuse("heirloom-model", "--quick or --world, not both", USAGE));
        }
        Ok(wanted) => wanted,
        Err(why) => return Ok(command_line::refuse("heirloom-model", &why, USAGE)),
    };
    if wanted.mutants {
        return look_for_mutants(wanted.write);
    }
    let walks = worlds::walks();
    let (searched, walked): (Vec<Rules>, Vec<Rules>) = match &wanted.world {
        Some(world) if walks.iter().any(|walk| walk.name == world.name) => (Vec::new(), vec![world.clone()]),
        Some(world) => (vec![world.clone()], Vec::new()),
        None if wanted.quick => (worlds::quick(), Vec::new()),
        None => (worlds::quick().into_iter().chain(sharp()).chain(worlds::long()).collect(), walks),
    };
    let done = |_: &Rules, found: &Found| {
        // The search is not ended by a reader that is gone.
        let _ = writeln!(io::stdout(), "{found}");
        for sight in found.missing() {
            let _ = writeln!(io::stdout(), "  never seen: {sight:?}");
        }
    };
    let searched = run_all(&searched, |rules| search(rules.clone(), wanted.limits), done);
    let walking = Limits { states_max: usize::MAX, time_max: wanted.walk, order: Order::MostOnItsWay, fault: None };
    let walked = run_all(&walked, |rules| walk(rules, 1, walking), done);
    let bad = |found: &Found| found.violation.is_some() || !found.missing().is_empty();
    if searched.iter().chain(&walked).any(bad) {
        return Ok(ExitCode::FAILURE);
    }
    let states: usize = searched.iter().map(|found| found.states).sum();
    let steps: u64 = walked.iter().map(|found| found.steps).sum();
    writeln!(io::stdout(), "{states} states, distinct within each world, {steps} random steps: no law broken")?;
    if wanted.write {
        let words: Vec<String> = std::env::args().skip(1).collect();
        std::fs::write(evidence::path("model.md"), page(&words.join(" "), &searched, &walked))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Each fault in the world that is meant for it.
fn look_for_mutants(write: bool) -> io::Result<ExitCode> {
    let done = |catch: &Catch, found: &Found| {
        let how = if catch.is_caught(found) { "caught by" } else { "NOT CAUGHT by" };
        let _ = writeln!(io::stdout(), "{:<26} {how} law {} in {found}", catch.fault.name(), catch.law);
    };
    let found = catches::look_for(catches::CATCHES, done);
    let all = catches::CATCHES.iter().zip(&found).all(|(catch, found)| catch.is_caught(found));
    if all && write {
        std::fs::write(evidence::path("model-mutants.md"), catches::page_of_catches(&found))?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(words: &mut Words<impl Iterator<Item = String>>) -> Option<Wanted> {
    let limits =
        Limits { states_max: 20_000_000, time_max: Duration::from_secs(1200), order: Order::MostOnItsWay, fault: None };
    let walk = Duration::from_secs(60);
    let mut wanted = Wanted { mutants: false, quick: false, world: None, limits, walk, write: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--order" => {
                wanted.limits.order = match words.next()?.as_str() {
                    "most" => Order::MostOnItsWay,
                    "fewest" => Order::FewestSteps,
                    _ => return None,
                };
            }
            "mutants" => wanted.mutants = true,
            "--quick" => wanted.quick = true,
            "--world" => wanted.world = Some(worlds::named(&words.next()?)?),
            "--states" => wanted.limits.states_max = words.next()?.parse().ok()?,
            "--minutes" => wanted.limits.time_max = command_line::minutes(&words.next()?)?,
            "--walk" => wanted.walk = Duration::from_secs(words.next()?.parse().ok()?),
            "--mutant" => {
                let name = words.next()?;
                wanted.limits.fault = Some(*Mutant::ALL.iter().find(|mutant| mutant.name() == name)?);
            }
            "--write" => wanted.write = true,
            _ => return None,
        }
    }
    Some(wanted)
}
