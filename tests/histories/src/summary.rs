//! What a run came to, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::check::Judged;
use crate::faults::Fault;
use crate::finale::End;
use crate::record::{Answer, Mode, Op, Record};

/// One line on standard output.
pub(crate) fn line(text: &str) {
    // Nobody may be reading, which changes nothing.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What makes the run fail, as sentences; none for a good one.
    pub failures: Vec<String>,
    /// How often each fault was applied.
    pub faults: BTreeMap<Fault, u64>,
    /// How many times another server answered than before, by epochs.
    pub failovers: usize,
    /// Changes of which nobody knows.
    pub unknown: usize,
    /// Linearizable reads that a backup answered by itself.
    pub reads_at_backups: u64,
    /// What was judged.
    pub judged: Judged,
    /// Somebody ended it before its time.
    pub stopped: bool,
    /// Where data, logs and history of a failed run are kept.
    pub kept: Option<PathBuf>,
    pub(crate) end: Option<End>,
    pub(crate) counts: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) epochs: usize,
    /// The longest time in which no change was answered, and when it began.
    pub(crate) gap: (Duration, Duration),
    pub(crate) ran: Duration,
    pub(crate) seed: u64,
}

impl Report {
    pub(crate) fn of(history: &[Record]) -> Self {
        let mut counts = BTreeMap::new();
        let mut epochs = BTreeSet::new();
        let mut ends: Vec<u64> = Vec::new();
        for record in history {
            let op = match (record.op, record.mode) {
                (Op::Add, _) => "add",
                (Op::Read, Mode::Linearizable) => "read",
                (Op::Read, Mode::Causal) => "read, causal",
                (Op::Read, Mode::Stale) => "read, stale",
                (Op::Delete, _) => "delete",
                (Op::Append, _) => "append",
            };
            let outcome = match &record.result {
                Some(Answer::Changed { epoch, .. } | Answer::Appended { epoch, .. }) => {
                    epochs.extend(*epoch);
                    ends.extend(record.end_ns);
                    "changed"
                }
                Some(Answer::Found { .. }) => "found",
                Some(Answer::Absent) => "absent",
                Some(Answer::NotApplied) => "not applied",
                None => "unknown",
            };
            *counts.entry((op, outcome)).or_default() += 1;
        }
        ends.sort_unstable();
        let gap = ends.windows(2).map(|two| (two[1] - two[0], two[0])).max().unwrap_or((0, 0));
        let leaders: Vec<u64> = epochs.iter().map(|epoch| epoch[1]).collect();
        Self {
            failures: Vec::new(),
            faults: BTreeMap::new(),
            failovers: leaders.windows(2).filter(|two| two[0] != two[1]).count(),
            unknown: history.iter().filter(|record| record.is_unknown_change()).count(),
            reads_at_backups: history.iter().filter(|record| record.is_read_at_a_backup()).count() as u64,
            judged: Judged::default(),
            stopped: false,
            kept: None,
            end: None,
            counts,
            epochs: epochs.len(),
            gap: (Duration::from_nanos(gap.0), Duration::from_nanos(gap.1)),
            ran: Duration::ZERO,
            seed: 0,
        }
    }

    /// How many operations of this name were answered.
    pub(crate) fn answered(&self, name: &str) -> u64 {
        let counts = self.counts.iter().filter(|((op, _), _)| *op == name);
        counts.filter(|((_, outcome), _)| !["unknown", "not applied"].contains(outcome)).map(|(_, count)| count).sum()
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether everything held.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.judged.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.operations();
        writeln!(f, "seed {}, {:.1} s, {total} operations", self.seed, self.ran.as_secs_f64())?;
        for ((op, outcome), count) in &self.counts {
            writeln!(f, "  {count:>9}  {op}: {outcome}")?;
        }
        writeln!(f, "{} linearizable reads were answered by backups, which asked nobody", self.reads_at_backups)?;
        let applied: u64 = self.faults.values().sum();
        writeln!(f, "{applied} faults")?;
        for (fault, count) in &self.faults {
            writeln!(f, "  {count:>9}  {fault}: {}", fault.does())?;
        }
        writeln!(
            f,
            "{} epochs answered changes, {} failovers; the longest gap between two answered changes: {:.0} ms, from {:.3} s on",
            self.epochs,
            self.failovers,
            self.gap.0.as_secs_f64() * 1e3,
            self.gap.1.as_secs_f64()
        )?;
        if let Some(end) = &self.end {
            for (id, (role, version, applied, digest)) in end.states.iter().enumerate() {
                writeln!(f, "server {id}: {role}, version {version}, applied {applied}, digest {digest}")?;
            }
        }
        write!(f, "{}", self.judged)?;
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "data, logs and history are kept in {}", kept.display())?;
        }
        if self.is_good() {
            writeln!(
                f,
                "linearizable, causal reads never went back, appends without gap or repeat, nothing acknowledged lost, \
                nothing applied twice, replicas equal"
            )?;
        }
        Ok(())
    }
}
