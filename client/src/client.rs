//! The client: cheap to clone, one driver behind all clones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::{Response, ServerId, limits};
use heirloom_session::{Answer, CallId, Operation, Reason};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::answer::{Entry, Looked, ReadOptions};
use crate::driver::{Ask, Driver};
use crate::error::{BadInput, Error, NotApplied, Report, ServerReport, Unknown};
use crate::transport::WatchChannels;
use heirloom_proto::Address;

/// How long a call waits for its answer unless it is told otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest time-out: a moment that is further away can't be written down, and nobody waits for it.
const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How much longer than its deadline a call waits for the driver, which ends it at the deadline and may be a little late.
const SLACK: Duration = Duration::from_millis(250);
/// How many calls are under way in all clones; beyond it a caller waits before its call is taken.
const UNDER_WAY_MAX: usize = 8_192;
/// How many addresses a client takes.
const ADDRESSES_MAX: usize = 1_024;

/// A client of one cluster.
///
/// Clones are cheap and share everything: one driver task, one connection and one stream per server, any number of tasks
/// calling at once. Connections are made at the first call, to all servers in parallel, and kept.
///
/// A call may be dropped before its answer: a change that was sent by then is carried out once or not at all. When the
/// last clone is dropped the session with the servers is closed in the background; [`Client::close`] waits for that.
#[derive(Clone, Debug)]
pub struct Client {
    /// It needs no bound of its own: each call in it holds a permit, and has one cancellation at most.
    asks: mpsc::UnboundedSender<Ask>,
    permits: Arc<Semaphore>,
    calls: Arc<AtomicU64>,
    channels: Arc<WatchChannels>,
    timeout: Duration,
}

/// What a client is made with.
#[derive(Clone, Debug)]
pub struct Builder {
    timeout: Duration,
}

impl Builder {
    /// How long each call waits for its answer; [`TIMEOUT_DEFAULT`] otherwise. More than ten years are ten years.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A client of the cluster of these servers; see [`Client::connect`].
    ///
    /// **Errors:** [`BadInput`] where an address can't be read or none is given.
    pub async fn connect<A: AsRef<str>>(self, servers: impl IntoIterator<Item = A>) -> Result<Client, Error> {
        let mut addresses: Vec<Address> = Vec::new();
        for server in servers {
            let address = server.as_ref().parse().map_err(BadInput::Address)?;
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(BadInput::NoAddress.into());
        }
        let (asks, taken) = mpsc::unbounded_channel();
        tokio::spawn(Driver::new(addresses, taken).run());
        let permits = Arc::new(Semaphore::new(UNDER_WAY_MAX));
        let calls = Arc::new(AtomicU64::new(1));
        Ok(Client { asks, permits, calls, channels: Arc::default(), timeout: self.timeout })
    }
}

impl Client {
    /// A client of the cluster of these servers, `host:port` each; some are enough, the others are learnt from them.
    ///
    /// Nothing is sent yet: servers that are down or still starting are no error here.
    ///
    /// **Errors:** [`BadInput`] where an address can't be read or none is given.
    ///
    /// **Panics if** called outside a tokio runtime.
    pub async fn connect<A: AsRef<str>>(servers: impl IntoIterator<Item = A>) -> Result<Self, Error> {
        Self::builder().connect(servers).await
    }

    /// A client with other settings than the usual ones.
    pub fn builder() -> Builder {
        Builder { timeout: TIMEOUT_DEFAULT }
    }

