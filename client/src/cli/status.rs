//! `heirloom status`.

use clap::Args;
use heirloom_proto::wire::epoch_from_wire;
use heirloom_proto::wire::v1::StatusResponse;
use serde::Serialize;

use super::failure::Failure;
use super::operator::{self, Seen, is_witness};
use super::options::{Format, Options};
use super::{output, table};

/// Show all servers, from any that can be reached: who leads, how far each is, and whether they agree.
///
/// Of reads, counted since the server was started: `reads here`, answered at once and by itself; `confirmed`, after a round
/// with the voters, without leases; `waited`, once a change of what was read was committed; `forwarded`, each time that one
/// was left to the primary, tried again or not.
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    options: Options,
}

impl Status {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let seen = operator::look(&self.options.servers(), self.options.timeout).await;
        match self.options.output {
            Format::Text => tell(&seen)?,
            Format::Json => {
                let newest = newest(&seen);
                seen.iter().try_for_each(|seen| output::json(&Told::new(seen, newest)))?;
            }
        }
        if seen.iter().all(|seen| seen.status.is_err()) {
            return Err(Failure::Unavailable(
                "no server can be reached: start them, or name others with --servers".to_owned(),
            ));
        }
        Ok(())
    }
}

/// One line of JSON. Of a server that can't be reached only the first three are known, and why; what is not known, or not
/// kept there, is null.
#[derive(Default, Serialize)]
struct Told {
    id: Option<u32>,
    address: String,
    role: String,
    epoch: Option<u64>,
    #[serde(flatten)]
    copy: Copied,
    #[serde(flatten)]
    known: Known,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

/// How far a server's copy is. A witness keeps none, so its numbers would only look like one that lags.
#[derive(Default, Serialize)]
struct Copied {
    commit: Option<u64>,
    applied: Option<u64>,
    lag: Option<u64>,
    digest: Option<String>,
    log_end: Option<u64>,
    version: Option<u64>,
    keys: Option<u64>,
    sessions: Option<u64>,
}

/// What every server that answers knows.
#[derive(Default, Serialize)]
struct Known {
    epoch_name: Option<String>,
    cluster: Option<String>,
    primary: Option<u32>,
    in_sync: Option<Vec<u32>>,
    lease_ms: Option<u64>,
    disk_bytes: Option<u64>,
    log_bytes: Option<u64>,
    snapshot_bytes: Option<u64>,
    checked_ms_ago: Option<u64>,
    uptime_ms: Option<u64>,
    waits_for: Option<String>,
    reads: Option<Reads>,
}

/// What became of the reads that the server was asked for, since it started.
#[derive(Default, Serialize)]
struct Reads {
    local: u64,
    waited: u64,
    confirmed: u64,
    forwarded: u64,
}

impl Told {
    fn new(seen: &Seen, newest: u64) -> Self {
        let (id, address) = (seen.id, seen.address.to_string());
        match &seen.status {
            Ok(status) => Self {
                id,
                address,
                role: status.role.clone(),
                epoch: Some(status.epoch.map_or(0, |epoch| epoch.round)),
                copy: Copied::new(status, newest),
                known: Known::new(status),
                trouble: None,
            },
            Err(why) => {
                Self { id, address, role: "unreachable".to_owned(), trouble: Some(why.clone()), ..Self::default() }
            }
        }
    }
}

impl Copied {
    fn new(status: &StatusResponse, newest: u64) -> Self {
        if is_witness(status) {
            return Self::default();
        }
        Self {
            commit: Some(status.commit),
            applied: Some(status.applied),
            lag: Some(newest.saturating_sub(status.applied)),
            digest: Some(status.digest.clone()),
            log_end: Some(status.log_end),
            version: Some(status.version),
            keys: Some(status.keys),
            sessions: Some(status.sessions),
        }
    }
}

impl Known {
    fn new(status: &StatusResponse) -> Self {
        Self {
            epoch_name: Some(epoch_name(status)),
            cluster: Some(status.cluster.clone()),
            primary: status.primary,
            in_sync: Some(status.in_sync.clone()),
            lease_ms: status.lease_ms,
            disk_bytes: Some(status.disk_bytes),
            log_bytes: Some(status.log_bytes),
            snapshot_bytes: Some(status.snapshot_bytes),
            checked_ms_ago: Some(status.checked_ms_ago),
            uptime_ms: Some(status.uptime_ms),
            waits_for: Some(status.waits_for.clone()),
            reads: status.reads.map(|reads| Reads {
                local: reads.local,
                waited: reads.waited,
                confirmed: reads.confirmed,
                forwarded: reads.forwarded,
            }),
        }
    }
}

/// The newest commit index that a server with data tells.
fn newest(seen: &[Seen]) -> u64 {
    let statuses = seen.iter().filter_map(|seen| seen.status.as_ref().ok());
    statuses.filter(|status| !is_witness(status)).map(|status| status.commit).max().unwrap_or(0)
}

fn epoch_name(status: &StatusResponse) -> String {
    epoch_from_wire(status.epoch).map(|epoch| epoch.to_string()).unwrap_or_default()
}

const HEAD: [&str; 18] = [
    "id",
    "address",
    "role",
    "epoch",
    "commit",
    "applied",
    "lag",
    "lease",
    "digest",
    "disk",
    "log",
    "snapshot",
    "checked",
    "uptime",
    "reads here",
    "confirmed",
    "waited",
    "forwarded",
];

fn tell(seen: &[Seen]) -> Result<(), Failure> {
    let newest = newest(seen);
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
    let copy = Copied::new(status, newest);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let reads = status.reads;
    vec![
        id,
        address,
        status.role.clone(),
        epoch_name(status),
        number(copy.commit),
        number(copy.applied),
        number(copy.lag),
        status.lease_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms}ms")),
        copy.digest.map_or_else(|| "-".to_owned(), |digest| digest.chars().take(DIGITS).collect()),
        table::size(status.disk_bytes),
        table::size(status.log_bytes),
        table::size(status.snapshot_bytes),
        table::span(status.checked_ms_ago),
        table::span(status.uptime_ms),
        number(reads.map(|reads| reads.local)),
        number(reads.map(|reads| reads.confirmed)),
        number(reads.map(|reads| reads.waited)),
        number(reads.map(|reads| reads.forwarded)),
    ]
}

