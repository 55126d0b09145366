//! Standing still: a process that is stopped (SIGSTOP), and a machine that is suspended.
//!
//! A stopped process takes nothing in and writes nothing more, but its kernel goes on: what comes is kept for it, a sync
//! that is under way ends, messages that it has sent arrive, its timers run out. A suspended machine stands still with
//! all that: its packets, its disk and its timers go on only when it does, the timers as if no time had passed. Time
//! passes for both, and their clock counts it (PROTOCOL 1).

use heirloom_laws::Inspect;
use heirloom_proto::ServerId;

use crate::clock::{Instant, MILLISECOND, SECOND};
use crate::disk::Queue;
use crate::sometimes::Sight;
use crate::world::{Occurrence, World};

/// Why and how long a server stands still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    pub since: Instant,
    pub until: Instant,
    /// The whole machine, not only the process.
    pub suspended: bool,
    /// It led under a lease when it stopped.
    leased: bool,
}

impl World {
    /// A server stands still for a while; false where there is nothing to stop.
    pub(crate) fn stop(&mut self, id: ServerId, suspended: bool) -> bool {
        if self.server(id).process().is_none() || self.server(id).is_paused() {
            return false;
        }
        let (now, lasts) = (self.now, self.standstill());
        let leased = self.leads_under_lease(id);
        let what = if suspended { "suspended with its machine" } else { "stopped" };
        self.trace.note(now, || format!("## server {id} is {what} for {} ms", lasts / MILLISECOND));
        self.server_mut(id).stopped = Some(Stop { since: now, until: now + lasts, suspended, leased });
        self.after(lasts, Occurrence::Resume { server: id });
        if suspended && lasts > SECOND {
            self.streams_time_out(id, lasts);
        }
        true
    }

    /// From a hiccup to far beyond every lease; often around the lengths that matter.
    fn standstill(&mut self) -> Instant {
        let nanos = |span: std::time::Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let around = |random: &mut crate::random::Random, span: u64| random.between(span * 8 / 10, span * 12 / 10);
        let (lease, suspicion) = (nanos(self.plan.constants.lease), nanos(self.plan.suspicion));
        let lasts = match self.random.weighted(&[25, 25, 15, 25, 10]) {
            0 => self.random.between(20 * MILLISECOND, 300 * MILLISECOND),
            1 => around(&mut self.random, lease),
            2 => around(&mut self.random, suspicion),
            3 => self.random.between(300 * MILLISECOND, 3 * SECOND),
            _ => self.random.between(3 * SECOND, 12 * SECOND),
        };
        lasts.max(MILLISECOND)
    }

    fn leads_under_lease(&self, id: ServerId) -> bool {
        let server = self.server(id);
        !self.plan.constants.lease.is_zero()
            && server.process().is_some_and(|process| {
                process.node.leads().is_some() && process.node.status(server.clock.read(self.now)).lease.is_some()
            })
    }

    /// Peers of a machine that stays silent for long may give up their streams to it.
    fn streams_time_out(&mut self, id: ServerId, lasts: Instant) {
        let Some(born) = self.server(id).process().map(|process| process.born) else { return };
        for other in self.plan.servers() {
            let stream = self.server(other).process().map(|process| (process.born, process.streams[usize::from(id.0)]));
            if let Some((at_born, Some(peer_born))) = stream
                && peer_born == born
                && self.random.per_mille(500)
            {
                self.break_later(other, at_born, id, born, lasts);
            }
        }
    }

    /// It goes on, unless it was stopped anew meanwhile.
    pub(crate) fn resume(&mut self, id: ServerId) {
        let now = self.now;
        let Some(stop) = self.server(id).stopped.filter(|stop| stop.until <= now) else { return };
        self.server_mut(id).stopped = None;
        self.trace.note(now, || format!("## server {id} goes on"));
        if stop.leased && !self.leads_under_lease(id) {
            self.seen.saw(if stop.suspended {
                Sight::AMachineWasSuspendedBeyondItsLease
            } else {
                Sight::ALeaseRanOutWhileTheProcessStood
            });
        }
        if let Some(born) = self.server(id).process().map(|process| process.born) {
            let slow = self.server(id).slow_disk_until > now;
            for queue in std::mem::take(&mut self.server_mut(id).stalled) {
                self.sync_later(id, born, queue, slow);
            }
        }
        while let Some(event) = self.server_mut(id).inbox.pop_front() {
            self.deliver(id, event);
            if self.server(id).is_paused() || self.violation.is_some() {
                break;
            }
        }
        if let Some(born) = self.server(id).process().map(|process| process.born) {
            self.arrange_wake(id, born);
        }
    }

    /// When that goes on which a suspended machine holds up; `None` where it is not suspended.
    pub(crate) fn held_until(&self, id: ServerId) -> Option<Stop> {
        self.server(id).stopped.filter(|stop| stop.suspended)
    }

    /// A queue of the disk has more to do when the process goes on.
    pub(crate) fn stall(&mut self, id: ServerId, queue: Queue) {
        self.server_mut(id).stalled.insert(queue);
    }
}
