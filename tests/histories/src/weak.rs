//! The laws of reads that need not be linearizable. A *causal* read sees no less than its session had been told of before,
//! its own changes included. Every read that says at which version of the dictionary it looked, a *stale* one too, saw what
//! the key had at that version, and the version was committed by then.

use std::collections::{BTreeMap, HashMap};

use crate::check::{Claim, Law, Violation};
use crate::record::{Answer, Mode, Op, Record};

/// What is known of the changes, by version.
struct Known<'a> {
    /// By key: every version that changed it, as far as somebody was told.
    keys: HashMap<&'a str, BTreeMap<u64, Claim<'a>>>,
    /// Changes by version, each with the one up to it that was asked for last.
    latest: BTreeMap<u64, &'a Record>,
    /// By key: when a delete of unknown outcome was first asked for.
    deletes: HashMap<&'a str, u64>,
}

/// What of the reads does not hold. `claims` says of each version whose change it is.
pub(crate) fn law<'a>(history: &'a [Record], claims: &BTreeMap<u64, Claim<'a>>) -> Vec<Violation> {
    let known = Known::of(history, claims);
    let mut wrong = Vec::new();
    for record in history.iter().filter(|record| record.op == Op::Read) {
        wrong.extend(known.fits(record));
    }
    let mut sessions: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in history {
        if let Some(session) = record.session {
            sessions.entry(session).or_default().push(record);
        }
    }
    for records in sessions.into_values() {
        known.causal(records, &mut wrong);
    }
    wrong
}

impl<'a> Known<'a> {
    fn of(history: &'a [Record], claims: &BTreeMap<u64, Claim<'a>>) -> Self {
        let mut keys: HashMap<&str, BTreeMap<u64, Claim<'_>>> = HashMap::new();
        for (version, claim) in claims {
            keys.entry(claim.key).or_default().insert(*version, *claim);
        }
        let mut deletes: HashMap<&str, u64> = HashMap::new();
        let mut latest: BTreeMap<u64, &Record> = BTreeMap::new();
        for record in history {
            if record.op == Op::Delete && record.result.is_none() {
                let first = deletes.entry(&record.key).or_insert(record.start_ns);
                *first = record.start_ns.min(*first);
            }
            if record.op != Op::Read
                && let Some(version) = record.changed_at()
            {
                latest.insert(version, record);
            }
        }
        let mut last: Option<&Record> = None;
        for record in latest.values_mut() {
            if let Some(last) = last.filter(|last| last.start_ns > record.start_ns) {
                *record = last;
            }
            last = Some(record);
        }
        Self { keys, latest, deletes }
    }

    /// Whether what a read found is what the key had at the version at which it looked.
    fn fits(&self, read: &'a Record) -> Option<Violation> {
        let Some(Answer::Found { version: Some(version), looked: Some(looked), .. }) = &read.result else {
            return None;
        };
        let seen = looked.seen;
        if *version > seen {
            let what = format!("a read looked at version {seen} of the dictionary and found version {version}");
            return Some(violation(what, &[read]));
        }
        if let Some((later, claim)) = self.changed_within(&read.key, *version, seen) {
            let what = format!(
                "a read looked at version {seen} of the dictionary and found version {version} of {:?}, which version \
                {later} had changed",
                read.key
            );
            return Some(violation(what, &[claim.by, read]));
        }
        let (_, latest) = self.latest.range(..=seen).next_back()?;
        (Some(latest.start_ns) > read.end_ns).then(|| {
            let what =
                format!("a read looked at version {seen} of the dictionary, of which a part was asked for later");
            violation(what, &[read, latest])
        })
    }

    /// A change of the key after one version and up to another.
    fn changed_within(&self, key: &str, after: u64, up_to: u64) -> Option<(u64, Claim<'a>)> {
        let (version, claim) = self.keys.get(key)?.range(after + 1..).next()?;
        (*version <= up_to).then_some((*version, *claim))
    }

    /// Whether each causal read of a session saw no less than what its session had been told of before it was asked.
    fn causal(&self, mut by_start: Vec<&'a Record>, wrong: &mut Vec<Violation>) {
        let mut by_end = by_start.clone();
        by_start.sort_by_key(|record| record.start_ns);
        by_end.retain(|record| record.end_ns.is_some());
        by_end.sort_by_key(|record| record.end_ns);
        let mut ended = by_end.into_iter().peekable();
        let mut told: Option<(u64, &Record)> = None;
        for record in by_start {
            while let Some(earlier) = ended.next_if(|earlier| earlier.end_ns <= Some(record.start_ns)) {
                let version = version_told(earlier);
                if told.is_none_or(|(highest, _)| version > Some(highest))
                    && let Some(version) = version
                {
                    told = Some((version, earlier));
                }
            }
            if record.mode != Mode::Causal {
                continue;
            }
            if let Some((version, earlier)) = told.filter(|(version, _)| !self.sees(record, *version)) {
                let what =
                    format!("a causal read went back behind version {version}, which its session had been told of");
                wrong.push(violation(what, &[earlier, record]));
            }
        }
    }

    /// Whether the answer of a read may be of this version of the dictionary or a later one.
    fn sees(&self, read: &'a Record, told: u64) -> bool {
        match &read.result {
            Some(Answer::Found { looked: Some(looked), .. }) => looked.seen >= told,
            Some(Answer::Found { version: Some(version), looked: None, .. }) => {
                self.changed_within(&read.key, *version, told).is_none()
            }
            Some(Answer::Absent) => self.may_be_absent(read, told),
            Some(
                Answer::Found { version: None, looked: None, .. }
                | Answer::Changed { .. }
                | Answer::Appended { .. }
                | Answer::NotApplied,
            )
            | None => true,
        }
    }

    /// Whether the key may have had no value at this version of the dictionary or at a later one that was asked for by the
    /// end of the read. Which version was looked at is not told of a key without a value.
    fn may_be_absent(&self, read: &Record, told: u64) -> bool {
        let end = read.end_ns.unwrap_or(u64::MAX);
        if self.deletes.get(read.key.as_str()).is_some_and(|asked| *asked < end) {
            return true;
        }
        let Some(changes) = self.keys.get(read.key.as_str()) else { return true };
        let before_all = changes.keys().next().is_none_or(|first| *first > told);
        let deleted = |(version, claim): (&u64, &Claim<'_>)| {
            let next = changes.range(version + 1..).next();
            claim.value.is_none() && claim.by.start_ns < end && next.is_none_or(|(next, _)| *next > told)
        };
        before_all || changes.iter().any(deleted)
    }
}

/// The version of the dictionary that an answer told of.
fn version_told(record: &Record) -> Option<u64> {
    match &record.result {
        Some(Answer::Changed { version, .. } | Answer::Appended { version, .. }) => *version,
        Some(Answer::Found { version, looked, .. }) => looked.map(|looked| looked.seen).max(*version),
        Some(Answer::Absent | Answer::NotApplied) | None => None,
    }
}

fn violation(what: String, piece: &[&Record]) -> Violation {
    Violation { law: Law::Reads, what, piece: piece.iter().map(|record| (*record).clone()).collect() }
}