#[cfg(test)]
mod tests {
    use heirloom_proto::wire::v1::ServerAddress;

    use super::*;

    fn seen(id: u32, witness: bool) -> Seen {
        let status = StatusResponse {
            server: id,
            role: if witness { "witness" } else { "backup" }.to_owned(),
            commit: if witness { 0 } else { 9 },
            applied: if witness { 0 } else { 8 },
            digest: if witness { "000" } else { "abc" }.to_owned(),
            servers: vec![ServerAddress { id, address: "127.0.0.1:1".to_owned(), witness }],
            ..Default::default()
        };
        Seen { id: Some(id), address: "127.0.0.1:1".parse().expect("well formed"), status: Ok(status) }
    }

    #[test]
    fn a_witness_and_a_silent_server_neither_lag_nor_differ() {
        let silent = Seen { status: Err("connection refused".to_owned()), ..seen(2, false) };
        let all = [seen(0, false), seen(1, true), silent];
        assert_eq!(newest(&all), 9);
        let json = |seen: &Seen| serde_json::to_string(&Told::new(seen, 9)).expect("texts and numbers");
        let nothing = r#""commit":null,"applied":null,"lag":null,"digest":null"#;
        assert!(json(&all[0]).contains(r#""commit":9,"applied":8,"lag":1,"digest":"abc""#), "{}", json(&all[0]));
        assert!(json(&all[1]).contains(nothing), "{}", json(&all[1]));
        assert!(json(&all[2]).contains(nothing), "{}", json(&all[2]));
        assert_eq!([4, 5, 6, 8].map(|column| row(&all[1], 9)[column].clone()), ["-"; 4]);
        assert_eq!([4, 5, 6, 8].map(|column| row(&all[0], 9)[column].clone()), ["9", "8", "1", "abc"]);
    }
}
