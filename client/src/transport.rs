//! How a connection to a server is made.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use heirloom_proto::limits;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use heirloom_proto::Address;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which nothing was heard for this long is tested, and given up when the test is not answered.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Windows larger than what is ever in flight. With the default of 64 KiB large values would wait for round trips; with
/// an adaptive window h2 ends the connection under many small messages.
const WINDOW_BYTES: u32 = 16 << 20;
/// How much of one watch waits for its reader, here or at the server. Enough for some messages; what is more waits in the
/// server's ring, where it is kept once for all.
const WATCH_WINDOW_BYTES: u32 = 128 << 10;
/// How many watches of one client are begun at once; the others wait for these. When a server is lost, all that listened
/// to it come to the others.
const WATCHES_OPENED_AT_ONCE: usize = 64;
/// The largest window of a connection (RFC 9113, 6.9.1), under which some eight thousand watches may be full.
const CONNECTION_WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// The largest answer that is taken. **Units:** bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = limits::VALUE_BYTES_MAX_MAX + (2 << 20);

/// Connects.
///
/// **Errors:** why not, for people.
pub(crate) async fn connect(address: &Address) -> Result<Channel, String> {
    endpoint(address, WINDOW_BYTES, WINDOW_BYTES)?.connect().await.map_err(|error| cause(&error))
}

/// The connections for watches, one for each server, made when they are needed and again when they are lost.
///
/// They are not those of the calls: a watch that is not read fills its window, and calls must not wait behind it. Nor do
/// watches wait for each other: the connection has room for thousands of full streams.
#[derive(Debug)]
pub(crate) struct WatchChannels {
    channels: Mutex<HashMap<Address, Channel>>,
    opening: Semaphore,
}

impl Default for WatchChannels {
    fn default() -> Self {
        Self { channels: Mutex::default(), opening: Semaphore::new(WATCHES_OPENED_AT_ONCE) }
    }
}

impl WatchChannels {
    /// The right to ask a server to begin a watch, to be held while it is asked.
    pub(crate) async fn may_open(&self) -> SemaphorePermit<'_> {
        self.opening.acquire().await.expect("nobody closes the semaphore")
    }

    /// The one to a server. Must be called within the runtime.
    ///
    /// **Errors:** what is wrong with the address, for people.
    pub(crate) fn to(&self, address: &Address) -> Result<Channel, String> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = endpoint(address, WATCH_WINDOW_BYTES, CONNECTION_WINDOW_BYTES_MAX)?.connect_lazy();
        channels.insert(address.clone(), channel.clone());
        Ok(channel)
    }
}

fn endpoint(address: &Address, stream_window: u32, connection_window: u32) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| cause(&error))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEP_ALIVE))
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window))
}

/// The innermost cause of an error, which is what a person can do something about.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<std::io::Error>() {
        Some(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        Some(io) if io.kind() == std::io::ErrorKind::TimedOut => "the connection timed out".to_owned(),
        Some(_) | None => plain(innermost.to_string()),
    }
}

/// Why a call over gRPC failed, for people: what the server said, or why it could say nothing.
pub(crate) fn describe(status: &Status) -> String {
    match status.source() {
        Some(source) => cause(source),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

/// What the layers below call by names of their own. Their types are not ours to look into, so it is by their words.
fn plain(words: String) -> String {
    // *Detected* is what the other side's bytes showed; *received* would be what it said, in good HTTP/2.
    if words.starts_with("connection error detected") {
        "does not speak gRPC".to_owned()
    } else if words == "operation was canceled" || words == "connection closed" {
        "closed the connection, or does not speak gRPC".to_owned()
    } else if words == "Timeout expired" {
        "did not answer in time".to_owned()
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::wire::v1::StatusRequest;
    use heirloom_proto::wire::v1::cluster_client::ClusterClient;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Why a port that answers anybody with these words gives no status.
    async fn answered(words: &'static [u8]) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: Address = listener.local_addr().expect("bound").to_string().parse().expect("well formed");
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = connection.write_all(words).await;
                    // Closed with something unread it would be reset, which is another story.
                    let _ = tokio::io::copy(&mut connection, &mut tokio::io::sink()).await;
                });
            }
        });
        let asking = async {
            let channel = connect(&address).await?;
            let status = ClusterClient::new(channel).status(StatusRequest {}).await.expect_err("no server");
            Err::<(), String>(describe(&status))
        };
        let asked = tokio::time::timeout(Duration::from_secs(10), asking).await;
        asked.expect("it is seen at the first words").expect_err("no server")
    }

    #[tokio::test]
    async fn a_port_that_speaks_something_else_is_said_to() {
        let others: [&[u8]; 3] =
            [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command 'PRI'\r\n"];
        for words in others {
            for _ in 0..10 {
                let why = answered(words).await;
                let known = ["does not speak gRPC", "closed the connection, or does not speak gRPC"];
                assert!(known.contains(&&*why), "{why}");
            }
        }
    }
}
