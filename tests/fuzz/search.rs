//! Lets `cargo bolero` search from the corpora on, with an eye on the branches of the code.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{fs, thread};

use heirloom_fuzz::TARGETS;
use heirloom_laws::command_line::{self, Words, asks_for_help};
use heirloom_laws::evidence;

const USAGE: &str =
    "usage: cargo bench -p heirloom-fuzz --bench search -- [--minutes M] [--target NAME] [--jobs N] [--write]
  --minutes M    search for so long in each target (default 10)
  --target NAME  in this target alone
  --jobs N       in so many targets at a time (default 1)
  --write        write what came of it to docs/evidence/fuzzing.md
needs `cargo install cargo-bolero --version 0.13.5 --no-default-features --features libfuzzer` and a C++ compiler
what is found on the way, and every failing input, is kept under target/fuzz
ends with 0 where nothing was found, 1 where something was, and 2 where this is not understood or can't be done";

struct Wanted {
    minutes: Duration,
    targets: Vec<&'static str>,
    jobs: usize,
    write: bool,
}

fn main() -> io::Result<ExitCode> {
    if asks_for_help(std::env::args().skip(1)) {
        writeln!(io::stdout(), "{USAGE}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = match Words::new(std::env::args().skip(1)).read_by(parse) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(command_line::refuse("search", &why, USAGE)),
    };
    // Builds, and does next to nothing else; the searches find everything built.
    let first = bolero(wanted.targets[0], &["-r", "1"])?;
    if !first.status.success() {
        let told = String::from_utf8_lossy(&first.stderr);
        writeln!(io::stderr(), "{told}\n`cargo bolero` can't be run, or {} fails at once", wanted.targets[0])?;
        return Ok(ExitCode::from(2));
    }
    let mut lines = vec![LEGEND.to_owned()];
    let mut all_well = true;
    for targets in wanted.targets.chunks(wanted.jobs) {
        let minutes = wanted.minutes;
        let begin = |target: &&'static str| {
            let target = *target;
            (target, thread::spawn(move || search(target, minutes)))
        };
        for (target, search) in targets.iter().map(begin).collect::<Vec<_>>() {
            let found = search.join().expect("a search does not panic")?;
            all_well &= found.is_well;
            let line = format!("{target} | {}", found.line);
            writeln!(io::stdout(), "{line}")?;
            lines.push(line);
        }
    }
    if wanted.write {
        let minutes = wanted.minutes.as_secs_f64() / 60.0;
        let command = format!(
            "cargo bench -p heirloom-fuzz --bench search -- --minutes {minutes} --jobs {} --write",
            wanted.jobs
        );
        let page = evidence::page("Fuzzing", &command, SAYS, &lines.join("\n"));
        fs::write(evidence::path("fuzzing.md"), page)?;
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn parse(words: &mut Words<impl Iterator<Item = String>>) -> Option<Wanted> {
    let names = || TARGETS.iter().map(|(name, _)| *name);
    let mut wanted = Wanted { minutes: Duration::from_secs(600), targets: names().collect(), jobs: 1, write: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--minutes" => wanted.minutes = command_line::minutes(&words.next()?)?,
            "--target" => {
                let asked = words.next()?;
                wanted.targets = vec![names().find(|name| *name == asked)?];
            }
            "--jobs" => wanted.jobs = words.next()?.parse().ok().filter(|jobs| *jobs > 0)?,
            "--write" => wanted.write = true,
            // What cargo says to every bench.
            "--bench" => {}
            _ => return None,
        }
    }
    Some(wanted)
}

const LEGEND: &str = "target | inputs | seconds of the clock | edges of the code reached | inputs kept, each with something new | outcome";
const SAYS: &str = "Each reader of bytes from outside, searched by libFuzzer, which sees the branches that an input takes, from \
                    [its corpus](../../tests/fuzz/tests/__fuzz__) on. What must hold of every input is in \
                    [its target](../../tests/fuzz/src); where something did not, or a reader panicked, the line says so.";

struct Found {
    is_well: bool,
    line: String,
}

fn search(target: &str, minutes: Duration) -> io::Result<Found> {
    let time = format!("{}s", minutes.as_secs().max(1));
    let output = bolero(target, &["-T", &time, "-E=-print_final_stats=1"])?;
    let told = String::from_utf8_lossy(&output.stderr);
    fs::write(folder(target).join("told"), told.as_bytes())?;
    let done = told.lines().rev().find(|line| line.starts_with('#') && line.contains(" cov: "));
    let words: Vec<&str> = done.unwrap_or_default().split_whitespace().collect();
    let behind = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied();
    let seconds =
        told.lines().rev().find_map(|line| line.strip_prefix("Done ")?.split_whitespace().nth(3).map(str::to_owned));
    let inputs = words.first().map(|word| word.trim_start_matches('#'));
    let is_well = output.status.success() && seconds.is_some();
    let crash = || folder(target).join("crashes").display().to_string();
    let line = [
        inputs.unwrap_or("?").to_owned(),
        seconds.unwrap_or_else(|| "?".to_owned()),
        behind("cov:").unwrap_or("?").to_owned(),
        behind("corp:").unwrap_or("?").to_owned(),
        if is_well { "nothing found".to_owned() } else { format!("FOUND, see {}", crash()) },
    ];
    Ok(Found { is_well, line: line.join(" | ") })
}

/// What a search leaves, out of the way of what is committed.
fn folder(target: &str) -> PathBuf {
    root().join("target/fuzz").join(target)
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Runs `cargo bolero` on one target, from a copy of its corpus.
fn bolero(target: &str, options: &[&str]) -> io::Result<std::process::Output> {
    let (corpus, crashes) = (folder(target).join("corpus"), folder(target).join("crashes"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&crashes)?;
    for seed in fs::read_dir(root().join("tests/fuzz/tests/__fuzz__").join(target).join("corpus"))? {
        let seed = seed?;
        fs::copy(seed.path(), corpus.join(seed.file_name()))?;
    }
    // Nothing of ours is unsafe code, so that no sanitizer is needed, nor a nightly compiler for one.
    Command::new("cargo")
        .args(["bolero", "test", "--package", "heirloom-fuzz", "--sanitizer", "NONE"])
        .args(["--target-dir", "target/fuzz/build", "--corpus-dir"])
        .arg(corpus)
        .arg("--crashes-dir")
        .arg(crashes)
        .args(options)
        .arg(target)
        .current_dir(root())
        .output()
}
