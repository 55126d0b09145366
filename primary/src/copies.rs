//! What the primary knows of one other copy: a member, a server that is leaving, or a learner.

use std::collections::VecDeque;
use std::time::Duration;

use heirloom_proto::limits::BAN_GROWTH_MAX;
use heirloom_proto::{LogIndex, Member, Mutant, Peer, Time, planted};

/// Where the start of the epoch stands for one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// It was told of the epoch, or is not connected; where its log ends is unknown.
    Starting,
    /// Its log is a prefix of ours as far as it was told, and this is the next index to send.
    Works {
        /// The next index to send.
        next: LogIndex,
    },
    /// It differs: it is sent nothing more and is to go.
    Differs,
}

/// A message on its way to a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    /// The index before its first entry.
    previous: LogIndex,
    last: LogIndex,
    bytes: usize,
}

/// For how long a server that was put out for being slow is not taken back.
///
/// Each change of the members ends an epoch, and nothing is committed meanwhile. So one that is slow again soon after it was
/// taken back is left out for twice as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Ban {
    until: Option<Time>,
    span: Duration,
}

impl Ban {
    /// It is put out, at first for `span`.
    pub(crate) fn begin(&mut self, now: Time, span: Duration) {
        let soon = self.until.is_some_and(|until| now.since(until) < self.span * 8);
        self.span = if soon { (self.span * 2).min(span * BAN_GROWTH_MAX) } else { span };
        self.until = Some(now + self.span);
    }

    /// Whether it is over, or never was.
    pub(crate) fn is_over(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now >= until)
    }
}

/// One other copy, as the primary sees it in the present epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copy {
    /// Store and run as last heard; `None` before the first word in this epoch.
    pub(crate) peer: Option<Peer>,
    pub(crate) phase: Phase,
    /// Confirmed in this epoch, by this run.
    pub(crate) confirmed: LogIndex,
    /// Up to where it was told that entries are committed.
    pub(crate) commit_told: LogIndex,
    /// The latest send time of a heartbeat that it echoed in this epoch: what the lease rests on.
    pub(crate) echoed: Option<Time>,
    /// Its own clock, from the last echo of this run in this epoch: what it is granted counts from there.
    pub(crate) clock: Option<Time>,
    /// When it was last heard working in this epoch.
    pub(crate) heard_at: Time,
    /// When it last confirmed something new, or had nothing to confirm.
    pub(crate) progress_at: Time,
    /// When it was last sent entries.
    pub(crate) sent_at: Time,
    /// Whether it may be taken back.
    pub(crate) ban: Ban,
    /// The gap that was filled last, and when.
    pub(crate) filled: Option<(LogIndex, Time)>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
}

impl Copy {
    /// A copy that is to be started.
    pub(crate) fn starting(peer: Option<Peer>, now: Time) -> Self {
        Self {
            peer,
            phase: Phase::Starting,
            confirmed: LogIndex::ZERO,
            commit_told: LogIndex::ZERO,
            echoed: None,
            clock: None,
            heard_at: now,
            progress_at: now,
            sent_at: Time(0),
            ban: Ban::default(),
            filled: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
    }

    /// Whether it is this member: the same server with another store is another one, whatever it confirms.
    pub(crate) fn is(&self, member: Member) -> bool {
        self.peer.is_some_and(|peer| {
            peer.member() == member || planted(Mutant::EmptiedStoreStaysMember) && peer.server == member.server
        })
    }

    /// Whether it works in this epoch.
    pub(crate) fn works(&self) -> bool {
        matches!(self.phase, Phase::Works { .. })
    }

    /// Sends from `next` on, whatever was sent before.
    pub(crate) fn send_from(&mut self, next: LogIndex) {
        self.phase = Phase::Works { next };
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// Notes that the entries behind `previous` up to `last` were sent.
    pub(crate) fn sent(&mut self, now: Time, previous: LogIndex, last: LogIndex, bytes: usize) {
        if self.in_flight.is_empty() {
            self.progress_at = now;
        }
        self.phase = Phase::Works { next: last.next() };
        self.in_flight.push_back(InFlight { previous, last, bytes });
        self.in_flight_bytes += bytes;
        self.sent_at = now;
    }

    /// Notes that everything up to `index` is confirmed.
    pub(crate) fn confirm(&mut self, now: Time, index: LogIndex) {
        if index > self.confirmed {
            self.confirmed = index;
            self.progress_at = now;
        }
        // Also where it is no news: what was sent again is confirmed by it.
        while let Some(first) = self.in_flight.front().copied().filter(|first| first.last <= index) {
            self.in_flight.pop_front();
            self.in_flight_bytes -= first.bytes;
        }
        if let Phase::Works { next } = self.phase {
            self.phase = Phase::Works { next: next.max(index.next()) };
        }
    }

    /// Up to where nothing will have to be sent to it again, while it works: what is on its way may be lost.
    pub(crate) fn held(&self) -> Option<LogIndex> {
        let Phase::Works { next } = self.phase else { return None };
        Some(self.in_flight.front().map_or(LogIndex(next.0 - 1), |first| first.previous))
    }

    /// How many bytes of entries are on their way.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Whether entries that were sent are not confirmed.
    pub(crate) fn owes(&self) -> bool {
        !self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_doubles_where_the_member_is_slow_again_soon_and_begins_anew_where_it_is_not() {
        let span = Duration::from_millis(400);
        let (mut ban, mut now) = (Ban::default(), Time(0));
        let mut lasted = |ban: &mut Ban, after: Duration| {
            now = now + after;
            ban.begin(now, span);
            let mut length = Duration::ZERO;
            while !ban.is_over(now) {
                now = now + span;
                length += span;
            }
            length.as_millis()
        };
        assert!(ban.is_over(Time(0)), "nobody is banned at first");
        let soon = Duration::from_millis(500);
        let spans: Vec<u128> = (0..9).map(|_| lasted(&mut ban, soon)).collect();
        assert_eq!(spans, [400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 25_600, 25_600]);
        assert_eq!(lasted(&mut ban, Duration::from_secs(300)), 400);
    }
}
