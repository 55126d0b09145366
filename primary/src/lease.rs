//! The primary's lease: the right to answer linearizable reads alone (PROTOCOL 10).

use std::time::Duration;

use heirloom_proto::{Constants, Time};

/// Until when the lease runs, given for each other member the latest send time that it echoed: counted from when the
/// heartbeat was *sent*, not from its echo. A successor counts `L` from a moment that is certainly later, so ours is
/// over first. `None` where some member has echoed nothing in this epoch, or leases are off.
///
/// Without other members nobody could take over, so it never ends.
pub(crate) fn until(constants: &Constants, echoed: impl Iterator<Item = Option<Time>>) -> Option<Time> {
    if constants.lease == Duration::ZERO {
        return None;
    }
    let mut oldest = None;
    for sent_at in echoed {
        let sent_at = sent_at?;
        oldest = Some(oldest.map_or(sent_at, |oldest: Time| oldest.min(sent_at)));
    }
    Some(oldest.map_or(Time(u64::MAX), |oldest| oldest + constants.drift.shorten(constants.lease)))
}
