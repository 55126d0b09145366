//! Every bug and the test that catches it.
//!
//! A test runs one check on the sound runtime, where it must hold, and with the bug planted, where it must not; so it
//! fails where the runtime has the bug, and where the check would not see it.

mod disk;
mod driver;
mod gate;
mod server;
mod streams;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use super::{Mutant, Planted, table};

/// How long a check may take; far longer than any does.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a check comes to: an error says what was seen that must never be. Whatever else goes wrong is a panic.
type Verdict = Result<(), String>;

/// Runs an asynchronous check on this thread alone, so that nothing happens between two of its steps that waits for
/// nobody.
fn alone(check: impl Future<Output = Verdict>) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, check).await }).expect("it comes to an end")
}

fn judge(mutant: Mutant, check: impl Fn(Planted) -> Verdict) {
    assert_eq!(check(Planted::NONE), Ok(()), "the sound runtime");
    assert!(check(Planted::bug(mutant)).is_err(), "{} is not caught", mutant.name());
}

/// The tests, each with its bug and its check.
macro_rules! caught {
    ($($test:ident: $mutant:ident by $check:expr;)*) => {
        $(#[test]
        fn $test() {
            judge(Mutant::$mutant, $check);
        })*

        const TESTS: &[(Mutant, &str)] = &[$((Mutant::$mutant, stringify!($test)),)*];
    };
}

caught! {
    no_answer_leaves_while_its_entry_waits_for_the_disk:
        AnswerBeforePersisted by |planted| alone(driver::answer_while_the_log_is_not_synced(planted));
    what_was_answered_survives_a_power_failure:
        LogSyncLeftOut by |planted| alone(driver::answered_and_power_fails(planted));
    a_promise_reported_durable_survives_a_power_failure:
        RegisterSyncLeftOut by disk::register_and_power_fails;
    a_rotten_file_takes_back_no_promise:
        RegisterKeptOnce by disk::register_rots;
    entries_in_a_new_segment_survive_a_power_failure:
        NameSyncLeftOut by disk::segments_and_power_fails;
    a_write_that_the_disk_lost_is_not_reported_durable:
        ReadBackFromMemory by disk::write_is_lost;
    two_servers_never_share_a_data_directory:
        LockLeftOut by disk::opened_twice;
    a_read_that_waited_is_not_served_under_a_lease_that_has_ended:
        ClockReadEarly by |planted| alone(server::read_waits_beyond_the_lease(planted));
    a_server_whose_disk_hangs_goes_on_talking:
        DriverWaitsForDisk by |planted| alone(driver::disk_hangs(planted));
    no_two_runs_of_a_server_have_one_id:
        RunIdReused by |planted| alone(streams::runs_follow_one_another(planted));
    nothing_of_a_stream_is_taken_once_it_is_broken_or_replaced:
        ReorderedOverReconnect by |planted| alone(streams::late_messages(planted));
    a_confirmation_that_was_lost_is_made_good_by_the_next_echo:
        ConfirmNotMadeGood by |planted| alone(streams::confirmation_is_lost(planted));
    a_refused_connection_means_that_the_node_has_stopped:
        SocketClosedFirst by |planted| alone(server::told_to_stop(planted));
}

#[test]
fn every_bug_has_the_test_that_its_table_names() {
    let named: Vec<(Mutant, &str)> = Mutant::ALL.into_iter().map(|mutant| (mutant, mutant.caught_by())).collect();
    assert_eq!(named, TESTS);
}

#[test]
fn the_page_of_planted_bugs_is_the_one_that_is_generated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mutants-runtime.md");
    if std::env::var_os("HEIRLOOM_WRITE_PAGES").is_some() {
        std::fs::write(&path, table()).expect("the folder of the pages");
    }
    let page = std::fs::read_to_string(&path).expect("the page");
    assert_eq!(page, table(), "write it anew by HEIRLOOM_WRITE_PAGES=1 cargo test -p heirloom-server mutants");
}
