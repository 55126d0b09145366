//! What disks do to a world: writes that fail, no room, wrong read-backs, and bits that rot.

use heirloom_proto::{Event, QuorumRule, Record, Sealed, ServerId, Standing, StoreId, Ticket};

use crate::clock::MILLISECOND;
use crate::disk::Disk;
use crate::plan::Wipes;
use crate::random::Random;
use crate::rot::Found;
use crate::server::{Birthday, Server};
use crate::sometimes::Sight;
use crate::world::World;
use heirloom_laws::{Inspect, Violation};

/// How a read-back differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// No whole frame stands there: the storage itself notices.
    Garbled,
    /// A frame, but not what was written: only the node can notice.
    Altered,
    /// Less than was written.
    Short,
}

impl World {
    /// A write or a sync of this server fails: it may have reached the disk or not.
    pub(crate) fn fail_disk(&mut self, id: ServerId, what: &str) -> bool {
        let server = self.server_mut(id);
        if server.process().is_none() || server.disk_failed {
            return false;
        }
        server.disk_failed = true;
        self.trace.note(self.now, || format!("## the disk of server {id} fails: {what}"));
        self.deliver(id, Event::DiskFailed { what: what.to_owned() });
        true
    }

    /// For a while there is no room for the log. Register and identity are written in place and need none.
    pub(crate) fn fill_disk(&mut self, id: ServerId) -> bool {
        let until = self.now + self.random.between(200, 4_000) * MILLISECOND;
        self.server_mut(id).full_until = until;
        self.trace.note(self.now, || format!("## the disk of server {id} is full"));
        true
    }

    /// The next append is going to be read back otherwise than it was written.
    pub(crate) fn spoil_read_back(&mut self, id: ServerId) -> bool {
        let wrong = self.random.pick(&[Wrong::Garbled, Wrong::Altered, Wrong::Altered, Wrong::Short]);
        let server = self.server_mut(id);
        if server.config.kind() == heirloom_proto::VoterKind::Witness || server.process().is_none() {
            return false;
        }
        server.wrong_read_back = Some(wrong);
        self.trace.note(self.now, || format!("## server {id} is going to read back something {wrong:?}"));
        true
    }

    /// Reads back the first append that waits, wrongly; false where none waits.
    pub(crate) fn read_back_wrongly(&mut self, id: ServerId, born: Birthday) -> bool {
        let server = self.server_mut(id);
        let Some(wrong) = server.wrong_read_back.filter(|_| server.disk.appends_first()) else { return false };
        server.wrong_read_back = None;
        let mut random = Random::new(self.random.number());
        let server = self.server_mut(id);
        let on_disk = wrong != Wrong::Garbled && random.per_mille(500);
        let written: Option<(Ticket, Vec<Sealed>)> = if on_disk {
            server.disk.complete(crate::disk::Queue::Log, 1).pop()
        } else {
            server.disk.garble().and_then(|(ticket, record)| match record {
                Record::Append(entries) => Some((ticket, entries)),
                Record::Cut { .. } | Record::Register(_) | Record::Identity(_) => None,
            })
        };
        let Some((ticket, mut entries)) = written else { return false };
        match wrong {
            Wrong::Garbled => {
                self.seen.saw(Sight::AGarbledWriteWasNoticed);
                self.fail_disk(id, "right after the sync it holds a frame with a wrong checksum");
                return true;
            }
            Wrong::Altered => {
                let place = random.below(entries.len() as u64) as usize;
                let mut entry = entries[place].entry().clone();
                entry.at.0 ^= 1 << random.below(16);
                entries[place] = Sealed::new(entry);
            }
            Wrong::Short => entries.truncate(random.below(entries.len() as u64) as usize),
        }
        // Nothing more gets to this disk until the process begins anew.
        let server = self.server_mut(id);
        server.disk_failed = true;
        if let Some(process) = server.process_of(born) {
            process.wrongly_read = Some(ticket);
        }
        self.deliver(id, Event::Persisted { ticket, read_back: entries });
        true
    }

