//! The connections that are accepted: a bounded number, so that clients can't take the last file from under the disk, of
//! which some are kept for the other servers.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use heirloom_proto::Address;
use rustix::net::sockopt::set_socket_keepalive;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Files that are kept for the disk, the other servers and probes.
const FILES_KEPT: u64 = 128;
/// How many connections are open at most, however many files the system would give.
const CONNECTIONS_MAX: u64 = 65_536;
/// How many connections are kept for each other server, beyond those that anybody may have: the streams between servers,
/// one for requests that it forwards, one for an operator's call, and those that they are about to replace.
const SEATS_PER_PEER: usize = 6;
/// How long a client may take to begin to speak HTTP/2; from then on the keep-alive of HTTP/2 sees that it lives.
const PREFACE_TIME_MAX: Duration = Duration::from_secs(5);
/// What a client of HTTP/2 sends first has this length (RFC 9113, 3.4). **Units:** bytes.
const PREFACE_BYTES: usize = 24;
/// How often the names of the other servers are looked up, to know their connections.
const LOOK_UP_PAUSE: Duration = Duration::from_secs(10);
/// The pause after the system could not accept: trying again at once would fail again.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections of one listener.
pub(super) struct Incoming {
    listener: TcpListener,
    seats: Arc<Semaphore>,
    peers: PeerSeats,
    pause: Option<Pin<Box<Sleep>>>,
    said_full: bool,
}

impl Incoming {
    /// Accepts as many connections as the system gives files for, less those that are kept.
    pub(super) fn new(listener: TcpListener, peers: PeerSeats) -> Self {
        let seats = files_max().saturating_sub(FILES_KEPT).clamp(16, CONNECTIONS_MAX);
        Self::with_seats(listener, usize::try_from(seats).unwrap_or(16), peers)
    }

    fn with_seats(listener: TcpListener, seats: usize, peers: PeerSeats) -> Self {
        Self { listener, seats: Arc::new(Semaphore::new(seats)), peers, pause: None, said_full: false }
    }

    /// A seat for a connection from there.
    fn seat(&self, from: IpAddr) -> Option<OwnedSemaphorePermit> {
        self.seats.clone().try_acquire_owned().ok().or_else(|| self.peers.seat(from))
    }
}

/// The seats that are kept for the other servers, which are known by where they come from. Where clients share an address
/// with a server they share its seats too: a connection does not say who it is before it is accepted.
#[derive(Clone, Debug)]
pub(super) struct PeerSeats {
    seats: Arc<Semaphore>,
    found: Arc<Mutex<BTreeSet<IpAddr>>>,
}

impl PeerSeats {
    /// The seats of so many other servers, of which none is known yet.
    pub(super) fn new(peers: usize) -> Self {
        Self { seats: Arc::new(Semaphore::new(peers * SEATS_PER_PEER)), found: Arc::default() }
    }

    /// Goes on looking up where the other servers are.
    pub(super) async fn look_up(self, peers: Vec<Address>) {
        loop {
            let mut found = BTreeSet::new();
            for peer in &peers {
                // A name that can't be looked up is warned of where it is dialled.
                found.extend(crate::settings::resolve(peer).await.ok().map(|address| address.ip().to_canonical()));
            }
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
            tokio::time::sleep(LOOK_UP_PAUSE).await;
        }
    }

    fn seat(&self, from: IpAddr) -> Option<OwnedSemaphorePermit> {
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).contains(&from.to_canonical());
        if known { self.seats.clone().try_acquire_owned().ok() } else { None }
    }
}

/// How many files this process may have open, raised as far as the system lets it.
fn files_max() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(u64::MAX).min(CONNECTIONS_MAX + FILES_KEPT);
    match current {
        Some(now) if now < wanted => match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
            Ok(()) => wanted,
            Err(_) => now,
        },
        Some(now) => now,
        None => u64::MAX,
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, from)) => match self.seat(from.ip()) {
                    Some(seat) => {
                        self.said_full = false;
                        // Without it small answers wait 40 ms for a delayed acknowledgement; a failure means that the
                        // connection is gone, which its first read tells.
                        let _ = stream.set_nodelay(true);
                        // Beside the keep-alive of HTTP/2, for what hangs where that is not at work.
                        let _ = set_socket_keepalive(&stream, true);
                        return Poll::Ready(Some(Ok(Connection::new(stream, seat, PREFACE_TIME_MAX))));
                    }
                    None if self.said_full => {}
                    None => {
                        self.said_full = true;
                        tracing::warn!(%from, "too many connections are open: further ones are closed at once");
                    }
                },
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!("connections can't be accepted: {error}; trying on");
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }
}

