//! What clients of a healthy cluster see.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::wire::refusal::refusal_from_status;
use heirloom_proto::wire::v1::{
    AddRequest, CloseSessionRequest, DeleteRequest, FenceRequest, NudgeRequest, OpenSessionRequest, PromoteRequest,
    ReadRequest, RequestId, SessionRequest, SessionRequests, refusal, session_request, session_response,
};
use heirloom_proto::{Refusal, ServerId};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use crate::world::World;

fn add(key: &str, value: &str) -> AddRequest {
    AddRequest { key: Bytes::from(key.to_owned()), value: Bytes::from(value.to_owned()), ..Default::default() }
}

fn read(key: &str) -> ReadRequest {
    ReadRequest { key: Bytes::from(key.to_owned()), redirect: false, ..Default::default() }
}

#[tokio::test]
async fn a_cluster_of_one_serves_by_itself() {
    let world = World::start(1, &[]).await;
    let mut client = world.dictionary(0);
    let added = client.add(add("word", "definition")).await.expect("added").into_inner();
    assert_eq!((added.version, added.existed, added.copies, added.server), (1, false, 1, 0));
    let found = client.read(read("word")).await.expect("read").into_inner();
    assert_eq!((found.found, found.value, found.version), (true, Bytes::from_static(b"definition"), 1));
    let request = DeleteRequest { key: Bytes::from_static(b"word"), ..Default::default() };
    assert!(client.delete(request).await.expect("deleted").into_inner().existed);
    assert!(!client.read(read("word")).await.expect("read").into_inner().found);
}

#[tokio::test]
async fn every_server_takes_every_request_and_the_primary_carries_it_out() {
    let world = World::start(3, &[]).await;
    // The first request is sent before there is a primary: it waits for one.
    world.dictionary(2).add(add("early", "bird")).await.expect("waited for");
    let primary = world.primary().await;
    for server in 0..3 {
        let mut client = world.dictionary(server);
        let key = format!("key-{server}");
        let added = client.add(add(&key, "value")).await.expect("added").into_inner();
        assert_eq!((added.copies, added.server as usize), (3, primary));
        for reader in 0..3 {
            let found = world.dictionary(reader).read(read(&key)).await.expect("read").into_inner();
            assert!(found.found, "written at {server}, read at {reader}");
        }
    }
}

#[tokio::test]
async fn whoever_asks_for_it_is_told_where_the_primary_is() {
    let world = World::start(3, &[]).await;
    let primary = world.primary().await;
    let other = (primary + 1) % 3;
    let status = world
        .dictionary(other)
        .add(AddRequest { redirect: true, ..add("key", "value") })
        .await
        .expect_err("not the primary");
    assert_eq!(status.code(), Code::Unavailable);
    let refused = refusal_from_status(&status).expect("says why");
    let server = ServerId(u8::try_from(primary).expect("small"));
    assert_eq!(refused.refusal, Refusal::NotPrimary { primary: Some(server) });
    assert_eq!(refused.primary_address, Some(world.addresses[primary].to_string()));
    let nudged = world.cluster(other).nudge(NudgeRequest {}).await.expect("answered").into_inner();
    assert_eq!(nudged.primary_address, world.addresses[primary].to_string());
}

#[tokio::test]
async fn a_retried_write_is_carried_out_once() {
    let world = World::start(3, &[]).await;
    let session = world.dictionary(1).open_session(OpenSessionRequest::default()).await.expect("opened").into_inner();
    let request_id = Some(RequestId { session: session.session, sequence: 1, lowest_unanswered: 1 });
    let request = AddRequest { request_id, ..add("key", "value") };
    let first = world.dictionary(1).add(request.clone()).await.expect("added").into_inner();
    let again = world.dictionary(2).add(request).await.expect("added").into_inner();
    assert_eq!((first.version, first.existed), (again.version, again.existed));
    let close = CloseSessionRequest { session: session.session, redirect: false };
    world.dictionary(0).close_session(close).await.expect("closed");
    world.dictionary(0).close_session(close).await.expect("closing one that is gone is no error");
}

