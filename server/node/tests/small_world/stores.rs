//! Stores: snapshots of them, and older copies.

use heirloom_backup::Durable;
use heirloom_laws::stored::Stored;
use heirloom_proto::{Event, Member, ServerId};

use super::World;

impl World {
    /// This server stores its applied state as a snapshot, and forgets the log up to there but for some entries.
    pub fn snapshot(&mut self, server: ServerId, entries_kept: usize) {
        let index = self.status(server).applied;
        self.disk(server).snapshot(index);
        self.queue.push_back((server, Event::Snapshotted { index, entries_kept }));
        self.settle();
    }

    /// A snapshot of one server reaches another, wanted or not.
    pub fn hand_snapshot(&mut self, from: ServerId, to: ServerId) {
        let snapshot = self.disks[&from].base.clone();
        self.queue.push_back((to, Event::SnapshotFetched { index: snapshot.index() }));
        self.fetched.insert(to, snapshot);
        self.settle();
    }

    /// What a copy of the server's directory would hold.
    pub fn copy_of(&self, server: ServerId) -> Durable {
        self.disks[&server].clone()
    }

    /// An older copy takes the place of the server's directory; it must not run.
    pub fn put_back(&mut self, server: ServerId, copy: Durable) {
        assert!(!self.nodes.contains_key(&server));
        if let Some(laws) = &mut self.laws {
            laws.put_back(Member { server, store: copy.identity.store });
        }
        self.disks.insert(server, copy);
    }
}
