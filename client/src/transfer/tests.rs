//! The lines of an export: what is written is read back, and nothing else is taken for it.

use bytes::Bytes;
use heirloom_proto::{ClusterId, Epoch, KeyRange, ServerId, Version, WallTime};

use super::import::{BATCH_KEYS_MAX, Batch, batches};
use super::reading::Record;
use super::{Damage, Header, Reading, Sum};
use crate::scan::ScanEntry;

const CLUSTER: ClusterId = ClusterId { id: 10, generation: 2 };

fn entry(key: &[u8], value: &[u8]) -> ScanEntry {
    ScanEntry {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        version: Version(7),
        changed_at: WallTime(1_790_000_000_000),
        server: ServerId(0),
        epoch: Epoch::NONE,
    }
}

fn header(range: KeyRange) -> Header {
    Header { cluster: CLUSTER, version: Version(8), range }
}

/// An export of these keys, in the order in which they are given.
fn export(range: KeyRange, entries: &[ScanEntry]) -> Vec<u8> {
    let (mut sum, mut lines) = (Sum::default(), Vec::new());
    sum.write_header(&header(range), &mut lines);
    for entry in entries {
        sum.write_key(entry, &mut lines);
    }
    sum.write_last(&mut lines);
    lines
}

fn read(lines: &[u8]) -> Result<Vec<Record>, Damage> {
    let mut reading = Reading::begin(lines)?;
    let mut records = Vec::new();
    while let Some(record) = reading.next()? {
        records.push(record);
    }
    Ok(records)
}

/// A small export of every kind of line.
fn small() -> Vec<u8> {
    let range = KeyRange { start: "a".into(), end: Some(Bytes::from_static(b"\xff\xff")) };
    export(range, &[entry(b"a", b""), entry(b"b\"\n", "wört".as_bytes()), entry(b"\xff\0", b"\0\xfe")])
}

/// The same with another text in one place.
fn changed(lines: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(lines.to_vec()).expect("JSON is text");
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to).into_bytes()
}

/// An export of other lines, with the sum that fits them.
fn summed(lines: &[&str]) -> Vec<u8> {
    let (mut sum, mut all) = (Sum::default(), Vec::new());
    for line in lines {
        all.extend_from_slice(line.as_bytes());
        all.push(b'\n');
        sum.take_line(&all[all.len() - line.len() - 1..]);
    }
    sum.keys = lines.len() as u64 - 1;
    sum.write_last(&mut all);
    all
}

const FIRST: &str =
    r#"{"format":"heirloom export","format_version":1,"cluster":"000000000000000a/2","version":8,"start":""}"#;

/// Why an export with this line is not taken.
fn why(line: &str) -> String {
    match read(&summed(&[FIRST, r#"{"key":"b","value":"","version":1,"changed_at_ms":1}"#, line])) {
        Err(Damage::Line { line: 3, why }) => why,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn keys_and_values_of_any_bytes_are_read_back_as_they_were() {
    let mut random = 1u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 56) as u8
    };
    let mut entries: Vec<ScanEntry> = (0..=255).map(|byte| entry(&[byte], &[byte, b'"', b'\\', b'\n', byte])).collect();
    for number in 0..200_u8 {
        let key = [&[number], &(0..1 + next() as usize * 16).map(|_| next()).collect::<Vec<u8>>()[..]].concat();
        let value: Vec<u8> = (0..next() as usize * 300).map(|_| next()).collect();
        entries.push(entry(&key, &value));
    }
    entries.push(entry(&[b'k'; 4_096], &vec![0; 100_000]));
    entries.push(entry("\u{2028}\u{feff}\u{10ffff}".as_bytes(), "\u{0}\u{7f}\r\n".as_bytes()));
    entries.sort_by(|one, other| one.key.cmp(&other.key));
    entries.dedup_by(|one, other| one.key == other.key);
    let lines = export(KeyRange::default(), &entries);
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), entries.len() + 2, "one line each");
    let mut reading = Reading::begin(&lines[..]).expect("whole");
    assert_eq!(*reading.header(), header(KeyRange::default()));
    for (line, entry) in (2..).zip(&entries) {
        let record = Record { key: entry.key.clone(), value: entry.value.clone(), line };
        assert_eq!(reading.next(), Ok(Some(record)));
    }
    assert_eq!(reading.next(), Ok(None));
    assert_eq!(reading.sum().keys, entries.len() as u64);
}

