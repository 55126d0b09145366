//! One operation as a client saw it, and a history as JSON lines.
//!
//! One object a line: `client`, `op` (`add`, `read`, `delete`), `key`, `value` (what an add adds), `expected` (the
//! condition of a conditional change; none yet), `start_ns`, `end_ns` and `result`, all times in nanoseconds of one clock.
//! An outcome that is not known has `end_ns` and `result` null: the operation may take effect at any time after its start,
//! or never. A client's name is new after each such operation, so that one name never has two operations at once.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Adds or replaces.
    Add,
    /// Reads, linearizable.
    Read,
    /// Deletes.
    Delete,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// The change took effect. Histories of others may leave the details out.
    Changed {
        /// The dictionary's version with this change; of a delete that found nothing, the one at which it found nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
        /// Whether the key had a value before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        existed: Option<bool>,
        /// `[round, server, run]` of the epoch that answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<[u64; 3]>,
    },
    /// The read found this.
    Found {
        /// The value.
        value: String,
        /// The version of the key's last change.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
    },
    /// The read found no value.
    Absent,
    /// Certainly nothing was and nothing will be changed; or the read was not answered.
    NotApplied,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who asked.
    pub client: u64,
    /// What was asked.
    pub op: Op,
    /// Of which key.
    pub key: String,
    /// What an add adds; unique within the history of the key.
    #[serde(default)]
    pub value: Option<String>,
    /// The condition; none is known yet.
    #[serde(default)]
    pub expected: Option<serde_json::Value>,
    /// When it was asked. **Units:** nanoseconds.
    pub start_ns: u64,
    /// When it was answered; none where the outcome is unknown.
    pub end_ns: Option<u64>,
    /// The answer; none where the outcome is unknown.
    pub result: Option<Answer>,
}

impl Record {
    /// Whether it changed something at one known version; a delete that found nothing did not.
    pub fn changed_at(&self) -> Option<u64> {
        match self.result {
            Some(Answer::Changed { existed: Some(false), .. }) if self.op == Op::Delete => None,
            Some(Answer::Changed { version, .. }) => version,
            Some(Answer::Found { .. } | Answer::Absent | Answer::NotApplied) | None => None,
        }
    }

    /// Whether it is a change of which nobody knows whether it took effect.
    pub fn is_unknown_change(&self) -> bool {
        self.op != Op::Read && self.result.is_none()
    }
}

/// Writes a history, one object a line.
///
/// **Errors:** as writing does.
pub fn write_lines(history: &[Record], out: &mut impl Write) -> std::io::Result<()> {
    for record in history {
        serde_json::to_writer(&mut *out, record)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Reads a history.
///
/// **Errors:** one sentence that names the line.
pub fn read_lines(input: impl BufRead) -> Result<Vec<Record>, String> {
    let mut history = Vec::new();
    for (number, line) in input.lines().enumerate() {
        let line = line.map_err(|error| format!("line {}: {error}", number + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let record: Record = serde_json::from_str(&line).map_err(|error| format!("line {}: {error}", number + 1))?;
        wall(&record).map_err(|what| format!("line {}: {what}", number + 1))?;
        history.push(record);
    }
    Ok(history)
}

/// What the checker takes for granted.
fn wall(record: &Record) -> Result<(), &'static str> {
    if record.expected.as_ref().is_some_and(|expected| !expected.is_null()) {
        return Err("operations with a condition can't be judged yet: leave expected null");
    }
    if record.value.is_some() != (record.op == Op::Add) {
        return Err("an add has a value, and nothing else has");
    }
    if record.end_ns.is_some() != record.result.is_some() {
        return Err("end_ns and result are null together, where the outcome is unknown");
    }
    if record.end_ns.is_some_and(|end| end < record.start_ns) {
        return Err("it ends before it starts");
    }
    match (&record.result, record.op) {
        (Some(Answer::Found { .. } | Answer::Absent), Op::Read)
        | (Some(Answer::Changed { .. }), Op::Add | Op::Delete)
        | (Some(Answer::NotApplied) | None, _) => Ok(()),
        (Some(Answer::Found { .. } | Answer::Absent | Answer::Changed { .. }), _) => {
            Err("the result is not one of this operation")
        }
    }
}
