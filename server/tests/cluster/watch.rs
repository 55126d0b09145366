//! Watching over gRPC, as any language would.

use std::time::Duration;

use heirloom_proto::Refusal;
use heirloom_proto::wire::refusal::refusal_from_status;
use heirloom_proto::wire::v1::{
    AddRequest, AppendRequest, ChangeSetRequest, DeleteRequest, KeyChange, ScanRequest, WatchRequest, WatchResponse,
};
use tonic::{Code, Status, Streaming};

use crate::world::World;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than a server keeps of what was changed. **Units:** values of [`LARGE`] bytes.
const MORE_THAN_KEPT: u64 = 80;
const LARGE: usize = 512 << 10;

fn prefix(start: &'static str, end: &'static str, from_version: Option<u64>) -> WatchRequest {
    WatchRequest { start: start.into(), end: Some(end.into()), from_version, ..Default::default() }
}

fn all(from_version: Option<u64>) -> WatchRequest {
    WatchRequest { from_version, ..Default::default() }
}

async fn message(stream: &mut Streaming<WatchResponse>) -> Result<Option<WatchResponse>, Status> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("something comes")
}

/// A stream, and the version that it begins behind.
async fn watch(world: &World, server: usize, request: WatchRequest) -> (Streaming<WatchResponse>, u64) {
    let mut stream = loop {
        match world.dictionary(server).watch(request.clone()).await {
            Ok(stream) => break stream.into_inner(),
            // A server that has just come to its place.
            Err(status) if status.code() == Code::Unavailable => drop(world.status(server, "there", |_| true).await),
            Err(status) => panic!("{status:?}"),
        }
    };
    let first = message(&mut stream).await.expect("begun").expect("begun");
    assert!(first.changes.is_empty() && first.cluster.ends_with("/1"), "{first:?}");
    assert_eq!(first.server as usize, server);
    (stream, first.version)
}

/// What was told up to a version: each as `version key value`.
async fn told(stream: &mut Streaming<WatchResponse>, until: u64) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let message = message(stream).await.expect("it goes on").expect("it goes on");
        for set in message.changes {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let change = |change: &KeyChange| {
                format!("{} {}", text(&change.key), change.value.as_deref().map_or("-".into(), text))
            };
            told.push(format!("{} {}", set.version, set.changes.iter().map(change).collect::<Vec<_>>().join(" ")));
        }
        if message.version >= until {
            return told;
        }
    }
}

async fn add(world: &World, key: &str, value: impl Into<bytes::Bytes>) -> u64 {
    let request = AddRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() };
    world.dictionary(0).add(request).await.expect("added").into_inner().version
}

/// Changes of every kind: two under `a/`, some elsewhere.
async fn change(world: &World) -> u64 {
    add(world, "a/1", "v").await;
    add(world, "b", "w").await;
    let mut dictionary = world.dictionary(0);
    let changes = [("a/1", None), ("a/2", Some("x")), ("c", Some("y"))]
        .map(|(key, value)| KeyChange { key: key.into(), value: value.map(Into::into) });
    dictionary.change_set(ChangeSetRequest { changes: changes.into(), ..Default::default() }).await.expect("done");
    dictionary.delete(DeleteRequest { key: "none".into(), ..Default::default() }).await.expect("found nothing");
    dictionary.delete(DeleteRequest { key: "b".into(), ..Default::default() }).await.expect("deleted");
    let append = AppendRequest { prefix: "a/".into(), value: "z".into(), ..Default::default() };
    dictionary.append(append).await.expect("appended").into_inner().version
}

#[tokio::test]
async fn every_server_tells_a_range_and_nothing_else_from_the_version_that_is_asked_for() {
    let world = World::start(3, &[]).await;
    world.primary().await;
    let mut early = Vec::new();
    for server in 0..3 {
        let (stream, version) = watch(&world, server, all(None)).await;
        assert_eq!(version, 0);
        early.push(stream);
    }
    let last = change(&world).await;
    let everything =
        ["1 a/1 v", "2 b w", "3 a/1 - a/2 x c y", "4 b -", "5 a/00000000000000000001 z"].map(str::to_owned).to_vec();
    for (server, stream) in early.iter_mut().enumerate() {
        assert_eq!(told(stream, last).await, everything);
        let (mut stream, version) = watch(&world, server, all(Some(1))).await;
        assert_eq!((version, told(&mut stream, last).await), (0, everything.clone()));
        let (mut stream, _) = watch(&world, server, prefix("a/", "a0", Some(2))).await;
        assert_eq!(told(&mut stream, last).await, ["3 a/1 - a/2 x", "5 a/00000000000000000001 z"]);
        let (mut stream, _) = watch(&world, server, prefix("a/1", "a/1\0", Some(0))).await;
        assert_eq!(told(&mut stream, last).await, ["1 a/1 v", "3 a/1 -"]);
    }
}

#[tokio::test]
async fn a_version_that_is_still_to_come_is_waited_for() {
    let world = World::start(3, &[]).await;
    world.primary().await;
    let (mut stream, version) = watch(&world, 1, all(Some(3))).await;
    assert_eq!(version, 2);
    for number in 1..=4 {
        assert_eq!(add(&world, "k", number.to_string()).await, number);
    }
    assert_eq!(told(&mut stream, 4).await, ["3 k 3", "4 k 4"]);
}

