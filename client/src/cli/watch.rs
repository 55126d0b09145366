//! `heirloom watch`.

use std::ffi::OsString;

use clap::Args;
use heirloom_proto::limits;
use heirloom_proto::{ServerId, Version};
use serde::Serialize;

use super::failure::Failure;
use super::options::{Format, Options};
use super::printer::Printer;
use super::signals::Signals;
use super::{change, output, text};
use crate::client::Client;
use crate::error::{BadInput, Error};
use crate::watch::{self, WatchOptions, Watched};

/// How much is gathered before it is written, unless one change set alone is more. **Units:** bytes.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Print changes as they are committed, each once and in order, until it is interrupted.
///
/// There is one line for each key: the version, `add` or `delete`, the key and the value, with tabs between them. What one
/// change set does comes under one version. --timeout is for the beginning.
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
        let mut signals = Signals::listen()?;
        tokio::select! {
            watched = self.watch(options) => watched,
            () = signals.next() => Ok(()),
        }
    }

    async fn watch(&self, options: WatchOptions) -> Result<(), Failure> {
        let (timeout, end) = self.options.times();
        let client = Client::builder().timeout(timeout);
        let client = client.connect(self.options.servers().iter().map(ToString::to_string)).await?;
        let watch = match client.watch_with(options).await {
            Ok(watch) => watch,
            Err(error) => {
                return Err(self.options.explain(Failure::from(error), self.options.servers(), end).await);
            }
        };
        print(watch, self.options.output, self.limit, Printer::start(output::write)).await
    }
}

/// Where changes come from: a watch, or what a test has in its place.
trait Source {
    async fn next(&mut self) -> Result<Watched, Error>;
    fn next_ready(&mut self) -> Option<Watched>;
}

impl Source for watch::Watch {
    async fn next(&mut self) -> Result<Watched, Error> {
        self.next().await
    }

    fn next_ready(&mut self) -> Option<Watched> {
        self.next_ready()
    }
}

/// Prints until so many versions are printed.
///
/// **Errors:** why nothing more can be written; otherwise why nothing more is told, once all that was told is written.
async fn print(
    mut source: impl Source,
    format: Format,
    limit: Option<u64>,
    mut printer: Printer,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    while left > 0 {
        let first = tokio::select! {
            first = source.next() => first,
            failure = printer.failed() => return Err(failure),
        };
        let first = match first {
            Ok(first) => first,
            Err(error) => {
                printer.finish().await?;
                return Err(error.into());
            }
        };
        let (mut lines, mut next) = (Vec::new(), Some(first));
        while let Some(watched) = next {
            write(format, &watched, &mut lines);
            left -= 1;
            let more = left > 0 && lines.len() < WRITTEN_AT_ONCE;
            next = if more { source.next_ready() } else { None };
        }
        printer.print(lines).await?;
    }
    printer.finish().await
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
    epoch: u64,
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
                    epoch: watched.epoch.round,
                };
                lines.extend(serde_json::to_vec(&told).expect("numbers and texts can always be written"));
            }
        }
        lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::pin;
    use std::sync::{Arc, Mutex};

    use heirloom_proto::{Epoch, KeyChange, RunId, WallTime};

    use super::*;
    use crate::error::WatchLost;

    const EPOCH: Epoch = Epoch { round: 3, server: ServerId(2), run: RunId(9) };

    /// Tells these, one at a time.
    impl Source for VecDeque<Result<Watched, Error>> {
        async fn next(&mut self) -> Result<Watched, Error> {
            self.pop_front().expect("nobody asks behind the end")
        }

        fn next_ready(&mut self) -> Option<Watched> {
            None
        }
    }

    /// So many versions, and the word that those behind them are no longer kept.
    fn cut_off_behind(count: u64) -> (VecDeque<Result<Watched, Error>>, Error) {
        let change = |version| Watched {
            version: Version(version),
            changes: vec![KeyChange { key: "k".into(), value: Some("v".into()) }],
            changed_at: WallTime(5),
            server: ServerId(2),
            epoch: EPOCH,
        };
        let lost = WatchLost::TooOld { asked: "watch".to_owned(), wanted: Version(count + 1), oldest: Version(99) };
        let lost = Error::from(lost);
        let told = (1..=count).map(|version| Ok(change(version))).chain([Err(lost.clone())]);
        (told.collect(), lost)
    }

    #[tokio::test]
    async fn whoever_is_cut_off_has_all_printed_that_it_was_told() {
        let (told, lost) = cut_off_behind(1);
        let (read, reads) = std::sync::mpsc::channel::<()>();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let out = printed.clone();
        let printer = Printer::start(move |lines| {
            // Until somebody reads.
            let _ = reads.recv();
            out.lock().expect("no panic").extend_from_slice(lines);
            Ok(())
        });
        let mut printing = pin!(print(told, Format::Text, None, printer));
        tokio::select! {
            biased;
            ended = &mut printing => panic!("it ended though nobody has read anything: {ended:?}"),
            () = std::future::ready(()) => {}
        }
        drop(read);
        assert_eq!(printing.await, Err(Failure::from(lost)));
        assert_eq!(*printed.lock().expect("no panic"), b"1\tadd\tk\tv\n");
    }

    #[tokio::test]
    async fn whoever_is_cut_off_where_nobody_reads_any_more_ends_quietly() {
        let (told, _) = cut_off_behind(1);
        let printer = Printer::start(|_| Err(Failure::NobodyReads));
        assert_eq!(print(told, Format::Text, None, printer).await, Err(Failure::NobodyReads));
    }

    #[test]
    fn each_key_has_a_line_and_a_deleted_one_no_value() {
        let changes = vec![
            KeyChange { key: "a".into(), value: Some("v".into()) },
            KeyChange { key: "b".into(), value: None },
            KeyChange { key: "c".into(), value: Some(vec![255].into()) },
        ];
        let watched =
            Watched { version: Version(7), changes, changed_at: WallTime(5), server: ServerId(2), epoch: EPOCH };
        let mut lines = Vec::new();
        write(Format::Text, &watched, &mut lines);
        assert_eq!(lines, b"7\tadd\ta\tv\n7\tdelete\tb\n7\tadd\tc\t\xff\n");
        lines.clear();
        write(Format::Json, &watched, &mut lines);
        let expected = [
            r#"{"version":7,"key":"a","value":"v","changed_at_ms":5,"server":2,"epoch":3}"#,
            r#"{"version":7,"key":"b","deleted":true,"changed_at_ms":5,"server":2,"epoch":3}"#,
            r#"{"version":7,"key":"c","value_base64":"/w==","changed_at_ms":5,"server":2,"epoch":3}"#,
        ];
        assert_eq!(String::from_utf8(lines).expect("text").lines().collect::<Vec<_>>(), expected);
    }
}
