//! The table of client sessions: what makes a retried request take effect once (PROTOCOL 11).

use std::collections::BTreeMap;

use heirloom_proto::codec::Writer;
use heirloom_proto::entry::write_answer;
use heirloom_proto::{Answer, Digest, LogIndex, Mutant, Origin, SessionId, Version, WallTime, planted};

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

    pub(crate) fn open(&mut self, id: SessionId, index: LogIndex, at: WallTime, digest: &mut Digest) {
        let session = Session { answers: BTreeMap::new(), lowest_unanswered: 1, used_at_index: index, used_at: at };
        digest.add(&lowest_part(id, session.lowest_unanswered));
        let before = self.open.insert(id, session);
        assert!(before.is_none(), "a session is opened once");
        let other = self.by_use.insert(index, id);
        assert!(other.is_none(), "an entry uses one session");
    }

    pub(crate) fn remove(&mut self, id: SessionId, digest: &mut Digest) {
        let session = self.open.remove(&id).expect("an effect removes what is there");
        digest.remove(&lowest_part(id, session.lowest_unanswered));
        for (sequence, answered) in &session.answers {
            digest.remove(&answer_part(id, *sequence, *answered));
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
            digest.remove(&lowest_part(id, session.lowest_unanswered));
            session.lowest_unanswered = origin.lowest_unanswered;
            digest.add(&lowest_part(id, session.lowest_unanswered));
            let kept = session.answers.split_off(&origin.lowest_unanswered);
            for (sequence, forgotten) in std::mem::replace(&mut session.answers, kept) {
                digest.remove(&answer_part(id, sequence, forgotten));
            }
        }
        // A request that its client had given up on may come late: nobody will ask for its answer again.
        if origin.sequence >= session.lowest_unanswered {
            digest.add(&answer_part(id, origin.sequence, answered));
            let before = session.answers.insert(origin.sequence, answered);
            assert!(before.is_none() || planted(Mutant::DedupLostAtFailover), "a request is carried out once");
        }
        self.by_use.remove(&session.used_at_index);
        session.used_at_index = index;
        session.used_at = at;
        self.by_use.insert(index, id);
    }
}

fn lowest_part(id: SessionId, lowest_unanswered: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(32);
    out.u8(b's').u64(id.opened_at.0).u64(id.nonce).u64(lowest_unanswered);
    out.finish()
}

fn answer_part(id: SessionId, sequence: u64, answered: Answered) -> Vec<u8> {
    let mut out = Writer::with_capacity(64);
    out.u8(b'a').u64(id.opened_at.0).u64(id.nonce).u64(sequence).u64(answered.version.0);
    write_answer(&mut out, answered.answer);
    out.finish()
}
