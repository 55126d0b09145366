//! Many watchers of random ranges over random entries, beside a model that looks at every entry for every watcher.

use std::task::{Context, Poll, Waker};

use super::examples::{Woken, key, prefix, put, puts_of, range};
use super::ring::size;
use super::*;

const CLUSTER: ClusterId = ClusterId { id: 1, generation: 1 };
const KEYS: [&str; 9] = ["a", "a\0", "ab", "ab/c", "abc", "b", "b/", "b/1", "\u{7f}"];
const WATCHERS: usize = 40;
/// Small, so that those whom one entry concerns are found in several goes, and watchers are cut off.
const LOOKS_MAX: usize = 12;
const RING_ENTRIES: usize = 40;

/// Draws numbers; equal seeds, equal numbers.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("64 bits") % bound
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.below(KEYS.len())]
    }

    fn range(&mut self) -> KeyRange {
        match self.below(8) {
            0 => KeyRange::default(),
            1..=3 => key(self.key()),
            4..=6 => prefix(self.key()),
            _ => range(self.key(), ["b", "b/2", "\u{7f}\u{7f}"][self.below(3)]),
        }
    }
}

/// One that watches, and what is known of it by looking at every entry.
struct Listener {
    watcher: Watcher,
    /// All of its range was seen up to here.
    seen: u64,
    /// It keeps up, up to here: all before was told, or it has waited for it and was not woken.
    kept_up: u64,
    woken: Arc<Woken>,
    /// How often it was woken before it began to wait; `None` where it does not wait.
    waits: Option<usize>,
}

impl Listener {
    fn is_asleep(&self) -> bool {
        self.waits == Some(self.woken.count())
    }
}

/// What was seen to happen.
#[derive(Debug, Default)]
struct Seen {
    batches: u64,
    cut_off: u64,
    waited_for_future: u64,
    half_an_entry: u64,
    set_back: u64,
}

struct Play {
    draw: Draw,
    feeder: Feeder,
    history: Arc<History>,
    /// All that is committed; the server has applied so much of it.
    committed: Vec<Sealed>,
    applied: usize,
    listeners: Vec<Listener>,
    seen: Seen,
}

impl Play {
    fn new(seed: u64) -> Self {
        let (feeder, history) = History::bounded(RING_ENTRIES * size(&put(1, "a")), LOOKS_MAX);
        feeder.stands(Some(CLUSTER), true);
        let (committed, listeners) = (Vec::new(), Vec::new());
        Self { draw: Draw(seed), feeder, history, committed, applied: 0, listeners, seen: Seen::default() }
    }

    fn step(&mut self) {
        match self.draw.below(100) {
            0..25 => {
                let applied = self.applied + 1 + self.draw.below(3);
                self.apply(applied, true);
            }
            25..35 => self.begin(),
            35..68 => (0..6).for_each(|_| self.poll()),
            68..72 if !self.listeners.is_empty() => {
                let place = self.draw.below(self.listeners.len());
                self.listeners.swap_remove(place);
            }
            72..97 => {
                for _ in 0..3 {
                    self.give_turns();
                    // Whoever comes late has lost its turn.
                    if self.draw.below(4) > 0 {
                        self.poll_woken();
                    }
                }
            }
            97 => {
                // A state in place of entries.
                let applied = self.applied + self.draw.below(4);
                self.apply(applied, false);
            }
            98 => {
                // A new life, with a log or without, of a copy that has come so far.
                let applied = (self.applied + self.draw.below(6)).saturating_sub(self.draw.below(12));
                self.seen.set_back += u64::from(applied < self.applied);
                self.commit(applied);
                self.applied = applied;
                let log = self.draw.below(applied + 1);
                let entries = &self.committed[log..applied];
                let applied = Applied { entries, index: LogIndex(0), version: Version(applied as u64) };
                self.feeder.begin(Some(CLUSTER), applied);
            }
            _ => {}
        }
        self.check();
    }

    /// Commits until there are so many.
    fn commit(&mut self, count: usize) {
        while self.committed.len() < count {
            let keys: Vec<&str> = (0..1 + self.draw.below(3)).map(|_| self.draw.key()).collect();
            self.committed.push(puts_of(self.committed.len() as u64 + 1, &keys));
        }
    }

    /// Applies up to here, and feeds it, or else the state alone.
    fn apply(&mut self, applied: usize, as_entries: bool) {
        self.commit(applied);
        let before = std::mem::replace(&mut self.applied, applied);
        let entries = if as_entries { &self.committed[before..applied] } else { &[] };
        self.feeder.feed(Some(CLUSTER), Applied { entries, index: LogIndex(0), version: Version(applied as u64) });
    }

