//! The table of client sessions: what makes a retried request take effect once (PROTOCOL 11).

use std::collections::BTreeMap;

use heirloom_proto::{Answer, Digest, LogIndex, Mutant, Origin, SessionId, Version, WallTime, planted};

use crate::part::{Part, digested_answer, digested_session};

/// An answer that is kept for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answered {
    /// The answer.
    pub answer: Answer,
    /// The version with it.
    pub version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    answers: BTreeMap<u64, Answered>,
    lowest_unanswered: u64,
    used_at_index: LogIndex,
    used_at: WallTime,
}

/// All open sessions. A part of the applied state: equal on all copies at equal applied index.
///
/// **Invariants:** `by_use` holds every session once, under the index of the entry that used it last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Sessions {
    open: BTreeMap<SessionId, Session>,
    by_use: BTreeMap<LogIndex, SessionId>,
}

impl Sessions {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether this one is open.
    pub fn is_open(&self, session: SessionId) -> bool {
        self.open.contains_key(&session)
    }

    /// The kept answer to a request.
    pub fn answer(&self, session: SessionId, sequence: u64) -> Option<Answered> {
        self.open.get(&session)?.answers.get(&sequence).copied()
    }

    /// The lowest sequence of an open session that its client has not seen the answer to.
    pub fn lowest_unanswered(&self, session: SessionId) -> Option<u64> {
        self.open.get(&session).map(|session| session.lowest_unanswered)
    }

    /// All open sessions, the one idle longest first, with the time of its last use.
    pub fn by_idleness(&self) -> impl Iterator<Item = (SessionId, WallTime)> {
        self.by_use.values().map(|id| (*id, self.open[id].used_at))
    }

    /// All sessions, then all answers.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let answers = self.open.iter().flat_map(|(id, session)| {
            session.answers.iter().map(|(sequence, answered)| answer_part(*id, *sequence, *answered))
        });
        self.open.iter().map(session_part).chain(answers)
    }

    /// The same, without keeping them.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = Part> {
        let sessions: Vec<Part> = self.open.iter().map(session_part).collect();
        let answers = self.open.into_iter().flat_map(|(id, session)| {
            session.answers.into_iter().map(move |(sequence, answered)| answer_part(id, sequence, answered))
        });
        sessions.into_iter().chain(answers)
    }

    /// Puts a session back as it was; it is not there yet.
    ///
    /// **Errors:** half a sentence where another was used by the same entry.
    pub(crate) fn put(
        &mut self,
        id: SessionId,
        lowest_unanswered: u64,
        used_at_index: LogIndex,
        used_at: WallTime,
        digest: &mut Digest,
    ) -> Result<(), &'static str> {
        digest.add(&digested_session(id, lowest_unanswered));
        self.open.insert(id, Session { answers: BTreeMap::new(), lowest_unanswered, used_at_index, used_at });
        match self.by_use.insert(used_at_index, id) {
            None => Ok(()),
            Some(_) => Err("two sessions that one entry used last"),
        }
    }

    /// Puts an answer back; it is not there yet.
    ///
    /// **Errors:** half a sentence where its session is not open.
    pub(crate) fn put_answer(
        &mut self,
        session: SessionId,
        sequence: u64,
        answered: Answered,
        digest: &mut Digest,
    ) -> Result<(), &'static str> {
        digest.add(&digested_answer(session, sequence, answered));
        let of = self.open.get_mut(&session).ok_or("an answer to a session that is not open")?;
        of.answers.insert(sequence, answered);
        Ok(())
    }

    pub(crate) fn open(&mut self, id: SessionId, index: LogIndex, at: WallTime, digest: &mut Digest) {
        let session = Session { answers: BTreeMap::new(), lowest_unanswered: 1, used_at_index: index, used_at: at };
        digest.add(&digested_session(id, session.lowest_unanswered));
        let before = self.open.insert(id, session);
        assert!(before.is_none(), "a session is opened once");
        let other = self.by_use.insert(index, id);
        assert!(other.is_none(), "an entry uses one session");
    }

    pub(crate) fn remove(&mut self, id: SessionId, digest: &mut Digest) {
        let session = self.open.remove(&id).expect("an effect removes what is there");
        digest.remove(&digested_session(id, session.lowest_unanswered));
        for (sequence, answered) in &session.answers {
            digest.remove(&digested_answer(id, *sequence, *answered));
        }
        self.by_use.remove(&session.used_at_index);
    }

    /// Keeps the answer of an entry's request, and forgets those that its client has seen. A session that is gone keeps
    /// nothing.
    pub(crate) fn keep(
        &mut self,
        origin: Origin,
        answered: Answered,
        index: LogIndex,
        at: WallTime,
        digest: &mut Digest,
    ) {
        let Some(session) = self.open.get_mut(&origin.session) else { return };
        let id = origin.session;
        if origin.lowest_unanswered > session.lowest_unanswered {
            digest.remove(&digested_session(id, session.lowest_unanswered));
            session.lowest_unanswered = origin.lowest_unanswered;
            digest.add(&digested_session(id, session.lowest_unanswered));
            let kept = session.answers.split_off(&origin.lowest_unanswered);
            for (sequence, forgotten) in std::mem::replace(&mut session.answers, kept) {
                digest.remove(&digested_answer(id, sequence, forgotten));
            }
        }
        // A request that its client had given up on may come late: nobody will ask for its answer again.
        if origin.sequence >= session.lowest_unanswered {
            digest.add(&digested_answer(id, origin.sequence, answered));
            let before = session.answers.insert(origin.sequence, answered);
            assert!(before.is_none() || planted(Mutant::DedupLostAtFailover), "a request is carried out once");
        }
        self.by_use.remove(&session.used_at_index);
        session.used_at_index = index;
        session.used_at = at;
        self.by_use.insert(index, id);
    }
}

fn session_part((id, session): (&SessionId, &Session)) -> Part {
    Part::Session {
        id: *id,
        lowest_unanswered: session.lowest_unanswered,
        used_at_index: session.used_at_index,
        used_at: session.used_at,
    }
}

fn answer_part(session: SessionId, sequence: u64, answered: Answered) -> Part {
    Part::Answer { session, sequence, answered }
}
