//! Commands that can't do what was asked, or can't say that they did: the message, the exit code, and no false comfort.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::world::{Cluster, HEIRLOOM, code, free_port, run_with, stderr, stdout, wait_with_limit};

/// Runs a command whose standard output is full.
fn run_with_full_output(servers: &str, args: &[&str]) -> Output {
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let mut command = Command::new(HEIRLOOM);
    command.args(args).args(["--servers", servers]).stdin(Stdio::null()).stdout(full);
    command.output().expect("it runs")
}

#[tokio::test]
async fn a_change_whose_answer_cannot_be_written_is_said_to_be_made() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let servers = cluster.addresses();
    for format in ["text", "json"] {
        let added = run_with_full_output(&servers, &["add", "k", "v", "--output", format]);
        assert_eq!(code(&added), 3, "{added:?}");
        assert!(stderr(&added).contains("all the same: version "), "{}", stderr(&added));
    }
    assert_eq!(stdout(&cluster.run(&["read", "k"])), "v\n");
    let deleted = run_with_full_output(&servers, &["delete", "k"]);
    assert_eq!(code(&deleted), 3, "{deleted:?}");
    assert!(stderr(&deleted).contains("the key was deleted all the same: version 3"), "{}", stderr(&deleted));
    assert_eq!(code(&cluster.run(&["read", "k"])), 1);
    let promoted = run_with_full_output(&servers, &["promote", "1"]);
    assert_eq!(code(&promoted), 3, "{promoted:?}");
    assert!(stderr(&promoted).contains("all the same: server 1 is the primary"), "{}", stderr(&promoted));
}

#[tokio::test]
async fn what_servers_wait_for_stands_at_the_end_of_an_error() {
    let mut cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    cluster.kill(1);
    cluster.kill(2);
    cluster
        .wait_until("a server that waits", |all| all[0].as_ref().is_some_and(|status| !status.waits_for.is_empty()))
        .await;
    for args in [&["add", "k", "v"][..], &["read", "k"], &["promote", "1"]] {
        let output = cluster.run(&[args, &["--timeout", "3s"]].concat());
        assert_eq!(code(&output), 3, "{args:?}: {output:?}");
        let said = stderr(&output);
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("server 0 waits: "), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn servers_may_be_listed_as_servers_are_told_of_them() {
    let cluster = Cluster::start(2, 1, &[]);
    cluster.wait_for_members(&[0, 1]).await;
    let [first, second, witness] = [0, 1, 2].map(|id| cluster.servers[id].address.as_str());
    let list = format!("{first}, {second},witness@{witness},");
    assert_eq!(code(&run_with(&list, &["add", "k", "v"])), 0);
    let with_environment = |servers: &str| {
        let mut command = Command::new(HEIRLOOM);
        command.args(["read", "k", "--timeout", "1s"]).env("HEIRLOOM_SERVERS", servers).stdin(Stdio::null());
        command.output().expect("it runs")
    };
    let read = with_environment(&format!("witness@{witness},"));
    assert_eq!((code(&read), stdout(&read).as_str()), (0, "v\n"), "{read:?}");
    // Whoever listens at the default addresses, they are asked.
    let unset = with_environment("");
    assert!(code(&unset) != 2 && stdout(&unset) != "v\n", "{unset:?}");
}

#[test]
fn a_port_that_speaks_something_else_is_said_to() {
    let address = format!("127.0.0.1:{}", free_port());
    let listener = TcpListener::bind(&address).expect("a free port");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut connection = connection;
                let _ = connection.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
                let _ = connection.read_to_end(&mut Vec::new());
            });
        }
    });
    for args in [&["read", "k"][..], &["status"], &["promote", "0"], &["fence", "0", "--it-is-off"]] {
        let output = run_with(&address, &[args, &["--timeout", "1s"]].concat());
        assert_eq!(code(&output), 3, "{args:?}: {output:?}");
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("does not speak gRPC"), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn whoever_takes_the_word_of_an_operator_is_named() {
    let mut cluster = Cluster::start(2, 0, &[]);
    cluster.wait_for_members(&[0, 1]).await;
    cluster.kill(1);
    let fenced = cluster.run(&["fence", "1", "--it-is-off"]);
    assert_eq!(
        (code(&fenced), stdout(&fenced).as_str()),
        (0, "server 0 took your word: server 1 is off\n"),
        "{fenced:?}"
    );
}

#[test]
fn a_demo_that_nobody_reads_is_no_success() {
    let mut child = Command::new(HEIRLOOM)
        .args(["demo", "--rounds", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("text");
    assert!(!first.is_empty(), "the demo begins to tell");
    assert_eq!(wait_with_limit(&mut child), 3);
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("nobody reads"), "{said}");
}
