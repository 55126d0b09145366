//! One watcher's stream: what is committed in its range, and a word now and then where nothing is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use heirloom_proto::codec::Malformed;
use heirloom_proto::limits::KEY_BYTES_MAX;
use heirloom_proto::wire::refusal::status_from_refusal;
use heirloom_proto::wire::v1::{Committed, KeyChange, WatchRequest, WatchResponse};
use heirloom_proto::wire::{cluster_from_text, epoch_to_wire};
use heirloom_proto::{KeyRange, Refusal, Sealed, ServerId, Version};
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::Stream;
use tonic::Status;

use super::desk::Desk;
use crate::history::{Batch, Watcher, key_change};

/// After how long a stream on which there was nothing to tell tells just that, while the server is in touch with its
/// cluster. A third of the time after which clients go on elsewhere.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// How long a server may be out of touch before it ends its streams: longer than a failover, so that not everybody comes
/// anew after each, and short enough that clients need not find out by themselves.
const CUT_OFF_MAX: Duration = Duration::from_secs(2);

/// The stream.
///
/// It is asked for its next message only when the last one has found room with the client, so nothing gathers here for one
/// that does not read.
#[derive(Debug)]
pub(crate) struct Watching {
    desk: Arc<Desk>,
    watcher: Watcher,
    stage: Stage,
    told_at: Instant,
    tick: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was told yet.
    New,
    /// The first message was sent.
    Tells,
    /// The last one was.
    Over,
}

impl Watching {
    /// Begins.
    ///
    /// **Errors:** the refusal, as a status.
    pub(super) fn begin(desk: Arc<Desk>, request: WatchRequest) -> Result<Self, Status> {
        let refuse = |refusal| status(&desk, &refusal);
        let range = KeyRange { start: request.start, end: request.end };
        if !range.is_within_bounds() {
            return Err(refuse(Refusal::BadKey { bytes_max: KEY_BYTES_MAX }));
        }
        if range.is_empty() {
            return Err(Status::invalid_argument("the range ends before it begins, so that no key can be in it"));
        }
        let malformed = |error: Malformed| Status::invalid_argument(error.to_string());
        let cluster = cluster_from_text(&request.cluster).map_err(malformed)?;
        let watcher = desk.history().watch(range, request.from_version.map(Version), cluster);
        let watcher = watcher.map_err(refuse)?;
        let tick = Box::pin(sleep(PROGRESS_PAUSE));
        Ok(Self { desk, watcher, stage: Stage::New, told_at: Instant::now(), tick })
    }

    fn message(&mut self, changes: Vec<Committed>, version: Version) -> WatchResponse {
        self.told_at = Instant::now();
        let server = u32::from(self.desk.me().0);
        WatchResponse { changes, version: version.0, server, cluster: String::new() }
    }

    fn first(&mut self) -> WatchResponse {
        let (cluster, told) = (self.watcher.cluster().to_string(), self.watcher.told());
        WatchResponse { cluster, ..self.message(Vec::new(), told) }
    }

    /// Where nothing is to be told: says so in time, or ends where this server can't know.
    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchResponse, Refusal>> {
        loop {
            ready!(self.tick.as_mut().poll(context));
            let due = self.told_at + PROGRESS_PAUSE;
            let now = Instant::now();
            // The clock is not set anew for each message, which on a busy stream would cost more than the message.
            self.tick.as_mut().reset(if due > now { due } else { now + PROGRESS_PAUSE });
            if due > now {
                continue;
            }
            match self.watcher.history().cut_off_for() {
                None => {
                    let told = self.watcher.told();
                    return Poll::Ready(Ok(self.message(Vec::new(), told)));
                }
                Some(span) if span >= CUT_OFF_MAX => {
                    return Poll::Ready(Err(Refusal::NotPrimary { primary: None }));
                }
                Some(_) => {}
            }
        }
    }
}

impl Stream for Watching {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.stage {
            Stage::New => {
                self.stage = Stage::Tells;
                return Poll::Ready(Some(Ok(self.first())));
            }
            Stage::Tells => {}
            Stage::Over => return Poll::Ready(None),
        }
        let told = match self.watcher.poll_next(context) {
            Poll::Ready(Ok(Batch { entries, version })) => {
                let changes = entries.iter().map(|sealed| committed(sealed, self.watcher.range())).collect();
                Ok(self.message(changes, version))
            }
            Poll::Ready(Err(refusal)) => Err(refusal),
            Poll::Pending => ready!(self.poll_progress(context)),
        };
        Poll::Ready(Some(told.map_err(|refusal| {
            self.stage = Stage::Over;
            status(&self.desk, &refusal)
        })))
    }
}

fn committed(sealed: &Sealed, range: &KeyRange) -> Committed {
    let entry = sealed.entry();
    let changes = entry.effects.iter().filter_map(key_change).filter(|(key, _)| range.contains(key));
    Committed {
        epoch: Some(epoch_to_wire(entry.epoch)),
        version: entry.version.0,
        changed_at_ms: entry.at.0,
        changes: changes.map(|(key, value)| KeyChange { key: key.clone(), value: value.cloned() }).collect(),
    }
}

/// A refusal with where the primary is, which whoever can't watch here may want to know.
fn status(desk: &Desk, refusal: &Refusal) -> Status {
    let refusal = match refusal {
        Refusal::NotPrimary { primary: None } => {
            let primary: Option<ServerId> = desk.place().borrow().primary.filter(|primary| *primary != desk.me());
            &Refusal::NotPrimary { primary }
        }
        other => other,
    };
    status_from_refusal(refusal, desk.primary_address(refusal).as_deref())
}
