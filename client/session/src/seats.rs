//! The servers as a client sees them: addresses, connections, ids once they are told, and what is in flight where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heirloom_proto::{Refusal, ServerId, Time};

use crate::call::Who;
use crate::port::Seat;
use crate::readers::Reading;

/// How often a server is told that the primary seems to be gone, at most.
const NUDGE_PAUSE: Duration = Duration::from_millis(100);

/// One seat.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Place {
    pub(crate) server: Option<ServerId>,
    pub(crate) connected: bool,
    /// What it said last, where that was a refusal.
    pub(crate) refusal: Option<Refusal>,
    nudged_at: Option<Time>,
    reading: Reading,
    /// By attempt number, so in the order of sending.
    in_flight: BTreeMap<u64, (Who, Time)>,
    /// Those of them that are reads and were sent here though another server leads.
    spread: BTreeSet<u64>,
}

/// All seats, in the order of the client's list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seats(Vec<Place>);

impl Seats {
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![Place::default(); count])
    }

    pub(crate) fn place(&self, seat: Seat) -> &Place {
        &self.0[usize::from(seat.0)]
    }

    /// The place, made where the list is too short.
    pub(crate) fn place_mut(&mut self, seat: Seat) -> &mut Place {
        let position = usize::from(seat.0);
        if position >= self.0.len() {
            self.0.resize_with(position + 1, Place::default);
        }
        &mut self.0[position]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Seat, &Place)> {
        self.0.iter().enumerate().map(|(position, place)| (seat_at(position), place))
    }

    /// The connected seats in the order in which they are asked: by id where it is known, else by position.
    pub(crate) fn walk(&self) -> impl Iterator<Item = Seat> + use<> {
        let mut order: Vec<(usize, Seat)> = self
            .all()
            .filter(|(_, place)| place.connected)
            .map(|(seat, place)| (place.server.map_or(usize::from(seat.0), |server| usize::from(server.0)), seat))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, seat)| seat)
    }

    /// Where a server can be asked; `None` where it is not connected or its seat isn't known.
    pub(crate) fn connected_seat_of(&self, server: ServerId) -> Option<Seat> {
        self.all().find(|(_, place)| place.connected && place.server == Some(server)).map(|(seat, _)| seat)
    }

    pub(crate) fn any_connected(&self) -> bool {
        self.0.iter().any(|place| place.connected)
    }

    pub(crate) fn any_connected_but(&self, seat: Seat) -> bool {
        self.all().any(|(other, place)| place.connected && other != seat)
    }
}

impl Place {
    /// Notes an attempt.
    pub(crate) fn sent(&mut self, number: u64, who: Who, now: Time) {
        let older = self.in_flight.insert(number, (who, now));
        assert!(older.is_none(), "attempt {number} was sent twice");
    }

    /// Ends an attempt; `None` where it is not in flight any more.
    pub(crate) fn take(&mut self, number: u64) -> Option<Who> {
        self.spread.remove(&number);
        self.in_flight.remove(&number).map(|(who, _)| who)
    }

    /// Ends all attempts, in the order of their sending.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = (u64, Who)> + use<> {
        self.spread.clear();
        std::mem::take(&mut self.in_flight).into_iter().map(|(number, (who, _))| (number, who))
    }

    /// The attempt that has waited longest.
    pub(crate) fn oldest(&self) -> Option<(Who, Time)> {
        self.in_flight.first_key_value().map(|(_, oldest)| *oldest)
    }

    /// When an attempt was sent; `None` where it is not in flight.
    pub(crate) fn sent_at(&self, number: u64) -> Option<Time> {
        self.in_flight.get(&number).map(|(_, at)| *at)
    }

    /// Notes that an attempt is a read which was sent here though another server leads.
    pub(crate) fn spread(&mut self, number: u64) {
        self.spread.insert(number);
    }

    /// The read that was spread to here and has waited longest.
    pub(crate) fn oldest_spread(&self) -> Option<(u64, Who, Time)> {
        let number = *self.spread.first()?;
        let (who, at) = self.in_flight[&number];
        Some((number, who, at))
    }

    /// Whether an attempt is a read that was spread to here.
    pub(crate) fn is_spread(&self, number: u64) -> bool {
        self.spread.contains(&number)
    }

    /// Notes how long a read took here.
    pub(crate) fn read_answered(&mut self, now: Time, number: u64) {
        if let Some(at) = self.sent_at(number) {
            self.reading.answered_in(now.since(at));
        }
    }

    /// Notes that a page was answered here.
    pub(crate) fn page_answered(&mut self) {
        self.reading.answered();
    }

    /// How long reads take here; `None` where none was answered yet.
    pub(crate) fn read_latency(&self) -> Option<Duration> {
        self.reading.latency()
    }

    /// It could not answer a read by itself.
    pub(crate) fn hold_off(&mut self, now: Time) {
        self.reading.hold_off(now);
    }

    /// When reads may be sent here again.
    pub(crate) fn reads_not_before(&self) -> Time {
        self.reading.not_before()
    }

    /// Whether reads may be spread to here.
    pub(crate) fn may_read(&self, now: Time) -> bool {
        now >= self.reading.not_before()
    }

    pub(crate) fn waits(&self) -> bool {
        !self.in_flight.is_empty()
    }

    pub(crate) fn count_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether to nudge now; notes that it is done.
    pub(crate) fn nudge(&mut self, now: Time) -> bool {
        let due = self.nudged_at.is_none_or(|at| now.since(at) >= NUDGE_PAUSE);
        if due {
            self.nudged_at = Some(now);
        }
        due
    }
}

fn seat_at(position: usize) -> Seat {
    Seat(u16::try_from(position).expect("a client's list is shorter than 65,536"))
}
