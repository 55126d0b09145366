//! Executing requests: once, by the primary, against committed plus prepared state (PROTOCOL 4 and 11).

use heirloom_backup::Answered;
use heirloom_proto::limits::{
    PREPARED_BYTES_MAX, PREPARED_ENTRIES_MAX, SESSION_ANSWERS_MAX, SESSION_IDLE_MS_MAX, SESSIONS_MAX,
    SESSIONS_REMOVED_AT_ONCE, WAITING_REQUESTS_MAX,
};
use heirloom_proto::{
    Answer, Effect, LogIndex, Lookup, Mutant, Origin, Outbox, Refusal, Request, RequestId, Response, SessionId, Token,
    Version, WallTime, planted,
};

use crate::primary::{Held, Primary, Setting};

impl Primary {
    /// Takes a request whose parts are within bounds.
    pub fn request(&mut self, token: Token, request: Request, at: WallTime, setting: Setting<'_>, out: &mut Outbox) {
        match request {
            Request::Read { key, consistency } => self.read(token, Lookup::Key { key, consistency }, setting, out),
            Request::Scan(scan) => self.read(token, Lookup::Page(scan), setting, out),
            Request::Promote(target) => self.hand_over_to(token, target, setting, out),
            Request::Fence(_) => out.respond(token, Ok(Response::Fenced)),
            Request::OpenSession | Request::CloseSession(_) | Request::Change { .. } => {
                self.write(token, request, at, out);
            }
        }
    }

    fn write(&mut self, token: Token, request: Request, at: WallTime, out: &mut Outbox) {
        if self.frozen || self.hand_over.is_some() {
            if self.held.len() >= WAITING_REQUESTS_MAX {
                return out.respond(token, Err(Refusal::Overloaded));
            }
            return self.held.push_back(Held { token, request, at });
        }
        let prepared = self.replica.log().end().0 - self.replica.applied_index().0;
        if prepared >= PREPARED_ENTRIES_MAX || self.overlay.bytes() >= PREPARED_BYTES_MAX {
            return out.respond(token, Err(Refusal::Overloaded));
        }
        let index = match request {
            Request::OpenSession => Ok(self.open_session(at)),
            Request::CloseSession(session) => Ok(self.close_session(session, at)),
            Request::Change { id: None, change } => Ok(self.change(change, None, at)),
            Request::Change { id: Some(id), change } => match self.look_up(id) {
                Known::Answered(answered) => {
                    let result = self.response(answered.answer, answered.version);
                    return out.respond(token, result);
                }
                Known::InFlight(index) => Ok(index),
                Known::Refused(refusal) => Err(refusal),
                Known::Removed => Ok(self.append(at, Vec::new(), None, Answer::SessionExpired)),
                Known::New => {
                    let origin =
                        Origin { session: id.session, sequence: id.sequence, lowest_unanswered: id.lowest_unanswered };
                    Ok(self.change(change, Some(origin), at))
                }
            },
            Request::Read { .. } | Request::Scan(_) | Request::Promote(_) | Request::Fence(_) => {
                unreachable!("not a write")
            }
        };
        match index {
            Ok(index) if planted(Mutant::AnswerBeforeCommit) => self.answer_unless_effective(token, index, out),
            Ok(index) => {
                self.callers.entry(index).or_default().push(token);
                self.note_prepared(token, index, out);
            }
            Err(refusal) => out.respond(token, Err(refusal)),
        }
    }

    /// The fault [`Mutant::AnswerBeforeCommit`]: what changes nothing is answered at once.
    fn answer_unless_effective(&mut self, token: Token, index: LogIndex, out: &mut Outbox) {
        let entry = self.replica.log().entry(index).expect("just prepared").entry();
        if entry.effects.is_empty() {
            return out.respond(token, self.response(entry.answer, entry.version));
        }
        self.callers.entry(index).or_default().push(token);
    }

