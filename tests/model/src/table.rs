//! The page of what was searched.

use std::fmt::Write;

use crate::rules::{Beginning, Rules};
use crate::search::Found;

/// The page `docs/evidence/model.md`, of a command with these words.
pub fn page(words: &str, searched: &[Found], walked: &[Found]) -> String {
    let mut page = format!(
        "# What the model checker searched\n\n\
         Made by `cargo model -- {words}`; not written by hand.\n\n\
         Where the table says *complete*, every state of the world was looked at, within the bounds that it gives and the \
         restrictions that `tests/model/src/lib.rs` names, on the node that ships.\n\
         No law was broken in any state that was looked at.\n\n\
         | world | cluster | begins | bounds | states | steps | longest way | complete | seconds |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for found in searched {
        row(&mut page, found);
    }
    let states: usize = searched.iter().filter(|found| found.complete).map(|found| found.states).sum();
    let complete = searched.iter().filter(|found| found.complete).count();
    let _ = write!(
        page,
        "\n{complete} of {} worlds were searched completely: {states} distinct states.\n\n\
         ## Random walks\n\n\
         Larger worlds, more of everything; each walk is up to 400 steps long and begins anew. No law was broken.\n\n\
         | world | cluster | begins | bounds | walks | steps | longest walk | complete | seconds |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        searched.len()
    );
    for found in walked {
        row(&mut page, found);
    }
    page
}

fn row(page: &mut String, found: &Found) {
    let rules = &found.rules;
    let begins = match rules.beginning {
        Beginning::Whole => "whole",
        Beginning::Learner => "the last data server down and out of the view",
        Beginning::OneDown => "the last server down",
    };
    let _ = writeln!(
        page,
        "| `{}` | {} | {begins} | {} | {} | {} | {} | {} | {:.0} |",
        rules.name,
        rules.cluster(),
        bounds(rules),
        found.states,
        found.steps,
        found.depth,
        if found.complete { "yes" } else { "no" },
        found.took.as_secs_f64()
    );
}

/// The bounds in a few words.
pub(crate) fn bounds(rules: &Rules) -> String {
    let budget = rules.budget;
    let counts = [
        (budget.crashes, "crash", "crashes"),
        (budget.starts, "start", "starts"),
        (budget.emptied, "emptied directory", "emptied directories"),
        (budget.registers_lost, "lost register", "lost registers"),
        (budget.writes, "write", "writes"),
        (budget.retries, "retry", "retries"),
        (budget.reads, "read", "reads"),
        (budget.hand_overs, "hand-over", "hand-overs"),
        (budget.cuts, "cut", "cuts"),
        (budget.jumps, "jump of the clocks", "jumps of the clocks"),
    ];
    let mut words: Vec<String> = counts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, more)| format!("{count} {}", if count == 1 { one } else { more }))
        .collect();
    words.push(format!("{} more rounds", rules.rounds));
    words.push(format!("{} questions and {} probes a run", rules.asks, if rules.proofs { rules.probes } else { 0 }));
    words.extend(rules.slow_disks.then(|| "slow disks".to_owned()));
    words.extend(rules.commit_kept.then(|| "commit index kept".to_owned()));
    words.extend(rules.constants.lease.is_zero().then(|| "no leases".to_owned()));
    words.join(", ")
}
