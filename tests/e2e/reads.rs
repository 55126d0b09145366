//! Reads from chosen servers and as fresh as asked, by the command and by the library.

use crate::commands::json;
use crate::world::{Cluster, code, stderr};
use heirloom::{Consistency, ReadOptions, ServerId};

/// Leases so long that no pause of a busy machine ends them; all hold one.
async fn leased() -> Cluster {
    let cluster = Cluster::start(3, 0, &["--lease", "30s", "--suspicion", "30s"]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0);
    let all_hold_one = |status: &Option<heirloom_proto::wire::v1::StatusResponse>| {
        status.as_ref().is_some_and(|status| status.lease_ms.is_some())
    };
    cluster.wait_until("leases", |all| all.iter().all(all_hold_one)).await;
    cluster
}

#[tokio::test]
async fn a_read_from_a_server_is_answered_there_in_every_mode() {
    let cluster = leased().await;
    for server in ["0", "1", "2"] {
        for mode in ["linearizable", "causal", "stale"] {
            let told = json(&cluster.run(&["read", "k", "--from", server, "--consistency", mode, "--output", "json"]));
            assert_eq!((told["value"].as_str(), told["local"].as_bool()), (Some("v"), Some(true)), "{mode}: {told}");
            assert_eq!(told["server"].to_string(), server, "{mode}: {told}");
            assert_eq!(told["seen_version"], 1, "{mode}: {told}");
        }
    }
    let counted = |status: &Option<heirloom_proto::wire::v1::StatusResponse>| {
        status.as_ref().and_then(|status| status.reads).is_some_and(|reads| reads.local == 3 && reads.forwarded == 0)
    };
    cluster.wait_until("counts of what was read", |all| all.iter().all(counted)).await;
}

#[tokio::test]
async fn a_read_from_a_server_that_is_not_there_says_which() {
    let mut cluster = leased().await;
    cluster.kill(2);
    for server in ["2", "7"] {
        let read = cluster.run(&["read", "k", "--from", server, "--timeout", "300ms"]);
        assert_eq!(code(&read), 3, "{read:?}");
        assert!(stderr(&read).contains(&format!("read \"k\" from server {server} was not answered")), "{read:?}");
    }
}

#[tokio::test]
async fn a_client_of_the_library_sees_its_own_changes_at_every_server() {
    let cluster = leased().await;
    let client = cluster.client().await;
    for round in 0..20 {
        let changed = client.add("k", round.to_string()).await.expect("added");
        for server in 0..3 {
            let how = ReadOptions { consistency: Consistency::Causal, from: Some(ServerId(server)) };
            let found = client.read_with("k", how).await.expect("read").expect("there");
            assert_eq!((found.value, found.server), (round.to_string().into(), ServerId(server)));
            assert!(found.looked.local && found.looked.version >= changed.version, "{:?}", found.looked);
        }
    }
}