    /// The same client with another time-out; both go on sharing everything else.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The value of a key, linearizable: it is at least as new as every change that was answered before this call. Any
    /// member of the cluster answers, near ones first.
    ///
    /// **Errors:** [`Error::NotApplied`] where no server answered in time, [`Error::BadInput`] where the key is out of
    /// bounds.
    pub async fn read(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>, Error> {
        self.read_with(key, ReadOptions::default()).await
    }

    /// The value of a key, as fresh as `options` say.
    ///
    /// **Errors:** as [`Client::read`]; where a causal read names a version that the cluster has never been at, because it
    /// was set back, [`Error::NotApplied`] says so.
    pub async fn read_with(&self, key: impl AsRef<[u8]>, options: ReadOptions) -> Result<Option<Entry>, Error> {
        let key = checked(key.as_ref())?;
        let asked = Asked { verb: "read", key: key.clone(), is_change: false };
        let operation = Operation::Read { key, freshness: options.consistency, from: options.from };
        let Answer { response, server } = self.read_from(&asked, operation, options.from).await?;
        match response {
            Response::Found { value, version, changed_at, seen } => Ok(Some(Entry {
                value,
                version,
                changed_at,
                server: server.unwrap_or(seen.epoch.server),
                epoch: seen.epoch,
                looked: Looked { version: seen.version, local: seen.local, age: seen.age },
            })),
            Response::NotFound { .. } => Ok(None),
            Response::SessionOpened { .. }
            | Response::SessionClosed
            | Response::Changed { .. }
            | Response::Appended { .. }
            | Response::NotMet { .. }
            | Response::Scanned { .. }
            | Response::Promoted { .. }
            | Response::Fenced => Err(self.nonsense(&asked)),
        }
    }

    /// Closes the session with the servers, so that they needn't keep it, and waits for that. Other calls may go on; the
    /// next change opens a new session.
    ///
    /// **Errors:** [`Error::NotApplied`] where no server answered in time: they will remove the session by themselves once
    /// it has been idle for an hour.
    pub async fn close(&self) -> Result<(), Error> {
        let asked = Asked { verb: "close the session", key: Bytes::new(), is_change: false };
        self.call(&asked, Operation::Close).await.map(drop)
    }

    /// A read, whose error names the server that alone was asked.
    pub(crate) async fn read_from(
        &self,
        asked: &Asked,
        operation: Operation,
        from: Option<ServerId>,
    ) -> Result<Answer, Error> {
        let Some(server) = from else { return self.call(asked, operation).await };
        match self.call(asked, operation).await {
            Ok(answer) => Ok(answer),
            // Only now: what servers there are has been told meanwhile, and no other call pays for it.
            Err(error) => Err(match self.check_server(server).await {
                Ok(()) => error.about(&format!(" from server {server}")),
                Err(unknown) => unknown,
            }),
        }
    }

    /// **Errors:** [`BadInput::Server`] where all servers are known, and none is this one.
    pub(crate) async fn check_server(&self, server: ServerId) -> Result<(), Error> {
        let known = self.servers().await;
        let all: Option<Vec<ServerId>> = known.iter().map(|(id, _)| *id).collect();
        match all {
            Some(all) if !all.is_empty() && !all.contains(&server) => {
                Err(BadInput::Server { server, servers: all.len() }.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// When a call that is made now must be over.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout.min(TIMEOUT_MAX)
    }

    /// A number that no other call of any clone has.
    pub(crate) fn next_number(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// The connections for watches.
    pub(crate) fn channels(&self) -> &WatchChannels {
        &self.channels
    }

    /// The servers that are known by now; none where the runtime is shutting down.
    pub(crate) async fn servers(&self) -> Vec<(Option<ServerId>, Address)> {
        let (reply, known) = oneshot::channel();
        match self.asks.send(Ask::Servers(reply)) {
            Ok(()) => known.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// No server answered what was asked, which changes nothing.
    pub(crate) fn not_answered(&self, asked: String, reason: Reason, servers: Vec<ServerReport>) -> Error {
        let report = Report { asked, is_change: false, timeout: self.timeout, reason: Some(reason), servers };
        Error::NotApplied(NotApplied(report))
    }

    pub(crate) async fn call(&self, asked: &Asked, operation: Operation) -> Result<Answer, Error> {
        let deadline = self.deadline();
        // Whoever finds no room until its deadline was never heard of by the driver, so nothing of it was sent.
        let Ok(permit) = tokio::time::timeout_at(deadline, self.permits.clone().acquire_owned()).await else {
            return Err(self.failure(asked, Some(Reason::OutOfTime), Vec::new(), false));
        };
        let permit = permit.expect("nobody closes the semaphore");
        let call = CallId(self.next_number());
        let (reply, ended) = oneshot::channel();
        if self.asks.send(Ask::Call { call, operation, deadline, reply, permit }).is_err() {
            return Err(self.failure(asked, None, Vec::new(), false));
        }
        let mut guard = Guard { asks: &self.asks, call: Some(call) };
        let ended = tokio::time::timeout_at(deadline + SLACK, ended).await;
        if ended.is_ok() {
            guard.call = None;
        }
        match ended {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(lost))) => Err(self.failure(asked, Some(lost.reason), lost.servers, lost.is_unknown)),
            // The runtime is shutting down under a call that was taken: it may have been sent.
            Ok(Err(_)) => Err(self.failure(asked, None, Vec::new(), asked.is_change)),
            // The driver is too busy even to say that the time is up: it may have been sent.
            Err(_) => Err(self.failure(asked, Some(Reason::OutOfTime), Vec::new(), asked.is_change)),
        }
    }

    /// A server that answers something else than it was asked is broken, and then nothing is known.
    pub(crate) fn nonsense(&self, asked: &Asked) -> Error {
        self.failure(asked, Some(Reason::OutOfTime), Vec::new(), asked.is_change)
    }

    fn failure(&self, asked: &Asked, reason: Option<Reason>, servers: Vec<ServerReport>, is_unknown: bool) -> Error {
        let report =
            Report { asked: asked.words(), is_change: asked.is_change, timeout: self.timeout, reason, servers };
        if is_unknown { Error::Unknown(Unknown(report)) } else { Error::NotApplied(NotApplied(report)) }
    }
}

/// What was asked, for errors.
pub(crate) struct Asked {
    pub(crate) verb: &'static str,
    pub(crate) key: Bytes,
    pub(crate) is_change: bool,
}

impl Asked {
    pub(crate) fn words(&self) -> String {
        /// Enough to tell keys apart, and short enough for a line.
        const CHARACTERS_MAX: usize = 64;
        if self.key.is_empty() {
            return self.verb.to_owned();
        }
        let key = String::from_utf8_lossy(&self.key);
        let short: String = key.chars().take(CHARACTERS_MAX).collect();
        let rest = if short.len() < key.len() { "…" } else { "" };
        format!("{} {short:?}{rest}", self.verb)
    }
}

/// Tells the driver when a call is dropped before its end.
struct Guard<'a> {
    asks: &'a mpsc::UnboundedSender<Ask>,
    call: Option<CallId>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            // Where the driver is gone there is nothing to cancel.
            let _ = self.asks.send(Ask::Cancel(call));
        }
    }
}

/// A key that some server may take.
pub(crate) fn checked(key: &[u8]) -> Result<Bytes, BadInput> {
    if key.is_empty() || key.len() > limits::KEY_BYTES_MAX {
        return Err(BadInput::Key { bytes: key.len() });
    }
    Ok(Bytes::copy_from_slice(key))
}
