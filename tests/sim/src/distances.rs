//! How far the shipped nodes are from what is possible at best: the time and the messages of a write, a read and a
//! change of view, in units of one message delay and one sync.
//!
//! Each case is run in a `Steady` world several times, with one of the units a little longer each time; what that adds
//! is the unit's share. Where the sum of the shares does not foretell a run with all units changed, the case is refused.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use heirloom_proto::{Note, Request};

use crate::clock::{Instant, MILLISECOND};
use crate::shares::{Shares, milliseconds};
use crate::steady::{Pace, Phase, Steady, add, read};

/// What was measured of one case.
struct Measured {
    begun: Instant,
    ended: Instant,
    /// Sent between the two, by name.
    messages: BTreeMap<&'static str, usize>,
}

impl Measured {
    fn of(world: &Steady, begun: Instant, ended: Instant) -> Self {
        // What the last step sends is sent because of it, and on nobody's path.
        Self { begun, ended, messages: world.messages(begun, ended.saturating_sub(1)) }
    }
}

/// One case.
struct Case {
    what: &'static str,
    data: usize,
    witnesses: usize,
    act: fn(&mut Steady) -> Measured,
}

const fn case(what: &'static str, data: usize, witnesses: usize, act: fn(&mut Steady) -> Measured) -> Case {
    Case { what, data, witnesses, act }
}

const NORMAL: [Case; 13] = [
    case("add", 1, 0, an_add),
    case("add", 2, 0, an_add),
    case("add", 3, 0, an_add),
    case("add", 5, 0, an_add),
    case("64 adds that arrive together", 3, 0, many_adds),
    case("read under lease", 1, 0, a_read),
    case("read under lease", 2, 0, a_read),
    case("read under lease", 3, 0, a_read),
    case("read under lease", 5, 0, a_read),
    case("read confirmed (`--lease 0`)", 2, 0, a_confirmed_read),
    case("read confirmed (`--lease 0`)", 2, 1, a_confirmed_read),
    case("read confirmed (`--lease 0`)", 3, 0, a_confirmed_read),
    case("read confirmed (`--lease 0`)", 5, 0, a_confirmed_read),
];

const CHANGES: [Case; 25] = [
    case("promotion, the crash is proven", 2, 0, a_proven_crash),
    case("promotion, the crash is proven", 2, 1, a_proven_crash),
    case("promotion, the crash is proven", 3, 0, a_proven_crash),
    case("promotion, the crash is proven", 5, 0, a_proven_crash),
    case("promotion, two crashes at once, both proven", 5, 0, two_proven_crashes),
    case("promotion after silence", 2, 1, a_silent_primary),
    case("promotion after silence", 3, 0, a_silent_primary),
    case("promotion after silence", 5, 0, a_silent_primary),
    case("promotion after silence, `--lease 0`", 3, 0, a_silent_primary_without_leases),
    case("planned hand-over", 2, 0, a_hand_over),
    case("planned hand-over", 2, 1, a_hand_over),
    case("planned hand-over", 3, 0, a_hand_over),
    case("planned hand-over", 5, 0, a_hand_over),
    case("removal of a member proven dead", 2, 0, a_dead_member),
    case("removal of a member proven dead", 2, 1, a_dead_member),
    case("removal of a member proven dead", 3, 0, a_dead_member),
    case("removal of a member proven dead", 5, 0, a_dead_member),
    case("removal of a silent member", 2, 1, a_silent_member),
    case("removal of a silent member", 3, 0, a_silent_member),
    case("removal of a silent member", 5, 0, a_silent_member),
    case("removal of a silent member, `--lease 0`", 3, 0, a_silent_member_without_leases),
    case("a learner is taken in", 2, 0, a_learner),
    case("a learner is taken in", 3, 0, a_learner),
    case("a learner is taken in", 5, 0, a_learner),
    case("a silent witness", 2, 1, a_silent_witness),
];

fn answered(world: &mut Steady, begun: Instant, tokens: &[heirloom_proto::Token]) -> Measured {
    world.until("an answer", |world| tokens.iter().all(|token| world.answers.contains_key(token)));
    let last = tokens.iter().map(|token| world.answers[token].0).max().expect("something was asked");
    assert!(tokens.iter().all(|token| world.answers[token].1.is_ok()), "refused");
    Measured::of(world, begun, last)
}

