//! One Heirloom server as a pure value: `step(now, event) -> actions`.

use heirloom_proto::event::{Action, Birth, Durable, Event};
use heirloom_proto::status::Status;
use heirloom_proto::{NodeConfig, Time};

/// One server: a voter and one role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    config: NodeConfig,
}

impl Node {
    /// The node that a run begins with, from what its disk holds.
    pub fn recover(config: NodeConfig, birth: Birth, durable: Durable, now: Time) -> (Self, Vec<Action>) {
        let _ = (birth, durable, now);
        (Self { config }, Vec::new())
    }

    /// Takes one event; returns what is to be done.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        let _ = (now, event);
        Vec::new()
    }

    /// When [`Event::Deadline`] is wanted, at the latest; `None` while no time matters.
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// What the server says of itself.
    pub fn status(&self, now: Time) -> Status {
        let _ = now;
        unreachable!("not yet")
    }
}
