//! Reads at every member.

use heirloom_proto::wire::v1::{AddRequest, Consistency, ReadRequest};

use crate::world::World;

fn read(key: &'static str) -> ReadRequest {
    ReadRequest { key: key.into(), ..Default::default() }
}

async fn leased(options: &[&str]) -> World {
    let world = World::start(3, options).await;
    world.primary().await;
    let add = AddRequest { key: "key".into(), value: "value".into(), ..Default::default() };
    world.dictionary(0).add(add).await.expect("added");
    world
}

#[tokio::test]
async fn every_member_answers_a_read_by_itself_and_counts_it() {
    // Leases so long that no pause of a busy machine ends them.
    let world = leased(&["--lease", "30s", "--suspicion", "30s"]).await;
    for server in 0..3 {
        world.status(server, "a holder of a lease", |status| status.lease_ms.is_some()).await;
        let found = world.dictionary(server).read(read("key")).await.expect("read").into_inner();
        assert_eq!((found.value.as_ref(), found.local), (&b"value"[..], true));
        assert_eq!((found.server as usize, found.seen_version), (server, 1));
        let absent = world.dictionary(server).read(read("other")).await.expect("read").into_inner();
        assert_eq!((absent.found, absent.local, absent.seen_version), (false, true, 1));
        let counted = |status: &heirloom_proto::wire::v1::StatusResponse| {
            status.reads.is_some_and(|reads| reads.local + reads.waited == 2 && reads.forwarded == 0)
        };
        world.status(server, "one that has counted two reads", counted).await;
    }
}

#[tokio::test]
async fn without_leases_the_primary_asks_the_voters_and_the_others_ask_it() {
    let world = leased(&["--lease", "0"]).await;
    let primary = world.primary().await;
    for server in 0..3 {
        let found = world.dictionary(server).read(read("key")).await.expect("read").into_inner();
        assert_eq!((found.value.as_ref(), found.local, found.server as usize), (&b"value"[..], false, primary));
        let stale = ReadRequest { consistency: Consistency::Stale.into(), ..read("key") };
        let found = world.dictionary(server).read(stale).await.expect("read").into_inner();
        assert_eq!((found.local, found.server as usize), (true, server));
    }
}

#[tokio::test]
async fn a_causal_read_sees_what_its_client_names_at_any_server() {
    let world = leased(&[]).await;
    for round in 0_u64..20 {
        let add = AddRequest { key: "key".into(), value: round.to_string().into(), ..Default::default() };
        let version = world.dictionary(0).add(add).await.expect("added").into_inner().version;
        for server in 0..3 {
            let causal = Consistency::Causal.into();
            let request = ReadRequest { consistency: causal, at_least_version: version, ..read("key") };
            let found = world.dictionary(server).read(request).await.expect("read").into_inner();
            assert_eq!(found.value, round.to_string(), "at server {server}");
        }
    }
    let request = ReadRequest { consistency: Consistency::Causal.into(), at_least_version: 1_000, ..read("key") };
    let status = world.dictionary(1).read(request).await.expect_err("no such version");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
}
