//! Snapshots: servers that make them from what their disks hold, and fetch those of others.

use heirloom_backup::StateHead;
use heirloom_laws::Violation;
use heirloom_proto::{Event, LogIndex, ServerId};

use crate::clock::{Instant, MICROSECOND, MILLISECOND};
use crate::server::Birthday;
use crate::sometimes::Sight;
use crate::world::{Occurrence, World};

impl World {
    /// A server begins to make a snapshot, if it has something new; the next is on its way.
    pub(crate) fn snapshot_due(&mut self, id: ServerId) {
        let Some(mean) = self.plan.snapshot_mean else { return };
        let delay = self.random.waiting(mean) + MILLISECOND;
        self.after(delay, Occurrence::SnapshotDue { server: id });
        let server = self.server(id);
        let Some(process) = server.process().filter(|_| !server.is_paused()) else { return };
        let Some(replica) = process.node.replica() else { return };
        let (born, head) = (process.born, replica.state().head());
        if head.position.index > server.disk.base() {
            let takes = self.random.between(100 * MICROSECOND, 300 * MILLISECOND);
            self.after(takes, Occurrence::SnapshotMade { server: id, born, head });
        }
    }

    /// It is made and durable, with the process as it is by now.
    pub(crate) fn snapshot_made(&mut self, id: ServerId, born: Birthday, head: StateHead) {
        let (now, kept) = (self.now, self.random.below(self.plan.entries_kept + 1));
        if let Some(delay) = self.stands_still_for(id) {
            return self.after(delay, Occurrence::SnapshotMade { server: id, born, head });
        }
        let server = self.server_mut(id);
        let index = head.position.index;
        let works = server.process_of(born).is_some() && !server.disk_failed && server.full_until <= now;
        if !works || index <= server.disk.base() {
            return;
        }
        let made = server.disk.snapshot(index);
        if made != head {
            let what = format!("the disk of server {id} gives {made:?}, and its memory had {head:?}");
            return self.broke(Violation { law: 9, what });
        }
        self.seen.saw(Sight::ASnapshotWasMade);
        self.trace.note(now, || format!("## server {id} has a snapshot up to {index}"));
        let entries_kept = usize::try_from(kept).expect("a few");
        self.deliver(id, Event::Snapshotted { index, entries_kept });
    }

    /// A run wants a snapshot of another server; one comes at a time, if at all.
    pub(crate) fn fetch_snapshot(&mut self, id: ServerId, born: Birthday, from: ServerId, at_least: LogIndex) {
        let takes =
            self.random.between(self.plan.delay.0, self.plan.delay.1) * 2 + self.random.below(500 * MILLISECOND);
        let Some(process) = self.server_mut(id).process_of(born).filter(|process| !process.fetching) else { return };
        process.fetching = true;
        self.after(takes, Occurrence::SnapshotArrives { server: id, born, from, at_least });
    }

    /// All of it is there, where both were up until now and the other one has one.
    pub(crate) fn snapshot_arrives(&mut self, id: ServerId, born: Birthday, from: ServerId, at_least: LogIndex) {
        if let Some(delay) = self.stands_still_for(id) {
            return self.after(delay, Occurrence::SnapshotArrives { server: id, born, from, at_least });
        }
        let reached = self.network.open_both_ways(id, from);
        let other = self.server(from);
        let of_it = (other.process().is_some() && !other.is_paused()).then(|| other.disk.snapshot_to_send());
        let cluster = other.disk.cluster().map(|(cluster, _)| *cluster);
        let server = self.server_mut(id);
        let same_cluster = server.disk.cluster().map(|(cluster, _)| *cluster) == cluster;
        let usable = !server.disk_failed && reached && same_cluster;
        let Some(process) = server.process_of(born) else { return };
        process.fetching = false;
        let Some(snapshot) = of_it.filter(|snapshot| usable && snapshot.index() >= at_least) else { return };
        let index = snapshot.index();
        process.fetched = Some(snapshot);
        self.deliver(id, Event::SnapshotFetched { index });
    }

    fn stands_still_for(&self, id: ServerId) -> Option<Instant> {
        let stop = self.server(id).stopped.filter(|stop| stop.until > self.now)?;
        Some(stop.until - self.now + MICROSECOND)
    }
}
