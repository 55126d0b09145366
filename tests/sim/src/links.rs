//! Streams between servers: handshakes, arrivals, breaks and probes.

use heirloom_proto::{ClusterId, Event, Message, RunId, ServerId};

use crate::clock::{Instant, MICROSECOND, MILLISECOND};
use crate::plan::Proof;
use crate::server::{Birthday, State};
use crate::tally::Mishap;
use crate::world::{Occurrence, World};

impl World {
    pub(crate) fn arrive(&mut self, to: ServerId, born: Birthday, cluster: Option<ClusterId>, message: Message) {
        let from = self.peer(born);
        let holds = self.plan.in_order || self.random.per_mille(500);
        if let Some(stop) = self.held_until(from.server).filter(|stop| holds && stop.until > self.now)
            && self.server(from.server).process().is_some_and(|process| process.born == born)
        {
            // It was still in the machine, which sends it when it goes on: before anything that it says then.
            let delay = stop.until - self.now + MICROSECOND;
            self.after(delay, Occurrence::Arrive { to, born, cluster, message: Box::new(message) });
            return;
        }
        let Some(process) = self.server(to).process() else { return };
        let met = &process.met[usize::from(from.server.0)];
        if !met.contains(&born) {
            // Its stream's handshake comes first; one of a run that came before is not made any more.
            if met.last().is_some_and(|latest| *latest > born) {
                return;
            }
            self.shake_hands(to, born);
        }
        self.deliver(to, Event::Received { from, cluster, message });
    }

    /// A stream from `at` to this run stands.
    pub(crate) fn shake_hands(&mut self, at: ServerId, peer_born: Birthday) {
        let peer = self.peer(peer_born);
        let place = usize::from(peer.server.0);
        let announces_break = self.random.per_mille(500);
        let Some(process) = self.server_mut(at).process_mut() else { return };
        let old = process.streams[place].replace(peer_born).filter(|old| *old != peer_born);
        process.met[place].insert(peer_born);
        let born = process.born;
        if let Some(old) = old.filter(|_| announces_break) {
            let peer = self.peer(old);
            self.deliver(at, Event::PeerBroken { peer });
        }
        self.deliver(at, Event::PeerConnected { peer });
        let alive = self.server(peer.server).process().is_some_and(|process| process.born == peer_born);
        if !alive {
            self.break_later(at, born, peer.server, peer_born, 50 * MILLISECOND);
        }
    }

    pub(crate) fn dial(&mut self, from: ServerId, born: Birthday, to: ServerId) {
        let target = self.server(to);
        let reachable = !target.is_paused() && self.network.open_both_ways(from, to);
        let peer_born = target.process().filter(|_| reachable).map(|process| process.born);
        let stopped = self.server(from).is_paused();
        let Some(process) = self.server_mut(from).process_of(born) else { return };
        if process.streams[usize::from(to.0)].is_some() {
            return;
        }
        match peer_born.filter(|_| !stopped) {
            Some(peer_born) => self.shake_hands(from, peer_born),
            None => {
                let delay = self.random.between(10, 80) * MILLISECOND;
                self.after(delay, Occurrence::Dial { from, born, to });
            }
        }
    }

    /// A stream of `at` is going to be found broken.
    pub(crate) fn break_later(
        &mut self,
        at: ServerId,
        born: Birthday,
        peer: ServerId,
        peer_born: Birthday,
        most: Instant,
    ) {
        let delay = self.random.below(most);
        self.after(delay, Occurrence::Break { at, born, peer, peer_born });
    }

    pub(crate) fn stream_broke(&mut self, at: ServerId, born: Birthday, peer: ServerId, peer_born: Birthday) {
        let lives = self.server(peer).process().is_some_and(|process| process.born == peer_born);
        if lives && self.network.open_both_ways(at, peer) && self.random.per_mille(500) {
            // The cut was healed before anybody noticed.
            return;
        }
        let still = Some(peer_born);
        let Some(process) = self.server_mut(at).process_of(born) else { return };
        let stream = &mut process.streams[usize::from(peer.0)];
        if *stream != still {
            return;
        }
        *stream = None;
        self.tally.mishap(Mishap::AStreamBroke);
        let broken = self.peer(peer_born);
        let delay = self.random.between(1, 30) * MILLISECOND;
        self.after(delay, Occurrence::Dial { from: at, born, to: peer });
        self.deliver(at, Event::PeerBroken { peer: broken });
    }

    pub(crate) fn probe_arrives(&mut self, asker: ServerId, born: Birthday, server: ServerId, run: RunId, probe: u64) {
        let target = self.server(server);
        let runs = target.process().is_some_and(|process| process.run == run);
        let reached = self.network.open_both_ways(asker, server);
        let dead = match (self.plan.proof, &target.state) {
            (Proof::Never, _) => false,
            (Proof::Refusal, State::Off { host_up }) => reached && *host_up,
            (Proof::Refusal, State::Between | State::Running(_)) => false,
            (Proof::Run, _) => reached && !runs,
        };
        let delay = self.random.between(self.plan.delay.0, self.plan.delay.1);
        let delay = if dead { delay } else { delay + self.random.below(300 * MILLISECOND) };
        self.after(delay, Occurrence::ProbeReturns { asker, born, server, run, probe, dead });
    }
}
