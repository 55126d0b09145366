//! What users get wrong: a clear error, the right exit code, nothing lost, and the server goes on.

use std::io::Write;
use std::net::TcpStream;

use crate::world::{Cluster, HEIRLOOM, code, run_with, run_with_input, stderr, stdout};

fn heirloom(args: &[&str]) -> std::process::Output {
    std::process::Command::new(HEIRLOOM).args(args).output().expect("it runs")
}

#[tokio::test]
async fn bad_commands_end_with_2_before_anything_is_done() {
    let cluster = Cluster::start(1, 0, &[]);
    cluster.wait_for_members(&[0]).await;
    let long_key = "k".repeat(4097);
    for args in [
        vec!["add", "", "v"],
        vec!["add", &long_key, "v"],
        vec!["read", ""],
        vec!["delete", ""],
        vec!["add", "k"],
        vec!["add", "k", "v", "--no-such-flag"],
        vec!["no-such-command"],
        vec!["read", "k", "--timeout", "soon"],
        vec!["read", "k", "--output", "xml"],
    ] {
        let output = cluster.run(&args);
        assert_eq!(code(&output), 2, "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    let nowhere = run_with("not an address", &["read", "k"]);
    assert_eq!(code(&nowhere), 2, "{nowhere:?}");
    assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0, "the server goes on");
}

#[tokio::test]
async fn an_oversized_value_is_refused_and_nothing_is_stored() {
    let cluster = Cluster::start(1, 0, &[]);
    cluster.wait_for_members(&[0]).await;
    let largest = vec![b'v'; 1 << 20];
    let stored = run_with_input(&cluster.addresses(), &["add", "largest", "-"], &largest);
    assert_eq!(code(&stored), 0, "{}", stderr(&stored));
    let refused = run_with_input(&cluster.addresses(), &["add", "larger", "-"], &[largest.as_slice(), b"v"].concat());
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("1048576"), "{}", stderr(&refused));
    assert_eq!(code(&cluster.run(&["read", "larger"])), 1);
    assert_eq!(stdout(&cluster.run(&["read", "largest"])).trim_end().len(), 1 << 20);
}

#[tokio::test]
async fn a_server_with_bad_settings_ends_with_2_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let data_dir = data_dir.to_str().expect("a path");
    let cluster = "127.0.0.1:12001,127.0.0.1:12002,127.0.0.1:12003";
    for (args, word) in [
        (vec!["--cluster", cluster, "--min-copies", "4"], "--min-copies"),
        (vec!["--cluster", cluster, "--quorum", "survivors"], "survivors"),
        (vec!["--cluster", cluster, "--id", "3"], "--id"),
        (vec!["--cluster", "witness@127.0.0.1:12001"], "witness"),
        (vec!["--cluster", "127.0.0.1"], "127.0.0.1"),
        (vec!["--cluster", "192.0.2.1:7400"], "--insecure"),
        (vec!["--heartbeat", "0"], "--heartbeat"),
        (vec!["--suspicion", "60ms"], "--suspicion"),
        (vec!["--drift", "2"], "--drift"),
    ] {
        let id: &[&str] = if args.contains(&cluster) && !args.contains(&"--id") { &["--id", "0"] } else { &[] };
        let output = heirloom(&[&["serve", "--data-dir", data_dir], id, args.as_slice()].concat());
        assert_eq!(code(&output), 2, "{args:?}: {output:?}");
        assert!(stderr(&output).contains(word), "{args:?}: {}", stderr(&output));
    }
    assert!(!folder.path().join("data").exists(), "something was done before the refusal");
}

#[tokio::test]
async fn a_port_or_a_directory_in_use_is_refused_with_2() {
    let cluster = Cluster::start(1, 0, &[]);
    cluster.wait_for_members(&[0]).await;
    let address = cluster.servers[0].address.clone();
    let other = cluster.folder.path().join("other");
    let port = heirloom(&["serve", "--cluster", &address, "--data-dir", other.to_str().expect("a path")]);
    assert_eq!(code(&port), 2, "{port:?}");
    assert!(stderr(&port).contains(&address), "{}", stderr(&port));
    let free = format!("127.0.0.1:{}", crate::world::free_port());
    let in_use = cluster.servers[0].data_dir.to_str().expect("a path").to_owned();
    let directory = heirloom(&["serve", "--cluster", &free, "--data-dir", &in_use]);
    assert_eq!(code(&directory), 2, "{directory:?}");
    assert!(stderr(&directory).contains(&in_use), "{}", stderr(&directory));
    assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0, "the server goes on");
}

#[tokio::test]
async fn the_directory_of_another_server_or_of_no_server_is_refused_untouched() {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    cluster.kill(2);
    let of_two = cluster.servers[2].data_dir.to_str().expect("a path").to_owned();
    let (status, said) = cluster.run_server_to_its_end(2, &["--id", "1"]);
    assert_eq!(status, 2, "{said}");
    let (status, said) = cluster.run_server_to_its_end(2, &["--min-copies", "3"]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("--min-copies"), "{said}");
    let foreign = cluster.folder.path().join("foreign");
    std::fs::create_dir(&foreign).expect("a folder");
    std::fs::write(foreign.join("letter"), "not Heirloom's").expect("a file");
    let output = heirloom(&["serve", "--data-dir", foreign.to_str().expect("a path")]);
    assert_eq!(code(&output), 2, "{output:?}");
    assert_eq!(std::fs::read_dir(&foreign).expect("a folder").count(), 1, "something was written there");
    assert!(std::path::Path::new(&of_two).exists());
    cluster.start_server(2);
    cluster.wait_for_members(&[0, 1, 2]).await;
}

#[tokio::test]
async fn a_server_of_another_cluster_is_not_let_in() {
    let mut one = Cluster::start(3, 0, &[]);
    one.wait_for_members(&[0, 1, 2]).await;
    assert_eq!(code(&one.run(&["add", "k", "v"])), 0);
    one.kill(2);
    let mut two = Cluster::start(3, 0, &[]);
    two.wait_for_members(&[0, 1, 2]).await;
    two.kill(2);
    // Server 2 of the first cluster is started on the directory of server 2 of the second.
    std::fs::rename(&one.servers[2].data_dir, one.folder.path().join("kept")).expect("moved");
    std::fs::rename(&two.servers[2].data_dir, &one.servers[2].data_dir).expect("moved");
    one.start_server(2);
    let log = one.log_path(2);
    one.wait_until("a word about the other cluster", |_| {
        std::fs::read_to_string(&log).unwrap_or_default().contains("cluster")
    })
    .await;
    one.wait_for_members(&[0, 1]).await;
    assert_eq!(stdout(&one.run(&["read", "k"])), "v\n");
}

#[tokio::test]
async fn garbage_on_the_port_disturbs_nobody() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let mut held = Vec::new();
    for (round, server) in cluster.servers.iter().cycle().take(30).enumerate() {
        let mut stream = TcpStream::connect(&server.address).expect("it listens");
        let garbage: Vec<u8> = (0..4096).map(|place| ((place * 31 + round * 17) % 251) as u8).collect();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        if round % 2 == 0 {
            let _ = stream.write_all(preface);
        }
        // The server may have hung up by now, which is its right.
        let _ = stream.write_all(&garbage);
        held.push(stream);
    }
    assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0);
    cluster.wait_for_members(&[0, 1, 2]).await;
}
