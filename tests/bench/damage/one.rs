//! One server hurt, while the two others serve.

use std::time::{Duration, Instant};

use crate::bench::{Before, Bench};
use crate::faults::{Fault, Kind, Whole};
use crate::world::{PATIENCE, primary_with};

/// Whose files are damaged, and from whom files are taken.
const VICTIM: usize = 2;
const OTHER: usize = 1;

/// What came of a case.
enum Outcome {
    /// It was a member again after so long, and said this.
    Member { took: Duration, said: String },
    /// It refused to start, with this code and word.
    Refused { code: i32, said: String },
}

pub async fn all(bench: &mut Bench) {
    for kind in Kind::ALL {
        for running in [false, true] {
            for fault in Fault::ALL {
                if !running {
                    bench.cluster.kill(VICTIM);
                }
                let before = bench.keep(VICTIM);
                let name = bench.hurt(kind, fault, &[(VICTIM, OTHER)]);
                if running {
                    bench.cluster.kill(VICTIM);
                }
                let outcome = outcome(bench, &before).await;
                tell(bench, &name, fault.words(), running, &outcome);
            }
        }
    }
    let old = {
        bench.cluster.kill(VICTIM);
        let old = bench.keep(VICTIM);
        bench.cluster.start_server(VICTIM);
        bench.cluster.wait_for_members(&[0, 1, 2]).await;
        old
    };
    for whole in Whole::ALL {
        bench.change().await;
        bench.cluster.kill(VICTIM);
        let before = bench.keep(VICTIM);
        let other = bench.data_dir(OTHER);
        bench.put_back(
            VICTIM,
            match whole {
                Whole::Deleted => None,
                Whole::Older => Some(old.folder.path()),
                Whole::Others => Some(&other),
            },
        );
        let outcome = outcome(bench, &before).await;
        if whole == Whole::Older {
            let told = matches!(&outcome, Outcome::Member { said, .. } if said.contains("remembers"));
            assert!(told, "nobody noticed\n{}", bench.cluster.logs());
        }
        tell(bench, "(the directory)", whole.words(), false, &outcome);
    }
}

/// Starts the hurt server and looks what comes of it; in the end all is whole again. The server is down.
async fn outcome(bench: &mut Bench, before: &Before) -> Outcome {
    bench.change().await;
    bench.cluster.start_server(VICTIM);
    let begun = Instant::now();
    let refused = loop {
        if let Some(code) = bench.cluster.ended(VICTIM) {
            break Some(code);
        }
        let mut all = Vec::new();
        for id in 0..3 {
            all.push(bench.cluster.status(id).await);
        }
        if primary_with(&all, &[0, 1, 2]).is_some() {
            break None;
        }
        assert!(begun.elapsed() < PATIENCE, "it is no member again\n{}", bench.cluster.logs());
    };
    let took = begun.elapsed();
    let outcome = match refused {
        None => Outcome::Member { took, said: bench.came_back(VICTIM, before) },
        Some(code) => {
            let said = bench.last_word(VICTIM, before);
            // Whatever it was, it is not to be guessed: the directory as it was before is put back.
            bench.put_back(VICTIM, Some(before.folder.path()));
            bench.cluster.start_server(VICTIM);
            bench.cluster.wait_for_members(&[0, 1, 2]).await;
            Outcome::Refused { code, said }
        }
    };
    bench.check(&[VICTIM]).await;
    outcome
}

fn tell(bench: &mut Bench, name: &str, fault: &str, running: bool, outcome: &Outcome) {
    match outcome {
        Outcome::Member { took, said } => {
            bench.tell(name, fault, running, Some(*took), &format!("member again, {said}"));
        }
        Outcome::Refused { code, said } => {
            bench.tell(name, fault, running, None, &format!("refused, exit code {code}: {said}"));
        }
    }
}
