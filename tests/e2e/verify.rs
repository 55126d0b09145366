//! Whether the copies are equal, as an operator asks it.

use std::process::Output;

use serde_json::Value;

use crate::scans::fill;
use crate::world::writer::Writer;
use crate::world::{Cluster, code, run_with, stderr, stdout};

/// Some pages.
const KEYS: usize = 3_000;

/// One object a line.
fn objects(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// The objects of this kind.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_equal_while_writes_go_on() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    fill(&cluster, KEYS).await;
    let writer = Writer::start(cluster.client().await, "during");
    for args in [&["verify"][..], &["verify", "--keys"], &["verify", "--keys", "--output", "json"]] {
        let before = writer.acknowledged();
        let output = cluster.run(args);
        assert_eq!(code(&output), 0, "{args:?}: {output:?}\n{}", cluster.logs());
        if args.contains(&"json") {
            let objects = objects(&output);
            let summary = of_kind(&objects, "summary")[0];
            assert_eq!((&summary["result"], &summary["differing"]), (&"equal".into(), &0.into()), "{summary}");
            let wanted = (KEYS + before) as u64;
            assert!(summary["keys"].as_u64().is_some_and(|keys| keys >= wanted), "{wanted}: {summary}");
            assert_eq!(of_kind(&objects, "server").len(), 3);
        }
    }
    let account = writer.stop().await;
    assert!(account.failed.is_empty() && account.unknown.is_empty(), "{account:?}");
    cluster.wait_until_equal().await;
    let still = cluster.run(&["verify"]);
    assert_eq!(code(&still), 0, "{still:?}");
    let said = stdout(&still);
    assert_eq!(said.lines().filter(|line| line.ends_with(": equal")).count(), 3, "{said}");
    assert!(said.lines().last().is_some_and(|line| line.ends_with(": servers 0, 1, 2")), "{said}");
}

#[tokio::test]
async fn a_dead_server_is_named_and_the_others_are_compared() {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0);
    cluster.kill(1);
    cluster.wait_for_members(&[0, 2]).await;
    for args in [&["verify"][..], &["verify", "--keys"]] {
        let output = cluster.run(args);
        assert_eq!(code(&output), 3, "{output:?}");
        let dead = format!("server 1 at {}: connection refused", cluster.servers[1].address);
        assert!(stderr(&output).contains(&dead), "{output:?}");
        assert!(stdout(&output).contains(": servers 0, 2"), "{output:?}");
    }
    let keys = stdout(&cluster.run(&["verify", "--keys"]));
    assert!(keys.contains("1 key at version 1, of servers 0, 2: all equal"), "{keys}");
    cluster.start_server(1);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let back = cluster.run(&["verify", "--keys"]);
    assert_eq!(code(&back), 0, "{back:?}");
}

#[tokio::test]
async fn a_witness_is_not_missed() {
    let mut cluster = Cluster::start(2, 1, &[]);
    cluster.wait_for_members(&[0, 1]).await;
    let output = cluster.run(&["verify", "--keys"]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(stdout(&output).contains("a witness, which keeps no data"), "{output:?}");
    cluster.kill(2);
    let output = cluster.run(&["verify"]);
    assert_eq!(code(&output), 0, "{output:?}");
}

#[tokio::test]
async fn nobody_to_compare_is_said_and_bad_usage_is_refused() {
    let cluster = Cluster::start(1, 0, &[]);
    cluster.wait_for_members(&[0]).await;
    let alone = cluster.run(&["verify", "--keys"]);
    assert_eq!(code(&alone), 0, "{alone:?}");
    assert!(stdout(&alone).contains("nothing to compare"), "{alone:?}");
    assert_eq!(code(&cluster.run(&["verify", "key"])), 2);
    let nobody = run_with("127.0.0.1:1", &["verify", "--timeout", "500ms"]);
    assert_eq!(code(&nobody), 3, "{nobody:?}");
    assert!(stderr(&nobody).contains("127.0.0.1:1: connection refused"), "{nobody:?}");
}

/// What no operator should do: both servers of a cluster are told to go on alone, and do not hear of each other. Gives the
/// two worlds; server 0 runs in the first and server 1 in the second.
async fn parted() -> [Cluster; 2] {
    let mut one = Cluster::start(2, 0, &[]);
    one.wait_for_members(&[0, 1]).await;
    for key in ["a", "b", "c"] {
        assert_eq!(code(&one.run(&["add", key, "before"])), 0);
    }
    one.wait_until_equal().await;
    one.stop(1);
    one.stop(0);
    let mut other = Cluster::prepare(2, 0, &[]);
    other.servers[1].data_dir.clone_from(&one.servers[1].data_dir);
    for id in 0..2 {
        let recovered = one.recover(id, &["--accept-losing-newer-writes"]);
        assert_eq!(code(&recovered), 0, "{recovered:?}");
    }
    one.start_server(0);
    other.start_server(1);
    one.wait_for_members(&[0]).await;
    other.wait_for_members(&[1]).await;
    [one, other]
}

#[tokio::test]
async fn copies_that_went_their_own_ways_are_found_to_differ_and_in_which_keys() {
    let [one, other] = parted().await;
    for (key, here, there) in [("b", "one", "two"), ("same", "v", "v"), ("c", "3", "33")] {
        assert_eq!(code(&one.run(&["add", key, here])), 0);
        assert_eq!(code(&other.run(&["add", key, there])), 0);
    }
    assert_eq!(code(&one.run(&["delete", "a"])), 0);
    assert_eq!(code(&other.run(&["add", "z", "only here"])), 0);
    let both = format!("{},{}", one.servers[0].address, other.servers[1].address);
    let output = run_with(&both, &["verify"]);
    assert_eq!(code(&output), 4, "{output:?}");
    assert!(stderr(&output).contains("integrity: replicas differ"), "{output:?}");
    let said = stdout(&output);
    for key in ["a", "b", "c", "z", "same"] {
        // The times of the changes differ, of what was changed to the same too.
        assert!(said.contains(&format!("\"{key}\" differs: server 0 has ")), "{key}: {said}");
    }
    assert!(said.contains("\"a\" differs: server 0 has nothing; server 1 has version 1, 6 bytes"), "{said}");
    let told = objects(&run_with(&both, &["verify", "--keys", "--output", "json"]));
    let keys: Vec<&str> = of_kind(&told, "key").iter().filter_map(|told| told["key"].as_str()).collect();
    assert_eq!(keys, ["a", "b", "c", "same", "z"]);
    let summary = of_kind(&told, "summary")[0];
    assert_eq!((&summary["result"], &summary["differing"]), (&"differ".into(), &5.into()), "{summary}");
}
