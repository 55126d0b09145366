//! The two hashes: one over the order of a log, one over the content of a state. Both are xxh3 of 128 bits: they are to
//! find faults, not forgeries (nothing lies on purpose, PROTOCOL 1).

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// `H(i) = hash(H(i-1), entry i)`: equal hashes, equal logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainHash(pub u128);

impl ChainHash {
    /// The hash of the empty log.
    pub const EMPTY: Self = Self(0);

    /// The hash of the log that is one entry longer; `entry` is its encoding.
    pub fn extend(self, entry: &[u8]) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(entry);
        Self(hasher.digest128())
    }
}

/// An order-free hash over a state, kept in O(1) a change: the wrapping sum of the hashes of its parts.
///
/// Equal applied index must mean equal digest; anything else is divergence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub u128);

impl Digest {
    /// Takes a part of the state into account.
    pub fn add(&mut self, part: &[u8]) {
        self.0 = self.0.wrapping_add(xxh3_128(part));
    }

    /// Forgets a part that was added before, byte for byte the same.
    pub fn remove(&mut self, part: &[u8]) {
        self.0 = self.0.wrapping_sub(xxh3_128(part));
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({:08x}..)", self.0 >> 96)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:08x}..)", self.0 >> 96)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_depends_on_order_and_the_digest_does_not() {
        let ab = ChainHash::EMPTY.extend(b"a").extend(b"b");
        let ba = ChainHash::EMPTY.extend(b"b").extend(b"a");
        assert_ne!(ab, ba);
        let (mut one, mut two) = (Digest::default(), Digest::default());
        one.add(b"a");
        one.add(b"b");
        two.add(b"b");
        two.add(b"c");
        two.add(b"a");
        assert_ne!(one, two);
        two.remove(b"c");
        assert_eq!(one, two);
    }
}
