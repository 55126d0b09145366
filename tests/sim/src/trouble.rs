//! What goes wrong, and when it is mended again.

use heirloom_proto::{Event, Request, ServerId, StoreId};

use crate::clock::{MILLISECOND, SECOND};
use crate::fault::Fault;
use crate::network::Direction;
use crate::plan::Wipes;
use crate::random::Random;
use crate::server::{Caller, Server};
use crate::sometimes::Sight;
use crate::world::{Occurrence, World};
use heirloom_laws::Inspect;

/// The purpose of the sources that troubles draw from.
pub(crate) const TROUBLES: u64 = 1;

impl World {
    /// Something goes wrong; the next trouble is on its way. Each draws from a source of its own.
    pub(crate) fn trouble(&mut self, number: u64) {
        let Some(mean) = self.plan.fault_mean.filter(|_| !self.healed) else { return };
        let weights: Vec<u64> = self.plan.faults.iter().map(|(_, weight)| *weight).collect();
        if weights.iter().sum::<u64>() == 0 {
            return;
        }
        let mut random = Random::of(self.seed, TROUBLES, number);
        let delay = random.waiting(mean) + MILLISECOND;
        let (fault, _) = self.plan.faults[random.weighted(&weights)];
        let allowed = self.less.allows(number, fault);
        // Far beyond what a world lasts for: of the kinds that are asked for there may be none.
        let at_once = self.less.hurry && !allowed && number < 10_000;
        self.after(if at_once { 0 } else { delay }, Occurrence::Trouble { number: number + 1 });
        if !allowed {
            return;
        }
        self.trace.note(self.now, || format!("## trouble {number}: {fault:?}"));
        self.copy_directories();
        let of_the_world = std::mem::replace(&mut self.random, random);
        if self.go_wrong(fault) {
            self.tally.fault(fault);
            self.troubles.push((number, fault));
        }
        self.random = of_the_world;
    }

    /// False where there was nothing to break.
    fn go_wrong(&mut self, fault: Fault) -> bool {
        if self.waits_for_an_old_copy() {
            return false;
        }
        let server = self.random.pick(&self.plan.servers());
        let primary = self.a_primary().unwrap_or(server);
        match fault {
            Fault::Crash => self.go_down(server, true),
            Fault::CrashPrimary => self.go_down(primary, true),
            Fault::CrashWithinStep => {
                let target = self.random.pick(&[server, primary]);
                let count = self.random.below(4);
                self.server_mut(target).crash_within_step = Some(count);
                true
            }
            Fault::PowerLoss => self.go_down(server, false),
            Fault::PowerLossOfAll => {
                self.seen.saw(Sight::AWholeClusterLostPower);
                for each in self.plan.servers() {
                    self.go_down(each, false);
                }
                true
            }
            Fault::Isolate => {
                let target = self.random.pick(&[server, primary]);
                let others = self.plan.servers().into_iter().filter(|other| *other != target);
                let directions = others.flat_map(|other| [(target, other), (other, target)]).collect();
                self.cut(directions)
            }
            Fault::CutOneWay => {
                let other = self.random.pick(&self.plan.servers());
                other != server && self.cut(vec![(server, other)])
            }
            Fault::Split => self.split(),
            Fault::Pause => self.stop(server, false),
            Fault::PausePrimary => self.stop(primary, false),
            Fault::Suspend => self.stop(server, true),
            Fault::SuspendPrimary => self.stop(primary, true),
            Fault::ClockRate => {
                let fast = self.plan.fast_ppm_max;
                let fast_ppm = self.random.pick(&[-fast, -fast / 2, 0, fast / 2, fast]);
                let now = self.now;
                self.server_mut(server).clock.set_rate(now, fast_ppm);
                fast != 0
            }
            Fault::SlowDisk => {
                let until = self.now + self.random.between(200, 3_000) * MILLISECOND;
                self.server_mut(server).slow_disk_until = until;
                true
            }
            Fault::DiskFailure => self.fail_disk(server, "simulated"),
            Fault::FullDisk => self.fill_disk(server),
            Fault::WrongReadBack => self.spoil_read_back(server),
            Fault::Rot => self.rot(server),
            Fault::Promote => {
                let target = self.random.pick(&self.plan.servers());
                let asked = self.random.pick(&[primary, primary, server]);
                self.ask(Caller::Operator, asked, Request::Promote(target));
                true
            }
            Fault::Fence => self.fence(server),
            Fault::Wipe => self.wipe(server),
            Fault::PutBack => self.put_back(server),
            Fault::CutClient => !self.clients.is_empty() && self.cut_client(server),
            Fault::RestartClient if self.clients.is_empty() => false,
            Fault::RestartClient => {
                let place = self.random.below(self.clients.len() as u64) as usize;
                self.restart_client(place);
                true
            }
            Fault::Nudge => {
                self.deliver(server, Event::Nudged);
                true
            }
        }
    }

