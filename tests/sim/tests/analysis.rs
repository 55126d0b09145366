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
    for folder in ["server", "backup", "tests"] {
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

#[test]
fn the_figures_that_the_analysis_quotes_were_measured() {
    let from = ANALYSIS.find("\n## 7. ").expect("the section on what stops the service");
    let section = &ANALYSIS[from..from + ANALYSIS[from..].find("\n## 8. ").expect("the next section")];
    let columns = section.lines().filter(|line| line.starts_with("| ")).map(|line| line.split(" | ").nth(1));
    let mut figures = 0;
    for cell in columns.flatten() {
        // A formula and its time in brackets, perhaps more than one of them, with words before it.
        for part in cell.split("; ").filter(|part| part.ends_with(" ms)")) {
            let (formula, time) = part.trim_end_matches(')').rsplit_once(" (").expect("a time in brackets");
            let formula = formula.trim_start_matches("with two servers ");
            let row = format!("| {formula} | {time} |");
            assert!(DISTANCES.contains(&row), "{row} was not measured");
            figures += 1;
        }
    }
    let against_bounds =
        ANALYSIS.lines().filter(|line| line.starts_with("| failover,") || line.starts_with("| blocking of a w"));
    for line in against_bounds {
        let formula = line.split(" | ").nth(2).expect("what was measured");
        assert!(DISTANCES.contains(&format!("| {formula} |")), "{formula} was not measured");
        figures += 1;
    }
    assert!(figures >= 13, "only {figures} figures were found");
}
