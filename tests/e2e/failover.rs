//! The primary or a backup is lost while clients write.

use std::time::Duration;

use rustix::process::Signal;

use crate::world::writer::Writer;
use crate::world::{Cluster, code, stdout};

/// Where a test says who leads, a busy machine must not make a living server look silent. A death is proven all the same.
const PATIENT: &[&str] = &["--suspicion", "10s"];

#[tokio::test]
async fn a_primary_killed_again_and_again_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(3, 0, PATIENT);
    let mut primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let writer = Writer::start(cluster.client().await, "killed");
    for _ in 0..5 {
        cluster.kill(primary);
        let rest: Vec<u32> = (0..3).filter(|id| *id != primary as u32).collect();
        let next = cluster.wait_for_members(&rest).await;
        cluster.start_server(primary);
        assert_eq!(cluster.wait_for_members(&[0, 1, 2]).await, next, "no fail-back");
        primary = next;
    }
    let account = writer.stop().await;
    assert!(account.acknowledged.len() > 50, "{account:?}");
    assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
    account.check(&cluster).await;
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn a_stopped_primary_is_replaced_and_follows_when_it_goes_on() {
    let cluster = Cluster::start(3, 0, &[]);
    let primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await;
    let writer = Writer::start(client.clone(), "stopped");
    client.add("the key", "old").await.expect("added");
    cluster.signal(primary, Signal::STOP);
    let rest: Vec<u32> = (0..3).filter(|id| *id != primary as u32).collect();
    let others: Vec<&str> = rest.iter().map(|id| cluster.servers[*id as usize].address.as_str()).collect();
    let other = heirloom::Client::connect(others).await.expect("a client");
    other.add("the key", "new").await.expect("added by the others");
    // Asked while it is stopped, it answers when it goes on: by then it must know better than its memory.
    let stopped = cluster.servers[primary].address.clone();
    let asked = tokio::spawn(async move {
        let client = heirloom::Client::connect([stopped]).await.expect("a client");
        client.read("the key").await
    });
    cluster.signal(primary, Signal::CONT);
    if let Ok(entry) = asked.await.expect("no panic") {
        assert_eq!(entry.expect("it was added").value, "new", "a stale answer");
    }
    cluster.wait_for_members(&[0, 1, 2]).await;
    let mut account = writer.stop().await;
    assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
    // The key that was added twice on purpose counts once as a key.
    client.delete("the key").await.expect("deleted");
    account.acknowledged.sort();
    for key in &account.acknowledged {
        assert!(client.read(key).await.expect("read").is_some(), "{key} was acknowledged and is gone");
    }
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn backups_killed_in_any_order_lose_nothing_and_delay_nobody_beyond_the_deadline() {
    for order in [[1, 2], [2, 1]] {
        let mut cluster = Cluster::start(3, 0, PATIENT);
        assert_eq!(cluster.wait_for_members(&[0, 1, 2]).await, 0);
        let writer = Writer::start(cluster.client().await, "backups");
        for backup in order {
            cluster.kill(backup);
            let rest: Vec<u32> = (0..3).filter(|id| *id != backup as u32).collect();
            assert_eq!(cluster.wait_for_members(&rest).await, 0);
            cluster.start_server(backup);
            assert_eq!(cluster.wait_for_members(&[0, 1, 2]).await, 0);
        }
        let account = writer.stop().await;
        assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
        account.check(&cluster).await;
        cluster.wait_until_equal().await;
    }
}

#[tokio::test]
async fn without_a_quorum_commands_end_with_3_and_all_is_there_again_when_servers_return() {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0);
    cluster.kill(1);
    cluster.kill(2);
    for args in [vec!["add", "k", "w"], vec!["read", "k"], vec!["delete", "k"]] {
        let output = cluster.run(&[args.as_slice(), &["--timeout", "1s"]].concat());
        assert_eq!(code(&output), 3, "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    cluster.start_server(1);
    cluster.start_server(2);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let read = cluster.run(&["read", "k"]);
    // The add and the delete of unknown outcome may have taken effect since; nothing else may.
    assert!(code(&read) == 1 || ["v\n", "w\n"].contains(&stdout(&read).as_str()), "{read:?}");
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn a_planned_hand_over_is_seen_by_no_writer() {
    let cluster = Cluster::start(3, 0, PATIENT);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let writer = Writer::start(cluster.client().await, "handed");
    for target in ["2", "0", "1"] {
        let output = cluster.run(&["promote", target]);
        assert_eq!(code(&output), 0, "{output:?}\n{}", cluster.logs());
        let now = cluster.wait_for_members(&[0, 1, 2]).await;
        assert_eq!(now.to_string(), target, "{}", cluster.logs());
    }
    let account = writer.stop().await;
    assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
    account.check(&cluster).await;
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn two_data_servers_with_a_witness_survive_the_loss_of_either() {
    let mut cluster = Cluster::start(2, 1, PATIENT);
    let first = cluster.wait_for_members(&[0, 1]).await;
    let writer = Writer::start(cluster.client().await, "witnessed");
    cluster.kill(first);
    let second = cluster.wait_for_members(&[1 - first as u32]).await;
    cluster.start_server(first);
    cluster.wait_for_members(&[0, 1]).await;
    cluster.kill(second);
    cluster.wait_for_members(&[first as u32]).await;
    cluster.start_server(second);
    cluster.wait_for_members(&[0, 1]).await;
    let account = writer.stop().await;
    assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
    account.check(&cluster).await;
    cluster.wait_until_equal().await;
    assert!(account.longest_gap < Duration::from_secs(5));
}
