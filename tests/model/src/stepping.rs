//! Giving servers their inputs, and holding what comes of it to the laws.

use std::rc::Rc;

use heirloom_laws::{Inspect, Laws, Violation};
use heirloom_proto::{Action, Cause, Message, Note, Peer, Record, Response, ServerId, Standing, Time};

use crate::intern::fingerprint;
use crate::local::{Input, Local};
use crate::packet::Packet;
use crate::rules::Sight;
use crate::state::State;
use crate::world::Universe;

/// What happens to a server, named by number where that is possible: most of it has happened to it before.
#[derive(Debug)]
pub(crate) enum Happens<'a> {
    Arrives(u32),
    Other(&'a Input),
}

/// What an input does to one server.
#[derive(Debug)]
pub(crate) struct Taken {
    pub after: u32,
    pub substeps: Vec<(u32, Vec<Action>)>,
    pub sends: Vec<u32>,
    /// Whether it does more than to send.
    pub tells: bool,
    /// Whether it is not looked at.
    pub beyond: bool,
    pub panicked: Option<String>,
}

impl Universe {
    /// Gives a server an input; false where nothing comes of it.
    pub(crate) fn put(&mut self, next: &mut State, server: u8, input: &Input) -> Result<bool, Violation> {
        self.happen(next, server, &Happens::Other(input))
    }

    pub(crate) fn happen(&mut self, next: &mut State, server: u8, happens: &Happens<'_>) -> Result<bool, Violation> {
        let before = next.locals[usize::from(server)];
        let taken = self.take(before, happens, next.now);
        if taken.beyond {
            return Ok(false);
        }
        let quiet = taken.after == before
            && taken.sends.iter().all(|packet| next.network.binary_search(packet).is_ok())
            && !taken.tells;
        if quiet && taken.panicked.is_none() {
            return Ok(false);
        }
        let was = self.locals.value(before).peer();
        for (seen, actions) in &taken.substeps {
            self.judge(next, server, *seen, actions)?;
            for action in actions {
                if let Action::Respond { token, result } = action {
                    self.answered(next, *token, result)?;
                }
            }
        }
        if let Some(what) = &taken.panicked {
            return Violation::of(12, what.clone());
        }
        next.locals[usize::from(server)] = taken.after;
        for packet in &taken.sends {
            next.send(*packet);
        }
        let is = self.locals.value(taken.after).peer();
        if let Some(was) = was.filter(|was| is != Some(*was)) {
            let others: Vec<Peer> =
                self.locals_of(next).filter_map(Local::peer).filter(|other| other.server != was.server).collect();
            for at in others {
                let broken = self.packets.number(Packet::Break { at, peer: was });
                next.send(broken);
            }
        }
        Ok(true)
    }

    pub(crate) fn judge(
        &mut self,
        next: &mut State,
        server: u8,
        seen: u32,
        actions: &[Action],
    ) -> Result<(), Violation> {
        if actions.is_empty() && seen == next.locals[usize::from(server)] {
            return Ok(());
        }
        let mut laws = Laws::clone(self.laws.value(next.laws));
        let mut locals: Vec<&Local> = self.locals_of(next).collect();
        locals[usize::from(server)] = self.locals.value(seen);
        laws.after_step(&locals, ServerId(server), next.now.0, actions)?;
        next.laws = self.laws.number(laws);
        Ok(())
    }

    /// What an input does to a server: the same whenever it meets it.
    pub(crate) fn take(&mut self, before: u32, happens: &Happens<'_>, now: Time) -> Rc<Taken> {
        let at = place(before, now);
        let place = match happens {
            Happens::Arrives(packet) => at | u128::from(*packet) << 64,
            Happens::Other(input) => at ^ (fingerprint(input) | 1 << 95),
        };
        if let Some(taken) = self.taken.get(&place) {
            return Rc::clone(taken);
        }
        let arriving;
        let input = match happens {
            Happens::Arrives(packet) => {
                arriving = Input::Event(self.packets.value(*packet).event());
                &arriving
            }
            Happens::Other(input) => input,
        };
        let local = Rc::clone(self.locals.value(before));
        let outcome = local.take(input, now, &self.rules);
        let mut beyond = false;
        let mut sends = Vec::new();
        let mut substeps = Vec::new();
        for substep in outcome.substeps {
            let from = substep.seen.peer();
            for action in &substep.actions {
                let sent = from.and_then(|from| Packet::of(from, action));
                let sent = sent.filter(|sent| self.rules.proofs || !matches!(sent, Packet::Probe { .. }));
                let lost = sent.as_ref().map_or(0, |sent| self.asks_too_much(sent));
                beyond |= lost > self.rules.unsent;
                sends.extend(sent.filter(|_| lost == 0).map(|packet| self.packets.number(packet)));
                self.look(&substep.seen, action);
            }
            substeps.push((self.locals.number(substep.seen), substep.actions));
        }
        let after = self.locals.number(outcome.after);
        let only_sends = |action: &Action| matches!(action, Action::Send { .. } | Action::Probe { .. });
        let tells = !substeps.iter().all(|(_, actions)| actions.iter().all(only_sends));
        if let (Happens::Arrives(packet), true) = (happens, after == before && !tells && outcome.panicked.is_none()) {
            // What it makes the server say was said when the server came to be so (see `saturate`).
            let words = self.inert.entry(self::place(before, now)).or_default();
            let word = *packet as usize / 64;
            words.resize(words.len().max(word + 1), 0);
            words[word] |= 1 << (packet % 64);
        }
        let taken = Rc::new(Taken { after, substeps, sends, tells, beyond, panicked: outcome.panicked });
        self.taken.insert(place, Rc::clone(&taken));
        taken
    }

