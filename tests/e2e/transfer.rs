//! `export` and `import`, from one cluster to another.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use heirloom::{Client, ScanOptions, Version};
use heirloom_proto::wire::v1;
use rustix::process::Signal;

use crate::world::{Cluster, HEIRLOOM, code, signal_child, stderr, stdout, wait_with_limit};

const KEYS: u32 = 5_000;

async fn started(servers: usize) -> Cluster {
    let cluster = Cluster::start(servers, 0, &[]);
    let all: Vec<u32> = (0..u32::try_from(servers).expect("few")).collect();
    cluster.wait_for_members(&all).await;
    cluster
}

/// A key that is no text, and a value of up to 300 bytes of any kind.
fn odd(number: u32) -> (Vec<u8>, Vec<u8>) {
    let key = [&[255, (number % 251) as u8, 0, b'\n'], &number.to_be_bytes()[..]].concat();
    let value = (0..number % 300).map(|place| (number.wrapping_mul(31).wrapping_add(place * 7)) as u8).collect();
    (key, value)
}

async fn fill(client: &Client) {
    let tasks: Vec<_> = (0..KEYS)
        .map(|number| {
            let (client, (key, value)) = (client.clone(), odd(number));
            tokio::spawn(async move { client.add(key, value).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("added");
    }
}

async fn scanned(client: &Client, options: ScanOptions) -> BTreeMap<Bytes, Bytes> {
    let (mut scan, mut found) = (client.scan_with(options), BTreeMap::new());
    while let Some(entry) = scan.next().await.expect("served") {
        found.insert(entry.key, entry.value);
    }
    found
}

fn first_line(file: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(file).expect("an export is text");
    serde_json::from_str(text.lines().next().expect("a line")).expect("JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of a test is text")
}

/// What a process that has ended has said.
fn said(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    said
}

#[tokio::test]
async fn an_export_among_writes_is_of_one_version_and_is_the_same_elsewhere() {
    let (here, there) = (started(3).await, started(1).await);
    let client = here.client().await;
    fill(&client).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, is_done) = (client.clone(), is_done.clone());
            tokio::spawn(async move {
                let mut number = writer;
                while !is_done.load(Ordering::Relaxed) {
                    let (key, _) = odd(number % KEYS);
                    client.add(&key, "later").await.expect("replaced");
                    client.delete(odd((number + 2) % KEYS).0).await.expect("deleted");
                    client.add([&key[..], b"+"].concat(), "later").await.expect("added");
                    number += 37;
                }
            })
        })
        .collect();
    let file = here.folder.path().join("export");
    let exporting = {
        let (servers, file) = (here.addresses(), file.clone());
        move || crate::world::run_with(&servers, &["export", "--to", text(&file), "--output", "json"])
    };
    let exported = tokio::task::spawn_blocking(exporting).await.expect("no panic");
    is_done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("it writes to the end");
    }
    assert_eq!(code(&exported), 0, "{exported:?}");
    let summary: serde_json::Value = serde_json::from_str(&stdout(&exported)).expect("one object");
    let header = first_line(&file);
    assert_eq!((&summary["version"], &summary["cluster"]), (&header["version"], &header["cluster"]));
    assert!(stderr(&exported).starts_with("heirloom: exported ") && stderr(&exported).lines().count() == 1);

    let imported = there.run(&["import", text(&file), "--output", "json"]);
    assert_eq!(code(&imported), 0, "{imported:?}");
    let added: serde_json::Value = serde_json::from_str(&stdout(&imported)).expect("one object");
    assert_eq!((&added["keys"], &added["xxh3_128"]), (&summary["keys"], &summary["xxh3_128"]));
    assert_eq!(stderr(&imported).lines().count(), 1, "{}", stderr(&imported));

    let version = Version(header["version"].as_u64().expect("a number"));
    let cluster = header["cluster"].as_str().expect("text").parse().expect("a cluster");
    let then = ScanOptions { at: Some((version, cluster)), ..ScanOptions::default() };
    let (then, now) = (scanned(&client, then).await, scanned(&client, ScanOptions::default()).await);
    let imported = scanned(&there.client().await, ScanOptions::default()).await;
    assert_eq!(imported.len() as u64, summary["keys"].as_u64().expect("a number"));
    assert!(imported == then, "{} keys were there at version {version}", then.len());
    assert!(imported != now, "others wrote meanwhile");

    // As an interrupted export would have left it; the servers still know what there was then.
    for number in (0..KEYS).step_by(100) {
        client.add(odd(number).0, "much later").await.expect("added");
    }
    let whole = std::fs::read(&file).expect("there");
    let (left, resumed) = (here.folder.path().join("resumed.part"), here.folder.path().join("resumed"));
    std::fs::write(&left, &whole[..whole.len() / 2]).expect("written");
    let gone_on = here.run(&["export", "--to", text(&resumed), "--resume"]);
    assert_eq!(code(&gone_on), 0, "{gone_on:?}");
    assert!(std::fs::read(&resumed).expect("there") == whole, "it goes on at the version that it began with");

    let again = here.run(&["export", "--to", text(&file)]);
    assert_eq!(code(&again), 2, "{again:?}");
    let printed = there.run(&["export"]);
    assert_eq!((code(&printed), stdout(&printed).lines().count()), (0, imported.len() + 2));
}

