//! Watching, by the command and by the library, through the loss of servers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::{ChangeSet, Client, Conditional, Error, Version, Watch, WatchLost, WatchOptions};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::world::{Cluster, HEIRLOOM, PATIENCE, code, signal_child, stderr, stdout, wait_with_limit};

/// A busy machine must not make a living server look silent. A death is proven all the same.
const PATIENT: &[&str] = &["--suspicion", "10s"];
const FAILOVERS: usize = 10;
const WRITERS: u64 = 4;
/// More than a server keeps of what was changed. **Units:** values of [`LARGE`] bytes.
const MORE_THAN_KEPT: u64 = 80;
const LARGE: usize = 512 << 10;

/// The changes of one version: each key with its value then.
type Changes = BTreeMap<String, Option<String>>;

/// What writers were told: the version of each change that was acknowledged, and those that nobody knows of.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeMap<u64, Changes>,
    unknown: Vec<Changes>,
}

/// Writes adds, deletes and change sets of its own keys until it is stopped; every value is written once.
async fn write(client: Client, writer: u64, stop: Arc<AtomicBool>, told: Arc<Mutex<Told>>) {
    for number in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = |of: u64| format!("{}/{writer}/{}", if of.is_multiple_of(2) { "even" } else { "odd" }, of % 5);
        let value = Some(format!("{writer}-{number}"));
        let (changes, result) = match number % 3 {
            0 => {
                let result = client.add(key(number), value.clone().unwrap_or_default()).await;
                (Changes::from([(key(number), value)]), result)
            }
            1 => {
                let result = client.delete(key(number - 1)).await;
                (Changes::from([(key(number - 1), None)]), result)
            }
            _ => {
                let one = value.clone().unwrap_or_default();
                let set = ChangeSet::new().add(key(number), one.clone()).add(key(number + 1), one);
                let result = client.change_set(set).await.map(|done| match done {
                    Conditional::Done(changed) => changed,
                    Conditional::NotMet(_) => panic!("there was no condition"),
                });
                (Changes::from([(key(number), value.clone()), (key(number + 1), value)]), result)
            }
        };
        let mut told = told.lock().expect("no writer panicked");
        match result {
            Ok(changed) => {
                let other = told.acknowledged.insert(changed.version.0, changes);
                assert_eq!(other, None, "two changes of version {}", changed.version);
            }
            Err(Error::Unknown(_)) => told.unknown.push(changes),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads a watch up to a version that is told later.
fn follow(
    mut watch: Watch,
    mut last: tokio::sync::watch::Receiver<Option<u64>>,
) -> JoinHandle<Vec<(u64, Changes, u8)>> {
    tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let until = *last.borrow_and_update();
            if until.is_some_and(|until| seen.last().is_some_and(|(version, _, _)| *version >= until)) {
                return seen;
            }
            tokio::select! {
                watched = watch.next() => {
                    let watched = watched.expect("it goes on");
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                    let changes = watched.changes.iter().map(|c| (text(&c.key), c.value.as_deref().map(text)));
                    seen.push((watched.version.0, changes.collect(), watched.server.0));
                }
                changed = last.changed() => changed.expect("it is told"),
            }
        }
    })
}