    /// By how much this is one question or probe more than is looked at; zero where it is none.
    pub(crate) fn asks_too_much(&self, packet: &Packet) -> u64 {
        if !self.begun {
            return 0;
        }
        let before = |run| self.asked_before.get(&run).copied().unwrap_or((run.0, 0));
        match packet {
            Packet::Message { from, message: Message::Question { ask }, .. } => {
                ask.saturating_sub(before(from.run).0.max(from.run.0) + self.rules.asks)
            }
            Packet::Probe { asker, probe, .. } => probe.saturating_sub(before(asker.run).1 + self.rules.probes),
            Packet::Message { .. } | Packet::Break { .. } | Packet::Mend { .. } | Packet::Probed { .. } => 0,
        }
    }

    /// Notices what the search reaches.
    fn look(&mut self, server: &Local, action: &Action) {
        let sights: &[Sight] = match action {
            Action::Respond { result: Ok(Response::Changed { .. }), .. } => &[Sight::AWriteWasAnswered],
            Action::Respond { result: Ok(Response::Found { seen, .. } | Response::NotFound { seen }), .. } => {
                let leads = server.node().is_some_and(|node| node.primary_epoch().is_some());
                match (seen.local, seen.waited, leads) {
                    (false, _, _) => &[Sight::AReadWasAnswered],
                    (true, true, _) => &[Sight::AReadWasAnswered, Sight::AReadWaited],
                    (true, false, true) => &[Sight::AReadWasAnswered, Sight::APrimaryReadUnderItsLease],
                    (true, false, false) => &[Sight::AReadWasAnswered, Sight::ABackupReadUnderItsLease],
                }
            }
            Action::Tell(Note::Chosen { reason, .. }) => {
                let handed_over = reason.contains("handed over");
                let took_over = reason.contains("leads no more") || handed_over;
                if handed_over {
                    *self.seen.entry(Sight::AHandOverWasDone).or_default() += 1;
                }
                let inherited = server.node().is_some_and(|node| {
                    let applied = Inspect::applied(node).map_or(0, |(applied, _)| applied.0);
                    Inspect::log_end(node).is_some_and(|end| end.0 > applied + 1)
                });
                match (took_over, reason.contains(" in: "), reason.contains(" out: ")) {
                    (true, _, _) if inherited => {
                        &[Sight::AServerWasPromoted, Sight::APromotionInheritedPreparedEntries]
                    }
                    (true, _, _) => &[Sight::AServerWasPromoted],
                    (false, true, true) => &[Sight::ALearnerWasAdded, Sight::AMemberWasRemoved],
                    (false, true, false) => &[Sight::ALearnerWasAdded],
                    (false, false, true) => &[Sight::AMemberWasRemoved],
                    (false, false, false) => &[],
                }
            }
            Action::Tell(Note::RolledBack { .. }) => &[Sight::ATailWasRolledBack],
            Action::Tell(Note::ProvenDead { .. }) => &[Sight::ADeathWasProven],
            Action::Persist { record: Record::Register(register), .. } => {
                let forgot = server.node().and_then(Inspect::votes).is_some_and(|r| r.standing == Standing::Amnesiac);
                if forgot && register.standing == Standing::Intact { &[Sight::AVoterRememberedAgain] } else { &[] }
            }
            Action::Halt(Cause::Deposed) => &[Sight::AServerWasDeposed],
            Action::Halt(Cause::Irreconcilable { .. } | Cause::Outdated { .. }) => &[Sight::AStoreWasGivenUp],
            _ => &[],
        };
        for sight in sights {
            *self.seen.entry(*sight).or_default() += 1;
        }
    }
}

/// A server at a time.
pub(crate) fn place(local: u32, now: Time) -> u128 {
    u128::from(local) << 96 | u128::from(now.0)
}