    /// The server that leads the highest epoch, as far as anybody does.
    pub(crate) fn a_primary(&self) -> Option<ServerId> {
        let epoch = |server: &&Server| server.process().and_then(|process| process.node.leads());
        self.servers.iter().filter(|server| epoch(server).is_some()).max_by_key(epoch).map(|server| server.id)
    }

    /// The process ends and comes back some time; false where none runs.
    pub(crate) fn go_down(&mut self, id: ServerId, host_up: bool) -> bool {
        if self.server(id).is_off() {
            return false;
        }
        self.crash(id, host_up);
        self.clients_break(id, if host_up { 2 * MILLISECOND } else { 2 * SECOND });
        let delay = self.random.waiting(self.plan.down_mean) + MILLISECOND;
        self.start_later(id, delay);
        true
    }

    fn cut(&mut self, directions: Vec<Direction>) -> bool {
        let silent = self.random.per_mille(self.plan.silent_cuts);
        let lasts = self.random.waiting(SECOND) + 20 * MILLISECOND;
        self.trace
            .note(self.now, || format!("## cut {directions:?} silently: {silent}, for {} ms", lasts / MILLISECOND));
        self.network.cut(&directions);
        if silent {
            self.seen.saw(Sight::ASilentCutWasSurvived);
        }
        for (one, other) in &directions {
            for (at, peer) in [(*one, *other), (*other, *one)] {
                let stream =
                    self.server(at).process().map(|process| (process.born, process.streams[usize::from(peer.0)]));
                if let Some((born, Some(peer_born))) = stream {
                    let most = if silent { 5 * SECOND } else { 5 * MILLISECOND };
                    self.break_later(at, born, peer, peer_born, most);
                }
            }
        }
        self.after(lasts, Occurrence::Heal { directions });
        true
    }

    fn split(&mut self) -> bool {
        let servers = self.plan.servers();
        let side: Vec<bool> = servers.iter().map(|_| self.random.per_mille(500)).collect();
        let mut directions = Vec::new();
        for (one, one_side) in servers.iter().zip(&side) {
            for (other, other_side) in servers.iter().zip(&side) {
                if one_side != other_side {
                    directions.push((*one, *other));
                }
            }
        }
        !directions.is_empty() && self.cut(directions)
    }

    /// The operator's word that a server is off is given only while it is true.
    fn fence(&mut self, at: ServerId) -> bool {
        let off = self.servers.iter().find(|server| server.is_off()).map(|server| server.id);
        let Some(off) = off.filter(|off| *off != at && !self.server(at).is_paused()) else { return false };
        self.ask(Caller::Operator, at, Request::Fence(off));
        true
    }

    fn wipe(&mut self, id: ServerId) -> bool {
        let allowed = match self.plan.wipes {
            Wipes::Never => false,
            Wipes::Careful => self.survives_without(id),
            Wipes::Wild => self.remembered_without(id),
        };
        if !allowed {
            return false;
        }
        self.go_down(id, true);
        let store = StoreId(self.random.number());
        self.trace.note(self.now, || format!("## server {id} is emptied: store {store}"));
        let server = self.server_mut(id);
        server.disk = crate::disk::Disk::blank(id, store);
        server.wiped = true;
        server.damaged = false;
        server.ever_wiped = true;
        true
    }

    fn cut_client(&mut self, server: ServerId) -> bool {
        let place = self.random.below(self.clients.len() as u64) as usize;
        let silent = self.random.per_mille(500);
        let client = &mut self.clients[place];
        client.cut[usize::from(server.0)] = true;
        let connection = client.connections[usize::from(server.0)];
        if let Some(connection) = connection.filter(|_| !silent) {
            self.after(MILLISECOND, Occurrence::ClientBreak { client: place, connection, server });
        }
        let lasts = self.random.waiting(SECOND) + MILLISECOND;
        self.after(lasts, Occurrence::HealClient { client: place, server });
        true
    }
}
