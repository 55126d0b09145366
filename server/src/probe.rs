//! Proof of death: whether one run of a server is certainly off (PROTOCOL 5).
//!
//! Silence is never proof. A refused connection is one where this run had shaken hands with that very run at that very
//! address before, and nothing between can have refused in its place; so is the word of the fencing command.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use heirloom_proto::{Event, Peer, RunId, ServerId};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::links::Input;
use crate::settings::Settings;

/// How long a connection may take before it says nothing.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// The pauses between attempts: of a process that is being killed the streams may be closed a moment before its listening
/// socket, and to try again soon is cheaper than to wait for the next probe.
const CONNECT_PAUSES: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(10), Duration::from_millis(25)];
/// How long the fencing command may take.
const FENCE_TIME_MAX: Duration = Duration::from_secs(30);
/// The pause after a fencing command that failed; it doubles with each further one.
const FENCE_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest such pause.
const FENCE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Probes for one life after the other.
#[derive(Debug)]
pub(crate) struct Prober {
    settings: Arc<Settings>,
    /// Where this run has shaken hands with which run of a server, last.
    shaken: BTreeMap<ServerId, (RunId, SocketAddr)>,
    inputs: Option<mpsc::Sender<Input>>,
    /// By server: what its fencer is asked.
    fencers: BTreeMap<ServerId, watch::Sender<Option<Wanted>>>,
    /// By server: when its fencing command may be run again. Outlives a life, as the server's power switch does.
    pauses: BTreeMap<ServerId, Arc<Mutex<Pause>>>,
    /// By server: to which runs of it a stream stands.
    streams: watch::Sender<BTreeMap<ServerId, BTreeSet<RunId>>>,
    tasks: JoinSet<()>,
}

/// The pause after failing commands: what failed a moment ago is likely to fail again, and each attempt may cost somebody
/// a power cycle.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn note(&mut self, succeeded: bool, now: Instant) {
        if succeeded {
            *self = Self::default();
            return;
        }
        let pause = FENCE_PAUSE_MIN.saturating_mul(2_u32.saturating_pow(self.failures)).min(FENCE_PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
    }
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    server: ServerId,
    run: RunId,
    probe: u64,
}

impl Wanted {
    fn answer(self, dead: bool) -> Input {
        Input::Event(Event::Probed { server: self.server, run: self.run, probe: self.probe, dead })
    }
}

impl Prober {
    /// A prober that has shaken hands with nobody.
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let (shaken, fencers, pauses) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (streams, _) = watch::channel(BTreeMap::new());
        Self { settings, shaken, inputs: None, fencers, pauses, streams, tasks: JoinSet::new() }
    }

    /// A life begins, to which answers go.
    pub(crate) fn begin(&mut self, inputs: mpsc::Sender<Input>) {
        self.inputs = Some(inputs);
    }

    /// The life is over: what its run had seen proves nothing to the next.
    pub(crate) fn end(&mut self) {
        self.inputs = None;
        self.shaken.clear();
        self.fencers.clear();
        self.streams.send_replace(BTreeMap::new());
        self.tasks.abort_all();
    }

    /// This run has shaken hands with this run of a peer.
    pub(crate) fn shaken_hands(&mut self, peer: Peer, address: SocketAddr) {
        self.shaken.insert(peer.server, (peer.run, address));
    }

    /// To these runs of a server a stream stands: they are not fenced.
    pub(crate) fn streams_stand(&mut self, server: ServerId, runs: BTreeSet<RunId>) {
        self.streams.send_if_modified(|streams| {
            if streams.get(&server) != Some(&runs) {
                streams.insert(server, runs);
            }
            // Looked up when it matters; nobody waits for it.
            false
        });
    }

    /// Finds out, aside, and reports to the driver. The fencing command is run only where `may_fence` says so: what else is
    /// tried costs the server nothing.
    pub(crate) fn probe(&mut self, server: ServerId, run: RunId, probe: u64, may_fence: bool) {
        while self.tasks.try_join_next().is_some() {}
        let Some(inputs) = self.inputs.clone() else { return };
        let wanted = Wanted { server, run, probe };
        let address = self
            .shaken
            .get(&server)
            .filter(|(shaken, _)| *shaken == run)
            .map(|(_, address)| *address)
            .filter(|address| address.ip().to_canonical().is_loopback() || self.settings.trust_connection_refused);
        let command = self.settings.fence_command.clone().filter(|_| may_fence);
        let fencer = command.map(|command| self.fencer(server, command, inputs.clone()));
        self.tasks.spawn(async move {
            let refused = match address {
                Some(address) => refuses(address).await,
                None => false,
            };
            match fencer.filter(|_| !refused) {
                // Whoever waited there and had not begun is answered: the newest word is the one that counts.
                Some(fencer) => {
                    if let Some(replaced) = fencer.send_replace(Some(wanted)) {
                        let _ = inputs.send(replaced.answer(false)).await;
                    }
                }
                None => {
                    let _ = inputs.send(wanted.answer(refused)).await;
                }
            }
        });
    }

    /// The fencer of one server, which runs one command at a time.
    fn fencer(
        &mut self,
        server: ServerId,
        command: String,
        inputs: mpsc::Sender<Input>,
    ) -> watch::Sender<Option<Wanted>> {
        let address = self.settings.address(server).map(ToString::to_string).unwrap_or_default();
        let (tasks, pauses, streams) = (&mut self.tasks, &mut self.pauses, &self.streams);
        let fencer = self.fencers.entry(server).or_insert_with(|| {
            let (mailbox, asked) = watch::channel(None);
            let (pause, streams) = (pauses.entry(server).or_default().clone(), streams.subscribe());
            let fencer = Fencer { mailbox: mailbox.clone(), command, address, pause, streams, inputs };
            tasks.spawn(fencer.fence_on_demand(asked));
            mailbox
        });
        fencer.clone()
    }
}

