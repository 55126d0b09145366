//! `heirloom promote`.

use std::time::Duration;

use clap::Args;
use heirloom_proto::Refusal;
use heirloom_proto::wire::refusal::refusal_from_status;
use heirloom_proto::wire::v1::PromoteRequest;
use serde::Serialize;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::failure::Failure;
use super::options::{Format, Options};
use super::{operator, output};
use crate::transport;
use heirloom_proto::Address;

/// Hand the part of the primary over, with nothing lost and no error for clients.
#[derive(Args, Debug)]
pub struct Promote {
    /// The server that is to lead: its position in --cluster, counted from 0.
    id: u8,
    #[command(flatten)]
    options: Options,
}

#[derive(Serialize)]
struct Told {
    primary: u32,
}

impl Promote {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (timeout, end) = self.options.times();
        let servers = self.options.servers();
        match self.ask_each(&servers, timeout).await {
            Ok(primary) => self.tell(primary).map_err(|failure| {
                // Whoever can't be told must still hear that it was done.
                failure.and_then(&format!("\nthe hand-over was done all the same: server {primary} is the primary"))
            }),
            Err(failure) => Err(self.options.explain(failure, servers, end).await),
        }
    }

    /// Asks one server after the other until one does it; gives who leads then.
    async fn ask_each(&self, servers: &[Address], timeout: Duration) -> Result<u32, Failure> {
        let deadline = Instant::now() + timeout;
        let mut troubles = String::new();
        let mut may_happen = false;
        for address in servers {
            let asked = tokio::time::timeout_at(deadline, self.ask(address, deadline)).await;
            let why = match asked {
                Ok(Ok(primary)) => return Ok(primary),
                Ok(Err(Trouble::Final(failure))) => return Err(failure),
                Ok(Err(Trouble::NotDone(why))) => why,
                Ok(Err(Trouble::Unknown(why))) => {
                    may_happen = true;
                    why
                }
                Err(_) => {
                    may_happen = true;
                    "did not answer in time".to_owned()
                }
            };
            troubles.push_str(&format!("\n  {address}: {why}"));
        }
        let outcome = if may_happen { "may still happen" } else { "was not begun" };
        Err(Failure::Unavailable(format!(
            "promote {}: the hand-over {outcome}: no server did it within {timeout:?}{troubles}\nsee heirloom status, and \
             ask again: asking twice does no harm",
            self.id
        )))
    }

    async fn ask(&self, address: &Address, deadline: Instant) -> Result<u32, Trouble> {
        let mut cluster = operator::connect(address).await.map_err(Trouble::NotDone)?;
        let mut request = tonic::Request::new(PromoteRequest { server: u32::from(self.id), redirect: false });
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match cluster.promote(request).await {
            Ok(response) => Ok(response.into_inner().primary),
            Err(status) => Err(self.trouble(&status)),
        }
    }

    fn trouble(&self, status: &Status) -> Trouble {
        let what = format!("promote {}: {}", self.id, status.message());
        match (refusal_from_status(status).map(|refused| refused.refusal), status.code()) {
            (Some(Refusal::BadServer { .. }), _) => Trouble::Final(Failure::No(what)),
            (Some(Refusal::HandOverCalledOff), _) => Trouble::Final(Failure::Unavailable(what)),
            (None, Code::InvalidArgument) => Trouble::Final(Failure::Usage(what)),
            (Some(_), _) => Trouble::NotDone(status.message().to_owned()),
            (None, _) => Trouble::Unknown(transport::describe(status)),
        }
    }

    fn tell(&self, primary: u32) -> Result<(), Failure> {
        match self.options.output {
            Format::Text => output::line(&format!("server {primary} is the primary")),
            Format::Json => output::json(&Told { primary }),
        }
    }
}

/// Why a server did not do it.
enum Trouble {
    /// No other server would.
    Final(Failure),
    /// It did nothing; another one may.
    NotDone(String),
    /// Nobody knows whether it did.
    Unknown(String),
}
