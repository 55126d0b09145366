//! The bytes of a snapshot: what was changed, cut, doubled or swapped is refused.

use std::path::Path;

use heirloom_backup::State;
use xxhash_rust::xxh3::xxh3_64;

use super::super::format::{
    BODY_BYTES_MAX, HEADER_BYTES, Kind, PIECE_HEADER_BYTES, SnapshotHead, encode_end, encode_piece, seal,
};
use super::super::make::check_whole;
use super::super::reader::SnapshotReader;
use super::{CLUSTER, Live, PowerFailureFiles, StorageError};
use crate::storage::files::Files;

const FILE: &str = "/snapshot";

fn example(seed: u64) -> State {
    let mut live = Live::new(seed);
    live.append(120);
    live.apply(120);
    live.applied
}

/// The bytes of a snapshot in pieces of a few parts.
fn encoded(state: &State) -> Vec<u8> {
    let files = PowerFailureFiles::new();
    let path = Path::new(FILE);
    let length = super::super::write(&files, path, CLUSTER, state, 200).expect("written");
    let bytes = files.open(path).and_then(|file| file.read_at(0, 1 << 20)).expect("there");
    assert_eq!(bytes.len() as u64, length);
    bytes
}

fn read(bytes: &[u8]) -> Result<SnapshotHead, StorageError> {
    let files = PowerFailureFiles::new();
    files.create(Path::new(FILE)).and_then(|file| file.write_at(0, bytes)).expect("written");
    check_whole(SnapshotReader::open(&files, Path::new(FILE))?, &mut |_| ()).map(|whole| whole.head)
}

/// Where each piece begins, and where the last one ends.
fn pieces(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![HEADER_BYTES];
    while let Some(length) = bytes.get(at[at.len() - 1]..).and_then(|rest| rest.first_chunk::<4>()) {
        at.push(at[at.len() - 1] + PIECE_HEADER_BYTES + u32::from_le_bytes(*length) as usize);
    }
    at
}

