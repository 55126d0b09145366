//! Each mutant on record is caught by what is on record, and by nothing where nothing is planted.
#![allow(missing_docs, reason = "a test")]

use heirloom_proto::mutants::Mutant;
use heirloom_sim::mutants::{Catch, page, recorded, table};

#[test]
fn every_mutant_is_on_record_and_the_table_is_made_of_it() {
    let record = recorded().expect("tests/sim/mutants.txt");
    let missing: Vec<&Mutant> = Mutant::ALL.iter().filter(|mutant| !record.contains_key(mutant)).collect();
    assert!(missing.is_empty(), "nothing is said of {missing:?}: cargo sim -- mutants --write");
    let written = std::fs::read_to_string(page()).expect("docs/mutants.md");
    assert!(written == table(&record), "docs/mutants.md is not what it is made of: cargo sim -- mutants --write");
    let open: Vec<Mutant> =
        record.iter().filter(|(_, catch)| matches!(catch, Catch::Nothing { .. })).map(|(mutant, _)| *mutant).collect();
    assert_eq!(open, OPEN, "what is not caught is known by name");
}

/// Not caught; docs/mutants.md says why.
const OPEN: [Mutant; 1] = [Mutant::WaitFromFreeze];

#[test]
fn every_mutant_is_caught_in_the_world_on_record_and_none_is_without_it() {
    let record = recorded().expect("tests/sim/mutants.txt");
    let mut worlds = 0;
    for (mutant, catch) in record {
        let Catch::World { law, setting, .. } = catch else { continue };
        worlds += 1;
        let with = setting.run(Some(mutant), false).violation;
        assert_eq!(
            with.as_ref().map(|violation| violation.law),
            Some(law),
            "{mutant:?} in {setting:?} broke {with:?}: the worlds have changed, look again with \
             cargo sim -- mutants --write"
        );
        let without = setting.run(None, false).violation;
        assert_eq!(without, None, "{setting:?} with nothing planted");
    }
    assert!(worlds >= 25, "{worlds}");
}

#[test]
fn every_mutant_with_a_story_has_it() {
    let stories = include_str!("../../../server/node/tests/mutants.rs");
    for (mutant, catch) in recorded().expect("tests/sim/mutants.txt") {
        let Catch::Story { test, .. } = catch else { continue };
        assert!(stories.contains(&format!("fn {test}()")), "{mutant:?}: no story {test}");
        assert!(stories.contains(&format!("Mutant::{}", mutant.name())), "{mutant:?} is planted in no story");
    }
}
