//! `heirloom verify`.

mod copies;
mod findings;
mod told;

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::failure::Failure;
use super::operator;
use super::options::Options;
use crate::verify::{Compared, Comparison, TooOld};
use copies::Copies;
use findings::{Findings, Keys};
use heirloom_proto::Address;
use told::Teller;

/// How often keys are compared anew, because so much was changed meanwhile that their version is no longer kept.
const ANEW_MAX: u32 = 2;

/// Compare the copies of all servers: by their digests, and key by key at one version where those differ.
///
/// Exit code 0: all are equal; 4: some differ; 3: that could not be found out of all, and those that could be compared are
/// equal. --timeout is for the digests, and then for each page of keys.
#[derive(Args, Debug)]
pub struct Verify {
    /// Compare key by key where the digests are equal too. A digest is carried on from change to change, so it does not say
    /// whether a copy still has in memory what it once applied.
    #[arg(long)]
    keys: bool,
    /// Print every key that differs; the first 20 otherwise, and how many there are.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    options: Options,
}

impl Verify {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (timeout, end) = self.options.times();
        let servers = self.options.servers();
        match self.compare(&servers, timeout).await {
            Ok(()) => Ok(()),
            Err(failure) => {
                // Keys take as long as they take, page by page.
                let end = end.max(Instant::now() + self.options.closing());
                Err(self.options.explain(failure, servers, end).await)
            }
        }
    }

    async fn compare(&self, servers: &[Address], timeout: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        let seen = operator::look(servers, timeout).await;
        if seen.iter().all(|seen| seen.status.is_err()) {
            let troubles = operator::troubles(&seen);
            return Err(Failure::Unavailable(format!(
                "no server can be reached: start them, or name others with --servers:{troubles}"
            )));
        }
        let mut copies = Copies::new(seen);
        copies.poll(deadline, timeout / 4).await;
        let digests = copies.digests.compare(&copies.answering());
        let teller = Teller { format: self.options.output, all: self.all };
        teller.servers(&copies, &digests)?;
        let wanted = self.keys || !matches!(digests, Compared::Equal { .. });
        let keys = if wanted { self.compare_keys(&mut copies, timeout, &teller).await? } else { None };
        let findings = Findings { copies: &copies, digests, keys };
        teller.summary(&findings)?;
        findings.verdict()
    }

    /// Compares key by key, and tells each key that differs as it is found; `None` where there are no two copies.
    async fn compare_keys(
        &self,
        copies: &mut Copies,
        timeout: Duration,
        teller: &Teller,
    ) -> Result<Option<Keys>, Failure> {
        let mut differed_before = false;
        for anew in 0..=ANEW_MAX {
            let Some(at) = copies.at().filter(|_| copies.copies.len() > 1) else { break };
            let servers: Vec<_> = copies.copies.iter().map(|copy| (copy.id, copy.address.clone())).collect();
            let ids = servers.iter().map(|(id, _)| *id).collect();
            let mut comparison = Comparison::begin(servers, at, timeout, anew == ANEW_MAX);
            match teller.rows(&mut comparison).await? {
                Ok(()) => {
                    let tally = comparison.tally().clone();
                    return Ok(Some(Keys { at, servers: ids, tally, differed_before }));
                }
                Err(TooOld { server, oldest }) => {
                    differed_before |= comparison.tally().differing > 0;
                    drop(comparison);
                    copies.ask_again(Instant::now() + timeout).await;
                    teller.anew(at.version, server, oldest)?;
                }
            }
        }
        Ok(None)
    }
}
