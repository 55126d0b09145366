//! Fetching the newest snapshot of another server.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom_backup::StateHead;
use heirloom_proto::wire::snapshot::{SnapshotBegin, SnapshotRequest, begin_from_wire, request_to_wire};
use heirloom_proto::wire::v1::SnapshotChunk;
use heirloom_proto::{LogIndex, ServerId};
use tokio::task::JoinHandle;
use tonic::Streaming;

use super::STALLED_MAX;
use crate::gentle;
use crate::links::{Input, Life, reach};
use crate::storage::{FetchPlace, Fetched, StorageError};

/// The pause after an attempt that failed: the node asks again and again.
const PAUSE: Duration = Duration::from_secs(1);

/// Fetches one snapshot at a time, for the length of one life.
#[derive(Debug, Default)]
pub(crate) struct Fetcher {
    attempt: Option<JoinHandle<()>>,
    begun_at: Option<Instant>,
}

impl Fetcher {
    /// Fetches the newest snapshot of a server, unless one is being fetched, or was a moment ago in vain. Where all goes
    /// well the node is told.
    pub(crate) fn fetch(&mut self, life: &Arc<Life>, place: &FetchPlace, from: ServerId, at_least: LogIndex) {
        let under_way = self.attempt.as_ref().is_some_and(|attempt| !attempt.is_finished());
        let soon = self.begun_at.is_some_and(|at| at.elapsed() < PAUSE);
        if under_way || soon {
            return;
        }
        self.begun_at = Some(Instant::now());
        let (life, place) = (life.clone(), place.clone());
        self.attempt = Some(tokio::spawn(async move {
            match fetch(&life, &place, from, at_least).await {
                Ok(head) => {
                    tracing::info!(index = head.position.index.0, server = %from, "fetched a snapshot");
                    // Where the life is over its successor asks for itself, and finds what was fetched.
                    let _ = life.inputs.send(Input::SnapshotFetched(head)).await;
                }
                Err(error) => tracing::warn!(server = %from, "no snapshot could be fetched: {error}; trying on"),
            }
        }));
    }

    /// Gives up what is under way; what has come is kept, for the next life to go on.
    pub(crate) async fn end(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.abort();
            let _ = attempt.await;
        }
    }
}

/// Why an attempt came to nothing.
#[derive(Debug)]
enum FetchError {
    Unreachable(String),
    Refused(String),
    TooOld { found: LogIndex, wanted: LogIndex },
    Stalled,
    CutShort { at: u64, bytes: u64 },
    Storage(StorageError),
    Bug(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(what) | Self::Refused(what) | Self::Bug(what) => f.write_str(what),
            Self::TooOld { found, wanted } => {
                write!(f, "the newest one reaches up to entry {found}, and up to {wanted} is lacking here")
            }
            Self::Stalled => write!(f, "nothing came for {STALLED_MAX:?}"),
            Self::CutShort { at, bytes } => write!(f, "it ended after {at} of {bytes} bytes"),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

/// Fetches what is lacking of the newest snapshot of `from`, and checks all of it.
async fn fetch(life: &Life, place: &FetchPlace, from: ServerId, at_least: LogIndex) -> Result<StateHead, FetchError> {
    let cluster = *life.cluster.borrow();
    let cluster = cluster.ok_or_else(|| FetchError::Bug("a blank server asks for a snapshot".to_owned()))?;
    let (place, again) = (place.clone(), place.clone());
    let mut fetched = blocking(move || place.open(cluster)).await?;
    let held = fetched.head().map(|head| head.position).filter(|position| position.index >= at_least);
    let (mut client, _) = tokio::time::timeout(STALLED_MAX, reach(life, from))
        .await
        .map_err(|_| FetchError::Stalled)?
        .map_err(|error| FetchError::Unreachable(error.to_string()))?;
    let offset = if held.is_some() { fetched.offset() } else { 0 };
    let request = SnapshotRequest { hello: life.hello(), held, offset };
    let answer = tokio::time::timeout(STALLED_MAX, client.fetch_snapshot(request_to_wire(&request)));
    let answer = answer.await.map_err(|_| FetchError::Stalled)?;
    let mut chunks = answer.map_err(|status| FetchError::Refused(status.message().to_owned()))?.into_inner();
    let first = next(&mut chunks).await?.ok_or(FetchError::CutShort { at: 0, bytes: 0 })?;
    let begin = begin_from_wire(first.begin.clone()).map_err(|error| FetchError::Refused(error.to_string()))?;
    let index = begin.position.index;
    if index < at_least {
        return Err(FetchError::TooOld { found: index, wanted: at_least });
    }
    if begin.offset != 0 && (begin.offset, Some(begin.position)) != (offset, held) {
        return Err(FetchError::Refused("the answer goes on where nothing was".to_owned()));
    }
    tracing::info!(index = index.0, bytes = begin.bytes, from = begin.offset, server = %from, "fetching a snapshot");
    if begin.offset == 0 {
        fetched = with(fetched, Fetched::begin_anew).await?;
    }
    let fetched = fill(fetched, &begin, first, &mut chunks).await?;
    let finished = gentle::run(move || fetched.finish()).await.map_err(FetchError::Bug)?;
    let is_right = finished.as_ref().is_ok_and(|head| head.position == begin.position);
    if !is_right {
        // Where all of it is here and it is wrong, more of it would make it no better.
        blocking(move || again.open(cluster)?.begin_anew()).await?;
    }
    let head = finished.map_err(FetchError::Storage)?;
    if !is_right {
        return Err(FetchError::Refused(format!(
            "it is of {:?}, and {:?} was announced",
            head.position, begin.position
        )));
    }
    Ok(head)
}

/// Writes what comes behind what is there.
async fn fill(
    mut fetched: Fetched,
    begin: &SnapshotBegin,
    first: SnapshotChunk,
    chunks: &mut Streaming<SnapshotChunk>,
) -> Result<Fetched, FetchError> {
    let mut chunk = Some(first);
    while let Some(SnapshotChunk { bytes, .. }) = chunk {
        if fetched.offset() + bytes.len() as u64 > begin.bytes {
            return Err(FetchError::Refused(format!("more came than the {} bytes that were announced", begin.bytes)));
        }
        fetched = with(fetched, move |fetched| fetched.write(&bytes)).await?;
        chunk = if fetched.offset() < begin.bytes { next(chunks).await? } else { None };
    }
    let (at, bytes) = (fetched.offset(), begin.bytes);
    if at < bytes { Err(FetchError::CutShort { at, bytes }) } else { Ok(fetched) }
}

/// Does something to the file on a thread that may wait for the disk.
async fn with(
    mut fetched: Fetched,
    act: impl FnOnce(&mut Fetched) -> Result<(), StorageError> + Send + 'static,
) -> Result<Fetched, FetchError> {
    blocking(move || act(&mut fetched).map(|()| fetched)).await
}

async fn next(chunks: &mut Streaming<SnapshotChunk>) -> Result<Option<SnapshotChunk>, FetchError> {
    let next = tokio::time::timeout(STALLED_MAX, chunks.message()).await.map_err(|_| FetchError::Stalled)?;
    next.map_err(|status| FetchError::Refused(status.message().to_owned()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, FetchError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| FetchError::Bug(panic.to_string()))?.map_err(FetchError::Storage)
}
