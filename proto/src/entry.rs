//! The log entry: effects, not commands; and its one encoding.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Malformed, Reader, Writer};
use crate::hash::ChainHash;
use crate::ids::{Epoch, LogIndex, RunId, ServerId, SessionId, Version};
use crate::time::WallTime;

/// What an entry does to the state: a result, already decided, that every copy stores as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The key has this value now.
    Put {
        /// 1 byte to [`crate::limits::KEY_BYTES_MAX`].
        key: Bytes,
        /// Any bytes.
        value: Bytes,
    },
    /// The key is gone; it was there.
    Remove {
        /// The key.
        key: Bytes,
    },
    /// So many values were appended under the prefix.
    Count {
        /// The prefix.
        prefix: Bytes,
        /// The number of the newest.
        number: u64,
    },
    /// The session is open.
    OpenSession(SessionId),
    /// The session is gone: closed by its client, idle for too long, or idle longest where the table was full.
    RemoveSession(SessionId),
}

/// What the client whose request made an entry is told, stored with the entry so that a retried request gets it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Nobody asked: the marker of an epoch.
    Nothing,
    /// The key was added (`existed` false) or replaced, or a change set was carried out; the entry's version is the
    /// change's.
    Added {
        /// Whether there was a value before, of a change set under any of its keys.
        existed: bool,
    },
    /// The key was deleted, or was not there (`existed` false) and nothing changed.
    Deleted {
        /// Whether there was a value before.
        existed: bool,
    },
    /// The value was appended.
    Appended {
        /// Its number.
        number: u64,
    },
    /// A condition was not met: nothing changed.
    NotMet {
        /// Which, by position.
        condition: u32,
        /// The version of its key's last change; `None` where it has no value.
        found: Option<Version>,
    },
    /// The session was opened.
    SessionOpened(SessionId),
    /// The session was closed, or was not open any more.
    SessionClosed,
    /// The request's session had been removed by an earlier entry: nothing changed.
    SessionExpired,
}

/// Which request an entry carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The session.
    pub session: SessionId,
    /// The number of the request within its session, from 1.
    pub sequence: u64,
    /// Every request of the session below this has been answered to its client; all copies forget their answers.
    pub lowest_unanswered: u64,
}

/// One entry of the replicated log.
///
/// **Invariants**
/// - `version` is that of the entry before, plus one if any effect changes a key.
/// - A marker (the first entry of each epoch) has no effect and no origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its position.
    pub index: LogIndex,
    /// The epoch in which it was first appended.
    pub epoch: Epoch,
    /// The dictionary's version once it is applied.
    pub version: Version,
    /// When the primary executed it, by its calendar; for people.
    pub at: WallTime,
    /// What it does; several keys change as one.
    pub effects: Vec<Effect>,
    /// Which request it carries out, where a session asked.
    pub origin: Option<Origin>,
    /// What that request is answered.
    pub answer: Answer,
}

/// An entry together with its encoding: what is hashed, stored and sent.
///
/// **Invariants:** `bytes` is the encoding of `entry`; made only by [`Sealed::new`] and [`Sealed::decode`].
#[derive(Clone, Debug)]
pub struct Sealed {
    entry: Arc<Entry>,
    bytes: Bytes,
}

impl Sealed {
    /// Encodes an entry.
    pub fn new(entry: Entry) -> Self {
        let bytes = entry.encode().into();
        Self { entry: Arc::new(entry), bytes }
    }

    /// Reads an entry back from bytes.
    ///
    /// **Errors:** [`Malformed`] where the bytes are not exactly one entry.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let entry = Entry::decode(bytes.clone())?;
        Ok(Self { entry: Arc::new(entry), bytes })
    }

    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its encoding.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its position.
    pub fn index(&self) -> LogIndex {
        self.entry.index
    }

    /// The hash of the log that ends with this entry.
    pub fn extend(&self, previous: ChainHash) -> ChainHash {
        previous.extend(&self.bytes)
    }
}

// By their bytes: the encoding is one to one, and comparing it is cheaper than comparing the parts.
impl PartialEq for Sealed {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Sealed {}

impl std::hash::Hash for Sealed {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl Entry {
    /// Whether any effect changes a key, and so the version.
    pub fn changes_keys(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Put { .. } | Effect::Remove { .. }))
    }

