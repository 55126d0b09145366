//! An import under way: a thread that reads, batches that are added several at a time, and the line up to which all is in.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::thread;

use bytes::Bytes;
use heirloom_proto::limits::{SET_COUNT_MAX, VALUE_BYTES_MAX};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::add::{Added, add, graver};
use super::{Damage, Reading, Sum};
use crate::client::Client;
use crate::error::Error;

/// How many keys a batch has at most. As many as servers take would make whoever else writes wait for longer, and not be
/// faster, for many batches are under way.
pub(super) const BATCH_KEYS_MAX: usize = 256;
/// How long its keys and values are at most, unless one alone is longer. **Units:** bytes.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// How many batches are under way.
const UNDER_WAY_MAX: usize = 16;
/// How long all keys and values are that are under way, unless one batch alone is longer. **Units:** bytes.
const UNDER_WAY_BYTES_MAX: usize = 16 << 20;
/// How many batches wait until others are done.
const WAITING_MAX: usize = 2;
/// After how many keys it is told how far the checking is.
const TOLD_EVERY: u64 = 4_096;

const _: () = assert!(BATCH_KEYS_MAX <= SET_COUNT_MAX);
// All values of a set together are no longer than one may be.
const _: () = assert!(BATCH_BYTES_MAX <= VALUE_BYTES_MAX);

/// Keys that are added together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) keys: Vec<(Bytes, Bytes)>,
    /// The line of its first key.
    pub(crate) first_line: u64,
    /// The line behind its last key.
    pub(crate) next_line: u64,
    /// How long its keys and values are.
    bytes: usize,
}

/// What the reader tells.
pub(crate) enum Told {
    /// It checks the file, and has come to so many keys and bytes.
    Checking(u64, u64),
    /// The file is whole, and has so many keys to add.
    Checked(u64),
    /// Keys to be added.
    Batch(Batch),
    /// All that could be read was told.
    End(Result<Sum, Refused>),
}

/// Why a file is not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is damaged.
    Damaged(Damage),
    /// It has no such line to go on from.
    NoSuchLine {
        /// How many lines it has.
        lines: u64,
    },
}

/// Why an import ended.
#[derive(Debug)]
pub(crate) enum End {
    /// All is in.
    Complete,
    /// The file can't be read on.
    Refused(Refused),
    /// Keys could not be added.
    Failed(Error),
    /// It was told to end.
    Interrupted,
}

/// How an import ended.
#[derive(Debug)]
pub(crate) struct Imported {
    /// What came of the keys of which that is known.
    pub(crate) added: Added,
    /// How long these keys and their values are.
    pub(crate) bytes: u64,
    /// All keys on lines before this one are in, or were to be left out.
    pub(crate) next_line: u64,
    /// How many batches were given up before their answers came.
    pub(crate) given_up: usize,
    /// The checksum of the file, where it was read to its end.
    pub(crate) checksum: Option<String>,
    /// Why it ended.
    pub(crate) end: End,
}

/// How far an import is.
pub(crate) enum Progress {
    /// It checks the file: so many keys and bytes.
    Checking(u64, u64),
    /// It adds: so many keys and bytes, of so many keys where that is known.
    Adding(u64, u64, Option<u64>),
}

/// Reads on a thread of its own, for a read may last. A file that can be read twice is checked to its end before the first
/// batch is told; of any other one it comes out at the end whether it was whole.
pub(crate) fn read(file: File, from_line: u64) -> mpsc::Receiver<Told> {
    let (tell, told) = mpsc::channel(WAITING_MAX);
    // Who asked for it may have ended; then nobody needs the rest.
    thread::spawn(move || {
        let end = read_to_end(&file, from_line, |told| tell.blocking_send(told).is_ok());
        let _ = tell.blocking_send(Told::End(end));
    });
    told
}

/// `tell` says whether anybody wants to hear more.
fn read_to_end(file: &File, from_line: u64, mut tell: impl FnMut(Told) -> bool) -> Result<Sum, Refused> {
    let io = |error: io::Error| Refused::Damaged(Damage::Unreadable(error.to_string()));
    let mut input = file;
    if file.metadata().map_err(io)?.is_file() {
        let start = input.stream_position().map_err(io)?;
        let (keys, lines) = check(input, from_line, &mut tell).map_err(Refused::Damaged)?;
        // The line behind the last key is the one that says so, and there may be nothing left to do.
        if from_line > lines {
            return Err(Refused::NoSuchLine { lines });
        }
        if !tell(Told::Checked(keys)) {
            return Ok(Sum::default());
        }
        input.seek(SeekFrom::Start(start)).map_err(io)?;
    }
    batches(input, from_line, |batch| tell(Told::Batch(batch))).map_err(Refused::Damaged)
}

/// How many keys there are from this line on, and how many lines in all.
fn check(input: impl Read, from_line: u64, tell: &mut impl FnMut(Told) -> bool) -> Result<(u64, u64), Damage> {
    let mut reading = Reading::begin(BufReader::new(input))?;
    let mut keys = 0;
    while let Some(record) = reading.next()? {
        keys += u64::from(record.line >= from_line);
        let sum = reading.sum();
        if sum.keys % TOLD_EVERY == 0 && !tell(Told::Checking(sum.keys, sum.bytes)) {
            break;
        }
    }
    Ok((keys, reading.lines()))
}

