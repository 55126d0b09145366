//! Servers that speak the wire and know no replication: one dictionary behind all of them, and a script for each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use heirloom_proto::request::append_key;
use heirloom_proto::wire::client::{Asked, refused_to_wire, request_from_wire, response_to_wire};
use heirloom_proto::wire::epoch_to_wire;
use heirloom_proto::wire::refusal::status_from_refusal;
use heirloom_proto::wire::v1::cluster_server::{Cluster, ClusterServer};
use heirloom_proto::wire::v1::dictionary_server::{Dictionary, DictionaryServer};
use heirloom_proto::wire::v1::{self, SessionRequests, SessionResponse, SessionResponses};
use heirloom_proto::{
    At, Change, ClusterId, Epoch, LogIndex, Refusal, Request, Response, RunId, Scan, Scanned, Seen, ServerId,
    SessionId, Version, WallTime,
};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Status, Streaming};

/// What a server does with its next request instead of the usual.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "each test file uses a part")]
pub(crate) enum Script {
    Refuse(Refusal),
    /// Carry it out, and never answer.
    Swallow,
    /// Carry it out, and break the stream.
    BreakAfter,
    /// Answer after this long.
    Delay(Duration),
    /// Answer a scan with a page that holds nothing and goes on behind its first key.
    Hollow,
}

/// What all servers agree on, and what they have seen.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) primary: u8,
    pub(crate) epoch: u64,
    pub(crate) addresses: Vec<String>,
    pub(crate) entries: BTreeMap<Bytes, (Bytes, u64)>,
    pub(crate) sessions: BTreeMap<SessionId, BTreeMap<u64, Response>>,
    pub(crate) opened: u64,
    pub(crate) version: u64,
    /// How often the cluster was set back.
    pub(crate) set_back: u32,
    pub(crate) applied: u64,
    pub(crate) messages: u64,
    pub(crate) requests: Vec<(u8, String)>,
    pub(crate) nudged: Vec<u8>,
    pub(crate) scripts: BTreeMap<u8, VecDeque<Script>>,
    /// How many questions for its status a server still leaves unanswered.
    pub(crate) status_silences: BTreeMap<u8, u32>,
    /// What a server says of keys, where it is not what the dictionary has: another value and version, or nothing.
    pub(crate) differing: BTreeMap<u8, BTreeMap<Bytes, Option<(Bytes, u64)>>>,
    /// The digest of a server that has another than the rest.
    pub(crate) digests: BTreeMap<u8, String>,
    /// How far a server is behind, for good.
    pub(crate) behind: BTreeMap<u8, u64>,
}

/// How many keys a page has at most.
pub(crate) const PAGE_COUNT: usize = 2;
/// How long the world may be held.
const HELD_MAX: Duration = Duration::from_secs(5);

/// A handle to it.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl World {
    fn cluster(&self) -> ClusterId {
        ClusterId { id: 1, generation: 1 + self.set_back }
    }

    fn seen(&self, epoch: Epoch) -> Seen {
        Seen { version: Version(self.version), epoch, local: true, waited: false, age: None }
    }

    fn epoch(&self) -> Epoch {
        Epoch { round: self.epoch, server: ServerId(self.primary), run: RunId(1) }
    }

    /// The keys as this server has them.
    fn copy_of(&self, server: u8) -> BTreeMap<Bytes, (Bytes, u64)> {
        let mut copy = self.entries.clone();
        for (key, differs) in self.differing.get(&server).into_iter().flatten() {
            match differs {
                Some(entry) => drop(copy.insert(key.clone(), entry.clone())),
                None => drop(copy.remove(key)),
            }
        }
        copy
    }

    /// One page, as this server has it.
    fn page(&self, server: u8, scan: &Scan) -> Result<Response, Refusal> {
        if scan.cluster.is_some_and(|cluster| cluster != self.cluster()) {
            return Err(Refusal::OtherCluster);
        }
        // So few keys a page that a few keys make several.
        let count = usize::try_from(scan.limit).expect("64 bits");
        let count = if count == 0 { PAGE_COUNT } else { count.min(PAGE_COUNT) };
        let copy = self.copy_of(server);
        let mut found = copy.iter().filter(|(key, _)| scan.range.contains(key));
        let entry = |(key, (value, version)): (&Bytes, &(Bytes, u64))| Scanned {
            key: key.clone(),
            value: if scan.keys_only { Bytes::new() } else { value.clone() },
            version: Version(*version),
            changed_at: WallTime(1),
        };
        let entries = found.by_ref().take(count).map(entry).collect();
        let next = found.next().map(|(key, _)| key.clone());
        let seen = match scan.at {
            At::Now(_) => self.seen(self.epoch()),
            At::Version(version) => Seen { version, ..self.seen(self.epoch()) },
        };
        Ok(Response::Scanned { entries, next, seen, cluster: self.cluster() })
    }
}

