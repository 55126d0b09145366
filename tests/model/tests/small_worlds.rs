//! Small worlds, searched completely: no law is broken in any run within their bounds, and enough is seen for that to mean
//! something.
#![allow(missing_docs, reason = "a test")]

use std::time::Duration;

use heirloom_laws::evidence;
use heirloom_model::catches::{CATCHES, Catch, NOT_CAUGHT, look_for};
use heirloom_model::{Limits, Order, Rules, Sight, run_all, search, walk, worlds};
use heirloom_proto::mutants::Mutant;

/// Nothing here comes near these; a search that does is broken.
const LIMITS: Limits =
    Limits { states_max: 2_000_000, time_max: Duration::from_secs(600), order: Order::MostOnItsWay, fault: None };

/// The quick worlds hold so many states at least; fewer means that something is not looked at any more.
const STATES_MIN: usize = 300_000;

#[test]
fn no_law_is_broken_in_any_run_of_the_quick_worlds() {
    let found = run_all(&worlds::quick(), |rules| search(rules.clone(), LIMITS), |_, _| ());
    for found in &found {
        assert!(found.violation.is_none() && found.complete, "{found}");
        assert_eq!(found.missing(), [], "never seen in {}", found.rules.name);
    }
    let states: usize = found.iter().map(|found| found.states).sum();
    assert!(states >= STATES_MIN, "only {states} states");
}

#[test]
fn no_law_is_broken_on_some_walks_through_the_larger_worlds() {
    let few = Limits { states_max: 10, ..LIMITS };
    let found = run_all(&worlds::walks(), |rules| walk(rules, 1, few), |_, _| ());
    for found in &found {
        assert!(found.violation.is_none(), "{found}");
        assert!(found.steps > 1_000, "{found}");
    }
    for sight in [
        Sight::AWriteWasAnswered,
        Sight::AReadWasAnswered,
        Sight::AServerWasPromoted,
        Sight::APromotionInheritedPreparedEntries,
        Sight::ATailWasRolledBack,
        Sight::AMemberWasRemoved,
        Sight::ALearnerWasAdded,
        Sight::ADeathWasProven,
    ] {
        assert!(found.iter().any(|found| found.seen.contains_key(&sight)), "{sight:?} was never seen on any walk");
    }
}

#[test]
fn a_search_gives_the_same_again() {
    let rules = world("three-proof");
    let (one, other) = (search(rules.clone(), LIMITS), search(rules, LIMITS));
    assert_eq!((one.states, one.steps, one.depth), (other.states, other.steps, other.depth));
    assert_eq!(one.seen, other.seen);
}

/// The fault is what breaks the law: without it the same search, as far as it went, breaks none.
#[test]
fn faults_are_caught_where_they_matter() {
    let catches: Vec<Catch> = CATCHES.iter().filter(|catch| catch.quick).copied().collect();
    for (catch, found) in catches.iter().zip(look_for(&catches, |_, _| ())) {
        assert!(catch.is_caught(&found), "{:?} breaks law {} in no state of {found}", catch.fault, catch.law);
        let limits = Limits { states_max: found.states, order: Order::FewestSteps, ..LIMITS };
        let without = search(catch.rules(), limits);
        assert!(without.violation.is_none(), "{without}");
    }
}

#[test]
fn every_fault_is_caught_in_one_world_or_the_table_says_why_not() {
    for fault in Mutant::ALL {
        let caught = CATCHES.iter().filter(|catch| catch.fault == *fault).count();
        let not_caught = NOT_CAUGHT.iter().filter(|(other, _)| other == fault).count();
        assert_eq!(caught + not_caught, 1, "{fault:?}");
    }
}

#[test]
fn the_page_of_mutants_names_all_and_counts_those_that_are_caught() {
    let path = evidence::path("model-mutants.md");
    let page = std::fs::read_to_string(&path).expect("the page of the repository");
    for fault in Mutant::ALL {
        let rows = page.lines().filter(|line| line.starts_with(&format!("| `{}` |", fault.name()))).count();
        assert_eq!(rows, 1, "{fault:?}: `cargo model -- mutants --write` makes the page anew");
    }
    let counted = format!("{} of {} are caught.", CATCHES.len(), Mutant::ALL.len());
    assert!(page.lines().any(|line| line == counted), "the page does not say: {counted}");
}

fn world(name: &str) -> Rules {
    worlds::named(name).expect("a world of this name")
}