fn refused(bytes: &[u8], what: &str) -> u64 {
    match read(bytes) {
        Err(StorageError::Damaged(damage)) => {
            assert_eq!(damage.file, Path::new(FILE));
            damage.offset
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_snapshot_is_read_as_it_was_written() {
    for seed in 0..20 {
        let state = example(seed);
        let bytes = encoded(&state);
        assert!(pieces(&bytes).len() > 5, "{}", pieces(&bytes).len());
        let files = PowerFailureFiles::new();
        files.create(Path::new(FILE)).and_then(|file| file.write_at(0, &bytes)).expect("written");
        let reader = SnapshotReader::open(&files, Path::new(FILE)).expect("a header");
        assert_eq!(reader.head(), SnapshotHead { cluster: CLUSTER, state: state.head() });
        let parts: Result<Vec<_>, _> = reader.collect();
        assert!(state.parts().eq(parts.expect("whole")));
    }
    assert_eq!(read(&encoded(&State::default())).expect("whole").state, State::default().head());
}

#[test]
fn every_flipped_bit_is_refused_with_the_place_of_its_piece() {
    let bytes = encoded(&example(1));
    let pieces = pieces(&bytes);
    for at in (0..105).chain(HEADER_BYTES..bytes.len()) {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let found = refused(&changed, &format!("bit {bit} of byte {at}"));
            let piece = pieces.iter().rfind(|piece| **piece <= at).copied().unwrap_or(0);
            assert_eq!(found, piece as u64, "bit {bit} of byte {at}");
        }
    }
    // What fills the header's block up carries nothing.
    for at in 105..HEADER_BYTES {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(read(&changed).is_ok(), "byte {at}");
    }
}

#[test]
fn every_cut_is_refused_and_so_is_what_stands_behind_the_end() {
    let bytes = encoded(&example(2));
    for length in (0..bytes.len()).filter(|length| length % 7 == 0 || *length > bytes.len() - 100) {
        refused(&bytes[..length], &format!("{length} of {} bytes", bytes.len()));
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(refused(&longer, "a byte more"), bytes.len() as u64);
    let twice = [&bytes[..], &bytes[HEADER_BYTES..]].concat();
    assert_eq!(refused(&twice, "all pieces twice"), bytes.len() as u64);
}

#[test]
fn pieces_that_are_missing_doubled_swapped_or_of_another_snapshot_are_refused() {
    let bytes = encoded(&example(3));
    let other = encoded(&example(4));
    let (at, at_other) = (pieces(&bytes), pieces(&other));
    let count = at.len() - 1;
    let piece = |number: usize| &bytes[at[number]..at[number + 1]];
    let with = |order: &[&[u8]]| [&[&bytes[..HEADER_BYTES]], order].concat().concat();
    for number in 0..count {
        let mut order: Vec<&[u8]> = (0..count).map(piece).collect();
        order.remove(number);
        assert_eq!(refused(&with(&order), "missing"), at[number] as u64);
        order.insert(number, piece(number));
        order.insert(number, piece(number));
        assert_eq!(refused(&with(&order), "doubled"), at[number + 1] as u64);
        order.remove(number);
        order[number] = &other[at_other[number]..at_other[number + 1]];
        assert_eq!(refused(&with(&order), "another's"), at[number] as u64);
        order[number] = piece(number);
        if number + 1 < count {
            order.swap(number, number + 1);
            assert_eq!(refused(&with(&order), "swapped"), at[number] as u64);
        }
    }
}

#[test]
fn a_newer_format_is_refused_by_its_name_and_a_rotten_one_is_damage() {
    let mut bytes = encoded(&example(5));
    bytes[8] = 2;
    assert_eq!(refused(&bytes, "rotten"), 0);
    let sum = xxh3_64(&bytes[..97]);
    bytes[97..105].copy_from_slice(&sum.to_le_bytes());
    match read(&bytes) {
        Err(StorageError::NewerFormat { file, found, known }) => {
            assert_eq!((file.as_path(), found, known), (Path::new(FILE), 2, 1));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_state_that_leaves_no_number_for_what_follows_it_is_refused() {
    for (field, at) in [("index", 32), ("round", 56), ("version", 73)] {
        for (number, is_refused) in [(u64::MAX, true), (1 << 63, true), ((1 << 63) - 1, false)] {
            let mut bytes = encoded(&example(10));
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            seal(&mut bytes);
            match is_refused {
                true => assert_eq!(refused(&bytes, field), 0),
                false => assert!(read(&bytes).is_ok(), "{field}"),
            }
        }
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_is_refused() {
    let bytes = encoded(&example(11));
    let files = PowerFailureFiles::new();
    let file = files.create(Path::new(FILE)).expect("created");
    file.write_at(0, &bytes[..bytes.len() - 1]).expect("written");
    let reader = SnapshotReader::open(&files, Path::new(FILE)).expect("a header");
    file.write_at(0, &bytes).expect("written");
    let error = check_whole(reader, &mut |_| ()).expect_err("refused").to_string();
    assert!(error.contains("it grew while it was read"), "{error}");
}

#[test]
fn a_piece_that_announces_too_much_is_refused_before_it_is_read() {
    let mut bytes = encoded(&example(6));
    let length = u32::try_from(BODY_BYTES_MAX + 1).expect("fits");
    bytes[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&length.to_le_bytes());
    let error = read(&bytes).expect_err("refused").to_string();
    assert!(error.contains("a piece that is too long"), "{error}");
}

#[test]
fn a_part_larger_than_a_piece_is_a_piece_of_its_own() {
    let bytes = encoded(&example(7));
    let at = pieces(&bytes);
    let lengths = at.windows(2).map(|two| two[1] - two[0]);
    assert!(lengths.max().expect("pieces") < 200 + 200 + PIECE_HEADER_BYTES, "pieces are bounded");
}

#[test]
fn an_end_mark_that_counts_otherwise_is_refused() {
    let state = example(8);
    let bytes = encoded(&state);
    let at = pieces(&bytes);
    let last = at.len() - 2;
    let (parts, before) = (state.parts().count() as u64, last as u64);
    let with = |parts: u64, pieces: u64| {
        let mut changed = bytes[..at[last]].to_vec();
        encode_piece(&mut changed, state.head().position, before, Kind::End, &encode_end(parts, pieces));
        changed
    };
    assert!(read(&with(parts, before)).is_ok());
    for (parts, pieces) in [(parts + 1, before), (parts - 1, before), (parts, before + 1), (parts, before - 1)] {
        assert_eq!(refused(&with(parts, pieces), "counted otherwise"), at[last] as u64);
    }
}

#[test]
fn parts_that_are_not_of_the_state_that_the_header_names_are_refused() {
    let state = example(9);
    let bytes = encoded(&state);
    let mut other = SnapshotHead { cluster: CLUSTER, state: state.head() };
    other.state.digest.0 ^= 1;
    let changed = [&other.encode()[..], &bytes[HEADER_BYTES..]].concat();
    assert!(read(&changed).expect_err("refused").to_string().contains("another digest"));
}
