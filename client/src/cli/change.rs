//! `heirloom add` and `heirloom delete`.

use std::ffi::OsString;
use std::io::Read as _;

use clap::Args;
use heirloom_proto::limits;
use serde::Serialize;

use super::failure::Failure;
use super::options::{self, Format, Options};
use super::{output, text};
use crate::answer::Changed;

/// Adds a key, or replaces its value.
#[derive(Args, Debug)]
pub struct Add {
    /// The key: 1 byte to 4 KiB.
    key: OsString,
    /// The value; `-` reads it from standard input, all bytes as they are.
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    #[command(flatten)]
    options: Options,
}

/// Deletes a key.
#[derive(Args, Debug)]
pub struct Delete {
    /// The key.
    key: OsString,
    #[command(flatten)]
    options: Options,
}

impl Add {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let key = text::bytes(self.key);
        check_key(&key)?;
        let value = if self.value == "-" { read_standard_input()? } else { text::bytes(self.value) };
        let client = self.options.client().await?;
        let added = client.add(&key, value).await?;
        let told = tell(self.options.output, &key, added, if added.existed { "replaced" } else { "added" });
        options::close(&client).await;
        told
    }
}

impl Delete {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let key = text::bytes(self.key);
        check_key(&key)?;
        let client = self.options.client().await?;
        let deleted = client.delete(&key).await?;
        let told = if deleted.existed {
            tell(self.options.output, &key, deleted, "deleted")
        } else {
            Err(Failure::No(format!("no such key: {:?} has no value", String::from_utf8_lossy(&key))))
        };
        options::close(&client).await;
        told
    }
}

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    key: text::Key,
    version: u64,
    existed: bool,
    copies: u32,
    server: u8,
    epoch: u64,
}

fn tell(format: Format, key: &[u8], changed: Changed, done: &str) -> Result<(), Failure> {
    let Changed { version, existed, copies, server, epoch } = changed;
    match format {
        Format::Text => {
            let servers = if copies == 1 { "server" } else { "servers" };
            output::line(&format!("{done}: version {version}, read back on {copies} {servers}"))
        }
        Format::Json => output::json(&Told {
            key: text::Key::new(key),
            version: version.0,
            existed,
            copies,
            server: server.0,
            epoch: epoch.round,
        }),
    }
}

/// What no server would take is said before standard input is read and before anybody is asked.
pub(super) fn check_key(key: &[u8]) -> Result<(), Failure> {
    match key.len() {
        1..=limits::KEY_BYTES_MAX => Ok(()),
        bytes => Err(Failure::Usage(crate::error::BadInput::Key { bytes }.to_string())),
    }
}

fn read_standard_input() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let limit = limits::VALUE_BYTES_MAX_MAX as u64 + 1;
    match std::io::stdin().lock().take(limit).read_to_end(&mut value) {
        Ok(_) if value.len() as u64 == limit => Err(Failure::Usage(format!(
            "standard input is longer than {} bytes, the most that any server takes",
            limits::VALUE_BYTES_MAX_MAX
        ))),
        Ok(_) => Ok(value),
        Err(error) => Err(Failure::Usage(format!("standard input can't be read: {error}"))),
    }
}
