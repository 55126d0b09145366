//! What the prepared entries would change: with the committed state, what the primary executes against (PROTOCOL 4.2).

use std::collections::BTreeMap;

use bytes::Bytes;
use heirloom_backup::Replica;
use heirloom_proto::{Effect, Entry, LogIndex, Mutant, SessionId, Version, planted};

/// The effects of all prepared entries on sessions and counts; those on keys the replica knows itself.
///
/// **Invariants:** holds nothing of an entry that is applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Overlay {
    sessions: BTreeMap<SessionId, (LogIndex, bool)>,
    appended: BTreeMap<Bytes, (LogIndex, u64)>,
    requests: BTreeMap<(SessionId, u64), LogIndex>,
    version: Version,
    bytes: usize,
}

impl Overlay {
    /// The overlay of the prepared entries of a replica: a new primary counts what it inherits as in flight.
    pub(crate) fn of(replica: &Replica) -> Self {
        let mut overlay = Self { version: replica.dictionary().version(), ..Self::default() };
        for sealed in replica.log().from(replica.applied_index().next()) {
            overlay.prepare(sealed.entry(), sealed.bytes().len());
        }
        if planted(Mutant::DedupLostAtFailover) {
            overlay.requests.clear();
        }
        overlay
    }

    pub(crate) fn prepare(&mut self, entry: &Entry, bytes: usize) {
        for effect in &entry.effects {
            match effect {
                Effect::Put { .. } | Effect::Remove { .. } => {}
                Effect::Count { prefix, number } => {
                    self.appended.insert(prefix.clone(), (entry.index, *number));
                }
                Effect::OpenSession(session) => {
                    self.sessions.insert(*session, (entry.index, true));
                }
                Effect::RemoveSession(session) => {
                    self.sessions.insert(*session, (entry.index, false));
                }
            }
        }
        if let Some(origin) = entry.origin {
            self.requests.insert((origin.session, origin.sequence), entry.index);
        }
        self.version = entry.version;
        self.bytes += bytes;
    }

    /// Forgets an entry that is applied now.
    pub(crate) fn applied(&mut self, entry: &Entry, bytes: usize) {
        for effect in &entry.effects {
            match effect {
                Effect::Put { .. } | Effect::Remove { .. } => {}
                Effect::Count { prefix, .. } => {
                    if self.appended.get(prefix).is_some_and(|(index, _)| *index == entry.index) {
                        self.appended.remove(prefix);
                    }
                }
                Effect::OpenSession(session) | Effect::RemoveSession(session) => {
                    if self.sessions.get(session).is_some_and(|(index, _)| *index == entry.index) {
                        self.sessions.remove(session);
                    }
                }
            }
        }
        if let Some(origin) = entry.origin {
            self.requests.remove(&(origin.session, origin.sequence));
        }
        self.bytes -= bytes;
    }

    /// The version once all that is prepared is applied.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// How many bytes of entries are prepared.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many values were ever appended under the prefix once all that is prepared is applied.
    pub(crate) fn appended(&self, prefix: &[u8], replica: &Replica) -> u64 {
        self.appended.get(prefix).map_or_else(|| replica.dictionary().appended(prefix), |(_, number)| *number)
    }

    /// Whether the session is open once all that is prepared is applied; `None` where no prepared entry touches it.
    pub(crate) fn session(&self, session: SessionId) -> Option<bool> {
        self.sessions.get(&session).map(|(_, open)| *open)
    }

    /// How many sessions are open once all that is prepared is applied.
    pub(crate) fn sessions_open(&self, replica: &Replica) -> usize {
        let opened = self.sessions.values().filter(|(_, open)| *open).count();
        let removed =
            self.sessions.iter().filter(|(session, (_, open))| !*open && replica.sessions().is_open(**session)).count();
        replica.sessions().len() + opened - removed
    }

    /// Where a request is in flight.
    pub(crate) fn in_flight(&self, session: SessionId, sequence: u64) -> Option<LogIndex> {
        self.requests.get(&(session, sequence)).copied()
    }

    /// Whether any request of the session is in flight.
    pub(crate) fn session_is_busy(&self, session: SessionId) -> bool {
        self.requests.range((session, 0)..=(session, u64::MAX)).next().is_some()
    }
}
