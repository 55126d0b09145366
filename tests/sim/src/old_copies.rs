//! Directories that are put back from an older copy while their server is down (PROTOCOL 9, docs/decisions/0015).
//!
//! This is noticed only where somebody who remembers the store better is asked in time. So it is done where that is so, and
//! nothing else goes wrong until it is noticed: whoever then votes with the older copy breaks law 9.

use heirloom_laws::Violation;
use heirloom_proto::message::Remembered;
use heirloom_proto::{Message, ServerId, Standing};

use crate::clock::MILLISECOND;
use crate::disk::Disk;
use crate::plan::Wipes;
use crate::server::Server;
use crate::world::World;

impl World {
    /// Copies the directories of which there is no copy, or one of a store that was given up.
    pub(crate) fn copy_directories(&mut self) {
        for server in self.servers.iter_mut().filter(|server| !server.put_back) {
            let same_store = |copy: &&Disk| copy.identity.store == server.disk.identity.store;
            if server.copy.as_ref().filter(same_store).is_none() {
                server.copy = server.disk.copy();
            }
        }
    }

    /// Puts back the copy that was taken of a directory; false where that would not be noticed, or is not allowed.
    pub(crate) fn put_back(&mut self, id: ServerId) -> bool {
        let allowed = match self.plan.wipes {
            Wipes::Never | Wipes::Careful => self.survives_without(id),
            Wipes::Wild => self.remembered_without(id),
        };
        let Some(copy) = self.server(id).copy.clone() else { return false };
        if !allowed || !self.everybody_hears(id) || self.who_knows_better(id, &copy).is_none() {
            // The next one is put back from what is there now.
            self.server_mut(id).copy = None;
            return false;
        }
        self.crash(id, true);
        self.clients_break(id, 2 * MILLISECOND);
        // By then whatever it said has arrived.
        let delay = self.random.between(100, 500) * MILLISECOND;
        self.start_later(id, delay);
        let (now, member) = (self.now, copy.member());
        self.trace.note(now, || format!("## an older copy of the directory of server {id} is put back: {copy:?}"));
        self.laws.put_back(member);
        let server = self.server_mut(id);
        server.disk = copy;
        server.put_back = true;
        server.ever_wiped = true;
        true
    }

    /// Whether a directory was put back and not yet found out.
    pub(crate) fn waits_for_an_old_copy(&self) -> bool {
        self.servers.iter().any(|server| server.put_back)
    }

    /// Whether all servers run soundly, and each of them reaches this one.
    fn everybody_hears(&self, id: ServerId) -> bool {
        let undisturbed = (self.plan.lost, self.plan.late, self.plan.doubled) == (0, 0, 0);
        let born = self.server(id).process().map(|process| process.born);
        let sound = |server: &Server| {
            let hears = |process: &crate::server::Process| process.streams[usize::from(id.0)] == born;
            server.process().is_some_and(|process| server.id == id || hears(process))
                && !server.is_paused()
                && !server.disk_failed
                && server.full_until <= self.now
                && server.wrong_read_back.is_none()
                && server.crash_within_step.is_none()
                && self.network.open_both_ways(id, server.id)
        };
        undisturbed && born.is_some() && self.servers.len() > 1 && self.servers.iter().all(sound)
    }

    /// Who remembers more of a store than this copy of it holds.
    fn who_knows_better(&self, id: ServerId, copy: &Disk) -> Option<ServerId> {
        let knows = |server: &&Server| {
            let remembered = server.process().and_then(|process| process.node.remembered(copy.member()));
            server.id != id
                && self.network.open_both_ways(id, server.id)
                && remembered.is_some_and(|r| is_more(&r, copy))
        };
        self.servers.iter().find(knows).map(|server| server.id)
    }

    /// Law 9: whoever was told better does not vote, nor work, with an older copy.
    pub(crate) fn watch_old_copy(&mut self, id: ServerId, message: &Message) {
        let votes = matches!(
            message,
            Message::Promise { .. }
                | Message::Promised { .. }
                | Message::Accept { .. }
                | Message::Accepted { .. }
                | Message::EpochStarted { .. }
                | Message::Echo { .. }
                | Message::Confirm { .. }
                | Message::NothingHigher { .. }
        );
        if !votes || !self.server(id).put_back {
            return;
        }
        self.server_mut(id).put_back = false;
        let Some(copy) = self.server(id).copy.clone() else { return };
        if let Some(other) = self.who_knows_better(id, &copy) {
            let what = format!(
                "server {id} says {message:?} with a directory put back from an older copy, and server {other} knows better"
            );
            self.broke(Violation { law: 9, what });
        }
    }
}

fn is_more(remembered: &Remembered, copy: &Disk) -> bool {
    let Some(register) = copy.register() else { return false };
    let votes = register.standing == Standing::Intact && remembered.promised > register.promised;
    let confirmed = remembered.confirmed_in == register.promised && remembered.confirmed > copy.end();
    votes || confirmed || remembered.committed > copy.end()
}
