//! The judge itself: histories that are known to be good and histories that are known to be bad, up to 100,000
//! operations.
#![allow(missing_docs, reason = "a test")]

use heirloom_histories::{Answer, Looked, Mode, Op, Record, Violation, judge, read_lines, write_lines};
use heirloom_laws::random::Random;

const KEYS: usize = 24;
const CLIENTS: u64 = 16;

/// A dictionary that is correct, and clients whose calls overlap.
struct World {
    random: Random,
    now: u64,
    version: u64,
    keys: Vec<Option<(String, u64)>>,
    history: Vec<Record>,
    /// Of a thousand changes, how many have an unknown outcome.
    unknown: u64,
}

impl World {
    fn new(seed: u64, unknown: u64) -> Self {
        let keys = vec![None; KEYS];
        Self { random: Random::new(seed), now: 1_000, version: 0, keys, history: Vec::new(), unknown }
    }

    /// Adds a value that takes effect now; the version.
    fn apply(&mut self, key: usize, value: Option<String>) -> u64 {
        self.version += 1;
        self.keys[key] = value.map(|value| (value, self.version));
        self.version
    }

    fn note(&mut self, op: Op, key: usize, value: Option<String>, times: (u64, u64), result: Option<Answer>) {
        let end_ns = result.is_some().then_some(times.1);
        let client = self.history.len() as u64 % CLIENTS;
        let (key, session) = (format!("k{key}"), Some(client));
        let (mode, expected, start_ns) = (Mode::Linearizable, None, times.0);
        self.history.push(Record { client, op, mode, session, key, value, expected, start_ns, end_ns, result });
    }

    /// One operation that takes effect at one moment, some time after its call and before its return.
    fn operation(&mut self) {
        self.now += 10;
        let times = (self.now - self.random.below(120).min(self.now), self.now + self.random.below(120));
        let key = self.random.below(KEYS as u64) as usize;
        let existed = Some(self.keys[key].is_some());
        match self.random.weighted(&[45, 10, 45]) {
            0 => {
                let value = Some(format!("v{}", self.history.len()));
                if self.random.per_mille(self.unknown) {
                    if self.random.per_mille(500) {
                        self.apply(key, value.clone());
                    }
                    return self.note(Op::Add, key, value, times, None);
                }
                let version = Some(self.apply(key, value.clone()));
                self.note(Op::Add, key, value, times, Some(Answer::Changed { version, existed, epoch: None }));
            }
            1 => {
                let version = if existed == Some(true) { self.apply(key, None) } else { self.version };
                let result = Answer::Changed { version: Some(version), existed, epoch: None };
                self.note(Op::Delete, key, None, times, Some(result));
            }
            _ => self.read(key, times),
        }
    }

    fn read(&mut self, key: usize, times: (u64, u64)) {
        let looked = Some(Looked { seen: self.version, server: 1, local: true, primary: 0 });
        let found =
            |(value, version): &(String, u64)| Answer::Found { value: value.clone(), version: Some(*version), looked };
        let result = self.keys[key].as_ref().map_or(Answer::Absent, found);
        self.note(Op::Read, key, None, times, Some(result));
    }

    fn operations(&mut self, count: usize) {
        (0..count).for_each(|_| self.operation());
        // What comes next overlaps with nothing of this.
        self.now += 1_000;
    }

    /// An add by itself, answered.
    fn add(&mut self, key: usize, value: &str) {
        let existed = Some(self.keys[key].is_some());
        let version = Some(self.apply(key, Some(value.to_owned())));
        let result = Answer::Changed { version, existed, epoch: None };
        self.note(Op::Add, key, Some(value.to_owned()), (self.now, self.now + 5), Some(result));
        self.now += 100;
    }

    /// A delete by itself, answered.
    fn delete(&mut self, key: usize) {
        let existed = Some(self.keys[key].is_some());
        let version = if existed == Some(true) { self.apply(key, None) } else { self.version };
        let result = Answer::Changed { version: Some(version), existed, epoch: None };
        self.note(Op::Delete, key, None, (self.now, self.now + 5), Some(result));
        self.now += 100;
    }
}

fn violations(world: &World) -> Vec<Violation> {
    judge(&world.history, Some(world.version)).violations
}

/// A fault in the midst of 100,000 operations; what the judge says of it.
fn planted(fault: fn(&mut World)) -> Vec<Violation> {
    let mut world = World::new(3, 10);
    world.operations(50_000);
    fault(&mut world);
    world.operations(50_000);
    violations(&world)
}

#[test]
fn a_hundred_thousand_operations_of_a_correct_dictionary_are_accepted() {
    let mut world = World::new(1, 10);
    world.operations(100_000);
    let judged = judge(&world.history, Some(world.version));
    assert!(judged.violations.is_empty(), "{}", judged.violations[0]);
    assert_eq!((judged.operations, judged.keys), (100_000, KEYS));
    assert!(world.history.iter().filter(|record| record.is_unknown_change()).count() > 300);
}

