//! What was committed lately, for those who watch: fed by the driver, read by one stream for each watcher.
//!
//! ```text
//!   driver ── applied entries ──▶ ring ◀── cursor of each watcher
//!                                  │ news
//!                               herald ── finds those whom an entry concerns, and gives turns to them, a few at a time
//! ```
//!
//! A watcher is a cursor and a range, and holds nothing of the ring: one that does not read costs the others nothing, and
//! is told that it was cut off once the ring has gone past its cursor. Nobody is told anything twice or out of order,
//! since a cursor only rises, and only what is applied is here, so nothing is told that could be rolled back. Whoever waits is
//! found by its range, so an entry costs nothing to those whom it does not concern ([`audience`], [`ranges`]).

mod audience;
mod ranges;
mod ring;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use heirloom_node::Applied;
use heirloom_proto::entry::{Effect, Entry};
use heirloom_proto::{ClusterId, KeyRange, LogIndex, Refusal, Sealed, Version};
use tokio::sync::Notify;
use tokio::time::Instant;

use audience::Audience;
use ring::{RING_BYTES_MAX, Ring, TooOld};

/// How many bytes of entries are copied out for a watcher at once, unless the first alone is larger. Small, for that much
/// lies ready for every watcher that does not read.
const BATCH_BYTES_MAX: usize = 32 << 10;
/// How many entries are looked at for a watcher before others have their turn.
const BATCH_ENTRIES_MAX: usize = 1_024;
/// How many watchers have their turn at once, which is half a megabyte or a millisecond, before the driver has its own.
/// Were ten thousand woken together, or sent to whenever their clients have room, heartbeats would wait for all of them.
const TURNS_AT_ONCE: usize = 16;
/// Turns that take longer than this are followed by a rest of the same length: so however many watch, and however much is
/// written, they take half of the thread's time at most, and what gathers meanwhile goes into one message for each.
const REST_MIN: Duration = Duration::from_millis(1);
/// The longest rest, and the longest time by which it delays what comes meanwhile.
const REST_MAX: Duration = Duration::from_millis(100);
/// How many looks the herald has, at ranges, watchers and entries, before others have their turn; those that the last key
/// takes come on top, which is one for each length of prefixes and each range that is no prefix.
const HERALD_LOOKS_MAX: usize = 4_096;

/// The history of one server, over all lives of the process.
#[derive(Debug)]
pub(crate) struct History {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    /// Whose versions these are: those of another one, or of one that was set back, mean other changes.
    cluster: Option<ClusterId>,
    /// Since when the server is out of touch with its cluster; `None` where it is in touch.
    cut_off_at: Option<Instant>,
    audience: Audience,
    is_closed: bool,
}

/// What is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The entries that change a key of the range, in order.
    pub(crate) entries: Vec<Sealed>,
    /// With them, all changes of the range up to here are told.
    pub(crate) version: Version,
}

/// The driver's end of the history: whatever is applied goes in here. The history is closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Feeder {
    history: Arc<History>,
    fed: LogIndex,
}

/// One watcher; it is forgotten when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    history: Arc<History>,
    range: Arc<KeyRange>,
    cluster: ClusterId,
    id: u64,
}

impl History {
    /// A history of nothing, and where it is fed.
    pub(crate) fn new() -> (Feeder, Arc<Self>) {
        Self::bounded(RING_BYTES_MAX, HERALD_LOOKS_MAX)
    }

    fn bounded(ring_bytes_max: usize, looks_max: usize) -> (Feeder, Arc<Self>) {
        let inner = Inner {
            ring: Ring::new(ring_bytes_max),
            cluster: None,
            cut_off_at: Some(Instant::now()),
            audience: Audience::new(looks_max),
            is_closed: false,
        };
        let history = Arc::new(Self { inner: Mutex::new(inner), news: Notify::new() });
        (Feeder { history: history.clone(), fed: LogIndex::ZERO }, history)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the server has been out of touch with its cluster; `None` where it is in touch.
    pub(crate) fn cut_off_for(&self) -> Option<Duration> {
        self.lock().cut_off_at.map(|at| at.elapsed())
    }

    /// Begins to watch a range from a version on, or from whatever is applied next here; `named` is the cluster by which the
    /// version is counted, where whoever asks has said so.
    ///
    /// **Errors:** [`Refusal::OtherCluster`] where it is counted otherwise here, [`Refusal::VersionTooOld`] where it is no
    /// longer kept, [`Refusal::Overloaded`] where too many watch, [`Refusal::NotPrimary`] where the server is out of touch
    /// with its cluster.
    pub(crate) fn watch(
        self: &Arc<Self>,
        range: KeyRange,
        from: Option<Version>,
        named: Option<ClusterId>,
    ) -> Result<Watcher, Refusal> {
        let range = Arc::new(range);
        let mut inner = self.lock();
        let in_touch = !inner.is_closed && inner.cut_off_at.is_none();
        let Some(cluster) = inner.cluster.filter(|_| in_touch) else {
            return Err(Refusal::NotPrimary { primary: None });
        };
        match named {
            // This server may be the one that has not heard of it yet.
            Some(named) if named.is_later_than(cluster) => return Err(Refusal::NotPrimary { primary: None }),
            Some(named) if named != cluster => return Err(Refusal::OtherCluster),
            Some(_) | None => {}
        }
        if !inner.audience.has_room(&range) {
            return Err(Refusal::Overloaded);
        }
        let cursor = from.map_or(inner.ring.newest(), |from| Version(from.0.saturating_sub(1)));
        inner.ring.after(cursor).map_err(refusal)?;
        let id = inner.audience.admit(range.clone(), cursor);
        drop(inner);
        Ok(Watcher { history: self.clone(), range, cluster, id })
    }

    /// Gives watchers their turns when there is something for them, until it is dropped.
    pub(crate) async fn herald(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            loop {
                let begun = Instant::now();
                let more = self.give_turns();
                // Until these have had their turns, and whoever else came meanwhile, the driver first of all.
                tokio::task::yield_now().await;
                let took = begun.elapsed();
                if took >= REST_MIN {
                    tokio::time::sleep(took.min(REST_MAX)).await;
                }
                if !more {
                    break;
                }
            }
        }
    }

