//! A world's state, what may happen in it, and what comes of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use heirloom_laws::{Asker, Inspect, Laws, Violation};
use heirloom_proto::{
    Action, Cause, Change, ClusterId, Consistency, Event, Message, Note, Peer, Refusal, Request, RequestId, Response,
    RunId, ServerId, SessionId, Time, Token, Version,
};

use crate::intern::{ByPlace, Interned, fingerprint};
use crate::local::{Input, Local};
use crate::rules::{Budget, JUMP, Rules, Sight};

/// Something on its way. The network is a set that only grows: whatever was sent may arrive at any time, any number of
/// times, in any order, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Packet {
    Message {
        from: Peer,
        to: ServerId,
        cluster: Option<ClusterId>,
        message: Message,
    },
    /// The stream between two runs is found broken.
    Break {
        at: Peer,
        peer: Peer,
    },
    /// After a cut a stream stands again, with hands shaken.
    Mend {
        at: Peer,
        peer: Peer,
    },
    /// A probe reaches the place where its server would be.
    Probe {
        asker: Peer,
        server: ServerId,
        run: RunId,
        probe: u64,
    },
    /// What it found comes back.
    Probed {
        asker: Peer,
        server: ServerId,
        run: RunId,
        probe: u64,
        dead: bool,
    },
}

impl Packet {
    /// What it is to whom it reaches.
    fn event(&self) -> Event {
        match self {
            Self::Message { from, cluster, message, .. } => {
                Event::Received { from: *from, cluster: *cluster, message: message.clone() }
            }
            Self::Break { peer, .. } => Event::PeerBroken { peer: *peer },
            Self::Mend { peer, .. } => Event::PeerConnected { peer: *peer },
            Self::Probed { server, run, probe, dead, .. } => {
                Event::Probed { server: *server, run: *run, probe: *probe, dead: *dead }
            }
            Self::Probe { .. } => unreachable!("a probe reaches no node"),
        }
    }

    /// Whose state decides what comes of it.
    fn at(&self) -> ServerId {
        match self {
            Self::Message { to, .. } => *to,
            Self::Break { at, .. } | Self::Mend { at, .. } => at.server,
            Self::Probe { server, .. } => *server,
            Self::Probed { asker, .. } => asker.server,
        }
    }
}

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
    Read(u8),
    HandOver { at: u8, target: u8 },
    Cut(u8),
    Jump,
}

/// What clients have asked and were told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    tokens: u64,
    written: u8,
    /// The newest version that any client knows of.
    known: Version,
    /// Of each read under way: what was known when it was asked.
    reads: BTreeMap<Token, Version>,
    /// Of each change under way: its number in the session.
    writes: BTreeMap<Token, u8>,
    answered: BTreeMap<u8, Version>,
}

/// A state of the world; servers, packets and laws by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub locals: Vec<u32>,
    /// In ascending order.
    pub network: Rc<Vec<u32>>,
    pub now: Time,
    pub left: Budget,
    laws: u32,
    history: History,
}

/// What happens to a server, named by number where that is possible: most of it has happened to it before.
#[derive(Debug)]
enum Happens<'a> {
    Arrives(u32),
    Other(&'a Input),
}

/// What an input does to one server.
#[derive(Debug)]
struct Taken {
    after: u32,
    substeps: Vec<(u32, Vec<Action>)>,
    sends: Vec<u32>,
    /// Whether it does more than to send.
    tells: bool,
    /// Whether it is not looked at.
    beyond: bool,
    panicked: Option<String>,
}

/// All that was met in a search.
#[derive(Debug)]
pub(crate) struct Universe {
    pub rules: Rules,
    pub locals: Interned<Local>,
    pub packets: Interned<Packet>,
    laws: Interned<Laws>,
    taken: ByPlace<Rc<Taken>>,
    /// By server and time: the packets that do nothing to it but to make it speak.
    inert: ByPlace<Vec<u64>>,
    session: Option<SessionId>,
    begun: bool,
    /// Whether what only adds to the network happens at once; on a walk, which looks at each state once, it only costs.
    pub saturates: bool,
    pub seen: BTreeMap<Sight, u64>,
    /// No epoch of a higher round is looked at.
    round_max: u64,
    /// The last question and the last probe of each run that lived at the beginning.
    asked_before: BTreeMap<RunId, (u64, u64)>,
}

