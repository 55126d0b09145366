//! The services on the port: `Dictionary`, `Cluster`, `Replication`, health and reflection.

mod cluster;
mod desk;
mod dictionary;
mod forward;
mod health;
mod incoming;
mod room;
mod session;

use std::sync::Arc;

use heirloom_proto::limits::{KEY_BYTES_MAX, MESSAGE_BYTES_MAX};
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
/// What a message of a client holds beside one largest key and value: enough for a full batch, and for a value that is
/// over the limit to be refused in words rather than by a broken stream.
const MESSAGE_SLACK_BYTES: usize = SESSION_BATCH_BYTES_MAX + (3 << 20);

/// Serves on `listener` until the node is said to have stopped, and then until all calls have ended.
pub(crate) async fn serve(
    settings: &Settings,
    listener: TcpListener,
    desk: Arc<Desk>,
    acceptor: Acceptor,
    node_stopped: oneshot::Receiver<()>,
) -> Result<(), transport::Error> {
    let message_bytes_max = settings.node.value_bytes_max + KEY_BYTES_MAX + MESSAGE_SLACK_BYTES;
    let dictionary = DictionaryServer::new(dictionary::Service::new(desk.clone()))
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let kinds = settings.node.constants.voters.as_slice().into();
    let cluster = ClusterServer::new(cluster::Service::new(desk.clone(), kinds));
    let replication = ReplicationServer::new(acceptor)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let watching = tokio::spawn(health::follow(reporter, desk));
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
        .serve_with_incoming_shutdown(incoming::Incoming::new(listener), async move {
            // Said or dropped, it is over.
            let _ = node_stopped.await;
        })
        .await;
    watching.abort();
    served
}
