//! The parts of a state: how it is taken apart, stored, sent, and counted in its digest.

use bytes::Bytes;
use heirloom_proto::codec::{Malformed, Reader, Writer};
use heirloom_proto::entry::{read_answer, read_session, write_answer, write_session};
use heirloom_proto::{LogIndex, SessionId, Version, WallTime};

use crate::dictionary::Stored;
use crate::sessions::Answered;

/// One part of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// An open session.
    Session {
        /// Which.
        id: SessionId,
        /// The lowest sequence that its client has not seen the answer to.
        lowest_unanswered: u64,
        /// The entry that used it last.
        used_at_index: LogIndex,
        /// When that was.
        used_at: WallTime,
    },
    /// An answer that is kept for a retry.
    Answer {
        /// Of which session.
        session: SessionId,
        /// To which of its requests.
        sequence: u64,
        /// The answer.
        answered: Answered,
    },
    /// How many values were ever appended under a prefix.
    Appended {
        /// The prefix.
        prefix: Bytes,
        /// How many.
        number: u64,
    },
    /// A key with what is stored under it.
    Key {
        /// The key.
        key: Bytes,
        /// What is stored.
        stored: Stored,
    },
}

/// Where a part stands among all: the order in which they are stored, each place once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// All sessions come first.
    Session(SessionId),
    /// Then all answers.
    Answer(SessionId, u64),
    /// Then all prefixes.
    Appended(Bytes),
    /// Then all keys.
    Key(Bytes),
}

impl Part {
    /// Where it stands.
    pub fn place(&self) -> Place {
        match self {
            Self::Session { id, .. } => Place::Session(*id),
            Self::Answer { session, sequence, .. } => Place::Answer(*session, *sequence),
            Self::Appended { prefix, .. } => Place::Appended(prefix.clone()),
            Self::Key { key, .. } => Place::Key(key.clone()),
        }
    }

    /// What the digest of the state covers of it.
    pub fn digested(&self) -> Vec<u8> {
        match self {
            Self::Session { id, lowest_unanswered, .. } => digested_session(*id, *lowest_unanswered),
            Self::Answer { session, sequence, answered } => digested_answer(*session, *sequence, *answered),
            Self::Appended { prefix, number } => digested_count(prefix, *number),
            Self::Key { key, stored } => digested_key(key, stored),
        }
    }

    /// Writes it behind what was written.
    pub fn write(&self, out: &mut Writer) {
        match self {
            Self::Session { id, lowest_unanswered, used_at_index, used_at } => {
                write_session(out.u8(1), *id).u64(*lowest_unanswered).u64(used_at_index.0).u64(used_at.0);
            }
            Self::Answer { session, sequence, answered } => {
                write_session(out.u8(2), *session).u64(*sequence).u64(answered.version.0);
                write_answer(out, answered.answer);
            }
            Self::Appended { prefix, number } => {
                out.u8(3).bytes(prefix).u64(*number);
            }
            Self::Key { key, stored } => {
                out.u8(4).bytes(key).u64(stored.version.0).u64(stored.changed_at.0).bytes(&stored.value);
            }
        }
    }

    /// Reads one; its bytes share the reader's buffer.
    ///
    /// **Errors:** what could not be read.
    pub fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(match reader.u8("part")? {
            1 => Self::Session {
                id: read_session(reader)?,
                lowest_unanswered: reader.u64("lowest unanswered")?,
                used_at_index: LogIndex(reader.u64("last use")?),
                used_at: WallTime(reader.u64("time of last use")?),
            },
            2 => {
                let (session, sequence) = (read_session(reader)?, reader.u64("sequence")?);
                let version = Version(reader.u64("version")?);
                Self::Answer { session, sequence, answered: Answered { answer: read_answer(reader)?, version } }
            }
            3 => Self::Appended { prefix: reader.bytes("prefix")?, number: reader.u64("number")? },
            4 => {
                let key = reader.bytes("key")?;
                let version = Version(reader.u64("version")?);
                let changed_at = WallTime(reader.u64("time of change")?);
                Self::Key { key, stored: Stored { value: reader.bytes("value")?, version, changed_at } }
            }
            _ => return Err(Malformed("kind of part")),
        })
    }
}

pub(crate) fn digested_key(key: &[u8], stored: &Stored) -> Vec<u8> {
    let mut out = Writer::with_capacity(32 + key.len() + stored.value.len());
    out.u8(b'k').bytes(key).bytes(&stored.value).u64(stored.version.0);
    out.finish()
}

pub(crate) fn digested_count(prefix: &[u8], number: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(16 + prefix.len());
    out.u8(b'n').bytes(prefix).u64(number);
    out.finish()
}

pub(crate) fn digested_session(id: SessionId, lowest_unanswered: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(32);
    out.u8(b's').u64(id.opened_at.0).u64(id.nonce).u64(lowest_unanswered);
    out.finish()
}

pub(crate) fn digested_answer(id: SessionId, sequence: u64, answered: Answered) -> Vec<u8> {
    let mut out = Writer::with_capacity(64);
    out.u8(b'a').u64(id.opened_at.0).u64(id.nonce).u64(sequence).u64(answered.version.0);
    write_answer(&mut out, answered.answer);
    out.finish()
}
