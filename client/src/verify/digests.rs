//! What servers said of their states, and whether it is the same.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_proto::{LogIndex, ServerId, Version};

use super::groups;

/// What a server says of its state at one applied index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The version of the dictionary.
    pub(crate) version: Version,
    /// The digest of all that is applied, as the server wrote it.
    pub(crate) digest: String,
}

/// What servers said, by the index up to which they had applied the log: at equal index, and there alone, states must be
/// equal.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    said: BTreeMap<LogIndex, BTreeMap<ServerId, State>>,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// All servers were seen at this index, with the same state.
    Equal {
        /// The index.
        at: LogIndex,
    },
    /// At this index not all states were the same.
    Differ {
        /// The index.
        at: LogIndex,
        /// The servers seen there; those in one group had the same state.
        groups: Vec<Vec<ServerId>>,
    },
    /// There is no index at which all were seen, and where some were they had the same.
    NotMet,
}

impl Digests {
    /// Takes a server's word.
    pub(crate) fn hear(&mut self, server: ServerId, applied: LogIndex, state: State) {
        self.said.entry(applied).or_default().insert(server, state);
    }

    /// What a server said of its state at an index, if it was seen there.
    pub(crate) fn state(&self, server: ServerId, at: LogIndex) -> Option<&State> {
        self.said.get(&at)?.get(&server)
    }

    /// The newest index at which all these servers were seen.
    pub(crate) fn met(&self, servers: &BTreeSet<ServerId>) -> Option<LogIndex> {
        let met = |said: &BTreeMap<ServerId, State>| servers.iter().all(|server| said.contains_key(server));
        self.said.iter().rev().find(|(_, said)| met(said)).map(|(at, _)| *at)
    }

    /// Whether these servers, and whoever was seen with them, are equal. Where they differ at several indices it names one
    /// at which the most were seen.
    pub(crate) fn compare(&self, servers: &BTreeSet<ServerId>) -> Compared {
        let groups =
            self.said.iter().map(|(at, said)| (*at, said.len(), groups(said.iter().map(|(id, it)| (*id, it)))));
        let differing = groups.filter(|(_, _, groups)| groups.len() > 1);
        match (differing.max_by_key(|(at, seen, _)| (*seen, *at)), self.met(servers)) {
            (Some((at, _, groups)), _) => Compared::Differ { at, groups },
            (None, Some(at)) => Compared::Equal { at },
            (None, None) => Compared::NotMet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Server, index and digest, as they were heard.
    fn heard(all: &[(u8, u64, &str)]) -> Digests {
        let mut digests = Digests::default();
        for (server, at, digest) in all {
            let state = State { version: Version(*at), digest: (*digest).to_owned() };
            digests.hear(ServerId(*server), LogIndex(*at), state);
        }
        digests
    }

    fn compared(all: &[(u8, u64, &str)]) -> Compared {
        heard(all).compare(&[0, 1, 2].map(ServerId).into())
    }

    #[test]
    fn servers_are_equal_at_an_index_at_which_all_were_seen() {
        assert_eq!(compared(&[(0, 7, "a"), (1, 7, "a"), (2, 7, "a")]), Compared::Equal { at: LogIndex(7) });
        // They run past each other, and meet in what was said at different times.
        let passing = [(0, 7, "a"), (1, 8, "b"), (2, 9, "c"), (1, 9, "c"), (2, 12, "d"), (0, 9, "c")];
        assert_eq!(compared(&passing), Compared::Equal { at: LogIndex(9) });
        assert_eq!(heard(&passing).state(ServerId(1), LogIndex(9)).map(|state| &*state.digest), Some("c"));
    }

    #[test]
    fn different_states_at_different_indices_are_no_difference() {
        assert_eq!(compared(&[(0, 7, "a"), (1, 8, "b"), (2, 9, "c")]), Compared::NotMet);
        assert_eq!(compared(&[(0, 7, "a"), (1, 7, "a"), (2, 9, "c")]), Compared::NotMet);
    }

    #[test]
    fn different_states_at_one_index_are_a_difference_whoever_is_not_there() {
        let servers = |ids: &[u8]| ids.iter().copied().map(ServerId).collect::<Vec<_>>();
        let two = Compared::Differ { at: LogIndex(7), groups: vec![servers(&[0]), servers(&[1])] };
        assert_eq!(compared(&[(0, 7, "a"), (1, 7, "b"), (2, 9, "c")]), two);
        let three = Compared::Differ { at: LogIndex(8), groups: vec![servers(&[0, 2]), servers(&[1])] };
        let passing = [(0, 7, "a"), (1, 7, "b"), (0, 8, "c"), (1, 8, "d"), (2, 8, "c"), (0, 9, "e"), (1, 9, "f")];
        assert_eq!(compared(&passing), three, "where the most were seen");
        // What was seen once is not undone by what is seen later.
        let healed = [(0, 7, "a"), (1, 7, "b"), (0, 9, "c"), (1, 9, "c"), (2, 9, "c")];
        assert!(matches!(compared(&healed), Compared::Differ { at: LogIndex(7), .. }));
    }

    #[test]
    fn equal_digests_of_different_versions_differ() {
        let mut digests = heard(&[(0, 7, "a")]);
        digests.hear(ServerId(1), LogIndex(7), State { version: Version(6), digest: "a".to_owned() });
        let both = [0, 1].map(ServerId).into();
        assert!(matches!(digests.compare(&both), Compared::Differ { .. }));
    }
}
