//! How a world comes to where its search begins: a calm run in which everything arrives in order.

use heirloom_laws::Violation;
use heirloom_proto::{ServerId, VoterKind};

use crate::choices::Choice;
use crate::rules::Beginning;
use crate::state::State;
use crate::world::Universe;

const STEPS_MAX: usize = 100_000;

impl Universe {
    /// The state in which the search begins.
    ///
    /// **Errors:** a law that the way there breaks.
    ///
    /// **Panics if** the way there comes to no end: always a bug.
    pub(crate) fn beginning(&mut self) -> Result<State, Violation> {
        let mut state = self.blank();
        let servers = u8::try_from(state.locals.len()).expect("few servers");
        for server in 0..servers {
            self.force(&mut state, Choice::Start(server))?;
        }
        self.calm(&mut state, Self::is_whole)?;
        let leader = self.leader(&state).expect("it is whole");
        self.open_session(&mut state, leader)?;
        self.calm(&mut state, |universe, _| universe.has_session())?;
        let data = |server: &u8| self.rules.constants.kind(ServerId(*server)) == Some(VoterKind::Data);
        let last = match self.rules.beginning {
            Beginning::Whole => None,
            Beginning::Learner => (0..servers).rfind(data),
            Beginning::OneDown => Some(servers - 1),
        };
        if let Some(last) = last {
            self.force(&mut state, Choice::Crash { server: last, keeps_unsynced: true })?;
            if self.rules.beginning == Beginning::Learner {
                self.calm(&mut state, |universe, state| universe.members(state).is_some_and(|m| !m.contains(&last)))?;
            }
        }
        self.calm(&mut state, |_, _| true)?;
        self.begin(&mut state);
        Ok(state)
    }

    fn force(&mut self, state: &mut State, choice: Choice) -> Result<(), Violation> {
        if let Some(next) = self.after(state, choice)? {
            *state = next;
        }
        Ok(())
    }

    /// Lets everything happen in order until the condition holds and nothing is on its way.
    fn calm(&mut self, state: &mut State, holds: impl Fn(&Self, &State) -> bool) -> Result<(), Violation> {
        for _ in 0..STEPS_MAX {
            if let Some(packet) = state.network.first().copied() {
                self.force(state, Choice::Deliver(packet))?;
                std::rc::Rc::make_mut(&mut state.network).retain(|other| *other != packet);
                continue;
            }
            let servers = 0..u8::try_from(state.locals.len()).expect("few servers");
            if let Some(server) = servers.clone().find(|server| self.local(state, *server).writes() != (false, false)) {
                self.force(state, Choice::LogSynced(server))?;
                self.force(state, Choice::RegisterSynced(server))?;
                continue;
            }
            if holds(self, state) {
                return Ok(());
            }
            let deadlines = servers.clone().filter_map(|server| Some((self.local(state, server).deadline()?, server)));
            let (deadline, server) = deadlines.min().expect("somebody lives");
            state.now = state.now.max(deadline);
            self.force(state, Choice::Deadline(server))?;
        }
        panic!("the way to the beginning of {} comes to no end", self.rules.name);
    }

    fn leader(&self, state: &State) -> Option<u8> {
        (0..).zip(&state.locals).find_map(|(server, _)| {
            let status = self.local(state, server).node()?.status(state.now);
            (self.local(state, server).node()?.primary_epoch().is_some() && status.waits_for.is_none())
                .then_some(server)
        })
    }

    fn members(&self, state: &State) -> Option<Vec<u8>> {
        let leader = self.leader(state)?;
        let status = self.local(state, leader).node()?.status(state.now);
        Some(status.in_sync.iter().map(|member| member.server.0).collect())
    }

    fn is_whole(&self, state: &State) -> bool {
        self.members(state).is_some_and(|members| members.len() == self.rules.constants.data_servers().count())
    }
}
