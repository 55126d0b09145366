//! The callers that wait for the node's answer.

use std::collections::HashMap;

use heirloom_proto::limits::WAITING_REQUESTS_MAX;
use heirloom_proto::{Refusal, Request, Response, Token};

use super::Reply;

/// How many callers wait at most: those whom the core lets wait, and as many again whose entries are on their way.
const CALLERS_MAX: usize = 2 * WAITING_REQUESTS_MAX;
/// How many operators wait at most. They have room of their own, for what ends an outage is their word, and an outage is
/// when all other room is taken.
const OPERATORS_MAX: usize = 64;
/// While there is no room, how many callers come before those who have gone are looked for again: a look at all of them
/// for each would be quadratic.
const ARRIVALS_BETWEEN_LOOKS: usize = CALLERS_MAX / 16;

/// The waiting callers, over all lives of a process.
///
/// **Invariants:** a token is given out once in a process; at most [`CALLERS_MAX`] clients and [`OPERATORS_MAX`]
/// operators wait.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    clients: HashMap<Token, Caller>,
    operators: HashMap<Token, Caller>,
    changes: usize,
    reads: Reads,
    next: u64,
    arrivals_before_look: usize,
}

#[derive(Debug)]
struct Caller {
    reply: Reply,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It may take effect after the caller was let go.
    Change,
    Read,
    Operator,
}

/// What became of reads, pages of scans among them, since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Answered by this server alone, at once.
    pub(crate) local: u64,
    /// Answered by this server alone, after a change of the key was committed.
    pub(crate) waited: u64,
    /// Answered after a round with the voters.
    pub(crate) confirmed: u64,
    /// Not answered here.
    pub(crate) forwarded: u64,
}

impl Reads {
    fn count(&mut self, kind: Kind, result: &Result<Response, Refusal>) {
        let count = match result {
            Ok(response) => match response.seen() {
                Some(seen) if seen.waited => &mut self.waited,
                Some(seen) if seen.local => &mut self.local,
                Some(_) => &mut self.confirmed,
                None => return,
            },
            Err(Refusal::NotPrimary { .. }) if kind == Kind::Read => &mut self.forwarded,
            Err(_) => return,
        };
        *count += 1;
    }
}

impl Callers {
    /// Lets a caller wait; refuses it at once where too many do.
    pub(crate) fn wait(&mut self, request: &Request, reply: Reply) -> Option<Token> {
        let kind = match request {
            Request::OpenSession | Request::CloseSession(_) | Request::Change { .. } => Kind::Change,
            Request::Read { .. } | Request::Scan(_) => Kind::Read,
            Request::Promote(_) | Request::Fence(_) => Kind::Operator,
        };
        let operator = kind == Kind::Operator;
        if !(if operator { self.room_for_operator() } else { self.room_for_client() }) {
            reply.send(Err(Refusal::Overloaded));
            return None;
        }
        let token = Token(self.next);
        self.next += 1;
        self.changes += usize::from(kind == Kind::Change);
        let waiting = if operator { &mut self.operators } else { &mut self.clients };
        waiting.insert(token, Caller { reply, kind });
        Some(token)
    }

    fn room_for_operator(&mut self) -> bool {
        if self.operators.len() >= OPERATORS_MAX {
            self.operators.retain(|_, caller| !caller.reply.is_closed());
        }
        self.operators.len() < OPERATORS_MAX
    }

    /// Where there is none, those make it who have gone: in an outage every caller ends its patience some time, while the
    /// node goes on holding the request.
    fn room_for_client(&mut self) -> bool {
        if self.clients.len() < CALLERS_MAX {
            return true;
        }
        match self.arrivals_before_look.checked_sub(1) {
            Some(fewer) => self.arrivals_before_look = fewer,
            None => {
                self.arrivals_before_look = ARRIVALS_BETWEEN_LOOKS;
                let changes = &mut self.changes;
                self.clients.retain(|_, caller| {
                    let gone = caller.reply.is_closed();
                    *changes -= usize::from(gone && caller.kind == Kind::Change);
                    !gone
                });
            }
        }
        self.clients.len() < CALLERS_MAX
    }

    /// Answers a caller.
    pub(crate) fn answer(&mut self, token: Token, result: Result<Response, Refusal>) {
        match self.clients.remove(&token).or_else(|| self.operators.remove(&token)) {
            Some(caller) => {
                self.changes -= usize::from(caller.kind == Kind::Change);
                self.reads.count(caller.kind, &result);
                caller.reply.send(result);
            }
            None => tracing::debug!(token = token.0, "answered, and the caller had gone"),
        }
    }

