//! Where one step puts its actions.

use crate::event::{Action, Note, Record, Ticket, Token};
use crate::ids::{ClusterId, ServerId};
use crate::message::Message;
use crate::request::{Refusal, Response};

/// The actions of one step, in the making.
///
/// **Invariants:** at most one record of the log; tickets count up.
#[derive(Debug)]
pub struct Outbox {
    cluster: Option<ClusterId>,
    next_ticket: u64,
    actions: Vec<Action>,
}

impl Outbox {
    /// An empty outbox of a node that belongs to `cluster` and has given out the tickets below `next_ticket`.
    pub fn new(cluster: Option<ClusterId>, next_ticket: u64) -> Self {
        Self { cluster, next_ticket, actions: Vec::new() }
    }

    /// The cluster that messages name; `None` before the node belongs to one.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Changes the cluster that later messages name.
    pub fn belong_to(&mut self, cluster: ClusterId) {
        self.cluster = Some(cluster);
    }

    /// Sends a message.
    pub fn send(&mut self, to: ServerId, message: Message) {
        self.actions.push(Action::Send { to, cluster: self.cluster, message });
    }

    /// Makes a record durable, under the ticket returned.
    pub fn persist(&mut self, record: Record) -> Ticket {
        let of_log = |record: &Record| matches!(record, Record::Append(_) | Record::Cut { .. });
        debug_assert!(
            !of_log(&record)
                || !self.actions.iter().any(|a| matches!(a, Action::Persist { record, .. } if of_log(record))),
            "a step writes the log once, for its actions may be performed in any order"
        );
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.actions.push(Action::Persist { ticket, record });
        ticket
    }

    /// Answers a caller.
    pub fn respond(&mut self, token: Token, result: Result<Response, Refusal>) {
        self.actions.push(Action::Respond { token, result });
    }

    /// Tells people.
    pub fn tell(&mut self, note: Note) {
        self.actions.push(Action::Tell(note));
    }

    /// Any other action.
    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// The next ticket and the actions.
    pub fn finish(self) -> (u64, Vec<Action>) {
        (self.next_ticket, self.actions)
    }
}
