//! The one encoding of our own records: little-endian, length-prefixed, with no optional reading.
//!
//! Entries are hashed, stored and sent in this form, so it must give one string of bytes for one value. What comes from
//! outside may be cut or garbled: every read is checked and nothing panics.

use bytes::Bytes;

/// What was wrong with bytes that came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(
    /// What could not be read.
    pub &'static str,
);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Writes values behind one another.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, value: u128) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A length of four bytes, then the bytes.
    ///
    /// **Panics if** there are 4 GiB of them: every caller is bounded far below.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u32(u32::try_from(value.len()).expect("bounded by the limits"));
        self.bytes.extend_from_slice(value);
        self
    }

    /// A count of four bytes, for a list that follows.
    ///
    /// **Panics if** the list has 2^32 parts: every caller is bounded far below.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).expect("bounded by the limits"))
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// What was written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads values one behind the other from bytes that share one buffer.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// A reader at the first byte.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<Bytes, Malformed> {
        if self.bytes.len() < count {
            return Err(Malformed(what));
        }
        Ok(self.bytes.split_to(count))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let Some(found) = self.bytes.first_chunk::<N>().copied() else {
            return Err(Malformed(what));
        };
        let _ = self.bytes.split_to(N);
        Ok(found)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Four bytes.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Eight bytes.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, what: &'static str) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.array(what)?))
    }

    /// A length and its bytes, which share the reader's buffer.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, Malformed> {
        let length = self.u32(what)? as usize;
        self.take(length, what)
    }

    /// A count for a list whose parts take at least `part_bytes_min` bytes each, so that a garbled count can't make
    /// the caller reserve more than there is.
    pub fn count(&mut self, part_bytes_min: usize, what: &'static str) -> Result<usize, Malformed> {
        let count = self.u32(what)? as usize;
        if count.saturating_mul(part_bytes_min.max(1)) > self.bytes.len() {
            return Err(Malformed(what));
        }
        Ok(count)
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Succeeds only where nothing is left.
    pub fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_garbled_count_is_refused_before_anything_is_reserved() {
        let mut writer = Writer::new();
        writer.count(1_000_000).u64(1);
        let mut reader = Reader::new(writer.finish().into());
        assert_eq!(reader.count(8, "list"), Err(Malformed("list")));
    }

    #[test]
    fn bytes_that_end_too_early_are_refused() {
        let mut writer = Writer::new();
        writer.bytes(b"abcdef");
        let mut cut = writer.finish();
        cut.pop();
        assert_eq!(Reader::new(cut.into()).bytes("key"), Err(Malformed("key")));
    }
}
