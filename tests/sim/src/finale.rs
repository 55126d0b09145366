//! The end of a world: everything is mended, and the cluster must become whole again (law 11).

use std::collections::BTreeSet;

use bytes::Bytes;
use heirloom_proto::request::append_key;
use heirloom_proto::{ServerId, VoterKind};
use heirloom_session::Freshness;

use crate::clock::{Instant, MILLISECOND, SECOND};
use crate::linearizable::Call;
use crate::plan::Wipes;
use crate::world::World;
use heirloom_laws::Inspect;
use heirloom_laws::Violation;

/// How long the cluster may take to become whole.
const PATIENCE: Instant = 90 * SECOND;
/// How long it must stay whole.
const SETTLED: Instant = 500 * MILLISECOND;

impl World {
    /// Everything is mended, all servers are started, and the laws of a quiet world are checked.
    pub(crate) fn end(&mut self) {
        self.mend();
        if self.becomes_whole() {
            self.last_calls();
        }
        if self.violation.is_none()
            && let Err(fault) = self.history.check()
        {
            self.broke(Violation { law: 7, what: fault.to_string() });
        }
    }

    /// Waits for the cluster to be whole for a while; false where that may never be.
    fn becomes_whole(&mut self) -> bool {
        let give_up = self.now + PATIENCE;
        let mut whole_since = None;
        loop {
            self.run_until(self.now + 50 * MILLISECOND);
            if self.violation.is_some() {
                return false;
            }
            let Some(why) = self.unwhole() else {
                if self.now >= *whole_since.get_or_insert(self.now) + SETTLED {
                    return true;
                }
                continue;
            };
            whole_since = None;
            if self.now > give_up {
                if self.stuck_is_fine.is_none() {
                    self.broke(Violation { law: 11, what: format!("not whole after {} s: {why}", PATIENCE / SECOND) });
                }
                return false;
            }
        }
    }

    fn mend(&mut self) {
        self.trace.note(self.now, || "## all is mended".to_owned());
        self.healed = true;
        self.resting = true;
        if self.plan.wipes == Wipes::Wild && self.servers.iter().any(|server| server.ever_wiped) {
            self.stuck_is_fine = Some("directories were emptied at any time");
        }
        self.plan.lost = 0;
        self.plan.doubled = 0;
        self.plan.late = 0;
        self.plan.late_deadlines = 0;
        self.network.heal_all();
        for client in &mut self.clients {
            client.cut.fill(false);
        }
        for id in self.plan.servers() {
            let now = self.now;
            let server = self.server_mut(id);
            server.slow_disk_until = 0;
            server.full_until = 0;
            server.wrong_read_back = None;
            server.crash_within_step = None;
            if let Some(stop) = &mut server.stopped {
                stop.until = now;
                self.after(0, crate::world::Occurrence::Resume { server: id });
            }
            let delay = self.random.below(300 * MILLISECOND);
            if self.server(id).is_off() {
                self.start_later(id, delay);
            }
        }
    }

    /// What is missing for the cluster to be whole; `None` where nothing is.
    fn unwhole(&self) -> Option<String> {
        let leaders: Vec<ServerId> = self
            .servers
            .iter()
            .filter(|server| server.process().is_some_and(|process| process.node.leads().is_some()))
            .map(|server| server.id)
            .collect();
        let [leader] = leaders[..] else { return Some(format!("the servers that lead are {leaders:?}")) };
        let primary = self.server(leader);
        let process = primary.process().expect("it leads");
        let status = process.node.status(primary.clock.read(self.now));
        for server in self.servers.iter().filter(|server| server.config.kind() == VoterKind::Data) {
            if !status.in_sync.contains(&server.disk.member()) {
                return Some(format!("server {} is not a member of {:?}", server.id, status.in_sync));
            }
            let Some(other) = server.process() else { return Some(format!("server {} does not run", server.id)) };
            if other.node.applied() != process.node.applied() {
                return Some(format!(
                    "server {} has applied {:?}, the primary {:?}",
                    server.id,
                    other.node.applied(),
                    process.node.applied()
                ));
            }
        }
        if process.node.log_end() != process.node.applied().map(|(applied, _)| applied) {
            return Some("prepared entries are not committed".to_owned());
        }
        None
    }

