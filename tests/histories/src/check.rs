//! The judgement over a history: can the clients have been told this by one dictionary?
//!
//! *Linearizable*: every key by itself, by the checker of the simulator. *Versions*: every change has its own version, in
//! the order of real time over all keys, a value has one version only, and a version that nobody was told of belongs to
//! some change of unknown outcome: so a change that was applied twice is found although nobody read it. *Reads*, in
//! `weak.rs`: causal ones never go back, and what is found is what was there. *Appends*, in `appends.rs`: no gap, no repeat.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use crate::record::{Answer, Mode, Op, Record};
use crate::{appends, shrink, weak};

/// What of a history may not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// Every key by itself is linearizable. The only one that rests on clocks.
    Linearizable,
    /// Versions count the changes.
    Versions,
    /// Causal reads never go back, and reads find what was there.
    Reads,
    /// Numbers of appends have no gap and no repeat.
    Appends,
    /// The history can be judged at all.
    Judged,
}

/// A law that does not hold, with the part of the history that shows it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which law.
    pub law: Law,
    /// What is wrong, as a sentence.
    pub what: String,
    /// The operations that can't be explained together.
    pub piece: Vec<Record>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "VIOLATION: {}", self.what)?;
        let skipped = self.piece.len().saturating_sub(RECORDS_SHOWN_MAX);
        if skipped > 0 {
            writeln!(f, "  ({skipped} before these)")?;
        }
        for record in &self.piece[skipped..] {
            let json = serde_json::to_string(record).map_err(|_| fmt::Error)?;
            writeln!(f, "  {json}")?;
        }
        Ok(())
    }
}

/// What was judged.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Operations that were taken into account.
    pub operations: usize,
    /// Keys.
    pub keys: usize,
    /// The operations of the key that had most.
    pub operations_of_a_key_max: usize,
    /// What does not hold.
    pub violations: Vec<Violation>,
}

/// How many violations are shown: one fault breaks many keys and versions, and the first pieces tell as much as all.
const SHOWN_MAX: usize = 8;
/// For so long the smallest piece that shows a violation is looked for: the first one, and each further one, which most
/// often tells the same. The verdict does not depend on it.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_LATER: Duration = Duration::from_millis(500);
/// How many operations of a piece are shown.
const RECORDS_SHOWN_MAX: usize = 40;

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, keys, operations_of_a_key_max: most, violations } = self;
        writeln!(f, "judged {operations} operations on {keys} keys, {most} of one key at most")?;
        violations.iter().take(SHOWN_MAX).try_for_each(|violation| write!(f, "{violation}"))?;
        match violations.len() {
            0 => Ok(()),
            count => writeln!(f, "{count} violations, {} shown", count.min(SHOWN_MAX)),
        }
    }
}

/// Judges a history. `version` is the dictionary's own at the end, where it is known.
pub fn judge(history: &[Record], version: Option<u64>) -> Judged {
    let mut violations = appends::law(history);
    let history = &appends::as_adds(history)[..];
    let mut keys: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    let counts = |record: &&Record| record.result != Some(Answer::NotApplied) && record.mode == Mode::Linearizable;
    for record in history.iter().filter(counts) {
        keys.entry(&record.key).or_default().push(record);
    }
    let mut judged = Judged {
        operations: keys.values().map(Vec::len).sum(),
        keys: keys.len(),
        operations_of_a_key_max: keys.values().map(Vec::len).max().unwrap_or(0),
        violations: Vec::new(),
    };
    let mut patience = PATIENCE;
    for (key, records) in &keys {
        if let Some(violation) = unique_values(records) {
            violations.push(violation);
        } else if let Some(violation) = shrink::first_conflict(key, records, patience) {
            violations.push(violation);
            patience = PATIENCE_LATER;
        }
    }
    let claims = versions(history, version, &mut violations);
    violations.extend(weak::law(history, &claims));
    judged.violations = violations;
    judged
}

/// The checker can tell two adds apart only by what they add.
fn unique_values(records: &[&Record]) -> Option<Violation> {
    let mut seen: HashMap<&str, &Record> = HashMap::new();
    for record in records {
        let Some(value) = &record.value else { continue };
        if let Some(before) = seen.insert(value, record) {
            let what = format!("can't be judged: {value:?} is added to {:?} twice", record.key);
            return Some(Violation { law: Law::Judged, what, piece: vec![before.clone(), (*record).clone()] });
        }
    }
    None
}

/// Who says that a version is what.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub key: &'a str,
    /// None for a delete.
    pub value: Option<&'a str>,
    pub by: &'a Record,
}

fn claim(record: &Record) -> Option<(u64, Claim<'_>)> {
    let (version, value) = match &record.result {
        Some(Answer::Found { value, version: Some(version), .. }) => (*version, Some(value.as_str())),
        Some(Answer::Changed { .. } | Answer::Appended { .. }) => (record.changed_at()?, record.value.as_deref()),
        Some(Answer::Found { version: None, .. } | Answer::Absent | Answer::NotApplied) | None => return None,
    };
    Some((version, Claim { key: &record.key, value, by: record }))
}

