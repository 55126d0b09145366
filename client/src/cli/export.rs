//! `heirloom export`.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use heirloom_proto::{KeyRange, Refusal};
use serde::Serialize;

use super::again::command_with;
use super::failure::Failure;
use super::options::{Format, Options};
use super::output;
use super::printer::Printer;
use super::progress::Progress;
use super::range::Range;
use super::signals::Signals;
use super::table::size;
use crate::client::Client;
use crate::error::{BadInput, Error};
use crate::transfer::export::Exporting;
use crate::transfer::part::{Begun, Part, Unfit};
use crate::transfer::{Header, Sum};

/// Write keys and their values as lines of JSON, in the order of the keys and all as they were at one version, for
/// `heirloom import`.
///
/// --timeout is for each page. The last line says that the export is whole; one that was cut off can't be imported.
#[derive(Args, Debug)]
pub struct Export {
    #[command(flatten)]
    range: Range,
    /// Write to this file. It is called FILE.part until it is whole and on the disk.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Go on with the FILE.part that an interrupted export has left, at the version of that; begin where there is none.
    #[arg(long, requires = "to")]
    resume: bool,
    /// Replace FILE if it is there, and FILE.part unless it is gone on with.
    #[arg(long, requires = "to")]
    force: bool,
    #[command(flatten)]
    options: Options,
}

/// A whole export.
struct Done {
    header: Header,
    sum: Sum,
    elapsed: Duration,
}

impl Export {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let range = KeyRange::from(self.range);
        if !range.is_within_bounds() {
            return Err(Failure::Usage(BadInput::Key { bytes: range.longest_end() }.to_string()));
        }
        let (part, begun) = match &self.to {
            Some(path) => {
                let (part, begun) = open(path, &range, self.resume, self.force)?;
                (Some(part), begun)
            }
            None => (None, None),
        };
        let printer = match &part {
            Some(part) => Printer::start(write_to(part)?),
            None => Printer::start(output::write),
        };
        let mut signals = Signals::listen()?;
        let is_gone = Cell::new(false);
        let export = async |client: &Client| {
            let exporting = match begun {
                Some(begun) => Exporting::go_on(client, begun),
                None => Exporting::begin(client, range),
            };
            let exported = pump(exporting, printer, part.is_some(), &mut signals).await;
            is_gone.set(exported.as_ref().is_err_and(is_refused_for_good));
            exported
        };
        let tell = |exported: Result<Done, Failure>| {
            let done = exported?;
            let Some((part, path)) = part.as_ref().zip(self.to.as_ref()) else {
                say(&done);
                return Ok(());
            };
            part.finish().map_err(|error| not_written(path, &error))?;
            say(&done);
            match self.options.output {
                Format::Text => Ok(()),
                Format::Json => {
                    tell(path, &done).map_err(|failure| failure.and_then("\nthe file is whole all the same"))
                }
            }
        };
        let exported = self.options.ask(export, tell).await;
        exported.map_err(|failure| failure.and_then(&how_to_go_on(part.as_ref(), is_gone.get())))
    }
}

/// The file, and what an export before this one has left in it.
fn open(path: &Path, range: &KeyRange, resume: bool, force: bool) -> Result<(Part, Option<Begun>), Failure> {
    let mut part = Part::open(path, resume, force).map_err(|unfit| unfit_to_failure(path, unfit))?;
    let begun = part.begun().map_err(|unfit| unfit_to_failure(path, unfit))?;
    match &begun {
        Some(begun) if begun.header.range != *range => Err(Failure::Usage(format!(
            "{} is of another range of keys: ask for the same, or begin anew by --force, without --resume",
            part.part_path().display()
        ))),
        Some(_) | None => Ok((part, begun)),
    }
}

/// Why there is no file to write to, and what to do.
pub(super) fn unfit_to_failure(path: &Path, unfit: Unfit) -> Failure {
    match unfit {
        Unfit::Exists => Failure::Usage(format!("{} is there already: --force replaces it", path.display())),
        Unfit::PartExists(part) => Failure::Usage(format!(
            "{} is there: another command writes it, or was interrupted; go on with it by --resume, or begin anew by --force",
            part.display()
        )),
        Unfit::Damaged(part, damage) => cannot_go_on(&part, &damage.to_string()),
        Unfit::Io(part, error) => Failure::Usage(format!("{} can't be opened: {error}", part.display())),
    }
}