/// An import from a pipe, by the line that a person would type.
fn import_from_pipe(line: &str) -> Child {
    // `exec`, so that a signal goes to the command itself.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {line}")]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

#[tokio::test]
async fn an_import_that_is_interrupted_goes_on_through_a_failover() {
    let here = started(1).await;
    // A server that stands still for a moment must not be put out of the set.
    let mut there = Cluster::start(3, 0, &["--suspicion", "10s"]);
    let primary = there.wait_for_members(&[0, 1, 2]).await;
    fill(&here.client().await).await;
    let exported = here.run(&["export"]);
    assert_eq!(code(&exported), 0, "{exported:?}");
    let all = stdout(&exported);
    let bytes_of = |lines: usize| all.split_inclusive('\n').take(lines).map(str::len).sum::<usize>();
    let (some, half) = (bytes_of(300), bytes_of(2_500));

    let line = format!("{HEIRLOOM} import - --servers {} --timeout 20s", there.addresses());
    let mut import = import_from_pipe(&line);
    let mut input = import.stdin.take().expect("piped");
    input.write_all(&all.as_bytes()[..some]).expect("it reads");
    there.wait_until("some keys", |all| all.iter().flatten().any(|status| status.keys >= 256)).await;
    let backup = (primary + 1) % 3;
    there.signal(backup, Signal::STOP);
    input.write_all(&all.as_bytes()[some..half]).expect("it reads");
    let is_under_way =
        |all: &[Option<v1::StatusResponse>]| all[primary].as_ref().is_some_and(|status| status.log_end > status.commit);
    there.wait_until("keys under way", is_under_way).await;
    signal_child(&import, Signal::INT);
    there.signal(backup, Signal::CONT);
    assert_eq!(wait_with_limit(&mut import), 3);
    drop(input);
    let said_so = said(&mut import);
    assert!(said_so.starts_with("heirloom: interrupted\n"), "{said_so}");
    let (_, again) = said_so.trim_end().rsplit_once("by: ").expect("how to go on");
    let (_, rest) = again.split_once("--from-line ").expect("from where");
    let from_line: usize = rest.split(' ').next().expect("a word").parse().expect("a number");
    let client = there.client().await;
    let added = scanned(&client, ScanOptions::default()).await.len();
    assert_eq!(added, from_line - 2, "what was under way was waited for: {said_so}");
    assert!((257..2_500).contains(&added), "{said_so}");

    // What others do to keys that are in is not undone.
    let (mine, _) = odd(0);
    assert!(all.lines().nth(1).is_some_and(|line| line.contains("key_base64")), "the first key is odd(0)");
    client.add(&mine, "mine").await.expect("added");
    let mut import = import_from_pipe(again);
    let mut input = import.stdin.take().expect("piped");
    input.write_all(&all.as_bytes()[..half + half / 2]).expect("it reads");
    let wanted = added as u64 + 500;
    there.wait_until("more keys", |all| all.iter().flatten().any(|status| status.keys >= wanted)).await;
    let primary = there.wait_for_members(&[0, 1, 2]).await;
    there.kill(primary);
    input.write_all(&all.as_bytes()[half + half / 2..]).expect("it reads");
    drop(input);
    assert_eq!(wait_with_limit(&mut import), 0, "{}", said(&mut import));
    let mut wanted = scanned(&here.client().await, ScanOptions::default()).await;
    wanted.insert(mine.into(), Bytes::from("mine"));
    assert!(scanned(&client, ScanOptions::default()).await == wanted, "keys are missing, or other than they were");
}

#[tokio::test]
async fn an_import_that_finds_no_servers_says_how_to_go_on() {
    let here = started(1).await;
    fill(&here.client().await).await;
    let file = here.folder.path().join("it's all");
    assert_eq!(code(&here.run(&["export", "--to", text(&file)])), 0);
    let nobody = format!("127.0.0.1:{}", crate::world::free_port());
    let failed = crate::world::run_with(&nobody, &["import", text(&file), "--timeout", "300ms"]);
    assert_eq!(code(&failed), 3, "{failed:?}");
    let said = stderr(&failed);
    assert!(said.contains("(lines 2 to 257) was not applied"), "{said}");
    let quoted = text(&file).replace('\'', r"'\''");
    let again = format!("by: {HEIRLOOM} import --from-line 2 '{quoted}' --timeout 300ms --servers {nobody}\n");
    assert!(said.ends_with(&again), "{said}\n{again}");
}

#[tokio::test]
async fn an_export_to_a_reader_that_stands_still_can_be_interrupted() {
    let cluster = started(1).await;
    fill(&cluster.client().await).await;
    let mut export = Command::new(HEIRLOOM)
        .args(["export", "--servers", &cluster.addresses()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut out = export.stdout.take().expect("piped");
    let mut first = [0; 10];
    out.read_exact(&mut first).expect("it writes");
    assert_eq!(&first, b"{\"format\":");
    signal_child(&export, Signal::INT);
    assert_eq!(wait_with_limit(&mut export), 3);
    let said = said(&mut export);
    assert!(said.starts_with("heirloom: interrupted\n") && said.contains("not whole"), "{said}");
}
