//! Small worlds, searched completely: no law is broken in any run within their bounds, and enough is seen for that to mean
//! something.
#![allow(missing_docs, reason = "a test")]

use std::time::Duration;

use heirloom_model::{Limits, Rules, run_all, search, walk, worlds};
use heirloom_proto::mutants::Mutant;

/// Nothing here comes near these; a search that does is broken.
const LIMITS: Limits = Limits { states_max: 2_000_000, time_max: Duration::from_secs(600) };

/// The quick worlds hold so many states at least; fewer means that something is not looked at any more.
const STATES_MIN: usize = 300_000;

#[test]
fn no_law_is_broken_in_any_run_of_the_quick_worlds() {
    let found = run_all(&worlds::quick(), None, |rules| search(rules, LIMITS), |_| ());
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
    let found = run_all(&worlds::walks(), None, |rules| walk(&rules, 1, few), |_| ());
    for found in &found {
        assert!(found.violation.is_none(), "{found}");
        assert!(found.steps > 1_000, "{found}");
    }
}

#[test]
fn a_search_gives_the_same_again() {
    let rules = world("three-proof");
    let (one, other) = (search(rules.clone(), LIMITS), search(rules, LIMITS));
    assert_eq!((one.states, one.steps, one.depth), (other.states, other.steps, other.depth));
    assert_eq!(one.seen, other.seen);
}

/// Faults, the worlds that catch them, and the laws that break there.
const CATCHES: [(Mutant, &str, u8); 3] = [
    (Mutant::OneConfirmationMissing, "three-crash", 2),
    (Mutant::StartEpochUnstored, "witness-learner", 9),
    (Mutant::SecondCut, "walk-two", 2),
];

#[test]
fn faults_are_caught_where_they_matter() {
    for (mutant, name, law) in CATCHES {
        let walked = worlds::walks().iter().any(|rules| rules.name == name);
        let many = Limits { states_max: 2_000, ..LIMITS };
        let look = |rules: Rules| if walked { walk(&rules, 1, many) } else { search(rules, LIMITS) };
        let found = run_all(&[world(name)], Some(mutant), look, |_| ());
        let broken = found[0].violation.as_ref().map(|(violation, _)| violation.law);
        assert_eq!(broken, Some(law), "{mutant:?} in {}", found[0]);
    }
}

fn world(name: &str) -> Rules {
    worlds::named(name).expect("a world of this name")
}
