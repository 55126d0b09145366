//! `heirloom add` and `heirloom delete`.

use std::ffi::OsString;
use std::io::Read as _;

use clap::Args;
use heirloom_proto::limits;
use serde::Serialize;

use super::failure::Failure;
use super::options::{Format, Options};
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
        let tell = |added: Changed| {
            let done = if added.existed { "replaced" } else { "added" };
            tell(self.options.output, &key, added, done).map_err(|failure| all_the_same(failure, added, done))
        };
        self.options.ask(async |client| client.add(&key, value).await, tell).await
    }
}

impl Delete {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let key = text::bytes(self.key);
        check_key(&key)?;
        let tell = |deleted: Changed| {
            if !deleted.existed {
                return Err(Failure::No(format!("no such key: {:?} has no value", String::from_utf8_lossy(&key))));
            }
            tell(self.options.output, &key, deleted, "deleted")
                .map_err(|failure| all_the_same(failure, deleted, "deleted"))
        };
        self.options.ask(async |client| client.delete(&key).await, tell).await
    }
}

/// Whoever can't be told the answer must still hear that the change was made.
fn all_the_same(failure: Failure, changed: Changed, done: &str) -> Failure {
    failure.and_then(&format!("\nthe key was {done} all the same: version {}", changed.version))
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

#[cfg(test)]
mod tests {
    use heirloom_proto::{Epoch, ServerId, Version};

    use super::*;

    #[test]
    fn an_answer_that_cannot_be_written_does_not_hide_that_the_change_was_made() {
        let changed =
            Changed { version: Version(7), existed: false, copies: 2, server: ServerId(0), epoch: Epoch::NONE };
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let Failure::Unavailable(message) = all_the_same(failure, changed, "added") else { panic!("exit code 3") };
        assert!(message.contains("can't be written"), "{message}");
        assert!(message.ends_with("the key was added all the same: version 7"), "{message}");
    }
}
