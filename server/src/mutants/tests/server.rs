//! Servers with all their services, which talk to one another through the loopback.

use std::sync::Arc;
use std::time::Duration;

use heirloom_proto::wire::v1::ReadRequest;
use heirloom_proto::wire::v1::dictionary_client::DictionaryClient;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::super::Planted;
use super::Verdict;
use super::driver::{Driving, put, read, settings};
use super::gate::Gate;
use crate::clock;
use crate::grpc::{self, Desk};
use crate::links::Acceptor;
use crate::run;
use crate::storage::PowerFailureFiles;
use heirloom_proto::Address;

pub(super) async fn read_waits_beyond_the_lease(planted: Planted) -> Verdict {
    const LEASE: Duration = Duration::from_secs(3600);
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0"));
    let [first, second] = listeners;
    let (first, second) = (first.await.expect("a port"), second.await.expect("a port"));
    let addresses = [&first, &second].map(|listener| listener.local_addr().expect("bound").to_string()).join(",");
    let line = |id: usize| format!("--id {id} --cluster {addresses} --lease 3600s");
    let other = settings(&line(1), Planted::NONE);
    let other = tokio::spawn(run(other, second, Arc::new(PowerFailureFiles::new()), std::future::pending()));

    // The primary, put together here so that the check can ask it without a wait in between.
    let settings = Arc::new(settings(&line(0), planted));
    let mut primary = Driving::start(&settings, Arc::new(PowerFailureFiles::new()));
    let servers: Arc<[Address]> = settings.servers.clone().into();
    let handles = &primary.handles;
    let (asks, place, history) = (handles.asks.clone(), handles.place.clone(), handles.history.clone());
    let desk = Desk::new(settings.node.me, servers, asks, place, history);
    let acceptor = Acceptor::new(primary.handles.life.clone());
    let (_node_stopped, told) = oneshot::channel();
    let shared = settings.clone();
    let services = tokio::spawn(async move { grpc::serve(&shared, first, Arc::new(desk), acceptor, told).await });
    primary.settled().await;
    primary.ask(put("value")).await.expect("answered").expect("carried out");
    primary.ask(read()).await.expect("answered").expect("under the lease");

    // The machine sleeps, and the read is there when it wakes.
    clock::skip(3 * LEASE);
    let mut late = primary.ask(read());
    primary.report().await;
    let answer = late.try_recv();
    primary.end().await;
    services.abort();
    other.abort();
    match answer {
        Ok(Ok(answer)) => Err(format!("served hours after the lease: {answer:?}")),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

pub(super) async fn told_to_stop(planted: Planted) -> Verdict {
    // Nothing but the end of a run syncs the progress.
    let (gate, files) = Gate::before(PowerFailureFiles::new(), "progress.a");
    gate.close();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = settings(&format!("--cluster {address} --heartbeat 5ms --suspicion 1s"), planted);
    let server = tokio::spawn(run(settings, listener, files, async move {
        let _ = stopped.await;
    }));
    let mut client = DictionaryClient::connect(format!("http://{address}")).await.expect("connects");
    let request = ReadRequest { key: "key".into(), redirect: false, ..Default::default() };
    client.read(request).await.expect("serves");
    drop(client);
    stop.send(()).expect("it waits for this");
    gate.reached(1).await;
    let refused = TcpStream::connect(address).await.is_err();
    gate.open();
    server.await.expect("no panic").expect("ends in good order");
    assert!(TcpStream::connect(address).await.is_err(), "the socket outlived the server");
    if refused { Err("connections are refused while the run is being ended".to_owned()) } else { Ok(()) }
}
