//! What changes on a disk at rest, and what the next start makes of it.
//!
//! As the runtime does (`server/src/storage`): the records of register and identity are kept twice, and one copy mends
//! the other; the record of the progress is worth nothing where it is lost; a frame of the log that can't be read is the
//! torn end of the log where nothing says that it was ever synced, and damage where the progress says so or a later
//! sync stands behind it.

use std::collections::BTreeSet;

use heirloom_proto::LogIndex;

use crate::disk::{Disk, Noted};
use crate::random::Random;

/// A record that is kept in two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    Register,
    Identity,
}

/// The places that don't hold what was written there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rot {
    frames: BTreeSet<u64>,
    register: [bool; 2],
    identity: [bool; 2],
    progress: [bool; 2],
    snapshot: bool,
}

/// What a start finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// What was stored.
    Sound,
    /// One copy of a record was unreadable, the other one not.
    Mended,
    /// Something is lost: the store is to be set aside. Its identity may be lost as well.
    Damaged { what: &'static str, identity: bool },
}

impl Rot {
    fn pair(&mut self, pair: Pair) -> &mut [bool; 2] {
        match pair {
            Pair::Register => &mut self.register,
            Pair::Identity => &mut self.identity,
        }
    }

    /// One copy of a record is not whole.
    pub(crate) fn tear(&mut self, pair: Pair, copy: usize) {
        self.pair(pair)[copy] = true;
    }

    /// A record was written anew, both copies.
    pub(crate) fn rewritten(&mut self, pair: Pair) {
        *self.pair(pair) = [false; 2];
    }

    /// A snapshot was made from scratch.
    pub(crate) fn snapshot_rewritten(&mut self) {
        self.snapshot = false;
    }

    /// What is left of it in a directory that has a new snapshot and no log.
    pub(crate) fn without_log(&self) -> Self {
        Self { frames: BTreeSet::new(), progress: [false; 2], snapshot: false, ..self.clone() }
    }

    /// Whether all that matters is there, twice where it is kept twice.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.frames.is_empty() && !self.snapshot && self.register == [false; 2] && self.identity == [false; 2]
    }
}

impl Disk {
    /// Changes a bit, or the few bits of one sector, at a place drawn at random; gives the place. Only the record of the
    /// progress is harmless in any case.
    pub(crate) fn rot(&mut self, random: &mut Random, harmless: bool) -> Option<&'static str> {
        let copy = random.below(2) as usize;
        let drawn = random.weighted(&[45, 15, 10, 8, 22, 15]);
        Some(match if harmless { 4 } else { drawn } {
            0 if self.believed == 0 => return None,
            0 => {
                let frame = random.between(1, self.believed);
                self.rot.frames.insert(frame);
                "a frame of the log"
            }
            1 => {
                self.rot.register[copy] = true;
                "one copy of the register"
            }
            2 => {
                self.rot.register = [true; 2];
                "both copies of the register"
            }
            3 => {
                self.rot.identity = [true; 2];
                "both copies of the identity"
            }
            5 if self.base() == LogIndex::ZERO => return None,
            5 => {
                self.rot.snapshot = true;
                "the snapshot"
            }
            _ => {
                self.rot.progress[copy] = true;
                "one copy of the progress"
            }
        })
    }

    /// Reads and checks all that is stored, as a start does.
    pub(crate) fn open(&mut self) -> Found {
        let mut found = Found::Sound;
        for (pair, what) in [(Pair::Identity, "the identity"), (Pair::Register, "the register")] {
            match *self.rot.pair(pair) {
                [true, true] => return Found::Damaged { what, identity: pair == Pair::Identity },
                [false, false] => {}
                [true, false] | [false, true] => {
                    self.rot.rewritten(pair);
                    found = Found::Mended;
                }
            }
        }
        // Each note goes to the file that the one before it did not go to.
        match std::mem::take(&mut self.rot.progress) {
            [true, true] => self.noted = vec![Noted::default()],
            [false, false] => {}
            [true, false] | [false, true] if self.noted.len() > 1 => drop(self.noted.pop()),
            [true, false] | [false, true] => {}
        }
        if self.rot.snapshot {
            return Found::Damaged { what: "the snapshot", identity: false };
        }
        let synced = self.noted.last().copied().unwrap_or_default().synced;
        while let Some(missing) = self.rot.frames.first().copied() {
            let later_sync = self.frames[missing as usize..].iter().any(|group| *group > missing);
            if missing <= synced || later_sync {
                return Found::Damaged { what: "the log", identity: false };
            }
            // The last write rotted, and the crash took the note that it was ever synced: this can't be told from a torn
            // write (PROTOCOL 3, Alagappan et al. 2018, section 3.3.3). Two faults of one disk at once are left out.
            self.rot.frames.remove(&missing);
        }
        self.believed = self.frames.len() as u64;
        found
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{
        Answer, Entry, Epoch, LogIndex, Record, RunId, Sealed, ServerId, StoreId, Ticket, Version, WallTime,
    };

    use super::*;
    use crate::disk::Queue;

    fn disk_with(frames: u64) -> Disk {
        let mut disk = Disk::blank(ServerId(0), StoreId(1));
        for number in 1..=frames {
            let entry = Entry {
                index: LogIndex(number),
                epoch: Epoch { round: 1, server: ServerId(0), run: RunId(1) },
                version: Version(0),
                at: WallTime(0),
                effects: Vec::new(),
                origin: None,
                answer: Answer::Nothing,
            };
            disk.enqueue(Ticket(number), Record::Append(vec![Sealed::new(entry)]));
            disk.complete(Queue::Log, 1);
            disk.reported();
        }
        disk
    }

    #[test]
    fn a_frame_that_rots_below_a_later_sync_is_damage_even_where_the_progress_is_lost() {
        let mut disk = disk_with(3);
        disk.noted.truncate(1);
        disk.rot.frames.insert(2);
        assert_eq!(disk.open(), Found::Damaged { what: "the log", identity: false });
    }

    #[test]
    fn the_last_frame_is_damage_where_the_progress_says_that_it_was_synced() {
        let mut disk = disk_with(3);
        disk.rot.frames.insert(3);
        assert_eq!(disk.open(), Found::Damaged { what: "the log", identity: false });
    }

    #[test]
    fn one_copy_mends_the_other() {
        let mut disk = disk_with(1);
        disk.rot.tear(Pair::Identity, 0);
        disk.rot.tear(Pair::Register, 1);
        assert_eq!(disk.open(), Found::Mended);
        assert_eq!(disk.open(), Found::Sound);
    }
}
