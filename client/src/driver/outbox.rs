//! What is to be sent to one server: handed in one by one, sent in one message with all that has gathered.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use heirloom_proto::wire::client::{SESSION_BATCH_BYTES_MAX, SESSION_BATCH_MAX};
use heirloom_proto::wire::v1::{KeyChange, SessionRequest, SessionRequests, session_request};
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// The stream of messages to one server. It has no bound of its own: the driver bounds the calls under way, and a call is
/// sent again to a server only when an answer is overdue.
#[derive(Debug)]
pub(super) struct Outbox {
    requests: mpsc::UnboundedReceiver<SessionRequest>,
    /// Taken already, and too much for the message before.
    gathered: VecDeque<SessionRequest>,
}

impl Outbox {
    pub(super) fn new() -> (mpsc::UnboundedSender<SessionRequest>, Self) {
        let (sender, requests) = mpsc::unbounded_channel();
        (sender, Self { requests, gathered: VecDeque::new() })
    }

    /// As much of what has gathered as one message carries.
    fn message(&mut self) -> SessionRequests {
        let mut bytes = 0;
        let mut requests = Vec::with_capacity(self.gathered.len());
        while let Some(next) = self.gathered.pop_front() {
            bytes += request_bytes(&next);
            if !requests.is_empty() && bytes > SESSION_BATCH_BYTES_MAX {
                self.gathered.push_front(next);
                break;
            }
            requests.push(next);
        }
        SessionRequests { requests }
    }
}

impl Stream for Outbox {
    type Item = SessionRequests;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SessionRequests>> {
        let Self { requests, gathered } = &mut *self;
        let room = SESSION_BATCH_MAX - gathered.len();
        let mut taken = Vec::new();
        // Many at once, for tokio makes a task that takes them one by one pause after a hundred or so.
        let ended = room > 0 && requests.poll_recv_many(context, &mut taken, room) == Poll::Ready(0);
        gathered.extend(taken);
        if !gathered.is_empty() {
            Poll::Ready(Some(self.message()))
        } else if ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

fn request_bytes(request: &SessionRequest) -> usize {
    use session_request::Request as Wire;
    64 + match &request.request {
        Some(Wire::Add(add)) => add.key.len() + add.value.len(),
        Some(Wire::Delete(delete)) => delete.key.len(),
        Some(Wire::Read(read)) => read.key.len(),
        Some(Wire::Scan(scan)) => scan.start.len() + scan.end.as_ref().map_or(0, Bytes::len),
        Some(Wire::Append(append)) => append.prefix.len() + append.value.len(),
        Some(Wire::ChangeSet(set)) => {
            let conditions: usize = set.conditions.iter().map(|condition| 16 + condition.key.len()).sum();
            let value = |change: &KeyChange| change.value.as_ref().map_or(0, Bytes::len);
            conditions + set.changes.iter().map(|change| 16 + change.key.len() + value(change)).sum::<usize>()
        }
        Some(Wire::OpenSession(_) | Wire::CloseSession(_)) | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::wire::v1::AddRequest;
    use tokio_stream::StreamExt as _;

    use super::*;

    fn add(tag: u64, bytes: usize) -> SessionRequest {
        let add = AddRequest { key: "k".into(), value: vec![0; bytes].into(), redirect: true, ..Default::default() };
        SessionRequest { tag, request: Some(session_request::Request::Add(add)) }
    }

    async fn messages(sizes: &[usize]) -> Vec<Vec<u64>> {
        let (sender, outbox) = Outbox::new();
        for (tag, bytes) in sizes.iter().enumerate() {
            sender.send(add(tag as u64, *bytes)).expect("the outbox is there");
        }
        drop(sender);
        outbox.map(|message| message.requests.iter().map(|request| request.tag).collect()).collect().await
    }

    #[tokio::test]
    async fn what_has_gathered_goes_into_one_message() {
        assert_eq!(messages(&[1, 1, 1]).await, [vec![0, 1, 2]]);
    }

    #[tokio::test]
    async fn a_message_is_bounded_and_nothing_is_lost_or_reordered() {
        let half = SESSION_BATCH_BYTES_MAX / 2;
        assert_eq!(messages(&[half, half, 1, 4 * half, 1]).await, [vec![0], vec![1, 2], vec![3], vec![4]]);
        let many = messages(&vec![0; SESSION_BATCH_MAX + 1]).await;
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [SESSION_BATCH_MAX, 1]);
    }
}
