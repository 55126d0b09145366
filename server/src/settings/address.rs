//! What an address stands for at the moment.

use std::io;
use std::net::SocketAddr;

use heirloom_proto::Address;

/// Looks the host up. A name is looked up again at every attempt to connect, for it may move.
///
/// **Errors:** that of the resolver, or one that says that the name stands for nothing.
pub async fn resolve(address: &Address) -> io::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host((address.host.as_str(), address.port)).await?;
    found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", address.host)))
}