#[tokio::test]
async fn a_watcher_that_lives_through_many_failovers_sees_every_change_once_and_in_order() {
    let mut cluster = Cluster::start(3, 0, PATIENT);
    let mut primary = cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await;
    let (until, last) = tokio::sync::watch::channel(None);
    let mut watchers = Vec::new();
    for _ in 0..3 {
        watchers.push(follow(client.watch("").await.expect("begun"), last.clone()));
    }
    let of_prefix = follow(client.watch("even/").await.expect("begun"), last.clone());
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Told::default())));
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(client.clone(), writer, stop.clone(), told.clone()))).collect();
    for _ in 0..FAILOVERS {
        cluster.kill(primary);
        let rest: Vec<u32> = (0..3).filter(|id| *id != primary as u32).collect();
        let next = cluster.wait_for_members(&rest).await;
        cluster.start_server(primary);
        assert_eq!(cluster.wait_for_members(&[0, 1, 2]).await, next, "no fail-back");
        primary = next;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    // The last change concerns all who watch.
    let end = client.add("even/end", "end").await.expect("added").version.0;
    until.send_replace(Some(end));

    let told = std::mem::take(&mut *told.lock().expect("no writer panicked"));
    let mut all = Vec::new();
    for watcher in watchers {
        all.push(tokio::time::timeout(PATIENCE, watcher).await.expect("it ends").expect("no panic"));
    }
    let prefixed = tokio::time::timeout(PATIENCE, of_prefix).await.expect("it ends").expect("no panic");
    for seen in &all {
        // Every version changes some key, so whoever watches them all sees each number once.
        assert!((1..=end).eq(seen.iter().map(|(version, _, _)| *version)), "a gap, a double or a wrong order");
        let mut unknown = told.unknown.clone();
        for (version, changes, _) in &seen[..seen.len() - 1] {
            match told.acknowledged.get(version) {
                Some(acknowledged) => assert_eq!(changes, acknowledged, "at version {version}"),
                None => {
                    let of = unknown.iter().position(|unknown| unknown == changes);
                    let of = of.unwrap_or_else(|| panic!("nobody wrote {changes:?} at version {version}"));
                    unknown.swap_remove(of);
                }
            }
        }
    }
    let of_prefix = |(version, changes): (u64, Changes)| {
        let concerned: Changes = changes.into_iter().filter(|(key, _)| key.starts_with("even/")).collect();
        (!concerned.is_empty()).then_some((version, concerned))
    };
    let expected = all[0].iter().map(|(version, changes, _)| (*version, changes.clone())).filter_map(of_prefix);
    assert!(expected.eq(prefixed.iter().map(|(version, changes, _)| (*version, changes.clone()))));
    let servers: BTreeSet<u8> = all[0].iter().map(|(_, _, server)| *server).collect();
    assert!(servers.len() > 1 && told.acknowledged.len() > 500, "{servers:?} {}", told.acknowledged.len());
}

