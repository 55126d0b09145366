//! Dialling one server, for the length of one life.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heirloom_proto::ServerId;
use heirloom_proto::limits::MESSAGE_BYTES_MAX;
use heirloom_proto::wire::link::{Hello, hello_from_wire};
use heirloom_proto::wire::v1::{LinkMessages, replication_client::ReplicationClient};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::outgoing::OutgoingStream;
use super::warned::About;
use super::{
    CONNECTION_WINDOW_BYTES, HANDSHAKE_TIME_MAX, Input, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Life, Outgoing,
    STREAM_WINDOW_BYTES, StreamId, handshake,
};

/// The pause after the first failed attempt; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Keeps a stream to `server` up until the life is over.
pub(crate) async fn dial(life: Arc<Life>, server: ServerId) {
    let mut pause = PAUSE_MIN;
    loop {
        let attempt = tokio::time::timeout(HANDSHAKE_TIME_MAX, connect(&life, server)).await;
        match attempt.unwrap_or(Err(DialError::Slow)) {
            Ok(mut connection) => {
                life.warned.clear(About::Dialling(server.0));
                pause = PAUSE_MIN;
                let stream = StreamId::next();
                let input = Input::Dialled {
                    peer: connection.hello.peer,
                    stream,
                    address: connection.address,
                    outgoing: connection.outgoing.clone(),
                };
                if life.inputs.send(input).await.is_err() {
                    return;
                }
                connection.wait_until_broken().await;
                tracing::debug!(server = %server, "stream to peer broke");
                drop(connection);
                if life.inputs.send(Input::DialledBroke { server, stream }).await.is_err() {
                    return;
                }
            }
            Err(error) => error.tell(&life, server),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            () = life.redial[usize::from(server.0)].notified() => pause = PAUSE_MIN,
            () = life.inputs.closed() => return,
        }
    }
}

/// A stream with handshakes both ways.
#[derive(Debug)]
struct Connection {
    hello: Hello,
    address: SocketAddr,
    outgoing: Arc<Outgoing>,
    incoming: Streaming<LinkMessages>,
}

impl Connection {
    /// Nothing follows the other's handshake but the end.
    async fn wait_until_broken(&mut self) {
        while let Ok(Some(_)) = self.incoming.message().await {}
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum DialError {
    /// Nobody answers there: they may not be up yet.
    Nobody(String),
    /// No answer in time.
    Slow,
    /// A person has to do something.
    Wrong(String),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(what) | Self::Wrong(what) => f.write_str(what),
            Self::Slow => write!(f, "no answer in {HANDSHAKE_TIME_MAX:?}"),
        }
    }
}

impl DialError {
    fn tell(&self, life: &Life, server: ServerId) {
        match self {
            Self::Nobody(_) | Self::Slow => tracing::debug!(server = %server, "no connection: {self}"),
            Self::Wrong(what) => {
                life.warned.warn(About::Dialling(server.0), what);
            }
        }
    }
}

/// What is at the bottom of an error: tonic's own words for all of them are "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A connection to `server`, on which nothing was said yet, and to which address it is.
pub(crate) async fn reach(
    life: &Life,
    server: ServerId,
) -> Result<(ReplicationClient<Channel>, SocketAddr), DialError> {
    let named = &life.servers[usize::from(server.0)];
    let address = crate::settings::resolve(named).await.map_err(|error| {
        DialError::Wrong(format!("the address of server {server}, {named}, can't be looked up: {error}; trying on"))
    })?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| DialError::Wrong(format!("the address of server {server}, {named}, can't be used: {error}")))?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let channel = endpoint.connect().await.map_err(|error| DialError::Nobody(root_cause(&error)))?;
    let client = ReplicationClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Ok((client, address))
}

async fn connect(life: &Life, server: ServerId) -> Result<Connection, DialError> {
    let named = &life.servers[usize::from(server.0)];
    let (mut client, address) = reach(life, server).await?;
    let ours = life.hello();
    let outgoing = Arc::new(Outgoing::default());
    let answer =
        client.link(OutgoingStream::new(ours, outgoing.clone())).await.map_err(|status| match status.code() {
            // What the other end says about us: it has the remedy in it.
            tonic::Code::FailedPrecondition | tonic::Code::InvalidArgument => {
                DialError::Wrong(format!("server {server} refuses this one: {}", status.message()))
            }
            _ => DialError::Nobody(status.message().to_owned()),
        })?;
    let mut incoming = answer.into_inner();
    let first = incoming.message().await.map_err(|status| DialError::Nobody(status.message().to_owned()))?;
    let hello = first
        .and_then(|first| first.hello)
        .ok_or_else(|| DialError::Wrong(format!("what answers at {named} is no heirloom server")))?;
    let hello = hello_from_wire(hello).map_err(|error| DialError::Wrong(format!("server {server}: {error}")))?;
    handshake::check(&hello, &ours, Some(server), life.servers.len())
        .map_err(|error| DialError::Wrong(error.to_string()))?;
    Ok(Connection { hello, address, outgoing, incoming })
}
