//! How a world comes to where its search begins: a calm run in which everything arrives in order.

use std::collections::BTreeSet;
use std::rc::Rc;

use heirloom_laws::{Inspect, Violation};
use heirloom_proto::ServerId;
use heirloom_proto::mutants::{Mutant, Planted, plant};

use crate::choices::Choice;
use crate::local::Local;
use crate::packet::Packet;
use crate::rules::Ahead;
use crate::state::State;
use crate::world::Universe;

const STEPS_MAX: usize = 10_000;

impl Universe {
    /// The state in which the search begins. A fault is planted once the cluster is whole.
    ///
    /// **Errors:** a law that the way there breaks; law 11 where the way there comes to no end.
    pub(crate) fn beginning(&mut self, fault: Option<Mutant>) -> Result<(State, Option<Planted>), Violation> {
        let mut way = Way { universe: self, cut_off: BTreeSet::new(), held: BTreeSet::new() };
        let mut state = way.universe.blank();
        for server in way.universe.servers() {
            way.force(&mut state, Choice::Start(server))?;
        }
        way.calm(&mut state, |universe, state| {
            let data = universe.rules.constants.data_servers().count();
            universe.members(state).is_some_and(|members| members.len() == data)
        })?;
        let leader = way.universe.leader(&state).expect("it is whole");
        way.universe.open_session(&mut state, leader)?;
        way.calm(&mut state, |universe, _| universe.has_session())?;
        way.calm(&mut state, |_, _| true)?;
        // A heartbeat's time later whoever leads holds a lease.
        way.take(&mut state, Ahead::Beat)?;
        // What was met so far was met without it.
        way.universe.taken.clear();
        let planted = fault.map(plant);
        for step in way.universe.rules.beginning.steps {
            way.take(&mut state, *step)?;
        }
        for packet in way.held {
            state.send(packet);
        }
        self.begin(&mut state);
        if self.saturates {
            // As after every step of the search: what is on its way has been met by no server yet.
            let before = State { network: Rc::default(), ..state.clone() };
            self.saturate(&before, &mut state)?;
        }
        Ok((state, planted))
    }

    fn servers(&self) -> std::ops::Range<u8> {
        0..u8::try_from(self.rules.constants.voters.len()).expect("few servers")
    }

    /// Who leads by the newest epoch, and may commit.
    fn leader(&self, state: &State) -> Option<u8> {
        let serving = self.servers().filter_map(|server| {
            let node = self.local(state, server).node()?;
            let serves = node.status(state.now).waits_for.is_none();
            node.primary_epoch().filter(|_| serves).map(|epoch| (epoch, server))
        });
        serving.max().map(|(_, server)| server)
    }

    fn members(&self, state: &State) -> Option<Vec<u8>> {
        let leader = self.leader(state)?;
        let status = self.local(state, leader).node()?.status(state.now);
        Some(status.in_sync.iter().map(|member| member.server.0).collect())
    }
}

/// The way to the beginning.
struct Way<'a> {
    universe: &'a mut Universe,
    cut_off: BTreeSet<ServerId>,
    /// What is on its way between servers of which one is cut off, and may come in the search: that streams stand again.
    held: BTreeSet<u32>,
}

