//! Those who watch: who waits for what, and whose turn it is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use heirloom_proto::{KeyRange, Version};

use super::key_change;
use super::ranges::{Ranges, is_tested};
use super::ring::Ring;

/// How many watch at one server at most. **Why:** each costs its stream some tens of kilobytes, and one that lags what was
/// encoded for it: what its client's window takes (128 KiB with our library; 400 KiB at most), and one batch.
pub(super) const WATCHERS_MAX: usize = 20_000;
/// How many of them watch a range that is neither a key nor all keys with a prefix. **Why:** each of these is tested for every
/// key that is changed, and all watchers wait for that.
pub(super) const RANGES_MAX: usize = 1_000;

/// All watchers, and the place up to which those who wait were told what concerns them.
///
/// Whoever waits is in one of three places, by how its cursor lies to the place up to which entries are matched:
///
/// - **idle**, where they are the same: it has been told all up to there. The next entry finds it by its range and makes it
///   one of those behind. Nothing is done for whoever is not found, and its cursor moves on with the place.
/// - **ahead**, where its cursor lies beyond: it is idle once the place has come to its cursor, at the latest before the
///   next entry is looked at.
/// - **behind**, where there may be something for it: it waits for its turn, and then looks for itself.
///
/// **Invariants:** the ring has all that follows `matched`, whose version is not beyond the newest.
#[derive(Debug)]
pub(super) struct Audience {
    watchers: BTreeMap<u64, Watching>,
    matched: Matched,
    /// How many watch a range that is tested for every key, whether they wait or not.
    tested: usize,
    idle: Ranges,
    ahead: BTreeSet<(Version, u64)>,
    /// By when they had their last turn: whoever had none for longest comes first, so that those who lag do not delay those
    /// who don't.
    behind: BTreeSet<(u64, u64)>,
    /// How often turns were given.
    turn: u64,
    next_watcher: u64,
    looks_max: usize,
}

/// How far entries are matched: all up to this version, and so many keys of the entry behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Matched {
    version: Version,
    keys: usize,
}

/// One that watches.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) range: Arc<KeyRange>,
    /// All that the range has up to here was told; where it is idle, up to what is matched.
    pub(super) cursor: Version,
    /// When it was given its last turn, and whether it has yet to take it.
    turn: u64,
    may_take: bool,
    waits: Option<(Place, Waker)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Idle,
    Ahead,
    Behind,
}

const KNOWN: &str = "a watcher is known until it is dismissed";

impl Audience {
    /// Nobody yet. Entries are matched until there were so many looks, and those of one key more.
    pub(super) fn new(looks_max: usize) -> Self {
        Self {
            watchers: BTreeMap::new(),
            matched: all_up_to(Version(0)),
            tested: 0,
            idle: Ranges::default(),
            ahead: BTreeSet::new(),
            behind: BTreeSet::new(),
            turn: 0,
            next_watcher: 0,
            looks_max,
        }
    }

    /// Whether there is room for one with this range.
    pub(super) fn has_room(&self, range: &KeyRange) -> bool {
        self.watchers.len() < WATCHERS_MAX && (self.tested < RANGES_MAX || !is_tested(range))
    }

    /// One more, which was told all up to here, and does not wait yet.
    pub(super) fn admit(&mut self, range: Arc<KeyRange>, cursor: Version) -> u64 {
        let id = self.next_watcher;
        self.next_watcher += 1;
        self.tested += usize::from(is_tested(&range));
        self.watchers.insert(id, Watching { range, cursor, turn: 0, may_take: false, waits: None });
        id
    }

    pub(super) fn dismiss(&mut self, id: u64) {
        self.recall(id);
        let gone = self.watchers.remove(&id).expect(KNOWN);
        self.tested -= usize::from(is_tested(&gone.range));
    }

    /// All that its range has up to here was told.
    pub(super) fn told(&self, id: u64) -> Version {
        let watching = &self.watchers[&id];
        match watching.waits {
            Some((Place::Idle, _)) => self.matched.version,
            Some((Place::Ahead | Place::Behind, _)) | None => watching.cursor,
        }
    }

    /// It no longer waits.
    pub(super) fn recall(&mut self, id: u64) -> &mut Watching {
        let watching = self.watchers.get_mut(&id).expect(KNOWN);
        match watching.waits.take().map(|(place, _)| place) {
            Some(Place::Idle) => {
                self.idle.remove(id, &watching.range);
                watching.cursor = self.matched.version;
            }
            Some(Place::Ahead) => drop(self.ahead.remove(&(watching.cursor, id))),
            Some(Place::Behind) => drop(self.behind.remove(&(watching.turn, id))),
            None => {}
        }
        watching
    }

    /// Whether it may take its turn: once for each, and not long after it was given.
    pub(super) fn take_turn(&mut self, id: u64) -> bool {
        let watching = self.watchers.get_mut(&id).expect(KNOWN);
        std::mem::take(&mut watching.may_take) && watching.turn + 1 >= self.turn
    }