fn an_add(world: &mut Steady) -> Measured {
    let begun = world.now;
    let primary = world.primary().expect("one leads");
    let token = world.request(primary, add(0));
    answered(world, begun, &[token])
}

fn many_adds(world: &mut Steady) -> Measured {
    let begun = world.now;
    let primary = world.primary().expect("one leads");
    let tokens: Vec<_> = (0..64).map(|key| world.request(primary, add(key))).collect();
    answered(world, begun, &tokens)
}

fn a_read(world: &mut Steady) -> Measured {
    let begun = world.now;
    let primary = world.primary().expect("one leads");
    let token = world.request(primary, read());
    answered(world, begun, &[token])
}

fn a_confirmed_read(world: &mut Steady) -> Measured {
    assert_eq!(world.lease(), 0, "the case is run without leases");
    a_read(world)
}

/// From a moment to the next start of an epoch that is complete.
fn served(world: &mut Steady, begun: Instant) -> Measured {
    let serves = |note: &Note| matches!(note, Note::Serving { .. });
    world.until("a primary serves", |world| world.told(begun, serves).is_some());
    let (at, _) = world.told(begun, serves).expect("waited for");
    Measured::of(world, begun, at)
}

fn a_proven_crash(world: &mut Steady) -> Measured {
    let begun = world.now;
    let primary = world.primary().expect("one leads");
    world.kill(primary);
    served(world, begun)
}

fn two_proven_crashes(world: &mut Steady) -> Measured {
    let begun = world.now;
    let primary = world.primary().expect("one leads");
    let next = world.others(primary)[0];
    world.kill(primary);
    world.kill(next);
    served(world, begun)
}

fn a_silent_primary(world: &mut Steady) -> Measured {
    let begun = world.now;
    let primary = world.primary().expect("one leads");
    // Its last heartbeat is on its way, and is the last that anybody hears.
    world.silence(primary);
    served(world, begun)
}

fn a_silent_primary_without_leases(world: &mut Steady) -> Measured {
    a_silent_primary(world)
}

fn a_hand_over(world: &mut Steady) -> Measured {
    let begun = world.now;
    let primary = world.primary().expect("one leads");
    let target = world.others(primary)[0];
    world.request(primary, Request::Promote(target));
    served(world, begun)
}

/// The last data server that does not lead.
fn last_backup(world: &Steady) -> heirloom_proto::ServerId {
    let primary = world.primary().expect("one leads");
    let data = world.data_servers();
    data.into_iter().rfind(|server| *server != primary).expect("there is a backup")
}

fn a_dead_member(world: &mut Steady) -> Measured {
    let begun = world.now;
    let backup = last_backup(world);
    world.kill(backup);
    served(world, begun)
}

fn a_silent_member(world: &mut Steady) -> Measured {
    let begun = world.now;
    let backup = last_backup(world);
    world.silence(backup);
    served(world, begun)
}

fn a_silent_member_without_leases(world: &mut Steady) -> Measured {
    a_silent_member(world)
}

/// A backup that died comes back: from the primary's own promise, which is when writes begin to wait.
fn a_learner(world: &mut Steady) -> Measured {
    let removed = a_dead_member(world);
    world.until_time(removed.ended + removed.ended - removed.begun);
    let promises = |world: &Steady| world.messages(removed.ended, world.now).contains_key("promise");
    assert!(!promises(world), "a change of view is over");
    world.restart(last_backup(world));
    world.until("the primary proposes", promises);
    // The promise was asked for when the own one was durable.
    let begun = world.now - world.sync();
    served(world, begun)
}

fn a_silent_witness(world: &mut Steady) -> Measured {
    let begun = world.now;
    let primary = world.primary().expect("one leads");
    let witness = world.others(primary).into_iter().last().expect("the witness has the highest id");
    world.silence(witness);
    let token = world.request(primary, add(0));
    answered(world, begun, &[token])
}

