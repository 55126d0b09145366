//! A watch at servers that come and go, lag, repeat themselves and forget: whatever the schedule, it sees each change once
//! and in order, or is told that it was cut off.
#![allow(missing_docs, reason = "a test")]

use heirloom_proto::Version;
use heirloom_session::watch::{Next, Unfit, Watch};

/// Draws numbers; equal seeds, equal numbers.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A server: what it has applied, and the oldest version that it still has.
#[derive(Clone, Copy)]
struct Server {
    applied: u64,
    oldest: u64,
}

/// What came of one schedule.
#[derive(Default)]
struct Seen {
    changes: Vec<u64>,
    cut_off: bool,
    resumed: u64,
}

const SERVERS: usize = 3;
const CLUSTER: &str = "1/1";

/// Plays a schedule; `repeats` says whether servers tell again what comes before the version that is wanted.
fn play(seed: u64, repeats: bool) -> Seen {
    let mut draw = Draw(seed);
    let mut watch = Watch::new(Some(Version(1)), 0);
    let mut servers = [Server { applied: 0, oldest: 1 }; SERVERS];
    let mut committed = 0;
    let mut seen = Seen::default();
    for _ in 0..40 {
        let server = servers[watch.seat(SERVERS)];
        let wanted = watch.wanted().expect("it names its version");
        let next = if draw.below(4) == 0 {
            watch.failed(SERVERS)
        } else if wanted.0 < server.oldest {
            watch.too_old(Version(server.oldest), SERVERS)
        } else {
            let back = if repeats { draw.below(4).min(wanted.0 - 1) } else { 0 };
            watch.began(CLUSTER, Version(wanted.0 - 1 - back)).expect("it fits");
            seen.resumed += 1;
            let mut told = wanted.0 - 1 - back;
            // Tells some of what it has, progress now and then, until it breaks at any point.
            while told < server.applied && draw.below(8) > 0 {
                told += 1;
                // Every third version is of other keys: only progress tells of it.
                if told.is_multiple_of(3) {
                    if draw.below(2) == 0 {
                        watch.progressed(Version(told));
                    }
                } else if watch.is_news(Version(told)) {
                    seen.changes.push(told);
                }
            }
            watch.failed(SERVERS)
        };
        if let Next::TooOld { oldest } = next {
            assert!(oldest > wanted, "it is named what is kept");
            assert!(servers.iter().all(|server| server.oldest > wanted.0), "one server still has it");
            seen.cut_off = true;
            return seen;
        }
        committed += draw.below(6);
        for server in &mut servers {
            // Servers lag, and one that comes back may have applied less than before.
            server.applied = match draw.below(8) {
                0 => server.applied.saturating_sub(draw.below(5)).max(server.oldest - 1),
                _ => committed.min(server.applied + draw.below(8)),
            };
            server.oldest = server.oldest.max((server.applied + 1).saturating_sub(25)).max(1);
        }
    }
    seen
}

#[test]
fn under_any_schedule_each_change_is_seen_once_and_in_order() {
    let (mut cut_off, mut through, mut resumed) = (0, 0, 0);
    for seed in 0..20_000 {
        let seen = play(seed, seed.is_multiple_of(2));
        let wanted = (1..).filter(|version: &u64| !version.is_multiple_of(3)).take(seen.changes.len());
        assert!(wanted.eq(seen.changes.iter().copied()), "seed {seed}: {:?}", seen.changes);
        cut_off += u64::from(seen.cut_off);
        through += u64::from(!seen.cut_off && seen.changes.len() > 20);
        resumed += seen.resumed;
    }
    assert!(cut_off > 100 && through > 1_000 && resumed > 100_000, "{cut_off} {through} {resumed}");
}

#[test]
fn a_cluster_that_was_set_back_is_noticed_before_anything_of_it_is_told() {
    let mut watch = Watch::new(None, 0);
    watch.began(CLUSTER, Version(100)).expect("the first");
    assert!(matches!(watch.failed(SERVERS), Next::After(_)));
    assert_eq!(watch.began("1/2", Version(100)), Err(Unfit::OtherCluster));
}
