//! `heirloom watch`.

use std::ffi::OsString;
use std::thread;

use clap::Args;
use heirloom_proto::limits;
use heirloom_proto::{ServerId, Version};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;
use super::options::{Format, Options};
use super::{change, output, text};
use crate::client::Client;
use crate::error::BadInput;
use crate::watch::{WatchOptions, Watched};

/// How much is gathered before it is written, unless one change set alone is more. **Units:** bytes.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Prints changes as they are committed, one line for each key, until it is interrupted: the version, `add` or `delete`,
/// the key and the value, with tabs between them. What one change set does comes under one version.
///
/// Keys and values are printed as they are; where they may hold tabs or ends of lines, `--output json` keeps them apart.
///
/// Exit code 0 where it is interrupted or nobody reads on. Where the version is no longer kept, or the output was read too
/// slowly, it is 1: that is a "no" which stays one however long one waits, and not a lack of servers.
#[derive(Args, Debug)]
pub struct Watch {
    /// What the keys begin with; all of them where it is left out.
    #[arg(conflicts_with = "key")]
    prefix: Option<OsString>,
    /// Watch this key alone.
    #[arg(long, value_name = "KEY")]
    key: Option<OsString>,
    /// The first version to print; one that is still to come is waited for. Otherwise whatever is committed from now on.
    #[arg(long, value_name = "N")]
    from_version: Option<u64>,
    /// Watch at this server alone, by id; otherwise at any, and at another one when it fails.
    #[arg(long, value_name = "ID")]
    from: Option<u8>,
    /// End after so many versions.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    options: Options,
}

impl Watch {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let range = match (&self.key, &self.prefix) {
            (Some(key), _) => {
                let key = text::bytes(key.clone());
                change::check_key(&key)?;
                WatchOptions::key(key)
            }
            (None, Some(prefix)) => {
                let prefix = text::bytes(prefix.clone());
                if prefix.len() > limits::KEY_BYTES_MAX {
                    return Err(Failure::Usage(BadInput::Key { bytes: prefix.len() }.to_string()));
                }
                WatchOptions::prefix(prefix)
            }
            (None, None) => WatchOptions::default(),
        };
        let options =
            WatchOptions { from_version: self.from_version.map(Version), from: self.from.map(ServerId), ..range };
        let no_signals = |error: std::io::Error| Failure::Unavailable(format!("signals can't be waited for: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        tokio::select! {
            watched = self.watch(options) => watched,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    }

    async fn watch(&self, options: WatchOptions) -> Result<(), Failure> {
        let (timeout, end) = self.options.times();
        let client = Client::builder().timeout(timeout);
        let client = client.connect(self.options.servers().iter().map(ToString::to_string)).await?;
        let mut watch = match client.watch_with(options).await {
            Ok(watch) => watch,
            Err(error) => {
                return Err(self.options.explain(Failure::from(error), self.options.servers(), end).await);
            }
        };
        let mut printer = Printer::start();
        let mut left = self.limit.unwrap_or(u64::MAX);
        while left > 0 {
            let first = tokio::select! {
                first = watch.next() => first,
                failure = printer.failed() => return Err(failure),
            };
            let (mut lines, mut next) = (Vec::new(), Some(first?));
            while let Some(watched) = next {
                write(self.options.output, &watched, &mut lines);
                left -= 1;
                let more = left > 0 && lines.len() < WRITTEN_AT_ONCE;
                next = if more { watch.next_ready() } else { None };
            }
            printer.print(lines).await?;
        }
        printer.finish().await
    }
}

/// Writes on a thread of its own: while nobody reads the output, the command must still end when it is told to.
struct Printer {
    /// One batch is written and one waits; what is more is not taken from the servers.
    batches: Option<mpsc::Sender<Vec<u8>>>,
    end: oneshot::Receiver<Result<(), Failure>>,
}

impl Printer {
    fn start() -> Self {
        let (batches, mut taken) = mpsc::channel::<Vec<u8>>(1);
        let (ended, end) = oneshot::channel();
        thread::spawn(move || {
            let mut result = Ok(());
            while result.is_ok()
                && let Some(batch) = taken.blocking_recv()
            {
                result = output::write(&batch);
            }
            // The command may have ended meanwhile.
            let _ = ended.send(result);
        });
        Self { batches: Some(batches), end }
    }

    /// Why nothing more can be written, once that is so.
    async fn failed(&mut self) -> Failure {
        match (&mut self.end).await {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) | Err(_) => Failure::Unavailable("the output ended".to_owned()),
        }
    }

    async fn print(&mut self, lines: Vec<u8>) -> Result<(), Failure> {
        let batches = self.batches.as_ref().expect("it has not finished");
        if batches.send(lines).await.is_err() {
            return Err(self.failed().await);
        }
        Ok(())
    }

    /// Waits until all is written.
    async fn finish(mut self) -> Result<(), Failure> {
        self.batches = None;
        (&mut self.end).await.unwrap_or(Ok(()))
    }
}

#[derive(Serialize)]
struct Told {
    version: u64,
    #[serde(flatten)]
    key: text::Key,
    #[serde(flatten)]
    value: Option<text::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    changed_at_ms: u64,
    server: u8,
}

/// One line for each key.
fn write(format: Format, watched: &Watched, lines: &mut Vec<u8>) {
    for change in &watched.changes {
        match format {
            Format::Text => {
                let verb: &[u8] = if change.value.is_some() { b"\tadd\t" } else { b"\tdelete\t" };
                lines.extend(watched.version.to_string().bytes());
                lines.extend([verb, &change.key].concat());
                if let Some(value) = &change.value {
                    lines.push(b'\t');
                    lines.extend(value);
                }
            }
            Format::Json => {
                let told = Told {
                    version: watched.version.0,
                    key: text::Key::new(&change.key),
                    value: change.value.as_deref().map(text::Value::new),
                    deleted: change.value.is_none().then_some(true),
                    changed_at_ms: watched.changed_at.0,
                    server: watched.server.0,
                };
                lines.extend(serde_json::to_vec(&told).expect("numbers and texts can always be written"));
            }
        }
        lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{KeyChange, WallTime};

    use super::*;

    #[test]
    fn each_key_has_a_line_and_a_deleted_one_no_value() {
        let changes = vec![
            KeyChange { key: "a".into(), value: Some("v".into()) },
            KeyChange { key: "b".into(), value: None },
            KeyChange { key: "c".into(), value: Some(vec![255].into()) },
        ];
        let watched = Watched { version: Version(7), changes, changed_at: WallTime(5), server: ServerId(2) };
        let mut lines = Vec::new();
        write(Format::Text, &watched, &mut lines);
        assert_eq!(lines, b"7\tadd\ta\tv\n7\tdelete\tb\n7\tadd\tc\t\xff\n");
        lines.clear();
        write(Format::Json, &watched, &mut lines);
        let expected = [
            r#"{"version":7,"key":"a","value":"v","changed_at_ms":5,"server":2}"#,
            r#"{"version":7,"key":"b","deleted":true,"changed_at_ms":5,"server":2}"#,
            r#"{"version":7,"key":"c","value_base64":"/w==","changed_at_ms":5,"server":2}"#,
        ];
        assert_eq!(String::from_utf8(lines).expect("text").lines().collect::<Vec<_>>(), expected);
    }
}