/// Whether a plain connection to `address` is refused. Anything else says nothing: a timeout, an unreachable network, a
/// connection to whoever listens there now, and one to oneself, which the kernel makes where a dead port lies in the range
/// from which it draws its own.
async fn refuses(address: SocketAddr) -> bool {
    for pause in CONNECT_PAUSES {
        match tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
            Ok(Ok(_)) => tokio::time::sleep(pause).await,
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    false
}

/// What runs the command for one server, one at a time.
struct Fencer {
    mailbox: watch::Sender<Option<Wanted>>,
    command: String,
    address: String,
    pause: Arc<Mutex<Pause>>,
    streams: watch::Receiver<BTreeMap<ServerId, BTreeSet<RunId>>>,
    inputs: mpsc::Sender<Input>,
}

impl Fencer {
    async fn fence_on_demand(self, mut asked: watch::Receiver<Option<Wanted>>) {
        while asked.changed().await.is_ok() {
            // Taken out, so that a later probe does not count it as still waiting; which is no news to anybody.
            let mut taken = None;
            self.mailbox.send_if_modified(|waiting| {
                taken = waiting.take();
                false
            });
            let Some(wanted) = taken else { continue };
            let dead = self.may_run(wanted) && self.run(wanted).await;
            if self.inputs.send(wanted.answer(dead)).await.is_err() {
                return;
            }
        }
    }

    /// Whether the command may be run for this probe *now*: it may have waited for another one, and its server may have
    /// come back meanwhile.
    fn may_run(&self, wanted: Wanted) -> bool {
        let stands = self.streams.borrow().get(&wanted.server).is_some_and(|runs| runs.contains(&wanted.run));
        if stands {
            tracing::info!(server = %wanted.server, run = %wanted.run, "not fenced: it is connected again");
        }
        !stands && !self.pause.lock().unwrap_or_else(PoisonError::into_inner).is_on(Instant::now())
    }

    async fn run(&self, wanted: Wanted) -> bool {
        let dead = fence(&self.command, &self.address, wanted.server, wanted.run, FENCE_TIME_MAX).await;
        self.pause.lock().unwrap_or_else(PoisonError::into_inner).note(dead, Instant::now());
        dead
    }
}

/// A command under way. Dropped before it has ended it is killed with all that it has started, so that none of it is at
/// work when the next one begins.
struct Running(tokio::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Until it is waited for, and so has an id here, its group can't be anybody else's.
        let group = self.0.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // Fails only where all have ended.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Runs the fencing command; true where it says that the server is off.
async fn fence(command: &str, address: &str, server: ServerId, run: RunId, time_max: Duration) -> bool {
    tracing::info!(%server, %run, "fencing: {command}");
    let child = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("HEIRLOOM_FENCE_SERVER", server.to_string())
        .env("HEIRLOOM_FENCE_ADDRESS", address)
        .env("HEIRLOOM_FENCE_RUN", run.to_string())
        .stdin(Stdio::null())
        // Standard output is for answers, and a server gives none there.
        .stdout(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => Running(child),
        Err(error) => {
            tracing::warn!(%server, "the fencing command could not be run: {error}");
            return false;
        }
    };
    match tokio::time::timeout(time_max, child.0.wait()).await {
        Ok(Ok(status)) if status.success() => true,
        Ok(Ok(status)) => {
            tracing::warn!(%server, "the fencing command ended with {status}: no proof that the server is off");
            false
        }
        Ok(Err(error)) => {
            tracing::warn!(%server, "the fencing command could not be waited for: {error}");
            false
        }
        Err(_) => {
            tracing::warn!(%server, "the fencing command took longer than {time_max:?} and was ended");
            false
        }
    }
}

#[cfg(test)]
mod tests;
