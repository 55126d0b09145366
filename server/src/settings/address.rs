//! Addresses as a person writes them: a host, which may be a name, and a port.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use heirloom_proto::VoterKind;

/// Where a server is found. A name is looked up again at every attempt to connect, for it may move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address, the latter without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// What the address stands for at the moment.
    ///
    /// **Errors:** that of the resolver, or one that says that the name stands for nothing.
    pub async fn resolve(&self) -> io::Result<SocketAddr> {
        let mut found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.host)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no address: write host:port, such as 127.0.0.1:7400 or [::1]:7400");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // A bare IPv6 address is refused: nobody can tell its last group from a port.
        if bracketed.is_none() && host.contains([':', '[', ']']) {
            return Err(bad());
        }
        let host = bracketed.unwrap_or(host);
        let port = port.parse().map_err(|_| bad())?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// One entry of `--cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEntry {
    /// Whether the server keeps data.
    pub kind: VoterKind,
    /// Where it is found.
    pub address: Address,
}

impl FromStr for ClusterEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (kind, address) = match text.strip_prefix("witness@") {
            Some(address) => (VoterKind::Witness, address),
            None => (VoterKind::Data, text),
        };
        Ok(Self { kind, address: address.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_as_it_is_written() {
        for text in ["127.0.0.1:7400", "[::1]:7400", "db-1.example:65535"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in ["", "7400", "host:", ":7400", "host:70000", "::1:7400", "[::1:7400", "a b:1"] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.contains("host:port"), "{error}");
        }
    }

    #[test]
    fn a_witness_is_told_from_a_data_server() {
        let entry: ClusterEntry = "witness@c:3".parse().expect("well formed");
        assert_eq!((entry.kind, entry.address.to_string()), (VoterKind::Witness, "c:3".to_owned()));
        let entry: ClusterEntry = " a:1".parse().expect("well formed");
        assert_eq!((entry.kind, entry.address.to_string()), (VoterKind::Data, "a:1".to_owned()));
    }
}
