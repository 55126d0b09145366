//! Where reads are asked: any member answers them by itself, so they are spread, over near servers first.

use std::time::Duration;

use heirloom_proto::{ServerId, Time};

use crate::call::Task;
use crate::call::Who;
use crate::outcome::Heard;
use crate::port::Seat;
use crate::route::{OVERDUE, Route};
use crate::seats::Seats;
use crate::session::Session;

/// For how long a server that could not answer a read by itself is not asked for others.
const HOLD_OFF: Duration = Duration::from_millis(100);
/// A server is near where it answers in no more than twice the time of the nearest, and this.
const NEAR: Duration = Duration::from_millis(1);
/// One read of so many goes to any server, so that one that has come nearer is noticed.
const EXPLORES: u64 = 64;

impl Session {
    /// Sends reads that were not sent yet to where they may be answered at once; what finds no such place takes the way of
    /// all others.
    pub(crate) fn send_reads(&mut self, now: Time) {
        self.take_back_overdue(now);
        if self.unspread.is_empty() || now < self.hold.until {
            return;
        }
        for who in std::mem::take(&mut self.unspread) {
            match self.asked_of(who) {
                Some(server) => match self.seats.connected_seat_of(server) {
                    Some(seat) => drop(self.attempt(now, who, seat, true)),
                    None => drop(self.unspread.insert(who)),
                },
                None => match self.seats.reader(now, self.reads_spread) {
                    Some(seat) => {
                        self.reads_spread += 1;
                        let attempt = self.attempt(now, who, seat, false);
                        // What is asked of the primary itself is watched over as everything else is.
                        let leads = matches!(&self.route, Route::Leading(leading) if leading.seat == seat);
                        if !leads {
                            self.seats.place_mut(seat).spread(attempt.number);
                        }
                    }
                    None => drop(self.ready.insert(who)),
                },
            }
        }
    }

    /// The server that alone may answer a call.
    pub(crate) fn asked_of(&self, who: Who) -> Option<ServerId> {
        match &self.calls.get(&who)?.task {
            Task::Read { from, .. } => *from,
            Task::Open | Task::Close(_) | Task::Change(_) => None,
        }
    }

    /// Puts a call back where it waits to be sent again.
    pub(crate) fn queue_again(&mut self, who: Who) {
        let queue = if self.asked_of(who).is_some() { &mut self.unspread } else { &mut self.ready };
        queue.insert(who);
    }

    /// Puts a call back whose connection broke: any other server may answer a read at once, whoever led.
    pub(crate) fn spread_again(&mut self, who: Who) {
        let is_read = self.calls.get(&who).is_some_and(|call| matches!(call.task, Task::Read { .. }));
        let queue = if is_read { &mut self.unspread } else { &mut self.ready };
        queue.insert(who);
    }

    /// When the first read that was spread is overdue, or one that waits for a server's leave may be sent.
    pub(crate) fn next_reading(&self) -> Option<Time> {
        let overdue =
            self.seats.all().filter_map(|(_, place)| place.oldest_spread()).map(|(_, _, at)| at + OVERDUE).min();
        let sendable =
            |who: &Who| self.asked_of(*who).is_none_or(|server| self.seats.connected_seat_of(server).is_some());
        let held = self.unspread.iter().any(sendable).then_some(self.hold.until);
        overdue.into_iter().chain(held).min()
    }

    /// A read may be asked twice: one that a server keeps for too long is asked elsewhere, and its late answer is dropped.
    fn take_back_overdue(&mut self, now: Time) {
        let late: Vec<(Seat, u64, Who)> = self
            .seats
            .all()
            .filter_map(|(seat, place)| Some((seat, place.oldest_spread()?)))
            .filter(|(_, (_, _, at))| now.since(*at) >= OVERDUE)
            .map(|(seat, (number, who, _))| (seat, number, who))
            .collect();
        if late.is_empty() {
            return;
        }
        for (seat, number, who) in late {
            let place = self.seats.place_mut(seat);
            place.take(number);
            place.hold_off(now);
            let call = self.calls.get_mut(&who).expect("what is in flight belongs to a call");
            call.attempts.retain(|attempt| attempt.number != number);
            call.hear(seat, Heard::NoAnswer);
            self.ready.insert(who);
        }
        self.take_back_overdue(now);
    }
}

impl Seats {
    /// The server for the read of this number; `None` where none that is connected is known to read.
    fn reader(&self, now: Time, number: u64) -> Option<Seat> {
        let readers = || self.all().filter(|(_, place)| place.connected && place.may_read(now));
        let nearest = readers().filter_map(|(_, place)| place.read_latency()).min();
        let is_near = |latency: Option<Duration>| match (latency, nearest) {
            (Some(latency), Some(nearest)) => latency <= nearest * 2 + NEAR,
            (None, _) | (_, None) => true,
        };
        let explores = number % EXPLORES == EXPLORES - 1;
        let near: Vec<Seat> =
            readers().filter(|(_, place)| explores || is_near(place.read_latency())).map(|(seat, _)| seat).collect();
        let turn = if explores { number / EXPLORES } else { number };
        let place = usize::try_from(turn % near.len().max(1) as u64).expect("few servers");
        near.get(place).copied()
    }
}

/// How one server answers reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reading {
    latency: Option<Duration>,
    not_before: Time,
}

impl Reading {
    pub(crate) fn answered_in(&mut self, span: Duration) {
        // An eighth of the newest: one slow answer does not make a server far.
        self.latency = Some(self.latency.map_or(span, |latency| latency * 7 / 8 + span / 8));
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    pub(crate) fn hold_off(&mut self, now: Time) {
        self.not_before = now + HOLD_OFF;
    }

    pub(crate) fn may_read(&self, now: Time) -> bool {
        now >= self.not_before
    }
}