#[test]
fn one_stale_read_among_a_hundred_thousand_operations_is_found_and_shown_in_a_few() {
    let found = planted(|world| {
        world.add(5, "old");
        let old = world.keys[5].clone();
        world.add(5, "new");
        let new = std::mem::replace(&mut world.keys[5], old);
        world.read(5, (world.now, world.now + 5));
        // It does not say how old it is.
        let Some(Answer::Found { looked, .. }) = &mut world.history.last_mut().expect("just read").result else {
            panic!("it had a value");
        };
        *looked = None;
        world.keys[5] = new;
    });
    assert_eq!(found.len(), 1, "{found:?}");
    let piece = &found[0].piece;
    assert!(found[0].what.contains("\"k5\"") && piece.len() <= 3, "{}", found[0]);
    assert!(piece.iter().any(|record| record.value.as_deref() == Some("new")), "{}", found[0]);
}

#[test]
fn one_lost_write_among_a_hundred_thousand_operations_is_found() {
    let found = planted(|world| {
        world.delete(7);
        world.add(7, "lost");
        world.keys[7] = None;
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].piece.iter().any(|record| record.value.as_deref() == Some("lost")), "{}", found[0]);
}

#[test]
fn one_write_applied_twice_among_a_hundred_thousand_operations_is_found() {
    let found = planted(|world| {
        world.add(9, "twice");
        world.add(9, "between");
        world.apply(9, Some("twice".to_owned()));
    });
    assert!(found.iter().any(|violation| violation.what.contains("\"twice\" was applied twice")), "{found:?}");
    assert!(found.iter().any(|violation| violation.what.contains("\"k9\" is not linearizable")), "{found:?}");
}

#[test]
fn a_write_applied_twice_that_nobody_read_is_found_by_its_version() {
    let mut world = World::new(4, 0);
    world.operations(5_000);
    assert!(violations(&world).is_empty());
    world.add(2, "twice");
    world.apply(2, Some("twice".to_owned()));
    world.add(2, "next");
    world.operations(5_000);
    let found = violations(&world);
    assert!(found.len() == 1 && found[0].what.contains("is nobody's change"), "{found:?}");
}

#[test]
fn a_write_that_was_called_not_applied_and_was_is_found_read_or_not() {
    for read in [true, false] {
        let mut world = World::new(5, 0);
        world.operations(1_000);
        world.apply(3, Some("ghost".to_owned()));
        let times = (world.now, world.now + 5);
        world.note(Op::Add, 3, Some("ghost".to_owned()), times, Some(Answer::NotApplied));
        world.now += 100;
        if read {
            world.read(3, (world.now, world.now + 5));
        }
        world.now += 100;
        world.add(3, "next");
        assert!(!violations(&world).is_empty(), "read: {read}");
    }
}

#[test]
fn versions_against_real_time_and_versions_given_twice_are_found_over_all_keys() {
    let mut world = World::new(6, 0);
    world.add(1, "a");
    world.version -= 1;
    world.add(2, "b");
    let found = violations(&world);
    assert!(found.iter().any(|violation| violation.what.contains("version 1 is two different changes")), "{found:?}");

    let mut world = World::new(6, 0);
    world.add(1, "a");
    world.version = 9;
    world.add(2, "b");
    world.version = 4;
    world.add(3, "c");
    let found = violations(&world);
    assert!(found.iter().any(|violation| violation.what.contains("after version 10 had been answered")), "{found:?}");
}

#[test]
fn an_unknown_outcome_may_be_a_version_that_nobody_was_told_but_only_from_its_start_on() {
    let mut world = World::new(6, 0);
    world.add(1, "a");
    let start = world.now;
    world.apply(2, Some("maybe".to_owned()));
    world.now += 100;
    world.add(3, "c");
    assert_eq!(violations(&world).len(), 1);
    world.note(Op::Add, 2, Some("maybe".to_owned()), (world.now, 0), None);
    assert_eq!(violations(&world).len(), 1, "it was asked for when the version had been answered");
    world.history.last_mut().expect("just noted").start_ns = start;
    assert!(violations(&world).is_empty());
}

#[test]
fn a_history_comes_back_from_its_lines_as_it_was() {
    let mut world = World::new(2, 100);
    world.operations(2_000);
    let mut lines = Vec::new();
    write_lines(&world.history, &mut lines).expect("memory");
    assert_eq!(read_lines(lines.as_slice()).expect("our own"), world.history);
}

#[test]
fn histories_of_others_are_read_without_our_details_and_nonsense_is_refused() {
    let line =
        |rest: &str| format!(r#"{{"client":1,"op":"add","key":"k","value":"v","expected":null,"start_ns":1,{rest}}}"#);
    let history = read_lines(line(r#""end_ns":2,"result":{"is":"changed"}"#).as_bytes()).expect("well formed");
    assert!(judge(&history, None).violations.is_empty());
    for wrong in [
        line(r#""end_ns":null,"result":{"is":"changed"}"#),
        line(r#""end_ns":0,"result":{"is":"changed"}"#),
        line(r#""end_ns":2,"result":{"is":"absent"}"#),
        line(r#""end_ns":2,"result":{"is":"changed"}"#).replace("\"expected\":null", "\"expected\":\"x\""),
        line(r#""end_ns":2,"result":{"is":"changed"}"#).replace("\"value\":\"v\",", ""),
        line(r#""end_ns":2,"result":{"is":"changed"}"#).replace("\"add\"", "\"swap\""),
    ] {
        let refused = read_lines(wrong.as_bytes()).expect_err(&wrong);
        assert!(refused.starts_with("line 1: "), "{refused}");
    }
}
