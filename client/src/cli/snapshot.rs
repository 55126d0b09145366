//! `heirloom snapshot save`, and what is told of snapshots.
//!
//! The format of the file is the server's: whoever runs the command gives what reads and checks it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use heirloom_proto::wire::snapshot::{HeldSnapshot, SnapshotBegin, begin_from_wire, held_to_wire};
use heirloom_proto::wire::v1::{SaveSnapshotRequest, SnapshotChunk, StatusResponse};
use heirloom_proto::{Address, ServerId};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tonic::{Code, Streaming};

use super::export::{cannot_go_on, how_to_go_on_with, not_written, unfit_to_failure};
use super::failure::Failure;
use super::operator::{self, Seen};
use super::options::{Format, Options};
use super::output;
use super::progress::Progress;
use super::signals::Signals;
use super::table::size;
use crate::transfer::part::Part;
use crate::transport;

/// How long a server may say nothing once it has begun.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Save a snapshot of all keys, with their versions and the clients' sessions, to a file, for `heirloom snapshot restore`.
///
/// It holds every change that was answered before the command was started. A backup is asked where there is one, so that the
/// primary goes on undisturbed. The file is checked, byte by byte, before it gets its name.
///
/// --timeout is for finding a server that begins; to make a snapshot and to send it takes as long as it takes.
#[derive(Args, Debug)]
pub struct Save {
    /// The file. It is called FILE.part until it is whole, checked and on the disk.
    file: PathBuf,
    /// Go on with the FILE.part that an interrupted save has left, with the very snapshot that it began with; begin where
    /// there is none.
    #[arg(long)]
    resume: bool,
    /// Replace FILE if it is there, and FILE.part unless it is gone on with.
    #[arg(long)]
    force: bool,
    /// Ask this server alone: its position in --cluster, counted from 0.
    #[arg(long, value_name = "ID")]
    from: Option<u8>,
    #[command(flatten)]
    options: Options,
}

/// How the file of a snapshot is kept and checked.
pub trait SnapshotFile: Sized + Send + 'static {
    /// Opens the file, which is there, with what an interrupted save has left in it.
    ///
    /// **Errors:** [`Trouble`]; damaged where it holds something else.
    fn open(path: &Path) -> Result<Self, Trouble>;

    /// What is there of which snapshot; `None` where there is nothing yet.
    fn held(&self) -> Option<HeldSnapshot>;

    /// Whether nothing was missing when it was opened.
    fn found_whole(&self) -> bool;

    /// Takes the bytes that come next.
    ///
    /// **Errors:** [`Trouble`].
    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble>;

    /// Makes all of it durable and checks it; tells now and then up to which byte that is done.
    ///
    /// **Errors:** [`Trouble`]; damaged with its place where it is not whole and right.
    fn finish(self, tell: &mut dyn FnMut(u64)) -> Result<Summary, Trouble>;
}

/// What is wrong with a file, as half a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not what it should be.
    Damaged(String),
    /// The machine failed.
    Machine(String),
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The cluster, `id/generation`: of a snapshot that is saved its own, of one that is restored the new one.
    pub cluster: String,
    /// The dictionary's version.
    pub version: u64,
    /// The last entry of the log that it stands for.
    pub index: u64,
    /// How many keys have a value.
    pub keys: u64,
    /// How long the file is. **Units:** bytes.
    pub bytes: u64,
    /// Of keys, values, versions, sessions and counts of appends; what `heirloom status` shows where all of it is applied.
    pub digest: String,
}

impl Summary {
    fn words(&self) -> String {
        let Self { version, index, keys, bytes, digest, .. } = self;
        format!("version {version}, entry {index}, {keys} keys, {}, digest {digest}", size(*bytes))
    }
}

#[derive(Serialize)]
struct Saved<'a> {
    file: &'a str,
    #[serde(flatten)]
    summary: &'a Summary,
}

#[derive(Serialize)]
struct Restored<'a> {
    server: u8,
    saved_in: &'a str,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// Tells of a cluster that was made from a snapshot, saved in the cluster `saved_in`; gives the exit code.
pub fn tell_restored(server: ServerId, saved_in: &str, summary: &Summary, format: Format) -> ExitCode {
    let told = match format {
        Format::Text => output::line(&format!(
            "server {server} begins cluster {} from a snapshot of cluster {saved_in}: {}\n\
             start it with the same options; start the others on empty data directories, and they are given its data",
            summary.cluster,
            summary.words()
        )),
        Format::Json => output::json(&Restored { server: server.0, saved_in, summary }),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.and_then("\nthe snapshot is restored all the same").tell(),
    }
}