/// Whether an error of accepting is that of a client that went away meanwhile.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// One connection, which gives its seat back when it is closed.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Until the client has begun to speak; whoever never does holds no seat.
    silence: Option<Silence>,
    _seat: OwnedSemaphorePermit,
}

/// The wait for a client to begin.
#[derive(Debug)]
struct Silence {
    bytes_missing: usize,
    until: Pin<Box<Sleep>>,
}

impl Connection {
    fn new(stream: TcpStream, seat: OwnedSemaphorePermit, patience: Duration) -> Self {
        let until = Box::pin(tokio::time::sleep(patience));
        Self { stream, silence: Some(Silence { bytes_missing: PREFACE_BYTES, until }), _seat: seat }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(silence) = &mut self.silence else { return read };
        silence.bytes_missing = silence.bytes_missing.saturating_sub(buffer.filled().len() - filled);
        if silence.bytes_missing == 0 {
            self.silence = None;
        } else if read.is_pending() && silence.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_seats_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut incoming = Incoming::with_seats(listener, 1, PeerSeats::new(0));
        let _first = TcpStream::connect(address).await.expect("connects");
        let seated = incoming.next().await.expect("open").expect("accepted");
        let mut second = TcpStream::connect(address).await.expect("connects");
        let mut byte = [0];
        let closed = tokio::select! {
            _ = incoming.next() => panic!("there is no seat"),
            closed = second.read(&mut byte) => closed,
        };
        assert!(matches!(closed, Ok(0) | Err(_)));
        drop(seated);
        let _third = TcpStream::connect(address).await.expect("connects");
        assert!(incoming.next().await.expect("open").is_ok());
    }
    #[tokio::test]
    async fn the_last_seats_are_for_the_other_servers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let peers = PeerSeats::new(1);
        let mut incoming = Incoming::with_seats(listener, 0, peers.clone());
        let looking =
            tokio::spawn(peers.clone().look_up(vec![Address { host: address.ip().to_string(), port: address.port() }]));
        while peers.seat(address.ip()).is_none() {
            tokio::task::yield_now().await;
        }
        let mut seated = Vec::new();
        let mut open = Vec::new();
        for _ in 0..SEATS_PER_PEER {
            open.push(TcpStream::connect(address).await.expect("connects"));
            let accepted = tokio::time::timeout(Duration::from_secs(5), incoming.next()).await;
            seated.push(accepted.expect("there is a seat").expect("open").expect("accepted"));
        }
        assert!(peers.seat(address.ip()).is_none(), "bounded too");
        seated.clear();
        assert!(peers.seat("192.0.2.1".parse().expect("an address")).is_none(), "nobody of ours");
        looking.abort();
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_ended_and_one_that_begins_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let seats = Arc::new(Semaphore::new(9));
        let mut ends = Vec::new();
        for preface in [0, PREFACE_BYTES - 1, PREFACE_BYTES] {
            let mut client = TcpStream::connect(address).await.expect("connects");
            let (stream, _) = listener.accept().await.expect("accepted");
            let seat = seats.clone().try_acquire_owned().expect("a seat");
            let mut connection = Connection::new(stream, seat, Duration::from_millis(50));
            client.write_all(&vec![b'x'; preface]).await.expect("written");
            let mut bytes = Vec::new();
            let read = tokio::time::timeout(Duration::from_millis(500), connection.read_to_end(&mut bytes)).await;
            ends.push(read.is_ok_and(|read| read.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)));
        }
        assert_eq!(ends, [true, true, false]);
    }

    #[tokio::test]
    async fn the_system_sees_to_it_that_a_connection_still_leads_somewhere() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut incoming = Incoming::with_seats(listener, 1, PeerSeats::new(0));
        let _client = TcpStream::connect(address).await.expect("connects");
        let seated = incoming.next().await.expect("open").expect("accepted");
        assert!(rustix::net::sockopt::socket_keepalive(&seated.stream).expect("told"));
    }
}
