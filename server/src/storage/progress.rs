//! How far the log is known to be good: written often, synced never, and worth nothing where it is lost.

use heirloom_proto::LogIndex;
use heirloom_proto::codec::{Malformed, Reader, Writer};

/// A lower bound of what was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// The copy has confirmed its log up to here.
    pub(super) confirmed: LogIndex,
    /// Committed up to here.
    pub(super) commit: LogIndex,
    /// The frames of the log up to this sequence were synced and read back. Kept in frames, not entries: a cut may take
    /// back entries that had been confirmed, but never a frame.
    pub(super) synced: u64,
}

impl Progress {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Writer::with_capacity(24);
        out.u64(self.confirmed.0).u64(self.commit.0).u64(self.synced);
        out.finish()
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.into());
        let progress = Self {
            confirmed: LogIndex(reader.u64("confirmed")?),
            commit: LogIndex(reader.u64("commit")?),
            synced: reader.u64("synced")?,
        };
        reader.end("progress")?;
        Ok(progress)
    }
}
