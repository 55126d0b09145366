//! `heirloom read`.

use std::ffi::OsString;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::options::{Format, Options};
use super::{change, output, text};
use crate::answer::Entry;

/// Prints the value of a key.
#[derive(Args, Debug)]
pub struct Read {
    /// The key.
    key: OsString,
    /// What to print, with exit code 0, where the key has no value.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    default: Option<OsString>,
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
        self.options.ask(async |client| client.read(&key).await, tell).await
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
            }),
            default: entry.is_none().then_some(true),
        }),
    }
}
