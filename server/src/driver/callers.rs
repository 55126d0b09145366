//! The callers that wait for the node's answer.

use std::collections::HashMap;

use heirloom_proto::limits::WAITING_REQUESTS_MAX;
use heirloom_proto::{Refusal, Request, Response, Token};

use super::Reply;

/// How many callers wait at most: those whom the core lets wait, and as many again whose entries are on their way.
const CALLERS_MAX: usize = 2 * WAITING_REQUESTS_MAX;

/// The waiting callers of one life, by token.
///
/// **Invariants:** a token is given out once in a process; there are at most [`CALLERS_MAX`] callers.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    waiting: HashMap<Token, Caller>,
    changes: usize,
    next: u64,
}

#[derive(Debug)]
struct Caller {
    reply: Reply,
    /// Whether the request may take effect after the caller was let go.
    changes: bool,
}

impl Callers {
    /// Lets a caller wait; refuses it at once where too many do.
    pub(crate) fn wait(&mut self, request: &Request, reply: Reply) -> Option<Token> {
        if self.waiting.len() >= CALLERS_MAX {
            reply.send(Err(Refusal::Overloaded));
            return None;
        }
        let changes = match request {
            Request::OpenSession | Request::CloseSession(_) | Request::Change { .. } => true,
            Request::Read { .. } | Request::Promote(_) | Request::Fence(_) => false,
        };
        let token = Token(self.next);
        self.next += 1;
        self.changes += usize::from(changes);
        self.waiting.insert(token, Caller { reply, changes });
        Some(token)
    }

    /// Answers a caller.
    pub(crate) fn answer(&mut self, token: Token, result: Result<Response, Refusal>) {
        match self.waiting.remove(&token) {
            Some(caller) => {
                self.changes -= usize::from(caller.changes);
                caller.reply.send(result);
            }
            None => tracing::warn!(token = token.0, "the node answered a caller twice"),
        }
    }

    /// How many changes are under way.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// Lets all go: the node that would have answered is no more. What it had begun may yet be committed by others.
    pub(crate) fn let_go(&mut self) {
        for (_, caller) in self.waiting.drain() {
            let refusal = if caller.changes { Refusal::OutcomeUnknown } else { Refusal::NotPrimary { primary: None } };
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
    fn a_caller_that_has_gone_is_no_trouble() {
        let mut callers = Callers::default();
        let (reply, slot) = oneshot::channel();
        let token = callers.wait(&Request::Promote(ServerId(1)), Reply::Call(reply)).expect("there is room");
        drop(slot);
        callers.answer(token, Ok(Response::Fenced));
    }
}
