//! The log: what is cut, what is damage, and that it can be told apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_proto::{ChainHash, Effect, LogIndex, Sealed};

use super::super::frame::{self, Content, Head, Site};
use super::super::log::LogRecord;
use super::super::{Damage, DataDir, Files, PowerFailureFiles, StorageError};
use super::{ME, append, entry, indices, load, open, write};

const LOG: &str = "store/log-0000000000000001";
const FRAMES: u64 = 4096;

struct Dir(tempfile::TempDir);

impl Dir {
    /// A log of these records, each synced by itself.
    fn with(records: &[LogRecord]) -> Self {
        let dir = Self(tempfile::tempdir().expect("a folder"));
        let mut data = open(dir.0.path());
        data.set_segment_bytes(64 << 10);
        let (_, mut store) = data.load().expect("blank");
        write(&mut store, records);
        dir
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn log(&self) -> PathBuf {
        self.path().join(LOG)
    }

    fn forget_progress(&self) {
        for name in ["progress.a", "progress.b"] {
            fs::write(self.path().join("store").join(name), "lost").expect("written");
        }
    }

    /// Changes the bytes of the first segment.
    fn edit(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.log()).expect("there");
        change(&mut bytes);
        fs::write(self.log(), bytes).expect("written");
    }

    fn damage(&self) -> Damage {
        match open(self.path()).load() {
            Err(StorageError::Damaged(damage)) => damage,
            Err(error) => panic!("{error}"),
            Ok((durable, _)) => panic!("not noticed, and {} entries found", durable.log.len()),
        }
    }
}

/// Where each frame begins, and where the last one ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![4096];
    loop {
        let from = at[at.len() - 1];
        let Some(body) = bytes.get(from..).filter(|rest| rest.starts_with(b"HLFR")).and_then(|rest| rest.get(8..12))
        else {
            return at;
        };
        let body = u32::from_le_bytes(body.try_into().expect("four")) as usize;
        at.push(from + (72 + body).next_multiple_of(8));
    }
}

