//! The streams that other servers dial: the service `Replication`.

use std::sync::Arc;

use heirloom_proto::wire::link::{Hello, hello_from_wire, hello_to_wire, message_from_wire};
use heirloom_proto::wire::snapshot::request_from_wire;
use heirloom_proto::wire::v1::{FetchSnapshotRequest, LinkMessages, replication_server::Replication};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::warned::About;
use super::{Gate, HANDSHAKE_TIME_MAX, Input, Life, StreamId, handshake};
use crate::transfer::{self, Chunks};

/// Takes streams into the life that is on; between two lives it refuses them.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor {
    life: watch::Receiver<Option<Arc<Life>>>,
}

impl Acceptor {
    /// An acceptor for the lives that `life` names.
    pub(crate) fn new(life: watch::Receiver<Option<Arc<Life>>>) -> Self {
        Self { life }
    }

    /// The life that is on.
    ///
    /// **Errors:** between two lives.
    pub(crate) fn life(&self) -> Result<Arc<Life>, Status> {
        self.life.borrow().clone().ok_or_else(|| Status::unavailable("this server is between two runs"))
    }
}

#[tonic::async_trait]
impl Replication for Acceptor {
    type LinkStream = ReceiverStream<Result<LinkMessages, Status>>;

    type FetchSnapshotStream = Chunks;

    async fn fetch_snapshot(&self, request: Request<FetchSnapshotRequest>) -> Result<Response<Chunks>, Status> {
        let life = self.life()?;
        let request =
            request_from_wire(request.into_inner()).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let ours = life.hello();
        handshake::check(&request.hello, &ours, None, life.servers.len())
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        // Of another generation other entries are committed.
        if request.hello.cluster != ours.cluster {
            return Err(Status::failed_precondition("this server is of another generation of the cluster"));
        }
        transfer::serve(life.shelf.clone(), &life.transfers, request.held, request.offset).map(Response::new)
    }

    async fn link(&self, request: Request<Streaming<LinkMessages>>) -> Result<Response<Self::LinkStream>, Status> {
        let life = self.life()?;
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HANDSHAKE_TIME_MAX, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no handshake in time"))??;
        let hello = first
            .and_then(|first| first.hello)
            .ok_or_else(|| Status::invalid_argument("the first message of a stream is a handshake"))?;
        let hello = hello_from_wire(hello).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let ours = life.hello();
        let about = match usize::from(hello.peer.server.0) < life.servers.len() {
            true => About::DiallingIn(hello.peer.server.0),
            false => About::Stranger,
        };
        if let Err(error) = handshake::check(&hello, &ours, None, life.servers.len()) {
            life.warned.warn(about, &error.to_string());
            return Err(Status::failed_precondition(error.to_string()));
        }
        life.warned.clear(about);
        let (answers, answered) = mpsc::channel(1);
        let first = LinkMessages { hello: Some(hello_to_wire(&ours)), messages: Vec::new() };
        // There is room for one, and the receiver is in our hand.
        let _ = answers.try_send(Ok(first));
        tokio::spawn(read(life, hello, incoming, answers));
        Ok(Response::new(ReceiverStream::new(answered)))
    }
}

/// Reads one stream until it breaks, is replaced, or the life is over. Ending the answers, by dropping them, tells the
/// other end.
async fn read(
    life: Arc<Life>,
    hello: Hello,
    mut incoming: Streaming<LinkMessages>,
    answers: mpsc::Sender<Result<LinkMessages, Status>>,
) {
    let (stream, from) = (StreamId::next(), hello.peer);
    let (sender, mut gate) = watch::channel(Gate::Shut);
    if life.inputs.send(Input::Accepted { peer: from, stream, gate: sender }).await.is_err() {
        return;
    }
    // Whoever dials in is up: the pause before dialling back is over.
    life.redial[usize::from(from.server.0)].notify_one();
    loop {
        let batch = tokio::select! {
            batch = incoming.message() => batch,
            // The answers are dropped by the transport when the connection is gone, a moment before the read fails.
            () = answers.closed() => break,
            () = ended(&mut gate) => break,
        };
        let Ok(Some(batch)) = batch else { break };
        // Nothing is handed on before the stream in the other direction stands, so that a node can answer.
        let open = tokio::select! {
            open = gate.wait_for(|gate| *gate == Gate::Open) => open.is_ok(),
            () = answers.closed() => false,
        };
        if !open {
            break;
        }
        let messages: Result<Vec<_>, _> = batch.messages.into_iter().map(message_from_wire).collect();
        match messages {
            Ok(messages) => {
                if life.inputs.send(Input::Received { from, stream, messages }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                life.warned.warn(About::DiallingIn(from.server.0), &format!("server {} sent a {error}", from.server));
                break;
            }
        }
    }
    tracing::debug!(server = %from.server, "stream from peer broke");
    let _ = life.inputs.send(Input::AcceptedBroke { server: from.server, stream }).await;
}

/// Returns when the gate has been dropped.
async fn ended(gate: &mut watch::Receiver<Gate>) {
    while gate.changed().await.is_ok() {}
}
