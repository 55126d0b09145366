//! What the services ask of the driver, and the slots in which it answers.

use std::time::Duration;

use heirloom_proto::status::Status;
use heirloom_proto::{Refusal, Request, Response};
use tokio::sync::{mpsc, oneshot};

use super::callers::Reads;
use crate::storage::Checked;

/// One question to the driver.
#[derive(Debug)]
pub(crate) enum Ask {
    /// For the node.
    Request {
        /// What.
        request: Request,
        /// Where the answer goes.
        reply: Reply,
    },
    /// What does the server say of itself?
    Report(oneshot::Sender<Report>),
    /// A snapshot of all that is applied now, or of more: answered once it is durable. Why there is none is a sentence.
    Snapshot(oneshot::Sender<Result<(), String>>),
    /// A client says that the primary is gone.
    Nudge,
}

/// How many pages are read before whatever else has come has its turn. **Why:** each takes a millisecond or two at most.
const PAGES_MAX: usize = 4;

/// How many of these are for one turn: all that come before one page too many.
pub(super) fn turn(asks: &[Ask]) -> usize {
    let mut pages = asks.iter().enumerate().filter(|(_, ask)| ask.is_page()).map(|(place, _)| place);
    pages.nth(PAGES_MAX).unwrap_or(asks.len())
}

impl Ask {
    /// Whether a page of a scan is asked for, which takes longer than anything else.
    fn is_page(&self) -> bool {
        match self {
            Self::Request { request: Request::Scan(_), .. } => true,
            Self::Request { .. } | Self::Report(_) | Self::Snapshot(_) | Self::Nudge => false,
        }
    }
}

/// What a server says of itself, its machine included.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The node.
    pub(crate) status: Status,
    /// Since the process started.
    pub(crate) uptime: Duration,
    /// What became of the reads that it was asked for.
    pub(crate) reads: Reads,
    /// What the store takes on disk. **Units:** bytes.
    pub(crate) disk_bytes: u64,
    /// What of the log stands behind the newest snapshot. **Units:** bytes.
    pub(crate) log_bytes: u64,
    /// How long that is. **Units:** bytes.
    pub(crate) snapshot_bytes: u64,
    /// When all that is stored was last read and found right.
    pub(crate) checked: Checked,
}

/// Where an answer goes. A caller that has gone away is none of the driver's business.
#[derive(Debug)]
pub(crate) enum Reply {
    /// To one waiting call.
    Call(oneshot::Sender<Result<Response, Refusal>>),
    /// To a stream with many requests under way, which bounds how many.
    Stream {
        /// Names the request within the stream.
        number: u64,
        /// The stream.
        answers: mpsc::UnboundedSender<Replied>,
    },
}

/// An answer to a request of a stream.
#[derive(Debug)]
pub(crate) struct Replied {
    /// The request.
    pub(crate) number: u64,
    /// The answer.
    pub(crate) result: Result<Response, Refusal>,
}

impl Reply {
    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Call(slot) => slot.is_closed(),
            Self::Stream { answers, .. } => answers.is_closed(),
        }
    }

    /// Answers.
    pub(crate) fn send(self, result: Result<Response, Refusal>) {
        match self {
            Self::Call(slot) => {
                let _ = slot.send(result);
            }
            Self::Stream { number, answers } => {
                let _ = answers.send(Replied { number, result });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{At, Consistency, KeyRange, Scan};

    use super::*;

    fn asks(kinds: &str) -> Vec<Ask> {
        let request = |request| Ask::Request { request, reply: Reply::Call(oneshot::channel().0) };
        let at = At::Now(Consistency::Stale);
        let page = || Scan { range: KeyRange::default(), limit: 0, keys_only: false, at, cluster: None };
        let ask = |kind| match kind {
            'p' => request(Request::Scan(page())),
            'o' => request(Request::OpenSession),
            _ => Ask::Nudge,
        };
        kinds.chars().map(ask).collect()
    }

    #[test]
    fn a_turn_has_few_pages_and_whatever_else_there_is_before_the_next_one() {
        assert_eq!(turn(&asks("")), 0);
        assert_eq!(turn(&asks("onpponpp")), 8);
        assert_eq!(turn(&asks("onpponppoonpo")), 11);
        assert_eq!(turn(&asks(&"p".repeat(100))), PAGES_MAX);
    }
}