    /// A new client writes once and reads every key: what was acknowledged must be there.
    fn last_calls(&mut self) {
        let place = self.new_client();
        let patience = 20 * SECOND;
        let mut calls = vec![(Bytes::from_static(b"k0"), Call::Add(Bytes::from_static(b"the last word")))];
        calls.extend((0..self.plan.keys).map(|key| (Bytes::from(format!("k{key}")), Call::Read)));
        for (key, call) in calls {
            let outputs = self.clients[place].begin(self.now, key, call, Freshness::Linearizable, patience);
            self.client_does(place, outputs);
            let give_up = self.now + patience + SECOND;
            while !self.clients[place].pending.is_empty() && self.now < give_up && self.violation.is_none() {
                self.run_until(self.now + MILLISECOND);
            }
        }
        let expected = self.plan.keys + 1;
        let answered = self.clients[place].answered;
        if answered != expected && self.violation.is_none() {
            self.broke(Violation { law: 11, what: format!("a whole cluster answered {answered} of {expected} calls") });
        }
        if self.becomes_whole() {
            self.dictionaries_are_equal();
            self.appended_values_are_whole();
        }
        // Those whose outcome is open when the world ends.
        for place in 0..self.clients.len() {
            for ended in self.clients[place].abandon() {
                self.knows(ended);
            }
        }
    }

    /// Law 4: under each prefix all numbers are there, and those that were told have the values of those who were told.
    fn appended_values_are_whole(&mut self) {
        let Some(copy) = self.servers.iter().find_map(|server| server.process()?.node.copy()) else { return };
        let dictionary = copy.dictionary();
        let is_there = |((prefix, number), value): (&(Bytes, u64), &Bytes)| {
            dictionary.read(&append_key(prefix, *number)).is_some_and(|stored| stored.value == *value)
        };
        let prefixes: BTreeSet<&Bytes> = self.appended.keys().map(|(prefix, _)| prefix).collect();
        let has_gap = prefixes.into_iter().find(|prefix| {
            let there = dictionary.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, _)| key.clone());
            !there.eq((1..=dictionary.appended(prefix)).map(|number| append_key(prefix, number)))
        });
        let lost = self.appended.iter().find(|told| !is_there(*told));
        let what = match (has_gap, lost) {
            (Some(prefix), _) => format!("the numbers under {prefix:?} have a gap"),
            (None, Some(lost)) => format!("the appended {lost:?} is not there"),
            (None, None) => return,
        };
        self.broke(Violation { law: 4, what });
    }

    /// Law 3, looked at entry by entry: equal digests must mean equal dictionaries.
    fn dictionaries_are_equal(&mut self) {
        let mut contents = self.servers.iter().filter_map(|server| {
            let copy = server.process()?.node.copy()?;
            let entries: Vec<_> = copy.dictionary().iter().map(|(key, stored)| (key.clone(), stored.clone())).collect();
            Some((server.id, entries))
        });
        let Some((first, expected)) = contents.next() else { return };
        let other = contents.find(|(_, entries)| *entries != expected).map(|(other, _)| other);
        if let Some(other) = other {
            self.broke(Violation { law: 3, what: format!("servers {first} and {other} keep different dictionaries") });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::less::Less;
    use crate::plan::Shape;
    use crate::run::Options;

    /// What is said of a world that is mended, but for this.
    fn mended_but(for_this: impl FnOnce(&mut World)) -> Option<String> {
        // What is done here is all that goes wrong: the end of an earlier fault would undo it.
        let less = Less { faults: Some(BTreeSet::new()), ..Less::default() };
        let mut world = World::new(7, &Options { shape: Some(Shape::Three), less, ..Options::default() });
        world.run_until(2 * SECOND);
        assert_eq!(world.violation, None);
        world.mend();
        assert_eq!(world.stuck_is_fine, None, "more than safety is asked for");
        for_this(&mut world);
        // It takes them this long at most to notice.
        world.run_until(world.now + 10 * SECOND);
        if world.becomes_whole() {
            world.last_calls();
        }
        world.violation.map(|violation| violation.to_string())
    }

    fn says(violation: Option<&str>, beginning: &str) {
        assert!(violation.is_some_and(|said| said.starts_with(beginning)), "{beginning}: {violation:?}");
    }

    #[test]
    fn a_cluster_with_a_server_that_stays_cut_off_or_whose_messages_stay_lost_breaks_law_11() {
        assert_eq!(mended_but(|_| {}), None);
        let cut_off = |world: &mut World| {
            let links = [(0, 2), (2, 0), (1, 2), (2, 1)].map(|(from, to)| (ServerId(from), ServerId(to)));
            world.network.cut(&links);
        };
        says(mended_but(cut_off).as_deref(), "law 11: not whole after ");
        // Who hears of nothing new takes nothing back: where no entry is on its way the old view still looks whole, and
        // answers nobody. Which of the two it is depends on the world.
        let nobody_hears = |world: &mut World| world.plan.lost = 1_000;
        says(mended_but(nobody_hears).as_deref(), "law 11: ");
    }
}
