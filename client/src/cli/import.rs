//! `heirloom import`.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::again::command_with;
use super::failure::Failure;
use super::options::{Format, Options};
use super::output;
use super::progress::Progress;
use super::signals::Signals;
use super::table::size;
use crate::client::Client;
use crate::transfer::Damage;
use crate::transfer::add::Added;
use crate::transfer::import::{self, End, Imported, Refused};

/// The line of the first key: before it is the header.
const FIRST_LINE: u64 = 2;

/// Add the keys of a file that `heirloom export` has written; those that are there get the file's values.
///
/// A file is read to its end before the first key is added, and nothing is if it is damaged or not whole. Standard input
/// can't be read twice, so of it that is found out at the end. --timeout is for each batch of keys.
///
/// Where it ends early it says how to go on. To do all again does no harm either, but to keys that others have changed since.
#[derive(Args, Debug)]
pub struct Import {
    /// The file; `-` for standard input.
    file: PathBuf,
    /// Take the keys on lines before this one for added. The first line is the header, and has number 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: Option<u64>,
    /// Leave keys alone that have a value.
    #[arg(long)]
    if_absent: bool,
    #[command(flatten)]
    options: Options,
}

impl Import {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let file =
            self.open().map_err(|error| Failure::Usage(format!("{} can't be read: {error}", self.file.display())))?;
        let from_line = self.from_line.unwrap_or(FIRST_LINE).max(FIRST_LINE);
        let mut signals = Signals::listen()?;
        let mut hint = String::new();
        let mut is_begun = false;
        let import = async |client: &Client| {
            let mut progress = Progress::begin();
            let show = |so_far| match so_far {
                import::Progress::Checking(keys, bytes) => progress.show("checking", keys, bytes, None),
                import::Progress::Adding(keys, bytes, of) => progress.show("importing", keys, bytes, of),
            };
            let told = import::read(file, from_line);
            let stop = async || signals.next().await;
            let imported = import::import(client, told, from_line, self.if_absent, stop, show).await;
            progress.clear();
            is_begun = imported.added.keys > 0;
            hint = how_to_go_on(&imported, from_line);
            match &imported.end {
                End::Complete => Ok(Ok((imported, progress.elapsed()))),
                End::Refused(refused) => Ok(Err(self.refused(refused))),
                End::Interrupted => Ok(Err(interrupted(imported.given_up))),
                End::Failed(error) => Err(error.clone()),
            }
        };
        let tell = |imported: Result<(Imported, Duration), Failure>| {
            let (imported, elapsed) = imported?;
            say(&imported, elapsed);
            match self.options.output {
                Format::Text => Ok(()),
                Format::Json => tell(&imported, from_line),
            }
        };
        let imported = self.options.ask(import, tell).await;
        imported.map_err(|failure| {
            let failure = match failure {
                // Exit code 2 says that nothing was done.
                Failure::Usage(what) if is_begun => Failure::Unavailable(what),
                other => other,
            };
            failure.and_then(&hint)
        })
    }

    fn open(&self) -> io::Result<File> {
        let file = match self.file.as_os_str() == "-" {
            // Of its own kind it may be a file too, that can be read twice.
            true => File::from(io::stdin().as_fd().try_clone_to_owned()?),
            false => File::open(&self.file)?,
        };
        if file.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Ok(file)
    }

    fn refused(&self, refused: &Refused) -> Failure {
        let file = self.file.display();
        match refused {
            Refused::NoSuchLine { lines } => {
                Failure::Usage(format!("{file} has {lines} lines, and --from-line is behind them"))
            }
            Refused::Damaged(damage) => {
                let message = format!("{file} is not imported to its end: {damage}");
                match damage {
                    Damage::Newer { .. } => Failure::Usage(message),
                    Damage::Unreadable(_) => Failure::Unavailable(message),
                    Damage::NoExport
                    | Damage::Line { .. }
                    | Damage::CutOff { .. }
                    | Damage::Keys { .. }
                    | Damage::Checksum
                    | Damage::More => Failure::Integrity(message),
                }
            }
        }
    }
}

fn interrupted(given_up: usize) -> Failure {
    Failure::Unavailable(match given_up {
        0 => "interrupted".to_owned(),
        _ => "interrupted twice: the keys that were under way may or may not be added".to_owned(),
    })
}

fn how_to_go_on(imported: &Imported, from_line: u64) -> String {
    let next_line = imported.next_line;
    let again = || command_with("import", "--from-line", Some(next_line));
    match &imported.end {
        End::Complete => "\nall keys were added all the same".to_owned(),
        End::Refused(Refused::NoSuchLine { .. }) => String::new(),
        End::Refused(Refused::Damaged(_)) if next_line == from_line => "\nnothing was added".to_owned(),
        End::Refused(Refused::Damaged(_)) => format!("\nthe keys before line {next_line} were added"),
        End::Failed(_) | End::Interrupted => {
            format!("\nthe keys before line {next_line} are in; go on, with the same input, by: {}", again())
        }
    }
}

/// For people, who may not listen.
fn say(imported: &Imported, elapsed: Duration) {
    let Added { keys, left_alone, .. } = imported.added;
    let alone = if left_alone > 0 { format!(", left {left_alone} alone that were there") } else { String::new() };
    let bytes = size(imported.bytes);
    let _ = writeln!(io::stderr(), "heirloom: added {keys} keys{alone}, {bytes} in all, in {elapsed:.1?}");
}

#[derive(Serialize)]
struct Told<'a> {
    keys: u64,
    left_alone: u64,
    bytes: u64,
    from_line: u64,
    version: u64,
    xxh3_128: Option<&'a str>,
}

fn tell(imported: &Imported, from_line: u64) -> Result<(), Failure> {
    let Added { keys, left_alone, version } = imported.added;
    output::json(&Told {
        keys,
        left_alone,
        bytes: imported.bytes,
        from_line,
        version: version.0,
        xxh3_128: imported.checksum.as_deref(),
    })
}
