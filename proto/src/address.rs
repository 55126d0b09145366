//! Where a server is, as a person writes it: a host, which may be a name, and a port.

use std::fmt;
use std::str::FromStr;

use crate::config::VoterKind;

/// The address of a server, `host:port`; an IPv6 host stands in brackets.
///
/// Names are looked up at each connection, so a server may move.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an IP address, the latter without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress {
    text: String,
    what: &'static str,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = |what| BadAddress { text: text.to_owned(), what };
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // Nobody can tell the last group of a bare IPv6 address from a port.
        if bracketed.is_none() && host.contains(':') {
            return Err(bad("an IPv6 address needs brackets"));
        }
        let host = bracketed.unwrap_or(host);
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if !host.chars().all(is_plain) {
            return Err(bad("the host has a character that no host name has"));
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(bad("the port is no number from 1 to 65535")),
            Ok(port) => Ok(Self { host: host.to_owned(), port }),
        }
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

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, what } = self;
        write!(f, "{text:?} is no server address: {what}; write host:port, such as 127.0.0.1:7400 or [::1]:7400")
    }
}

impl std::error::Error for BadAddress {}

/// One entry of a list of servers: `host:port`, or `witness@host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEntry {
    /// Whether the server keeps data.
    pub kind: VoterKind,
    /// Where it is found.
    pub address: Address,
}

impl FromStr for ClusterEntry {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
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
        for text in ["127.0.0.1:7400", "db-1.example.org:1", "[::1]:65535", " localhost:7400 "] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), text.trim());
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_with_an_example() {
        for (text, what) in [
            ("", "port is missing"),
            ("7400", "port is missing"),
            (":7400", "host is missing"),
            ("[]:7400", "host is missing"),
            ("::1:7400", "brackets"),
            ("[::1:7400", "brackets"),
            ("host:", "1 to 65535"),
            ("localhost:0", "1 to 65535"),
            ("localhost:65536", "1 to 65535"),
            ("local host:7400", "character"),
            ("[a]b]:7400", "character"),
            ("http://a:7400", "brackets"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(what) && error.contains("host:port"), "{text}: {error}");
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
