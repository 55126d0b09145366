//! Watching: every change of a range once and in order, from server to server.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::limits;
use heirloom_proto::wire::refusal::refusal_from_status;
use heirloom_proto::wire::v1::dictionary_client::DictionaryClient;
use heirloom_proto::wire::v1::{Committed, WatchRequest, WatchResponse};
use heirloom_proto::wire::{epoch_from_wire, server_from_wire};
use heirloom_proto::{Address, ClusterId, Epoch, KeyChange, KeyRange, Refusal, ServerId, Version, WallTime};
use heirloom_session::watch::{Next, SILENCE_MAX, Unfit, Watch as Course};
use heirloom_session::{Heard, Reason};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, timeout, timeout_at};
use tonic::{Status, Streaming};

use crate::client::{Asked, Client};
use crate::error::{BadInput, Error, ServerReport, WatchLost};
use crate::transport;

/// How long a server may take to begin. As long as it may be silent: when thousands come to a server at once, and all
/// gave up after less than it takes to serve them all, none would ever be served.
const OPEN_TIMEOUT: Duration = SILENCE_MAX;

/// What is watched, and from where on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct WatchOptions {
    /// The keys; all of them by default.
    pub range: KeyRange,
    /// The first version that is wanted; `None` for whatever is committed from now on. One that the cluster has not come to
    /// is waited for.
    pub from_version: Option<Version>,
    /// The cluster by which that version is counted, as [`Scan::cluster`](crate::Scan::cluster) or [`Watch::cluster`] told
    /// it. Where it was set back since, the watch is refused instead of waiting for, or going on from, a version that means
    /// something else; `None` to take whatever cluster there is.
    pub cluster: Option<ClusterId>,
    /// The only server that is to be asked; `None` for any, and another one when it fails.
    pub from: Option<ServerId>,
}

impl WatchOptions {
    /// All keys that begin with this.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self { range: KeyRange::of_prefix(Bytes::copy_from_slice(prefix.as_ref())), ..Self::default() }
    }

    /// This key alone.
    pub fn key(key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        let end = Some([key, b"\0"].concat().into());
        Self { range: KeyRange { start: Bytes::copy_from_slice(key), end }, ..Self::default() }
    }

    /// What no server would take is never sent.
    fn check(&self) -> Result<(), BadInput> {
        match &self.range {
            range if !range.is_within_bounds() => Err(BadInput::Key { bytes: range.longest_end() }),
            range if range.is_empty() => Err(BadInput::Range),
            _ => Ok(()),
        }
    }
}

/// What was committed as one version, as far as it is in the range that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The version.
    pub version: Version,
    /// One change at least: a change set has as many as keys of the range. A value of `None` means that the key was
    /// deleted.
    pub changes: Vec<KeyChange>,
    /// When, by the calendar of the server that was the primary then; for people.
    pub changed_at: WallTime,
    /// The server that told it.
    pub server: ServerId,
    /// The epoch in which it was made.
    pub epoch: Epoch,
}

/// A watch: all changes of a range, each once and in the order of their versions, through any failover.
///
/// It resumes by itself at another server when the one that it listens to ends, fails or falls silent, and has no deadline.
/// What comes is read as fast as [`Watch::next`] is called and no faster. Whoever is so slow that servers no longer keep
/// what comes next is told so ([`WatchLost`]), and slows nobody else.
///
/// Like a clone of its [`Client`], it keeps the connections to the servers. It ends when it is dropped.
pub struct Watch {
    client: Client,
    asked: String,
    range: KeyRange,
    from: Option<ServerId>,
    course: Course,
    stage: Stage,
    /// Told and not yet asked for: what one message brought.
    ready: VecDeque<Watched>,
    over: Option<Error>,
    /// What came of each server when it was asked last.
    reports: Vec<ServerReport>,
}

/// Kept from call to call, so that nothing is lost where one is dropped half way.
enum Stage {
    /// Before the next attempt.
    Pausing(Pin<Box<Sleep>>),
    /// A server was asked to begin.
    Opening(JoinHandle<Opened>),
    /// A server tells.
    Open(Box<Open>),
}