#[tokio::test]
async fn a_watch_goes_on_elsewhere_when_its_server_falls_silent() {
    let cluster = Cluster::start(3, 0, &[]);
    cluster.wait_for_members(&[0, 1, 2]).await;
    let client = cluster.client().await;
    let mut watch = client.watch("").await.expect("begun");
    let first = client.add("k", "before").await.expect("added").version;
    let watched = watch.next().await.expect("told");
    assert_eq!(watched.version, first);
    let silent = usize::from(watched.server.0);
    cluster.signal(silent, Signal::STOP);
    let others: Vec<&str> =
        cluster.servers.iter().filter(|server| server.id != silent).map(|server| server.address.as_str()).collect();
    let second = heirloom::Client::connect(others).await.expect("a client");
    let second = second.with_timeout(PATIENCE).add("k", "after").await.expect("added by the others").version;
    let watched = tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time").expect("told");
    assert_eq!(watched.version, second);
    assert_ne!(usize::from(watched.server.0), silent);
    cluster.signal(silent, Signal::CONT);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_told_that_it_was_cut_off_and_slows_nobody() {
    let cluster = Cluster::start(1, 0, &[]);
    cluster.wait_for_members(&[0]).await;
    let client = cluster.client().await;
    let mut stuck = client.watch("").await.expect("begun");
    let mut other = client.watch("").await.expect("begun");
    let reading = tokio::spawn(async move {
        for version in 1..=MORE_THAN_KEPT {
            assert_eq!(other.next().await.expect("told").version, Version(version));
        }
    });
    for number in 1..=MORE_THAN_KEPT {
        client.add(format!("key-{number}"), vec![b'v'; LARGE]).await.expect("added");
    }
    tokio::time::timeout(PATIENCE, reading).await.expect("it sees all").expect("no panic");
    let mut seen = 0;
    let error = loop {
        match stuck.next().await {
            Ok(watched) => {
                seen += 1;
                assert_eq!(watched.version, Version(seen), "in order until the end");
            }
            Err(error) => break error,
        }
    };
    let Error::WatchLost(WatchLost::TooOld { wanted, oldest, .. }) = error.clone() else { panic!("{error}") };
    assert_eq!(wanted, Version(seen + 1));
    assert!(oldest > wanted && oldest.0 < MORE_THAN_KEPT, "{oldest}");
    assert!(error.to_string().contains(&format!("the oldest version that is kept is {oldest}")), "{error}");
    assert_eq!(stuck.next().await, Err(error), "it stays so");
    let from_oldest = WatchOptions { from_version: Some(oldest), ..WatchOptions::default() };
    let mut again = client.watch_with(from_oldest).await.expect("kept");
    assert_eq!(again.next().await.expect("told").version, oldest);

    let watch = cluster.run(&["watch", "--from-version", "1"]);
    assert_eq!(code(&watch), 1, "{watch:?}");
    assert!(stderr(&watch).contains(&format!("the oldest version that is kept is {oldest}")), "{watch:?}");
}

/// A command that watches, and its output line by line.
fn start(cluster: &Cluster, args: &[&str]) -> (Child, std::io::Lines<BufReader<std::process::ChildStdout>>) {
    let mut child = Command::new(HEIRLOOM)
        .args(args)
        .args(["--servers", &cluster.addresses()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    (child, lines)
}

#[tokio::test]
async fn the_command_prints_changes_of_what_it_is_asked_for() {
    let cluster = Cluster::start(3, 0, PATIENT);
    cluster.wait_for_members(&[0, 1, 2]).await;
    for args in [["add", "a/1", "v"], ["add", "b", "w"], ["add", "a/2", "x"], ["append", "a/", "y"]] {
        assert_eq!(code(&cluster.run(&args)), 0, "{args:?}");
    }
    assert_eq!(code(&cluster.run(&["delete", "a/1"])), 0);
    let watch = |more: &[&str]| {
        let output = cluster.run(&[&["watch", "--from-version", "1"], more].concat());
        assert_eq!(code(&output), 0, "{output:?}");
        stdout(&output)
    };
    let appended = "a/00000000000000000001";
    assert_eq!(
        watch(&["--limit", "5"]),
        format!("1\tadd\ta/1\tv\n2\tadd\tb\tw\n3\tadd\ta/2\tx\n4\tadd\t{appended}\ty\n5\tdelete\ta/1\n")
    );
    assert_eq!(watch(&["a/", "--limit", "2"]), "1\tadd\ta/1\tv\n3\tadd\ta/2\tx\n");
    assert_eq!(watch(&["--key", "a/1", "--limit", "2"]), "1\tadd\ta/1\tv\n5\tdelete\ta/1\n");
    for server in 0..3u64 {
        let told = watch(&["--key", "a/1", "--limit", "2", "--from", &server.to_string(), "--output", "json"]);
        let told: Vec<serde_json::Value> =
            told.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
        assert_eq!((&told[0]["key"], &told[0]["value"], &told[0]["version"]), (&"a/1".into(), &"v".into(), &1.into()));
        assert_eq!((&told[1]["deleted"], &told[1]["version"]), (&true.into(), &5.into()));
        assert!(
            told.iter().all(|told| told["server"] == server && told["changed_at_ms"].as_u64() > Some(0)),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn the_command_ends_quietly_when_it_is_told_to_or_nobody_reads_and_says_when_nobody_answers() {
    let mut cluster = Cluster::start(1, 0, &[]);
    cluster.wait_for_members(&[0]).await;
    for signal in [Signal::INT, Signal::TERM] {
        let (mut child, mut lines) = start(&cluster, &["watch", "--from-version", "1"]);
        assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0);
        assert!(lines.next().expect("a line").expect("text").ends_with("\tadd\tk\tv"));
        signal_child(&child, signal);
        assert_eq!(wait_with_limit(&mut child), 0);
    }
    let (mut child, lines) = start(&cluster, &["watch"]);
    drop(lines);
    // It notices at its next line or the one after.
    for _ in 0..100 {
        if child.try_wait().expect("ours").is_some() {
            break;
        }
        assert_eq!(code(&cluster.run(&["add", "k", "v"])), 0);
    }
    assert_eq!(wait_with_limit(&mut child), 0);
    cluster.kill(0);
    let begun = std::time::Instant::now();
    let watch = cluster.run(&["watch", "--timeout", "300ms"]);
    assert_eq!(code(&watch), 3, "{watch:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(stderr(&watch).contains("connection refused"), "{watch:?}");
    assert_eq!(code(&cluster.run(&["watch", "k", "--key", "k"])), 2);
}