#[test]
fn the_first_line_names_cluster_version_and_range() {
    let lines = small();
    let reading = Reading::begin(&lines[..]).expect("whole");
    let range = KeyRange { start: "a".into(), end: Some(Bytes::from_static(b"\xff\xff")) };
    assert_eq!(*reading.header(), header(range));
    let first = lines.split(|byte| *byte == b'\n').next().expect("a line");
    let told = r#"{"format":"heirloom export","format_version":1,"cluster":"000000000000000a/2","version":8,"start":"a","end_base64":"//8="}"#;
    assert_eq!(std::str::from_utf8(first), Ok(told));
}

#[test]
fn the_checksum_is_that_of_all_bytes_before_the_last_line() {
    let lines = small();
    let text = String::from_utf8(lines).expect("JSON is text");
    let (before, last) = text.trim_end().rsplit_once('\n').expect("lines");
    let sum = xxhash_rust::xxh3::xxh3_128(format!("{before}\n").as_bytes());
    assert_eq!(last, format!(r#"{{"complete":true,"keys":3,"xxh3_128":"{sum:032x}"}}"#));
}

#[test]
fn the_example_that_the_documents_give_can_be_imported() {
    let page = include_str!("../../../docs/clients.md");
    let (_, rest) = page.split_once("```json\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let lines: Vec<&str> = example.lines().collect();
    let (last, before) = lines.split_last().expect("lines");
    let whole = String::from_utf8(summed(before)).expect("text");
    assert_eq!(whole.lines().last(), Some(*last));
    let records = read(example.as_bytes()).expect("whole");
    assert_eq!((&records[0].key[..], &records[1].key[..]), (&b"a"[..], &b"\xff"[..]));
    assert_eq!((&records[0].value[..], &records[1].value[..]), (&b"first"[..], &b"\xff\0"[..]));
}

#[test]
fn no_byte_can_be_changed_unseen() {
    let lines = small();
    assert_eq!(read(&lines).map(|records| records.len()), Ok(3));
    for place in 0..lines.len() {
        for bit in 0..8 {
            let mut damaged = lines.clone();
            damaged[place] ^= 1 << bit;
            let found = read(&damaged);
            assert!(found.is_err(), "bit {bit} of byte {place}: {found:?}");
        }
    }
}

#[test]
fn no_line_can_be_lost_doubled_or_moved_unseen() {
    let text = String::from_utf8(small()).expect("JSON is text");
    let lines: Vec<&str> = text.lines().collect();
    let read = |lines: &[&str]| read((lines.join("\n") + "\n").as_bytes());
    let [first, a, b, c, last] = lines[..] else { panic!("{lines:?}") };
    assert_eq!(read(&[first, a, c, last]), Err(Damage::Keys { told: 3, found: 2 }));
    for moved in [&[first, a, a, b, c, last], &[first, b, a, b, c, last]] {
        assert!(matches!(read(moved), Err(Damage::Line { line: 3 | 4, .. })), "{moved:?}");
    }
    assert_eq!(read(&[first, a, b, c, last, last]), Err(Damage::More));
    assert_eq!(read(&[a, b, c, last]), Err(Damage::NoExport));
}

#[test]
fn whatever_is_cut_off_is_not_whole_and_says_where_it_ends() {
    let lines = small();
    for bytes in 0..lines.len() {
        let whole = lines[..bytes].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(read(&lines[..bytes]), Err(Damage::CutOff { lines: whole }), "{bytes} bytes");
    }
}

#[test]
fn a_count_or_a_checksum_that_is_wrong_is_said() {
    let lines = small();
    let wrong = read(&changed(&lines, r#""keys":3"#, r#""keys":4"#));
    assert_eq!(wrong, Err(Damage::Keys { told: 4, found: 3 }));
    assert_eq!(read(&changed(&lines, "wört", "wert")), Err(Damage::Checksum));
    let without = summed(&[FIRST]);
    assert_eq!(read(&without), Ok(Vec::new()), "no keys are an export too");
    let end = changed(&without, r#""complete":true"#, r#""complete":false"#);
    assert!(matches!(read(&end), Err(Damage::Line { line: 2, .. })));
}

#[test]
fn a_newer_form_is_refused_by_name_whatever_else_it_says() {
    let newer = Damage::Newer { format_version: 2 };
    assert_eq!(read(&changed(&small(), r#""format_version":1"#, r#""format_version":2"#)), Err(newer.clone()));
    assert_eq!(read(br#"{"format":"heirloom export","format_version":2,"compressed":"zstd"}"#), Err(newer.clone()));
    assert!(newer.to_string().contains("format 2, which a newer heirloom writes"), "{newer}");
    for other in ["", "\n", "PK\u{3}\u{4}", "{}\n", "[]\n", r#"{"format":"something else","format_version":1}"#] {
        let empty = Damage::CutOff { lines: 0 };
        assert_eq!(read(other.as_bytes()), Err(if other.is_empty() { empty } else { Damage::NoExport }), "{other}");
    }
}

#[test]
fn a_line_that_is_wrong_is_named_with_what_is_wrong() {
    let rest = r#""version":1,"changed_at_ms":1"#;
    let line = |fields: &str| why(&format!("{{{fields},{rest}}}"));
    assert!(line(r#""value":"v""#).contains("no key"));
    assert!(line(r#""key":"c""#).contains("no value"));
    assert!(line(r#""key":"c","key_base64":"Yw==","value":"v""#).contains("base64 for it too"));
    assert!(line(r#""key_base64":"Yw=","value":"v""#).contains("should be base64"));
    assert!(line(r#""key":"","value":"v""#).contains("0 bytes"));
    assert!(line(&format!(r#""key":"{}","value":"v""#, "k".repeat(4_097))).contains("4097 bytes"));
    assert!(line(r#""key":"b","value":"v""#).contains("does not come after"));
    assert!(line(r#""key":7,"value":"v""#).contains("invalid type"));
    assert!(why(r#"{"key":"c","value":"v","version":9,"changed_at_ms":1}"#).contains("version 9 is newer"));
    assert!(why(r#"{"key":"c","value":"v","version":1}"#).contains("changed_at_ms"));
    let garbage = why("garbage");
    assert!(garbage.contains("column 1") && !garbage.contains("line"), "{garbage}");
    let last_key = r#"{"key":"c","value":"v","version":1,"changed_at_ms":1}"#;
    let elsewhere = read(&summed(&[&changed_text(FIRST, r#""start":"""#, r#""start":"d""#), last_key]));
    assert!(matches!(elsewhere, Err(Damage::Line { line: 2, .. })), "{elsewhere:?}");
}

fn changed_text(text: &str, from: &str, to: &str) -> String {
    String::from_utf8(changed(text.as_bytes(), from, to)).expect("text")
}

#[test]
fn fields_that_are_not_known_are_passed_over() {
    let first = changed_text(FIRST, r#""start""#, r#""by":"hand","start""#);
    let key = r#"{"key":"c","value":"v","version":1,"changed_at_ms":1,"colour":"red"}"#;
    assert_eq!(read(&summed(&[&first, key])).map(|records| records.len()), Ok(1));
}

fn batched(lines: &[u8], from_line: u64) -> Vec<Batch> {
    let mut all = Vec::new();
    batches(lines, from_line, |batch| {
        all.push(batch);
        true
    })
    .expect("whole");
    all
}

#[test]
fn batches_are_bounded_by_count_and_bytes_and_know_their_lines() {
    let keys: Vec<ScanEntry> = (0..600).map(|number| entry(format!("{number:04}").as_bytes(), b"v")).collect();
    let lines = export(KeyRange::default(), &keys);
    let places = |from_line| {
        let batches = batched(&lines, from_line);
        batches.iter().map(|batch| (batch.first_line, batch.next_line, batch.keys.len())).collect::<Vec<_>>()
    };
    assert_eq!(BATCH_KEYS_MAX, 256);
    assert_eq!(places(2), [(2, 258, 256), (258, 514, 256), (514, 602, 88)]);
    assert_eq!(places(300), [(300, 556, 256), (556, 602, 46)]);
    assert_eq!(places(602), []);
    let large: Vec<ScanEntry> =
        [100, 100, 100, 300, 1].iter().zip(0..).map(|(kib, key)| entry(&[key], &vec![b'v'; kib << 10])).collect();
    let batches = batched(&export(KeyRange::default(), &large), 2);
    let counts: Vec<usize> = batches.iter().map(|batch| batch.keys.len()).collect();
    assert_eq!(counts, [2, 1, 1, 1]);
}

#[test]
fn nobody_reads_on_for_whom_nobody_waits() {
    let keys: Vec<ScanEntry> = (0..600).map(|number| entry(format!("{number:04}").as_bytes(), b"v")).collect();
    let mut told = 0;
    let read = batches(&export(KeyRange::default(), &keys)[..], 2, |_| {
        told += 1;
        false
    });
    assert!(read.is_ok());
    assert_eq!(told, 1);
}
