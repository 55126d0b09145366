//! The law of appends: the numbers under a prefix have no gap and no repeat, each value is there once at most, and what was
//! answered is there. For the other laws an append is an add of the key that it made.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use heirloom_proto::request::{APPEND_DIGITS, append_key};

use crate::check::{Law, Violation};
use crate::record::{Answer, Op, Record};

/// The key of a number under a prefix.
pub(crate) fn key_of(prefix: &str, number: u64) -> String {
    String::from_utf8_lossy(&append_key(prefix.as_bytes(), number)).into_owned()
}

/// The number of a key under a prefix; none where it is another key.
fn number_of(prefix: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(prefix)?;
    (digits.len() == APPEND_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The prefixes under which something was appended.
pub(crate) fn prefixes(history: &[Record]) -> BTreeSet<&str> {
    history.iter().filter(|record| record.op == Op::Append).map(|record| record.key.as_str()).collect()
}

/// The history with each append as an add of the key that it made, as far as that is known.
pub(crate) fn as_adds(history: &[Record]) -> Vec<Record> {
    let prefixes = prefixes(history);
    let mut found: HashMap<(&str, &str), &str> = HashMap::new();
    for record in history {
        let Some(Answer::Found { value, .. }) = &record.result else { continue };
        for prefix in prefixes.iter().filter(|prefix| number_of(prefix, &record.key).is_some()) {
            found.insert((prefix, value), &record.key);
        }
    }
    let as_add = |record: &Record| {
        if record.op != Op::Append {
            return record.clone();
        }
        let value = record.value.as_deref().unwrap_or_default();
        let (key, result) = match &record.result {
            Some(Answer::Appended { number, version, epoch }) => {
                let changed = Answer::Changed { version: *version, existed: Some(false), epoch: *epoch };
                (key_of(&record.key, *number), Some(changed))
            }
            other => {
                let key = found.get(&(record.key.as_str(), value)).map(|key| (*key).to_owned());
                // Under a number that nobody read.
                (key.unwrap_or_else(|| format!("{}?", record.key)), other.clone())
            }
        };
        Record { op: Op::Add, key, result, ..record.clone() }
    };
    history.iter().map(as_add).collect()
}

/// What of a prefix does not hold.
pub(crate) fn law(history: &[Record]) -> Vec<Violation> {
    prefixes(history).into_iter().flat_map(|prefix| under(prefix, history)).collect()
}

fn under(prefix: &str, history: &[Record]) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut note = |what: String, piece: &[&Record]| {
        let piece = piece.iter().map(|record| (*record).clone()).collect();
        wrong.push(Violation { law: Law::Appends, what, piece });
    };
    let mut asked: HashMap<&str, &Record> = HashMap::new();
    for record in history.iter().filter(|record| record.op == Op::Append && record.key == prefix) {
        asked.insert(record.value.as_deref().unwrap_or_default(), record);
    }
    let mut by_number: BTreeMap<u64, (&str, &Record)> = BTreeMap::new();
    let mut by_value: HashMap<&str, (u64, &Record)> = HashMap::new();
    let mut absent: Vec<(u64, &Record)> = Vec::new();
    let mut deleted: BTreeSet<u64> = BTreeSet::new();
    for record in history {
        let (number, value) = match &record.result {
            Some(Answer::Appended { number, .. }) if record.op == Op::Append && record.key == prefix => {
                (*number, record.value.as_deref().unwrap_or_default())
            }
            Some(Answer::Found { value, .. }) => match number_of(prefix, &record.key) {
                Some(number) => (number, value.as_str()),
                None => continue,
            },
            result => {
                let Some(number) = number_of(prefix, &record.key) else { continue };
                if record.op == Op::Delete {
                    deleted.insert(number);
                } else if *result == Some(Answer::Absent) && record.mode == crate::Mode::Linearizable {
                    absent.push((number, record));
                }
                continue;
            }
        };
        match asked.get(value) {
            None => note(format!("{value:?} is number {number} under {prefix:?}, and nobody appended it"), &[record]),
            Some(append) if append.result == Some(Answer::NotApplied) => {
                note(
                    format!("{value:?} was not appended, and is number {number} under {prefix:?}"),
                    &[*append, record],
                );
            }
            Some(_) => {}
        }
        let (before, told) = *by_number.entry(number).or_insert((value, record));
        if before != value {
            note(format!("number {number} under {prefix:?} is {before:?} and {value:?}"), &[told, record]);
        }
        let (before, told) = *by_value.entry(value).or_insert((number, record));
        if before != number {
            note(format!("{value:?} is number {before} and number {number} under {prefix:?}"), &[told, record]);
        }
    }
    // A number is given when all before it have been.
    let mut known: Vec<(u64, u64, &Record)> =
        by_number.iter().filter_map(|(number, (_, record))| Some((record.end_ns?, *number, *record))).collect();
    known.sort_by_key(|(end, number, _)| (*end, *number));
    absent.sort_by_key(|(_, read)| read.start_ns);
    let mut known = known.into_iter().peekable();
    let mut highest: Option<(u64, &Record)> = None;
    for (number, read) in absent.into_iter().filter(|(number, _)| !deleted.contains(number)) {
        while let Some((_, number, record)) = known.next_if(|(end, ..)| *end < read.start_ns) {
            if highest.is_none_or(|(highest, _)| number > highest) {
                highest = Some((number, record));
            }
        }
        if let Some((highest, told)) = highest.filter(|(highest, _)| *highest >= number) {
            note(
                format!("number {number} under {prefix:?} is not there, and number {highest} was given"),
                &[told, read],
            );
        }
    }
    in_real_time(prefix, asked.into_values(), &mut note);
    wrong
}

/// What was answered before another append was asked for has the lower number.
fn in_real_time<'a>(
    prefix: &str,
    appends: impl Iterator<Item = &'a Record>,
    note: &mut impl FnMut(String, &[&Record]),
) {
    let told = |record: &'a Record| match record.result {
        Some(Answer::Appended { number, .. }) => Some((record, number)),
        Some(Answer::Changed { .. } | Answer::Found { .. } | Answer::Absent | Answer::NotApplied) | None => None,
    };
    let mut by_start: Vec<(&Record, u64)> = appends.filter_map(told).collect();
    let mut by_end = by_start.clone();
    by_start.sort_by_key(|(record, _)| record.start_ns);
    by_end.sort_by_key(|(record, _)| record.end_ns);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<(&Record, u64)> = None;
    for (record, number) in by_start {
        while let Some(earlier) = ended.next_if(|(earlier, _)| earlier.end_ns < Some(record.start_ns)) {
            if highest.is_none_or(|(_, highest)| earlier.1 > highest) {
                highest = Some(earlier);
            }
        }
        if let Some((earlier, highest)) = highest.filter(|(_, highest)| *highest > number) {
            let what =
                format!("number {number} under {prefix:?} was asked for after number {highest} had been answered");
            note(what, &[earlier, record]);
        }
    }
}
