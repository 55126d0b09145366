//! The options that all client commands share.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::address::Address;
use crate::client::Client;
use crate::error::Error;

/// How long the end of the session is waited for: the answer is out already.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Which servers, how long, and how to answer.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The servers, host:port each; some are enough, the others are learnt from them.
    #[arg(
        long,
        env = "HEIRLOOM_SERVERS",
        value_name = "ADDRESSES",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402"
    )]
    pub(crate) servers: Vec<Address>,
    /// How long to wait for an answer, such as 300ms, 5s or 1m.
    #[arg(long, env = "HEIRLOOM_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// How to answer: for people, or one JSON object a line.
    #[arg(long, env = "HEIRLOOM_OUTPUT", value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// A form of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Options {
    /// A client of these servers.
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        Client::builder().timeout(self.timeout).connect(self.servers.iter().map(ToString::to_string)).await
    }
}

/// Ends the session of a command that is done. A session that could not be closed is removed by the servers in time, so
/// nobody needs to hear of it.
pub(crate) async fn close(client: &Client) {
    let _ = client.with_timeout(CLOSE_TIMEOUT).close().await;
}

/// A span of time with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number and a unit, such as 300ms, 5s or 1m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "write a number and a unit, such as 300ms, 5s or 1m".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(span) if span >= Duration::from_millis(1) && span <= Duration::from_secs(24 * 3600) => Ok(span),
        Ok(_) | Err(_) => Err("use a time from 1ms to 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "-1s", "1d", "0s", "1e9h", "1.2.3s", "25h"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
