//! `heirloom read`.

use std::ffi::OsString;

use clap::Args;
use heirloom_proto::ServerId;
use serde::Serialize;

use super::failure::Failure;
use super::options::{Format, Mode, Options};
use super::{change, output, text};
use crate::answer::{Entry, ReadOptions};

/// Print the value of a key.
#[derive(Args, Debug)]
pub struct Read {
    /// The key.
    key: OsString,
    /// What to print, with exit code 0, where the key has no value.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    default: Option<OsString>,
    /// How fresh: `linearizable` sees every change answered before; `stale` what the server asked knows, at once; `causal`
    /// no less than its client has seen, which of a command alone is nothing yet.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    consistency: Mode,
    /// Ask this server alone, by id; it asks the primary where it can't answer by itself. Any near one otherwise.
    #[arg(long, value_name = "ID")]
    from: Option<u8>,
    #[command(flatten)]
    options: Options,
}

impl Read {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let key = text::bytes(self.key);
        change::check_key(&key)?;
        let tell = |found: Option<Entry>| match (found, self.default) {
            (Some(entry), _) => tell(self.options.output, &key, &entry.value, Some(&entry)),
            (None, Some(default)) => tell(self.options.output, &key, &text::bytes(default), None),
            (None, None) => Err(Failure::No(format!(
                "no such key: {:?} has no value; --default prints one instead",
                String::from_utf8_lossy(&key)
            ))),
        };
        let how = ReadOptions { consistency: self.consistency.into(), from: self.from.map(ServerId) };
        self.options.ask(async |client| client.read_with(&key, how).await, tell).await
    }
}

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    key: text::Key,
    #[serde(flatten)]
    value: text::Value,
    #[serde(flatten)]
    found: Option<Found>,
    /// There only where the value is the one of `--default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<bool>,
}

#[derive(Serialize)]
struct Found {
    version: u64,
    server: u8,
    epoch: u64,
    changed_at_ms: u64,
    /// Whether the server that was asked answered by itself.
    local: bool,
    /// The dictionary's version that was looked at.
    seen_version: u64,
    /// How old that state may be, where it is known.
    age_ms: Option<u64>,
}

fn tell(format: Format, key: &[u8], value: &[u8], entry: Option<&Entry>) -> Result<(), Failure> {
    match format {
        Format::Text => output::write(&[value, b"\n"].concat()),
        Format::Json => output::json(&Told {
            key: text::Key::new(key),
            value: text::Value::new(value),
            found: entry.map(|entry| Found {
                version: entry.version.0,
                server: entry.server.0,
                epoch: entry.epoch.round,
                changed_at_ms: entry.changed_at.0,
                local: entry.looked.local,
                seen_version: entry.looked.version.0,
                age_ms: entry.looked.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            }),
            default: entry.is_none().then_some(true),
        }),
    }
}