impl Shared {
    /// The world, for a moment.
    ///
    /// **Panics if** it is held for long: a test that takes it twice in one expression would hang for ever.
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        let began = Instant::now();
        loop {
            match self.0.try_lock() {
                Ok(world) => return world,
                Err(TryLockError::WouldBlock) => assert!(began.elapsed() < HELD_MAX, "it is held, maybe by the caller"),
                Err(TryLockError::Poisoned(_)) => panic!("no server panics"),
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn script(&self, server: u8, scripts: impl IntoIterator<Item = Script>) {
        self.lock().scripts.entry(server).or_default().extend(scripts);
    }

    fn is_silent(&self, server: u8) -> bool {
        let mut world = self.lock();
        let silences = world.status_silences.entry(server).or_default();
        let is_silent = *silences > 0;
        *silences = silences.saturating_sub(1);
        is_silent
    }
}

/// A running server; dropping it breaks its connections at once, like a killed process.
pub(crate) struct Fake {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.runtime.take().expect("taken only here").shutdown_background();
    }
}

/// So many servers, of which server 0 leads.
pub(crate) fn cluster(count: u8) -> (Shared, Vec<Fake>) {
    let shared = Shared::default();
    shared.lock().epoch = 1;
    let listeners: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    shared.lock().addresses =
        listeners.iter().map(|listener| listener.local_addr().expect("bound").to_string()).collect();
    let servers = (0..count).zip(listeners).map(|(id, listener)| start(id, listener, shared.clone())).collect();
    (shared, servers)
}

fn start(id: u8, listener: std::net::TcpListener, shared: Shared) -> Fake {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    listener.set_nonblocking(true).expect("a socket");
    let service = Service { id, shared };
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("a socket");
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let dictionary = DictionaryServer::new(service.clone()).max_decoding_message_size(64 << 20);
        tonic::transport::Server::builder()
            .add_service(dictionary)
            .add_service(ClusterServer::new(service))
            .serve_with_incoming(incoming)
            .await
            .expect("serves");
    });
    Fake { runtime: Some(runtime) }
}

#[derive(Clone)]
struct Service {
    id: u8,
    shared: Shared,
}

impl Service {
    fn carry_out(&self, request: &Request) -> Result<Response, Refusal> {
        let mut world = self.shared.lock();
        let world = &mut *world;
        if world.primary != self.id {
            return Err(Refusal::NotPrimary { primary: Some(ServerId(world.primary)) });
        }
        let epoch = world.epoch();
        match request {
            Request::OpenSession => {
                world.opened += 1;
                let session = SessionId { opened_at: LogIndex(world.opened), nonce: 1 };
                world.sessions.insert(session, BTreeMap::new());
                Ok(Response::SessionOpened { session })
            }
            Request::CloseSession(session) => {
                world.sessions.remove(session);
                Ok(Response::SessionClosed)
            }
            Request::Read { key, .. } => Ok(match world.entries.get(key) {
                Some((value, version)) => {
                    let version = Version(*version);
                    Response::Found { value: value.clone(), version, changed_at: WallTime(1), seen: world.seen(epoch) }
                }
                None => Response::NotFound { seen: world.seen(epoch) },
            }),
            Request::Scan(scan) => world.page(self.id, scan),
            Request::Change { id: Some(id), change } => {
                let answers = world.sessions.get_mut(&id.session).ok_or(Refusal::SessionExpired)?;
                if let Some(answer) = answers.get(&id.sequence) {
                    return Ok(answer.clone());
                }
                world.applied += 1;
                world.version += 1;
                let version = Version(world.version);
                let changed = |existed| Response::Changed { version, existed, copies: 3, epoch };
                let answer = match change {
                    Change::Add { key, value } => {
                        changed(world.entries.insert(key.clone(), (value.clone(), version.0)).is_some())
                    }
                    Change::Delete { key } => changed(world.entries.remove(key).is_some()),
                    Change::Append { prefix, value } => {
                        let number = 1 + world.entries.keys().filter(|key| key.starts_with(prefix)).count() as u64;
                        world.entries.insert(append_key(prefix, number), (value.clone(), version.0));
                        Response::Appended { number, version, copies: 3, epoch }
                    }
                    Change::Together(set) => {
                        let found = |key| world.entries.get(key).map(|(_, version)| Version(*version));
                        let mut unmet =
                            (0..).zip(&set.conditions).map(|(place, it)| (place, found(&it.key), it.version));
                        match unmet.find(|(_, found, wanted)| found != wanted) {
                            Some((condition, found, _)) => Response::NotMet { condition, found, version, epoch },
                            None => {
                                for change in &set.changes {
                                    match &change.value {
                                        Some(value) => {
                                            world.entries.insert(change.key.clone(), (value.clone(), version.0));
                                        }
                                        None => drop(world.entries.remove(&change.key)),
                                    }
                                }
                                changed(false)
                            }
                        }
                    }
                };
                answers.insert(id.sequence, answer.clone());
                Ok(answer)
            }
            other => panic!("the client never asks {other:?}"),
        }
    }

