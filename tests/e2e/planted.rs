//! Bugs that are planted in real processes: by the environment alone, and said aloud.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::world::{HEIRLOOM, free_port};

/// Starts a server alone with this bug, and reads what it says up to the beginning of its run.
fn said(mutant: Option<&str>, folder: &tempfile::TempDir) -> Vec<String> {
    let mut command = Command::new(HEIRLOOM);
    command.args(["serve", "--cluster", &format!("127.0.0.1:{}", free_port()), "--data-dir"]).arg(folder.path());
    command.env_remove("HEIRLOOM_MUTANT").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.envs(mutant.map(|name| ("HEIRLOOM_MUTANT", name)));
    let mut server = command.spawn().expect("the executable starts");
    let mut lines = Vec::new();
    for line in BufReader::new(server.stderr.take().expect("piped")).lines() {
        let line = line.expect("text");
        let begun = line.contains("begins a run");
        lines.push(line);
        if begun {
            break;
        }
    }
    // It may have ended by itself.
    let _ = server.kill();
    server.wait().expect("it was started");
    lines
}

/// The run that a server said it begins.
fn run(lines: &[String]) -> Option<&str> {
    let (_, rest) = lines.last()?.split_once("run")?;
    let digits = rest.rsplit('=').nth(1)?;
    Some(digits)
}

#[test]
fn a_bug_is_planted_where_the_environment_says_so_and_is_said_aloud() {
    let folder = tempfile::tempdir().expect("a folder");
    let planted = |lines: &[String]| lines.iter().any(|line| line.contains("a bug is planted in this server"));
    let [one, two] = [(); 2].map(|()| said(Some("run-id-reused"), &folder));
    assert!(planted(&one) && planted(&two), "{one:?} {two:?}");
    assert!(run(&one).is_some() && run(&one) == run(&two), "{one:?} {two:?}");
    let [one, two] = [(); 2].map(|()| said(None, &folder));
    assert!(!planted(&one) && !planted(&two), "{one:?} {two:?}");
    assert_ne!(run(&one), run(&two), "{one:?} {two:?}");
    let unknown = said(Some("nonsense"), &folder);
    assert!(unknown.iter().any(|line| line.contains("clock-read-early")), "{unknown:?}");
}