    /// What became of reads.
    pub(crate) fn reads(&self) -> Reads {
        self.reads
    }

    /// How many changes are under way.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// Lets all go: the node that would have answered is no more. What it had begun may yet be committed by others.
    pub(crate) fn let_go(&mut self) {
        for (_, caller) in self.clients.drain().chain(self.operators.drain()) {
            let refusal = match caller.kind {
                Kind::Change => Refusal::OutcomeUnknown,
                Kind::Read | Kind::Operator => Refusal::NotPrimary { primary: None },
            };
            caller.reply.send(Err(refusal));
        }
        self.changes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use heirloom_proto::{Consistency, ServerId};
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn callers_that_are_let_go_are_told_the_truth_about_their_changes() {
        let mut callers = Callers::default();
        let (change, mut change_slot) = oneshot::channel();
        let (read, mut read_slot) = oneshot::channel();
        callers.wait(&Request::OpenSession, Reply::Call(change)).expect("there is room");
        let request = Request::Read { key: Bytes::from_static(b"k"), consistency: Consistency::Linearizable };
        callers.wait(&request, Reply::Call(read)).expect("there is room");
        assert_eq!(callers.changes(), 1);
        callers.let_go();
        assert_eq!(change_slot.try_recv(), Ok(Err(Refusal::OutcomeUnknown)));
        assert_eq!(read_slot.try_recv(), Ok(Err(Refusal::NotPrimary { primary: None })));
        assert_eq!(callers.changes(), 0);
    }

    #[test]
    fn a_token_is_never_given_out_again_in_another_life_either() {
        let mut callers = Callers::default();
        let wait = |callers: &mut Callers| {
            callers.wait(&Request::OpenSession, Reply::Call(oneshot::channel().0)).expect("there is room")
        };
        let first = wait(&mut callers);
        callers.let_go();
        assert!(wait(&mut callers) > first);
    }

    /// As many callers as there is room for, of whom the first `gone` have gone.
    fn full(gone: usize) -> (Callers, Vec<oneshot::Receiver<Result<Response, Refusal>>>) {
        let mut callers = Callers::default();
        let mut waiting = Vec::new();
        for number in 0..CALLERS_MAX {
            let (reply, slot) = oneshot::channel();
            callers.wait(&Request::OpenSession, Reply::Call(reply)).expect("there is room");
            if number >= gone {
                waiting.push(slot);
            }
        }
        (callers, waiting)
    }

    fn client(callers: &mut Callers) -> Option<Token> {
        callers.wait(&Request::OpenSession, Reply::Call(oneshot::channel().0))
    }

    #[test]
    fn an_operator_is_heard_where_clients_have_taken_all_room() {
        let (mut callers, _waiting) = full(0);
        assert_eq!(client(&mut callers), None);
        let mut operators = Vec::new();
        for request in [Request::Fence(ServerId(1)), Request::Promote(ServerId(1))].iter().cycle().take(OPERATORS_MAX) {
            let (reply, slot) = oneshot::channel();
            assert!(callers.wait(request, Reply::Call(reply)).is_some());
            operators.push(slot);
        }
        let fence =
            |callers: &mut Callers| callers.wait(&Request::Fence(ServerId(1)), Reply::Call(oneshot::channel().0));
        assert_eq!(fence(&mut callers), None, "bounded too");
        operators.pop();
        assert!(fence(&mut callers).is_some(), "one has gone");
    }

    #[test]
    fn callers_that_have_gone_make_room_and_are_not_looked_for_at_every_arrival() {
        let (mut callers, mut waiting) = full(2);
        assert!(client(&mut callers).is_some());
        assert_eq!(callers.changes(), CALLERS_MAX - 1);
        let (reply, slot) = oneshot::channel();
        waiting.push(slot);
        assert!(callers.wait(&Request::OpenSession, Reply::Call(reply)).is_some());
        waiting.clear();
        for _ in 0..ARRIVALS_BETWEEN_LOOKS {
            assert_eq!(client(&mut callers), None);
        }
        assert!(client(&mut callers).is_some());
        assert_eq!(callers.changes(), 1);
    }

    #[test]
    fn a_caller_that_has_gone_is_no_trouble() {
        let mut callers = Callers::default();
        let (reply, slot) = oneshot::channel();
        let token = callers.wait(&Request::Promote(ServerId(1)), Reply::Call(reply)).expect("there is room");
        drop(slot);
        callers.answer(token, Ok(Response::Fenced));
    }
}
