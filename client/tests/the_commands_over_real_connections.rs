//! The commands against fake servers on real connections: how they end, when, and what they leave behind.
//!
//! Each runs in a runtime of its own that ends with it, as in the executable: what a command leaves to a task in the
//! background is not done.

mod command;
mod fake;

use std::process::ExitCode;
use std::time::Duration;

use command::{addresses, run, run_to_end};
use fake::{Fake, Script, Shared, cluster};
use heirloom_proto::{Refusal, Version};

/// Commands of which each needs an answer.
const ALL: [&[&str]; 6] =
    [&["add", "k", "v"], &["read", "k"], &["promote", "1"], &["fence", "1", "--it-is-off"], &["status"], &["verify"]];

/// Lets the opening of a session pass.
const PASS: Script = Script::Delay(Duration::ZERO);

#[test]
fn a_command_that_is_refused_closes_its_session() {
    let (shared, _servers) = cluster(3);
    shared.script(0, [PASS, Script::Refuse(Refusal::BadValue { bytes_max: 1 })]);
    assert_eq!(run(&addresses(&shared), &["add", "k", "value"], 5_000), ExitCode::from(2));
    let world = shared.lock();
    assert_eq!((world.opened, world.sessions.len()), (1, 0));
}

#[test]
fn a_command_that_is_never_answered_closes_its_session_and_ends_in_time() {
    let (shared, _servers) = cluster(3);
    shared.script(0, [PASS]);
    shared.script(0, vec![Script::Swallow; 1_000]);
    assert_eq!(run(&addresses(&shared), &["add", "k", "v"], 1_000), ExitCode::from(3));
    let world = shared.lock();
    assert_eq!((world.applied, world.opened, world.sessions.len()), (1, 1, 0));
}

#[test]
fn nothing_outlasts_its_time_where_servers_are_silent() {
    let (shared, _servers) = cluster(3);
    for server in 0..3 {
        shared.script(server, vec![Script::Swallow; 1_000]);
        shared.lock().status_silences.insert(server, u32::MAX);
    }
    let servers = addresses(&shared);
    for line in ALL {
        assert_eq!(run(&servers, line, 600), ExitCode::from(3), "{line:?}");
    }
}

#[test]
fn nothing_outlasts_its_time_where_something_else_listens() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let servers = silent.local_addr().expect("bound").to_string();
    for line in ALL {
        assert_eq!(run(&servers, line, 600), ExitCode::from(3), "{line:?}");
    }
}

