//! The services on the port: `Dictionary`, `Cluster`, `Replication`, health and reflection.

mod cluster;
mod desk;
mod dictionary;
mod forward;
mod health;
mod incoming;
mod room;
mod seated;
mod session;
mod watch;

use std::sync::Arc;

use heirloom_proto::limits::{KEY_BYTES_MAX, MESSAGE_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use heirloom_proto::wire::DESCRIPTORS;
use heirloom_proto::wire::client::SESSION_BATCH_BYTES_MAX;
use heirloom_proto::wire::v1::cluster_server::ClusterServer;
use heirloom_proto::wire::v1::dictionary_server::DictionaryServer;
use heirloom_proto::wire::v1::replication_server::ReplicationServer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::{self, Server};

use crate::links::{Acceptor, CONNECTION_WINDOW_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, STREAM_WINDOW_BYTES};
use crate::settings::Settings;

pub(crate) use desk::Desk;

/// How many calls one connection has under way at most; the default of 200 would throttle plain unary clients.
const CALLS_PER_CONNECTION_MAX: u32 = 16_384;
/// The largest message that is read from a client: a full batch, or the largest key and value that *any* server may be set
/// to take, with some slack. Not this server's own `--value-bytes-max`: a value beyond that is for the node to refuse in
/// words, where the transport would end the stream and leave everything else on it unknown.
const CLIENT_MESSAGE_BYTES_MAX: usize = VALUE_BYTES_MAX_MAX + KEY_BYTES_MAX + SESSION_BATCH_BYTES_MAX + (3 << 20);

// A forwarder sends what came in so, with other tags.
const _: () = assert!(CLIENT_MESSAGE_BYTES_MAX <= MESSAGE_BYTES_MAX);

/// Serves on `listener` until the node is said to have stopped, and then until all calls have ended.
pub(crate) async fn serve(
    settings: &Settings,
    listener: TcpListener,
    desk: Arc<Desk>,
    acceptor: Acceptor,
    node_stopped: oneshot::Receiver<()>,
) -> Result<(), transport::Error> {
    let dictionary = DictionaryServer::new(dictionary::Service::new(desk.clone()))
        .max_decoding_message_size(CLIENT_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let dictionary = seated::Seated(dictionary);
    let kinds = settings.node.constants.voters.as_slice().into();
    let cluster = ClusterServer::new(cluster::Service::new(desk.clone(), kinds, acceptor.clone()));
    let replication = ReplicationServer::new(acceptor)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let heralding = tokio::spawn(desk.history().clone().herald());
    let watching = tokio::spawn(health::follow(reporter, desk));
    let peers: Vec<_> = settings.others().filter_map(|server| settings.address(server).cloned()).collect();
    let peer_seats = incoming::PeerSeats::new(peers.len());
    let looking = tokio::spawn(peer_seats.clone().look_up(peers));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let built_in = "the descriptors are compiled into the program";
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .add_service(dictionary)
        .add_service(cluster)
        .add_service(replication)
        .add_service(health)
        .add_service(reflection().build_v1().expect(built_in))
        .add_service(reflection().build_v1alpha().expect(built_in))
        .serve_with_incoming_shutdown(incoming::Incoming::new(listener, peer_seats), async move {
            // Said or dropped, it is over.
            let _ = node_stopped.await;
        })
        .await;
    heralding.abort();
    watching.abort();
    looking.abort();
    served
}
