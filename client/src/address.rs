//! Where a server is: a host and a port.

use std::fmt;
use std::str::FromStr;

/// The address of a server, `host:port`; an IPv6 host stands in brackets.
///
/// Names are looked up at each connection, so a server may move.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

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
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
        let in_brackets = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host == "[]" {
            return Err(bad("the host is missing"));
        }
        if host.contains(':') && !in_brackets {
            return Err(bad("an IPv6 address needs brackets"));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
        if !host.chars().all(is_plain) {
            return Err(bad("the host has a character that no host name has"));
        }
        match port.parse::<u16>() {
            Ok(0) | Err(_) => Err(bad("the port is no number from 1 to 65535")),
            Ok(port) => Ok(Self(format!("{host}:{port}"))),
        }
    }
}

impl Address {
    /// The address as a URI, as the transport wants it.
    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no server address: {}; write host:port, such as 127.0.0.1:7400", self.text, self.what)
    }
}

impl std::error::Error for BadAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_ports_are_addresses() {
        for text in ["127.0.0.1:7400", "db-1.example.org:1", "[::1]:65535", " localhost:7400 "] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), text.trim());
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (text, what) in [
            ("", "port is missing"),
            ("localhost", "port is missing"),
            (":7400", "host is missing"),
            ("::1:7400", "brackets"),
            ("localhost:0", "1 to 65535"),
            ("localhost:65536", "1 to 65535"),
            ("local host:7400", "character"),
            ("http://a:7400", "brackets"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