    fn encode(&self) -> Vec<u8> {
        let size: usize = self.effects.iter().map(effect_bytes).sum();
        let mut out = Writer::with_capacity(96 + size);
        out.u64(self.index.0);
        write_epoch(&mut out, self.epoch);
        out.u64(self.version.0).u64(self.at.0);
        out.count(self.effects.len());
        for effect in &self.effects {
            match effect {
                Effect::Put { key, value } => out.u8(1).bytes(key).bytes(value),
                Effect::Remove { key } => out.u8(2).bytes(key),
                Effect::OpenSession(session) => write_session(out.u8(3), *session),
                Effect::RemoveSession(session) => write_session(out.u8(4), *session),
                Effect::Count { prefix, number } => out.u8(5).bytes(prefix).u64(*number),
            };
        }
        match self.origin {
            None => out.u8(0),
            Some(origin) => write_session(out.u8(1), origin.session).u64(origin.sequence).u64(origin.lowest_unanswered),
        };
        write_answer(&mut out, self.answer);
        out.finish()
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let index = LogIndex(reader.u64("entry index")?);
        let epoch = read_epoch(&mut reader)?;
        let version = Version(reader.u64("entry version")?);
        let at = WallTime(reader.u64("entry time")?);
        let count = reader.count(5, "entry effects")?;
        let mut effects = Vec::with_capacity(count);
        for _ in 0..count {
            effects.push(match reader.u8("effect kind")? {
                1 => Effect::Put { key: reader.bytes("key")?, value: reader.bytes("value")? },
                2 => Effect::Remove { key: reader.bytes("key")? },
                3 => Effect::OpenSession(read_session(&mut reader)?),
                4 => Effect::RemoveSession(read_session(&mut reader)?),
                5 => Effect::Count { prefix: reader.bytes("prefix")?, number: reader.u64("number")? },
                _ => return Err(Malformed("effect kind")),
            });
        }
        let origin = match reader.u8("entry origin")? {
            0 => None,
            1 => Some(Origin {
                session: read_session(&mut reader)?,
                sequence: reader.u64("sequence")?,
                lowest_unanswered: reader.u64("lowest unanswered sequence")?,
            }),
            _ => return Err(Malformed("entry origin")),
        };
        let answer = read_answer(&mut reader)?;
        reader.end("entry")?;
        Ok(Self { index, epoch, version, at, effects, origin, answer })
    }
}

fn effect_bytes(effect: &Effect) -> usize {
    match effect {
        Effect::Put { key, value } => 9 + key.len() + value.len(),
        Effect::Remove { key } => 5 + key.len(),
        Effect::Count { prefix, .. } => 13 + prefix.len(),
        Effect::OpenSession(_) | Effect::RemoveSession(_) => 17,
    }
}

/// Writes an epoch.
pub fn write_epoch(out: &mut Writer, epoch: Epoch) -> &mut Writer {
    out.u64(epoch.round).u8(epoch.server.0).u64(epoch.run.0)
}

/// Reads an epoch.
pub fn read_epoch(reader: &mut Reader) -> Result<Epoch, Malformed> {
    Ok(Epoch {
        round: reader.u64("epoch round")?,
        server: ServerId(reader.u8("epoch server")?),
        run: RunId(reader.u64("epoch run")?),
    })
}

/// Writes a session's id.
pub fn write_session(out: &mut Writer, session: SessionId) -> &mut Writer {
    out.u64(session.opened_at.0).u64(session.nonce)
}

/// Reads a session's id.
///
/// **Errors:** what could not be read.
pub fn read_session(reader: &mut Reader) -> Result<SessionId, Malformed> {
    Ok(SessionId { opened_at: LogIndex(reader.u64("session index")?), nonce: reader.u64("session nonce")? })
}

/// Writes an answer; also a part of what the state digest covers.
pub fn write_answer(out: &mut Writer, answer: Answer) -> &mut Writer {
    match answer {
        Answer::Nothing => out.u8(0),
        Answer::Added { existed } => out.u8(1).u8(u8::from(existed)),
        Answer::Deleted { existed } => out.u8(2).u8(u8::from(existed)),
        Answer::SessionOpened(session) => write_session(out.u8(3), session),
        Answer::SessionClosed => out.u8(4),
        Answer::SessionExpired => out.u8(5),
        Answer::Appended { number } => out.u8(6).u64(number),
        Answer::NotMet { condition, found } => {
            out.u8(7).u64(u64::from(condition));
            match found {
                None => out.u8(0),
                Some(version) => out.u8(1).u64(version.0),
            }
        }
    }
}

