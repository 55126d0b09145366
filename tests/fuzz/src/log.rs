//! The log on disk. Whatever a segment holds, what is loaded was the log at some time, and the log goes on from there.

use std::sync::LazyLock;

use heirloom_proto::{LogIndex, Record, Sealed};
use heirloom_server::storage::raw;

use crate::Target;
use crate::input::{Content, as_they_are};
use crate::store::{self, Folder, HEADER_BYTES, STORE};

/// The reader of the log.
///
/// An input's first byte says whether the note of how far the log was synced is lost (`PROGRESS_LOST`), whether
/// checksums are made right after the changes (`SEALED`), and whether the file ends there (`CUT_OFF`). The rest is
/// one segment, without what lies between its header and its frames.
pub const LOG: Target = Target { seeds, check };

const PROGRESS_LOST: u8 = 1;
const SEALED: u8 = 2;
const CUT_OFF: u8 = 4;
/// How much of its header says something.
const SAID_BYTES: usize = 72;
/// What is reserved behind the frames, unless it is cut off. **Units:** bytes.
const ZEROS: usize = 64;

/// A log, and all that was ever to be read in it.
struct Written {
    folder: Folder,
    states: Vec<Vec<Sealed>>,
}

impl Written {
    fn new(groups: &[Vec<Record>]) -> Self {
        let mut states = vec![Vec::new()];
        for record in groups.iter().flatten() {
            let mut log: Vec<Sealed> = states[states.len() - 1].clone();
            match record {
                Record::Append(entries) => log.extend_from_slice(entries),
                Record::Cut { keep } => log.truncate(usize::try_from(keep.0).expect("small")),
                Record::Register(_) | Record::Identity(_) => unreachable!("no change of the log"),
            }
            states.push(log);
        }
        Self { folder: store::written(groups, None), states }
    }
}

static LOGS: LazyLock<[Written; 3]> = LazyLock::new(|| {
    let append = |index| Record::Append(vec![store::entry(index, 1)]);
    let each_by_itself = (1..=3).map(|index| vec![append(index)]).collect::<Vec<_>>();
    let together = vec![vec![append(1)], (2..=4).map(append).collect()];
    let all_kinds = vec![Record::Append(store::entries_of_all_kinds())];
    let cut =
        [Record::Cut { keep: LogIndex(7) }, Record::Append((8..=10).map(|index| store::entry(index, 3)).collect())];
    let long = [
        vec![all_kinds],
        cut.map(|record| vec![record]).to_vec(),
        (11..=14).map(|index| vec![append(index)]).collect(),
    ];
    [Written::new(&each_by_itself), Written::new(&together), Written::new(&long.concat())]
});

/// Each segment of each log, packed, with the number of the log and the name of its file.
static SEGMENTS: LazyLock<Vec<(usize, String, Vec<u8>)>> = LazyLock::new(|| {
    let of = |(number, log): (usize, &'static Written)| {
        let segments = log.folder.iter().filter(|(name, _)| name.starts_with("log-"));
        segments.map(move |(name, bytes)| (number, name.clone(), packed(bytes)))
    };
    LOGS.iter().enumerate().flat_map(of).collect()
});

static EXAMPLES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| SEGMENTS.iter().map(|(_, _, packed)| packed.clone()).collect());

fn seeds() -> Vec<Vec<u8>> {
    EXAMPLES
        .iter()
        .flat_map(|example| {
            [PROGRESS_LOST, SEALED | CUT_OFF].map(|how| [&[how], as_they_are(example).as_slice()].concat())
        })
        .collect()
}

fn packed(segment: &[u8]) -> Vec<u8> {
    let end = segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    [&segment[..SAID_BYTES], segment.get(HEADER_BYTES..end).unwrap_or_default()].concat()
}

fn check(input: &[u8]) {
    let Some((how, input)) = input.split_first() else { return };
    let (progress_lost, sealed) = (how & PROGRESS_LOST != 0, how & SEALED != 0);
    let content = Content::of(input, &EXAMPLES);
    let (number, name, _) = &SEGMENTS[content.example.unwrap_or(0)];
    let log = &LOGS[*number];
    let mut segment = store::unpacked(&content.bytes, SAID_BYTES);
    if how & CUT_OFF == 0 {
        segment.extend_from_slice(&[0; ZEROS]);
    }
    if sealed {
        let number = u64::from_str_radix(name.trim_start_matches("log-"), 16).expect("a number");
        raw::seal_segment(&mut segment, STORE, number);
    }
    let mut folder = log.folder.clone();
    folder.insert(name.clone(), segment);
    if progress_lost {
        folder.retain(|name, _| !name.starts_with("progress"));
    }
    let files = store::laid_out(&folder);
    let mut data = store::open(&files).expect("a damaged log keeps no directory from being opened");
    let Some((durable, store)) = store::load(&mut data) else { return };
    let entries = &durable.log;
    assert!(entries.iter().map(Sealed::index).eq((1..).map(LogIndex).take(entries.len())), "entries follow each other");
    if !sealed {
        match content.example {
            Some(_) if !progress_lost => {
                assert_eq!(Some(entries), log.states.last(), "what is known to be synced is there, or damage");
            }
            // Bytes as they are may be any of the logs: the seeds are.
            Some(_) => assert!(log.states.contains(entries), "never written: {entries:?}"),
            None => assert!(LOGS.iter().any(|log| log.states.contains(entries)), "never written: {entries:?}"),
        }
    }
    store::check_goes_on(&mut data, &durable, store);
}