/// What is there already is damaged.
pub(super) fn cannot_go_on(part: &Path, damage: &str) -> Failure {
    let part = part.display();
    Failure::Integrity(format!("{part} can't be gone on with: {damage}; begin anew by --force, without --resume"))
}

fn write_to(part: &Part) -> Result<impl FnMut(&[u8]) -> Result<(), Failure> + Send + 'static, Failure> {
    let path = part.part_path().to_owned();
    let mut file = part.file().map_err(|error| not_written(&path, &error))?;
    Ok(move |lines: &[u8]| file.write_all(lines).map_err(|error| not_written(&path, &error)))
}

pub(super) fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::Unavailable(format!("{} can't be written: {error}", path.display()))
}

/// Passes on what comes of the servers until all is written, or a signal ends it.
async fn pump(
    mut exporting: Exporting,
    mut printer: Printer,
    is_file: bool,
    signals: &mut Signals,
) -> Result<Result<Done, Failure>, Error> {
    let interrupted = || Failure::Unavailable("interrupted".to_owned());
    let mut progress = Progress::begin();
    let (had_keys, had_bytes) = (exporting.sum().keys, exporting.sum().bytes);
    let ended = loop {
        let lines = tokio::select! {
            lines = exporting.next() => lines,
            () = signals.next() => break Ok(Err(interrupted())),
            failure = printer.failed() => {
                progress.clear();
                return Ok(Err(failure));
            }
        };
        match lines {
            Ok(Some(lines)) => tokio::select! {
                printed = printer.print(lines) => if let Err(failure) = printed {
                    progress.clear();
                    return Ok(Err(failure));
                },
                () = signals.next() => break Ok(Err(interrupted())),
            },
            Ok(None) => break Ok(Ok(())),
            Err(error) => break Err(error),
        }
        let sum = exporting.sum();
        progress.show("exporting", sum.keys - had_keys, sum.bytes - had_bytes, None);
    };
    progress.clear();
    let elapsed = progress.elapsed();
    // What is written to a file can be gone on with; and whoever does not read on must not keep the command from ending.
    if is_file || !matches!(ended, Ok(Err(_))) {
        let rest = exporting.rest();
        let finish = async {
            if !rest.is_empty() {
                printer.print(rest).await?;
            }
            printer.finish().await
        };
        tokio::select! {
            finished = finish => if let Err(failure) = finished {
                return Ok(Err(failure));
            },
            () = signals.next() => return Ok(Err(interrupted())),
        }
    }
    let header = exporting.header().cloned();
    Ok(ended?.map(|()| {
        let header = header.expect("a whole export has one");
        Done { header, sum: exporting.sum().clone(), elapsed }
    }))
}

/// Whether servers will never again give what this export wants next.
fn is_refused_for_good(error: &Error) -> bool {
    matches!(
        error.refusal(),
        Some(Refusal::VersionTooOld { .. } | Refusal::OtherCluster | Refusal::VersionAhead { .. })
    )
}

fn how_to_go_on(part: Option<&Part>, is_gone: bool) -> String {
    match part {
        None => "\nwhat was written is not whole: its last line is missing".to_owned(),
        Some(part) => how_to_go_on_with(part, is_gone, "export"),
    }
}

/// The same for a command that writes to a file; `is_gone`: servers no longer have what is missing.
pub(super) fn how_to_go_on_with(part: &Part, is_gone: bool, command: &str) -> String {
    let path = part.part_path().display();
    match part.is_left() {
        false => String::new(),
        true if is_gone => format!("\n{path} can't be gone on with: begin anew by --force, without --resume"),
        true => format!("\n{path} has what came so far; go on with: {}", command_with(command, "--resume", None)),
    }
}

/// For people, who may not listen.
fn say(done: &Done) {
    let Done { header, sum, elapsed } = done;
    let (keys, bytes) = (sum.keys, size(sum.bytes));
    let version = header.version;
    let _ = writeln!(io::stderr(), "heirloom: exported {keys} keys of version {version}, {bytes}, in {elapsed:.1?}");
}

#[derive(Serialize)]
struct Told<'a> {
    file: Cow<'a, str>,
    keys: u64,
    bytes: u64,
    version: u64,
    cluster: &'a str,
    xxh3_128: String,
}

fn tell(path: &Path, done: &Done) -> Result<(), Failure> {
    let Done { header, sum, .. } = done;
    output::json(&Told {
        file: path.to_string_lossy(),
        keys: sum.keys,
        bytes: sum.bytes,
        version: header.version.0,
        cluster: &header.cluster.to_string(),
        xxh3_128: sum.checksum(),
    })
}
