//! A small record that is always whole: two files, of which a write touches one at a time.
//!
//! A record that must not be lost ([`Slots::write`]) is written to one file, synced, then to the other, synced, and only
//! then is it durable. So a torn write leaves the other file, and one file that rots *afterwards* can't bring the record
//! before it back to life: were each record in one file only, rot in the newest would silently take back a promise.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use heirloom_proto::StoreId;
use heirloom_proto::codec::{Malformed, Reader, Writer};
use xxhash_rust::xxh3::xxh3_64;

use super::error::{Damage, StorageError};
use super::files::{Files, OpenFile};

/// Above this no number of a header is believed that is counted up behind it: what follows needs numbers too. A million
/// entries a second would take 292,000 years to come there.
pub(super) const NUMBER_MAX: u64 = u64::MAX >> 1;
/// The newest format that this build reads, and the one that it writes.
pub(super) const FORMAT: u32 = 1;

/// What a header holds that was read with its format; `what` it is the header of.
///
/// **Errors:** damage, or a newer format.
pub(super) fn known_format<T>(
    path: &Path,
    what: &str,
    decoded: Result<(u32, T), Malformed>,
) -> Result<T, StorageError> {
    match decoded {
        Ok((FORMAT, head)) => Ok(head),
        Ok((found, _)) if found > FORMAT => {
            Err(StorageError::NewerFormat { file: path.to_owned(), found, known: FORMAT })
        }
        Ok(_) => Err(StorageError::damaged(path, 0, format!("the {what} is of a format that never was"))),
        Err(Malformed(what)) => Err(StorageError::damaged(path, 0, what)),
    }
}

const MAGIC: [u8; 8] = *b"HEIRLOOM";
const HEADER_BYTES: usize = 48;
/// The checksum stands between the two parts that it covers.
const SUM_AT: usize = HEADER_BYTES - 8;
/// Far above any register or identity of `SERVERS_MAX` servers.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Identity,
    Register,
    Progress,
    Recovery,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Identity => 1,
            Self::Register => 2,
            Self::Progress => 3,
            Self::Recovery => 4,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Register => "register",
            Self::Progress => "progress",
            Self::Recovery => "recovery",
        }
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u64 {
    xxh3_64(&[head, payload].concat())
}

