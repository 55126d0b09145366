//! Scans by the library against fake servers on real connections.

mod fake;

use std::time::Duration;

use fake::{Fake, PAGE_COUNT, Script, Shared, cluster};
use heirloom::{BadInput, Client, Error, Scan, ScanOptions, ServerId, Version};
use heirloom_proto::Refusal;

/// Three servers with five keys under `k`, and one on either side.
async fn filled() -> (Shared, Vec<Fake>, Client) {
    let (shared, servers) = cluster(3);
    let addresses = shared.lock().addresses.clone();
    let client = Client::connect(addresses).await.expect("good addresses");
    for key in ["j", "k1", "k2", "k3", "k4", "k5", "l"] {
        client.add(key, key.to_uppercase()).await.expect("the cluster serves");
    }
    (shared, servers, client)
}

/// The keys that are left, with their values.
async fn rest(scan: &mut Scan) -> Vec<String> {
    let mut keys = Vec::new();
    while let Some(entry) = scan.next().await.expect("served") {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        keys.push(format!("{}={}", text(&entry.key), text(&entry.value)));
    }
    keys
}

fn pages_asked(shared: &Shared) -> usize {
    let world = shared.lock();
    world.requests.iter().filter(|(server, words)| *server == world.primary && words == "Scan").count()
}

#[tokio::test]
async fn a_scan_gives_every_key_of_its_range_once_in_order_and_at_one_version() {
    let (shared, _servers, client) = filled().await;
    let mut scan = client.scan("k");
    assert_eq!(scan.version(), None, "nothing is asked before the first key is");
    let first = scan.next().await.expect("served").expect("there");
    assert_eq!((&first.key[..], first.version), (&b"k1"[..], Version(2)));
    let fixed = scan.version();
    client.add("other", "change").await.expect("served");
    assert_eq!(rest(&mut scan).await, ["k2=K2", "k3=K3", "k4=K4", "k5=K5"]);
    assert_eq!(
        (scan.version(), fixed),
        (Some(Version(7)), Some(Version(7))),
        "later pages name the first one's version"
    );
    assert_eq!(pages_asked(&shared), 5_usize.div_ceil(PAGE_COUNT));
    assert_eq!(scan.next().await.expect("served"), None, "it stays at its end");
    assert_eq!(rest(&mut client.scan("m")).await, Vec::<String>::new());
}

#[tokio::test]
async fn start_end_limit_and_keys_only_are_kept() {
    let (shared, _servers, client) = filled().await;
    let scanned = async |options: ScanOptions| rest(&mut client.scan_with(options)).await;
    let part = || ScanOptions::between("k2", "k5");
    assert_eq!(scanned(part()).await, ["k2=K2", "k3=K3", "k4=K4"]);
    assert_eq!(scanned(ScanOptions { keys_only: true, ..part() }).await, ["k2=", "k3=", "k4="]);
    assert_eq!(scanned(ScanOptions::between("l", "k")).await, Vec::<String>::new());
    let before = pages_asked(&shared);
    assert_eq!(scanned(ScanOptions { limit: Some(3), ..ScanOptions::default() }).await, ["j=J", "k1=K1", "k2=K2"]);
    assert_eq!(pages_asked(&shared), before + 2, "what the limit leaves out is not asked for");
    assert_eq!(scanned(ScanOptions { limit: Some(0), ..ScanOptions::default() }).await, Vec::<String>::new());
    let long = client.scan(vec![b'k'; 5_000]).next().await.expect_err("longer than any key");
    assert_eq!(long, Error::BadInput(BadInput::Key { bytes: 5_000 }));
}

#[tokio::test]
async fn a_next_that_is_dropped_before_its_page_came_loses_nothing() {
    let (shared, _servers, client) = filled().await;
    let mut scan = client.scan("k");
    for _ in 0..PAGE_COUNT {
        scan.next().await.expect("served").expect("there");
    }
    let asked = pages_asked(&shared);
    shared.script(0, [Script::Swallow]);
    let sent = async {
        while pages_asked(&shared) == asked {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        came = scan.next() => panic!("{came:?}"),
        () = sent => {}
    }
    assert_eq!(rest(&mut scan).await, ["k3=K3", "k4=K4", "k5=K5"]);
}

#[tokio::test]
async fn a_version_that_is_no_longer_kept_ends_the_scan_and_names_the_oldest_that_is() {
    let (shared, _servers, client) = filled().await;
    let mut scan = client.scan("k");
    for _ in 0..PAGE_COUNT {
        scan.next().await.expect("served").expect("there");
    }
    let oldest = Version(77);
    // One server that no longer keeps it says nothing of the others: all are asked.
    for server in 0..3 {
        shared.script(server, [Script::Refuse(Refusal::VersionTooOld { oldest })]);
    }
    let error = scan.next().await.expect_err("refused");
    assert_eq!(error.refusal(), Some(&Refusal::VersionTooOld { oldest }));
    let text = error.to_string();
    assert!(text.contains("scan \"k\"") && text.contains("version 77") && text.contains("begin anew"), "{text}");
}

#[tokio::test]
async fn a_scan_goes_on_after_a_page_that_nobody_answered_in_time() {
    let (shared, _servers, client) = filled().await;
    let mut scan = client.with_timeout(Duration::from_millis(400)).scan("k");
    for _ in 0..PAGE_COUNT {
        scan.next().await.expect("served").expect("there");
    }
    for server in 0..3 {
        shared.script(server, vec![Script::Swallow; 100]);
    }
    assert!(matches!(scan.next().await, Err(Error::NotApplied(_))));
    for server in 0..3 {
        shared.lock().scripts.remove(&server);
    }
    assert_eq!(rest(&mut scan).await, ["k3=K3", "k4=K4", "k5=K5"]);
}

#[tokio::test]
async fn a_page_that_holds_nothing_is_gone_on_from() {
    let (shared, _servers, client) = filled().await;
    let mut scan = client.scan_with(ScanOptions { from: Some(ServerId(0)), ..ScanOptions::prefix("k") });
    scan.next().await.expect("served").expect("there");
    scan.next().await.expect("served").expect("there");
    shared.script(0, [Script::Hollow]);
    // What the hollow page passed over was newer, as far as the client can know.
    assert_eq!(rest(&mut scan).await, ["k4=K4", "k5=K5"]);
}

#[tokio::test]
async fn a_scan_does_not_go_on_in_a_cluster_that_was_set_back() {
    let (shared, _servers, client) = filled().await;
    let mut scan = client.scan("k");
    for _ in 0..PAGE_COUNT {
        scan.next().await.expect("served").expect("there");
    }
    shared.lock().set_back = 1;
    let error = scan.next().await.expect_err("its versions mean something else");
    assert_eq!(error.refusal(), Some(&Refusal::OtherCluster));
    assert!(error.to_string().contains("set back"), "{error}");
}
