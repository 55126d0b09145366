//! The smallest piece of a key's history that can't be explained.

use bytes::Bytes;
use heirloom_sim::linearizable::{self, Call, Fault, Operation, Outcome};

use crate::check::Violation;
use crate::record::{Answer, Op, Record};

/// Finds out whether the history of one key is linearizable; if not, the piece that shows it.
///
/// Only what takes a demand away is tried: to leave out a read, or not to know the outcome of a change. So what is left
/// over is a violation of the whole history too, not just of the piece.
pub(crate) fn first_conflict(key: &str, records: &[&Record]) -> Option<Violation> {
    let name = Bytes::copy_from_slice(key.as_bytes());
    let all: Vec<Operation> = records.iter().map(|record| operation(record)).collect();
    let (operation, possible) = match linearizable::check(&name, &all) {
        Ok(()) => return None,
        Err(Fault::TooHard { configurations, .. }) => {
            let what = format!("key {key:?} can't be judged: gave up at {configurations} configurations");
            return Some(Violation { what, piece: Vec::new() });
        }
        Err(Fault::NotLinearizable { operation, possible, .. }) => (operation, possible),
    };
    let end = operation.returned.as_ref().map_or(u64::MAX, |(at, _)| *at);
    let mut piece: Vec<(&Record, Operation)> =
        records.iter().copied().zip(all).filter(|(_, operation)| operation.called_at <= end).collect();
    let fails = |piece: &[(&Record, Operation)]| {
        let operations: Vec<Operation> = piece.iter().map(|(_, operation)| operation.clone()).collect();
        matches!(linearizable::check(&name, &operations), Err(Fault::NotLinearizable { .. }))
    };
    let mut step = piece.len().div_ceil(2);
    while step > 0 {
        let mut from = 0;
        while from < piece.len() {
            let to = (from + step).min(piece.len());
            let weaker = weakened(&piece, from, to);
            let left_out = piece.len() - weaker.len();
            from = to;
            if weaker != piece && fails(&weaker) {
                piece = weaker;
                from -= left_out;
            }
        }
        step /= 2;
    }
    let read: Vec<&Bytes> = piece
        .iter()
        .filter_map(|(_, operation)| match &operation.returned {
            Some((_, Outcome::Found(value))) => Some(value),
            Some((_, Outcome::Changed { .. } | Outcome::Done | Outcome::NotFound)) | None => None,
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
    Some(Violation { what, piece: shown })
}

/// The piece with less demanded between two places.
fn weakened<'a>(piece: &[(&'a Record, Operation)], from: usize, to: usize) -> Vec<(&'a Record, Operation)> {
    let weaker = |(place, (record, operation)): (usize, &(&'a Record, Operation))| {
        if !(from..to).contains(&place) {
            return Some((*record, operation.clone()));
        }
        let weaker = Operation { returned: None, ..operation.clone() };
        (operation.call != Call::Read).then_some((*record, weaker))
    };
    piece.iter().enumerate().filter_map(weaker).collect()
}

fn operation(record: &Record) -> Operation {
    let call = match (record.op, &record.value) {
        (Op::Add, value) => Call::Add(Bytes::from(value.clone().unwrap_or_default())),
        (Op::Delete, _) => Call::Delete,
        (Op::Read, _) => Call::Read,
    };
    let outcome = match &record.result {
        Some(Answer::Changed { existed: Some(existed), .. }) => Some(Outcome::Changed { existed: *existed }),
        Some(Answer::Changed { existed: None, .. }) => Some(Outcome::Done),
        Some(Answer::Found { value, .. }) => Some(Outcome::Found(Bytes::from(value.clone()))),
        Some(Answer::Absent) => Some(Outcome::NotFound),
        // Those are left out before; and nothing is known of what has no answer.
        Some(Answer::NotApplied) | None => None,
    };
    Operation { client: record.client, call, called_at: record.start_ns, returned: record.end_ns.zip(outcome) }
}