impl Way<'_> {
    fn take(&mut self, state: &mut State, step: Ahead) -> Result<(), Violation> {
        match step {
            Ahead::Down(server) => self.force(state, Choice::Crash { server, keeps_unsynced: true }),
            Ahead::Up(server) => self.force(state, Choice::Start(server)),
            Ahead::Emptied(server) => self.force(state, Choice::Empty(server)),
            Ahead::RegisterLost(server) => self.force(state, Choice::LoseRegister(server)),
            Ahead::CutOff(server) => {
                let (late, rest): (Vec<u32>, Vec<u32>) = state
                    .network
                    .iter()
                    .partition(|packet| self.universe.packets.value(**packet).ends().contains(&ServerId(server)));
                self.held.extend(late);
                state.network = Rc::new(rest);
                self.cut_off.insert(ServerId(server));
                self.force(state, Choice::Cut(server))
            }
            Ahead::Reaches(server) => {
                let there =
                    |universe: &Universe, packet: &u32| universe.packets.value(*packet).at() == ServerId(server);
                let (there, rest): (Vec<u32>, Vec<u32>) = state.network.iter().partition(|p| there(self.universe, p));
                state.network = Rc::new(rest);
                there.into_iter().try_for_each(|packet| self.force(state, Choice::Deliver(packet)))
            }
            Ahead::Out(server) => self.go_on_until(state, |universe, state| {
                universe.members(state).is_some_and(|members| !members.contains(&server))
            }),
            Ahead::In(server) => self.go_on_until(state, |universe, state| {
                universe.members(state).is_some_and(|members| members.contains(&server))
            }),
            Ahead::Leads(server) => self.go_on_until(state, |universe, state| {
                universe.local(state, server).node().is_some_and(|node| node.primary_epoch().is_some())
            }),
            Ahead::Proposes(server) => self.go_on_until(state, |universe, state| {
                let local = universe.local(state, server);
                let Some(register) = local.node().and_then(Inspect::votes) else { return false };
                let own = local.peer().is_some_and(|peer| register.promised.run == peer.run);
                let leads = local.node().and_then(Inspect::leads);
                let derived = register.accepted_epoch() == register.promised || local.writes().1;
                own && derived && leads != Some(register.promised)
            }),
            Ahead::Asked => {
                let Some(at) = self.universe.leader(state) else {
                    return Violation::of(11, "nobody leads on the way to the beginning".to_owned());
                };
                let sequence = state.history.written + 1;
                self.force(state, Choice::Write { at, sequence })
            }
            Ahead::Quiet => self.calm(state, |_, _| true),
            Ahead::Beat => {
                let servers = self.universe.servers();
                let due = servers.clone().filter_map(|server| self.universe.local(state, server).deadline()).max();
                state.now = state.now.max(due.unwrap_or(state.now));
                servers.into_iter().try_for_each(|server| self.force(state, Choice::Deadline(server)))?;
                self.calm(state, |_, _| true)
            }
            Ahead::Tick(server) => {
                state.now = state.now.max(self.universe.local(state, server).deadline().unwrap_or(state.now));
                self.force(state, Choice::Deadline(server))
            }
        }
    }

    fn force(&mut self, state: &mut State, choice: Choice) -> Result<(), Violation> {
        if let Some(next) = self.universe.after(state, choice)? {
            *state = next;
        }
        Ok(())
    }

    /// Lets everything happen in order until the condition holds and nothing is on its way.
    fn calm(&mut self, state: &mut State, holds: impl Fn(&Universe, &State) -> bool) -> Result<(), Violation> {
        self.go_on_until(state, |universe, state| {
            let idle = |local: &Local| local.writes() == (false, false) && !local.is_between_runs();
            state.network.is_empty() && universe.locals_of(state).all(idle) && holds(universe, state)
        })
    }

    /// Lets everything happen in order until the condition holds.
    fn go_on_until(&mut self, state: &mut State, holds: impl Fn(&Universe, &State) -> bool) -> Result<(), Violation> {
        for _ in 0..STEPS_MAX {
            if holds(self.universe, state) {
                return Ok(());
            }
            if let Some(packet) = state.network.first().copied() {
                if self.passes(packet) {
                    self.force(state, Choice::Deliver(packet))?;
                }
                Rc::make_mut(&mut state.network).retain(|other| *other != packet);
                continue;
            }
            let mut servers = self.universe.servers();
            if let Some(server) = servers.clone().find(|server| self.universe.local(state, *server).writes().0) {
                self.force(state, Choice::LogSynced(server))?;
                continue;
            }
            if let Some(server) = servers.clone().find(|server| self.universe.local(state, *server).writes().1) {
                self.force(state, Choice::RegisterSynced(server))?;
                continue;
            }
            if let Some(server) = servers.find(|server| self.universe.local(state, *server).is_between_runs()) {
                self.force(state, Choice::Start(server))?;
                continue;
            }
            let servers = self.universe.servers();
            let deadlines = servers.filter_map(|server| Some((self.universe.local(state, server).deadline()?, server)));
            let Some((deadline, server)) = deadlines.min() else { break };
            state.now = state.now.max(deadline);
            self.force(state, Choice::Deadline(server))?;
        }
        let name = self.universe.rules.name;
        Violation::of(11, format!("the way to the beginning of {name} comes to no end"))
    }

    /// Whether what is on its way arrives while some servers are cut off.
    fn passes(&mut self, number: u32) -> bool {
        let packet = self.universe.packets.value(number);
        if !packet.ends().iter().any(|end| self.cut_off.contains(end)) {
            return true;
        }
        match &**packet {
            Packet::Mend { .. } => {
                self.held.insert(number);
                false
            }
            Packet::Break { .. } | Packet::Probe { .. } | Packet::Probed { .. } => true,
            Packet::Message { .. } => false,
        }
    }
}