pub(super) fn batches(input: impl Read, from_line: u64, mut tell: impl FnMut(Batch) -> bool) -> Result<Sum, Damage> {
    let mut reading = Reading::begin(BufReader::new(input))?;
    let mut batch: Option<Batch> = None;
    while let Some(record) = reading.next()? {
        if record.line < from_line {
            continue;
        }
        let bytes = record.key.len() + record.value.len();
        let is_full = |batch: &mut Batch| batch.keys.len() >= BATCH_KEYS_MAX || batch.bytes + bytes > BATCH_BYTES_MAX;
        if let Some(full) = batch.take_if(is_full)
            && !tell(full)
        {
            return Ok(reading.sum().clone());
        }
        let batch = batch.get_or_insert_with(|| Batch {
            keys: Vec::new(),
            first_line: record.line,
            next_line: record.line,
            bytes: 0,
        });
        batch.keys.push((record.key, record.value));
        batch.next_line = record.line + 1;
        batch.bytes += bytes;
    }
    if let Some(last) = batch {
        tell(last);
    }
    Ok(reading.sum().clone())
}

/// Adds all batches that are told, in any order, for no key comes twice. `stop` waits for a word to end: at the first one
/// what is under way is waited for, at the next one it is not.
pub(crate) async fn import(
    client: &Client,
    mut told: mpsc::Receiver<Told>,
    from_line: u64,
    if_absent: bool,
    mut stop: impl AsyncFnMut(),
    mut show: impl FnMut(Progress),
) -> Imported {
    let mut course = Course::new(client.clone(), from_line, if_absent);
    let mut waiting: Option<Batch> = None;
    let mut end: Option<End> = None;
    let mut checksum = None;
    let mut of = None;
    let mut is_told_to_stop = false;
    loop {
        if end.is_none()
            && let Some(batch) = waiting.take_if(|batch| course.has_room(batch))
        {
            course.begin(batch);
        }
        if end.is_some() && course.tasks.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            () = stop() => {
                if is_told_to_stop {
                    break;
                }
                is_told_to_stop = true;
                end.get_or_insert(End::Interrupted);
            }
            Some(done) = course.tasks.join_next() => {
                if let Err(error) = course.end(done.expect("it does not panic")) {
                    let before = match end.take() {
                        Some(End::Failed(before)) => Some(before),
                        Some(End::Complete | End::Refused(_) | End::Interrupted) | None => None,
                    };
                    end = Some(End::Failed(graver(before, error)));
                }
                show(Progress::Adding(course.added.keys + course.added.left_alone, course.bytes, of));
            }
            next = told.recv(), if end.is_none() && waiting.is_none() => match next.expect("it tells its end") {
                Told::Checking(keys, bytes) => show(Progress::Checking(keys, bytes)),
                Told::Checked(keys) => of = Some(keys),
                Told::Batch(batch) => waiting = Some(batch),
                Told::End(Ok(sum)) => {
                    checksum = Some(sum.checksum());
                    end = Some(End::Complete);
                }
                Told::End(Err(refused)) => end = Some(End::Refused(refused)),
            },
        }
    }
    let end = match end.expect("it ended for a reason") {
        End::Complete if !course.tasks.is_empty() => End::Interrupted,
        end @ (End::Complete | End::Refused(_) | End::Failed(_) | End::Interrupted) => end,
    };
    Imported {
        added: course.added,
        bytes: course.bytes,
        next_line: course.next_line(),
        given_up: course.tasks.len(),
        checksum,
        end,
    }
}

/// The batches that are under way, and what came of the others.
struct Course {
    client: Client,
    if_absent: bool,
    tasks: JoinSet<(Batch, Result<Added, Error>)>,
    /// How long the keys and values under way are.
    under_way_bytes: usize,
    /// The first lines of the batches that are not in.
    open: BTreeSet<u64>,
    /// The line behind the last batch that was begun.
    begun: u64,
    added: Added,
    bytes: u64,
}

impl Course {
    fn new(client: Client, from_line: u64, if_absent: bool) -> Self {
        Self {
            client,
            if_absent,
            tasks: JoinSet::new(),
            under_way_bytes: 0,
            open: BTreeSet::new(),
            begun: from_line,
            added: Added::default(),
            bytes: 0,
        }
    }

    fn has_room(&self, batch: &Batch) -> bool {
        let has_room = self.under_way_bytes + batch.bytes <= UNDER_WAY_BYTES_MAX;
        self.tasks.is_empty() || self.tasks.len() < UNDER_WAY_MAX && has_room
    }

    fn begin(&mut self, batch: Batch) {
        self.under_way_bytes += batch.bytes;
        self.open.insert(batch.first_line);
        self.begun = batch.next_line;
        let (client, if_absent) = (self.client.clone(), self.if_absent);
        self.tasks.spawn(async move {
            let added = add(&client, &batch, if_absent).await;
            (batch, added)
        });
    }

    /// Takes into account what came of a batch.
    fn end(&mut self, (batch, added): (Batch, Result<Added, Error>)) -> Result<(), Error> {
        self.under_way_bytes -= batch.bytes;
        self.added = self.added.and(added?);
        self.bytes += batch.bytes as u64;
        self.open.remove(&batch.first_line);
        Ok(())
    }

    /// All keys on lines before this one are in.
    fn next_line(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.begun)
    }
}
