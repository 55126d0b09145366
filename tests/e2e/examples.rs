//! The library's examples, run as they stand.

#[allow(dead_code, unreachable_pub, missing_docs, reason = "an example is a program of its own")]
#[path = "../../client/examples/counter.rs"]
mod counter;
#[allow(dead_code, unreachable_pub, missing_docs, reason = "an example is a program of its own")]
#[path = "../../client/examples/first_steps.rs"]
mod first_steps;
#[allow(dead_code, unreachable_pub, missing_docs, reason = "an example is a program of its own")]
#[path = "../../client/examples/mirror.rs"]
mod mirror;

use tokio::task::JoinSet;

use crate::world::Cluster;

#[tokio::test]
async fn the_first_steps_work() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await;
    first_steps::run(&client).await.expect("every step");
    assert_eq!(client.read("first_steps/word").await.expect("read"), None);
    assert!(client.read("first_steps/moved").await.expect("read").is_some());
}

#[tokio::test]
async fn a_counter_that_many_raise_counts_each_step() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let client = cluster.client().await;
        tasks.spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..10 {
                seen.push(counter::raise(&client, "counter").await.expect("raised"));
            }
            seen
        });
    }
    let mut seen: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_mirror_has_what_was_there_before_and_what_came_since() {
    let mut cluster = Cluster::start(3, 0, &[]);
    let primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await;
    for key in ["m/a", "m/b", "other"] {
        client.add(key, "before").await.expect("added");
    }
    let mut mirror = mirror::Mirror::of(&client, "m/").await.expect("scanned");
    assert_eq!(mirror.keys().len(), 2);
    client.delete("m/a").await.expect("deleted");
    cluster.kill(primary);
    let last = client.add("m/c", "since").await.expect("added by the next primary");
    while mirror.version() < last.version {
        mirror.follow().await.expect("told");
    }
    let keys: Vec<(&[u8], &[u8])> =
        mirror.keys().iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
    assert_eq!(keys, [(&b"m/b"[..], &b"before"[..]), (b"m/c", b"since")]);
}