struct Open {
    stream: Streaming<WatchResponse>,
    place: Place,
    seats: usize,
    silent_at: Instant,
}

/// Where a server is, and which one, where that is known.
#[derive(Clone)]
struct Place {
    address: Address,
    server: Option<ServerId>,
}

/// What came of asking a server to begin.
struct Opened {
    seats: usize,
    place: Option<Place>,
    result: Result<(Streaming<WatchResponse>, WatchResponse), Trouble>,
}

enum Trouble {
    Refused(Refusal),
    /// For people.
    Broke(String),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        match refusal_from_status(&status) {
            Some(refused) => Self::Refused(refused.refusal),
            None => Self::Broke(transport::describe(&status)),
        }
    }
}

impl Client {
    /// Watches all keys that begin with `prefix`, an empty one for all keys there are. What is committed once this has
    /// answered is seen.
    ///
    /// ```no_run
    /// # async fn example(client: heirloom::Client) -> Result<(), heirloom::Error> {
    /// let mut watch = client.watch("account/").await?;
    /// loop {
    ///     let watched = watch.next().await?;
    ///     for change in watched.changes {
    ///         println!("version {}: {:?} has {:?} now", watched.version, change.key, change.value);
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// **Errors:** as [`Client::watch_with`].
    pub async fn watch(&self, prefix: impl AsRef<[u8]>) -> Result<Watch, Error> {
        self.watch_with(WatchOptions::prefix(prefix)).await
    }

    /// Watches a range of keys, from a version on if need be.
    ///
    /// **Errors:** [`Error::NotApplied`] where no server began within the client's time-out; [`Error::WatchLost`] where no
    /// server that answers keeps the version any more, and those that don't answer were asked again for some seconds, or
    /// until the time-out; [`Error::BadInput`] where the range is out of bounds or empty.
    pub async fn watch_with(&self, options: WatchOptions) -> Result<Watch, Error> {
        options.check()?;
        let deadline = self.deadline();
        let asked = Asked { verb: "watch", key: options.range.start.clone(), is_change: false };
        let course = Course::new(options.from_version, usize::try_from(self.next_number()).unwrap_or(0));
        let course = course.of(options.cluster.map(|cluster| cluster.to_string()));
        let mut watch = Watch {
            client: self.clone(),
            asked: match options.from {
                Some(server) => format!("{} from server {server}", asked.words()),
                None => asked.words(),
            },
            range: options.range,
            from: options.from,
            course,
            stage: Stage::Pausing(Box::pin(tokio::time::sleep(Duration::ZERO))),
            ready: VecDeque::new(),
            over: None,
            reports: Vec::new(),
        };
        match timeout_at(deadline, watch.begin()).await {
            Ok(begun) => begun.map(|()| watch),
            // However long the others stay away, whoever answers has lost it: another call would not go better.
            Err(_) => {
                if let Some(server) = watch.from {
                    self.check_server(server).await?;
                }
                Err(match watch.course.oldest() {
                    Some(oldest) => watch.too_old(oldest),
                    None => watch.not_begun(Reason::OutOfTime),
                })
            }
        }
    }
}

impl Watch {
    /// What was committed next. It waits for as long as it takes.
    ///
    /// Cancel safe: dropped before it is ready, nothing is lost, and the next call goes on.
    ///
    /// **Errors:** [`Error::WatchLost`] where no server keeps what comes next any more, or the cluster was set back;
    /// [`Error::NotApplied`] where servers refuse for good. It is the end: all later calls give the same.
    pub async fn next(&mut self) -> Result<Watched, Error> {
        loop {
            if let Some(watched) = self.ready.pop_front() {
                return Ok(watched);
            }
            self.advance().await?;
        }
    }

    /// What was told already and not yet taken: whatever is there can be written out at once.
    pub fn next_ready(&mut self) -> Option<Watched> {
        self.ready.pop_front()
    }

