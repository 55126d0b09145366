//! `heirloom add`, `heirloom delete` and `heirloom append`.

use std::ffi::OsString;
use std::io::Read as _;

use clap::Args;
use heirloom_proto::request::APPEND_DIGITS;
use heirloom_proto::{Version, limits};
use serde::Serialize;

use super::failure::Failure;
use super::options::{Format, Options};
use super::{output, text};
use crate::answer::{Appended, Changed, Conditional, NotMet};
use crate::client::Client;
use crate::error::BadInput;

/// Add a key, or replace its value.
#[derive(Args, Debug)]
pub struct Add {
    /// The key: 1 byte to 4 KiB.
    key: OsString,
    /// The value; `-` reads it from standard input, all bytes as they are.
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    /// Only where the key has no value.
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,
    /// Only where this is the version of the key's last change.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    options: Options,
}

/// Delete a key.
#[derive(Args, Debug)]
pub struct Delete {
    /// The key.
    key: OsString,
    /// Only where this is the version of the key's last change.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    options: Options,
}

/// Add a value under a key that the primary makes, and print the key: the prefix and the next number, in 20 digits.
#[derive(Args, Debug)]
pub struct Append {
    /// What the key begins with.
    prefix: OsString,
    /// The value; `-` reads it from standard input, all bytes as they are.
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    #[command(flatten)]
    options: Options,
}

impl Add {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let key = text::bytes(self.key);
        check_key(&key)?;
        let value = value_of(self.value)?;
        let tell = |added: Conditional| {
            let added = met(&key, self.if_version, added)?;
            let done = if added.existed { "replaced" } else { "added" };
            tell(self.options.output, &key, added, done).map_err(|failure| all_the_same(failure, added, done))
        };
        let version = self.if_version.map(Version);
        let ask = async |client: &Client| match (self.if_absent, version) {
            (true, _) => client.add_if_absent(&key, value).await,
            (false, Some(version)) => client.add_if_version(&key, value, version).await,
            (false, None) => client.add(&key, value).await.map(Conditional::Done),
        };
        self.options.ask(ask, tell).await
    }
}

impl Delete {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let key = text::bytes(self.key);
        check_key(&key)?;
        let tell = |deleted: Conditional| {
            let deleted = met(&key, self.if_version, deleted)?;
            if !deleted.existed {
                return Err(Failure::No(format!("no such key: {:?} has no value", String::from_utf8_lossy(&key))));
            }
            tell(self.options.output, &key, deleted, "deleted")
                .map_err(|failure| all_the_same(failure, deleted, "deleted"))
        };
        let ask = async |client: &Client| match self.if_version.map(Version) {
            Some(version) => client.delete_if_version(&key, version).await,
            None => client.delete(&key).await.map(Conditional::Done),
        };
        self.options.ask(ask, tell).await
    }
}

impl Append {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let prefix = text::bytes(self.prefix);
        if prefix.len() > limits::KEY_BYTES_MAX - APPEND_DIGITS {
            return Err(Failure::Usage(BadInput::Prefix { bytes: prefix.len() }.to_string()));
        }
        let value = value_of(self.value)?;
        let tell = |appended: Appended| {
            tell_appended(self.options.output, &appended).map_err(|failure| {
                failure.and_then(&format!(
                    "\nthe value was appended all the same: number {}, version {}",
                    appended.number, appended.version
                ))
            })
        };
        self.options.ask(async |client| client.append(&prefix, value).await, tell).await
    }
}

/// The change, or the true "no" where its condition was not met.
fn met(key: &[u8], wanted: Option<u64>, answer: Conditional) -> Result<Changed, Failure> {
    let NotMet { found, .. } = match answer {
        Conditional::Done(changed) => return Ok(changed),
        Conditional::NotMet(not_met) => not_met,
    };
    let so = match (found, wanted) {
        (Some(version), None) => format!("has a value, of version {version}"),
        (Some(version), Some(wanted)) => format!("is at version {version}, not {wanted}"),
        (None, Some(wanted)) => format!("has no value, and version {wanted} was asked for"),
        (None, None) => "has no value".to_owned(),
    };
    let key = String::from_utf8_lossy(key);
    Err(Failure::No(format!("condition not met: {key:?} {so}; nothing was changed")))
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

#[derive(Serialize)]
struct ToldAppended {
    #[serde(flatten)]
    key: text::Key,
    number: u64,
    version: u64,
    copies: u32,
    server: u8,
    epoch: u64,
}

fn tell_appended(format: Format, appended: &Appended) -> Result<(), Failure> {
    let Appended { key, number, version, copies, server, epoch } = appended;
    match format {
        Format::Text => output::write(&[key, &b"\n"[..]].concat()),
        Format::Json => output::json(&ToldAppended {
            key: text::Key::new(key),
            number: *number,
            version: version.0,
            copies: *copies,
            server: server.0,
            epoch: epoch.round,
        }),
    }
}

/// What no server would take is said before standard input is read and before anybody is asked.
pub(super) fn check_key(key: &[u8]) -> Result<(), Failure> {
    match key.len() {
        1..=limits::KEY_BYTES_MAX => Ok(()),
        bytes => Err(Failure::Usage(BadInput::Key { bytes }.to_string())),
    }
}

fn value_of(argument: OsString) -> Result<Vec<u8>, Failure> {
    if argument == "-" { read_standard_input() } else { Ok(text::bytes(argument)) }
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
    use heirloom_proto::{Epoch, ServerId};

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

    #[test]
    fn a_condition_that_is_not_met_is_a_no_that_names_what_was_found() {
        let not_met = |found| {
            let epoch = Epoch::NONE;
            Conditional::NotMet(NotMet { condition: 0, found, version: Version(9), server: ServerId(0), epoch })
        };
        let said = |found, wanted| match met(b"k", wanted, not_met(found)) {
            Err(Failure::No(said)) => said,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            said(Some(Version(7)), None),
            "condition not met: \"k\" has a value, of version 7; nothing was changed"
        );
        assert_eq!(
            said(Some(Version(7)), Some(3)),
            "condition not met: \"k\" is at version 7, not 3; nothing was changed"
        );
        assert_eq!(
            said(None, Some(3)),
            "condition not met: \"k\" has no value, and version 3 was asked for; nothing was changed"
        );
    }
}
