//! The laws of `tests/laws`, held against this world at every step.

use heirloom_laws::{DurableAtOnce, Violation};
use heirloom_proto::ServerId;
use heirloom_proto::event::Action;

use super::World;

impl World {
    fn seen(&self) -> Vec<DurableAtOnce<'_>> {
        let seen = |server: ServerId| DurableAtOnce {
            server,
            node: self.nodes.get(&server),
            disk: self.disks.get(&server),
            asked: &self.asked,
        };
        self.constants.servers().map(seen).collect()
    }

    /// **Panics if** this step broke a law.
    pub(super) fn judge(&mut self, stepped: ServerId, actions: &[Action]) {
        let Some(mut laws) = self.laws.take() else { return };
        self.uphold(laws.after_step(&self.seen(), stepped, self.now.0, actions));
        self.laws = Some(laws);
    }

    /// **Panics if** a server that committed alone does not go on alone (law 11).
    pub fn judge_who_is_alone(&self) {
        self.uphold(self.laws.as_ref().expect("nobody lies").alone(&self.seen()));
    }

    fn uphold(&self, judged: Result<(), Violation>) {
        if let Err(violation) = judged {
            panic!("{violation}\n{}", self.describe());
        }
    }
}
