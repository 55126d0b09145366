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

/// For how long a server that could not answer a read by itself is not asked for others: a backup is granted its next lease
/// after a heartbeat or two, a witness never reads.
const HOLD_OFF_MIN: Duration = Duration::from_millis(100);
const HOLD_OFF_MAX: Duration = Duration::from_millis(1_600);
/// A server is near where it answers in no more than twice the time of the nearest, and this.
const NEAR: Duration = Duration::from_millis(1);
/// One read of so many goes to any server, so that one that has come nearer is noticed.
const EXPLORES: u64 = 64;

impl Session {
    /// Sends reads that were not sent yet to where they may be answered at once. What finds no such place goes to the
    /// primary, and where that is not known waits for either.
    pub(crate) fn send_reads(&mut self, now: Time) {
        self.take_back_overdue(now);
        for who in std::mem::take(&mut self.unspread) {
            let leading = match &self.route {
                Route::Leading(leading) => Some(*leading),
                Route::Search(_) => None,
            };
            let from = self.asked_of(who);
            let seat = match from {
                Some(server) => {
                    self.seats.connected_seat_of(server).filter(|seat| self.seats.place(*seat).may_read(now))
                }
                None => self.seats.reader(now, self.reads_spread),
            };
            match (seat, from, leading) {
                (Some(seat), Some(_), _) => drop(self.attempt(now, who, seat, true)),
                // What is asked of the primary itself is watched over as everything else is.
                (Some(seat), None, Some(leading)) if seat == leading.seat => {
                    self.reads_spread += 1;
                    self.attempt(now, who, seat, leading.forward);
                }
                (Some(seat), None, _) => {
                    self.reads_spread += 1;
                    let attempt = self.attempt(now, who, seat, false);
                    self.seats.place_mut(seat).spread(attempt.number);
                }
                (None, None, Some(_)) => drop(self.ready.insert(who)),
                (None, Some(_), _) | (None, None, None) => drop(self.unspread.insert(who)),
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

    /// Puts a call back where it waits to be sent again. While nobody is known to lead, any server may yet answer a read.
    pub(crate) fn queue_again(&mut self, who: Who) {
        let is_read = self.calls.get(&who).is_some_and(|call| matches!(call.task, Task::Read { .. }));
        let searches = matches!(self.route, Route::Search(_));
        let queue =
            if is_read && (searches || self.asked_of(who).is_some()) { &mut self.unspread } else { &mut self.ready };
        queue.insert(who);
    }

    /// Puts a call back whose connection broke: any other server may answer a read at once, whoever led.
    pub(crate) fn spread_again(&mut self, who: Who) {
        let is_read = self.calls.get(&who).is_some_and(|call| matches!(call.task, Task::Read { .. }));
        let queue = if is_read { &mut self.unspread } else { &mut self.ready };
        queue.insert(who);
    }

    /// When the first read that was spread is overdue, or a server may be asked again for one that waits for that.
    pub(crate) fn next_reading(&self) -> Option<Time> {
        let overdue =
            self.seats.all().filter_map(|(_, place)| place.oldest_spread()).map(|(_, _, at)| at + OVERDUE).min();
        let connected = || self.seats.all().filter(|(_, place)| place.connected);
        let waits_for_any = self.unspread.iter().any(|who| self.asked_of(*who).is_none());
        let wanted = |server| self.unspread.iter().any(|who| self.asked_of(*who) == server);
        let held = connected()
            .filter(|(_, place)| waits_for_any || place.server.is_some() && wanted(place.server))
            .map(|(_, place)| place.reads_not_before())
            .min()
            .filter(|_| !self.unspread.is_empty());
        overdue.into_iter().chain(held).min()
    }

    /// A read may be asked twice: one that a server keeps for too long is asked elsewhere, and its late answer is dropped.
    fn take_back_overdue(&mut self, now: Time) {
        let seats: Vec<Seat> = self.seats.all().map(|(seat, _)| seat).collect();
        for seat in seats {
            while let Some((number, who, at)) = self.seats.place(seat).oldest_spread()
                && now.since(at) >= OVERDUE
            {
                let place = self.seats.place_mut(seat);
                place.take(number);
                place.hold_off(now);
                let call = self.calls.get_mut(&who).expect("what is in flight belongs to a call");
                call.attempts.retain(|attempt| attempt.number != number);
                call.hear(seat, Heard::NoAnswer);
                self.queue_again(who);
            }
        }
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
    /// The pause after the last refusal; none since the last answer.
    pause: Duration,
}

impl Reading {
    pub(crate) fn answered_in(&mut self, span: Duration) {
        // An eighth of the newest: one slow answer does not make a server far.
        self.latency = Some(self.latency.map_or(span, |latency| latency * 7 / 8 + span / 8));
        self.answered();
    }

    /// It answers by itself: whatever it refused before.
    pub(crate) fn answered(&mut self) {
        self.pause = Duration::ZERO;
        self.not_before = Time(0);
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// Waits, twice as long as the last time. Refusals that come together count as one.
    pub(crate) fn hold_off(&mut self, now: Time) {
        if now >= self.not_before {
            self.pause = (self.pause * 2).clamp(HOLD_OFF_MIN, HOLD_OFF_MAX);
            self.not_before = now + self.pause;
        }
    }

    pub(crate) fn not_before(&self) -> Time {
        self.not_before
    }
}
