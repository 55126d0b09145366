//! `snapshot save` and `snapshot restore`: a file of all that was answered, and a new cluster from it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use super::commands::json;
use crate::world::writer::Writer;
use crate::world::{Cluster, HEIRLOOM, PATIENCE, code, run_with, signal_child, stderr, stdout, wait_with_limit};

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of a test is text")
}

/// Runs `heirloom snapshot restore` for this server of a cluster of which nothing runs yet.
fn restore(cluster: &Cluster, id: usize, file: &Path) -> Output {
    let data_dir = text(&cluster.servers[id].data_dir).to_owned();
    let mut command = Command::new(HEIRLOOM);
    command.args(["snapshot", "restore", text(file), "--id", &id.to_string(), "--cluster", cluster.list()]);
    command.args(["--data-dir", &data_dir, "--output", "json"]).stdin(Stdio::null()).output().expect("it runs")
}

async fn run_meanwhile(cluster: &Cluster, args: &[&str]) -> Output {
    let (servers, args) = (cluster.addresses(), args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    let run = move || run_with(&servers, &args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

async fn started(servers: usize) -> (Cluster, usize) {
    let cluster = Cluster::start(servers, 0, &[]);
    let all: Vec<u32> = (0..u32::try_from(servers).expect("few")).collect();
    let primary = cluster.wait_for_members(&all).await;
    (cluster, primary)
}

fn log(cluster: &Cluster, id: usize) -> String {
    std::fs::read_to_string(cluster.log_path(id)).expect("a log")
}

#[tokio::test]
async fn a_cluster_restored_from_a_save_among_writes_has_all_that_was_answered_before_it() {
    let (here, primary) = started(3).await;
    let writer = Writer::start(here.client().await, "saved");
    let begun = Instant::now();
    while writer.acknowledged() < 300 {
        assert!(begun.elapsed() < PATIENCE, "nothing is written\n{}", here.logs());
        tokio::task::yield_now().await;
    }
    let mut saves = Vec::new();
    let ids = (0..3).map(|id| id.to_string()).collect::<Vec<_>>();
    let from: Vec<Option<&str>> = [None].into_iter().chain(ids.iter().map(|id| Some(id.as_str()))).collect();
    for (number, from) in from.into_iter().enumerate() {
        let file = here.folder.path().join(format!("snapshot-{number}"));
        let mut args = vec!["snapshot", "save", text(&file), "--output", "json", "--timeout", "20s"];
        args.extend(from.iter().flat_map(|id| ["--from", id]));
        let before = writer.acknowledged();
        let saved = run_meanwhile(&here, &args).await;
        assert_eq!(code(&saved), 0, "{saved:?}\n{}", here.logs());
        assert!(!log(&here, primary).contains("to an operator's file") || from.is_some(), "the primary was asked");
        let summary = json(&saved);
        assert!(summary["version"].as_u64() >= Some(before as u64), "{before} were answered: {summary}");
        assert_eq!((summary["keys"].as_u64(), &summary["file"]), (summary["version"].as_u64(), &text(&file).into()));
        saves.push((file, before, summary));
    }
    for id in 0..3 {
        assert!(log(&here, id).contains("to an operator's file"), "server {id} was asked");
    }
    let account = writer.stop().await;
    assert!(account.unknown.is_empty() && account.failed.is_empty(), "{account:?}");
    let epoch = here.status(primary).await.expect("it runs").epoch.expect("it works in one");

    let (file, before, saved) = &saves[0];
    let mut there = Cluster::prepare(3, 0, &[]);
    let restored = restore(&there, 0, file);
    assert_eq!(code(&restored), 0, "{restored:?}");
    let restored = json(&restored);
    for field in ["version", "index", "keys", "digest", "bytes"] {
        assert_eq!(restored[field], saved[field], "{field}");
    }
    assert_eq!(restored["saved_in"], saved["cluster"]);
    assert_ne!(restored["cluster"], saved["cluster"]);
    for id in 0..3 {
        there.start_server(id);
    }
    there.wait_for_members(&[0, 1, 2]).await;
    there.wait_until_equal().await;
    let status = there.status(0).await.expect("it runs");
    let found = [status.version, status.keys].map(Some);
    assert_eq!(found, [saved["version"].as_u64(), saved["keys"].as_u64()], "{status:?}");
    assert_eq!(Some(status.digest.as_str()), saved["digest"].as_str());
    assert_eq!(Some(status.cluster.as_str()), restored["cluster"].as_str());
    assert!(
        Some(status.applied) > saved["index"].as_u64() && status.epoch.is_some_and(|now| now.round > epoch.round),
        "{status:?}"
    );
    let client = there.client().await.with_timeout(PATIENCE);
    for key in &account.acknowledged[..*before] {
        let found = client.read(key).await.expect("read").unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(found.value, key.as_bytes());
    }
    let added = client.add("later", "v").await.expect("added");
    assert_eq!(Some(added.version.0), saved["version"].as_u64().map(|version| version + 1));
    there.kill(0);
    there.wait_for_members(&[1, 2]).await;
    let read = there.run(&["read", "later"]);
    assert_eq!((code(&read), stdout(&read).as_str()), (0, "v\n"), "{read:?}");
}

#[tokio::test]
async fn a_file_that_is_damaged_or_cut_is_refused_and_nothing_is_made() {
    let (here, _) = started(1).await;
    let client = here.client().await;
    for number in 0..50 {
        client.add(format!("k{number}"), vec![b'v'; 4_000]).await.expect("added");
    }
    let file = here.folder.path().join("snapshot");
    let saved = here.run(&["snapshot", "save", text(&file)]);
    assert_eq!(code(&saved), 0, "{saved:?}");
    assert!(stdout(&saved).contains("version 50") && stdout(&saved).contains("50 keys"), "{saved:?}");
    let there = Cluster::prepare(1, 0, &[]);
    let bytes = std::fs::read(&file).expect("read");
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 4;
        bytes
    };
    let hurt = [
        (flipped(40), 0..1),
        (flipped(bytes.len() / 2), 4096..bytes.len() / 2 + 1),
        (bytes[..bytes.len() - 1].to_vec(), 4096..bytes.len()),
        (bytes[..bytes.len() / 2].to_vec(), 4096..bytes.len() / 2 + 1),
        (bytes[..1000].to_vec(), 0..1),
    ];
    for (bytes, place) in hurt {
        std::fs::write(&file, &bytes).expect("written");
        let refused = restore(&there, 0, &file);
        assert_eq!((code(&refused), stdout(&refused).as_str()), (4, ""), "{refused:?}");
        let said = stderr(&refused);
        let (named, rest) = said.split_once(" is damaged at byte ").unwrap_or_else(|| panic!("{said}"));
        assert_eq!(named, format!("heirloom: {}", file.display()));
        let byte: usize = rest.split(':').next().and_then(|byte| byte.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        assert!(place.contains(&byte), "{place:?}: {said}");
        assert!(!there.servers[0].data_dir.exists(), "something was made");
    }
    std::fs::write(&file, &bytes).expect("written");
    assert_eq!(code(&restore(&there, 0, &file)), 0);
}

#[tokio::test]
async fn what_is_there_is_not_written_over() {
    let (here, _) = started(1).await;
    assert_eq!(code(&here.run(&["add", "k", "v"])), 0);
    let (file, part) = (here.folder.path().join("snapshot"), here.folder.path().join("snapshot.part"));
    std::fs::write(&part, "somebody's").expect("written");
    let refused = here.run(&["snapshot", "save", text(&file)]);
    assert_eq!(code(&refused), 2, "{refused:?}");
    assert!(stderr(&refused).contains("--resume"), "{refused:?}");
    std::fs::write(&part, "x".repeat(10_000)).expect("written");
    let refused = here.run(&["snapshot", "save", text(&file), "--resume"]);
    assert_eq!(code(&refused), 4, "{refused:?}");
    assert_eq!(std::fs::read(&part).expect("there").len(), 10_000);
    std::fs::remove_file(&part).expect("removed");
    std::fs::write(&file, "somebody's").expect("written");
    let refused = here.run(&["snapshot", "save", text(&file)]);
    assert_eq!(code(&refused), 2, "{refused:?}");
    assert_eq!(std::fs::read(&file).expect("there"), b"somebody's");
    assert!(!part.exists());
    assert_eq!(code(&here.run(&["snapshot", "save", text(&file), "--force"])), 0);

    let there = Cluster::prepare(3, 1, &[]);
    let data_dir = &there.servers[0].data_dir;
    std::fs::create_dir(data_dir).expect("made");
    std::fs::write(data_dir.join("notes"), "somebody's").expect("written");
    let refused = restore(&there, 0, &file);
    assert!(code(&refused) == 2 && stderr(&refused).contains("notes"), "{refused:?}");
    assert_eq!(std::fs::read_dir(data_dir).expect("there").count(), 1);
    assert_eq!(code(&restore(&there, 1, &file)), 0);
    let again = restore(&there, 1, &file);
    assert!(code(&again) == 2 && stderr(&again).contains(text(&there.servers[1].data_dir)), "{again:?}");
    for (id, why) in [(3, "witness"), (9, "--id 9")] {
        let mut args = vec!["snapshot".to_owned(), "restore".to_owned(), text(&file).to_owned()];
        let data_dir = text(&there.folder.path().join("other")).to_owned();
        let cluster = there.list().to_owned();
        args.extend(["--id".to_owned(), id.to_string(), "--cluster".to_owned(), cluster]);
        args.extend(["--data-dir".to_owned(), data_dir]);
        let refused = Command::new(HEIRLOOM).args(args).stdin(Stdio::null()).output().expect("it runs");
        assert!(code(&refused) == 2 && stderr(&refused).contains(why), "{refused:?}");
    }
    let missing = restore(&there, 2, &there.folder.path().join("missing"));
    assert_eq!((code(&missing), there.servers[2].data_dir.exists()), (2, false), "{missing:?}");
}

fn save(cluster: &Cluster, file: &Path) -> Child {
    let mut command = Command::new(HEIRLOOM);
    command.args(["snapshot", "save", text(file), "--servers", &cluster.addresses(), "--timeout", "20s"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Starts a save, ends it by this signal as soon as some of it has come, and gives what is left.
fn interrupted(cluster: &Cluster, file: &Path, signal: Signal) -> (PathBuf, i32, String) {
    let part = PathBuf::from(format!("{}.part", file.display()));
    let (mut save, begun) = (save(cluster, file), Instant::now());
    while std::fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 4 << 20 {
        assert!(begun.elapsed() < PATIENCE, "nothing comes\n{}", cluster.logs());
        std::thread::yield_now();
    }
    signal_child(&save, signal);
    let code = wait_with_limit(&mut save);
    let mut said = String::new();
    save.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(part.exists() && !file.exists(), "it was over before it was interrupted: {said}");
    (part, code, said)
}

#[tokio::test]
async fn an_interrupted_save_goes_on_with_the_same_snapshot_as_long_as_there_is_one() {
    let (here, _) = started(1).await;
    let client = here.client().await.with_timeout(PATIENCE);
    for number in 0..96 {
        client.add(format!("large-{number:02}"), vec![b'v'; 1 << 20]).await.expect("added");
    }
    let file = here.folder.path().join("snapshot");
    let (part, code_of_it, said) = interrupted(&here, &file, Signal::INT);
    assert_eq!(code_of_it, 3, "{said}");
    assert!(said.contains("interrupted") && said.contains("snapshot save --resume"), "{said}");
    client.add("later", "v").await.expect("added");
    let resumed = here.run(&["snapshot", "save", text(&file), "--resume", "--output", "json", "--timeout", "20s"]);
    assert_eq!(code(&resumed), 0, "{resumed:?}\n{}", here.logs());
    let summary: Value = json(&resumed);
    assert_eq!((summary["version"].as_u64(), summary["keys"].as_u64()), (Some(96), Some(96)));
    let log = log(&here, 0);
    let begun_at = |line: &str| line.split("from=").nth(1)?.split_whitespace().next()?.parse::<u64>().ok();
    let sent = log.lines().filter(|line| line.contains("to an operator's file")).filter_map(begun_at);
    assert!(sent.max() >= Some(3 << 20), "it began anew\n{log}");
    assert!(!part.exists());
    let there = Cluster::prepare(1, 0, &[]);
    assert_eq!(code(&restore(&there, 0, &file)), 0);

    // Killed, it says nothing; and in the meantime there is another snapshot.
    let again = here.folder.path().join("again");
    let (part, _, _) = interrupted(&here, &again, Signal::KILL);
    client.add("much later", "v").await.expect("added");
    let other = here.folder.path().join("other");
    let saved = here.run(&["snapshot", "save", text(&other), "--timeout", "20s"]);
    assert_eq!(code(&saved), 0, "{saved:?}");
    let gone = here.run(&["snapshot", "save", text(&again), "--resume", "--timeout", "20s"]);
    assert_eq!(code(&gone), 1, "{gone:?}");
    assert!(stderr(&gone).contains("begin anew by --force") && part.exists(), "{gone:?}");
}

#[tokio::test]
async fn who_keeps_no_data_or_is_cut_off_refuses_in_words() {
    let mut cluster = Cluster::start(2, 1, &[]);
    cluster.wait_for_members(&[0, 1]).await;
    let file = cluster.folder.path().join("snapshot");
    let witness = cluster.run(&["snapshot", "save", text(&file), "--from", "2"]);
    assert!(code(&witness) == 3 && stderr(&witness).contains("is a witness"), "{witness:?}");
    let nobody = cluster.run(&["snapshot", "save", text(&file), "--from", "7"]);
    assert!(code(&nobody) == 2 && stderr(&nobody).contains("servers are 0 to 2"), "{nobody:?}");
    cluster.kill(0);
    cluster.kill(2);
    let alone = cluster.run(&["snapshot", "save", text(&file), "--from", "1", "--timeout", "2s"]);
    assert_eq!(code(&alone), 3, "{alone:?}");
    assert!(stderr(&alone).contains("(server 1): "), "{alone:?}");
    assert!(!file.exists() && !cluster.folder.path().join("snapshot.part").exists());
}