#[tokio::test]
async fn a_quiet_stream_says_how_far_it_is_and_ends_when_its_server_is_cut_off_or_stops() {
    let mut world = World::start(3, &[]).await;
    let primary = world.primary().await;
    let (backup, other) = ((primary + 1) % 3, (primary + 2) % 3);
    let (mut stream, _) = watch(&world, backup, prefix("quiet", "quiez", None)).await;
    let version = add(&world, "loud", "v").await;
    assert_eq!(told(&mut stream, version).await, [""; 0]);
    // Alone it hears no primary, and can't know what is committed.
    world.stop(primary).await;
    world.stop(other).await;
    let status = loop {
        match message(&mut stream).await {
            Ok(message) => assert!(message.is_some(), "it says why"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let refused = world.dictionary(backup).watch(all(None)).await.expect_err("cut off");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    world.restart(primary).await;
    world.restart(other).await;
    world.primary().await;
    let (mut stream, told) = watch(&world, backup, all(None)).await;
    assert_eq!(told, version);
    world.stop(backup).await;
    while let Ok(message) = message(&mut stream).await {
        assert!(message.is_some(), "it says why");
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_cut_off_and_told_so_while_another_sees_all() {
    let world = World::start(1, &[]).await;
    world.primary().await;
    let (mut stuck, _) = watch(&world, 0, all(None)).await;
    let (mut other, _) = watch(&world, 0, all(None)).await;
    let reading = tokio::spawn(async move { told(&mut other, MORE_THAN_KEPT).await.len() as u64 });
    for number in 1..=MORE_THAN_KEPT {
        assert_eq!(add(&world, &format!("key-{number}"), vec![b'v'; LARGE]).await, number);
    }
    assert_eq!(reading.await.expect("no panic"), MORE_THAN_KEPT);
    let mut seen = 0;
    let status = loop {
        match message(&mut stuck).await {
            Ok(message) => {
                for set in message.expect("it says why").changes {
                    seen += 1;
                    assert_eq!(set.version, seen, "in order until the end");
                }
            }
            Err(status) => break status,
        }
    };
    let kept = |status: &Status| match refusal_from_status(status).expect("a refusal").refusal {
        Refusal::VersionTooOld { oldest } => oldest.0,
        other => panic!("{other:?}"),
    };
    let oldest = kept(&status);
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(seen + 1 < oldest && oldest < MORE_THAN_KEPT, "{seen} {oldest}");
    // Whoever asks for too much is told at once, and what is kept is there.
    let refused = world.dictionary(0).watch(all(Some(oldest - 1))).await.expect_err("no longer kept");
    assert_eq!(kept(&refused), oldest);
    let (mut stream, _) = watch(&world, 0, all(Some(oldest))).await;
    assert_eq!(told(&mut stream, MORE_THAN_KEPT).await.len() as u64, MORE_THAN_KEPT + 1 - oldest);
}

#[tokio::test]
async fn a_version_of_another_cluster_is_refused_by_watches_and_pages_and_the_own_one_is_not() {
    let world = World::start(1, &[]).await;
    world.primary().await;
    add(&world, "k", "v").await;
    let page = ScanRequest { at_version: Some(1), ..Default::default() };
    let scanned = world.dictionary(0).scan(page.clone()).await.expect("a page").into_inner();
    let own = scanned.cluster.clone();
    let before = "0000000000000001/1".to_owned();
    let refusal = |status: Status| refusal_from_status(&status).expect("a refusal").refusal;
    let watched = world.dictionary(0).watch(WatchRequest { cluster: before.clone(), ..all(Some(2)) }).await;
    assert_eq!(refusal(watched.expect_err("it may wait for ever")), Refusal::OtherCluster);
    let refused = world.dictionary(0).scan(ScanRequest { cluster: before, ..page.clone() }).await;
    assert_eq!(refusal(refused.expect_err("it may be of another history")), Refusal::OtherCluster);
    let again = world.dictionary(0).scan(ScanRequest { cluster: own.clone(), ..page.clone() }).await;
    assert_eq!(again.expect("the same page").into_inner().entries, scanned.entries);
    let (_, told) = watch(&world, 0, WatchRequest { cluster: own, ..all(Some(2)) }).await;
    assert_eq!(told, 1);
    let nonsense = world.dictionary(0).scan(ScanRequest { cluster: "mine".to_owned(), ..page }).await;
    assert_eq!(nonsense.expect_err("no name of a cluster").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_range_that_no_key_can_be_in_is_refused() {
    let world = World::start(1, &[]).await;
    world.primary().await;
    let long = WatchRequest { start: vec![b'k'; 4_098].into(), ..Default::default() };
    for request in [prefix("b", "a", None), prefix("a", "a", None), long] {
        let status = world.dictionary(0).watch(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let longest = WatchRequest { start: vec![b'k'; 4_096].into(), end: Some(vec![b'l'; 4_097].into()), ..all(None) };
    watch(&world, 0, longest).await;
}
