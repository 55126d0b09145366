//! The connections that are accepted: a bounded number, so that clients can't take the last file from under the disk.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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
/// The pause after the system could not accept: trying again at once would fail again.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections of one listener.
pub(super) struct Incoming {
    listener: TcpListener,
    seats: Arc<Semaphore>,
    pause: Option<Pin<Box<Sleep>>>,
    said_full: bool,
}

impl Incoming {
    /// Accepts as many connections as the system gives files for, less those that are kept.
    pub(super) fn new(listener: TcpListener) -> Self {
        let seats = files_max().saturating_sub(FILES_KEPT).clamp(16, CONNECTIONS_MAX);
        Self::with_seats(listener, usize::try_from(seats).unwrap_or(16))
    }

    fn with_seats(listener: TcpListener, seats: usize) -> Self {
        Self { listener, seats: Arc::new(Semaphore::new(seats)), pause: None, said_full: false }
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
                Ok((stream, from)) => match self.seats.clone().try_acquire_owned() {
                    Ok(seat) => {
                        self.said_full = false;
                        // Without it small answers wait 40 ms for a delayed acknowledgement; a failure means that the
                        // connection is gone, which its first read tells.
                        let _ = stream.set_nodelay(true);
                        return Poll::Ready(Some(Ok(Connection { stream, _seat: seat })));
                    }
                    Err(_) if self.said_full => {}
                    Err(_) => {
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
    _seat: OwnedSemaphorePermit,
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
    use tokio::io::AsyncReadExt;
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_seats_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut incoming = Incoming::with_seats(listener, 1);
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
}
