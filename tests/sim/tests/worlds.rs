//! Many worlds: no law is broken, and enough is seen for that to mean something.

use heirloom_sim::sometimes::Sometimes;
use heirloom_sim::{Fault, Less, Options, Report, STEPS_MIN, Shape, run, run_many, shrink_while};

/// The seeds of the test command; `cargo sim -- --minutes M` goes further.
const SEEDS: std::ops::Range<u64> = 0..700;
/// How many of them must have taken [`STEPS_MIN`] steps.
const FULL_WORLDS_MIN: u64 = 500;
/// What clients ask in all; ten thousand seeds then hold well over a million operations.
const OPERATIONS_MIN: u64 = 100 * 700;

#[test]
fn no_law_is_broken_in_many_worlds_and_everything_is_seen_in_some() {
    let summary = run_many(SEEDS, None, None, 5);
    assert!(summary.failures.is_empty(), "{summary}\nshrink with: cargo sim -- --seed N --shrink");
    assert_eq!(summary.seen.missing(), [], "never seen:\n{summary}");
    assert_eq!(summary.tally.missing(), [], "never applied:\n{summary}");
    assert!(summary.full_worlds >= FULL_WORLDS_MIN, "few worlds took {STEPS_MIN} steps:\n{summary}");
    let (fewest, seed) = summary.fewest_steps.expect("there are worlds");
    assert!(fewest >= STEPS_MIN, "seed {seed} took only {fewest} steps");
    assert!(summary.tally.operations() >= OPERATIONS_MIN, "clients asked little:\n{summary}");
}

#[test]
fn every_shape_of_cluster_is_run() {
    for shape in Shape::ALL {
        let summary = run_many(10_000..10_016, Some(shape), None, 1);
        assert!(
            summary.failures.is_empty(),
            "{shape:?}: {summary}\nreplay with: cargo sim -- --shape {shape:?} --seed N"
        );
        assert_ne!(summary.seen, Sometimes::default());
    }
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in 20_000..20_006 {
        let one = run(seed, &Options { traced: true, ..Options::default() });
        let other = run(seed, &Options { traced: true, ..Options::default() });
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.fingerprint, other.fingerprint, "seed {seed}");
        let untraced = run(seed, &Options::default());
        assert_eq!(one.fingerprint, untraced.fingerprint, "seed {seed}: watching changes the world");
    }
}

#[test]
fn a_world_with_less_in_it_is_the_same_world_again_too() {
    for seed in 20_100..20_104 {
        let whole = run(seed, &Options::default());
        let half = whole.troubles.iter().map(|(number, _)| *number).step_by(2).collect();
        let less = Less {
            faults: Some(half),
            clients: Some(1),
            keys: Some(1),
            turmoil_ms: Some(5_000),
            clean_network: true,
            shake: 5,
            ..Less::default()
        };
        let options = Options { traced: true, less, ..Options::default() };
        let (one, other) = (run(seed, &options), run(seed, &options));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.fingerprint, other.fingerprint, "seed {seed}");
    }
}

#[test]
fn a_fault_that_is_left_out_does_not_turn_the_others_into_different_ones() {
    let mut compared = 0;
    for seed in 20_200..20_220 {
        let whole = run(seed, &Options::default());
        let Some((left_out, _)) = whole.troubles.first().copied() else { continue };
        let less = Less { without: [left_out].into(), ..Less::default() };
        let rest = run(seed, &Options { less, ..Options::default() });
        assert!(rest.troubles.iter().all(|(number, _)| *number != left_out), "seed {seed}");
        // Whether one finds something to break may differ; what it is may not.
        for (number, fault) in rest.troubles {
            let same = whole.troubles.iter().find(|(other, _)| *other == number);
            if let Some((_, other)) = same {
                assert_eq!(fault, *other, "seed {seed}, trouble {number}");
                compared += 1;
            }
        }
    }
    assert!(compared > 50, "{compared} were compared");
}

#[test]
fn only_the_kinds_that_are_asked_for_are_made() {
    let less = Less { kinds: Fault::list("Crash,Rot"), ..Less::default() };
    let made: Vec<Fault> = (20_300..20_320)
        .flat_map(|seed| run(seed, &Options { less: less.clone(), ..Options::default() }).tally.faults.into_keys())
        .collect();
    assert!(made.contains(&Fault::Crash) && made.contains(&Fault::Rot), "{made:?}");
    assert!(made.iter().all(|fault| [Fault::Crash, Fault::Rot].contains(fault)), "{made:?}");
}

#[test]
fn what_does_not_matter_is_left_out_of_a_world_that_is_shrunk() {
    // What stands for a broken law here: that a primary was killed, in a world that saw more than that.
    let holds = |report: &Report| report.tally.faults.contains_key(&Fault::CrashPrimary);
    let (seed, whole) = (20_400..)
        .map(|seed| (seed, run(seed, &Options::default())))
        .find(|(_, report)| holds(report) && report.troubles.len() > 8 && report.steps < 8_000)
        .expect("there are many such worlds");
    let shrunk = shrink_while(seed, &Options::default(), 400_000, &holds).expect("it holds");
    let kinds: Vec<Fault> = shrunk.report.troubles.iter().map(|(_, fault)| *fault).collect();
    assert_eq!(kinds, [Fault::CrashPrimary], "{}", shrunk.command());
    assert!(shrunk.report.steps < whole.steps / 2, "{} of {} steps are left", shrunk.report.steps, whole.steps);
    assert_eq!(run(seed, &shrunk.options).trace, shrunk.report.trace, "{}", shrunk.command());
}
