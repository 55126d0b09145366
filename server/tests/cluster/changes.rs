//! Conditions, change sets and appended values, at all servers.

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_proto::wire::v1::{
    AddRequest, AppendRequest, ChangeSetRequest, Condition, DeleteRequest, KeyChange, OpenSessionRequest, ReadRequest,
    RequestId,
};
use tonic::Code;

use crate::world::World;

#[tokio::test]
async fn one_of_all_that_add_a_key_if_it_is_absent_does() {
    let world = World::start(3, &[]).await;
    world.primary().await;
    let tasks: Vec<_> = (0..12)
        .map(|task: usize| {
            let mut client = world.dictionary(task % 3);
            let request =
                AddRequest { key: "k".into(), value: task.to_string().into(), if_absent: true, ..Default::default() };
            tokio::spawn(async move { client.add(request).await.expect("answered").into_inner() })
        })
        .collect();
    let mut done = Vec::new();
    let mut found = Vec::new();
    for (task, answer) in tasks.into_iter().enumerate() {
        let answer = answer.await.expect("no panic");
        match answer.not_met {
            None => done.push((task, answer.version)),
            Some(not_met) => found.push(not_met.found_version),
        }
    }
    let [(winner, version)] = done[..] else { panic!("done by {done:?}") };
    assert_eq!(found, [Some(version); 11]);
    let read = ReadRequest { key: "k".into(), ..Default::default() };
    assert_eq!(world.dictionary(1).read(read).await.expect("read").into_inner().value, winner.to_string());
    let delete = |version| DeleteRequest { key: "k".into(), if_version: Some(version), ..Default::default() };
    let late = world.dictionary(2).delete(delete(version + 1)).await.expect("answered").into_inner();
    assert_eq!(late.not_met.expect("not met").found_version, Some(version));
    assert!(world.dictionary(2).delete(delete(version)).await.expect("answered").into_inner().not_met.is_none());
    let both = AddRequest { key: "k".into(), if_absent: true, if_version: Some(1), ..Default::default() };
    assert_eq!(world.dictionary(0).add(both).await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn appends_by_many_at_all_servers_are_numbered_without_gap_or_repeat() {
    const TASKS: u64 = 8;
    const EACH: u64 = 25;
    let world = World::start(3, &[]).await;
    let primary = world.primary().await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let mut client = world.dictionary(usize::try_from(task % 3).expect("small"));
            tokio::spawn(async move {
                let opened = client.open_session(OpenSessionRequest::default()).await.expect("opened").into_inner();
                let mut made = Vec::new();
                for sequence in 1..=EACH {
                    let request_id = Some(RequestId { session: opened.session, sequence, lowest_unanswered: sequence });
                    let value = Bytes::from(format!("{task}-{sequence}"));
                    let request =
                        AppendRequest { prefix: "log/".into(), value: value.clone(), request_id, ..Default::default() };
                    let first = client.append(request.clone()).await.expect("appended").into_inner();
                    let again = client.append(request).await.expect("answered").into_inner();
                    assert_eq!((again.number, again.version), (first.number, first.version), "a retry");
                    made.push((first, value));
                }
                made
            })
        })
        .collect();
    let mut values = BTreeMap::new();
    for task in tasks {
        for (answer, value) in task.await.expect("no panic") {
            assert_eq!(answer.key, format!("log/{:020}", answer.number));
            assert_eq!((answer.copies, answer.server as usize), (3, primary));
            assert_eq!(values.insert(answer.number, value), None, "{} is given twice", answer.number);
        }
    }
    assert!(values.keys().copied().eq(1..=TASKS * EACH), "{:?}", values.keys());
    for (number, value) in values {
        let read = ReadRequest { key: format!("log/{number:020}").into(), ..Default::default() };
        assert_eq!(world.dictionary(2).read(read).await.expect("read").into_inner().value, value);
    }
}

#[tokio::test]
async fn a_change_set_is_taken_by_any_server_and_changes_all_or_nothing() {
    let world = World::start(3, &[]).await;
    let primary = world.primary().await;
    let set = ChangeSetRequest {
        conditions: vec![Condition { key: "a".into(), version: None }],
        changes: vec![
            KeyChange { key: "a".into(), value: Some("1".into()) },
            KeyChange { key: "b".into(), value: Some(Bytes::new()) },
        ],
        ..Default::default()
    };
    let mut other = world.dictionary((primary + 1) % 3);
    let done = other.change_set(set.clone()).await.expect("answered").into_inner();
    assert!(done.not_met.is_none());
    for key in ["a", "b"] {
        let read = ReadRequest { key: key.into(), ..Default::default() };
        let found = other.read(read).await.expect("read").into_inner();
        assert_eq!((found.found, found.version), (true, done.version), "{key}");
    }
    let again = other.change_set(set).await.expect("answered").into_inner().not_met.expect("not met");
    assert_eq!((again.condition, again.found_version), (0, Some(done.version)));
    let empty = ChangeSetRequest::default();
    assert_eq!(other.change_set(empty).await.expect_err("refused").code(), Code::InvalidArgument);
}
