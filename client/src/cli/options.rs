//! The options that all client commands share.

use std::time::Duration;

use clap::{Args, ValueEnum};
use heirloom_session::Freshness;
use tokio::time::Instant;

use super::failure::Failure;
use super::operator;
use crate::client::Client;
use crate::error::{BadInput, Error, NotApplied, Unknown};
use heirloom_proto::{Address, BadAddress, ClusterEntry, span_from_text};

/// How much of the time at most is kept for what comes after an answer that did not come: the session is closed, and the
/// servers are asked what they wait for.
const CLOSING_MAX: Duration = Duration::from_millis(300);
/// Where servers are unless they are named: what `heirloom serve` listens on.
const SERVERS_DEFAULT: &str = "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402";

/// Which servers, how long, and how to answer.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The servers, host:port each; some are enough, the others are learnt from them.
    #[arg(
        long,
        env = unless_empty("HEIRLOOM_SERVERS"),
        value_name = "ADDRESSES",
        value_parser = list,
        default_value = SERVERS_DEFAULT
    )]
    servers: Vec<List>,
    /// How long it may take, such as 300ms, 5s or 1m; the last tenth of it, 300ms at most, is for closing.
    #[arg(
        long,
        env = unless_empty("HEIRLOOM_TIMEOUT"),
        value_name = "TIME",
        default_value = "5s",
        value_parser = duration
    )]
    pub(crate) timeout: Duration,
    /// How to answer: for people, or one JSON object a line.
    #[arg(long, env = unless_empty("HEIRLOOM_OUTPUT"), value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// The addresses of one `--servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct List(Vec<Address>);

/// A form of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Mode {
    #[default]
    Linearizable,
    Causal,
    Stale,
}

impl From<Mode> for Freshness {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Linearizable => Self::Linearizable,
            Mode::Causal => Self::Causal,
            Mode::Stale => Self::Stale,
        }
    }
}

impl Options {
    /// The servers that are named.
    pub(crate) fn servers(&self) -> Vec<Address> {
        self.servers.iter().flat_map(|list| list.0.clone()).collect()
    }

    /// How long an answer may take, and when all must be over: a little later, for the session must be closed too.
    pub(crate) fn times(&self) -> (Duration, Instant) {
        (self.timeout - self.closing(), Instant::now() + self.timeout)
    }

    /// How much of the time is kept for what comes after.
    pub(super) fn closing(&self) -> Duration {
        (self.timeout / 10).min(CLOSING_MAX)
    }

    /// Carries a request out with a client of these servers, tells its answer, and ends the session whatever came of it.
    ///
    /// A session that could not be closed is removed by the servers in time, so nobody needs to hear of it.
    pub(crate) async fn ask<T>(
        &self,
        request: impl AsyncFnOnce(&Client) -> Result<T, Error>,
        tell: impl FnOnce(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (timeout, end) = self.times();
        let client = Client::builder().timeout(timeout);
        let client = client.connect(self.servers().iter().map(ToString::to_string)).await?;
        let answer = request(&client).await;
        // A scan has as much time for each of its pages.
        let end = end.max(Instant::now() + self.closing());
        let told = match answer {
            Ok(answer) => Ok(tell(answer)),
            Err(error) => Err(error),
        };
        // Where no session was opened this is done at once.
        let closer = client.with_timeout(left(end).min(CLOSING_MAX));
        match told {
            Ok(told) => {
                let _ = closer.close().await;
                told
            }
            Err(error) => {
                let servers = self.servers().into_iter().chain(learnt(&error)).collect();
                let (_, failure) = tokio::join!(closer.close(), self.explain(Failure::from(error), servers, end));
                Err(failure)
            }
        }
    }

    /// A failure with what these servers wait for, where that may be why nobody did what was asked.
    pub(crate) async fn explain(&self, failure: Failure, servers: Vec<Address>, end: Instant) -> Failure {
        match failure {
            Failure::Unavailable(_) => {
                let waits = operator::waits(servers, left(end).min(CLOSING_MAX)).await;
                failure.and_then(&waits)
            }
            Failure::No(_) | Failure::Usage(_) | Failure::Integrity(_) | Failure::NobodyReads => failure,
        }
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// The servers that a call was sent to, be they named or heard of.
fn learnt(error: &Error) -> Vec<Address> {
    match error {
        Error::NotApplied(NotApplied(report)) | Error::Unknown(Unknown(report)) => {
            report.servers.iter().map(|server| server.address.clone()).collect()
        }
        Error::BadInput(_) | Error::WatchLost(_) => Vec::new(),
    }
}

/// The name of a variable, unless it is set to nothing: that counts as not set, as in most tools.
fn unless_empty(name: &'static str) -> Option<&'static str> {
    std::env::var_os(name).is_none_or(|value| !value.is_empty()).then_some(name)
}

/// Addresses with commas between them. What servers are given as `--cluster` is taken too: a witness has no data, but
/// answers for its status and sends requests on.
fn list(text: &str) -> Result<List, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let address = |entry: &str| entry.parse().map(|entry: ClusterEntry| entry.address);
    let addresses: Vec<Address> =
        entries.map(address).collect::<Result<_, _>>().map_err(|bad: BadAddress| bad.to_string())?;
    if addresses.is_empty() { Err(BadInput::NoAddress.to_string()) } else { Ok(List(addresses)) }
}

/// A span of time with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    match span_from_text(text) {
        Some(span) if span >= Duration::from_millis(1) && span <= Duration::from_secs(24 * 3600) => Ok(span),
        Some(_) => Err("use a time from 1ms to 24h".to_owned()),
        None => Err("write a number and a unit, such as 300ms, 5s or 1m".to_owned()),
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

    #[test]
    fn servers_are_listed_as_people_write_them() {
        let addresses = |text| list(text).map(|list| list.0.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(addresses("a:1,b:2").as_deref(), Ok(&["a:1".to_owned(), "b:2".to_owned()][..]));
        assert_eq!(addresses("a:1,b:2"), addresses(" a:1 , witness@b:2,, "));
        assert!(addresses(" , ").is_err_and(|why| why.contains("no server address")));
        assert!(addresses("a:1,b").is_err_and(|why| why.contains("\"b\"")));
    }
}
