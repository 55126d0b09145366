//! Many worlds: no law is broken, and enough is seen for that to mean something.

use heirloom_sim::sometimes::Sometimes;
use heirloom_sim::{Options, Shape, run, run_many};

/// The seeds of the test command; `cargo sim -- --minutes M` goes further.
const SEEDS: std::ops::Range<u64> = 0..1_200;

/// What a world of several servers takes at least, or hardly anything happened in it.
const STEPS_MIN: u64 = 500;
const STEPS_MEAN_MIN: u64 = 2_000;

#[test]
fn no_law_is_broken_in_many_worlds_and_everything_is_seen_in_some() {
    let summary = run_many(SEEDS, None, None, 5);
    assert!(summary.failures.is_empty(), "{summary}\nreplay with: cargo sim -- --seed N --trace");
    assert_eq!(summary.seen.missing(), [], "never seen:\n{summary}");
    assert!(summary.steps / summary.worlds >= STEPS_MEAN_MIN, "little happened:\n{summary}");
    let (fewest, seed) = summary.fewest_steps.expect("there are clusters of several servers");
    assert!(fewest >= STEPS_MIN, "seed {seed} took only {fewest} steps");
}

#[test]
fn every_shape_of_cluster_is_run() {
    for shape in Shape::ALL {
        let summary = run_many(10_000..10_020, Some(shape), None, 1);
        assert!(
            summary.failures.is_empty(),
            "{shape:?}: {summary}\nreplay with: cargo sim -- --shape {shape:?} --seed N"
        );
        assert_ne!(summary.seen, Sometimes::default());
    }
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in 20_000..20_010 {
        let one = run(seed, Options { traced: true, shape: None });
        let other = run(seed, Options { traced: true, shape: None });
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.fingerprint, other.fingerprint, "seed {seed}");
        let untraced = run(seed, Options::default());
        assert_eq!(one.fingerprint, untraced.fingerprint, "seed {seed}: watching changes the world");
    }
}
