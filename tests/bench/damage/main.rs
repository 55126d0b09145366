//! What becomes of servers whose files are damaged: each fault on each file of one server's data directory in turn, and then
//! of two servers' at once, while they are down and while they run (found at their next start, then). Tables of what
//! happened, and how long the servers took to be members again.
//!
//! It judges: nothing acknowledged may be lost, no server may answer wrongly, and who was hurt must be a member again by
//! itself, with a new store where its directory was put back from an older copy; or, where the directory is another
//! server's or its identity says so, refuse it by name. Where two registers of three are lost at once the cluster must
//! refuse, naming `recover`, and that must bring back everything from the third.
//!
//! `cargo bench -p heirloom-server --bench damage [-- KEYS] [two] [--write]`; with `two` the second table alone.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../../world/mod.rs"]
mod world;

mod bench;
mod faults;
mod one;
mod two;

use std::fs;

use bench::{Bench, LOOKED_AT};
use heirloom_laws::evidence;
use world::load::VALUE_BYTES;

const KEYS: u64 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keys = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(KEYS);
    let mut bench = Bench::start(keys).await;
    bench.note(&format!(
        "three servers, {keys} keys with values of {VALUE_BYTES} bytes\n\
        after each case every server has the same digest, and {LOOKED_AT} keys and the newest read right where it was hurt\n"
    ));
    if !arguments.iter().any(|argument| argument == "two") {
        bench.note("one server hurt\n\nfile | fault | when | took | outcome");
        one::all(&mut bench).await;
        bench.note("");
    }
    bench.note("two servers hurt at once\n\nfile | fault | when | took | outcome");
    two::all(&mut bench).await;
    let summary = bench.summary();
    bench.note(&format!("\n{summary}"));
    if arguments.iter().any(|argument| argument == "--write") {
        let says = "Each fault on each file of one server's data directory, in turn, and on both copies of a record that is kept \
            twice; then the same on two servers of the three at once. `when` is `down` where they were down, and `running` where \
            they ran, and were killed afterwards: what is damaged under a running server shows at its next start. `took` counts \
            from the start of the servers until they were members again, or, where `recover` was needed, from the command until \
            then; the third server is started anew before each case of two, for one that outlives the others again and again \
            within seconds grows patient (decision 13). It is a long command, and no part of the tests; of what it shows, `cargo test` looks at a register lost on one \
            server and on two, and at data lost on two, with real servers (`tests/e2e/damaged.rs`), and at each file and fault \
            below one store (`server/src/storage/tests/damage.rs`).";
        let command = "cargo bench -p heirloom-server --bench damage -- --write";
        let page = evidence::page("Damage to a data directory, and what came of it", command, says, bench.table());
        fs::write(evidence::path("damage.md"), page).expect("written");
    }
    bench.judge();
}
