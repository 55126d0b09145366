//! `heirloom status`.

use clap::Args;
use heirloom_proto::wire::epoch_from_wire;
use heirloom_proto::wire::v1::StatusResponse;
use serde::Serialize;

use super::failure::Failure;
use super::operator::{self, Seen};
use super::options::{Format, Options};
use super::{output, table};

/// Shows all servers, from any that can be reached.
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    options: Options,
}

impl Status {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let seen = operator::look(&self.options.servers, self.options.timeout).await;
        match self.options.output {
            Format::Text => tell(&seen)?,
            Format::Json => seen.iter().try_for_each(|seen| output::json(&Told::new(seen)))?,
        }
        if seen.iter().all(|seen| seen.status.is_err()) {
            return Err(Failure::Unavailable(
                "no server can be reached: start them, or name others with --servers".to_owned(),
            ));
        }
        Ok(())
    }
}

/// One line of JSON. Of a server that can't be reached only the first three are known, and why.
#[derive(Serialize)]
struct Told {
    id: Option<u32>,
    address: String,
    role: String,
    #[serde(flatten)]
    known: Option<Known>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

#[derive(Serialize)]
struct Known {
    epoch: u64,
    epoch_name: String,
    commit: u64,
    applied: u64,
    digest: String,
    log_end: u64,
    version: u64,
    keys: u64,
    sessions: u64,
    cluster: String,
    primary: Option<u32>,
    in_sync: Vec<u32>,
    lease_ms: Option<u64>,
    disk_bytes: u64,
    uptime_ms: u64,
    waits_for: String,
}

impl Told {
    fn new(seen: &Seen) -> Self {
        let (role, known, trouble) = match &seen.status {
            Ok(status) => (status.role.clone(), Some(Known::new(status)), None),
            Err(why) => ("unreachable".to_owned(), None, Some(why.clone())),
        };
        Self { id: seen.id, address: seen.address.to_string(), role, known, trouble }
    }
}

impl Known {
    fn new(status: &StatusResponse) -> Self {
        Self {
            epoch: status.epoch.map_or(0, |epoch| epoch.round),
            epoch_name: epoch_name(status),
            commit: status.commit,
            applied: status.applied,
            digest: status.digest.clone(),
            log_end: status.log_end,
            version: status.version,
            keys: status.keys,
            sessions: status.sessions,
            cluster: status.cluster.clone(),
            primary: status.primary,
            in_sync: status.in_sync.clone(),
            lease_ms: status.lease_ms,
            disk_bytes: status.disk_bytes,
            uptime_ms: status.uptime_ms,
            waits_for: status.waits_for.clone(),
        }
    }
}

fn epoch_name(status: &StatusResponse) -> String {
    epoch_from_wire(status.epoch).map(|epoch| epoch.to_string()).unwrap_or_default()
}

const HEAD: [&str; 11] =
    ["id", "address", "role", "epoch", "commit", "applied", "lag", "lease", "digest", "disk", "uptime"];

fn tell(seen: &[Seen]) -> Result<(), Failure> {
    let newest = seen.iter().filter_map(|seen| Some(seen.status.as_ref().ok()?.commit)).max().unwrap_or(0);
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(seen.iter().map(|seen| row(seen, newest)));
    for line in table::lines(&rows) {
        output::line(&line)?;
    }
    for seen in seen {
        let name = seen.id.map_or_else(|| seen.address.to_string(), |id| format!("server {id}"));
        match &seen.status {
            Ok(status) if status.waits_for.is_empty() => {}
            Ok(status) => output::line(&format!("{name} waits: {}", status.waits_for))?,
            Err(why) => output::line(&format!("{name} is unreachable: {why}"))?,
        }
    }
    Ok(())
}

fn row(seen: &Seen, newest: u64) -> Vec<String> {
    let id = seen.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
    let address = seen.address.to_string();
    let Ok(status) = &seen.status else {
        let unknown = std::iter::repeat_n("-".to_owned(), HEAD.len() - 3);
        return [id, address, "unreachable".to_owned()].into_iter().chain(unknown).collect();
    };
    /// Enough of a digest to see by eye whether it differs; JSON has all of it.
    const DIGITS: usize = 12;
    vec![
        id,
        address,
        status.role.clone(),
        epoch_name(status),
        status.commit.to_string(),
        status.applied.to_string(),
        newest.saturating_sub(status.applied).to_string(),
        status.lease_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms}ms")),
        status.digest.chars().take(DIGITS).collect(),
        table::size(status.disk_bytes),
        table::span(status.uptime_ms),
    ]
}
