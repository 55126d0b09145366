//! Sending a snapshot to an operator's file.

use std::sync::Arc;
use std::time::Duration;

use heirloom_proto::Version;
use heirloom_proto::wire::snapshot::HeldSnapshot;
use heirloom_proto::wire::v1::SnapshotChunk;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::STALLED_MAX;
use super::serve::{Chunks, Sender, ended_early, newest, send};
use crate::storage::{Shelf, SnapshotSource};

/// How often it is said that the snapshot is still being made. A third of what clients wait for a word, or less.
const WORD_PAUSE: Duration = Duration::from_secs(1);

/// Tells when the snapshot that was asked for is there, or why there is none.
pub(crate) type Made = oneshot::Receiver<Result<(), String>>;

/// Goes on with the snapshot of which there is something already.
///
/// **Errors:** where the newest one is another.
pub(crate) async fn save_held(
    shelf: Arc<Shelf>,
    seat: OwnedSemaphorePermit,
    held: HeldSnapshot,
) -> Result<Chunks, Status> {
    let source = newest(shelf).await?;
    let head = source.head();
    if (head.cluster, head.state.position) != (held.cluster, held.position) || held.offset > source.length() {
        return Err(Status::not_found(format!(
            "its newest snapshot is of entry {}, and what is there already is of another",
            head.state.position.index
        )));
    }
    Ok(start(seat, move |chunks| async move { send_to_operator(source, held.offset, &chunks).await }))
}

/// Sends the snapshot that is being made, which holds at least this version.
pub(crate) fn save_fresh(shelf: Arc<Shelf>, seat: OwnedSemaphorePermit, made: Made, at_least: Version) -> Chunks {
    start(seat, move |chunks| async move {
        wait(made, &chunks).await?;
        let source = newest(shelf).await?;
        let found = source.head().state.version;
        if found < at_least {
            // Another run goes on with another store.
            let what = format!("this server was given another store meanwhile, of version {found}: ask again");
            return Err(Status::unavailable(what));
        }
        send_to_operator(source, 0, &chunks).await
    })
}

fn start<F>(seat: OwnedSemaphorePermit, send: impl FnOnce(Sender) -> F) -> Chunks
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (chunks, stream) = mpsc::channel(2);
    let sending = send(chunks.clone());
    tokio::spawn(async move {
        let _seat = seat;
        if let Err(status) = sending.await {
            ended_early(&chunks, status);
        }
    });
    ReceiverStream::new(stream)
}

async fn send_to_operator(source: SnapshotSource, offset: u64, chunks: &Sender) -> Result<(), Status> {
    send(source, offset, "an operator's file", chunks, || ()).await
}

/// Waits for the snapshot, and says now and then that it is being made.
async fn wait(mut made: Made, chunks: &Sender) -> Result<(), Status> {
    loop {
        let made = tokio::time::timeout(WORD_PAUSE, &mut made);
        match tokio::select! { made = made => made, () = chunks.closed() => return Err(gone()) } {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(why))) => return Err(Status::unavailable(why)),
            Ok(Err(_)) => return Err(Status::unavailable("this server began another run meanwhile: ask again")),
            Err(_) => {}
        }
        let word = SnapshotChunk { begin: None, bytes: bytes::Bytes::new() };
        match tokio::time::timeout(STALLED_MAX, chunks.send(Ok(word))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(gone()),
        }
    }
}

fn gone() -> Status {
    Status::cancelled("nobody waits for it any more")
}
