//! Scans at every member, page by page.

use heirloom_proto::wire::v1::{AddRequest, DeleteRequest, ScanRequest, ScanResponse};
use tonic::Code;

use crate::world::World;

async fn add(world: &World, key: String) {
    let add = AddRequest { value: key.to_uppercase().into(), key: key.into(), ..Default::default() };
    world.dictionary(0).add(add).await.expect("added");
}

async fn filled(options: &[&str]) -> World {
    let world = World::start(3, options).await;
    world.primary().await;
    for number in 0..10 {
        add(&world, format!("k{number}")).await;
    }
    world
}

/// The keys of a page.
fn keys(page: &ScanResponse) -> Vec<String> {
    page.entries.iter().map(|entry| String::from_utf8(entry.key.to_vec()).expect("text")).collect()
}

#[tokio::test]
async fn any_language_pages_through_a_range_over_all_servers_at_one_version() {
    let world = filled(&["--lease", "30s", "--suspicion", "30s"]).await;
    for server in 0..3 {
        world.status(server, "a holder of a lease", |status| status.lease_ms.is_some()).await;
    }
    let mut request = ScanRequest { start: "k".into(), limit: 3, ..Default::default() };
    let (mut found, mut version) = (Vec::new(), None);
    for server in [0, 1, 2, 1] {
        let page = world.dictionary(server).scan(request.clone()).await.expect("a page").into_inner();
        assert_eq!((page.server as usize, page.local), (server, true), "{page:?}");
        assert!(page.entries.iter().all(|entry| entry.value == entry.key.to_ascii_uppercase() && entry.version > 0));
        assert_eq!(*version.get_or_insert(page.version), page.version);
        found.extend(keys(&page));
        // Whatever changes between the pages.
        add(&world, format!("k{server}+")).await;
        let gone = DeleteRequest { key: "k9".into(), ..Default::default() };
        world.dictionary(0).delete(gone).await.expect("deleted");
        match page.next {
            Some(next) => request = ScanRequest { start: next, at_version: version, ..request },
            None => break,
        }
    }
    let expected: Vec<String> = (0..10).map(|number| format!("k{number}")).collect();
    assert_eq!(found, expected);
    let fresh = world.dictionary(2).scan(ScanRequest { limit: 0, ..request.clone() }).await;
    assert_eq!(
        fresh.expect("a page").into_inner().version,
        version.expect("pages came"),
        "a version asked for is kept to"
    );
    world
        .status(2, "one that has counted two pages", |status| {
            status.reads.is_some_and(|reads| reads.local + reads.waited == 2)
        })
        .await;
}

#[tokio::test]
async fn without_leases_a_scan_goes_to_the_primary_and_its_later_pages_to_anybody() {
    let world = filled(&["--lease", "0"]).await;
    let primary = world.primary().await;
    for server in 0..3 {
        let first = ScanRequest { limit: 4, keys_only: true, ..Default::default() };
        let page = world.dictionary(server).scan(first.clone()).await.expect("a page").into_inner();
        assert_eq!((page.server as usize, page.local), (primary, false));
        assert_eq!(keys(&page), ["k0", "k1", "k2", "k3"]);
        assert!(page.entries.iter().all(|entry| entry.value.is_empty()));
        let later = ScanRequest { start: page.next.expect("more"), at_version: Some(page.version), ..first };
        let page = world.dictionary(server).scan(later).await.expect("a page").into_inner();
        assert_eq!((page.server as usize, page.local), (server, true));
        assert_eq!(keys(&page), ["k4", "k5", "k6", "k7"]);
    }
}

#[tokio::test]
async fn a_scan_out_of_bounds_is_refused_in_words() {
    let world = filled(&[]).await;
    let ahead = ScanRequest { at_version: Some(1_000), ..Default::default() };
    let status = world.dictionary(1).scan(ahead).await.expect_err("no such version");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let long = ScanRequest { start: vec![b'k'; 5_000].into(), ..Default::default() };
    let status = world.dictionary(1).scan(long).await.expect_err("longer than a key");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let backwards = ScanRequest { start: "k5".into(), end: Some("k2".into()), ..Default::default() };
    let page = world.dictionary(1).scan(backwards).await.expect("a page").into_inner();
    assert_eq!((page.entries.len(), page.next), (0, None));
}