#[tokio::test]
async fn what_is_over_the_limits_is_refused_in_words() {
    let world = World::start(1, &["--value-bytes-max", "1000"]).await;
    let mut client = world.dictionary(0);
    let cases = [
        (add("", "value"), Refusal::BadKey { bytes_max: 4096 }),
        (add(&"k".repeat(4097), "value"), Refusal::BadKey { bytes_max: 4096 }),
        (add("key", &"v".repeat(1001)), Refusal::BadValue { bytes_max: 1000 }),
        (add("key", &"v".repeat(1 << 20)), Refusal::BadValue { bytes_max: 1000 }),
        // What another server may be set to take is refused in words by this one too.
        (add("key", &"v".repeat(16 << 20)), Refusal::BadValue { bytes_max: 1000 }),
    ];
    for (request, refusal) in cases {
        let status = client.add(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(refusal_from_status(&status).expect("says why").refusal, refusal);
    }
    client.add(add("key", &"v".repeat(1000))).await.expect("at the limit");
}

#[tokio::test]
async fn a_session_stream_carries_many_requests_at_a_backup_too() {
    let world = World::start(3, &[]).await;
    let primary = world.primary().await;
    for server in [primary, (primary + 1) % 3] {
        let (requests, stream) = tokio::sync::mpsc::channel(4);
        let mut client = world.dictionary(server);
        let mut answers = client.session(ReceiverStream::new(stream)).await.expect("opened").into_inner();
        let count = 500;
        for tag in 0..count {
            let request = session_request::Request::Add(add(&format!("{server}-{tag}"), "value"));
            let requests_of_one = vec![SessionRequest { tag, request: Some(request) }];
            requests.send(SessionRequests { requests: requests_of_one }).await.expect("open");
        }
        let empty_key = session_request::Request::Read(read(""));
        let last = vec![SessionRequest { tag: count, request: Some(empty_key) }];
        requests.send(SessionRequests { requests: last }).await.expect("open");
        drop(requests);
        let mut seen = BTreeMap::new();
        while let Some(batch) = answers.message().await.expect("whole") {
            for answer in batch.responses {
                assert!(seen.insert(answer.tag, answer.response).is_none(), "answered once");
            }
        }
        assert_eq!(seen.len() as u64, count + 1, "the stream ends when all is answered");
        for (tag, answer) in seen {
            match answer.expect("an answer") {
                session_response::Response::Changed(changed) => assert_eq!(changed.copies, 3, "{tag}"),
                session_response::Response::Refusal(refused) => {
                    assert_eq!((tag, refused.kind()), (count, refusal::Kind::BadKey));
                }
                other => panic!("{tag}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_caller_without_a_primary_is_told_so_within_its_own_time() {
    let mut world = World::start(3, &[]).await;
    world.primary().await;
    world.stop(0).await;
    world.stop(1).await;
    let mut request = Request::new(read("key"));
    request.set_timeout(Duration::from_millis(600));
    let began = std::time::Instant::now();
    let status = world.dictionary(2).read(request).await.expect_err("nobody leads");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(matches!(
        refusal_from_status(&status).map(|refused| refused.refusal),
        Some(Refusal::NotPrimary { primary: None })
    ));
}

#[tokio::test]
async fn operators_are_answered_by_any_server() {
    let world = World::start(3, &[]).await;
    let primary = world.primary().await;
    let (target, asked) = ((primary + 1) % 3, (primary + 2) % 3);
    // A write that is answered shows that the start of the epoch is complete; before it a hand-over is refused.
    world.dictionary(asked).add(add("key", "value")).await.expect("added");
    let target_id = u32::try_from(target).expect("small");
    let request = PromoteRequest { server: target_id, redirect: false };
    let promoted = world.cluster(asked).promote(request).await.expect("handed over").into_inner();
    assert_eq!(promoted.primary, target_id);
    world.status(target, "primary", |status| status.role == "primary").await;
    let status = world.cluster(0).promote(PromoteRequest { server: 7, redirect: false }).await.expect_err("no such");
    assert_eq!(status.code(), Code::InvalidArgument);
    let fence = FenceRequest { server: target_id, it_is_off: false };
    let status = world.cluster(asked).fence(fence).await.expect_err("not said");
    assert!(status.message().contains("it_is_off"), "{status:?}");
    let fence = FenceRequest { server: target_id, it_is_off: true };
    let status = world.cluster(asked).fence(fence).await.expect_err("it is not off");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}
