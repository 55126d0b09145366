//! A short run of the histories, on the executable as it ships: three servers on loopback that are killed, stopped,
//! paused and restarted while clients work. The schedule is the machine's; the verdict must always be the same.
#![allow(missing_docs, reason = "a test")]

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heirloom_histories::{
    Answer, Demands, Executable, Fault, FaultSet, Mode, Network, Options, Record, Report, Shape, Told, judge,
    read_lines, run,
};

fn options(faults: &[Fault], time: Duration, folder: &Path) -> Options {
    Options {
        shape: Shape { data: 3, witnesses: 0 },
        network: Arc::new(Network::loopback(3)),
        executable: Executable::Shipped(env!("CARGO_BIN_EXE_heirloom").into()),
        told: Told::default(),
        seed: 20_261,
        time,
        faults: FaultSet::These(faults.to_vec()),
        workers: 8,
        commands: 1,
        appenders: 8,
        keys: 24,
        rate: 400,
        demands: Demands::All { failovers_min: 2 },
        out: Some(folder.join("history.jsonl")),
        folder: Some(folder.to_owned()),
        quiet: true,
    }
}

/// The end of every server's log, for a failure.
fn logs(folder: &Path) -> String {
    let last = |id: usize| {
        let log = std::fs::read_to_string(folder.join(format!("log-{id}"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("--- server {id}\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
    };
    (0..3).map(last).collect()
}

/// A read in this history that could be answered with an older value that had certainly been replaced.
fn stale(history: &[Record]) -> Option<(usize, Answer)> {
    history.iter().enumerate().rev().find_map(|(place, read)| {
        let Some(Answer::Found { value: current, version: Some(at), .. }) = &read.result else { return None };
        if read.mode != Mode::Linearizable {
            return None;
        }
        let replaced = history.iter().any(|add| {
            add.key == read.key
                && add.value.as_ref() == Some(current)
                && add.end_ns.is_some_and(|end| end < read.start_ns)
        });
        let older = history.iter().find_map(|other| match &other.result {
            Some(old @ Answer::Found { version: Some(version), .. }) if other.key == read.key && version < at => {
                Some(old)
            }
            _ => None,
        })?;
        replaced.then(|| (place, older.clone()))
    })
}

#[test]
fn killed_stopped_and_paused_servers_give_a_linearizable_history_and_a_stale_read_in_it_is_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let faults = [Fault::Kill, Fault::Terminate, Fault::PauseShort, Fault::PauseLong, Fault::KillAll, Fault::Wipe];
    let report = run(options(&faults, Duration::from_secs(15), folder.path())).expect("it can be run");
    assert!(report.is_good(), "{report}\n{}", logs(folder.path()));

    let file = File::open(folder.path().join("history.jsonl")).expect("written");
    let mut history = read_lines(BufReader::new(file)).expect("our own");
    assert!(judge(&history, None).violations.is_empty());
    let (place, old) = stale(&history).expect("some key was changed twice and read");
    history[place].result = Some(old);
    assert!(!judge(&history, None).violations.is_empty(), "this history shows nothing: a stale read goes unseen");
}

#[test]
fn a_run_in_which_nothing_happened_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report: Report = run(options(&[], Duration::from_millis(500), folder.path())).expect("it can be run");
    assert!(!report.is_good());
    assert!(report.failures.iter().any(|what| what.contains("only 0 failovers were seen")), "{report}");
    assert!(report.judged.violations.is_empty(), "{report}");
}