    /// What is known of a request's id.
    fn look_up(&self, id: RequestId) -> Known {
        if id.sequence == 0 || id.lowest_unanswered == 0 || id.lowest_unanswered > id.sequence {
            return Known::Refused(Refusal::BadSequence);
        }
        if id.sequence - id.lowest_unanswered >= SESSION_ANSWERS_MAX as u64 {
            return Known::Refused(Refusal::BadSequence);
        }
        // In flight first: while the session's removal is prepared behind it, its answer is still to come.
        if let Some(index) = self.overlay.in_flight(id.session, id.sequence) {
            return Known::InFlight(index);
        }
        let sessions = self.replica.sessions();
        match self.overlay.session(id.session) {
            // The refusal rests on an entry that may yet be lost: it waits for one of its own.
            Some(false) => return Known::Removed,
            Some(true) => return Known::New,
            None => {}
        }
        let Some(lowest_unanswered) = sessions.lowest_unanswered(id.session) else {
            // Inherited entries may still open it: only what is applied can tell that it is gone.
            let gone = id.session.opened_at <= self.replica.applied_index();
            if gone && planted(Mutant::SessionOpenedAgain) {
                return Known::New;
            }
            return Known::Refused(if gone { Refusal::SessionExpired } else { Refusal::SessionUnknown });
        };
        if let Some(answered) = sessions.answer(id.session, id.sequence) {
            return Known::Answered(answered);
        }
        if id.sequence < lowest_unanswered {
            return Known::Refused(Refusal::SequenceAnswered { lowest_unanswered });
        }
        Known::New
    }

    fn open_session(&mut self, at: WallTime) -> LogIndex {
        let opened_at = self.replica.log().end().next();
        // Epoch and index name one entry, and so one session; the run in the epoch makes it a number nobody guesses.
        let nonce = self.view.epoch.run.0 ^ self.view.epoch.round.rotate_left(32) ^ opened_at.0;
        let session = SessionId { opened_at, nonce };
        let mut effects = self.sessions_to_remove(at, SESSIONS_MAX - 1);
        effects.push(Effect::OpenSession(session));
        self.append(at, effects, None, Answer::SessionOpened(session))
    }

    /// Removes sessions that are idle for too long by an entry of its own, some at a time.
    pub fn remove_idle_sessions(&mut self, at: WallTime) {
        if !self.serves() || self.hand_over.is_some() {
            return;
        }
        let effects = self.sessions_to_remove(at, SESSIONS_MAX);
        if !effects.is_empty() {
            self.append(at, effects, None, Answer::Nothing);
        }
    }

    /// Sessions idle for too long, and while there would be more than `open_max` all the same those idle longest. Sessions
    /// with a request or a change of their own in flight are left alone.
    fn sessions_to_remove(&self, at: WallTime, open_max: usize) -> Vec<Effect> {
        let open = self.overlay.sessions_open(&self.replica);
        let mut removed = Vec::new();
        for (session, used_at) in self.replica.sessions().by_idleness() {
            let too_long = at.0.saturating_sub(used_at.0) > SESSION_IDLE_MS_MAX;
            let full = open - removed.len() > open_max;
            if !(full || too_long && removed.len() < SESSIONS_REMOVED_AT_ONCE) {
                break;
            }
            if self.overlay.session(session).is_none() && !self.overlay.session_is_busy(session) {
                removed.push(Effect::RemoveSession(session));
            }
        }
        removed
    }

    fn close_session(&mut self, session: SessionId, at: WallTime) -> LogIndex {
        let open = self.overlay.session(session).unwrap_or_else(|| self.replica.sessions().is_open(session));
        let effects = if open { vec![Effect::RemoveSession(session)] } else { Vec::new() };
        self.append(at, effects, None, Answer::SessionClosed)
    }

    /// The response to a committed answer.
    pub(crate) fn response(&self, answer: Answer, version: Version) -> Result<Response, Refusal> {
        let copies = u32::try_from(self.view.in_sync.len()).expect("at most SERVERS_MAX");
        let epoch = self.view.epoch;
        match answer {
            Answer::Added { existed } | Answer::Deleted { existed } => {
                Ok(Response::Changed { version, existed, copies, epoch })
            }
            Answer::Appended { number } => Ok(Response::Appended { number, version, copies, epoch }),
            Answer::NotMet { condition, found } => Ok(Response::NotMet { condition, found, version, epoch }),
            Answer::SessionOpened(session) => Ok(Response::SessionOpened { session }),
            Answer::SessionClosed => Ok(Response::SessionClosed),
            Answer::SessionExpired => Err(Refusal::SessionExpired),
            Answer::Nothing => unreachable!("nobody asks for a marker"),
        }
    }
}

/// What the primary knows of a request's id.
enum Known {
    Answered(Answered),
    InFlight(LogIndex),
    Refused(Refusal),
    /// Its session is removed by a prepared entry.
    Removed,
    New,
}