type Changed = Result<Option<State>, Violation>;

impl Universe {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            locals: Interned::default(),
            packets: Interned::default(),
            laws: Interned::default(),
            taken: ByPlace::default(),
            inert: ByPlace::default(),
            session: None,
            begun: false,
            saturates: true,
            seen: BTreeMap::new(),
            round_max: u64::MAX,
            asked_before: BTreeMap::new(),
        }
    }

    /// The world before anything was started.
    pub(crate) fn blank(&mut self) -> State {
        let servers: Vec<ServerId> = self.rules.constants.servers().collect();
        let locals = servers.into_iter().map(|server| self.locals.number(Local::blank(server))).collect();
        let laws = self.laws.number(Laws::new(self.rules.constants.min_copies));
        let plenty = Budget { crashes: 1, starts: u8::MAX, ..Budget::default() };
        let now = Time(1_000_000_000);
        State { locals, network: Rc::default(), now, left: plenty, laws, history: History::default() }
    }

    /// From here on the bounds hold.
    pub(crate) fn begin(&mut self, state: &mut State) {
        state.network = Rc::default();
        state.left = self.rules.budget;
        let promised = self.locals_of(state).filter_map(|local| local.node()?.register().map(|r| r.promised.round));
        self.round_max = promised.max().unwrap_or(0) + self.rules.rounds;
        self.seen.clear();
        for packet in self.packets.iter() {
            match packet {
                Packet::Message { from, message: Message::Question { ask }, .. } => {
                    let asked = self.asked_before.entry(from.run).or_default();
                    asked.0 = asked.0.max(*ask);
                }
                Packet::Probe { asker, probe, .. } => {
                    let asked = self.asked_before.entry(asker.run).or_default();
                    asked.1 = asked.1.max(*probe);
                }
                Packet::Message { .. } | Packet::Break { .. } | Packet::Mend { .. } | Packet::Probed { .. } => {}
            }
        }
        self.taken.clear();
        self.inert.clear();
        self.begun = true;
    }

    pub(crate) fn local(&self, state: &State, server: u8) -> &Rc<Local> {
        self.locals.value(state.locals[usize::from(server)])
    }

    fn locals_of<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Local> + 'a {
        state.locals.iter().map(|number| &**self.locals.value(*number))
    }

    /// Whether so much was met that it is time to forget it.
    pub(crate) fn is_large(&self) -> bool {
        const MET_MAX: usize = 200_000;
        self.taken.len() > MET_MAX
    }

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
                continue;
            }
            if left.writes > 0 {
                choices.push(Choice::Write { at: server, sequence: state.history.written + 1 });
            }
            if left.retries > 0 {
                choices.extend((1..=state.history.written).map(|sequence| Choice::Write { at: server, sequence }));
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

    /// What comes of a choice: a new state, or none where nothing changes or the bounds end.
    ///
    /// **Errors:** the law that is broken.
    pub(crate) fn after(&mut self, state: &State, choice: Choice) -> Changed {
        let mut next = state.clone();
        let went = match choice {
            Choice::Deliver(packet) => self.deliver(&mut next, packet)?,
            Choice::Deadline(server) => self.put(&mut next, server, &Input::Event(Event::Deadline))?,
            Choice::LogSynced(server) => self.put(&mut next, server, &Input::LogSynced)?,
            Choice::RegisterSynced(server) => self.put(&mut next, server, &Input::RegisterSynced)?,
            Choice::Crash { server, keeps_unsynced } => {
                next.left.crashes -= 1;
                self.put(&mut next, server, &Input::Crash { keeps_unsynced })?
            }
            Choice::Start(server) => {
                if !self.local(state, server).is_between_runs() {
                    next.left.starts -= 1;
                }
                self.start(&mut next, server)?
            }
            Choice::Empty(server) => {
                next.left.emptied -= 1;
                self.put(&mut next, server, &Input::Emptied)?
            }
            Choice::LoseRegister(server) => {
                next.left.registers_lost -= 1;
                self.put(&mut next, server, &Input::RegisterLost)?
            }
            Choice::Write { at, sequence } => self.write(&mut next, at, sequence)?,
            Choice::Read(at) => {
                next.left.reads -= 1;
                let token = next.history.token();
                next.history.reads.insert(token, next.history.known);
                let request = Request::Read { key: key(), consistency: Consistency::Linearizable };
                self.put(&mut next, at, &Input::Ask { token, asker: Asker::Client, request })?
            }
            Choice::HandOver { at, target } => {
                next.left.hand_overs -= 1;
                let token = next.history.token();
                let request = Request::Promote(ServerId(target));
                self.put(&mut next, at, &Input::Ask { token, asker: Asker::Operator, request })?
            }
            Choice::Cut(server) => self.cut(&mut next, server),
            Choice::Jump => {
                next.left.jumps -= 1;
                next.now = next.now + JUMP;
                true
            }
        };
        if !went || next == *state || self.beyond(&next) {
            return Ok(None);
        }
        if self.begun && self.saturates {
            self.saturate(state, &mut next)?;
        }
        Ok(Some(next))
    }

    /// Reduction: what only adds to the network happens at once. As nothing is ever taken from the network, whatever can
    /// happen in a state can happen in one that has more on its way, so nothing is lost by it.
    fn saturate(&mut self, before: &State, next: &mut State) -> Result<(), Violation> {
        let changed: Vec<bool> = before.locals.iter().zip(&next.locals).map(|(was, is)| was != is).collect();
        let concerned = |universe: &Self, packet: &u32| changed[usize::from(universe.packets.value(*packet).at().0)];
        let is_new = |packet: &u32| before.network.binary_search(packet).is_err();
        let later = next.now != before.now;
        let mut due: Vec<u32> =
            next.network.iter().copied().filter(|p| later || concerned(self, p) || is_new(p)).collect();
        while let Some(number) = due.pop() {
            let packet = self.packets.value(number);
            let at = packet.at().0;
            if matches!(&**packet, Packet::Probe { .. }) {
                let probed = self.probed(next, number);
                if next.send(probed) {
                    due.push(probed);
                }
            } else if self.may_arrive(next, number) {
                let taken = self.said_by(next, at, number)?;
                for packet in taken.iter().flat_map(|taken| &taken.sends) {
                    if next.send(*packet) {
                        due.push(*packet);
                    }
                }
            }
        }
        Ok(())
    }

    /// What a server makes of a message that does not change it; nothing where it does.
    fn said_by(&mut self, next: &mut State, server: u8, packet: u32) -> Result<Option<Rc<Taken>>, Violation> {
        let before = next.locals[usize::from(server)];
        let taken = self.take(before, &Happens::Arrives(packet), next.now);
        if taken.after != before || taken.panicked.is_some() || taken.tells || taken.beyond {
            return Ok(None);
        }
        if taken.sends.iter().any(|packet| next.network.binary_search(packet).is_err()) {
            for (seen, actions) in &taken.substeps {
                self.judge(next, server, *seen, actions)?;
            }
        }
        Ok(Some(taken))
    }

    /// Whether this is one question or probe more than is looked at.
    fn asks_too_much(&self, packet: &Packet) -> bool {
        let before = |run| self.asked_before.get(&run).copied().unwrap_or((run.0, 0));
        self.begun
            && match packet {
                Packet::Message { from, message: Message::Question { ask }, .. } => {
                    *ask > before(from.run).0.max(from.run.0) + self.rules.asks
                }
                Packet::Probe { asker, probe, .. } => *probe > before(asker.run).1 + self.rules.probes,
                Packet::Message { .. } | Packet::Break { .. } | Packet::Mend { .. } | Packet::Probed { .. } => false,
            }
    }

    /// Every stream of a server breaks, at both ends; each end finds out by itself, and by itself that it stands again.
    fn cut(&mut self, next: &mut State, server: u8) -> bool {
        next.left.cuts -= 1;
        let Some(peer) = self.local(next, server).peer() else { return false };
        let others: Vec<Peer> =
            self.locals_of(next).filter_map(Local::peer).filter(|other| other.server != peer.server).collect();
        for (at, peer) in others.into_iter().flat_map(|other| [(peer, other), (other, peer)]) {
            for packet in [Packet::Break { at, peer }, Packet::Mend { at, peer }] {
                let packet = self.packets.number(packet);
                next.send(packet);
            }
        }
        true
    }

    fn beyond(&self, state: &State) -> bool {
        let rounds = self.locals_of(state).filter_map(|local| local.node()?.register());
        rounds.map(|register| register.promised.round).any(|round| round > self.round_max)
    }

    fn write(&mut self, next: &mut State, at: u8, sequence: u8) -> Result<bool, Violation> {
        let history = &mut next.history;
        if sequence > history.written {
            history.written = sequence;
            next.left.writes -= 1;
        } else {
            next.left.retries -= 1;
        }
        let token = next.history.token();
        next.history.writes.insert(token, sequence);
        let session = self.session.expect("opened at the beginning");
        let id = RequestId { session, sequence: u64::from(sequence), lowest_unanswered: 1 };
        let change = Change::Add { key: key(), value: Bytes::from(format!("v{sequence}")) };
        let request = Request::Change { id: Some(id), change };
        self.put(next, at, &Input::Ask { token, asker: Asker::Client, request })
    }

    /// Opens the session of all later changes; it is told with the answer.
    pub(crate) fn open_session(&mut self, state: &mut State, at: u8) -> Result<(), Violation> {
        let token = state.history.token();
        let input = Input::Ask { token, asker: Asker::Client, request: Request::OpenSession };
        self.put(state, at, &input).map(|_| ())
    }

    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    fn deliver(&mut self, next: &mut State, number: u32) -> Result<bool, Violation> {
        let packet = self.packets.value(number);
        let at = packet.at().0;
        if matches!(&**packet, Packet::Probe { .. }) {
            let probed = self.probed(next, number);
            return Ok(next.send(probed));
        }
        Ok(self.may_arrive(next, number) && self.happen(next, at, &Happens::Arrives(number))?)
    }

    /// Whether there is anybody whom it concerns.
    fn may_arrive(&self, state: &State, number: u32) -> bool {
        let lives = |peer: &Peer| self.local(state, peer.server.0).peer() == Some(*peer);
        match &**self.packets.value(number) {
            Packet::Message { .. } | Packet::Probe { .. } => true,
            Packet::Break { at, .. } | Packet::Probed { asker: at, .. } => lives(at),
            // Hands are shaken with who lives.
            Packet::Mend { at, peer } => lives(at) && lives(peer),
        }
    }

    /// What a probe finds now.
    fn probed(&mut self, state: &State, number: u32) -> u32 {
        let Packet::Probe { asker, server, run, probe } = **self.packets.value(number) else {
            unreachable!("only a probe finds anything")
        };
        let dead = self.local(state, server.0).peer().is_none_or(|peer| peer.run != run);
        self.packets.number(Packet::Probed { asker, server, run, probe, dead })
    }

    /// A run begins, and shakes hands with all who live. Reduction: at once; a handshake that comes late is a message
    /// that comes late.
    fn start(&mut self, next: &mut State, server: u8) -> Result<bool, Violation> {
        self.put(next, server, &Input::Start)?;
        let Some(peer) = self.local(next, server).peer() else { return Ok(true) };
        for other in (0..next.locals.len()).map(|other| u8::try_from(other).expect("few servers")) {
            let Some(met) = self.local(next, other).peer().filter(|_| other != server) else { continue };
            self.put(next, server, &Input::Event(Event::PeerConnected { peer: met }))?;
            self.put(next, other, &Input::Event(Event::PeerConnected { peer }))?;
        }
        Ok(true)
    }

    /// Gives a server an input; false where nothing comes of it.
    fn put(&mut self, next: &mut State, server: u8, input: &Input) -> Result<bool, Violation> {
        self.happen(next, server, &Happens::Other(input))
    }

    fn happen(&mut self, next: &mut State, server: u8, happens: &Happens<'_>) -> Result<bool, Violation> {
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

    fn judge(&mut self, next: &mut State, server: u8, seen: u32, actions: &[Action]) -> Result<(), Violation> {
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
    fn take(&mut self, before: u32, happens: &Happens<'_>, now: Time) -> Rc<Taken> {
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
                let sent = from.and_then(|from| packet(from, action));
                let sent = sent.filter(|sent| self.rules.proofs || !matches!(sent, Packet::Probe { .. }));
                beyond |= sent.as_ref().is_some_and(|sent| self.asks_too_much(sent));
                sends.extend(sent.map(|packet| self.packets.number(packet)));
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

    /// Notices what the search reaches.
    fn look(&mut self, seen: &Local, action: &Action) {
        let sights: &[Sight] = match action {
            Action::Respond { result: Ok(Response::Changed { .. }), .. } => &[Sight::AWriteWasAnswered],
            Action::Respond { result: Ok(Response::Found { .. } | Response::NotFound { .. }), .. } => {
                &[Sight::AReadWasAnswered]
            }
            Action::Tell(Note::Chosen { reason, .. }) => {
                let took_over = reason.contains("leads no more") || reason.contains("handed over");
                let inherited = seen.node().is_some_and(|node| {
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
            Action::Halt(Cause::Deposed) => &[Sight::AServerWasDeposed],
            Action::Halt(Cause::Irreconcilable { .. }) => &[Sight::AStoreWasGivenUp],
            _ => &[],
        };
        for sight in sights {
            *self.seen.entry(*sight).or_default() += 1;
        }
    }

    /// Laws 4 and 7: what clients are told agrees with what they were told before.
    fn answered(
        &mut self,
        next: &mut State,
        token: Token,
        result: &Result<Response, Refusal>,
    ) -> Result<(), Violation> {
        let history = &mut next.history;
        let asked = history.reads.remove(&token);
        let sequence = history.writes.remove(&token);
        match result {
            Ok(Response::SessionOpened { session }) => self.session = Some(*session),
            Ok(Response::Changed { version, .. }) => {
                history.known = history.known.max(*version);
                let Some(sequence) = sequence else { return Ok(()) };
                match history.answered.insert(sequence, *version) {
                    Some(before) if before != *version => {
                        let what = format!("change {sequence} was answered with {before} and with {version}");
                        return Violation::of(4, what);
                    }
                    Some(_) => *self.seen.entry(Sight::ARetryWasAnswered).or_default() += 1,
                    None => {}
                }
            }
            Ok(Response::Found { version, .. } | Response::NotFound { version, .. }) => {
                let known = asked.unwrap_or_default();
                if *version < known {
                    let what = format!("a read found version {version}, and {known} was known when it was asked");
                    return Violation::of(7, what);
                }
                history.known = history.known.max(*version);
            }
            Err(Refusal::SessionExpired) => {
                return Violation::of(4, "an open session was called expired".to_owned());
            }
            Ok(Response::SessionClosed | Response::Promoted { .. } | Response::Fenced) | Err(_) => {}
        }
        Ok(())
    }
}

impl State {
    /// The fingerprint of all but the network.
    pub(crate) fn rest(&self) -> u128 {
        fingerprint(&(&self.locals, self.now, self.left, self.laws, &self.history))
    }

    /// False where it is on its way already.
    fn send(&mut self, packet: u32) -> bool {
        match self.network.binary_search(&packet) {
            Ok(_) => false,
            Err(place) => {
                Rc::make_mut(&mut self.network).insert(place, packet);
                true
            }
        }
    }
}

impl History {
    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }
}

/// A server at a time.
fn place(local: u32, now: Time) -> u128 {
    u128::from(local) << 96 | u128::from(now.0)
}

fn key() -> Bytes {
    Bytes::from_static(b"k")
}

fn packet(from: Peer, action: &Action) -> Option<Packet> {
    match action {
        Action::Send { to, cluster, message } => {
            Some(Packet::Message { from, to: *to, cluster: *cluster, message: message.clone() })
        }
        Action::Probe { server, run, probe, .. } => {
            Some(Packet::Probe { asker: from, server: *server, run: *run, probe: *probe })
        }
        _ => None,
    }
}
