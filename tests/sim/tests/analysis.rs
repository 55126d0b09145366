//! What `docs/consistency.md` names is there, and the figures that it quotes are those that were measured.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ANALYSIS: &str = include_str!("../../../docs/consistency.md");
const DISTANCES: &str = include_str!("../../../docs/evidence/distances.md");
const MUTANTS: [&str; 2] = [include_str!("../../../docs/mutants.md"), include_str!("../../../docs/mutants-runtime.md")];
const SIGHTS: &str = include_str!("../src/sometimes.rs");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What stands between backticks.
fn quoted() -> impl Iterator<Item = &'static str> {
    ANALYSIS.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn sources(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of the house") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, out);
        } else if name.ends_with(".rs") {
            out.push_str(&fs::read_to_string(&path).expect("a source file"));
        }
    }
}

#[test]
fn every_test_that_the_analysis_names_is_there() {
    let mut all = String::new();
    for folder in ["server", "backup", "client", "tests"] {
        sources(&root().join(folder), &mut all);
    }
    // Names of tests are sentences.
    let named: BTreeSet<&str> = quoted().filter(|word| word.matches('_').count() >= 4 && !word.contains(' ')).collect();
    assert!(named.len() > 20, "only {named:?}");
    for name in named {
        assert!(all.contains(&format!("fn {name}()")), "there is no test {name}");
    }
}

#[test]
fn every_sight_and_mutant_that_the_analysis_names_is_there() {
    let is_name = |word: &&str| {
        let humps = word.chars().filter(char::is_ascii_uppercase).count();
        humps >= 2 && humps < word.len() && word.chars().all(|c| c.is_ascii_alphabetic())
    };
    let named: BTreeSet<&str> = quoted().filter(is_name).collect();
    assert!(named.len() > 20, "only {named:?}");
    // Types of the code that are explained where they are named.
    let types = BTreeSet::from(["TakeOver", "StartEpoch"]);
    for name in named.difference(&types) {
        let known = SIGHTS.contains(&format!("    {name},")) || MUTANTS[0].contains(&format!("| `{name}` |"));
        assert!(known, "there is no sight or mutant {name}");
    }
    let of_runtime: Vec<&str> = quoted().filter(|word| word.matches('-').count() >= 2 && word.is_ascii()).collect();
    for name in of_runtime.iter().filter(|name| name.chars().all(|c| c == '-' || c.is_ascii_lowercase())) {
        let flag = name.starts_with("--");
        assert!(flag || MUTANTS[1].contains(&format!("| {name} |")), "the runtime has no mutant {name}");
    }
}

/// The rows of the table in section 7, and what was measured for each: the case, and how many servers.
const STOPS: [(&str, &[(&str, &str)]); 8] = [
    ("a backup dies, provably", &[("removal of a member proven dead", "3"), ("removal of a member proven dead", "2")]),
    ("a backup falls silent", &[("removal of a silent member", "3")]),
    ("the primary dies, provably", &[("promotion, the crash is proven", "3"), ("promotion, the crash is proven", "2")]),
    (
        "the primary and the next one die at once, provably, of five",
        &[("promotion, two crashes at once, both proven", "5")],
    ),
    ("the primary falls silent", &[("promotion after silence", "3")]),
    ("the same with `--lease 0`", &[("promotion after silence, `--lease 0`", "3")]),
    ("planned hand-over", &[("planned hand-over", "3")]),
    ("a server comes back and is taken in", &[("a learner is taken in", "3")]),
];

/// The rows of the table in section 9 that quote a time that was measured.
const AGAINST_BOUNDS: [(&str, &[(&str, &str)]); 4] = [
    ("blocking of a write, n ≥ 2", &[("add", "2"), ("add", "3"), ("add", "5")]),
    ("failover, proven crash, two servers", &[("promotion, the crash is proven", "2")]),
    ("failover, proven crash, three servers", &[("promotion, the crash is proven", "3")]),
    ("failover, silence", &[("promotion after silence", "3")]),
];

/// The formula of a case and its time with the defaults.
fn measured((what, servers): (&str, &str)) -> (&'static str, &'static str) {
    let begins = format!("| {what} | {servers} | ");
    let row = DISTANCES.lines().find_map(|line| line.strip_prefix(&begins));
    let mut cells = row.unwrap_or_else(|| panic!("{begins}was not measured")).split(" | ");
    (cells.next().expect("a formula"), cells.next().expect("a time"))
}

fn section(from: &str, to: &str) -> &'static str {
    let rest = &ANALYSIS[ANALYSIS.find(from).expect("a section")..];
    &rest[..rest.find(to).expect("the next section")]
}

/// The cells of the rows of a section's tables.
fn rows(section: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").collect())
}

/// Each of these figures stands in the cell, in this order, and no other.
fn quotes_only(cell: &str, figures: &[String]) {
    let mut rest = cell;
    for figure in figures {
        let Some((before, after)) = rest.split_once(figure.as_str()) else { panic!("{figure} is not in {cell:?}") };
        assert!(!before.contains(|c: char| c.is_ascii_digit()), "{before:?} in {cell:?} was not measured");
        rest = after;
    }
    assert!(!rest.contains(|c: char| c.is_ascii_digit()), "{rest:?} in {cell:?} was not measured");
}

#[test]
fn the_figures_that_the_analysis_quotes_were_measured() {
    let stops = section("\n## 7. ", "\n**Liveness.**");
    for row in rows(stops).filter(|row| row[1].contains(|c: char| c.is_ascii_digit())) {
        let known = STOPS.iter().find(|(name, _)| *name == row[0]);
        let (_, cases) = known.unwrap_or_else(|| panic!("of what was measured is {row:?}?"));
        let quoted = |case: &(&str, &str)| match measured(*case) {
            (formula, time) if formula == time => time.to_owned(),
            (formula, time) => format!("{formula} ({time})"),
        };
        quotes_only(row[1], &cases.iter().map(quoted).collect::<Vec<_>>());
    }
    for (name, _) in STOPS {
        assert!(rows(stops).any(|row| row[0] == name), "no row {name}");
    }
    let bounds = section("\n## 9. ", "\n## 10. ");
    for (name, cases) in AGAINST_BOUNDS {
        let row = rows(bounds).find(|row| row[0] == name).unwrap_or_else(|| panic!("no row {name}"));
        for case in cases {
            quotes_only(row[2], &[measured(*case).0.to_owned()]);
        }
    }
    let (_, two_crashes) = measured(("promotion, two crashes at once, both proven", "5"));
    assert!(bounds.contains(&format!("Two proven crashes at once are over in {two_crashes} with the defaults")));
}