    /// Gives their turn to a few of those for whom there is something; whether there may be more of them.
    fn give_turns(&self) -> bool {
        let mut inner = self.lock();
        let Inner { ring, audience, .. } = &mut *inner;
        audience.match_entries(ring);
        let wakers = audience.give_turns(TURNS_AT_ONCE);
        let more = audience.has_more(ring);
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        more
    }
}

impl Watcher {
    /// The history that it watches.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// What it watches.
    pub(crate) fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Whose versions it is told.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// All that the range has up to here was told.
    pub(crate) fn told(&self) -> Version {
        self.history.lock().audience.told(self.id)
    }

    /// What is told next; pending until there is something.
    ///
    /// **Errors:** [`Refusal::VersionTooOld`] where the watcher was too slow, [`Refusal::NotPrimary`] where the server
    /// stops or goes on in a cluster that was set back.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch, Refusal>> {
        let mut inner = self.history.lock();
        let Inner { ring, cluster, audience, is_closed, .. } = &mut *inner;
        if *is_closed || *cluster != Some(self.cluster) {
            return Poll::Ready(Err(Refusal::NotPrimary { primary: None }));
        }
        let may_take = audience.take_turn(self.id);
        let watching = audience.recall(self.id);
        let entries = ring.after(watching.cursor).map_err(refusal)?;
        let mut found = Vec::new();
        if may_take {
            let mut bytes = 0;
            for sealed in entries.take(BATCH_ENTRIES_MAX) {
                if concerns(sealed.entry(), &watching.range) {
                    bytes += sealed.bytes().len();
                    if bytes > BATCH_BYTES_MAX && !found.is_empty() {
                        break;
                    }
                    found.push(sealed.clone());
                }
                watching.cursor = sealed.entry().version;
            }
        }
        if !found.is_empty() {
            return Poll::Ready(Ok(Batch { entries: found, version: watching.cursor }));
        }
        if audience.wait(self.id, context.waker().clone()) {
            self.history.news.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.history.lock().audience.dismiss(self.id);
    }
}

impl Feeder {
    /// A life begins, with this applied.
    ///
    /// What an earlier life told stays true, for it was committed; but in a cluster that was set back other changes bear
    /// the same versions, and this copy may be another one. So nothing is taken over, and whoever was told more than this
    /// copy has yet is told nothing until it has come so far.
    pub(crate) fn begin(&mut self, cluster: Option<ClusterId>, applied: Applied<'_>) {
        let mut inner = self.history.lock();
        let Inner { ring, audience, .. } = &mut *inner;
        ring.begin(applied.entries, applied.version);
        audience.follow(ring);
        inner.cluster = cluster;
        drop(inner);
        self.fed = applied.index;
        self.history.news.notify_one();
    }

    /// Everything up to here was fed.
    pub(crate) fn fed(&self) -> LogIndex {
        self.fed
    }

    /// Takes what was applied behind what was fed.
    pub(crate) fn feed(&mut self, cluster: Option<ClusterId>, applied: Applied<'_>) {
        let mut inner = self.history.lock();
        let Inner { ring, audience, .. } = &mut *inner;
        ring.feed(applied.entries, applied.version);
        audience.follow(ring);
        inner.cluster = cluster;
        drop(inner);
        self.fed = applied.index;
        self.history.news.notify_one();
    }

    /// The server belongs to this cluster, and is in touch with it or not.
    pub(crate) fn stands(&self, cluster: Option<ClusterId>, is_in_touch: bool) {
        let mut inner = self.history.lock();
        inner.cluster = cluster;
        inner.cut_off_at = match (is_in_touch, inner.cut_off_at) {
            (true, _) => None,
            (false, Some(at)) => Some(at),
            (false, None) => Some(Instant::now()),
        };
    }

    /// A life is over, and with it what the server knew of its cluster.
    pub(crate) fn cut_off(&self) {
        self.history.lock().cut_off_at.get_or_insert_with(Instant::now);
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut inner = self.history.lock();
        inner.is_closed = true;
        let waiting = inner.audience.disperse();
        drop(inner);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

fn refusal(TooOld { oldest }: TooOld) -> Refusal {
    Refusal::VersionTooOld { oldest }
}

/// The key that an effect changes, and its value then.
pub(crate) fn key_change(effect: &Effect) -> Option<(&bytes::Bytes, Option<&bytes::Bytes>)> {
    match effect {
        Effect::Put { key, value } => Some((key, Some(value))),
        Effect::Remove { key } => Some((key, None)),
        Effect::Count { .. } | Effect::OpenSession(_) | Effect::RemoveSession(_) => None,
    }
}

fn concerns(entry: &Entry, range: &KeyRange) -> bool {
    entry.effects.iter().filter_map(key_change).any(|(key, _)| range.contains(key))
}

#[cfg(test)]
mod examples;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