#[test]
fn appends_and_cuts_are_found_again() {
    let dir =
        Dir::with(&[append(1, 5), append(6, 9), LogRecord::Cut(LogIndex(7)), LogRecord::Append(vec![entry(8, 2, 10)])]);
    let (durable, _store) = load(dir.path());
    assert_eq!(indices(&durable), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(durable.log[7], entry(8, 2, 10));
}

#[test]
fn a_flipped_bit_in_the_middle_is_damage_also_where_the_progress_is_lost() {
    for forget in [false, true] {
        let dir = Dir::with(&[append(1, 2), append(3, 4), append(5, 6)]);
        if forget {
            dir.forget_progress();
        }
        let mut second = 0;
        dir.edit(|bytes| {
            second = frames(bytes)[1];
            bytes[second + 100] ^= 1;
        });
        let damage = dir.damage();
        assert_eq!((damage.file, damage.offset), (dir.log(), second as u64));
        assert!(damage.what.contains("frame 2 should be there"), "{}", damage.what);
    }
}

#[test]
fn every_byte_of_a_log_is_watched() {
    let files = PowerFailureFiles::new();
    let path = Path::new("/data");
    let mut dir = DataDir::open(Arc::new(files.clone()), path, ME).expect("formatted");
    dir.set_segment_bytes(16 << 10);
    let (_, mut store) = dir.load().expect("blank");
    write(&mut store, &[append(1, 2), append(3, 3)]);
    drop(store);
    let log = path.join(LOG);
    let whole = files.open(&log).and_then(|file| file.read_at(0, 16 << 10)).expect("there");
    let frames = frames(&whole);
    let mut padding = 0;
    for at in (0..72).chain(frames[0]..frames[2]) {
        files.rot(&log, at as u64);
        match dir.load() {
            Err(StorageError::Damaged(_)) => {}
            // The zeros that fill a frame up carry nothing; nor does a flipped bit in them harm.
            Ok((durable, _)) if indices(&durable) == [1, 2, 3] => padding += 1,
            other => panic!("byte {at}: {other:?}"),
        }
        files.rot(&log, at as u64);
    }
    assert!(padding <= 14, "{padding} bytes went unwatched");
}

#[test]
fn a_last_frame_that_is_gone_is_damage_where_the_progress_says_that_it_was_synced() {
    let dir = Dir::with(&[append(1, 2), append(3, 4)]);
    dir.edit(|bytes| {
        let from = frames(bytes)[1];
        bytes[from..].fill(0);
    });
    assert!(dir.damage().what.contains("frame 2 should be there, since frames up to 2 were synced"));
}

#[test]
fn a_torn_tail_is_cut_and_zeroed_and_the_log_goes_on_behind_it() {
    let dir = Dir::with(&[append(1, 2), append(3, 4)]);
    dir.forget_progress();
    let (mut from, mut to) = (0, 0);
    dir.edit(|bytes| {
        (from, to) = (frames(bytes)[1], frames(bytes)[2]);
        bytes[from + 80] ^= 1;
    });
    let (durable, mut store) = load(dir.path());
    assert_eq!(indices(&durable), [1, 2]);
    assert!(store.torn_bytes() > 0);
    assert!(fs::read(dir.log()).expect("there")[from..to].iter().all(|byte| *byte == 0), "the tail is still there");
    write(&mut store, &[append(3, 3)]);
    drop(store);
    let (durable, store) = load(dir.path());
    assert_eq!(indices(&durable), [1, 2, 3]);
    assert_eq!(store.torn_bytes(), 0);
}

#[test]
fn a_write_that_lost_its_first_frame_only_is_a_torn_tail() {
    let dir = Dir(tempfile::tempdir().expect("a folder"));
    let (_, mut store) = load(dir.path());
    write(&mut store, &[append(1, 2)]);
    // Two frames of one write: no sync lies between them.
    store.log.log.carry_out(&[append(3, 4), append(5, 6)]).expect("written");
    drop(store);
    dir.edit(|bytes| {
        let from = frames(bytes)[1];
        bytes[from..from + 72].fill(0);
    });
    assert_eq!(indices(&load(dir.path()).0), [1, 2]);
    // Nothing of the second frame may come back, though it was whole.
    assert_eq!(indices(&load(dir.path()).0), [1, 2]);
    let bytes = fs::read(dir.log()).expect("there");
    assert!(bytes[frames(&bytes)[1]..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_cut_below_what_was_confirmed_is_no_damage_when_what_follows_is_torn() {
    let dir = Dir::with(&[append(1, 9), LogRecord::Cut(LogIndex(4))]);
    // The progress says that 9 were confirmed; the frame behind the cut tears.
    let (_, mut store) = load(dir.path());
    store.log.log.carry_out(&[append(5, 6)]).expect("written");
    drop(store);
    dir.edit(|bytes| {
        let from = frames(bytes)[2];
        bytes[from + 90] ^= 1;
    });
    assert_eq!(indices(&load(dir.path()).0), [1, 2, 3, 4]);
}

#[test]
fn a_frame_in_another_place_is_no_frame() {
    let dir = Dir::with(&[append(1, 2), append(3, 4), append(5, 6)]);
    dir.forget_progress();
    dir.edit(|bytes| {
        let at = frames(bytes);
        let third = bytes[at[2]..at[3]].to_vec();
        bytes[at[1]..at[3]].fill(0);
        bytes[at[3]..at[3] + third.len()].copy_from_slice(&third);
    });
    // Were it taken for one, the hole before it would be damage.
    assert_eq!(indices(&load(dir.path()).0), [1, 2]);
}

#[test]
fn a_value_that_looks_like_a_later_frame_is_none() {
    let dir = Dir::with(&[append(1, 2)]);
    let (durable, mut store) = load(dir.path());
    let mut forged = Vec::new();
    let head = Head { content: Content::Cut { keep: LogIndex(0) }, sequence: 9, group: 9, chain: ChainHash::EMPTY };
    for offset in [0, FRAMES] {
        frame::encode(&mut forged, Site { store: durable.identity.store, segment: 1 }, offset, head, &[]);
    }
    let mut holder = entry(3, 1, 0).entry().clone();
    // At every alignment.
    holder.effects =
        (0..8).map(|shift| Effect::Put { key: vec![b'k'; shift + 1].into(), value: forged.clone().into() }).collect();
    store.log.log.carry_out(&[LogRecord::Append(vec![Sealed::new(holder)])]).expect("written");
    drop(store);
    // The entry that holds it tears.
    dir.edit(|bytes| {
        let from = frames(bytes)[1];
        bytes[from] ^= 1;
    });
    assert_eq!(indices(&load(dir.path()).0), [1, 2]);
}

#[test]
fn many_segments_are_read_as_one_log_and_a_missing_one_is_damage() {
    let dir = Dir(tempfile::tempdir().expect("a folder"));
    let mut data = open(dir.path());
    data.set_segment_bytes(8 << 10);
    let (_, mut store) = data.load().expect("blank");
    for index in 1..=60 {
        write(&mut store, &[LogRecord::Append(vec![entry(index, 1, 700)])]);
    }
    write(&mut store, &[LogRecord::Cut(LogIndex(50)), LogRecord::Append(vec![entry(51, 2, 700)])]);
    drop((store, data));
    assert_eq!(load(dir.path()).0.log.len(), 51);
    let segment = |number: u32| dir.path().join(format!("store/log-{number:016x}"));
    for number in [1, 5] {
        let bytes = fs::read(segment(number)).expect("there");
        fs::remove_file(segment(number)).expect("removed");
        assert_eq!(dir.damage().file, segment(number));
        // A hole in an earlier segment is damage without any further evidence: a later one exists.
        dir.forget_progress();
        let mut hole = bytes.clone();
        hole[FRAMES as usize..].fill(0);
        fs::write(segment(number), &hole).expect("written");
        let damage = dir.damage();
        assert_eq!((damage.file, damage.offset), (segment(number), FRAMES));
        // One in the place of another.
        fs::copy(segment(number + 1), segment(number)).expect("copied");
        assert_eq!(dir.damage().file, segment(number));
        fs::write(segment(number), bytes).expect("written");
    }
    assert_eq!(load(dir.path()).0.log.len(), 51);
}

#[test]
fn a_last_segment_that_is_gone_is_damage() {
    let dir = Dir(tempfile::tempdir().expect("a folder"));
    let mut data = open(dir.path());
    data.set_segment_bytes(8 << 10);
    let (_, mut store) = data.load().expect("blank");
    for index in 1..=8 {
        write(&mut store, &[LogRecord::Append(vec![entry(index, 1, 700)])]);
    }
    drop((store, data));
    fs::remove_file(dir.path().join("store/log-0000000000000002")).expect("removed");
    assert!(dir.damage().what.contains("were synced"));
}

#[test]
fn a_segment_that_ends_before_its_first_frame_is_damage() {
    let dir = Dir::with(&[]);
    for length in [FRAMES as usize - 1, 72] {
        dir.edit(|bytes| bytes.truncate(length));
        let damage = dir.damage();
        assert_eq!((damage.file, damage.offset), (dir.log(), length as u64));
    }
}

#[test]
fn a_log_that_ends_within_the_padding_of_its_last_frame_goes_on_behind_it() {
    let dir = Dir::with(&[append(1, 1)]);
    dir.edit(|bytes| {
        let end = frames(bytes)[1];
        assert_eq!(bytes[end - 4..end], [0; 4], "padding");
        bytes.truncate(end - 4);
    });
    let (durable, mut store) = load(dir.path());
    assert_eq!(indices(&durable), [1]);
    write(&mut store, &[append(2, 2)]);
    drop(store);
    assert_eq!(indices(&load(dir.path()).0), [1, 2]);
}

#[test]
fn a_store_without_any_segment_is_damage() {
    let dir = Dir::with(&[]);
    fs::remove_file(dir.log()).expect("removed");
    assert!(dir.damage().what.contains("the log is missing"));
}

#[test]
fn what_a_crash_left_of_making_a_segment_is_removed() {
    let dir = Dir::with(&[append(1, 2)]);
    let unfinished = dir.path().join("store/log-0000000000000002.new");
    fs::write(&unfinished, "half").expect("written");
    assert_eq!(indices(&load(dir.path()).0), [1, 2]);
    assert!(!unfinished.exists());
}

#[test]
fn an_entry_larger_than_a_segment_gets_a_segment_of_its_size() {
    let dir = Dir(tempfile::tempdir().expect("a folder"));
    let mut data = open(dir.path());
    data.set_segment_bytes(8 << 10);
    let (_, mut store) = data.load().expect("blank");
    let large = LogRecord::Append(vec![entry(1, 1, 10), entry(2, 1, 40_000), entry(3, 1, 10)]);
    let LogRecord::Append(expected) = large.clone() else { unreachable!() };
    let read_back = store.log.log.carry_out(&[large]).expect("written");
    assert_eq!(read_back, std::slice::from_ref(&expected));
    store.log.log.carry_out(&[append(4, 4)]).expect("written");
    drop((store, data));
    let (durable, _store) = load(dir.path());
    assert_eq!(durable.log[..3], expected);
    assert_eq!(durable.log.len(), 4);
}

#[test]
fn a_record_of_many_megabytes_is_parted_and_put_together() {
    let dir = Dir(tempfile::tempdir().expect("a folder"));
    let (_, mut store) = load(dir.path());
    let entries: Vec<_> = (1..=30).map(|index| entry(index, 1, 1 << 20)).collect();
    let read_back = store.log.log.carry_out(&[LogRecord::Append(entries.clone()), append(31, 31)]).expect("written");
    assert_eq!(read_back[0], entries);
    assert_eq!(read_back[1].len(), 1);
    assert_eq!(store.log.log.synced(), 6, "30 entries of 1 MiB in frames of up to 8 MiB, and one more frame");
    drop(store);
    assert_eq!(load(dir.path()).0.log.len(), 31);
}

#[test]
fn a_commit_index_beyond_the_log_is_damage() {
    let dir = Dir::with(&[append(1, 2)]);
    let (_, mut store) = load(dir.path());
    let reached = super::super::progress::Progress { confirmed: LogIndex(3), commit: LogIndex(3), synced: 1 };
    store.log.progress.note(&reached.encode()).expect("noted");
    drop(store);
    assert!(dir.damage().what.contains("3 entries were committed"));
}

#[test]
fn what_is_read_back_comes_from_the_file() {
    // The file loses the write, as a disk that lies would: without reading back nobody would know.
    let files = Arc::new(PowerFailureFiles::new());
    let path = Path::new("/data");
    let mut dir = DataDir::open(files.clone(), path, ME).expect("formatted");
    let (_, mut store) = dir.load().expect("blank");
    store.log.log.carry_out(&[append(1, 1)]).expect("written");
    files.lose_next_write();
    let error = store.log.log.carry_out(&[append(2, 2)]).expect_err("noticed");
    assert!(error.to_string().contains("right after the sync it holds no frame"), "{error}");
}
