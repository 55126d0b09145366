//! What is on record of each mutant, and the page that is made of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use heirloom_proto::mutants::Mutant;

use super::{Catch, Setting};
use crate::focus::Focus;
use crate::plan::Shape;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file() -> PathBuf {
    root().join("tests/sim/mutants.txt")
}

/// Where the table lies.
pub fn page() -> PathBuf {
    root().join("docs/mutants.md")
}

/// What is on record for each mutant.
///
/// **Errors:** the file can't be read, or a line of it not be understood.
pub fn recorded() -> io::Result<BTreeMap<Mutant, Catch>> {
    let text = std::fs::read_to_string(file())?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| read_line(line).ok_or_else(|| io::Error::other(format!("{}: {line}", file().display())))).collect()
}

fn read_line(line: &str) -> Option<(Mutant, Catch)> {
    let mut words = line.splitn(4, ' ');
    let name = words.next()?;
    let mutant = *Mutant::ALL.iter().find(|mutant| mutant.name() == name)?;
    let (how, law) = (words.next()?, words.next()?);
    let rest = words.next()?.to_owned();
    let law = || law.parse::<u8>().ok();
    let caught = match how {
        "world" => {
            let words: Vec<&str> = rest.split(' ').collect();
            let [shape, focus, seed, tried] = words[..] else { return None };
            let shape = match shape {
                "any" => None,
                name => Some(Shape::ALL.into_iter().find(|shape| format!("{shape:?}") == name)?),
            };
            let focus = Focus::ALL.into_iter().find(|known| format!("{known:?}") == focus)?;
            let setting = Setting { seed: seed.parse().ok()?, shape, focus };
            Catch::World { law: law()?, setting, tried: tried.parse().ok()? }
        }
        "story" => Catch::Story { law: law()?, test: rest },
        "model" => Catch::Model { law: law()?, what: rest },
        "nothing" => Catch::Nothing { why: rest },
        _ => return None,
    };
    Some((mutant, caught))
}

pub(crate) fn line(mutant: Mutant, catch: &Catch) -> String {
    let name = mutant.name();
    match catch {
        Catch::World { law, setting: Setting { seed, shape, focus }, tried } => {
            let shape = shape.map_or("any".to_owned(), |shape| format!("{shape:?}"));
            format!("{name} world {law} {shape} {focus:?} {seed} {tried}")
        }
        Catch::Story { law, test } => format!("{name} story {law} {test}"),
        Catch::Model { law, what } => format!("{name} model {law} {what}"),
        Catch::Nothing { why } => format!("{name} nothing - {why}"),
    }
}

pub(crate) fn write_record(record: &BTreeMap<Mutant, Catch>) -> io::Result<()> {
    let mut text = String::from(
        "# What catches each mutant. The lines `world` are written by `cargo sim -- mutants --write`; the others by hand:\n\
         #   NAME world LAW SHAPE FOCUS SEED TRIED | NAME story LAW TEST | NAME model LAW WORLD, STATES | NAME nothing - WHY\n",
    );
    for (mutant, catch) in record {
        writeln!(text, "{}", line(*mutant, catch)).expect("a string takes all");
    }
    std::fs::write(file(), text)?;
    std::fs::write(page(), table(record))
}

/// The page, made from what is on record.
pub fn table(record: &BTreeMap<Mutant, Catch>) -> String {
    let mut text = String::from(
        "# Mutants\n\n\
         Made by `cargo sim -- mutants --write` of what it finds and of `tests/sim/mutants.txt`; not written by hand.\n\n\
         Each mutant leaves out one rule of the [protocol](protocol.md), in the code that ships, behind a switch that is \
         compiled in for tests alone (`proto/src/mutants.rs`).\n\
         Laws are those of `tests/laws/src/laws.rs`.\n\
         `cargo sim -- mutants --name NAME --replay` tells the story of the world that caught it.\n\
         The tests `cargo test -p heirloom-sim --test mutants` and `cargo test -p heirloom-node --test mutants` run each \
         catch again, with the fault, when the law must break, and without, when none may.\n\n\
         | mutant | rule that it leaves out | section | caught by | how |\n|---|---|---|---|---|\n",
    );
    let mut open = String::new();
    for mutant in Mutant::ALL {
        let (name, rule, section) = (mutant.name(), mutant.rule(), mutant.section());
        let (law, how) = match record.get(mutant) {
            Some(Catch::World { law, setting, tried }) => {
                let shape = setting.shape.map_or("drawn by the seed".to_owned(), |shape| format!("`{shape:?}`"));
                let focus = setting.focus;
                let seed = setting.seed;
                (*law, format!("simulator, shape {shape}, focus `{focus:?}`, seed {seed}; worlds looked at: {tried}"))
            }
            Some(Catch::Story { law, test }) => (*law, format!("story `{test}`")),
            Some(Catch::Model { law, what }) => (*law, format!("model, {what}")),
            Some(Catch::Nothing { why }) => {
                writeln!(open, "| `{name}` | {rule} | {section} | {why} |").expect("a string takes all");
                continue;
            }
            None => continue,
        };
        writeln!(text, "| `{name}` | {rule} | {section} | {} | {how} |", law_name(law)).expect("a string takes all");
    }
    if !open.is_empty() {
        text += "\n## Not caught, and why\n\n| mutant | rule that it leaves out | section | why |\n|---|---|---|---|\n";
        text += &open;
    }
    text
}

fn law_name(law: u8) -> String {
    match law {
        7 => "law 7 (history checker)".to_owned(),
        12 => "law 12 (an assertion of the core)".to_owned(),
        law => format!("law {law}"),
    }
}
