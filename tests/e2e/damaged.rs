//! Servers whose stores are damaged: one, and two of three at once. Every file and fault is the bench `damage`.

use std::path::Path;

use crate::world::writer::{Account, Writer};
use crate::world::{Cluster, code, files_below, stdout};

/// Three servers that have answered some writes.
async fn written() -> (Cluster, Account) {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let writer = Writer::start(cluster.client().await, "damaged");
    writer.wait_for_more(100).await;
    let account = writer.stop().await;
    assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
    (cluster, account)
}

/// A bit in the middle of each file of these servers whose name begins like this.
fn flip(cluster: &Cluster, servers: &[usize], name: &str) {
    let of_kind = |path: &Path| path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name));
    for server in servers {
        for path in files_below(&cluster.servers[*server].data_dir).iter().filter(|path| of_kind(path)) {
            let mut bytes = std::fs::read(path).expect("read");
            let used = bytes.iter().rposition(|byte| *byte != 0).expect("something is stored");
            bytes[used / 2] ^= 0x10;
            std::fs::write(path, bytes).expect("written");
        }
    }
}

/// All are members, and everything that was acknowledged is there.
async fn whole(cluster: &Cluster, account: &Account) {
    cluster.wait_for_members(&[0, 1, 2]).await;
    cluster.wait_until_equal().await;
    account.check(cluster).await;
    assert_eq!(code(&cluster.run(&["add", "more", "v"])), 0);
}

#[tokio::test]
async fn a_server_that_lost_both_copies_of_its_register_is_a_member_again_by_itself() {
    let (mut cluster, account) = written().await;
    cluster.kill(2);
    flip(&cluster, &[2], "register.");
    cluster.start_server(2);
    whole(&cluster, &account).await;
}

#[tokio::test]
async fn two_registers_lost_of_three_are_a_refusal_and_recover_keeps_everything() {
    two_lost(|cluster| flip(cluster, &[1, 2], "register.")).await;
}

/// Whose log is damaged may have a register that is older than it should be, too, so it votes no more.
#[tokio::test]
async fn two_logs_lost_of_three_are_a_refusal_and_recover_keeps_everything() {
    two_lost(|cluster| flip(cluster, &[1, 2], "log-")).await;
}

#[tokio::test]
async fn two_directories_lost_of_three_are_a_refusal_and_recover_keeps_everything() {
    two_lost(|cluster| {
        for id in [1, 2] {
            std::fs::remove_dir_all(&cluster.servers[id].data_dir).expect("removed");
        }
    })
    .await;
}

async fn two_lost(lose: impl FnOnce(&Cluster)) {
    let (mut cluster, account) = written().await;
    cluster.kill(1);
    cluster.kill(2);
    lose(&cluster);
    cluster.start_server(1);
    cluster.start_server(2);
    cluster
        .wait_until("each names the way out", |all| {
            all.iter().all(|status| status.as_ref().is_some_and(|status| status.waits_for.contains("heirloom recover")))
        })
        .await;
    let key = &account.acknowledged[0];
    let refused = cluster.run(&["read", key, "--timeout", "1s"]);
    assert_eq!((code(&refused), stdout(&refused)), (3, String::new()), "{refused:?}");
    assert_eq!(cluster.stop(0), 0, "{}", cluster.logs());
    let recovered = cluster.recover(0, &["--accept-losing-newer-writes"]);
    assert_eq!(code(&recovered), 0, "{recovered:?}");
    cluster.start_server(0);
    whole(&cluster, &account).await;
}