    /// `None` where the stream is to break.
    async fn answer(&self, message: SessionRequests) -> Option<SessionResponses> {
        self.shared.lock().messages += 1;
        let mut responses = Vec::new();
        for v1::SessionRequest { tag, request } in message.requests {
            let asked = request_from_wire(request.expect("a request")).expect("well formed");
            let words = format!("{:?}", asked.request).split([' ', '(']).next().unwrap_or_default().to_owned();
            let script = {
                let mut world = self.shared.lock();
                world.requests.push((self.id, words));
                world.scripts.entry(self.id).or_default().pop_front()
            };
            let result = match script {
                None => self.carry_out(&asked.request),
                Some(Script::Refuse(refusal)) => Err(refusal),
                Some(Script::Swallow) => {
                    let _ = self.carry_out(&asked.request);
                    continue;
                }
                Some(Script::BreakAfter) => {
                    let _ = self.carry_out(&asked.request);
                    return None;
                }
                Some(Script::Delay(span)) => {
                    tokio::time::sleep(span).await;
                    self.carry_out(&asked.request)
                }
                Some(Script::Hollow) => self.carry_out(&asked.request).map(|mut response| {
                    let Response::Scanned { entries, next, .. } = &mut response else { panic!("not a scan") };
                    *next = Some([&entries[0].key[..], b"\0"].concat().into());
                    entries.clear();
                    response
                }),
            };
            let response = match result {
                Ok(response) => response_to_wire(response, ServerId(self.id)),
                Err(refusal) => {
                    let address = match &refusal {
                        Refusal::NotPrimary { primary: Some(server) } => {
                            self.shared.lock().addresses.get(usize::from(server.0)).cloned()
                        }
                        _ => None,
                    };
                    Some(refused_to_wire(&refusal, address.as_deref()))
                }
            };
            responses.push(SessionResponse { tag, response });
        }
        Some(SessionResponses { responses })
    }
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<SessionResponses, Status>> + Send>>;
type Watched = std::pin::Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;
type Unary<T> = Result<tonic::Response<T>, Status>;

#[tonic::async_trait]
impl Dictionary for Service {
    type SessionStream = Answers;

