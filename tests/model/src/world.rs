//! A world: what was met in it, and what comes of a choice.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use heirloom_laws::{Asker, Laws, Violation};
use heirloom_proto::{Change, Consistency, Event, Message, Peer, Request, RequestId, RunId, ServerId, SessionId, Time};

use crate::choices::Choice;
use crate::intern::{ByPlace, Interned};
use crate::local::{Input, Local};
use crate::packet::Packet;
use crate::rules::{Budget, Rules, Sight};
use crate::state::{History, State};
use crate::stepping::{Happens, Taken};

/// All that was met in a search.
#[derive(Debug)]
pub(crate) struct Universe {
    pub rules: Rules,
    pub locals: Interned<Local>,
    pub packets: Interned<Packet>,
    pub laws: Interned<Laws>,
    pub taken: ByPlace<Rc<Taken>>,
    /// By server and time: the packets that do nothing to it but to make it speak.
    pub inert: ByPlace<Vec<u64>>,
    pub session: Option<SessionId>,
    pub begun: bool,
    /// Whether what only adds to the network happens at once; on a walk, which looks at each state once, it only costs.
    pub saturates: bool,
    pub seen: BTreeMap<Sight, u64>,
    /// No epoch of a higher round is looked at.
    round_max: u64,
    /// The last question and the last probe of each run that lived at the beginning.
    pub asked_before: BTreeMap<RunId, (u64, u64)>,
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
        const PLENTY: u8 = u8::MAX;
        let plenty = Budget {
            crashes: PLENTY,
            starts: PLENTY,
            emptied: PLENTY,
            registers_lost: PLENTY,
            writes: PLENTY,
            cuts: PLENTY,
            ..Budget::default()
        };
        let now = Time(1_000_000_000);
        State { locals, network: Rc::default(), now, left: plenty, laws, history: History::default() }
    }

    /// From here on the bounds hold.
    pub(crate) fn begin(&mut self, state: &mut State) {
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

    pub(crate) fn locals_of<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Local> + 'a {
        state.locals.iter().map(|number| &**self.locals.value(*number))
    }

    /// Whether so much was met that it is time to forget it.
    pub(crate) fn is_large(&self) -> bool {
        const MET_MAX: usize = 200_000;
        self.taken.len() > MET_MAX
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
            Choice::NoOp(at) => {
                next.left.no_ops -= 1;
                let token = next.history.token();
                let change = Change::Delete { key: Bytes::from_static(b"absent") };
                let request = Request::Change { id: None, change };
                self.put(&mut next, at, &Input::Ask { token, asker: Asker::Client, request })?
            }
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
                next.now = next.now + self.rules.jump;
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
    pub(crate) fn may_arrive(&self, state: &State, number: u32) -> bool {
        let lives = |peer: &Peer| self.local(state, peer.server.0).peer() == Some(*peer);
        match &**self.packets.value(number) {
            Packet::Message { .. } | Packet::Probe { .. } => true,
            Packet::Break { at, .. } | Packet::Probed { asker: at, .. } => lives(at),
            // Hands are shaken with who lives.
            Packet::Mend { at, peer } => lives(at) && lives(peer),
        }
    }

    /// What a probe finds now.
    pub(crate) fn probed(&mut self, state: &State, number: u32) -> u32 {
        let Packet::Probe { asker, server, run, probe } = **self.packets.value(number) else {
            unreachable!("only a probe finds anything")
        };
        let dead = self.local(state, server.0).peer().is_none_or(|peer| peer.run != run);
        self.packets.number(Packet::Probed { asker, server, run, probe, dead })
    }

    /// A run begins, and shakes hands with all who live: at once, or each end by itself in a world where that takes its
    /// time.
    fn start(&mut self, next: &mut State, server: u8) -> Result<bool, Violation> {
        self.put(next, server, &Input::Start)?;
        let Some(peer) = self.local(next, server).peer() else { return Ok(true) };
        for other in (0..next.locals.len()).map(|other| u8::try_from(other).expect("few servers")) {
            let Some(met) = self.local(next, other).peer().filter(|_| other != server) else { continue };
            if self.rules.late_handshakes {
                for (at, peer) in [(peer, met), (met, peer)] {
                    let packet = self.packets.number(Packet::Mend { at, peer });
                    next.send(packet);
                }
                continue;
            }
            self.put(next, server, &Input::Event(Event::PeerConnected { peer: met }))?;
            self.put(next, other, &Input::Event(Event::PeerConnected { peer }))?;
        }
        Ok(true)
    }
}

fn key() -> Bytes {
    Bytes::from_static(b"k")
}
