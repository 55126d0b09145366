//! One operation as a client saw it, and a history as JSON lines.
//!
//! One object a line: `client`, `op` (`add`, `read`, `delete`, `append`), `key`, `value` (what an add or append adds),
//! `expected` (the condition of a conditional change; none yet), `start_ns`, `end_ns` and `result`, all times in
//! nanoseconds of one clock. An outcome that is not known has `end_ns` and `result` null: the operation may take effect at
//! any time after its start, or never. A client's name is new after each such operation, so that one name never has two
//! operations at once.
//!
//! A read that need not be linearizable has `mode`, `causal` or `stale`; one without is linearizable. Whoever judges
//! linearizability leaves lines with `mode` out. The `key` of an append is a prefix; where its `result` has a `number`, it is
//! an add of a key that had no value: the prefix and the number in 20 digits. `session` names the client whose causal reads
//! see what it has seen before: it stays the same where `client` is new. A result may say in `looked` what was looked at.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Adds or replaces.
    Add,
    /// Reads.
    Read,
    /// Deletes.
    Delete,
    /// Adds under a key that the primary makes of the one given and the next number.
    Append,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It sees every change that was answered before it was asked.
    #[default]
    Linearizable,
    /// It sees no less than its session has seen.
    Causal,
    /// It sees some committed state.
    Stale,
}

/// What a read looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The dictionary's version, of which the answer is a part.
    pub seen: u64,
    /// The server that answered.
    pub server: u64,
    /// Whether the server that was asked answered by itself.
    pub local: bool,
    /// The primary of the epoch in which it did.
    pub primary: u64,
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
        /// What was looked at, where that is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        looked: Option<Looked>,
    },
    /// The append took effect.
    Appended {
        /// Its number under the prefix, from 1.
        number: u64,
        /// The dictionary's version with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
        /// `[round, server, run]` of the epoch that answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<[u64; 3]>,
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
    /// Of a read: how fresh it had to be.
    #[serde(default, skip_serializing_if = "is_linearizable")]
    pub mode: Mode,
    /// Which causal reads see what was seen before; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// Of which key; of an append, under which prefix.
    pub key: String,
    /// What an add or append adds; unique within the history of the key.
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

fn is_linearizable(mode: &Mode) -> bool {
    *mode == Mode::Linearizable
}

impl Record {
    /// Whether it changed something at one known version; a delete that found nothing did not.
    pub fn changed_at(&self) -> Option<u64> {
        match self.result {
            Some(Answer::Changed { existed: Some(false), .. }) if self.op == Op::Delete => None,
            Some(Answer::Changed { version, .. } | Answer::Appended { version, .. }) => version,
            Some(Answer::Found { .. } | Answer::Absent | Answer::NotApplied) | None => None,
        }
    }

    /// What was looked at.
    pub fn looked(&self) -> Option<Looked> {
        match self.result {
            Some(Answer::Found { looked, .. }) => looked,
            Some(Answer::Changed { .. } | Answer::Appended { .. } | Answer::Absent | Answer::NotApplied) | None => None,
        }
    }

    /// Whether a backup answered a linearizable read by itself.
    pub fn is_read_at_a_backup(&self) -> bool {
        let by_a_backup = |looked: Looked| looked.local && looked.server != looked.primary;
        self.mode == Mode::Linearizable && self.looked().is_some_and(by_a_backup)
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
    if record.value.is_some() != matches!(record.op, Op::Add | Op::Append) {
        return Err("an add or append has a value, and nothing else has");
    }
    if record.mode != Mode::Linearizable && record.op != Op::Read {
        return Err("only a read has a mode");
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
        | (Some(Answer::Appended { .. }), Op::Append)
        | (Some(Answer::NotApplied) | None, _) => Ok(()),
        (Some(Answer::Found { .. } | Answer::Absent | Answer::Changed { .. } | Answer::Appended { .. }), _) => {
            Err("the result is not one of this operation")
        }
    }
}
