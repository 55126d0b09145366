//! Scans, by the command and by the library.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use heirloom::ScanOptions;

use crate::world::{Cluster, HEIRLOOM, code, stderr, stdout, wait_with_limit};

async fn started(servers: usize) -> Cluster {
    let cluster = Cluster::start(servers, 0, &[]);
    let all: Vec<u32> = (0..u32::try_from(servers).expect("few")).collect();
    cluster.wait_for_members(&all).await;
    cluster
}

/// Adds so many keys with values of 1 KiB, many at a time.
pub(crate) async fn fill(cluster: &Cluster, keys: usize) {
    let client = cluster.client().await;
    let value = Arc::new("v".repeat(1 << 10));
    let tasks: Vec<_> = (0..keys)
        .map(|number| {
            let (client, value) = (client.clone(), value.clone());
            tokio::spawn(async move { client.add(format!("many/{number:05}"), value.to_string()).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("added");
    }
}

#[tokio::test]
async fn scan_prints_keys_in_order_for_people_and_for_programs() {
    let cluster = started(3).await;
    for (key, value) in [("b/2", "two"), ("a", "first"), ("b/1", "one"), ("c", "last")] {
        assert_eq!(code(&cluster.run(&["add", key, value])), 0);
    }
    let scanned = |args: &[&str]| {
        let output = cluster.run(&[&["scan"], args].concat());
        assert_eq!(code(&output), 0, "{output:?}");
        stdout(&output)
    };
    assert_eq!(scanned(&[]), "a\tfirst\nb/1\tone\nb/2\ttwo\nc\tlast\n");
    assert_eq!(scanned(&["b/"]), "b/1\tone\nb/2\ttwo\n");
    assert_eq!(scanned(&["--start", "b", "--end", "b/2", "--keys-only"]), "b/1\n");
    assert_eq!(scanned(&["--limit", "1"]), "a\tfirst\n");
    assert_eq!(scanned(&["nothing"]), "", "no key is no error");
    for server in ["0", "1", "2"] {
        for mode in ["linearizable", "causal", "stale"] {
            assert_eq!(scanned(&["--from", server, "--consistency", mode, "c"]), "c\tlast\n", "{server} {mode}");
        }
    }
    assert_eq!(code(&crate::world::run_with_input(&cluster.addresses(), &["add", "raw", "-"], b"\xff\0")), 0);
    let lines = scanned(&["--output", "json", "--start", "c"]);
    let told: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert_eq!((&told[0]["key"], &told[0]["value"], &told[0]["version"]), (&"c".into(), &"last".into(), &4.into()));
    assert_eq!((&told[1]["key"], &told[1]["value_base64"]), (&"raw".into(), &"/wA=".into()));
    assert!(told.iter().all(|told| told["seen_version"] == 5 && told["server"].is_u64() && told["epoch"].is_u64()));
    let keys = scanned(&["--output", "json", "--keys-only", "raw"]);
    assert!(keys.contains("\"key\":\"raw\"") && !keys.contains("value"), "{keys}");
}

#[tokio::test]
async fn a_scan_that_is_asked_wrongly_or_of_nobody_says_so() {
    let cluster = started(1).await;
    let both = cluster.run(&["scan", "prefix", "--start", "key"]);
    assert_eq!(code(&both), 2, "{both:?}");
    let long = cluster.run(&["scan", &"k".repeat(5_000)]);
    assert_eq!(code(&long), 2, "{long:?}");
    for asked in [&["scan", "k"][..], &["read", "k"], &["watch"]] {
        let nobody = cluster.run(&[asked, &["--from", "7", "--timeout", "1s"]].concat());
        assert_eq!(code(&nobody), 2, "{nobody:?}");
        assert!(stderr(&nobody).contains("the cluster has no server 7: its servers are 0 to 0"), "{nobody:?}");
    }
}

#[tokio::test]
async fn a_scan_whose_reader_has_enough_ends_quietly() {
    let cluster = started(1).await;
    fill(&cluster, 2_000).await;
    let mut scan = Command::new(HEIRLOOM)
        .args(["scan", "--servers", &cluster.addresses()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = String::new();
    let mut out = BufReader::new(scan.stdout.take().expect("piped"));
    out.read_line(&mut first).expect("a line");
    assert!(first.starts_with("many/00000\tvvv"), "{first}");
    drop(out);
    assert_eq!(wait_with_limit(&mut scan), 0);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut scan.stderr.take().expect("piped"), &mut said).expect("text");
    assert_eq!(said, "");
}

#[tokio::test]
async fn a_scan_of_the_library_is_of_one_version_while_others_write_and_a_server_dies() {
    let mut cluster = started(3).await;
    fill(&cluster, 5_000).await;
    let client = cluster.client().await;
    let mut scan = client.scan_with(ScanOptions::prefix("many/"));
    let mut found = 0;
    while let Some(entry) = scan.next().await.expect("served") {
        assert_eq!(entry.key, format!("many/{found:05}"));
        assert!(entry.value.starts_with(b"v"), "a value that was added later");
        found += 1;
        if found % 1_000 == 500 {
            client.add(format!("many/{:05}", found + 700), "later").await.expect("added");
            client.delete(format!("many/{:05}", found + 701)).await.expect("deleted");
            client.add(format!("many/{found:05}+"), "later").await.expect("added");
        }
        if found == 2_500 {
            let primary = cluster.wait_for_members(&[0, 1, 2]).await;
            cluster.kill(primary);
        }
    }
    assert_eq!(found, 5_000);
}
