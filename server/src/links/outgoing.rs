//! What waits to be sent to one peer. The driver never waits for it: where the peer is too slow, messages are dropped,
//! which the protocol tolerates.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use heirloom_proto::limits::{IN_FLIGHT_BYTES_MAX, MESSAGE_BYTES_MAX, PREPARE_BYTES_MAX};
use heirloom_proto::wire::link::{Hello, hello_to_wire, message_to_wire};
use heirloom_proto::wire::v1;
use heirloom_proto::{ClusterId, Message};
use tokio_stream::Stream;

/// How many messages wait at most.
const MESSAGES_MAX: usize = 16_384;
/// How many bytes wait at most: twice what the core has under way to one copy, so that a full repetition still fits.
const BYTES_MAX: usize = 2 * IN_FLIGHT_BYTES_MAX;
/// How many bytes go out together, unless the first message alone is larger.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What a message without entries counts for.
const SMALL_MESSAGE_BYTES: usize = 256;

const _: () = assert!(BATCH_BYTES_MAX + PREPARE_BYTES_MAX < MESSAGE_BYTES_MAX);

/// The messages on their way to one stream.
///
/// **Invariants:** `bytes` is the sum over `messages`; both stay within their bounds, but for one message alone.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<(Option<ClusterId>, Message)>,
    bytes: usize,
    dropped: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements, so a panic elsewhere does not spoil it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues messages; returns how many of the newest had to be dropped.
    pub(crate) fn push(&self, messages: impl IntoIterator<Item = (Option<ClusterId>, Message)>) -> u64 {
        let mut queue = self.lock();
        let dropped_before = queue.dropped;
        for (cluster, message) in messages {
            let bytes = message_bytes(&message);
            let fits = queue.messages.len() < MESSAGES_MAX && queue.bytes + bytes <= BYTES_MAX;
            if queue.closed || !(fits || queue.messages.is_empty()) {
                queue.dropped += 1;
                continue;
            }
            queue.bytes += bytes;
            queue.messages.push_back((cluster, message));
        }
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
        queue.dropped - dropped_before
    }

    /// Ends the stream; what waits is forgotten.
    pub(crate) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.messages.clear();
        queue.bytes = 0;
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }
}

impl Queue {
    fn take_batch(&mut self) -> Vec<v1::LinkMessage> {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        while let Some((cluster, message)) = self.messages.pop_front() {
            let bytes = message_bytes(&message);
            if !batch.is_empty() && batch_bytes + bytes > BATCH_BYTES_MAX {
                self.messages.push_front((cluster, message));
                break;
            }
            batch_bytes += bytes;
            batch.push(message_to_wire(cluster, message));
        }
        self.bytes -= batch_bytes;
        batch
    }
}

fn message_bytes(message: &Message) -> usize {
    let content = match message {
        Message::Prepare { entries, .. } => entries.iter().map(|entry| entry.bytes().len() + 8).sum(),
        Message::EpochStarted { tail, .. } => tail.epochs.len() * 64,
        _ => 0,
    };
    SMALL_MESSAGE_BYTES + content
}

/// The stream itself: the handshake, then all that has gathered whenever the connection has room.
#[derive(Debug)]
pub(crate) struct OutgoingStream {
    hello: Option<Hello>,
    outgoing: Arc<Outgoing>,
}

impl OutgoingStream {
    /// The stream that begins with `hello`.
    pub(crate) fn new(hello: Hello, outgoing: Arc<Outgoing>) -> Self {
        Self { hello: Some(hello), outgoing }
    }
}

impl Stream for OutgoingStream {
    type Item = v1::LinkMessages;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(v1::LinkMessages { hello: Some(hello_to_wire(&hello)), messages: Vec::new() }));
        }
        let mut queue = self.outgoing.lock();
        if queue.closed {
            return Poll::Ready(None);
        }
        let messages = queue.take_batch();
        if messages.is_empty() {
            queue.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(v1::LinkMessages { hello: None, messages }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use heirloom_proto::wire::link::PROTOCOL_VERSION;
    use heirloom_proto::{
        Answer, Effect, Entry, Epoch, LogIndex, Peer, Position, RunId, Sealed, ServerId, StoreId, Version, WallTime,
    };
    use tokio_stream::StreamExt;

    use super::*;

    fn stream() -> (Arc<Outgoing>, OutgoingStream) {
        let outgoing = Arc::new(Outgoing::default());
        let peer = Peer { server: ServerId(0), store: StoreId(1), run: RunId(2) };
        let hello = Hello { peer, cluster: None, protocol: PROTOCOL_VERSION };
        (outgoing.clone(), OutgoingStream::new(hello, outgoing))
    }

    fn question(ask: u64) -> (Option<ClusterId>, Message) {
        (None, Message::Question { ask })
    }

    fn large(bytes: usize) -> (Option<ClusterId>, Message) {
        let value = Bytes::from(vec![0; bytes]);
        let entry = Sealed::new(Entry {
            index: LogIndex(1),
            epoch: Epoch::NONE,
            version: Version(1),
            at: WallTime(0),
            effects: vec![Effect::Put { key: Bytes::from_static(b"k"), value }],
            origin: None,
            answer: Answer::Added { existed: false },
        });
        let (epoch, previous) = (Epoch::NONE, Position::START);
        (None, Message::Prepare { epoch, previous, entries: vec![entry], commit_index: LogIndex(0) })
    }

    #[tokio::test]
    async fn the_handshake_comes_first_and_what_has_gathered_goes_out_together() {
        let (outgoing, mut stream) = stream();
        assert_eq!(outgoing.push([question(1), question(2)]), 0);
        assert!(stream.next().await.expect("open").hello.is_some());
        let batch = stream.next().await.expect("open");
        assert_eq!((batch.hello, batch.messages.len()), (None, 2));
    }

    #[tokio::test]
    async fn large_messages_go_out_one_by_one() {
        let (outgoing, mut stream) = stream();
        outgoing.push([large(BATCH_BYTES_MAX), large(BATCH_BYTES_MAX), question(3)]);
        stream.next().await.expect("the handshake");
        let sizes = [stream.next().await, stream.next().await].map(|batch| batch.expect("open").messages.len());
        assert_eq!(sizes, [1, 1]);
        assert_eq!(stream.next().await.expect("open").messages.len(), 1);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_room_comes_back() {
        let (outgoing, mut stream) = stream();
        let many = (0..MESSAGES_MAX as u64 + 3).map(question);
        assert_eq!(outgoing.push(many), 3);
        let (outgoing_large, _) = self::stream();
        assert_eq!(outgoing_large.push([large(BYTES_MAX), question(1)]), 1, "a message alone may be larger");
        stream.next().await.expect("the handshake");
        stream.next().await.expect("open");
        assert_eq!(outgoing.push([question(9)]), 0);
    }

    #[tokio::test]
    async fn a_closed_stream_ends_and_takes_nothing_more() {
        let (outgoing, mut stream) = stream();
        stream.next().await.expect("the handshake");
        outgoing.push([question(1)]);
        outgoing.close();
        assert_eq!(outgoing.push([question(2)]), 1);
        assert!(stream.next().await.is_none());
    }
}