    /// It waits from now on, until it is woken; whether it waits for its turn.
    pub(super) fn wait(&mut self, id: u64, waker: Waker) -> bool {
        let watching = self.watchers.get_mut(&id).expect(KNOWN);
        let place = match all_up_to(watching.cursor).cmp(&self.matched) {
            Ordering::Less => Place::Behind,
            Ordering::Equal => Place::Idle,
            Ordering::Greater => Place::Ahead,
        };
        watching.waits = Some((place, waker));
        self.put(id, place);
        place == Place::Behind
    }

    /// Puts one that waits, and is nowhere, into its place.
    fn put(&mut self, id: u64, place: Place) {
        let watching = self.watchers.get_mut(&id).expect(KNOWN);
        watching.waits.as_mut().expect("it waits").0 = place;
        match place {
            Place::Idle => self.idle.insert(id, &watching.range),
            Place::Ahead => drop(self.ahead.insert((watching.cursor, id))),
            Place::Behind => drop(self.behind.insert((watching.turn, id))),
        }
    }

    /// Matches entries with those who are idle, as many as are looked at in one go. Gives the number of looks: of lookups,
    /// tests and watchers moved.
    pub(super) fn match_entries(&mut self, ring: &Ring) -> usize {
        let mut looks = 0;
        loop {
            looks += self.welcome(self.looks_max - looks);
            let mut entries = ring.after(self.matched.version).expect("what is not matched is kept");
            let Some(sealed) = entries.next().filter(|_| looks < self.looks_max) else { return looks };
            let entry = sealed.entry();
            for (key, _) in entry.effects.iter().filter_map(key_change).skip(self.matched.keys) {
                let found = self.idle.take(key, self.looks_max - looks);
                looks += found.looks;
                for id in found.ids {
                    self.watchers.get_mut(&id).expect(KNOWN).cursor = self.matched.version;
                    self.put(id, Place::Behind);
                }
                if !found.is_all {
                    return looks;
                }
                self.matched.keys += 1;
                if looks >= self.looks_max {
                    return looks;
                }
            }
            self.matched = all_up_to(entry.version);
            looks += 1;
            if looks >= self.looks_max {
                return looks;
            }
        }
    }

    /// Those who were ahead are idle where the place has come to their cursor, so many at most; how many are. All of them
    /// must be before the next entry is looked at.
    fn welcome(&mut self, count_max: usize) -> usize {
        let mut count = 0;
        while count < count_max
            && let Some((cursor, id)) = self.ahead.first().copied()
            && all_up_to(cursor) <= self.matched
        {
            self.ahead.pop_first();
            self.put(id, Place::Idle);
            count += 1;
        }
        count
    }

    /// The ring has changed: it was fed, or begun anew. Where it still has all that follows the place, that is matched next.
    ///
    /// Otherwise matching begins anew, behind what is newest, and whoever was told less looks for itself. All who wait are
    /// moved for it, which takes some milliseconds where many thousands do: where a life begins with less than the one
    /// before had, or without entries, and where more was changed than the ring holds before it was matched.
    pub(super) fn follow(&mut self, ring: &Ring) {
        if ring.oldest() <= self.matched.version.next() && self.matched <= all_up_to(ring.newest()) {
            return;
        }
        let waiting = self.disperse();
        self.matched = all_up_to(ring.newest());
        for (id, waker) in waiting {
            self.wait(id, waker);
        }
    }

    /// Nobody waits any longer; who did, and whom to wake.
    pub(super) fn disperse(&mut self) -> Vec<(u64, Waker)> {
        self.idle = Ranges::default();
        self.ahead.clear();
        self.behind.clear();
        let mut waited = Vec::new();
        for (id, watching) in &mut self.watchers {
            if let Some((place, waker)) = watching.waits.take() {
                if place == Place::Idle {
                    watching.cursor = self.matched.version;
                }
                waited.push((*id, waker));
            }
        }
        waited
    }

    /// Gives so many of those behind their turn: whom to wake.
    pub(super) fn give_turns(&mut self, count_max: usize) -> Vec<Waker> {
        self.turn += 1;
        let mut wakers = Vec::new();
        while wakers.len() < count_max
            && let Some((_, id)) = self.behind.pop_first()
        {
            let watching = self.watchers.get_mut(&id).expect(KNOWN);
            watching.turn = self.turn;
            watching.may_take = true;
            wakers.extend(watching.waits.take().map(|(_, waker)| waker));
        }
        wakers
    }

    /// Whether anybody waits for its turn, or may do so once all is matched.
    pub(super) fn has_more(&self, ring: &Ring) -> bool {
        !self.behind.is_empty() || self.matched.version < ring.newest()
    }

    #[cfg(test)]
    pub(super) fn is_within_an_entry(&self) -> bool {
        self.matched.keys > 0
    }

    #[cfg(test)]
    pub(super) fn nobody_waits(&self) -> bool {
        self.idle.is_empty() && self.ahead.is_empty() && self.behind.is_empty()
    }
}

fn all_up_to(version: Version) -> Matched {
    Matched { version, keys: 0 }
}