    fn begin(&mut self) {
        if self.listeners.len() >= WATCHERS {
            return;
        }
        let (range, newest) = (self.draw.range(), self.applied as u64);
        let from = match self.draw.below(3) {
            0 => None,
            1 => Some((newest + 1).saturating_sub(self.draw.below(30) as u64)),
            _ => Some(newest + self.draw.below(8) as u64),
        };
        let seen = from.map_or(newest, |from| from.saturating_sub(1));
        let oldest = self.history.lock().ring.oldest();
        match self.history.watch(range, from.map(Version), None) {
            Ok(watcher) => {
                assert!(seen + 1 >= oldest.0);
                self.seen.waited_for_future += u64::from(seen > newest);
                let woken = Arc::default();
                self.listeners.push(Listener { watcher, seen, kept_up: seen, woken, waits: None });
            }
            Err(refusal) => {
                assert!(seen + 1 < oldest.0);
                assert_eq!(refusal, Refusal::VersionTooOld { oldest });
            }
        }
    }

    fn poll(&mut self) {
        if self.listeners.is_empty() {
            return;
        }
        let place = self.draw.below(self.listeners.len());
        self.poll_one(place);
    }

    fn poll_woken(&mut self) {
        // From behind, where those come from that take the places of others.
        for place in (0..self.listeners.len()).rev() {
            if !self.listeners[place].is_asleep() {
                self.poll_one(place);
            }
        }
    }

    fn poll_one(&mut self, place: usize) {
        let listener = &mut self.listeners[place];
        let waker = Waker::from(listener.woken.clone());
        match listener.watcher.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(Batch { entries, version })) => {
                let told: Vec<u64> = entries.iter().map(|sealed| sealed.entry().version.0).collect();
                assert_eq!(told, concerning(&self.committed, listener, version.0));
                assert!(!told.is_empty() && version.0 <= self.applied as u64);
                (listener.seen, listener.kept_up, listener.waits) = (version.0, version.0, None);
                self.seen.batches += 1;
            }
            Poll::Ready(Err(refusal)) => {
                let oldest = self.history.lock().ring.oldest();
                assert_eq!(refusal, Refusal::VersionTooOld { oldest });
                assert!(listener.kept_up + 1 < oldest.0, "it kept up to {}, {oldest} is kept", listener.kept_up);
                self.listeners.swap_remove(place);
                self.seen.cut_off += 1;
            }
            Poll::Pending => listener.waits = Some(listener.woken.count()),
        }
    }

    fn give_turns(&mut self) {
        let newest = self.applied as u64;
        if self.history.give_turns() {
            self.seen.half_an_entry += u64::from(self.history.lock().audience.is_within_an_entry());
            return;
        }
        for listener in self.listeners.iter_mut().filter(|listener| listener.is_asleep()) {
            let missed = concerning(&self.committed, listener, newest);
            assert!(missed.is_empty(), "{:?} sleeps through {missed:?}", listener.watcher.range());
            assert!(listener.watcher.told().0 >= newest, "progress");
            listener.kept_up = listener.kept_up.max(newest);
        }
    }

    /// Nobody is said to have been told what it was not.
    fn check(&self) {
        for listener in &self.listeners {
            let told = listener.watcher.told().0;
            assert!(told >= listener.kept_up, "{told} after {}", listener.kept_up);
            let untold = concerning(&self.committed, listener, told);
            assert!(untold.is_empty(), "{:?}: {untold:?} up to {told}", listener.watcher.range());
        }
    }

    /// Everybody looks until there is nothing more to see.
    fn end(&mut self) {
        for _ in 0..1_000 {
            self.poll_woken();
            self.give_turns();
            self.check();
            if self.listeners.iter().all(Listener::is_asleep) && !self.history.give_turns() {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

/// The versions of its range that a listener has not seen, up to here.
fn concerning(committed: &[Sealed], listener: &Listener, up_to: u64) -> Vec<u64> {
    let versions = listener.seen + 1..=up_to.min(committed.len() as u64);
    let entry = |version: &u64| committed[usize::try_from(version - 1).expect("64 bits")].entry();
    versions.filter(|version| concerns(entry(version), listener.watcher.range())).collect()
}

#[test]
fn under_any_schedule_each_watcher_is_told_all_of_its_range_once_and_in_order_or_has_lagged() {
    let mut all = Seen::default();
    for seed in 0..300 {
        let mut play = Play::new(seed);
        (0..600).for_each(|_| play.step());
        play.end();
        let seen = play.seen;
        all.batches += seen.batches;
        all.cut_off += seen.cut_off;
        all.waited_for_future += seen.waited_for_future;
        all.half_an_entry += seen.half_an_entry;
        all.set_back += seen.set_back;
    }
    let Seen { batches, cut_off, waited_for_future, half_an_entry, set_back } = all;
    assert!(batches > 5_000 && cut_off > 1_000 && waited_for_future > 1_000, "{all:?}");
    assert!(half_an_entry > 500 && set_back > 500, "{all:?}");
}
