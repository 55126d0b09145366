//! How it is told: for people, and as one JSON object a line.

use std::collections::BTreeMap;

use heirloom_proto::{Digest, Scanned, ServerId, Version};
use serde::Serialize;

use super::copies::{Copies, LeftOut, Replica, Why};
use super::findings::{Findings, Standing, shown};
use crate::cli::failure::Failure;
use crate::cli::options::Format;
use crate::cli::{output, text};
use crate::verify::{Compared, Comparison, Row, TooOld};

/// How many keys that differ are printed unless all are wanted.
const KEYS_TOLD: u64 = 20;
/// Enough of a hash to see by eye whether it differs.
const DIGITS: usize = 12;

/// Who tells.
pub(super) struct Teller {
    pub(super) format: Format,
    /// Whether every key that differs is printed.
    pub(super) all: bool,
}

/// A server, as an object; what is not known is null.
#[derive(Default, Serialize)]
struct ServerTold {
    kind: &'static str,
    id: Option<u32>,
    address: String,
    role: Option<String>,
    version: Option<u64>,
    index: Option<u64>,
    digest: Option<String>,
    result: &'static str,
    why: Option<String>,
}

/// A key that differs, as an object.
#[derive(Serialize)]
struct KeyTold {
    kind: &'static str,
    #[serde(flatten)]
    key: text::Key,
    servers: Vec<Has>,
}

/// What a server has under a key; all null where it has nothing.
#[derive(Default, Serialize)]
struct Has {
    id: u8,
    version: Option<u64>,
    value_bytes: Option<usize>,
    value_hash: Option<String>,
    changed_at_ms: Option<u64>,
}

#[derive(Serialize)]
struct AnewTold {
    kind: &'static str,
    too_old: u64,
    server: u8,
    oldest: u64,
}

/// The end, as an object.
#[derive(Serialize)]
struct SummaryTold {
    kind: &'static str,
    /// `equal`, `differ`, or `unknown` where not all could be compared and those that could are equal.
    result: &'static str,
    /// The index at which digests were compared.
    index: Option<u64>,
    /// The version at which keys were compared.
    version: Option<u64>,
    keys: Option<u64>,
    differing: Option<u64>,
    /// Under how many keys a server has something else than most.
    odd: Option<BTreeMap<u8, u64>>,
    not_compared: BTreeMap<String, String>,
}

impl Teller {
    /// Tells each server: those with copies first.
    pub(super) fn servers(&self, copies: &Copies, digests: &Compared) -> Result<(), Failure> {
        for copy in &copies.copies {
            let standing = Standing::new(copies, digests, copy);
            match self.format {
                Format::Text => output::line(&copy_line(copies, digests, copy, &standing))?,
                Format::Json => output::json(&copy_told(copies, digests, copy, &standing))?,
            }
        }
        for left in &copies.left_out {
            match self.format {
                Format::Text => output::line(&left_line(left))?,
                Format::Json => output::json(&left_told(left))?,
            }
        }
        Ok(())
    }

    /// Carries a comparison of keys to its end, and tells those that differ as they are found.
    pub(super) async fn rows(&self, comparison: &mut Comparison) -> Result<Result<(), TooOld>, Failure> {
        let mut told = 0;
        loop {
            let row = match comparison.next().await {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(Ok(())),
                Err(too_old) => return Ok(Err(too_old)),
            };
            if told < KEYS_TOLD || self.all {
                told += 1;
                match self.format {
                    Format::Text => output::line(&row_line(&row))?,
                    Format::Json => output::json(&row_told(&row))?,
                }
            }
        }
    }

    /// Tells that keys are compared anew, those above among them.
    pub(super) fn anew(&self, too_old: Version, server: ServerId, oldest: Version) -> Result<(), Failure> {
        match self.format {
            Format::Text => output::line(&format!(
                "begun anew: server {server} keeps nothing older than version {oldest} any more, and keys were compared at \
                 version {too_old}"
            )),
            Format::Json => {
                let (too_old, server, oldest) = (too_old.0, server.0, oldest.0);
                output::json(&AnewTold { kind: "anew", too_old, server, oldest })
            }
        }
    }

    /// Tells the end.
    pub(super) fn summary(&self, findings: &Findings<'_>) -> Result<(), Failure> {
        match self.format {
            Format::Text => {
                findings.sentences().iter().try_for_each(|sentence| output::line(sentence))?;
                match findings.keys.as_ref().map_or(0, |keys| keys.tally.differing) {
                    differing if differing > KEYS_TOLD && !self.all => output::line(&format!(
                        "{KEYS_TOLD} of {differing} keys that differ are printed; --all prints all"
                    )),
                    _ => Ok(()),
                }
            }
            Format::Json => output::json(&summary_told(findings)),
        }
    }
}

fn short(hash: &str) -> &str {
    hash.get(..DIGITS).unwrap_or(hash)
}

fn copy_line(copies: &Copies, digests: &Compared, copy: &Replica, standing: &Standing) -> String {
    let (index, state) = shown(copies, digests, copy);
    let (id, version, digest) = (copy.id, state.version, short(&state.digest));
    format!("server {id}: version {version}, index {index}, digest {digest}: {}", standing.words())
}

