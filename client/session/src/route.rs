//! Whom to ask: the primary while it is known, else a search for it.

use std::collections::BTreeSet;
use std::time::Duration;

use heirloom_proto::{ServerId, Time};

use crate::port::{Attempt, Seat};
use crate::seats::Seats;

/// How long an answer is waited for before the next server is asked too.
pub const OVERDUE: Duration = Duration::from_millis(300);

/// The shortest and the longest pause between two rounds of a search. In between it is an eighth of the time searched, so
/// that a new primary is found at most an eighth later than it could be, and a long outage isn't hammered.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// Everything goes here.
    Leading(Leading),
    /// A scout is sent round; everything else waits.
    Search(Search),
}

/// A known primary. **Invariants:** its seat is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leading {
    pub(crate) seat: Seat,
    /// Answers are not overdue before this plus [`OVERDUE`]: another server has vouched for the primary since.
    pub(crate) patient_from: Time,
    /// The seat isn't the primary's but forwards to it.
    pub(crate) forward: bool,
}

/// A search for the primary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Search {
    /// When its first scout was sent.
    since: Option<Time>,
    /// Whether a primary that was known seems to be gone, so that servers are nudged.
    pub(crate) gone: bool,
    /// The primary whose answer is overdue.
    pub(crate) suspect: Option<Seat>,
    /// Who leads, as the last server asked said.
    pub(crate) hint: Option<ServerId>,
    /// Seats asked in this round.
    asked: BTreeSet<Seat>,
    /// No server is asked before.
    pub(crate) next_at: Time,
    /// The scout whose answer decides whom to ask next.
    pub(crate) scout: Option<Attempt>,
}

impl Search {
    /// A search for a primary that nobody has named yet.
    pub(crate) fn at_first() -> Self {
        Self::begin(Time::default(), None)
    }

    /// A search from now on; `skip` is not asked in the first round.
    fn begin(now: Time, skip: Option<Seat>) -> Self {
        Self {
            since: None,
            gone: false,
            suspect: None,
            hint: None,
            asked: skip.into_iter().collect(),
            next_at: now,
            scout: None,
        }
    }

    /// A search because the connection to the primary broke.
    pub(crate) fn for_lost(now: Time) -> Self {
        Self { gone: true, ..Self::begin(now, None) }
    }

    /// A search because the primary's answer is overdue; the others are asked first.
    pub(crate) fn for_overdue(now: Time, suspect: Seat) -> Self {
        Self { gone: true, suspect: Some(suspect), ..Self::begin(now, Some(suspect)) }
    }

    /// A search because the primary said that it is none, and who is.
    pub(crate) fn for_deposed(now: Time, former: Seat, hint: Option<ServerId>) -> Self {
        Self { hint, ..Self::begin(now, Some(former)) }
    }

    /// Whom to ask now: the primary that was named, then the others in order, each once a round.
    pub(crate) fn candidate(&self, seats: &Seats) -> Option<Seat> {
        let hinted = self.hint.and_then(|server| seats.connected_seat_of(server));
        hinted.into_iter().chain(seats.walk()).find(|seat| !self.asked.contains(seat))
    }

    /// A scout is on its way to this seat.
    pub(crate) fn asks(&mut self, scout: Attempt, now: Time) {
        self.since.get_or_insert(now);
        self.asked.insert(scout.seat);
        self.scout = Some(scout);
        self.next_at = now + OVERDUE;
    }

    /// There is nothing to ask this seat in this round.
    pub(crate) fn skips(&mut self, seat: Seat) {
        self.asked.insert(seat);
    }

    /// All have been asked: begin again after a pause.
    pub(crate) fn ends_round(&mut self, now: Time) {
        let searched = now.since(*self.since.get_or_insert(now));
        self.asked.clear();
        self.next_at = now + (searched / 8).clamp(PAUSE_MIN, PAUSE_MAX);
    }

    /// The scout came back without an answer: ask the next at once.
    pub(crate) fn goes_on(&mut self, now: Time) {
        self.scout = None;
        self.next_at = now;
    }

    /// A seat was connected: it may be asked, at once where nobody else is being waited for.
    pub(crate) fn welcomes(&mut self, seat: Seat, now: Time) {
        self.asked.remove(&seat);
        if self.scout.is_none() {
            self.next_at = now;
        }
    }

    /// Forgets how long it took, when there was nothing to search for in between.
    pub(crate) fn refresh(&mut self, now: Time) {
        self.since = None;
        self.asked.clear();
        self.goes_on(now);
    }

    /// Whether servers should forward: the primary is named again and again, and can't be reached from here.
    pub(crate) fn wants_forwarding(&self, seats: &Seats, now: Time) -> bool {
        let searched = self.since.is_some_and(|since| now.since(since) >= OVERDUE);
        searched && self.names_unreachable(seats)
    }

    /// Whether the primary that was named can't be reached from here.
    pub(crate) fn names_unreachable(&self, seats: &Seats) -> bool {
        self.hint.is_some_and(|server| seats.connected_seat_of(server).is_none())
    }
}
