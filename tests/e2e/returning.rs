//! Servers that come back: with their data, without it, after power was lost.

use crate::world::writer::Writer;
use crate::world::{Cluster, code, copy_folder, files_below, stdout};

#[tokio::test]
async fn a_backup_with_an_emptied_directory_is_sent_everything_while_clients_write() {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let writer = Writer::start(cluster.client().await, "emptied");
    for id in [2, 1] {
        cluster.kill(id);
        std::fs::remove_dir_all(&cluster.servers[id].data_dir).expect("removed");
        cluster.start_server(id);
        cluster.wait_for_members(&[0, 1, 2]).await;
    }
    let account = writer.stop().await;
    assert_eq!((account.unknown.len(), account.failed.len()), (0, 0), "{account:?}");
    account.check(&cluster).await;
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn a_directory_that_was_put_back_from_an_older_copy_is_noticed_and_set_aside() {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "before"])), 0);
    assert_eq!(cluster.stop(2), 0, "{}", cluster.logs());
    let copy = tempfile::tempdir().expect("a folder");
    let data_dir = cluster.servers[2].data_dir.clone();
    copy_folder(&data_dir, copy.path());
    cluster.start_server(2);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "after"])), 0);
    cluster.kill(2);
    std::fs::remove_dir_all(&data_dir).expect("removed");
    copy_folder(copy.path(), &data_dir);
    cluster.start_server(2);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let said = std::fs::read_to_string(cluster.log_path(2)).expect("a log");
    assert!(said.contains("was put back from an older copy (server "), "{said}");
    let set_aside = |path: &std::path::Path| path.to_string_lossy().contains("set-aside");
    assert!(files_below(&data_dir).iter().any(|path| set_aside(path)), "its store is kept beside the new one");
    cluster.wait_until_equal().await;
    assert_eq!(stdout(&cluster.run(&["read", "k"])), "after\n");
}

#[tokio::test]
async fn a_cluster_that_was_stopped_politely_goes_on_where_it_was() {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0);
    for id in [0, 1, 2] {
        assert_eq!(cluster.stop(id), 0, "{}", cluster.logs());
    }
    for id in [2, 1, 0] {
        cluster.start_server(id);
    }
    cluster.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(stdout(&cluster.run(&["read", "k"])), "v\n");
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn two_hundred_thousand_adds_survive_a_restart_of_all() {
    const ADDS: usize = 200_000;
    const TASKS: usize = 256;
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await.with_timeout(crate::world::PATIENCE);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in (task..ADDS).step_by(TASKS) {
                    client.add(format!("key-{number:012}"), vec![b'v'; 128]).await.expect("added");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    for id in [0, 1, 2] {
        cluster.kill(id);
    }
    for id in [0, 1, 2] {
        cluster.start_server(id);
    }
    cluster.wait_for_members(&[0, 1, 2]).await;
    cluster
        .wait_until("all adds", |all| {
            all.iter().all(|status| status.as_ref().is_some_and(|s| s.keys == ADDS as u64 && s.version == ADDS as u64))
        })
        .await;
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn a_half_written_tail_of_the_log_is_cut_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(1, 0, &[]);
    cluster.wait_for_members(&[0]).await;
    for number in 0..20 {
        assert_eq!(code(&cluster.run(&["add", &format!("k{number}"), "v"])), 0);
    }
    cluster.kill(0);
    let logs: Vec<_> = files_below(&cluster.servers[0].data_dir)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("log"))
        .filter(|path| std::fs::metadata(path).expect("a file").len() > 0)
        .collect();
    assert!(!logs.is_empty(), "no log found");
    let last = logs.iter().max().expect("one at least");
    // The first bytes of a frame behind the last whole one, as a crash in the middle of a write leaves them.
    let mut bytes = std::fs::read(last).expect("read");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |place| place + 1);
    let torn: Vec<u8> = bytes[..end.min(24)].to_vec();
    let room = bytes.len() - end;
    bytes[end..end + torn.len().min(room)].copy_from_slice(&torn[..torn.len().min(room)]);
    std::fs::write(last, bytes).expect("written");
    cluster.start_server(0);
    cluster.wait_for_members(&[0]).await;
    for number in 0..20 {
        assert_eq!(stdout(&cluster.run(&["read", &format!("k{number}")])), "v\n");
    }
    assert_eq!(code(&cluster.run(&["add", "more", "v"])), 0);
}