/// A pace to begin with; how the others differ from it must be no multiple of anything.
const SLOW_NETWORK: Pace = Pace {
    delay: MILLISECOND,
    sync: MILLISECOND * 3 / 10,
    heartbeat: 64 * MILLISECOND,
    suspicion: 400 * MILLISECOND,
    lease: 300 * MILLISECOND,
    phase: Phase { servers: 0, failure: 0 },
};
const SLOW_DISK: Pace = Pace { delay: MILLISECOND * 3 / 10, sync: MILLISECOND, ..SLOW_NETWORK };

impl Case {
    fn measure(&self, pace: Pace) -> Measured {
        let leases_off = self.what.contains("--lease 0");
        let pace = Pace { lease: if leases_off { 0 } else { pace.lease }, ..pace };
        (self.act)(&mut Steady::at_rest(self.data, self.witnesses, pace))
    }

    fn time(&self, pace: Pace) -> i128 {
        let measured = self.measure(pace);
        i128::from(measured.ended - measured.begun)
    }

    /// **Panics if** the time is no sum of shares near this pace: then it may not be told so.
    fn shares(&self, base: Pace) -> Shares {
        let time = self.time(base);
        let share = |pace: Pace, step: Instant| {
            let more = self.time(pace) - time;
            more * 1_000 / i128::from(step)
        };
        let step = MILLISECOND / 50;
        let long = 16 * MILLISECOND / 10;
        let shares = Shares {
            suspicion: share(Pace { suspicion: base.suspicion + long, ..base }, long),
            lease: share(Pace { lease: base.lease + long, ..base }, long),
            heartbeat: share(Pace { heartbeat: base.heartbeat + long, ..base }, long),
            delay: share(Pace { delay: base.delay + step, ..base }, step),
            sync: share(Pace { sync: base.sync + step, ..base }, step),
        };
        let all_changed = Pace {
            delay: base.delay + 2 * step,
            sync: base.sync + step,
            heartbeat: base.heartbeat + long,
            suspicion: base.suspicion + 3 * long,
            lease: base.lease + 2 * long,
            ..base
        };
        for pace in [base, all_changed] {
            let (foretold, seen) = (shares.time(pace), self.time(pace));
            assert_eq!(foretold, seen, "{} ({}): {shares}", self.what, self.cluster());
        }
        shares
    }

    /// The shortest and the longest time at a pace, however the ticks of the servers lie to each other and to the
    /// failure.
    fn range(&self, pace: Pace) -> (i128, i128) {
        let sixteenths = || (0..16).step_by(2);
        let phases = sixteenths().flat_map(|servers| sixteenths().map(move |failure| Phase { servers, failure }));
        let times: Vec<i128> = phases.map(|phase| self.time(Pace { phase, ..pace })).collect();
        let shortest = times.iter().copied().min().expect("there are phases");
        (shortest, times.into_iter().max().expect("there are phases"))
    }

    /// Where the time depends on when the ticks come: what of it is suspicion and lease, and the rest as a range.
    ///
    /// **Panics if** a longer suspicion or lease does not move the whole range.
    fn by_the_tick(&self, (shortest, longest): (i128, i128)) -> String {
        let share = |pace: Pace, step: Instant| {
            let range = self.range(pace);
            let more = (range.0 - shortest, range.1 - longest);
            assert_eq!(more.0, more.1, "{} ({}): a longer wait moves the range", self.what, self.cluster());
            more.0 * 1_000 / i128::from(step)
        };
        // By a whole heartbeat, so that the ticks lie as before.
        let step = EXAMPLE.heartbeat;
        let waits = Shares {
            suspicion: share(Pace { suspicion: EXAMPLE.suspicion + step, ..EXAMPLE }, step),
            lease: share(Pace { lease: EXAMPLE.lease + step, ..EXAMPLE }, step),
            ..Shares::NONE
        };
        let rest = waits.time(EXAMPLE);
        let range = format!("{} to {}", milliseconds(shortest - rest), milliseconds(longest - rest));
        if waits == Shares::NONE { range } else { format!("{waits} + {range}") }
    }

    fn cluster(&self) -> String {
        match self.witnesses {
            0 => self.data.to_string(),
            _ => format!("{} + {}", self.data, self.witnesses),
        }
    }