/// Why one server did not begin.
struct NotBegun {
    why: String,
    /// It has another snapshot by now than the one that is there already.
    is_gone: bool,
}

/// A snapshot that has begun to come.
struct Coming {
    begin: SnapshotBegin,
    first: SnapshotChunk,
    chunks: Streaming<SnapshotChunk>,
}

/// How the command failed, and whether servers no longer have what is missing.
struct Ended {
    failure: Failure,
    is_gone: bool,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self { failure, is_gone: false }
    }
}

impl Save {
    /// Runs the command to its end, and says how it ended.
    pub async fn run<F: SnapshotFile>(self) -> ExitCode {
        match self.save::<F>().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.tell(),
        }
    }

    async fn save<F: SnapshotFile>(&self) -> Result<(), Failure> {
        let part =
            Part::open(&self.file, self.resume, self.force).map_err(|unfit| unfit_to_failure(&self.file, unfit))?;
        let path = part.part_path().to_owned();
        let file = on_a_thread(move || F::open(&path)).await.map_err(|trouble| match trouble {
            Trouble::Damaged(what) => cannot_go_on(part.part_path(), &what),
            Trouble::Machine(what) => Failure::Unavailable(what),
        })?;
        let mut signals = Signals::listen()?;
        let mut progress = Progress::begin();
        let saved = tokio::select! {
            saved = self.fetch(file, &mut progress) => saved,
            () = signals.next() => Err(Failure::Unavailable("interrupted".to_owned()).into()),
        };
        progress.clear();
        let summary = match saved {
            Ok(summary) => summary,
            Err(Ended { failure, is_gone }) => return Err(failure.and_then(&how_to_go_on_with(&part, is_gone, "save"))),
        };
        part.finish().map_err(|error| not_written(&self.file, &error))?;
        let file = self.file.to_string_lossy();
        let told = match self.options.output {
            Format::Text => output::line(&format!("{file} holds cluster {} at {}", summary.cluster, summary.words())),
            Format::Json => output::json(&Saved { file: &file, summary: &summary }),
        };
        told.map_err(|failure| failure.and_then("\nthe snapshot is saved all the same"))
    }

    /// Fetches what is missing, and checks all.
    async fn fetch<F: SnapshotFile>(&self, mut file: F, progress: &mut Progress) -> Result<Summary, Ended> {
        if !file.found_whole() {
            let coming = self.begin(file.held(), progress).await?;
            file = fill(file, coming, progress).await?;
        }
        Ok(check(file, progress).await?)
    }

    /// Asks one server after the other until one begins.
    async fn begin(&self, held: Option<HeldSnapshot>, progress: &mut Progress) -> Result<Coming, Ended> {
        let (patience, end) = self.options.times();
        let until = Instant::now() + patience;
        let servers = self.options.servers();
        let seen = operator::look(&servers, patience).await;
        let asked = candidates(&seen, self.from)?;
        let (mut troubles, mut is_gone) = (String::new(), held.is_some());
        for (place, (id, address)) in asked.iter().enumerate() {
            // Each has its share of what is left, so that one that says nothing does not take it all.
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(asked.len() - place).expect("few");
            match begin_at(address, held, share, progress).await {
                Ok(coming) => return Ok(coming),
                Err(not_begun) => {
                    is_gone &= not_begun.is_gone;
                    troubles.push_str(&format!("\n  {address} (server {id}): {}", not_begun.why));
                }
            }
        }
        if is_gone && !asked.is_empty() {
            let what = format!("no server has the snapshot any more of which there is a part:{troubles}");
            return Err(Ended { failure: Failure::No(what), is_gone });
        }
        let failure = Failure::Unavailable(format!(
            "no server gives a snapshot:{troubles}{}\nsee heirloom status",
            operator::troubles(&seen)
        ));
        Err(self.options.explain(failure, servers, end).await.into())
    }
}

/// Whom to ask, in this order: backups, then the primary; or one server alone, whatever it is.
fn candidates(seen: &[Seen], from: Option<u8>) -> Result<Vec<(u32, Address)>, Failure> {
    let statuses: Vec<(&StatusResponse, &Address)> =
        seen.iter().filter_map(|seen| Some((seen.status.as_ref().ok()?, &seen.address))).collect();
    if let Some(id) = from {
        let known = || statuses.iter().flat_map(|(status, _)| &status.servers);
        if known().next().is_some() && !known().any(|server| server.id == u32::from(id)) {
            let last = known().map(|server| server.id).max().unwrap_or(0);
            return Err(Failure::Usage(format!("the cluster has no server {id}: its servers are 0 to {last}")));
        }
        let found = seen.iter().find(|seen| seen.id == Some(u32::from(id)));
        return Ok(found.map(|seen| (u32::from(id), seen.address.clone())).into_iter().collect());
    }
    let of = |role: &'static str| {
        statuses
            .iter()
            .filter(move |(status, _)| status.role == role)
            .map(|(status, address)| (status.server, *address))
    };
    Ok(of("backup").chain(of("primary")).map(|(id, address)| (id, address.clone())).collect())
}

