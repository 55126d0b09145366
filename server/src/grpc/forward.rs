//! Forwarding to the primary: one session stream to each other server, made when first needed and shared by all callers.

use std::collections::HashMap;
use std::time::Duration;

use heirloom_proto::limits::{MESSAGE_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use heirloom_proto::wire::client::{
    Answered, SESSION_BATCH_BYTES_MAX, SESSION_BATCH_MAX, request_to_wire, response_from_wire,
};
use heirloom_proto::wire::v1::dictionary_client::DictionaryClient;
use heirloom_proto::wire::v1::{SessionRequest, SessionRequests, SessionResponses};
use heirloom_proto::{Address, Refusal, Request, ServerId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::links::{CONNECTION_WINDOW_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, STREAM_WINDOW_BYTES};

/// How many requests wait for one forwarder.
const WAITING_MAX: usize = 4_096;
/// How many messages wait for one stream.
const MESSAGES_MAX: usize = 4;
/// How long a connection may take to be made.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// The forwarders, by id of the server to which they forward.
#[derive(Debug)]
pub(crate) struct Forwards {
    waiting: Vec<mpsc::Sender<Forward>>,
}

/// What came of forwarding.
#[derive(Debug)]
pub(crate) enum Forwarded {
    /// The other server answered.
    Answered(Result<Answered, Refusal>),
    /// The request did not get on its way.
    Unsent,
    /// The connection broke while the request was under way.
    Broken,
}

/// One request to forward.
#[derive(Debug)]
struct Forward {
    request: Request,
    reply: oneshot::Sender<Forwarded>,
}

impl Forwards {
    /// Forwarders to all of `servers`; they end when this is dropped.
    pub(crate) fn new(servers: &[Address]) -> Self {
        let start = |address: &Address| {
            let (sender, waiting) = mpsc::channel(WAITING_MAX);
            tokio::spawn(forward_all(address.clone(), waiting));
            sender
        };
        Self { waiting: servers.iter().map(start).collect() }
    }

    /// Forwards a request and waits for what comes of it.
    pub(crate) async fn forward(&self, to: ServerId, request: Request) -> Forwarded {
        // Refused on this side: the other end stops reading a stream on which a message comes that is too large, and with it
        // everything else that is under way there.
        if let Err(refusal) = request.check_bounds(VALUE_BYTES_MAX_MAX) {
            return Forwarded::Answered(Err(refusal));
        }
        let Some(waiting) = self.waiting.get(usize::from(to.0)) else { return Forwarded::Unsent };
        let (reply, answer) = oneshot::channel();
        if waiting.send(Forward { request, reply }).await.is_err() {
            return Forwarded::Unsent;
        }
        answer.await.unwrap_or(Forwarded::Broken)
    }
}

/// A connection to another server, for requests and for calls of operators; whatever it hangs in, not for long.
pub(crate) async fn connect(address: &Address) -> Result<Channel, String> {
    let connected = tokio::time::timeout(CONNECT_TIME_MAX, connect_some_time(address)).await;
    connected.unwrap_or_else(|_| Err("no connection in time".to_owned()))
}

async fn connect_some_time(address: &Address) -> Result<Channel, String> {
    let found = crate::settings::resolve(address).await.map_err(|error| error.to_string())?;
    let endpoint = Endpoint::from_shared(format!("http://{found}")).map_err(|error| error.to_string())?;
    endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await
        .map_err(|error| error.to_string())
}

async fn forward_all(address: Address, mut waiting: mpsc::Receiver<Forward>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, SESSION_BATCH_MAX).await > 0 {
        match open(&address).await {
            Ok((requests, responses)) => {
                let mut stream = Stream { requests, pending: HashMap::new(), next_tag: 0 };
                stream.run(&mut batch, &mut waiting, responses).await;
            }
            Err(what) => {
                tracing::debug!(%address, "not forwarded: {what}");
                while let Ok(forward) = waiting.try_recv() {
                    batch.push(forward);
                }
            }
        }
        // What is left here was never sent.
        for forward in batch.drain(..) {
            let _ = forward.reply.send(Forwarded::Unsent);
        }
    }
}

async fn open(address: &Address) -> Result<(mpsc::Sender<SessionRequests>, Streaming<SessionResponses>), String> {
    let channel = connect(address).await?;
    let mut client = DictionaryClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (requests, stream) = mpsc::channel(MESSAGES_MAX);
    let opened = tokio::time::timeout(CONNECT_TIME_MAX, client.session(ReceiverStream::new(stream))).await;
    let opened = opened.map_err(|_| "no answer in time".to_owned())?;
    Ok((requests, opened.map_err(|status| status.message().to_owned())?.into_inner()))
}

/// One session stream with its requests under way.
struct Stream {
    requests: mpsc::Sender<SessionRequests>,
    pending: HashMap<u64, oneshot::Sender<Forwarded>>,
    next_tag: u64,
}

impl Stream {
    /// Sends `batch` and all that comes to be waiting, until the stream breaks or nobody forwards any more.
    async fn run(
        &mut self,
        batch: &mut Vec<Forward>,
        waiting: &mut mpsc::Receiver<Forward>,
        mut responses: Streaming<SessionResponses>,
    ) {
        loop {
            if !self.send(batch) {
                break;
            }
            // Room first: while the stream takes nothing more, requests wait in front of it and answers still come.
            let room = self.requests.capacity() > 0;
            tokio::select! {
                taken = waiting.recv_many(batch, SESSION_BATCH_MAX), if room => if taken == 0 {
                    break;
                },
                permit = self.requests.reserve(), if !room => if permit.is_err() {
                    break;
                },
                answers = responses.message() => match answers {
                    Ok(Some(answers)) => take(&mut self.pending, answers),
                    Ok(None) | Err(_) => break,
                },
            }
        }
        for (_, reply) in self.pending.drain() {
            let _ = reply.send(Forwarded::Broken);
        }
    }

    /// Sends what fits into messages of a fair size; false where the stream is no more. Leaves in `batch` what has to wait.
    fn send(&mut self, batch: &mut Vec<Forward>) -> bool {
        while !batch.is_empty() {
            let permit = match self.requests.try_reserve() {
                Ok(permit) => permit,
                Err(mpsc::error::TrySendError::Full(())) => return true,
                Err(mpsc::error::TrySendError::Closed(())) => return false,
            };
            let mut bytes = 0;
            let together = batch.iter().position(|forward| {
                bytes += 64 + forward.request.bytes();
                bytes > SESSION_BATCH_BYTES_MAX
            });
            let together = together.unwrap_or(batch.len()).max(1);
            let mut requests = Vec::with_capacity(together);
            for forward in batch.drain(..together) {
                let Some(request) = request_to_wire(&forward.request, true) else {
                    // Requests of operators have calls of their own.
                    let _ = forward.reply.send(Forwarded::Unsent);
                    continue;
                };
                requests.push(SessionRequest { tag: self.next_tag, request: Some(request) });
                self.pending.insert(self.next_tag, forward.reply);
                self.next_tag += 1;
            }
            permit.send(SessionRequests { requests });
        }
        true
    }
}

fn take(pending: &mut HashMap<u64, oneshot::Sender<Forwarded>>, answers: SessionResponses) {
    for answer in answers.responses {
        let Some(reply) = pending.remove(&answer.tag) else { continue };
        let forwarded = match answer.response.map(response_from_wire) {
            Some(Ok(Ok(Answered { response, server }))) => {
                Forwarded::Answered(Ok(Answered { response: response.forwarded(), server }))
            }
            Some(Ok(Err(refused))) => Forwarded::Answered(Err(refused.refusal)),
            // It may have been carried out, whatever it was that came back.
            Some(Err(_)) | None => Forwarded::Broken,
        };
        let _ = reply.send(forwarded);
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::Change;
    use heirloom_proto::limits::KEY_BYTES_MAX;

    use super::*;

    #[tokio::test]
    async fn what_no_server_takes_is_refused_before_it_could_break_the_stream_of_others() {
        let nobody = Address { host: "127.0.0.1".to_owned(), port: 1 };
        let forwards = Forwards::new(&[nobody]);
        let add = |key: usize, value: usize| Request::Change {
            id: None,
            change: Change::Add { key: vec![0; key].into(), value: vec![0; value].into() },
        };
        let cases = [
            (add(KEY_BYTES_MAX + 1, 1), Refusal::BadKey { bytes_max: KEY_BYTES_MAX }),
            (add(1, VALUE_BYTES_MAX_MAX + 1), Refusal::BadValue { bytes_max: VALUE_BYTES_MAX_MAX }),
        ];
        for (request, refusal) in cases {
            match forwards.forward(ServerId(0), request).await {
                Forwarded::Answered(Err(refused)) => assert_eq!(refused, refusal),
                other => panic!("{other:?}"),
            }
        }
        let fits = forwards.forward(ServerId(0), add(KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX)).await;
        assert!(matches!(fits, Forwarded::Unsent), "{fits:?}");
    }
}
