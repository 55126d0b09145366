//! What goes wrong, and when it is mended again.

use heirloom_proto::{Event, QuorumRule, Request, ServerId, Standing, StoreId};

use crate::clock::{Instant, MILLISECOND, SECOND};
use crate::network::Direction;
use crate::plan::{Fault, Wipes};
use crate::server::{Caller, Server};
use crate::sometimes::Sight;
use crate::world::{Occurrence, World};
use heirloom_laws::Inspect;

impl World {
    /// Something goes wrong; the next trouble is on its way.
    pub(crate) fn trouble(&mut self) {
        let Some(mean) = self.plan.fault_mean.filter(|_| !self.healed) else { return };
        let delay = self.random.waiting(mean) + MILLISECOND;
        self.after(delay, Occurrence::Trouble);
        let weights: Vec<u64> = self.plan.faults.iter().map(|(_, weight)| *weight).collect();
        if weights.iter().sum::<u64>() == 0 {
            return;
        }
        let (fault, _) = self.plan.faults[self.random.weighted(&weights)];
        let server = self.random.pick(&self.plan.servers());
        let primary = self.a_primary().unwrap_or(server);
        match fault {
            Fault::Crash => self.go_down(server, true),
            Fault::CrashPrimary => self.go_down(primary, true),
            Fault::CrashWithinStep => {
                let target = self.random.pick(&[server, primary]);
                let count = self.random.below(4);
                self.server_mut(target).crash_within_step = Some(count);
            }
            Fault::PowerLoss => self.go_down(server, false),
            Fault::PowerLossOfAll => {
                self.seen.saw(Sight::AWholeClusterLostPower);
                for each in self.plan.servers() {
                    self.go_down(each, false);
                }
            }
            Fault::Isolate => {
                let target = self.random.pick(&[server, primary]);
                let others = self.plan.servers().into_iter().filter(|other| *other != target);
                let directions = others.flat_map(|other| [(target, other), (other, target)]).collect();
                self.cut(directions);
            }
            Fault::CutOneWay => {
                let other = self.random.pick(&self.plan.servers());
                if other != server {
                    self.cut(vec![(server, other)]);
                }
            }
            Fault::Split => self.split(),
            Fault::Pause => self.pause(server),
            Fault::PausePrimary => self.pause(primary),
            Fault::ClockRate => {
                let fast = self.plan.fast_ppm_max;
                let fast_ppm = self.random.pick(&[-fast, -fast / 2, 0, fast / 2, fast]);
                self.after(0, Occurrence::DriftOn { server, fast_ppm });
            }
            Fault::SlowDisk => {
                let until = self.now + self.random.between(200, 3_000) * MILLISECOND;
                self.server_mut(server).slow_disk_until = until;
            }
            Fault::DiskFailure => {
                self.trace.note(self.now, || format!("## the disk of server {server} fails"));
                if self.server(server).process().is_some() {
                    self.server_mut(server).disk_failed = true;
                    self.deliver(server, Event::DiskFailed { what: "simulated".to_owned() });
                }
            }
            Fault::Promote => {
                let target = self.random.pick(&self.plan.servers());
                let asked = self.random.pick(&[primary, primary, server]);
                self.ask(Caller::Operator, asked, Request::Promote(target));
            }
            Fault::Fence => self.fence(server),
            Fault::Wipe => self.wipe(server),
            Fault::CutClient => self.cut_client(server),
            Fault::RestartClient => {
                let place = self.random.below(self.clients.len() as u64) as usize;
                self.restart_client(place);
            }
            Fault::Nudge => self.deliver(server, Event::Nudged),
        }
    }

    /// The server that leads the highest epoch, as far as anybody does.
    pub(crate) fn a_primary(&self) -> Option<ServerId> {
        let epoch = |server: &&Server| server.process().and_then(|process| process.node.leads());
        self.servers.iter().filter(|server| leads(server)).max_by_key(epoch).map(|server| server.id)
    }

    /// The process ends and comes back some time.
    pub(crate) fn go_down(&mut self, id: ServerId, host_up: bool) {
        if self.server(id).is_off() {
            return;
        }
        self.crash(id, host_up);
        self.clients_break(id, if host_up { 2 * MILLISECOND } else { 2 * SECOND });
        let delay = self.random.waiting(self.plan.down_mean) + MILLISECOND;
        self.start_later(id, delay);
    }

    fn cut(&mut self, directions: Vec<Direction>) {
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
    }

    fn split(&mut self) {
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
        if !directions.is_empty() {
            self.cut(directions);
        }
    }

    fn pause(&mut self, id: ServerId) {
        if self.server(id).process().is_none() || self.server(id).is_paused() {
            return;
        }
        let short = self.random.per_mille(400);
        let lasts: Instant =
            if short { self.random.between(20, 300) } else { self.random.between(300, 3_000) } * MILLISECOND;
        self.trace.note(self.now, || format!("## server {id} is stopped for {} ms", lasts / MILLISECOND));
        let until = self.now + lasts;
        self.server_mut(id).paused_until = Some(until);
        self.after(lasts, Occurrence::Resume { server: id });
    }

    /// The operator's word that a server is off is given only while it is true.
    fn fence(&mut self, at: ServerId) {
        let off = self.servers.iter().find(|server| server.is_off()).map(|server| server.id);
        if let Some(off) = off.filter(|off| *off != at && !self.server(at).is_paused()) {
            self.ask(Caller::Operator, at, Request::Fence(off));
        }
    }

    fn wipe(&mut self, id: ServerId) {
        let allowed = match self.plan.wipes {
            Wipes::Never => false,
            Wipes::Careful => self.survives_without(id),
            Wipes::Wild => self.remembered_without(id),
        };
        if !allowed {
            return;
        }
        self.go_down(id, true);
        let store = StoreId(self.random.number());
        self.trace.note(self.now, || format!("## server {id} is emptied: store {store}"));
        let server = self.server_mut(id);
        server.disk = crate::disk::Disk::blank(id, store);
        server.wiped = true;
        server.ever_wiped = true;
    }

    /// Whether neither data nor votes are lost for good with this directory: all voters have theirs, and every view that
    /// is in force or may still come to be has another member.
    fn survives_without(&self, id: ServerId) -> bool {
        let intact = |server: &Server| {
            let votes = server.disk.register().is_some_and(|register| register.standing == Standing::Intact);
            !server.wiped && server.disk.cluster().is_some() && votes
        };
        // Where two voters are all, the other one must be able to prove something, so it must not be recovering.
        let other_leads = || self.servers.iter().any(|server| server.id != id && leads(server));
        self.servers.len() > 1
            && self.servers.iter().all(intact)
            && self.laws.survive_without(id)
            && (self.plan.constants.quorum == QuorumRule::Majority || other_leads())
    }

    /// Whether somebody else still knows of the cluster, so that blank servers do not found another.
    fn remembered_without(&self, id: ServerId) -> bool {
        let remembers = |server: &Server| server.id != id && !server.ever_wiped && server.disk.cluster().is_some();
        self.servers.iter().any(remembers)
    }

    fn cut_client(&mut self, server: ServerId) {
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
    }
}

fn leads(server: &Server) -> bool {
    server.process().is_some_and(|process| process.node.leads().is_some())
}