/// Asks one server, and waits until the first bytes come.
async fn begin_at(
    address: &Address,
    held: Option<HeldSnapshot>,
    patience: Duration,
    progress: &mut Progress,
) -> Result<Coming, NotBegun> {
    let not_begun = |why: String| NotBegun { why, is_gone: false };
    let refused = |status: tonic::Status| NotBegun {
        is_gone: status.code() == Code::NotFound,
        why: transport::describe(&status),
    };
    let late = |_| not_begun("did not answer in time".to_owned());
    let asking = async {
        let mut cluster = operator::connect(address).await.map_err(not_begun)?;
        let mut request = tonic::Request::new(SaveSnapshotRequest { held: held.map(held_to_wire) });
        request.set_timeout(patience);
        cluster.save_snapshot(request).await.map_err(refused)
    };
    let mut chunks = timeout(patience, asking).await.map_err(late)??.into_inner();
    let first = loop {
        progress.show_bytes("waiting for the snapshot to be made", 0, 0);
        let chunk = timeout(SILENCE_MAX, chunks.message()).await.map_err(late)?.map_err(refused)?;
        match chunk {
            Some(chunk) if chunk.begin.is_some() => break chunk,
            Some(_) => {}
            None => return Err(not_begun("ended before it began".to_owned())),
        }
    };
    let begin = begin_from_wire(first.begin.clone()).map_err(|error| not_begun(error.to_string()))?;
    let wanted = held.map(|held| (held.offset, held.position));
    if begin.offset != 0 && Some((begin.offset, begin.position)) != wanted || begin.offset == 0 && wanted.is_some() {
        return Err(not_begun("goes on where nothing was".to_owned()));
    }
    Ok(Coming { begin, first, chunks })
}

/// Writes what comes behind what is there.
async fn fill<F: SnapshotFile>(mut file: F, coming: Coming, progress: &mut Progress) -> Result<F, Failure> {
    let Coming { begin, first, mut chunks } = coming;
    let (mut at, mut chunk) = (begin.offset, Some(first));
    while let Some(SnapshotChunk { bytes, .. }) = chunk {
        at += bytes.len() as u64;
        if at > begin.bytes {
            let what = format!("more came than the {} bytes that were announced", begin.bytes);
            return Err(Failure::Unavailable(what));
        }
        file = on_a_thread(move || file.write(&bytes).map(|()| file)).await.map_err(troubled)?;
        progress.show_bytes("saving", at, begin.bytes);
        if at == begin.bytes {
            return Ok(file);
        }
        let next = timeout(SILENCE_MAX, chunks.message()).await;
        let next = next.map_err(|_| Failure::Unavailable(format!("the server said nothing for {SILENCE_MAX:?}")))?;
        chunk = next.map_err(|status| Failure::Unavailable(transport::describe(&status)))?;
    }
    Err(Failure::Unavailable(format!("it ended after {at} of {} bytes", begin.bytes)))
}

/// Checks all of the file.
async fn check<F: SnapshotFile>(file: F, progress: &mut Progress) -> Result<Summary, Failure> {
    let (told, mut checked) = mpsc::channel(1);
    let bytes = file.held().map_or(0, |held| held.offset);
    // Where nobody has looked at the last word yet this one is not missed.
    let tell = move |at| {
        let _ = told.try_send(at);
    };
    let mut checking = Box::pin(on_a_thread(move || file.finish(&mut { tell })));
    loop {
        tokio::select! {
            summary = &mut checking => return summary.map_err(troubled),
            Some(at) = checked.recv() => progress.show_bytes("checking", at, bytes),
        }
    }
}

fn troubled(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Damaged(what) => Failure::Integrity(format!("{what}; begin anew by --force, without --resume")),
        Trouble::Machine(what) => Failure::Unavailable(what),
    }
}

/// Does what may wait for the disk on a thread that the end of the command does not wait for.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let (done, doing) = oneshot::channel();
    std::thread::spawn(move || {
        // The command may have ended meanwhile.
        let _ = done.send(work());
    });
    doing.await.unwrap_or_else(|_| Err(Trouble::Machine("a bug: the thread that writes has panicked".to_owned())))
}
