//! `heirloom scan`.

use std::io::Write as _;

use clap::Args;
use heirloom_proto::ServerId;
use serde::Serialize;

use super::failure::Failure;
use super::options::{Format, Mode, Options};
use super::range::Range;
use super::{output, text};
use crate::client::Client;
use crate::error::Error;
use crate::scan::{Scan as Scanning, ScanEntry, ScanOptions};

/// Print keys and their values in the order of the keys, all as they were at one version: KEY, a tab, VALUE.
///
/// Pages through any number of keys. --timeout is for each page. Exit code 1 where what keys had at the version of the first
/// page is no longer kept, or the cluster was set back: then only another scan helps.
#[derive(Args, Debug)]
pub struct Scan {
    #[command(flatten)]
    range: Range,
    /// Print so many keys at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print keys without values.
    #[arg(long)]
    keys_only: bool,
    /// How fresh the version must be: `linearizable` sees every change answered before; `stale` what the server asked knows,
    /// at once; `causal` no less than its client has seen, which of a command alone is nothing yet.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    consistency: Mode,
    /// Ask this server alone, by id; it asks the primary where it can't answer by itself. Any near one otherwise.
    #[arg(long, value_name = "ID")]
    from: Option<u8>,
    #[command(flatten)]
    options: Options,
}

impl Scan {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let how = ScanOptions {
            range: self.range.into(),
            limit: self.limit,
            keys_only: self.keys_only,
            consistency: self.consistency.into(),
            from: self.from.map(ServerId),
            at: None,
        };
        let (format, keys_only) = (self.options.output, self.keys_only);
        let scan = async |client: &Client| print(client.scan_with(how), format, keys_only).await;
        self.options.ask(scan, |told| told).await
    }
}

/// Prints each key as it comes, and what has come before an error too.
async fn print(mut scan: Scanning, format: Format, keys_only: bool) -> Result<Result<(), Failure>, Error> {
    let mut out = output::lines();
    let mut printed: u64 = 0;
    loop {
        let told = match scan.next().await {
            Ok(Some(entry)) => {
                printed += 1;
                out.write_all(&line(&entry, scan.version().map_or(0, |at| at.0), format, keys_only))
            }
            Ok(None) => return Ok(out.flush().map_err(Failure::from)),
            Err(error) => {
                return match out.flush() {
                    Ok(()) if printed > 0 => {
                        let incomplete = format!("; {printed} keys were printed before that: the output is incomplete");
                        Ok(Err(Failure::from(error).and_then(&incomplete)))
                    }
                    Ok(()) => Err(error),
                    Err(nobody_reads) => Ok(Err(nobody_reads.into())),
                };
            }
        };
        if let Err(nobody_reads) = told {
            return Ok(Err(nobody_reads.into()));
        }
    }
}

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    key: text::Key,
    #[serde(flatten)]
    value: Option<text::Value>,
    version: u64,
    server: u8,
    epoch: u64,
    changed_at_ms: u64,
    /// The dictionary's version that was looked at, the same for all.
    seen_version: u64,
}

fn line(entry: &ScanEntry, seen_version: u64, format: Format, keys_only: bool) -> Vec<u8> {
    match (format, keys_only) {
        (Format::Text, true) => [&entry.key[..], b"\n"].concat(),
        (Format::Text, false) => [&entry.key[..], b"\t", &entry.value, b"\n"].concat(),
        (Format::Json, _) => output::json_line(&Told {
            key: text::Key::new(&entry.key),
            value: (!keys_only).then(|| text::Value::new(&entry.value)),
            version: entry.version.0,
            server: entry.server.0,
            epoch: entry.epoch.round,
            changed_at_ms: entry.changed_at.0,
            seen_version,
        })
        .into_bytes(),
    }
}
