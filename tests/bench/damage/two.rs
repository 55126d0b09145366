//! Two servers hurt at once, of three: nobody serves until one of them is there again.

use std::time::{Duration, Instant};

use crate::bench::{Before, Bench};
use crate::faults::{Fault, Holds, Kind, Whole};
use crate::world::{PATIENCE, code, primary_with};

/// Whose files are damaged; where files are swapped, with each other.
const VICTIMS: [usize; 2] = [1, 2];
/// Who has everything.
const THIRD: usize = 0;
/// A refusal is one that lasts: longer than anything that a server may say on its way back.
const REFUSED_FOR: Duration = Duration::from_secs(3);

/// What came of a case.
struct Outcome {
    took: Duration,
    /// Who refused to start, and in which words; its own directory was given back to it then.
    refused: Vec<(usize, String)>,
    /// What the cluster said that would not serve again by itself.
    recovered: Option<String>,
}

pub async fn all(bench: &mut Bench) {
    for kind in Kind::ALL {
        for running in [false, true] {
            for fault in Fault::ALL {
                let [one, two] = VICTIMS;
                let hurt = |bench: &Bench, _: &[Before]| drop(bench.hurt(kind, fault, &[(one, two), (two, one)]));
                let lost = match kind.holds {
                    // One of a server's two identities is another's: it refuses that, or can't tell which is its own.
                    Holds::NothingAlone if kind.files[0].starts_with("identity") && fault == Fault::Swap => None,
                    Holds::NothingAlone => Some(false),
                    // Snapshots of one entry are the same at all servers.
                    Holds::Data if fault == Fault::Swap => None,
                    // A damaged log or snapshot costs the register, too.
                    Holds::Data | Holds::Votes => Some(true),
                    // Who has the name of another one, or none at all, refuses it.
                    Holds::Name => Some(!matches!(fault, Fault::Swap | Fault::Delete)),
                };
                case(bench, (&kind.words(), fault.words(), running), lost, hurt).await;
            }
        }
    }
    kill(bench);
    let old = keep(bench);
    start(bench);
    bench.cluster.wait_for_members(&[0, 1, 2]).await;
    for whole in Whole::ALL {
        let hurt = |bench: &Bench, before: &[Before]| {
            for (place, victim) in VICTIMS.into_iter().enumerate() {
                let from = match whole {
                    Whole::Deleted => None,
                    Whole::Older => Some(&old[place]),
                    Whole::Others => Some(&before[1 - place]),
                };
                bench.put_back(victim, from.map(|from| from.folder.path()));
            }
        };
        let lost = Some(whole != Whole::Others);
        case(bench, ("(the directory)", whole.words(), false), lost, hurt).await;
    }
}

fn kill(bench: &mut Bench) {
    for victim in VICTIMS {
        bench.cluster.kill(victim);
    }
}

fn start(bench: &mut Bench) {
    for victim in VICTIMS {
        bench.cluster.start_server(victim);
    }
}

fn keep(bench: &Bench) -> Vec<Before> {
    VICTIMS.into_iter().map(|victim| bench.keep(victim)).collect()
}

/// One case, from a whole cluster to a whole cluster; `lost` says whether two registers of three are, where that is known.
///
/// The third is started anew before it: where two servers are lost again and again within seconds, whoever outlives them
/// learns patience (docs/decisions/0013), and the time that a case takes would be that of all before it.
async fn case(
    bench: &mut Bench,
    (what, fault, running): (&str, &str, bool),
    lost: Option<bool>,
    hurt: impl FnOnce(&Bench, &[Before]),
) {
    bench.cluster.kill(THIRD);
    bench.cluster.start_server(THIRD);
    bench.cluster.wait_for_members(&[0, 1, 2]).await;
    bench.change().await;
    if !running {
        kill(bench);
    }
    let before = keep(bench);
    hurt(bench, &before);
    if running {
        kill(bench);
    }
    start(bench);
    let outcome = outcome(bench, &before).await;
    let mut said: Vec<String> = Vec::new();
    for (server, words) in &outcome.refused {
        said.push(format!("server {server} refused it, {words}; each given its own again"));
    }
    match &outcome.recovered {
        Some(words) => said.push(format!("refused: \"{words}\"; `recover` from server {THIRD}: all is there")),
        None if outcome.refused.is_empty() => {
            let [one, two] = [0, 1].map(|place| bench.came_back(VICTIMS[place], &before[place]));
            said.push(format!("both members again, {one}"));
            if two != one {
                said.push(format!("server {}: {two}", VICTIMS[1]));
            }
        }
        None => said.push("both members again".to_owned()),
    }
    bench.tell(what, fault, running, Some(outcome.took), &said.join("; "));
    bench.change().await;
    bench.check(&[0, 1, 2]).await;
    if lost.is_some_and(|lost| outcome.recovered.is_some() != lost) {
        bench.is_wrong(format!("{what}, {fault}"));
    }
}

/// Waits until all is whole again, if need be by `recover`.
async fn outcome(bench: &mut Bench, before: &[Before]) -> Outcome {
    let (mut begun, mut refused, mut refuses_since) = (Instant::now(), Vec::new(), None);
    loop {
        for (server, before) in VICTIMS.into_iter().zip(before) {
            if let Some(code) = bench.cluster.ended(server) {
                refused.push((server, format!("exit code {code}: {}", bench.last_word(server, before))));
                bench.put_back(server, Some(before.folder.path()));
                bench.cluster.start_server(server);
                (begun, refuses_since) = (Instant::now(), None);
            }
        }
        let mut all = Vec::new();
        for id in 0..3 {
            all.push(bench.cluster.status(id).await);
        }
        if primary_with(&all, &[0, 1, 2]).is_some() {
            return Outcome { took: begun.elapsed(), refused, recovered: None };
        }
        let words = all.iter().flatten().map(|status| status.waits_for.clone()).find(|words| words.contains("recover"));
        let since = words.map(|words| (refuses_since.unwrap_or_else(Instant::now), words));
        refuses_since = since.as_ref().map(|(since, _)| *since);
        if let Some((_, words)) = since.filter(|(since, _)| since.elapsed() >= REFUSED_FOR) {
            let took = recover(bench).await;
            return Outcome { took, refused, recovered: Some(words) };
        }
        assert!(begun.elapsed() < PATIENCE, "neither whole nor refused: {all:#?}\n{}", bench.cluster.logs());
    }
}

/// The operator's last resort, from the server that has everything; how long it took until all are members again.
async fn recover(bench: &mut Bench) -> Duration {
    // What is written is what is there: should it yet be taken, nothing is otherwise.
    let value = bench.changes().to_string();
    for args in [["read", "case"].as_slice(), &["add", "case", &value], &["scan", "key-00000000000"]] {
        let output = bench.cluster.run(&[args, &["--timeout", "1s"]].concat());
        assert_eq!((code(&output), output.stdout.as_slice()), (3, [].as_slice()), "{args:?}: {output:?}");
    }
    let begun = Instant::now();
    assert_eq!(bench.cluster.stop(THIRD), 0, "{}", bench.cluster.logs());
    let refused = bench.cluster.recover(THIRD, &[]);
    assert_eq!(code(&refused), 2, "without the risk spelled out: {refused:?}");
    let done = bench.cluster.recover(THIRD, &["--accept-losing-newer-writes"]);
    assert_eq!(code(&done), 0, "{done:?}");
    bench.cluster.start_server(THIRD);
    bench.cluster.wait_for_members(&[0, 1, 2]).await;
    begun.elapsed()
}