    async fn session(&self, requests: tonic::Request<Streaming<SessionRequests>>) -> Unary<Answers> {
        let mut requests = requests.into_inner();
        let (sender, answers) = tokio::sync::mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                match service.answer(message).await {
                    Some(answer) => drop(sender.send(Ok(answer)).await),
                    None => return drop(sender.send(Err(Status::unavailable("broken on purpose"))).await),
                }
            }
        });
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn open_session(&self, _: tonic::Request<v1::OpenSessionRequest>) -> Unary<v1::OpenSessionResponse> {
        Err(Status::unimplemented("the client uses the stream"))
    }

    async fn close_session(&self, _: tonic::Request<v1::CloseSessionRequest>) -> Unary<v1::CloseSessionResponse> {
        Err(Status::unimplemented("the client uses the stream"))
    }

    async fn add(&self, _: tonic::Request<v1::AddRequest>) -> Unary<v1::ChangeResponse> {
        Err(Status::unimplemented("the client uses the stream"))
    }

    async fn delete(&self, _: tonic::Request<v1::DeleteRequest>) -> Unary<v1::ChangeResponse> {
        Err(Status::unimplemented("the client uses the stream"))
    }

    async fn append(&self, _: tonic::Request<v1::AppendRequest>) -> Unary<v1::AppendResponse> {
        Err(Status::unimplemented("the client uses the stream"))
    }

    async fn change_set(&self, _: tonic::Request<v1::ChangeSetRequest>) -> Unary<v1::ChangeResponse> {
        Err(Status::unimplemented("the client uses the stream"))
    }

    type WatchStream = Watched;

    async fn watch(&self, _: tonic::Request<v1::WatchRequest>) -> Unary<Watched> {
        Err(Status::unimplemented("watched at real servers"))
    }

    async fn read(&self, _: tonic::Request<v1::ReadRequest>) -> Unary<v1::ReadResponse> {
        Err(Status::unimplemented("the client uses the stream"))
    }

    /// Every server answers by itself, of what it has; those that are behind never come to a version.
    async fn scan(&self, request: tonic::Request<v1::ScanRequest>) -> Unary<v1::ScanResponse> {
        let request = v1::session_request::Request::Scan(request.into_inner());
        let Asked { request: Request::Scan(scan), redirect: true } = request_from_wire(request).expect("well formed")
        else {
            panic!("whoever asks one server alone does not want what the primary has");
        };
        let result = {
            let mut world = self.shared.lock();
            world.requests.push((self.id, "UnaryScan".to_owned()));
            match world.scripts.entry(self.id).or_default().pop_front() {
                Some(Script::Refuse(refusal)) => Err(refusal),
                Some(other) => panic!("{other:?} is for streams"),
                None if world.behind.contains_key(&self.id) => Err(Refusal::NotPrimary { primary: None }),
                None => world.page(self.id, &scan),
            }
        };
        match result.map(|response| response_to_wire(response, ServerId(self.id))) {
            Ok(Some(v1::session_response::Response::Scanned(scanned))) => Ok(tonic::Response::new(scanned)),
            Ok(other) => panic!("{other:?} is no page"),
            Err(refusal) => Err(status_from_refusal(&refusal, None)),
        }
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn status(&self, _: tonic::Request<v1::StatusRequest>) -> Unary<v1::StatusResponse> {
        if self.shared.is_silent(self.id) {
            return std::future::pending().await;
        }
        let world = self.shared.lock();
        let behind = world.behind.get(&self.id).copied().unwrap_or(0);
        let servers = world.addresses.iter().enumerate().map(|(id, address)| v1::ServerAddress {
            id: u32::try_from(id).expect("few"),
            address: address.clone(),
            witness: false,
        });
        Ok(tonic::Response::new(v1::StatusResponse {
            server: u32::from(self.id),
            address: world.addresses[usize::from(self.id)].clone(),
            role: if world.primary == self.id { "primary" } else { "backup" }.to_owned(),
            primary: Some(u32::from(world.primary)),
            servers: servers.collect(),
            cluster: world.cluster().to_string(),
            epoch: Some(epoch_to_wire(world.epoch())),
            applied: world.version - behind,
            version: world.version - behind,
            digest: world.digests.get(&self.id).cloned().unwrap_or_else(|| format!("{:032x}", world.version - behind)),
            ..Default::default()
        }))
    }

    async fn nudge(&self, _: tonic::Request<v1::NudgeRequest>) -> Unary<v1::NudgeResponse> {
        self.shared.lock().nudged.push(self.id);
        Ok(tonic::Response::new(v1::NudgeResponse::default()))
    }

    async fn promote(&self, _: tonic::Request<v1::PromoteRequest>) -> Unary<v1::PromoteResponse> {
        Err(Status::unimplemented("no operator here"))
    }

    async fn fence(&self, _: tonic::Request<v1::FenceRequest>) -> Unary<v1::FenceResponse> {
        Err(Status::unimplemented("no operator here"))
    }

    type SaveSnapshotStream = tokio_stream::Empty<Result<v1::SnapshotChunk, Status>>;

    async fn save_snapshot(&self, _: tonic::Request<v1::SaveSnapshotRequest>) -> Unary<Self::SaveSnapshotStream> {
        Err(Status::unimplemented("no operator here"))
    }
}