/// Three servers with these keys.
fn filled(keys: &[&'static str]) -> (Shared, Vec<Fake>) {
    let (shared, servers) = cluster(3);
    {
        let mut world = shared.lock();
        world.entries = (1..).zip(keys).map(|(version, key)| ((*key).into(), ("value".into(), version))).collect();
        world.version = world.entries.len() as u64;
    }
    (shared, servers)
}

const KEYS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn pages_asked(shared: &Shared, server: u8) -> usize {
    shared.lock().requests.iter().filter(|(asked, words)| *asked == server && words == "UnaryScan").count()
}

#[test]
fn verify_compares_digests_and_keys_where_they_are_wanted() {
    let (shared, _servers) = filled(&KEYS);
    // Some are enough, the others are learnt.
    let first = shared.lock().addresses[0].clone();
    assert_eq!(run(&first, &["verify"], 5_000), ExitCode::SUCCESS);
    assert_eq!([0, 1, 2].map(|server| pages_asked(&shared, server)), [0; 3]);
    assert_eq!(run(&first, &["verify", "--keys"], 5_000), ExitCode::SUCCESS);
    let pages = KEYS.len().div_ceil(fake::PAGE_COUNT);
    assert_eq!([0, 1, 2].map(|server| pages_asked(&shared, server)), [pages; 3]);
    assert_eq!(run(&first, &["verify", "--keys", "--output", "json"], 5_000), ExitCode::SUCCESS);
}

#[test]
fn verify_finds_any_key_that_differs_at_any_server() {
    for server in 0..3 {
        for key in ["a", "d", "g", "0", "z"] {
            let (shared, _servers) = filled(&KEYS);
            let others: [Option<(bytes::Bytes, u64)>; 3] =
                [None, Some(("other".into(), 1)), Some(("value".into(), 77))];
            for other in others {
                let differs = shared.lock().entries.contains_key(key.as_bytes()) || other.is_some();
                shared.lock().differing.insert(server, [(key.into(), other.clone())].into());
                let servers = addresses(&shared);
                assert_eq!(run(&servers, &["verify"], 5_000), ExitCode::SUCCESS, "the digests are equal");
                let wanted = ExitCode::from(if differs { 4 } else { 0 });
                let found = run(&servers, &["verify", "--keys", "--all"], 5_000);
                assert_eq!(found, wanted, "{key} of server {server}: {other:?}");
            }
        }
    }
}

#[test]
fn verify_looks_at_keys_where_digests_differ() {
    let (shared, _servers) = filled(&KEYS);
    shared.lock().digests.insert(1, "f".repeat(32));
    assert_eq!(run(&addresses(&shared), &["verify"], 5_000), ExitCode::from(4), "though all keys are equal");
    assert_ne!([0, 1, 2].map(|server| pages_asked(&shared, server)).iter().min(), Some(&0));
}

#[test]
fn verify_misses_a_dead_server_and_compares_the_others() {
    let (shared, mut servers) = filled(&KEYS);
    drop(servers.pop());
    assert_eq!(run(&addresses(&shared), &["verify", "--keys"], 5_000), ExitCode::from(3));
    assert_ne!([0, 1].map(|server| pages_asked(&shared, server)).iter().min(), Some(&0));
    shared.lock().differing.insert(1, [("d".into(), None)].into());
    assert_eq!(run(&addresses(&shared), &["verify", "--keys"], 5_000), ExitCode::from(4));
    drop(servers.pop());
    assert_eq!(run(&addresses(&shared), &["verify", "--keys"], 5_000), ExitCode::from(3), "one alone equals nobody");
}

#[test]
fn verify_misses_a_server_that_does_not_come_to_the_version() {
    let (shared, _servers) = filled(&KEYS);
    shared.lock().behind.insert(2, 3);
    assert_eq!(run_to_end(&addresses(&shared), &["verify"], 2_000), ExitCode::from(3));
    let pages = KEYS.len().div_ceil(fake::PAGE_COUNT);
    assert_eq!([0, 1].map(|server| pages_asked(&shared, server)), [pages; 2], "the others are compared to the end");
    shared.lock().differing.insert(1, [("g".into(), None)].into());
    assert_eq!(run_to_end(&addresses(&shared), &["verify"], 2_000), ExitCode::from(4));
}

#[test]
fn verify_waits_for_a_server_that_comes_to_the_version_late() {
    let (shared, _servers) = filled(&KEYS);
    let not_yet = Script::Refuse(Refusal::NotPrimary { primary: Some(heirloom_proto::ServerId(0)) });
    shared.script(2, vec![not_yet; 3]);
    assert_eq!(run(&addresses(&shared), &["verify", "--keys"], 5_000), ExitCode::SUCCESS);
    assert_eq!(pages_asked(&shared, 2), 3 + KEYS.len().div_ceil(fake::PAGE_COUNT));
}

#[test]
fn verify_begins_anew_twice_where_the_version_is_no_longer_kept() {
    let too_old = || Script::Refuse(Refusal::VersionTooOld { oldest: Version(5) });
    for (refusals, wanted) in [(0, 0), (1, 0), (2, 0), (3, 3)] {
        let (shared, _servers) = filled(&KEYS);
        shared.script(1, vec![too_old(); refusals]);
        let found = run(&addresses(&shared), &["verify", "--keys"], 5_000);
        assert_eq!(found, ExitCode::from(wanted), "{refusals}");
    }
}

#[test]
fn verify_does_not_compare_what_was_set_back() {
    let (shared, _servers) = filled(&KEYS);
    shared.script(2, [Script::Refuse(Refusal::OtherCluster)]);
    assert_eq!(run(&addresses(&shared), &["verify", "--keys"], 5_000), ExitCode::from(3));
}