    /// All changes of the range up to here have been told, those included that [`Watch::next`] has not given yet. To go on
    /// later, take all that is ready, and watch from the version after this.
    pub fn version(&self) -> Version {
        self.course.told().expect("it has begun")
    }

    /// The cluster by which its versions are counted: see [`WatchOptions::cluster`].
    pub fn cluster(&self) -> Option<ClusterId> {
        self.course.cluster()?.parse().ok()
    }

    async fn begin(&mut self) -> Result<(), Error> {
        while !matches!(self.stage, Stage::Open(_)) {
            self.advance().await?;
        }
        Ok(())
    }

    /// One step: a pause, an attempt, or a message.
    async fn advance(&mut self) -> Result<(), Error> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        let stepped = match &mut self.stage {
            Stage::Pausing(pause) => {
                pause.as_mut().await;
                self.stage = Stage::Opening(self.open());
                Ok(())
            }
            Stage::Opening(opening) => {
                let opened = opening.await.unwrap_or_else(|stopped| {
                    let result = Err(Trouble::Broke(stopped.to_string()));
                    Opened { seats: 1, place: None, result }
                });
                self.opened(opened)
            }
            Stage::Open(open) => {
                let heard = timeout_at(open.silent_at, open.stream.message()).await;
                let (place, seats) = (open.place.clone(), open.seats);
                match heard {
                    Ok(Ok(Some(message))) => {
                        open.silent_at = Instant::now() + SILENCE_MAX;
                        self.hear(message);
                        Ok(())
                    }
                    Ok(Ok(None)) => self.failed(Some(place), seats, ended()),
                    Ok(Err(status)) => self.failed(Some(place), seats, status.into()),
                    Err(_) => {
                        self.failed(Some(place), seats, Trouble::Broke(format!("said nothing for {SILENCE_MAX:?}")))
                    }
                }
            }
        };
        stepped.inspect_err(|error| self.over = Some(error.clone()))
    }

    /// Asks the next server to begin, by a task of its own: whoever does not go on with its watch must not hold up the
    /// others, of which only so many ask at once.
    fn open(&self) -> JoinHandle<Opened> {
        let (client, course, from) = (self.client.clone(), self.course.clone(), self.from);
        let request = WatchRequest {
            start: self.range.start.clone(),
            end: self.range.end.clone(),
            from_version: course.wanted().map(|version| version.0),
            cluster: course.cluster().unwrap_or_default().to_owned(),
        };
        tokio::spawn(async move {
            let _permit = client.channels().may_open().await;
            let all = client.servers().await.into_iter().map(|(server, address)| Place { address, server });
            let places: Vec<Place> = all.filter(|place| from.is_none() || place.server == from).collect();
            let seats = places.len();
            let Some(place) = places.get(course.seat(seats)).cloned() else {
                let why = "is not known yet: no server that was reached has told of it".to_owned();
                return Opened { seats, place: None, result: Err(Trouble::Broke(why)) };
            };
            let opening = async {
                let channel = client.channels().to(&place.address).map_err(Trouble::Broke)?;
                let mut dictionary =
                    DictionaryClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
                let mut stream = dictionary.watch(request).await?.into_inner();
                let first = stream.message().await?.ok_or_else(ended)?;
                Ok((stream, first))
            };
            let late = |_| Err(Trouble::Broke(format!("did not begin within {OPEN_TIMEOUT:?}")));
            let result = timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(late);
            Opened { seats, place: Some(place), result }
        })
    }

    fn opened(&mut self, opened: Opened) -> Result<(), Error> {
        let Opened { seats, place, result } = opened;
        let ((stream, first), place) = match (result, place) {
            (Ok(begun), Some(place)) => (begun, place),
            (Ok(_), None) => unreachable!("whoever begins is somewhere"),
            (Err(trouble), place) => return self.failed(place, seats, trouble),
        };
        match self.course.began(&first.cluster, Version(first.version)) {
            Ok(()) => {}
            Err(Unfit::OtherCluster) => return Err(self.set_back()),
            Err(Unfit::Gap) => {
                return self.failed(Some(place), seats, Trouble::Broke("began behind what was asked for".to_owned()));
            }
        }
        let server = server_from_wire(first.server).ok().or(place.server);
        let place = Place { server, ..place };
        self.stage = Stage::Open(Box::new(Open { stream, place, seats, silent_at: Instant::now() + SILENCE_MAX }));
        Ok(())
    }

    fn hear(&mut self, message: WatchResponse) {
        let server = server_from_wire(message.server).unwrap_or(ServerId(u8::MAX));
        for Committed { version, changed_at_ms, changes, epoch } in message.changes {
            if self.course.is_news(Version(version)) {
                let changes = changes.into_iter().map(|change| KeyChange { key: change.key, value: change.value });
                self.ready.push_back(Watched {
                    version: Version(version),
                    changes: changes.collect(),
                    changed_at: WallTime(changed_at_ms),
                    server,
                    epoch: epoch_from_wire(epoch).unwrap_or(Epoch::NONE),
                });
            }
        }
        self.course.progressed(Version(message.version));
    }

    /// Goes on to the next server, unless this one's word is final.
    fn failed(&mut self, place: Option<Place>, seats: usize, trouble: Trouble) -> Result<(), Error> {
        let (heard, why) = match trouble {
            Trouble::Refused(refusal) => (Heard::Refused(refusal), None),
            Trouble::Broke(why) => (Heard::NotConnected, Some(why)),
        };
        let next = match &heard {
            Heard::Refused(Refusal::VersionTooOld { oldest }) => {
                // Before a server has told which ones there are, there may be one more.
                let all_known = place.as_ref().is_some_and(|place| place.server.is_some());
                self.course.too_old(*oldest, if all_known { seats } else { seats + 1 })
            }
            Heard::Refused(Refusal::OtherCluster) => return Err(self.set_back()),
            Heard::Refused(refusal) if is_final(refusal) => {
                return Err(self.not_begun(Reason::Refused(refusal.clone())));
            }
            _ => self.course.failed(seats),
        };
        if let Some(Place { address, server }) = place {
            self.reports.retain(|report| report.address != address);
            self.reports.push(ServerReport { address, server, heard, trouble: why });
        }
        match next {
            Next::After(pause) => {
                self.stage = Stage::Pausing(Box::pin(tokio::time::sleep(pause)));
                Ok(())
            }
            Next::TooOld { oldest } => Err(self.too_old(oldest)),
        }
    }

    fn set_back(&self) -> Error {
        let told = self.course.told().unwrap_or(Version(0));
        WatchLost::SetBack { asked: self.asked.clone(), told }.into()
    }

    fn too_old(&self, oldest: Version) -> Error {
        let wanted = self.course.wanted().unwrap_or(Version(0));
        WatchLost::TooOld { asked: self.asked.clone(), wanted, oldest }.into()
    }

    fn not_begun(&self, reason: Reason) -> Error {
        self.client.not_answered(self.asked.clone(), reason, self.reports.clone())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("asked", &self.asked).field("course", &self.course).finish_non_exhaustive()
    }
}

fn ended() -> Trouble {
    Trouble::Broke("ended the watch".to_owned())
}

/// Whether a refusal holds at every server and at every time.
fn is_final(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::BadKey { .. } => true,
        Refusal::NotPrimary { .. }
        | Refusal::Recovering
        | Refusal::Overloaded
        | Refusal::VersionTooOld { .. }
        | Refusal::OtherCluster
        // None of these is an answer to a watch.
        | Refusal::VersionAhead { .. }
        | Refusal::OutcomeUnknown
        | Refusal::SessionExpired
        | Refusal::SessionUnknown
        | Refusal::SequenceAnswered { .. }
        | Refusal::BadValue { .. }
        | Refusal::BadSet { .. }
        | Refusal::BadSequence
        | Refusal::BadServer { .. }
        | Refusal::HandOverCalledOff => false,
    }
}
