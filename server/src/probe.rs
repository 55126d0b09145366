//! Proof of death: whether one run of a server is certainly off (PROTOCOL 5).
//!
//! Silence is never proof. A refused connection is one where this run had shaken hands with that very run at that very
//! address before, and nothing between can have refused in its place; so is the word of the fencing command.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

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

/// Probes for one life after the other.
#[derive(Debug)]
pub(crate) struct Prober {
    settings: Arc<Settings>,
    /// Where this run has shaken hands with which run of a server, last.
    shaken: BTreeMap<ServerId, (RunId, SocketAddr)>,
    inputs: Option<mpsc::Sender<Input>>,
    /// By server: what its fencer is asked.
    fencers: BTreeMap<ServerId, watch::Sender<Option<Wanted>>>,
    tasks: JoinSet<()>,
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
        let (shaken, fencers) = (BTreeMap::new(), BTreeMap::new());
        Self { settings, shaken, inputs: None, fencers, tasks: JoinSet::new() }
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
        self.tasks.abort_all();
    }

    /// This run has shaken hands with this run of a peer.
    pub(crate) fn shaken_hands(&mut self, peer: Peer, address: SocketAddr) {
        self.shaken.insert(peer.server, (peer.run, address));
    }

    /// Finds out, aside, and reports to the driver.
    pub(crate) fn probe(&mut self, server: ServerId, run: RunId, probe: u64) {
        while self.tasks.try_join_next().is_some() {}
        let Some(inputs) = self.inputs.clone() else { return };
        let wanted = Wanted { server, run, probe };
        let address = self
            .shaken
            .get(&server)
            .filter(|(shaken, _)| *shaken == run)
            .map(|(_, address)| *address)
            .filter(|address| address.ip().to_canonical().is_loopback() || self.settings.trust_connection_refused);
        let fencer = self.settings.fence_command.clone().map(|command| self.fencer(server, command, inputs.clone()));
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
        let tasks = &mut self.tasks;
        let fencer = self.fencers.entry(server).or_insert_with(|| {
            let (sender, wanted) = watch::channel(None);
            tasks.spawn(fence_on_demand(sender.clone(), wanted, command, address, inputs));
            sender
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

async fn fence_on_demand(
    mailbox: watch::Sender<Option<Wanted>>,
    mut asked: watch::Receiver<Option<Wanted>>,
    command: String,
    address: String,
    inputs: mpsc::Sender<Input>,
) {
    while asked.changed().await.is_ok() {
        // Taken out, so that a later probe does not count it as still waiting; which is no news to anybody.
        let mut taken = None;
        mailbox.send_if_modified(|waiting| {
            taken = waiting.take();
            false
        });
        let Some(wanted) = taken else { continue };
        let dead = fence(&command, &address, wanted.server, wanted.run).await;
        if inputs.send(wanted.answer(dead)).await.is_err() {
            return;
        }
    }
}

/// Runs the fencing command; true where it says that the server is off.
async fn fence(command: &str, address: &str, server: ServerId, run: RunId) -> bool {
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
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(FENCE_TIME_MAX, child).await {
        Ok(Ok(status)) if status.success() => true,
        Ok(Ok(status)) => {
            tracing::warn!(%server, "the fencing command ended with {status}: no proof that the server is off");
            false
        }
        Ok(Err(error)) => {
            tracing::warn!(%server, "the fencing command could not be run: {error}");
            false
        }
        Err(_) => {
            tracing::warn!(%server, "the fencing command took longer than {FENCE_TIME_MAX:?} and was ended");
            false
        }
    }
}

#[cfg(test)]
mod tests;
