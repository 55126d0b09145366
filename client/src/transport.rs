//! How a connection to a server is made.

use std::error::Error;
use std::time::Duration;

use heirloom_proto::limits;
use tonic::transport::{Channel, Endpoint};

use crate::address::Address;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which nothing was heard for this long is tested, and given up when the test is not answered.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Windows larger than what is ever in flight. With the default of 64 KiB large values would wait for round trips; with
/// an adaptive window h2 ends the connection under many small messages.
const WINDOW_BYTES: u32 = 16 << 20;

/// The largest answer that is taken. **Units:** bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = limits::VALUE_BYTES_MAX_MAX + (2 << 20);

/// Connects.
///
/// **Errors:** why not, for people.
pub(crate) async fn connect(address: &Address) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(address.uri()).map_err(|error| cause(&error))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEP_ALIVE))
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    endpoint.connect().await.map_err(|error| cause(&error))
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
        Some(_) | None => innermost.to_string(),
    }
}