/// Reads an answer.
///
/// **Errors:** what could not be read.
pub fn read_answer(reader: &mut Reader) -> Result<Answer, Malformed> {
    let flag = |reader: &mut Reader| match reader.u8("answer flag")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("answer flag")),
    };
    Ok(match reader.u8("answer kind")? {
        0 => Answer::Nothing,
        1 => Answer::Added { existed: flag(reader)? },
        2 => Answer::Deleted { existed: flag(reader)? },
        3 => Answer::SessionOpened(read_session(reader)?),
        4 => Answer::SessionClosed,
        5 => Answer::SessionExpired,
        6 => Answer::Appended { number: reader.u64("appended number")? },
        7 => {
            let condition = u32::try_from(reader.u64("condition")?).map_err(|_| Malformed("condition"))?;
            let found = if flag(reader)? { Some(Version(reader.u64("version found")?)) } else { None };
            Answer::NotMet { condition, found }
        }
        _ => return Err(Malformed("answer kind")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Entry {
        let session = SessionId { opened_at: LogIndex(3), nonce: 9 };
        Entry {
            index: LogIndex(7),
            epoch: Epoch { round: 2, server: ServerId(1), run: RunId(5) },
            version: Version(4),
            at: WallTime(1_700_000_000_000),
            effects: vec![
                Effect::Put { key: Bytes::from_static(b"k"), value: Bytes::new() },
                Effect::Remove { key: Bytes::from_static(b"gone") },
                Effect::OpenSession(session),
                Effect::RemoveSession(session),
                Effect::Count { prefix: Bytes::from_static(b"log/"), number: 12 },
            ],
            origin: Some(Origin { session, sequence: 2, lowest_unanswered: 1 }),
            answer: Answer::Added { existed: true },
        }
    }

    #[test]
    fn an_entry_survives_its_encoding() {
        let sealed = Sealed::new(example());
        let again = Sealed::decode(sealed.bytes().clone()).expect("well formed");
        assert_eq!(again.entry(), &example());
        assert_eq!(again, sealed);
    }

    /// Draws entries of all kinds; equal seeds, equal entries.
    struct Draw(u64);

    impl Draw {
        fn number(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }

        fn bytes(&mut self) -> Bytes {
            (0..self.number() % 9).map(|_| self.number().to_le_bytes()[0]).collect::<Vec<u8>>().into()
        }

        fn session(&mut self) -> SessionId {
            SessionId { opened_at: LogIndex(self.number()), nonce: self.number() }
        }

        fn flag(&mut self) -> bool {
            self.number() & 1 == 0
        }

        fn effect(&mut self) -> Effect {
            match self.number() % 5 {
                0 => Effect::Put { key: self.bytes(), value: self.bytes() },
                1 => Effect::Remove { key: self.bytes() },
                2 => Effect::Count { prefix: self.bytes(), number: self.number() },
                3 => Effect::OpenSession(self.session()),
                _ => Effect::RemoveSession(self.session()),
            }
        }

        fn answer(&mut self) -> Answer {
            match self.number() % 8 {
                0 => Answer::Nothing,
                1 => Answer::Added { existed: self.flag() },
                2 => Answer::Deleted { existed: self.flag() },
                3 => Answer::Appended { number: self.number() },
                4 => Answer::NotMet {
                    condition: u32::try_from(self.number() >> 32).expect("32 bits"),
                    found: self.flag().then(|| Version(self.number())),
                },
                5 => Answer::SessionOpened(self.session()),
                6 => Answer::SessionClosed,
                _ => Answer::SessionExpired,
            }
        }

        fn entry(&mut self) -> Entry {
            let session = self.session();
            let origin = Origin { session, sequence: self.number(), lowest_unanswered: self.number() };
            Entry {
                index: LogIndex(self.number()),
                epoch: Epoch { round: self.number(), server: ServerId(2), run: RunId(self.number()) },
                version: Version(self.number()),
                at: WallTime(self.number()),
                effects: (0..self.number() % 4).map(|_| self.effect()).collect(),
                origin: self.flag().then_some(origin),
                answer: self.answer(),
            }
        }
    }

    #[test]
    fn every_entry_has_one_encoding_and_every_encoding_one_entry() {
        let mut draw = Draw(1);
        let mut refused = 0;
        for _ in 0..2_000 {
            let entry = draw.entry();
            let bytes = Sealed::new(entry.clone()).bytes().clone();
            assert_eq!(Sealed::decode(bytes.clone()).expect("well formed").entry(), &entry);
            // Bytes that were not written by the encoding are refused, or are the encoding of another entry.
            let mut other = bytes.to_vec();
            let place = usize::try_from(draw.number()).expect("64 bits") % other.len();
            other[place] ^= 1 << (draw.number() % 8);
            match Sealed::decode(other.clone().into()) {
                Ok(read) => {
                    assert_ne!(read.entry(), &entry, "two encodings of one entry");
                    assert_eq!(read.entry().encode(), other, "{:?}", read.entry());
                }
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 100, "{refused}");
    }

    #[test]
    fn every_cut_and_every_excess_of_an_entry_is_refused() {
        let bytes = Sealed::new(example()).bytes().clone();
        for length in 0..bytes.len() {
            assert!(Sealed::decode(bytes.slice(..length)).is_err(), "accepted {length} bytes");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Sealed::decode(longer.into()).is_err());
    }
}