    /// Bits change on a disk. What is lost by it must be elsewhere, but in worlds where anything may be lost.
    pub(crate) fn rot(&mut self, id: ServerId) -> bool {
        let allowed = match self.plan.wipes {
            Wipes::Never | Wipes::Careful => self.survives_without(id),
            Wipes::Wild => self.remembered_without(id),
        };
        let mut random = Random::new(self.random.number());
        let server = self.server_mut(id);
        let Some(what) = server.disk.rot(&mut random, !allowed) else { return false };
        // From now on it can't be the one that remembers for all.
        server.ever_wiped |= allowed;
        self.trace.note(self.now, || format!("## {what} of server {id} rots"));
        true
    }

    /// Reads a directory at the start of a run, and sets aside what is damaged; false where that could not be done yet.
    pub(crate) fn open_disk(&mut self, id: ServerId) -> bool {
        let (now, store) = (self.now, StoreId(self.random.number()));
        let server = self.server_mut(id);
        match server.disk.open() {
            Found::Sound => return true,
            Found::Mended => {
                self.seen.saw(Sight::ARottenOrTornCopyWasMended);
                return true;
            }
            Found::Damaged { what, identity } => {
                if server.full_until > now {
                    return false;
                }
                // Without an identity, or before there was a cluster, the directory is blank again.
                server.disk = if identity || server.disk.cluster().is_none() {
                    Disk::blank(id, store)
                } else {
                    server.disk.set_aside(store)
                };
                server.wiped = true;
                server.ever_wiped = true;
                server.damaged = true;
                self.trace.note(now, || format!("## server {id} finds {what} damaged: store {store}"));
            }
        }
        self.seen.saw(Sight::ABitRottedAndWasFound);
        if !self.expendable(id) {
            self.stuck_is_fine.get_or_insert("a disk had rotted when nobody else could stand in for it any more");
        }
        true
    }

    /// Whether neither data nor votes are lost for good with this directory: all voters have theirs, and every view that
    /// is in force or may still come to be has another member.
    pub(crate) fn survives_without(&self, id: ServerId) -> bool {
        is_intact(self.server(id)) && self.expendable(id)
    }

    fn expendable(&self, id: ServerId) -> bool {
        // Where two voters are all, the other one must be able to prove something, so it must not be recovering.
        let leads = |server: &Server| server.process().is_some_and(|process| process.node.leads().is_some());
        let other_leads = || self.servers.iter().any(|server| server.id != id && leads(server));
        self.servers.len() > 1
            && self.servers.iter().all(|server| server.id == id || is_intact(server))
            && self.laws.survive_without(&self.servers, id)
            && (self.plan.constants.quorum == QuorumRule::Majority || other_leads())
    }

    /// Whether somebody else still knows of the cluster, so that blank servers do not found another.
    pub(crate) fn remembered_without(&self, id: ServerId) -> bool {
        let remembers = |server: &Server| server.id != id && !server.ever_wiped && server.disk.cluster().is_some();
        self.servers.iter().any(remembers)
    }

    /// PROTOCOL 4.3: a run that is given something else than it wrote must end there.
    pub(crate) fn check_read_back(&mut self, id: ServerId, ticket: Ticket, halted: bool) {
        let Some(process) = self.server_mut(id).process_mut() else { return };
        if process.wrongly_read.take_if(|wrong| *wrong == ticket).is_none() {
            return;
        }
        if halted {
            self.seen.saw(Sight::AWrongReadBackWasCaught);
        } else if process.last_cut.is_none_or(|cut| cut < ticket) {
            let what = format!("server {id} goes on after {ticket:?} was read back otherwise than it was written");
            self.broke(Violation { law: 9, what });
        } else {
            // A cut behind it had voided that write, so nobody cares what it holds; but its disk is dead.
            self.server_mut(id).disk_failed = false;
            self.fail_disk(id, "simulated");
        }
    }
}

fn is_intact(server: &Server) -> bool {
    let votes = server.disk.register().is_some_and(|register| register.standing == Standing::Intact);
    !server.wiped && !server.put_back && server.disk.cluster().is_some() && votes && server.disk.rot.is_nowhere()
}
