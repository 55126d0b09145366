//! The smallest piece of a key's history that can't be explained.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heirloom_laws::linearizable::{self, Call, Fault, Operation, Outcome};

use crate::check::{Law, Violation};
use crate::record::{Answer, Op, Record};

/// A smaller piece that is harder than this to judge is not looked for.
const CONFIGURATIONS_MAX: usize = 2_000;

/// Finds out whether the history of one key is linearizable; if not, the piece that shows it.
///
/// Only what takes a demand away is tried: to leave out a read, or not to know the outcome of a change. So what is left
/// over is a violation of the whole history too, not just of the piece. For so long a smaller one is looked for.
pub(crate) fn first_conflict(key: &str, records: &[&Record], patience: Duration) -> Option<Violation> {
    let name = Bytes::copy_from_slice(key.as_bytes());
    let all: Vec<Operation> = records.iter().map(|record| operation(record)).collect();
    let (operation, possible) = match linearizable::check(&name, &all) {
        Ok(()) => return None,
        Err(Fault::TooHard { configurations, .. }) => {
            let what = format!("key {key:?} can't be judged: gave up at {configurations} configurations");
            return Some(Violation { law: Law::Judged, what, piece: Vec::new() });
        }
        Err(Fault::NotLinearizable { operation, possible, .. }) => (operation, possible),
    };
    let end = operation_end(&operation);
    let mut piece: Vec<(&Record, Operation)> =
        records.iter().copied().zip(all).filter(|(_, operation)| operation.called_at <= end).collect();
    let fails = |piece: &[(&Record, Operation)]| {
        let operations: Vec<Operation> = piece.iter().map(|(_, operation)| operation.clone()).collect();
        let checked = linearizable::check_within(CONFIGURATIONS_MAX, &name, &operations);
        matches!(checked, Err(Fault::NotLinearizable { .. }))
    };
    piece.sort_by_key(|(_, operation)| operation.called_at);
    if let Some(shorter) = from_one_change_on(&piece, &fails) {
        piece = shorter;
    }
    let begun = Instant::now();
    // Reads first: a change of unknown outcome whose value nobody reads costs the checker little.
    for reads in [true, false] {
        let mut step = piece.len().div_ceil(2);
        while step > 0 {
            let mut from = 0;
            while from < piece.len() && begun.elapsed() < patience {
                let to = (from + step).min(piece.len());
                let weaker = weakened(&piece, from..to, reads);
                let left_out = piece.len() - weaker.len();
                from = to;
                if weaker != piece && fails(&weaker) {
                    piece = weaker;
                    from -= left_out;
                }
            }
            step /= 2;
        }
    }
    let read: Vec<&Bytes> = piece
        .iter()
        .filter_map(|(_, operation)| match &operation.returned {
            Some((_, Outcome::Found(value))) => Some(value),
            Some((_, Outcome::Changed { .. } | Outcome::NotMet | Outcome::Done | Outcome::NotFound)) | None => None,
        })
        .collect();
    let counts = |operation: &Operation| {
        operation.returned.is_some() || matches!(&operation.call, Call::Add(value) if read.contains(&value))
    };
    let shown: Vec<Record> =
        piece.iter().filter(|(_, operation)| counts(operation)).map(|(record, _)| (*record).clone()).collect();
    let what = format!(
        "key {key:?} is not linearizable: {:?} of client {} got {:?}, and the value may have been one of {possible:?}; the \
        piece that shows it, beside {} changes whose outcome does not matter",
        operation.call,
        operation.client,
        operation.returned.as_ref().map(|(_, outcome)| outcome),
        piece.len() - shown.len()
    );
    Some(Violation { law: Law::Linearizable, what, piece: shown })
}

/// The piece from one of the last changes on, without what was before it, where that still fails.
///
/// What was answered before the change was asked for took effect before it, and left nothing behind but a value that the
/// change replaced. What overlaps with it may have met that value: so its reads are left out, and its changes say no more
/// what they met. What is not known of may still take effect, and stays.
fn from_one_change_on<'a>(
    piece: &[(&'a Record, Operation)],
    fails: &impl Fn(&[(&'a Record, Operation)]) -> bool,
) -> Option<Vec<(&'a Record, Operation)>> {
    let known = |(_, operation): &&(&Record, Operation)| operation.call != Call::Read && operation.returned.is_some();
    let changes: Vec<&Operation> = piece.iter().rev().filter(known).map(|(_, operation)| operation).collect();
    let mut turn = 1;
    while let Some(change) = changes.get(turn - 1) {
        let end = operation_end(change);
        let found = |call: &Call| {
            let finds = |outcome: &Outcome| matches!((call, outcome), (Call::Add(a), Outcome::Found(b)) if a == b);
            let mut later = piece.iter().filter(|(_, operation)| operation.called_at > end);
            later.any(|(_, operation)| operation.returned.as_ref().is_some_and(|(_, outcome)| finds(outcome)))
        };
        let kept = piece.iter().filter_map(|(record, operation)| {
            if operation.called_at > end || operation.returned.is_none() {
                return Some((*record, operation.clone()));
            }
            let overlaps = operation.call != Call::Read && operation_end(operation) >= change.called_at;
            // What is found later is kept for whoever reads the piece.
            let returned = operation.returned.as_ref().map(|(at, _)| (*at, Outcome::Done));
            (overlaps || found(&operation.call)).then(|| (*record, Operation { returned, ..operation.clone() }))
        });
        let shorter: Vec<(&Record, Operation)> = kept.collect();
        if fails(&shorter) {
            return Some(shorter);
        }
        turn *= 2;
    }
    None
}

fn operation_end(operation: &Operation) -> u64 {
    operation.returned.as_ref().map_or(u64::MAX, |(at, _)| *at)
}

/// The piece with less demanded in a range: without its reads, or with the outcome of its changes unknown.
fn weakened<'a>(piece: &[(&'a Record, Operation)], range: Range<usize>, reads: bool) -> Vec<(&'a Record, Operation)> {
    let weaker = |(place, (record, operation)): (usize, &(&'a Record, Operation))| {
        let is_read = operation.call == Call::Read;
        match range.contains(&place) && is_read == reads {
            false => Some((*record, operation.clone())),
            true => (!is_read).then(|| (*record, Operation { returned: None, ..operation.clone() })),
        }
    };
    piece.iter().enumerate().filter_map(weaker).collect()
}

fn operation(record: &Record) -> Operation {
    let call = match (record.op, &record.value) {
        // Appends are adds by now.
        (Op::Add | Op::Append, value) => Call::Add(Bytes::from(value.clone().unwrap_or_default())),
        (Op::Delete, _) => Call::Delete,
        (Op::Read, _) => Call::Read,
    };
    let outcome = match &record.result {
        Some(Answer::Changed { existed: Some(existed), .. }) => Some(Outcome::Changed { existed: *existed }),
        Some(Answer::Changed { existed: None, .. }) => Some(Outcome::Done),
        Some(Answer::Appended { .. }) => Some(Outcome::Changed { existed: false }),
        Some(Answer::Found { value, .. }) => Some(Outcome::Found(Bytes::from(value.clone()))),
        Some(Answer::Absent) => Some(Outcome::NotFound),
        // Those are left out before; and nothing is known of what has no answer.
        Some(Answer::NotApplied) | None => None,
    };
    Operation { client: record.client, call, called_at: record.start_ns, returned: record.end_ns.zip(outcome) }
}