/// Judges the versions; of each, whose change it is.
fn versions<'a>(history: &'a [Record], last: Option<u64>, violations: &mut Vec<Violation>) -> BTreeMap<u64, Claim<'a>> {
    let mut by_version: BTreeMap<u64, Claim<'_>> = BTreeMap::new();
    let mut by_value: HashMap<(&str, &str), (u64, &Record)> = HashMap::new();
    let mut changes: HashMap<u64, &Record> = HashMap::new();
    let mut wrong = |what: String, piece: Vec<&Record>| {
        violations.push(Violation { law: Law::Versions, what, piece: piece.into_iter().cloned().collect() });
    };
    for record in history {
        let Some((version, claim)) = claim(record) else { continue };
        let before = *by_version.entry(version).or_insert(claim);
        if (before.key, before.value) != (claim.key, claim.value) {
            wrong(format!("version {version} is two different changes"), vec![before.by, record]);
        }
        if record.op != Op::Read
            && let Some(before) = changes.insert(version, record)
        {
            wrong(format!("two changes were told to be version {version}"), vec![before, record]);
        }
        if let Some(value) = claim.value {
            let (at, before) = *by_value.entry((claim.key, value)).or_insert((version, record));
            if at != version {
                wrong(format!("{value:?} was applied twice, as version {at} and as {version}"), vec![before, record]);
            }
        }
    }
    in_real_time(history, &mut wrong);
    let settled = |record: &Record| {
        record.value.as_deref().is_some_and(|value| by_value.contains_key(&(record.key.as_str(), value)))
    };
    let unknown: Vec<&Record> =
        history.iter().filter(|record| record.is_unknown_change() && !settled(record)).collect();
    let known: BTreeSet<u64> = by_version.keys().copied().collect();
    unaccounted(history, &known, &unknown, last, &mut wrong);
    by_version
}

/// What was answered before another change was asked for has the lower version.
fn in_real_time<'a>(history: &'a [Record], wrong: &mut impl FnMut(String, Vec<&'a Record>)) {
    let told = |record: &'a Record| match record.result {
        Some(Answer::Changed { version: Some(version), .. }) => Some((record, version, record.end_ns?)),
        // Appends are adds here.
        Some(
            Answer::Changed { version: None, .. }
            | Answer::Appended { .. }
            | Answer::Found { .. }
            | Answer::Absent
            | Answer::NotApplied,
        )
        | None => None,
    };
    let mut by_start: Vec<_> = history.iter().filter_map(told).collect();
    let mut by_end = by_start.clone();
    by_start.sort_by_key(|(record, _, _)| record.start_ns);
    by_end.sort_by_key(|(_, _, end)| *end);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<(&Record, u64)> = None;
    for (record, version, _) in by_start {
        while let Some((earlier, version, _)) = ended.next_if(|(_, _, end)| *end < record.start_ns) {
            if highest.is_none_or(|(_, highest)| version > highest) {
                highest = Some((earlier, version));
            }
        }
        // A delete that found nothing took no version of its own.
        let lowest = version + u64::from(record.changed_at().is_none());
        if let Some((earlier, highest)) = highest.filter(|(_, highest)| lowest <= *highest) {
            let what = format!("version {version} was asked for after version {highest} had been answered");
            wrong(what, vec![earlier, record]);
        }
    }
}

/// A version of which nobody was told belongs to a change of unknown outcome that had been asked for by then.
///
/// Each such change can stand for any one version whose deadline lies behind its start; so by Hall's theorem it is enough
/// that for every deadline there are as many of them as versions up to it.
fn unaccounted<'a>(
    history: &'a [Record],
    known: &BTreeSet<u64>,
    unknown: &[&'a Record],
    last: Option<u64>,
    wrong: &mut impl FnMut(String, Vec<&'a Record>),
) {
    // Versions that somebody was told, with the time by which all lower ones had been asked for.
    let told = |record: &'a Record| match record.result {
        Some(Answer::Changed { version, .. } | Answer::Appended { version, .. }) => {
            Some((version?, record.end_ns?, record))
        }
        Some(Answer::Found { version, looked, .. }) => {
            Some((looked.map(|looked| looked.seen).max(version)?, record.end_ns?, record))
        }
        Some(Answer::Absent | Answer::NotApplied) | None => None,
    };
    let mut deadlines: Vec<_> = history.iter().filter_map(told).collect();
    deadlines.sort_by_key(|(version, end, _)| (*version, *end));
    let highest = deadlines.last().map_or(0, |(version, _, _)| *version);
    if let Some(last) = last.filter(|last| *last < highest) {
        let piece = deadlines.last().map(|(_, _, record)| vec![*record]).unwrap_or_default();
        wrong(format!("the dictionary ends at version {last}, and {highest} was told"), piece);
    }
    let mut gaps: Vec<(u64, u64, Option<&Record>)> = Vec::new();
    let (mut deadline, mut witness) = (u64::MAX, None);
    let mut later = deadlines.into_iter().rev().peekable();
    for version in (1..=last.unwrap_or(highest).max(highest)).rev() {
        while let Some((_, end, record)) = later.next_if(|(told, _, _)| *told > version) {
            if end < deadline {
                (deadline, witness) = (end, Some(record));
            }
        }
        if !known.contains(&version) {
            gaps.push((deadline, version, witness));
        }
    }
    gaps.sort_by_key(|(deadline, version, _)| (*deadline, *version));
    let mut starts: Vec<u64> = unknown.iter().map(|record| record.start_ns).collect();
    starts.sort_unstable();
    for (place, (deadline, version, witness)) in gaps.iter().enumerate() {
        let asked = starts.partition_point(|start| start < deadline);
        if asked <= place {
            let what = format!(
                "version {version} is nobody's change: {} versions up to it were told to nobody, and only {asked} changes \
                of unknown outcome had been asked for: something was applied twice, or was not asked for",
                place + 1
            );
            return wrong(what, witness.iter().copied().collect());
        }
    }
}
