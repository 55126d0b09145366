//! The page of what was searched.

use std::fmt::Write;

use heirloom_proto::Constants;

use crate::rules::{JUMP, Rules};
use crate::search::Found;

/// The page `docs/evidence/model.md`, of a command with these words.
pub fn page(words: &str, searched: &[Found], walked: &[Found]) -> String {
    let mut page = format!(
        "# What the model checker searched\n\n\
         Made by `cargo model -- {words}`; not written by hand.\n\n\
         Where the table says *complete*, every state of the world was looked at, within the bounds that it gives and the \
         restrictions that `tests/model/src/lib.rs` names, on the node that ships.\n\
         A world's states are distinct; some worlds lie within others, whose states are counted there again.\n\
         What a run asks or probes above the bound is lost, as anything may be; where the bounds say that it is not looked \
         at, the search leaves out every step that would ask or probe once more.\n\
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
        "\n{complete} of {} worlds were searched completely: {states} states, distinct within each world.\n\n\
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
    let _ = writeln!(
        page,
        "| `{}` | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
        rules.name,
        rules.cluster(),
        rules.beginning.words,
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
        (budget.no_ops, "change of nothing", "changes of nothing"),
        (budget.reads, "read", "reads"),
        (budget.hand_overs, "hand-over", "hand-overs"),
        (budget.cuts, "cut", "cuts"),
        (budget.jumps, "jump of the clocks", "jumps of the clocks"),
    ];
    let mut words: Vec<String> = counts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, more)| counted(u64::from(count), one, more))
        .collect();
    words.push(counted(rules.rounds, "more round", "more rounds"));
    let asks = counted(rules.asks, "question", "questions");
    let probes = counted(if rules.proofs { rules.probes } else { 0 }, "probe", "probes");
    let further = match rules.unsent {
        0 => "a step with a further one is not looked at".to_owned(),
        1 => "a further one is lost".to_owned(),
        more => format!("{more} further ones are lost"),
    };
    words.push(format!("{asks} and {probes} a run ({further})"));
    words.extend((rules.jump != JUMP).then(|| "long jumps".to_owned()));
    words.extend(rules.late_handshakes.then(|| "late handshakes".to_owned()));
    words.extend(rules.slow_disks.then(|| "slow disks".to_owned()));
    words.extend(rules.commit_kept.then(|| "commit index kept".to_owned()));
    let loose = rules.constants.min_copies < Constants::min_copies_default(rules.constants.data_servers().count());
    words.extend(loose.then(|| format!("min_copies {}", rules.constants.min_copies)));
    words.extend(rules.constants.lease.is_zero().then(|| "no leases".to_owned()));
    words.join(", ")
}

fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}
