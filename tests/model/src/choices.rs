//! What may happen in a state.

use crate::state::State;
use crate::stepping::place;
use crate::world::Universe;

/// One thing that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    Deliver(u32),
    Deadline(u8),
    LogSynced(u8),
    RegisterSynced(u8),
    Crash { server: u8, keeps_unsynced: bool },
    Start(u8),
    Empty(u8),
    LoseRegister(u8),
    Write { at: u8, sequence: u8 },
    NoOp(u8),
    Read(u8),
    HandOver { at: u8, target: u8 },
    Cut(u8),
    Jump,
}

impl Universe {
    /// Everything that may happen next.
    pub(crate) fn choices(&self, state: &State) -> Vec<Choice> {
        let inert: Vec<Option<&Vec<u64>>> = state
            .locals
            .iter()
            .map(|local| self.inert.get(&place(*local, state.now)).filter(|_| self.saturates))
            .collect();
        let is_inert = |packet: &u32| {
            let words = inert[usize::from(self.packets.value(*packet).at().0)];
            words.and_then(|words| words.get(*packet as usize / 64)).is_some_and(|word| word >> (packet % 64) & 1 == 1)
        };
        let delivered = state.network.iter().filter(|packet| !is_inert(packet));
        let mut choices: Vec<Choice> = delivered.map(|packet| Choice::Deliver(*packet)).collect();
        let left = state.left;
        for (local, server) in self.locals_of(state).zip(0..) {
            let Some(node) = local.node() else {
                // One that was deposed comes back by itself.
                if left.starts > 0 || local.is_between_runs() {
                    choices.push(Choice::Start(server));
                }
                if left.emptied > 0 {
                    choices.push(Choice::Empty(server));
                }
                if left.registers_lost > 0 {
                    choices.push(Choice::LoseRegister(server));
                }
                continue;
            };
            if local.deadline().is_some_and(|deadline| deadline <= state.now) {
                choices.push(Choice::Deadline(server));
            }
            let (log, register) = local.writes();
            choices.extend(log.then_some(Choice::LogSynced(server)));
            choices.extend(register.then_some(Choice::RegisterSynced(server)));
            if left.crashes > 0 {
                choices.push(Choice::Crash { server, keeps_unsynced: false });
                if log || register {
                    choices.push(Choice::Crash { server, keeps_unsynced: true });
                }
            }
            if left.cuts > 0 {
                choices.push(Choice::Cut(server));
            }
            if node.primary_epoch().is_none() {
                let may_read = self.rules.unleased_reads || node.status(state.now).lease.is_some();
                if left.reads > 0 && may_read {
                    choices.push(Choice::Read(server));
                }
                continue;
            }
            if left.writes > 0 {
                choices.push(Choice::Write { at: server, sequence: state.history.written + 1 });
            }
            if left.retries > 0 {
                choices.extend((1..=state.history.written).map(|sequence| Choice::Write { at: server, sequence }));
            }
            if left.no_ops > 0 {
                choices.push(Choice::NoOp(server));
            }
            if left.reads > 0 {
                choices.push(Choice::Read(server));
            }
            if left.hand_overs > 0 {
                let targets = (0..).zip(self.rules.constants.servers()).map(|(target, _)| target);
                choices.extend(targets.filter(|t| *t != server).map(|target| Choice::HandOver { at: server, target }));
            }
        }
        if left.jumps > 0 {
            choices.push(Choice::Jump);
        }
        choices
    }
}
