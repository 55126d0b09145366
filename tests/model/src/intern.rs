//! Every value once: states of the search name values by number.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_128;

/// The fingerprint of a value. Two of a hundred million values have the same one with a probability below 10⁻²².
pub(crate) fn fingerprint(value: &impl Hash) -> u128 {
    let mut hasher = Gathered(Vec::with_capacity(512));
    value.hash(&mut hasher);
    xxh3_128(&hasher.0)
}

/// Gathers the bytes of a value: hashed at once they take a tenth of the time.
#[derive(Debug)]
struct Gathered(Vec<u8>);

impl Hasher for Gathered {
    fn finish(&self) -> u64 {
        unreachable!("its bytes are asked for")
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Takes fingerprints as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are keys")
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
}

pub(crate) type ByFingerprint<V> = HashMap<u128, V, BuildHasherDefault<AsItIs>>;

/// The values of one kind that were met.
#[derive(Debug)]
pub(crate) struct Interned<T> {
    values: Vec<Rc<T>>,
    numbers: ByFingerprint<u32>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: ByFingerprint::default() }
    }
}

impl<T: Hash> Interned<T> {
    pub(crate) fn number(&mut self, value: T) -> u32 {
        let next = u32::try_from(self.values.len()).expect("memory ends before");
        let number = *self.numbers.entry(fingerprint(&value)).or_insert(next);
        if number == next {
            self.values.push(Rc::new(value));
        }
        number
    }

    pub(crate) fn value(&self, number: u32) -> &Rc<T> {
        &self.values[number as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().map(|value| &**value)
    }
}

/// Keys that are put together from numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are keys")
    }

    fn write_u128(&mut self, number: u128) {
        let (low, high) = (number as u64, (number >> 64) as u64);
        let mixed = (low ^ high.rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ high;
        self.0 = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    }
}

pub(crate) type ByPlace<V> = HashMap<u128, V, BuildHasherDefault<Mixed>>;