    fn row(&self, out: &mut String) -> fmt::Result {
        let (shortest, longest) = self.range(EXAMPLE);
        let (time, example) = if shortest == longest {
            let paces = [SLOW_NETWORK, SLOW_DISK];
            let [network, disk] = paces.map(|pace| self.shares(pace));
            for pace in paces.into_iter().chain([EXAMPLE]) {
                let longer = network.time(pace).max(disk.time(pace));
                assert_eq!(longer, self.time(pace), "{} ({}): {network} or {disk}", self.what, self.cluster());
            }
            let one = if network == disk { network.to_string() } else { format!("max({network}, {disk})") };
            (one, milliseconds(longest))
        } else {
            (self.by_the_tick((shortest, longest)), format!("{} to {}", milliseconds(shortest), milliseconds(longest)))
        };
        let messages = self.measure(EXAMPLE).messages;
        let kinds: Vec<String> = messages.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
        let total: usize = messages.values().sum();
        writeln!(out, "| {} | {} | {time} | {example} | {total} | {kinds} |", self.what, self.cluster())
    }
}

/// A network and a disk of a usual machine room, and the defaults of the server.
const EXAMPLE: Pace = Pace {
    delay: MILLISECOND / 10,
    sync: MILLISECOND,
    heartbeat: 50 * MILLISECOND,
    suspicion: 400 * MILLISECOND,
    lease: 300 * MILLISECOND,
    phase: Phase { servers: 0, failure: 0 },
};

/// Where the page lies.
const PAGE: &str = "docs/evidence/distances.md";

/// `cargo sim -- distances [--write]`: says what is measured, or writes it down.
///
/// **Errors:** those of writing.
pub fn command(out: &mut impl io::Write, words: impl Iterator<Item = String>) -> io::Result<ExitCode> {
    match words.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => write!(out, "{}", page())?,
        ["--write"] => {
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE), page())?;
            writeln!(out, "{PAGE} is written")?;
        }
        _ => {
            writeln!(out, "usage: cargo sim -- distances [--write]")?;
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of all distances, in Markdown.
pub fn page() -> String {
    let mut out = String::from(HEAD);
    let table = |out: &mut String, cases: &[Case]| -> fmt::Result {
        out.push_str("| what | servers | time | for example | messages | of them |\n|---|---|---|---|---|---|\n");
        cases.iter().try_for_each(|case| case.row(out))
    };
    table(&mut out, &NORMAL).expect("a string takes everything");
    out.push_str(BETWEEN);
    table(&mut out, &CHANGES).expect("a string takes everything");
    out
}

const HEAD: &str = "\
# Measured distances

Generated by `cargo sim -- distances --write`; a test keeps it equal to what that gives.
What it means is in [consistency.md](../consistency.md).

The shipped nodes run in a world without chance: every message takes d, every sync s, and nothing else takes any time.
h is the heartbeat, S the suspicion time, L the lease, of which whoever waits for it counts 1 % more.
Each case is run again with one unit a little longer, which gives the share of that unit; a run with all of them changed confirms the sum.
It is run, too, with the ticks of the servers in 64 different positions to each other and to the failure; where they matter the time is a range.
*For example* takes d = 0.1 ms and s = 1 ms, and the defaults of h (50 ms), S (400 ms) and L (300 ms); so do ranges.
*Servers* are data servers + witnesses; quorum and `min_copies` have their defaults.
Messages are all that were sent in that time between servers, on the path or beside it, but heartbeats and their answers.

A handshake and a probe take 2d each, a broken stream is noticed after d, and a deposed server recovers at once.
A sync of the register counts once, though the storage writes two files one after the other.

## While nothing fails

From the arrival of a request at the primary to its answer.
The way of the client, 2d, comes on top.

";

const BETWEEN: &str = "
## When something fails

From the failure, or from the request to hand over, to the commit of the new epoch's marker, from which on writes are answered.
A proven crash is one whose port refuses connections; a silent server is one whose host is gone without a word.
A learner is taken in while writes go on; the time is that in which they wait, from the primary's own promise on.
A silent witness is no reason for a change of view; the row shows an add.

";
