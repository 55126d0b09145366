//! Partitions between real hosts: three servers in three network namespaces, behind a router that drops what one host
//! sends another, in one direction or both; and a file system of its own that is full.
//!
//! Needs root and `ip`; where namespaces can't be made each test is reported as ignored, by name and with the reason.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

#[path = "../world/mod.rs"]
mod world;

mod hosts;

use std::process::ExitCode;
use std::time::Instant;

use hosts::Hosts;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: [(&str, fn()); 5] = [
        ("a_primary_cut_off_both_ways_acknowledges_nothing_that_is_lost", both_ways),
        ("a_primary_that_can_send_but_not_hear_acknowledges_nothing_that_is_lost", cannot_hear),
        ("a_primary_that_can_hear_but_not_send_acknowledges_nothing_that_is_lost", cannot_send),
        ("a_backup_cut_off_is_put_out_and_comes_back", backup_cut_off),
        ("a_server_whose_disk_is_full_steps_out_and_comes_back_once_there_is_room", full_disk),
    ];
    let obstacle = hosts::obstacle();
    let trials = tests.into_iter().map(|(name, test)| {
        let trial = Trial::test(name, move || run(test));
        match &obstacle {
            Some(reason) => trial.with_kind(format!("skipped: {reason}")).with_ignored_flag(true),
            None => trial,
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run(test: fn()) -> Result<(), Failed> {
    std::panic::catch_unwind(test).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Failed::from(text.unwrap_or_else(|| "it panicked".to_owned()))
    })
}

fn both_ways() {
    split(|hosts| {
        for other in [1, 2] {
            hosts.cut(0, other);
            hosts.cut(other, 0);
        }
    });
}

fn cannot_hear() {
    split(|hosts| {
        for other in [1, 2] {
            hosts.cut(other, 0);
        }
    });
}

fn cannot_send() {
    split(|hosts| {
        for other in [1, 2] {
            hosts.cut(0, other);
        }
    });
}

/// Clients on both sides write and read while the primary is cut off: never do two servers acknowledge.
fn split(cut: fn(&mut Hosts)) {
    let mut hosts = Hosts::start(3);
    hosts.wait_for_primary(0, &[0, 1, 2]);
    assert_eq!(hosts.client(0, &[0, 1, 2], &["add", "before", "the cut"]).code, 0);
    cut(&mut hosts);

    // One client beside each server, which knows only that server's side: their writes and their answers, in time.
    let side_of_old = hosts.writer(0, &[0], "old");
    let side_of_new = hosts.writer(1, &[1, 2], "new");
    hosts.wait_for_another_primary(0);
    let written_by_new = side_of_new.wait_for_acknowledgement_after(Instant::now());
    // The old primary had its lease and its suspicion to find out; from the first write of the new one on it must not
    // have acknowledged anything.
    let read_by_old = hosts.client(0, &[0], &["read", "before", "--timeout", "1s"]);
    assert_eq!(read_by_old.code, 3, "the cut-off primary answered a read: {read_by_old:?}");
    let old = side_of_old.stop();
    assert!(
        old.iter().all(|(_, acknowledged_at)| *acknowledged_at < written_by_new),
        "both sides acknowledged writes at once"
    );
    let new = side_of_new.stop();
    assert!(!new.is_empty());

    hosts.heal();
    hosts.wait_for_members(&[0, 1, 2]);
    for (key, _) in old.iter().chain(&new) {
        let read = hosts.client(2, &[0, 1, 2], &["read", key]);
        assert_eq!(read.code, 0, "{key} was acknowledged and is gone: {read:?}");
    }
    hosts.wait_until_equal();
}

fn backup_cut_off() {
    let mut hosts = Hosts::start(3);
    hosts.wait_for_primary(0, &[0, 1, 2]);
    for other in [0, 1] {
        hosts.cut(2, other);
        hosts.cut(other, 2);
    }
    hosts.wait_for_primary(0, &[0, 1]);
    assert_eq!(hosts.client(0, &[0, 1], &["add", "k", "v"]).code, 0);
    let alone = hosts.client(2, &[2], &["add", "k", "w", "--timeout", "1s"]);
    assert_eq!(alone.code, 3, "one of three acknowledged: {alone:?}");
    hosts.heal();
    hosts.wait_for_members(&[0, 1, 2]);
    assert_eq!(hosts.client(2, &[2], &["read", "k"]).stdout, "v\n");
    hosts.wait_until_equal();
}

/// A log segment takes 64 MiB of the 200, another file nearly all of the rest: the next segment does not fit.
fn full_disk() {
    const MIB: usize = 1 << 20;
    let hosts = Hosts::start_with_small_disk(3, 2, 200);
    hosts.wait_for_primary(0, &[0, 1, 2]);
    assert_eq!(hosts.add_large(0, &[0, 1, 2], "large-0", MIB - 1), 0);
    let ballast = hosts.data_path(2).join("ballast");
    std::fs::write(&ballast, vec![1; 120 * MIB]).expect("there is room for it");
    for number in 1..70 {
        assert_eq!(hosts.add_large(0, &[0, 1, 2], &format!("large-{}", number % 4), MIB - 1), 0, "add {number}");
    }
    hosts.wait_until_it_waits_for(2, "MiB of room in");
    hosts.wait_for_members(&[0, 1]);
    assert_eq!(hosts.client(0, &[0, 1, 2], &["delete", "large-3"]).code, 0);
    assert_eq!(hosts.client(1, &[1], &["read", "large-3"]).code, 1, "it is deleted");
    assert_eq!(hosts.client(2, &[2, 1, 0], &["read", "large-1", "--output", "json"]).code, 0, "another one answers");
    std::fs::remove_file(ballast).expect("removed");
    hosts.wait_for_members(&[0, 1, 2]);
    hosts.wait_until_equal();
}
