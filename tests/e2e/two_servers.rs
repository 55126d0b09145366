//! Two servers without a third vote.

use rustix::process::Signal;

use crate::world::{Cluster, code, stderr, stdout};

#[tokio::test]
async fn the_survivor_goes_on_and_the_other_refuses_old_data_until_it_returns() {
    let mut cluster = Cluster::start(2, 0, &[]);
    assert_eq!(cluster.wait_for_members(&[0, 1]).await, 0);
    assert_eq!(code(&cluster.run(&["add", "k", "old"])), 0);
    cluster.kill(0);
    cluster.wait_for_members(&[1]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "new"])), 0);
    cluster.kill(1);
    cluster.start_server(0);
    cluster
        .wait_until("server 0 says what it waits for", |all| {
            all[0].as_ref().is_some_and(|status| status.waits_for.contains("newer writes"))
        })
        .await;
    let refused = cluster.run(&["read", "k", "--timeout", "1s"]);
    assert_eq!(code(&refused), 3, "it served old data: {refused:?}");
    let told = cluster.run(&["status"]);
    assert!(stdout(&told).contains("recover"), "status names the way out: {told:?}");
    cluster.start_server(1);
    cluster.wait_for_members(&[0, 1]).await;
    assert_eq!(stdout(&cluster.run(&["read", "k"])), "new\n");
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn silence_alone_is_no_proof_but_the_operators_word_is() {
    let cluster = Cluster::start(2, 0, &[]);
    assert_eq!(cluster.wait_for_members(&[0, 1]).await, 0);
    assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0);
    cluster.signal(0, Signal::STOP);
    // Well beyond the suspicion time of 400 ms.
    let refused = cluster.run(&["add", "k", "w", "--timeout", "2s"]);
    assert_eq!(code(&refused), 3, "{refused:?}");
    assert!(!stderr(&refused).is_empty());
    cluster.signal(0, Signal::CONT);
    cluster.wait_for_members(&[0, 1]).await;
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn recover_begins_a_new_generation_and_the_other_comes_back_as_a_learner() {
    let mut cluster = Cluster::start(2, 0, &[]);
    cluster.wait_for_members(&[0, 1]).await;
    assert_eq!(code(&cluster.run(&["add", "k", "old"])), 0);
    cluster.kill(0);
    cluster.wait_for_members(&[1]).await;
    assert_eq!(code(&cluster.run(&["add", "lost", "write"])), 0);
    cluster.kill(1);
    let refused = cluster.recover(0, &[]);
    assert_eq!(code(&refused), 2, "{refused:?}");
    assert!(stderr(&refused).contains("--accept-losing-newer-writes"));
    let done = cluster.recover(0, &["--accept-losing-newer-writes"]);
    assert_eq!(code(&done), 0, "{done:?}");
    cluster.start_server(0);
    cluster.wait_for_members(&[0]).await;
    assert_eq!(stdout(&cluster.run(&["read", "k"])), "old\n");
    cluster.start_server(1);
    cluster.wait_for_members(&[0, 1]).await;
    assert_eq!(code(&cluster.run(&["read", "lost"])), 1);
    cluster.wait_until_equal().await;
}

#[tokio::test]
async fn a_fence_command_is_proof_where_a_refused_connection_is_not_needed() {
    let cluster = Cluster::start(2, 0, &["--fence-command", "exit 0"]);
    assert_eq!(cluster.wait_for_members(&[0, 1]).await, 0);
    // The command says that the stopped server is off, which for this test is as good as true: it is killed unheard.
    cluster.signal(0, Signal::STOP);
    let mut cluster = cluster;
    cluster.kill(0);
    cluster.wait_for_members(&[1]).await;
    let output = cluster.run(&["add", "k", "v"]);
    assert_eq!(code(&output), 0, "{output:?}");
}

#[tokio::test]
async fn fencing_wants_the_risk_spelled_out() {
    let cluster = Cluster::start(2, 0, &[]);
    cluster.wait_for_members(&[0, 1]).await;
    let refused = cluster.run(&["fence", "1"]);
    assert_eq!(code(&refused), 2, "{refused:?}");
    assert!(stderr(&refused).contains("--it-is-off"));
    let alive = cluster.run(&["fence", "1", "--it-is-off", "--timeout", "1s"]);
    assert_ne!(code(&alive), 0, "a living server was fenced: {alive:?}");
    assert_eq!(cluster.wait_for_members(&[0, 1]).await, 0);
}
