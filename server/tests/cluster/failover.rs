//! What clients see when servers go and come back.

use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::wire::v1::{AddRequest, OpenSessionRequest, ReadRequest, RequestId};
use heirloom_server::Failure;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::world::World;

fn add(key: String, sequence: u64, session: heirloom_proto::wire::v1::SessionId) -> AddRequest {
    let request_id = Some(RequestId { session: Some(session), sequence, lowest_unanswered: sequence });
    AddRequest { key: key.into(), value: Bytes::from_static(b"value"), request_id, ..Default::default() }
}

#[tokio::test]
async fn writes_with_a_request_id_go_on_through_the_loss_and_return_of_every_server() {
    let mut world = World::start(3, &[]).await;
    let primary = world.primary().await;
    // The writer stays at one server, which forwards, waits and repeats on its behalf.
    for (round, lost) in [primary, (primary + 1) % 3].into_iter().enumerate() {
        let asked = (primary + 2) % 3;
        let mut client = world.dictionary(asked);
        let session = client.open_session(OpenSessionRequest::default()).await.expect("opened").into_inner();
        let session = session.session.expect("named");
        let (written, mut progress) = watch::channel(0);
        let writer = tokio::spawn(async move {
            for sequence in 1..=200 {
                let key = format!("{round}-{sequence}");
                client.add(add(key, sequence, session)).await.expect("carried out, before or after");
                written.send_replace(sequence);
            }
        });
        progress.wait_for(|sequence| *sequence >= 20).await.expect("it goes on writing");
        world.stop(lost).await;
        writer.await.expect("no panic");
        world.restart(lost).await;
        let settled = |status: &heirloom_proto::wire::v1::StatusResponse| status.in_sync.len() == 3;
        world.status(lost, "a member again", settled).await;
    }
    for server in 0..3 {
        for round in 0..2 {
            for sequence in 1..=200 {
                let key = format!("{round}-{sequence}").into();
                let found =
                    world.dictionary(server).read(ReadRequest { key, ..Default::default() }).await.expect("read");
                assert!(found.into_inner().found, "{round}-{sequence} at {server}");
            }
        }
    }
}

#[tokio::test]
async fn a_whole_cluster_that_was_stopped_comes_back_with_its_data() {
    let mut world = World::start(3, &[]).await;
    let request = AddRequest { key: "key".into(), value: "value".into(), ..Default::default() };
    world.dictionary(0).add(request).await.expect("added");
    for server in 0..3 {
        world.stop(server).await;
    }
    for server in 0..3 {
        world.restart(server).await;
    }
    let request = ReadRequest { key: "key".into(), ..Default::default() };
    let found = world.dictionary(1).read(request).await.expect("waits for a primary").into_inner();
    assert_eq!(found.value, "value");
}

#[tokio::test]
async fn a_server_started_with_other_constants_refuses_and_names_the_option() {
    let mut world = World::start(1, &[]).await;
    world.primary().await;
    world.stop(0).await;
    let mut settings = world.settings(0);
    settings.node.constants.lease = Duration::from_secs(1);
    let listener = TcpListener::bind(world.addresses[0]).await.expect("its own port");
    world.start_with(0, settings, listener);
    match world.ended(0).await {
        Err(Failure::Usage(sentence)) => assert!(sentence.contains("use --lease 300ms"), "{sentence}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_data_directory_of_another_server_is_refused() {
    let mut world = World::start(2, &[]).await;
    world.primary().await;
    world.stop(0).await;
    let mut settings = world.settings(0);
    settings.data_dir = world.settings(1).data_dir;
    world.stop(1).await;
    let listener = TcpListener::bind(world.addresses[0]).await.expect("its own port");
    world.start_with(0, settings, listener);
    let failure = world.ended(0).await.expect_err("refused");
    assert_eq!(failure.exit_code(), 2);
    assert!(failure.to_string().contains("belongs to server 1"), "{failure}");
}
