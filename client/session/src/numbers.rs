//! The session with the servers, and the numbers of its changes.

use std::collections::BTreeSet;
use std::time::Duration;

use heirloom_proto::{SessionId, Time, limits};

use crate::call::Number;

/// How long a session may be unknown to the servers before it is given up. A server that has just begun to lead may not
/// have applied the opening yet; one that never will comes from a cluster that an operator has set back.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(1);

/// The open session, where there is one, and its window of unanswered changes.
///
/// **Invariants**
/// - All of `unanswered` are below `next`, and `next` minus the lowest of them is at most
///   [`limits::SESSION_ANSWERS_MAX`]: the servers keep that many answers and no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Numbers {
    session: Option<SessionId>,
    next: u64,
    unanswered: BTreeSet<u64>,
    unknown_since: Option<Time>,
}

impl Numbers {
    pub(crate) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The servers have opened this session.
    pub(crate) fn open(&mut self, session: SessionId) {
        *self = Self { session: Some(session), next: 1, unanswered: BTreeSet::new(), unknown_since: None };
    }

    /// The session is gone, or was closed.
    pub(crate) fn forget(&mut self, session: SessionId) {
        if self.session == Some(session) {
            *self = Self::default();
        }
    }

    /// The number of the next change; `None` without a session and while the window is full.
    pub(crate) fn take(&mut self) -> Option<Number> {
        let session = self.session?;
        let window = limits::SESSION_ANSWERS_MAX as u64;
        if self.next - self.lowest_unanswered() >= window {
            return None;
        }
        let sequence = self.next;
        self.next += 1;
        self.unanswered.insert(sequence);
        Some(Number { session, sequence })
    }

    /// The change is over for its caller, whatever came of it. Giving it up forbids a late attempt of it: the servers
    /// refuse a sequence below the lowest unanswered one.
    pub(crate) fn settle(&mut self, number: Number) {
        if self.session == Some(number.session) {
            self.unanswered.remove(&number.sequence);
            self.unknown_since = None;
        }
    }

    /// What to say with a change of this number. Of a session that is gone only the number itself is known; all its other
    /// unanswered changes lie within one window of it, and saying less than could be said does no harm.
    pub(crate) fn lowest_unanswered_for(&self, number: Number) -> u64 {
        if self.session == Some(number.session) {
            self.lowest_unanswered()
        } else {
            number.sequence.saturating_sub(limits::SESSION_ANSWERS_MAX as u64 - 1).max(1)
        }
    }

    /// A server does not know the session. Gives whether it is time to give it up.
    pub(crate) fn is_unknown_for_too_long(&mut self, session: SessionId, now: Time) -> bool {
        if self.session != Some(session) {
            return true;
        }
        let since = *self.unknown_since.get_or_insert(now);
        now.since(since) >= UNKNOWN_PATIENCE
    }

    fn lowest_unanswered(&self) -> u64 {
        self.unanswered.first().copied().unwrap_or(self.next)
    }

    pub(crate) fn check_invariants(&self) {
        assert!(
            self.unanswered.last().is_none_or(|last| *last < self.next),
            "a number was settled before it was given"
        );
        assert!(
            self.session.is_none() || self.next - self.lowest_unanswered() <= limits::SESSION_ANSWERS_MAX as u64,
            "more answers are unseen than the servers keep"
        );
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::LogIndex;

    use super::*;

    fn open() -> Numbers {
        let mut numbers = Numbers::default();
        numbers.open(SessionId { opened_at: LogIndex(1), nonce: 7 });
        numbers
    }

    #[test]
    fn without_a_session_there_is_no_number() {
        assert_eq!(Numbers::default().take(), None);
    }

    #[test]
    fn the_window_counts_from_the_lowest_unanswered_change() {
        let mut numbers = open();
        let first = numbers.take().expect("the window is empty");
        let second = numbers.take().expect("the window has room");
        for _ in 2..limits::SESSION_ANSWERS_MAX {
            numbers.take().expect("the window has room");
        }
        numbers.check_invariants();
        assert_eq!(numbers.take(), None);
        numbers.settle(second);
        assert_eq!(numbers.take(), None, "the first is still unanswered");
        numbers.settle(first);
        assert!(numbers.take().is_some() && numbers.take().is_some());
        assert_eq!(numbers.take(), None);
    }
}
