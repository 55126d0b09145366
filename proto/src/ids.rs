//! Identities and positions: a newtype for every number that could be taken for another.

use std::fmt;
use std::str::FromStr;

use crate::hash::ChainHash;

/// The position of a server in `--cluster`, counted from 0. It orders the candidates of a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u8);

/// A random number drawn when a data directory is formatted: a server with an emptied directory is another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u64);

/// A random number drawn at each process start, and whenever a deposed server recovers within its process.
///
/// Runs are compared for equality only; they have no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// Which cluster, and which generation of it; it travels with every message.
///
/// A generation begins when an operator runs `heirloom recover`; servers of a lower one come back as learners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId {
    /// Random, drawn once at bootstrap.
    pub id: u64,
    /// Counted from 1.
    pub generation: u32,
}

impl ClusterId {
    /// Whether this is a later generation of the same cluster, of which a server of the other one has not heard yet.
    pub fn is_later_than(self, other: Self) -> bool {
        self.id == other.id && self.generation > other.generation
    }
}

/// A text that is no [`ClusterId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACluster;

impl fmt::Display for NotACluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cluster is written as 16 hexadecimal digits, a slash and its generation: 00c0ffee00c0ffee/1")
    }
}

impl std::error::Error for NotACluster {}

impl FromStr for ClusterId {
    type Err = NotACluster;

    /// Takes what is displayed, and nothing else.
    fn from_str(text: &str) -> Result<Self, NotACluster> {
        let (id, generation) = text.split_once('/').ok_or(NotACluster)?;
        let id = u64::from_str_radix(id, 16).map_err(|_| NotACluster)?;
        let generation = generation.parse().map_err(|_| NotACluster)?;
        let cluster = Self { id, generation };
        // So one cluster has one name, and 0 is no generation.
        if generation == 0 || cluster.to_string() != text { Err(NotACluster) } else { Ok(cluster) }
    }
}

/// The number of a view: unique by construction, because it names its only proposer.
///
/// **Invariants**
/// - Only the run that it names may propose with it, and only once.
/// - [`Epoch::NONE`] is lower than any epoch that is ever proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Counted from 1; what makes one epoch higher than another.
    pub round: u64,
    /// The proposer, and the primary of the view if it comes to be.
    pub server: ServerId,
    /// The proposer's run.
    pub run: RunId,
}

impl Epoch {
    /// Lower than every proposed epoch: what a fresh register has promised.
    pub const NONE: Self = Self { round: 0, server: ServerId(0), run: RunId(0) };

    /// The next epoch above `self` for this proposer.
    pub fn next_for(self, server: ServerId, run: RunId) -> Self {
        Self { round: self.round + 1, server, run }
    }
}

/// A data server as a member of a view names it: `id:store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its position in `--cluster`.
    pub server: ServerId,
    /// Its store.
    pub store: StoreId,
}

/// Whom a message is from, as its handshake said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its position in `--cluster`.
    pub server: ServerId,
    /// Its store.
    pub store: StoreId,
    /// Its run.
    pub run: RunId,
}

impl Peer {
    /// The peer without its run, as a view would name it.
    pub fn member(self) -> Member {
        Member { server: self.server, store: self.store }
    }
}

/// A position in the log, and the length of the prefix that ends there: the first entry is 1, the empty prefix 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The empty prefix.
    pub const ZERO: Self = Self(0);

    /// The position behind this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A log index with the chain hash of the prefix that ends there: equal positions, equal prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Where the prefix ends.
    pub index: LogIndex,
    /// What the prefix hashes to.
    pub hash: ChainHash,
}

impl Position {
    /// The empty log.
    pub const START: Self = Self { index: LogIndex::ZERO, hash: ChainHash::EMPTY };
}

/// The count of committed changes over the whole dictionary; 0 before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

impl Version {
    /// The version after one more change.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A client session, named by the entry that opened it, so that an unknown id at or below the applied index is known to
/// have *expired* rather than never to have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The index of the entry that opened the session.
    pub opened_at: LogIndex,
    /// A number that no other session opened at this index, in a lost log tail say, will have.
    pub nonce: u64,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}", self.id, self.generation)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:08x}", self.round, self.server, self.run.0 >> 32)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.opened_at, self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_one_name_and_is_found_by_it() {
        for cluster in [ClusterId { id: 0, generation: 1 }, ClusterId { id: u64::MAX, generation: u32::MAX }] {
            assert_eq!(cluster.to_string().parse(), Ok(cluster));
        }
        for text in
            ["", "/", "1/1", "0000000000000001/0", "0000000000000001/01", "000000000000000A/1", "+000000000000001/1"]
        {
            assert_eq!(text.parse::<ClusterId>(), Err(NotACluster), "{text}");
        }
    }
}
