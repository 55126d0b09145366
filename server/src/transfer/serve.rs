//! Sending the newest snapshot to another server.

use std::sync::Arc;

use heirloom_proto::Position;
use heirloom_proto::wire::snapshot::{SnapshotBegin, begin_to_wire};
use heirloom_proto::wire::v1::SnapshotChunk;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{CHUNK_BYTES, STALLED_MAX, Transfers, sent_in};
use crate::storage::{Shelf, SnapshotSource, StorageError};

/// The chunks of one transfer.
pub(crate) type Chunks = ReceiverStream<Result<SnapshotChunk, Status>>;

/// Where they go in.
pub(super) type Sender = mpsc::Sender<Result<SnapshotChunk, Status>>;

/// Sends the newest snapshot from `offset` on where it is the one that is `held` in part, and else from its beginning.
///
/// **Errors:** where there is none, or too many are being sent already.
pub(crate) fn serve(
    shelf: Arc<Shelf>,
    transfers: &Transfers,
    held: Option<Position>,
    offset: u64,
) -> Result<Chunks, Status> {
    let seat = transfers.begin().ok_or_else(|| Status::resource_exhausted("other servers are being sent snapshots"))?;
    let (chunks, stream) = mpsc::channel(2);
    let transfers = transfers.clone();
    tokio::spawn(async move {
        let _seat = seat;
        let sent = async {
            let source = newest(shelf).await?;
            let is_held = held == Some(source.head().state.position) && offset <= source.length();
            let bytes = source.length();
            let taken = || transfers.go_on(std::time::Instant::now(), bytes);
            send(source, if is_held { offset } else { 0 }, "another server", &chunks, taken).await
        };
        if let Err(status) = sent.await {
            ended_early(&chunks, status);
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// Says so where a transfer ends early.
pub(super) fn ended_early(chunks: &Sender, status: Status) {
    tracing::warn!("sending a snapshot ended early: {}", status.message());
    // Where nobody listens any more nobody needs to be told.
    let _ = chunks.try_send(Err(status));
}

/// The newest snapshot.
///
/// **Errors:** where there is none, or it can't be read.
pub(super) async fn newest(shelf: Arc<Shelf>) -> Result<SnapshotSource, Status> {
    let source = blocking(move || shelf.open_newest()).await?;
    source.ok_or_else(|| Status::unavailable("this server has no snapshot yet"))
}

/// Sends a snapshot from `offset` on; `taken` is called after each chunk that was taken.
pub(super) async fn send(
    source: SnapshotSource,
    offset: u64,
    to: &str,
    chunks: &Sender,
    taken: impl Fn(),
) -> Result<(), Status> {
    let source = Arc::new(source);
    let (position, bytes) = (source.head().state.position, source.length());
    let mut at = offset;
    let mut begin = Some(begin_to_wire(SnapshotBegin { position, bytes, offset: at }));
    tracing::info!(index = position.index.0, bytes, from = at, "sending a snapshot to {to}");
    let (begun, begun_at) = (Instant::now(), at);
    loop {
        tokio::time::sleep_until(begun + sent_in(at - begun_at)).await;
        let chunk = read(source.clone(), at).await?;
        at += chunk.len() as u64;
        let last = at >= bytes;
        let chunk = SnapshotChunk { begin: begin.take(), bytes: chunk.into() };
        match tokio::time::timeout(STALLED_MAX, chunks.send(Ok(chunk))).await {
            Ok(Ok(())) => taken(),
            Ok(Err(_)) => return Err(Status::cancelled("nobody takes it any more")),
            Err(_) => return Err(Status::deadline_exceeded("the other end takes nothing")),
        }
        if last {
            return Ok(());
        }
    }
}

async fn read(source: Arc<SnapshotSource>, at: u64) -> Result<Vec<u8>, Status> {
    blocking(move || source.read_at(at, CHUNK_BYTES)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| Status::internal(panic.to_string()))?.map_err(|error| Status::data_loss(error.to_string()))
}