/// Makes the checksum of a record right again that was changed, where it has the length that it says.
#[cfg(any(test, feature = "testing"))]
pub(super) fn seal(bytes: &mut [u8]) {
    let Some((head, rest)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() else { return };
    let length = u32::from_le_bytes([head[32], head[33], head[34], head[35]]);
    let Some(payload) = rest.get(..length as usize) else { return };
    let sum = checksum(&head[..SUM_AT], payload);
    head[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
}

/// A record as one file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) store: StoreId,
    pub(super) sequence: u64,
    pub(super) payload: Vec<u8>,
}

/// Why a file holds no record.
enum Unread {
    Newer(u32),
    Broken(&'static str),
}

impl Slot {
    pub(super) fn encode(&self, kind: Kind) -> Vec<u8> {
        let mut head = Writer::with_capacity(HEADER_BYTES + self.payload.len());
        head.u64(u64::from_le_bytes(MAGIC)).u32(FORMAT).u32(u32::from(kind.number()));
        head.u64(self.sequence).u64(self.store.0);
        head.count(self.payload.len()).u32(0);
        let sum = checksum(head.as_slice(), &self.payload);
        head.u64(sum);
        let mut bytes = head.finish();
        bytes.extend_from_slice(&self.payload);
        assert!(bytes.len() <= RECORD_BYTES_MAX, "a {} of {} bytes", kind.name(), bytes.len());
        bytes
    }

    fn decode(bytes: Vec<u8>, kind: Kind) -> Result<Self, Unread> {
        let broken = |malformed: Malformed| Unread::Broken(malformed.0);
        let bytes = bytes::Bytes::from(bytes);
        let mut reader = Reader::new(bytes.clone());
        if reader.u64("a file that is too short").map_err(broken)? != u64::from_le_bytes(MAGIC) {
            return Err(Unread::Broken("no record"));
        }
        let short = "a record that is cut short";
        let format = reader.u32(short).map_err(broken)?;
        let found_kind = reader.u32(short).map_err(broken)?;
        let sequence = reader.u64(short).map_err(broken)?;
        let store = StoreId(reader.u64(short).map_err(broken)?);
        let length = reader.u32(short).map_err(broken)? as usize;
        reader.u32(short).map_err(broken)?;
        let sum = reader.u64(short).map_err(broken)?;
        let Some(payload) = bytes.get(HEADER_BYTES..).and_then(|rest| rest.get(..length)) else {
            return Err(Unread::Broken(short));
        };
        if checksum(&bytes[..SUM_AT], payload) != sum {
            return Err(Unread::Broken("a record with a wrong checksum"));
        }
        // Only now: a version that rotted is no newer version. Later formats keep the header and its checksum.
        if format > FORMAT {
            return Err(Unread::Newer(format));
        }
        if found_kind != u32::from(kind.number()) {
            return Err(Unread::Broken("a record of another kind"));
        }
        Ok(Self { store, sequence, payload: payload.to_vec() })
    }

    /// Reads the record in one file; where there is no whole one of this kind, the inner error says what there is.
    pub(super) fn read(
        file: &dyn OpenFile,
        path: &Path,
        kind: Kind,
    ) -> Result<Result<Self, &'static str>, StorageError> {
        let bytes = file.read_at(0, RECORD_BYTES_MAX).map_err(|error| StorageError::io("read", path, error))?;
        match Self::decode(bytes, kind) {
            Ok(slot) => Ok(Ok(slot)),
            Err(Unread::Broken(what)) => Ok(Err(what)),
            Err(Unread::Newer(found)) => Err(StorageError::NewerFormat { file: path.to_owned(), found, known: FORMAT }),
        }
    }
}

/// A whole record, or what a file holds instead.
type Found = Result<Slot, &'static str>;

/// Two files that hold one record.
///
/// **Invariants:** the file that the next write touches first never holds the only whole copy of the newest record.
pub(super) struct Slots {
    kind: Kind,
    store: StoreId,
    sequence: u64,
    paths: [PathBuf; 2],
    files: [Box<dyn OpenFile>; 2],
    /// What was wrong with one of the files, before it was made anew from the other.
    mended: Option<Damage>,
}

fn paths(dir: &Path, kind: Kind) -> [PathBuf; 2] {
    [dir.join(format!("{}.a", kind.name())), dir.join(format!("{}.b", kind.name()))]
}

impl Slots {
    /// Makes both files with a first record in them, synced; their names are not.
    pub(super) fn format(
        files: &dyn Files,
        dir: &Path,
        kind: Kind,
        store: StoreId,
        payload: &[u8],
    ) -> Result<(), StorageError> {
        let bytes = Slot { store, sequence: 1, payload: payload.to_vec() }.encode(kind);
        for path in paths(dir, kind) {
            let io = |error| StorageError::io("write", &path, error);
            let file = files.create(&path).map_err(io)?;
            file.write_at(0, &bytes).map_err(io)?;
            file.sync().map_err(io)?;
        }
        Ok(())
    }

    /// Opens a record that must be there, brings both files to the newest copy and makes that durable: after a crash
    /// of the process alone it may so far be in memory only.
    ///
    /// **Errors:** damage where neither file holds a whole record, or two differ under one number.
    pub(super) fn open(
        files: &dyn Files,
        dir: &Path,
        kind: Kind,
        store: Option<StoreId>,
    ) -> Result<(Self, Vec<u8>), StorageError> {
        let (mut slots, [a, b]) = Self::read(files, dir, kind, store, true)?;
        let newest = match (a, b) {
            (Ok(a), Ok(b)) if a.sequence == b.sequence && a != b => {
                let what = format!("it differs from {} under one number", slots.paths[1].display());
                return Err(StorageError::damaged(&slots.paths[0], 0, what));
            }
            (Ok(a), Ok(b)) if a == b => {
                (slots.store, slots.sequence) = (a.store, a.sequence);
                return Ok((slots, a.payload));
            }
            (Ok(a), Ok(b)) => {
                if a.sequence > b.sequence {
                    a
                } else {
                    b
                }
            }
            (Ok(one), Err(what)) => slots.mend(one, 1, what),
            (Err(what), Ok(one)) => slots.mend(one, 0, what),
            (Err(a), Err(b)) => {
                let what = format!("neither copy of the {} is whole: one holds {a}, the other {b}", kind.name());
                return Err(StorageError::damaged(&slots.paths[0], 0, what));
            }
        };
        (slots.store, slots.sequence) = (newest.store, newest.sequence);
        let bytes = newest.encode(kind);
        for (file, path) in slots.files.iter().zip(&slots.paths) {
            // Where this copy is the newest one, the bytes are the same and tearing them changes nothing.
            file.write_at(0, &bytes).map_err(|error| StorageError::io("write", path, error))?;
            file.sync().map_err(|error| StorageError::io("sync", path, error))?;
        }
        files.sync_dir(dir).map_err(|error| StorageError::io("sync", dir, error))?;
        Ok((slots, newest.payload))
    }

    /// Notes that one file holds this instead of a record, and will be made anew from the other.
    fn mend(&mut self, whole: Slot, broken: usize, what: &str) -> Slot {
        let other = self.paths[1 - broken].display();
        let what = format!("it holds {what}, by a write that was cut short or by rot, and was made anew from {other}");
        self.mended = Some(Damage { file: self.paths[broken].clone(), offset: 0, what });
        whole
    }

    /// What was wrong with one of the files when they were opened, and was mended from the other.
    pub(super) fn mended(&self) -> Option<&Damage> {
        self.mended.as_ref()
    }

    /// Opens a record that may be lost; `None` where no file holds a whole one.
    pub(super) fn open_lossy(
        files: &dyn Files,
        dir: &Path,
        kind: Kind,
        store: StoreId,
    ) -> Result<(Self, Option<Vec<u8>>), StorageError> {
        let (mut slots, found) = Self::read(files, dir, kind, Some(store), false)?;
        let newest = found.into_iter().filter_map(Result::ok).max_by_key(|slot| slot.sequence);
        slots.sequence = newest.as_ref().map_or(0, |slot| slot.sequence);
        Ok((slots, newest.map(|slot| slot.payload)))
    }

    fn read(
        files: &dyn Files,
        dir: &Path,
        kind: Kind,
        store: Option<StoreId>,
        sync: bool,
    ) -> Result<(Self, [Found; 2]), StorageError> {
        let paths = paths(dir, kind);
        let open = |path: &Path| -> Result<Box<dyn OpenFile>, StorageError> {
            let io = |error| StorageError::io("open", path, error);
            let file = match files.open(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => files.create(path).map_err(io)?,
                opened => opened.map_err(io)?,
            };
            if sync {
                file.sync().map_err(io)?;
                file.evict().map_err(io)?;
            }
            Ok(file)
        };
        let read = |file: &dyn OpenFile, path: &Path| -> Result<Found, StorageError> {
            let found = Slot::read(file, path, kind)?;
            Ok(found.and_then(|slot| match store {
                Some(store) if store != slot.store => Err("a record of another store"),
                _ => Ok(slot),
            }))
        };
        let opened = [open(&paths[0])?, open(&paths[1])?];
        let found = [read(&*opened[0], &paths[0])?, read(&*opened[1], &paths[1])?];
        Ok((Self { kind, store: store.unwrap_or(StoreId(0)), sequence: 0, paths, files: opened, mended: None }, found))
    }

    /// Reads both files again, which must hold what was written last. Gives how long that is.
    ///
    /// **Errors:** damage of either, or a failure of the machine.
    pub(super) fn check(&self) -> Result<u64, StorageError> {
        let mut bytes = 0;
        let mut first: Option<Slot> = None;
        for (file, path) in self.files.iter().zip(&self.paths) {
            file.evict().map_err(|error| StorageError::io("read", path, error))?;
            let slot = Slot::read(&**file, path, self.kind)?
                .map_err(|what| StorageError::damaged(path, 0, format!("it holds {what}")))?;
            if (slot.store, slot.sequence) != (self.store, self.sequence) || first.as_ref().is_some_and(|a| *a != slot)
            {
                return Err(StorageError::damaged(path, 0, "it holds another record than was written last"));
            }
            bytes += (HEADER_BYTES + slot.payload.len()) as u64;
            first = Some(slot);
        }
        Ok(bytes)
    }

    /// Whose record it is.
    pub(super) fn store(&self) -> StoreId {
        self.store
    }

    fn put(&self, place: usize, bytes: &[u8]) -> Result<(), StorageError> {
        self.files[place].write_at(0, bytes).map_err(|error| StorageError::io("write", &self.paths[place], error))
    }

    fn sync(&self, place: usize) -> Result<(), StorageError> {
        self.files[place].sync().map_err(|error| StorageError::io("sync", &self.paths[place], error))
    }

    fn next(&mut self, payload: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        Slot { store: self.store, sequence: self.sequence, payload: payload.to_vec() }.encode(self.kind)
    }

    /// Replaces the record; it is durable, twice, when this returns.
    pub(super) fn write(&mut self, payload: &[u8]) -> Result<(), StorageError> {
        let bytes = self.next(payload);
        for place in [0, 1] {
            self.put(place, &bytes)?;
            self.sync(place)?;
        }
        Ok(())
    }

    /// Replaces the older copy of the record, durable some time.
    pub(super) fn note(&mut self, payload: &[u8]) -> Result<(), StorageError> {
        let bytes = self.next(payload);
        self.put(usize::from(self.sequence.is_multiple_of(2)), &bytes)
    }

    /// Makes what was noted durable.
    pub(super) fn sync_both(&self) -> Result<(), StorageError> {
        self.sync(0)?;
        self.sync(1)
    }
}
