//! `heirloom fence`.

use std::time::Duration;

use clap::Args;
use heirloom_proto::wire::v1::FenceRequest;
use serde::Serialize;
use tokio::time::Instant;

use super::failure::Failure;
use super::operator::{self, Seen};
use super::options::{Format, Options};
use super::output;
use crate::transport;
use heirloom_proto::Address;

/// Take your word, as proof of death, that a server is off.
#[derive(Args, Debug)]
pub struct Fence {
    /// The server that is off: its position in --cluster, counted from 0.
    id: u8,
    /// Says that you made sure, by its power switch say: a server that is still running and only cut off goes on
    /// answering, and acknowledged writes are lost.
    #[arg(long)]
    it_is_off: bool,
    #[command(flatten)]
    options: Options,
}

#[derive(Serialize)]
struct Told<'a> {
    fenced: u8,
    told: &'a [u32],
}

impl Fence {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let id = self.id;
        if !self.it_is_off {
            return Err(Failure::Usage(format!(
                "fence {id} makes the others go on without server {id} at once: if it is still running and only cut off, \
                 it may go on answering, and acknowledged writes are lost; switch it off, make sure, then add --it-is-off"
            )));
        }
        let (timeout, end) = self.options.times();
        match self.tell_others(timeout).await {
            Ok(told) => self.tell(&told).map_err(|failure| {
                // Whoever can't be told must still hear that it was done.
                failure.and_then(&format!("\nserver {id} was fenced all the same: {}", self.words(&told)))
            }),
            Err(failure) => Err(self.options.explain(failure, self.options.servers(), end).await),
        }
    }

    /// Gives the word to all others; gives who took it, at least one.
    async fn tell_others(&self, timeout: Duration) -> Result<Vec<u32>, Failure> {
        let id = self.id;
        let deadline = Instant::now() + timeout;
        let seen = operator::look(&self.options.servers(), timeout).await;
        self.check(&seen)?;
        let mut told = Vec::new();
        let mut refused = String::new();
        for (server, address) in self.others(&seen) {
            match self.tell_server(address, deadline).await {
                Ok(()) => told.push(server),
                Err(why) => refused.push_str(&format!("\n  {address} (server {server}): {why}")),
            }
        }
        if told.is_empty() {
            return Err(Failure::Unavailable(format!(
                "fence {id}: no server took the word:{refused}{}\nsee heirloom status",
                operator::troubles(&seen)
            )));
        }
        Ok(told)
    }

    /// Refuses what can't be meant: a server that the cluster doesn't have, and one that answers.
    fn check(&self, seen: &[Seen]) -> Result<(), Failure> {
        let statuses = || seen.iter().filter_map(|seen| seen.status.as_ref().ok());
        let id = self.id;
        if statuses().next().is_none() {
            let troubles = operator::troubles(seen);
            return Err(Failure::Unavailable(format!("fence {id}: no server can be told:{troubles}")));
        }
        if statuses().any(|status| status.server == u32::from(id)) {
            return Err(Failure::No(format!(
                "fence {id}: server {id} answers, so it is not off, and nothing was done: stop it first"
            )));
        }
        let mut servers = statuses().flat_map(|status| &status.servers);
        if !servers.any(|server| server.id == u32::from(id)) {
            let last = statuses().flat_map(|status| &status.servers).map(|server| server.id).max().unwrap_or(0);
            return Err(Failure::Usage(format!("the cluster has no server {id}: its servers are 0 to {last}")));
        }
        Ok(())
    }

    fn others<'a>(&self, seen: &'a [Seen]) -> impl Iterator<Item = (u32, &'a Address)> {
        seen.iter().filter_map(|seen| Some((seen.status.as_ref().ok()?.server, &seen.address)))
    }

    async fn tell_server(&self, address: &Address, deadline: Instant) -> Result<(), String> {
        let telling = async {
            let mut cluster = operator::connect(address).await?;
            let request = FenceRequest { server: u32::from(self.id), it_is_off: true };
            cluster.fence(request).await.map(drop).map_err(|status| transport::describe(&status))
        };
        tokio::time::timeout_at(deadline, telling).await.unwrap_or_else(|_| Err("did not answer in time".to_owned()))
    }

    fn tell(&self, told: &[u32]) -> Result<(), Failure> {
        match self.options.output {
            Format::Text => output::line(&self.words(told)),
            Format::Json => output::json(&Told { fenced: self.id, told }),
        }
    }

    fn words(&self, told: &[u32]) -> String {
        let list: Vec<String> = told.iter().map(ToString::to_string).collect();
        let servers = if told.len() == 1 { "server" } else { "servers" };
        format!("{servers} {} took your word: server {} is off", list.join(", "), self.id)
    }
}
