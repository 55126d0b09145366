//! A server from its start to its end.

use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use heirloom_proto::Address;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::driver::Driver;
use crate::failure::Failure;
use crate::grpc::{self, Desk};
use crate::links::Acceptor;
use crate::mutants::Mutant;
use crate::settings::{Settings, differs};
use crate::storage::{DataDir, Files};

/// How long calls may take to end once the node has stopped.
const CALLS_END_MAX: Duration = Duration::from_secs(1);

/// Runs one server on `listener` with its data kept in `files`, until `shutdown` is ready or the server fails.
///
/// The node stops, and with it this server's vote, its leases and its place, before the listening socket is closed: so a
/// refused connection proves that all of that is over (PROTOCOL 5).
///
/// **Errors:** why the server ended otherwise than on request.
///
/// **Panics if** a part of the server does: a replica that is wrong must not limp on.
pub async fn run(
    settings: Settings,
    listener: TcpListener,
    files: Arc<dyn Files>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let listening = listener.local_addr().map_err(|error| Failure::Machine(error.to_string()))?;
    let (path, me, planted) = (settings.data_dir.clone(), settings.node.me, settings.planted);
    let files = planted.beneath(files);
    let data_dir = tokio::task::spawn_blocking(move || DataDir::open(files, &path, me));
    let mut data_dir = data_dir.await.map_err(|panic| Failure::Bug(panic.to_string()))??;
    data_dir.plant(planted);

    // Said before anybody is talked to. A cluster that is met later is for the node to compare.
    if let Some((_, stored)) = data_dir.identity().and_then(|identity| identity.cluster.as_ref())
        && let Some(sentence) = differs(stored, &settings.node.constants)
    {
        return Err(Failure::Usage(sentence));
    }

    let settings = Arc::new(settings);
    let servers: Arc<[Address]> = settings.servers.clone().into();
    let (driver, handles) = Driver::new(settings.clone(), data_dir);
    let desk = Arc::new(Desk::new(me, servers, handles.asks, handles.place, handles.history));
    let acceptor = Acceptor::new(handles.life);
    let stop = handles.stop;
    let (node_stopped, told) = oneshot::channel();
    announce(&format!("heirloom: server {me} listens on {listening}"));
    if planted.has(Mutant::SocketClosedFirst) {
        let services = tokio::spawn(async move { grpc::serve(&settings, listener, desk, acceptor, told).await });
        let driving = tokio::spawn(driver.run());
        shutdown.await;
        let _ = node_stopped.send(());
        end(services).await;
        stop.send_replace(true);
        return driving.await.map_err(|error| Failure::Bug(error.to_string()))?;
    }
    let stopping = tokio::spawn(async move {
        shutdown.await;
        stop.send_replace(true);
        // Held, so that the driver can wait on it as long as it likes.
        std::future::pending::<()>().await;
    });
    let mut services = tokio::spawn(async move { grpc::serve(&settings, listener, desk, acceptor, told).await });
    let mut driving = tokio::spawn(driver.run());

    let ended = tokio::select! {
        ended = &mut driving => ended,
        served = &mut services => {
            // The listener is gone while the node lives, which nothing should bring about.
            driving.abort();
            return Err(Failure::Machine(format!("the services ended before the node: {served:?}")));
        }
    };
    stopping.abort();
    let _ = node_stopped.send(());
    end(services).await;
    match ended {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Failure::Bug(error.to_string())),
    }
}

/// Waits for the calls to end, which see by themselves that the driver is gone; those that take too long are cut off.
async fn end(mut services: JoinHandle<Result<(), tonic::transport::Error>>) {
    if tokio::time::timeout(CALLS_END_MAX, &mut services).await.is_err() {
        services.abort();
        let _ = services.await;
    }
}

/// Says on standard error, whatever the level of the log, that the server can be reached.
fn announce(what: &str) {
    // Nobody may be reading, which is no reason not to serve.
    let _ = writeln!(std::io::stderr(), "{what}");
}