fn copy_told(copies: &Copies, digests: &Compared, copy: &Replica, standing: &Standing) -> ServerTold {
    let (index, state) = shown(copies, digests, copy);
    ServerTold {
        kind: "server",
        id: Some(u32::from(copy.id.0)),
        address: copy.address.to_string(),
        role: Some(copy.role.clone()),
        version: Some(state.version.0),
        index: Some(index.0),
        digest: Some(state.digest.clone()),
        result: standing.word(),
        why: match standing {
            Standing::NotCompared(why) => Some(why.clone()),
            Standing::Equal
            | Standing::EqualToMost
            | Standing::DiffersFromMost
            | Standing::Differs
            | Standing::Alone => None,
        },
    }
}

fn left_line(left: &LeftOut) -> String {
    let name = left.id.map_or_else(|| "a server".to_owned(), |id| format!("server {id}"));
    match &left.why {
        Why::Witness => format!("{name} at {}: a witness, which keeps no data", left.address),
        Why::NotSeen(why) => format!("{name} at {}: not compared: {why}", left.address),
    }
}

fn left_told(left: &LeftOut) -> ServerTold {
    let (result, why) = match &left.why {
        Why::Witness => ("witness", None),
        Why::NotSeen(why) => ("not_compared", Some(why.clone())),
    };
    ServerTold { kind: "server", id: left.id, address: left.address.to_string(), result, why, ..ServerTold::default() }
}

/// A hash of a value, to tell two of one length apart.
fn value_hash(value: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.add(value);
    short(&digest.to_string()).to_owned()
}

fn row_line(row: &Row) -> String {
    let times = || row.found.iter().filter_map(|(_, entry)| entry.as_ref()).map(|entry| entry.changed_at);
    let all_at_once = times().min() == times().max();
    let has = |entry: &Option<Scanned>| match entry {
        None => "nothing".to_owned(),
        Some(Scanned { value, version, changed_at, .. }) => {
            let when = if all_at_once { String::new() } else { format!(", changed at {} ms", changed_at.0) };
            format!("version {version}, {} bytes, hash {}{when}", value.len(), value_hash(value))
        }
    };
    let each: Vec<String> =
        row.found.iter().map(|(server, entry)| format!("server {server} has {}", has(entry))).collect();
    format!("{:?} differs: {}", String::from_utf8_lossy(&row.key), each.join("; "))
}

fn row_told(row: &Row) -> KeyTold {
    let has = |(server, entry): &(ServerId, Option<Scanned>)| match entry {
        None => Has { id: server.0, ..Has::default() },
        Some(Scanned { value, version, changed_at, .. }) => Has {
            id: server.0,
            version: Some(version.0),
            value_bytes: Some(value.len()),
            value_hash: Some(value_hash(value)),
            changed_at_ms: Some(changed_at.0),
        },
    };
    KeyTold { kind: "key", key: text::Key::new(&row.key), servers: row.found.iter().map(has).collect() }
}

fn summary_told(findings: &Findings<'_>) -> SummaryTold {
    let missing: BTreeMap<String, String> = findings.missing().into_iter().collect();
    let keys = findings.keys.as_ref();
    SummaryTold {
        kind: "summary",
        result: match (findings.differ(), missing.is_empty()) {
            (true, _) => "differ",
            (false, true) => "equal",
            (false, false) => "unknown",
        },
        index: match &findings.digests {
            Compared::Equal { at } | Compared::Differ { at, .. } => Some(at.0),
            Compared::NotMet => None,
        },
        version: keys.map(|keys| keys.at.version.0),
        keys: keys.map(|keys| keys.tally.keys),
        differing: keys.map(|keys| keys.tally.differing),
        odd: keys.map(|keys| keys.tally.odd.iter().map(|(server, count)| (server.0, *count)).collect()),
        not_compared: missing,
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::WallTime;

    use super::*;

    fn entry(value: &'static str, version: u64, changed_at: u64) -> Option<Scanned> {
        let (key, value) = ("k".into(), value.into());
        Some(Scanned { key, value, version: Version(version), changed_at: WallTime(changed_at) })
    }

    fn row(found: Vec<Option<Scanned>>) -> Row {
        Row { key: "k".into(), found: (0..).map(ServerId).zip(found).collect() }
    }

    #[test]
    fn a_key_is_told_with_what_each_server_has() {
        let line = row_line(&row(vec![entry("one", 5, 1), None, entry("uno", 5, 1)]));
        assert!(line.starts_with("\"k\" differs: server 0 has version 5, 3 bytes, hash "), "{line}");
        assert!(line.contains("; server 1 has nothing; ") && !line.contains("ms"), "{line}");
        let hashes: Vec<&str> = line.split("hash ").skip(1).map(|rest| &rest[..DIGITS]).collect();
        assert_ne!(hashes[0], hashes[1], "values of one length are told apart");
        let line = row_line(&row(vec![entry("one", 5, 1), entry("one", 5, 2)]));
        assert!(line.contains("changed at 1 ms") && line.contains("changed at 2 ms"), "{line}");
        let json = serde_json::to_string(&row_told(&row(vec![entry("one", 5, 1), None]))).expect("texts and numbers");
        assert!(
            json.starts_with(r#"{"kind":"key","key":"k","servers":[{"id":0,"version":5,"value_bytes":3,"#),
            "{json}"
        );
        assert!(json.contains(r#"{"id":1,"version":null,"value_bytes":null,"#), "{json}");
    }
}
