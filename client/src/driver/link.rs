//! The connection to one server: made, kept and made again, with one session stream on it.

use std::time::Duration;

use heirloom_proto::ServerId;
use heirloom_proto::wire::v1::cluster_client::ClusterClient;
use heirloom_proto::wire::v1::dictionary_client::DictionaryClient;
use heirloom_proto::wire::v1::{SessionRequest, SessionResponse, StatusRequest, StatusResponse};
use heirloom_session::Seat;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::Whereabouts;
use super::outbox::Outbox;
use crate::transport;
use heirloom_proto::Address;

/// How long a server may take to answer that the stream stands, and who it is.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause before a connection is made again; twice as long each time up to the longest. A dead server costs little:
/// calls go to the others meanwhile.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// The pause before a server that does not know itself yet is asked again who it is.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Something that happened on the link of a seat, in order.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) seat: Seat,
    pub(super) news: News,
}

/// What happened.
#[derive(Debug)]
pub(super) enum News {
    /// The stream stands.
    Connected(Connection),
    /// It is gone, or could not be made; nothing more comes of what was sent on it.
    Broken {
        /// For people.
        why: String,
    },
    /// The server told who it is, and where the others are.
    Told { server: ServerId, servers: Vec<Whereabouts> },
    /// Answers came.
    Answers(Vec<SessionResponse>),
}

/// A way to speak to a connected server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) outbox: mpsc::UnboundedSender<SessionRequest>,
    pub(super) cluster: ClusterClient<Channel>,
}

/// Keeps a link until nobody listens any more.
pub(super) async fn keep(seat: Seat, address: Address, events: mpsc::Sender<Event>) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let why = connect(seat, &address, &events).await;
        if began.elapsed() > OPEN_TIMEOUT {
            pause = PAUSE_MIN;
        }
        if events.send(Event { seat, news: News::Broken { why } }).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Makes one connection and reads it to its end; gives why it ended.
async fn connect(seat: Seat, address: &Address, events: &mpsc::Sender<Event>) -> String {
    let channel = match transport::connect(address).await {
        Ok(channel) => channel,
        Err(why) => return why,
    };
    let cluster = ClusterClient::new(channel.clone());
    let (outbox, requests) = Outbox::new();
    let mut dictionary = DictionaryClient::new(channel).max_decoding_message_size(transport::MESSAGE_BYTES_MAX);
    let mut answers = match tokio::time::timeout(OPEN_TIMEOUT, dictionary.session(requests)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return transport::describe(&status),
        Err(_) => return format!("connected, but there was no answer within {OPEN_TIMEOUT:?}"),
    };
    let tell = |news| events.send(Event { seat, news });
    let identity = identify(cluster.clone());
    tokio::pin!(identity);
    let mut is_identified = false;
    if tell(News::Connected(Connection { outbox, cluster })).await.is_err() {
        return String::new();
    }
    loop {
        let news = tokio::select! {
            told = &mut identity, if !is_identified => {
                is_identified = true;
                told
            }
            message = answers.message() => match message {
                Ok(Some(message)) => News::Answers(message.responses),
                Ok(None) => return "the server ended the connection".to_owned(),
                Err(status) => return transport::describe(&status),
            },
        };
        if tell(news).await.is_err() {
            return String::new();
        }
    }
}

/// Asks a server who it is, until it knows. One question that is lost must not be waited for as long as the connection
/// stands: nobody would learn of the other servers.
async fn identify(mut cluster: ClusterClient<Channel>) -> News {
    loop {
        if let Ok(Ok(response)) = tokio::time::timeout(OPEN_TIMEOUT, cluster.status(StatusRequest {})).await
            && let Some(told) = told(&response.into_inner())
        {
            return told;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn told(status: &StatusResponse) -> Option<News> {
    let server = |id: u32| u8::try_from(id).ok().map(ServerId);
    // A witness keeps no data: it is asked only where the user names it.
    let data_servers = status.servers.iter().filter(|other| !other.witness);
    let servers = data_servers.filter_map(|other| Some((server(other.id)?, other.address.parse().ok()?))).collect();
    Some(News::Told { server: server(status.server)?, servers })
}
