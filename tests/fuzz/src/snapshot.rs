//! Snapshots. Whatever the file of one holds, a start, the receiver of a transfer and `snapshot restore` judge it alike, and
//! what they believe is what it says.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use heirloom_backup::{Part, State, StateBuilder};
use heirloom_proto::codec::{Reader, Writer};
use heirloom_proto::entry::write_epoch;
use heirloom_proto::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use heirloom_proto::{Answer, Digest, Effect, Entry, LogIndex, Origin, Record, Sealed, SessionId, Version, WallTime};
use heirloom_server::storage::{Files, PowerFailureFiles, RestoreError, RestoreFrom, StorageError, raw};

use crate::Target;
use crate::input::{Content, as_they_are};
use crate::store::{self, CLUSTER, Folder, HEADER_BYTES, ME, SEGMENT_BYTES};

/// The readers of a snapshot: of a start, of what was fetched from another server, and of a file to restore from.
///
/// An input's first byte says whether the checksums are made right after the changes (`SEALED`), before them the digest and
/// the counts of the end mark (`RECOUNTED`), and under which name a start finds the file; the second byte where its
/// transfer is interrupted. The rest is the file, without what lies between its header and its pieces.
pub const SNAPSHOT: Target = Target { seeds, check };

const SEALED: u8 = 1;
const RECOUNTED: u8 = 2;
/// The name of a higher index, of a lower one, or one that no snapshot has; the right file has the right name then.
const HIGHER: u8 = 4;
const LOWER: u8 = 8;
const ODD: u8 = HIGHER | LOWER;

/// How much of its header says something, and in it the index, the digest and the checksum (docs/storage.md).
const SAID_BYTES: usize = 105;
const CLUSTER_AT: usize = 16;
const INDEX_AT: usize = 32;
const DIGEST_AT: usize = 81;
const SUM_AT: usize = 97;
const PIECE_HEADER_BYTES: usize = 24;
/// The kinds of pieces.
const PARTS: [u8; 4] = [1, 0, 0, 0];
const END: [u8; 4] = [2, 0, 0, 0];
/// No reader asks for more at a time, whatever a file announces: a piece, of 64 KiB and one part more.
const READ_BYTES_MAX: usize = (64 << 10) + KEY_BYTES_MAX + VALUE_BYTES_MAX_MAX + 128;

/// A snapshot with the log that it is of.
struct Written {
    /// A store that holds the log, and no snapshot.
    folder: Folder,
    state: State,
    /// The entry of the log that the snapshot does not hold.
    behind: Sealed,
    file: Vec<u8>,
}

impl Written {
    /// Of all entries but the last one.
    fn new(mut log: Vec<Sealed>, piece_bytes: usize) -> Self {
        let folder = store::written(&[vec![Record::Append(log.clone())]], None);
        let behind = log.pop().expect("an entry behind it");
        let mut state = State::default();
        log.iter().for_each(|entry| state.apply(entry, entry.extend(state.head().position.hash)));
        // What was there before the snapshot is not known behind it.
        let mut builder = StateBuilder::new(state.head());
        state.parts().for_each(|part| builder.push(part).expect("its own"));
        let state = builder.finish().expect("its own");
        let (files, path) = (PowerFailureFiles::new(), Path::new("/snapshot"));
        raw::write_snapshot(&files, path, CLUSTER, &state, piece_bytes).expect("memory does not fail");
        let file = files.open(path).and_then(|file| file.read_at(0, 1 << 20)).expect("memory does not fail");
        Self { folder, state, behind, file }
    }

    fn index(&self) -> u64 {
        self.state.index().0
    }
}

/// A log that gives a state with some of every part.
fn log_of_all_parts() -> Vec<Sealed> {
    let [first, second] =
        [(1, 9), (2, 8)].map(|(opened_at, nonce)| SessionId { opened_at: LogIndex(opened_at), nonce });
    let put = |key| Effect::Put { key: Bytes::from_static(key), value: Bytes::from_static(b"value") };
    let count = Effect::Count { prefix: Bytes::from_static(b"q"), number: 1 };
    let remove = Effect::Remove { key: Bytes::from_static(b"b") };
    let of = |session, sequence| Some(Origin { session, sequence, lowest_unanswered: 1 });
    let mut version = Version(0);
    let all = [
        (vec![Effect::OpenSession(first)], None, Answer::SessionOpened(first)),
        (vec![Effect::OpenSession(second)], None, Answer::SessionOpened(second)),
        (vec![put(b"a")], of(first, 1), Answer::Added { existed: false }),
        (vec![], of(first, 2), Answer::NotMet { condition: 1, found: Some(Version(1)) }),
        (vec![count, put(b"q1")], of(second, 1), Answer::Appended { number: 1 }),
        (vec![put(b"b")], None, Answer::Added { existed: false }),
        (vec![remove], of(second, 3), Answer::Deleted { existed: true }),
    ];
    let entry = |(index, (effects, origin, answer))| {
        let epoch = store::epoch(2);
        let mut entry = Entry { index, epoch, version, at: WallTime(index.0), effects, origin, answer };
        if entry.changes_keys() {
            version = version.next();
        }
        entry.version = version;
        Sealed::new(entry)
    };
    (1..).map(LogIndex).zip(all).map(entry).collect()
}

static WRITTEN: LazyLock<[Written; 3]> = LazyLock::new(|| {
    let short = (1..=3).map(|index| store::entry(index, 1)).collect();
    [Written::new(short, 1), Written::new(log_of_all_parts(), 60), Written::new(log_of_all_parts(), 4 << 10)]
});

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let packed = |file: &[u8]| [&file[..SAID_BYTES], &file[HEADER_BYTES..]].concat();
    WRITTEN.iter().map(|written| packed(&written.file)).collect()
});

/// A member of a cluster whose log is empty.
static BEHIND: LazyLock<Folder> = LazyLock::new(|| store::written(&[], None));

fn seeds() -> Vec<Vec<u8>> {
    let seed = |example: usize, how| [&[how, 128], as_they_are(&EXAMPLES[example]).as_slice()].concat();
    let all = (0..EXAMPLES.len()).flat_map(|example| [0, SEALED, SEALED | RECOUNTED].map(|how| seed(example, how)));
    all.chain([HIGHER, LOWER, ODD].map(|name| seed(0, name))).collect()
}

/// Where each whole piece of a snapshot stands.
fn pieces(file: &[u8]) -> Vec<Range<usize>> {
    let (mut pieces, mut at) = (Vec::new(), HEADER_BYTES);
    while let Some(length) = file.get(at..).and_then(|rest| rest.first_chunk()) {
        let end = at + PIECE_HEADER_BYTES + u32::from_le_bytes(*length) as usize;
        if end > file.len() {
            break;
        }
        pieces.push(at..end);
        at = end;
    }
    pieces
}

/// Lets digest and counts be of the parts that can be read.
fn recount(file: &mut [u8]) {
    let (mut digest, mut parts) = (Digest::default(), 0_u64);
    for (number, piece) in (0_u64..).zip(pieces(file)) {
        let (header, body) = file[piece].split_at_mut(PIECE_HEADER_BYTES);
        if let ([of_parts, of_pieces], true) = (body.as_chunks_mut::<8>().0, header[4..8] == END) {
            (*of_parts, *of_pieces) = (parts.to_le_bytes(), number.to_le_bytes());
            break;
        }
        let mut reader = Reader::new(Bytes::copy_from_slice(body));
        while let Ok(part) = Part::read(&mut reader) {
            digest.add(&part.digested());
            parts += 1;
        }
    }
    if let Some(said) = file.get_mut(DIGEST_AT..SUM_AT) {
        said.copy_from_slice(&digest.0.to_le_bytes());
    }
}

fn number_at(file: &[u8], at: usize) -> u64 {
    file.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    offset: u64,
    what: String,
}

impl Refused {
    /// **Panics if** it is no refusal of this file, or of a place that it does not have.
    fn of(error: &StorageError, path: &Path, bytes: &[u8]) -> Self {
        if let StorageError::NewerFormat { file, found, known } = &error {
            assert!(file == path && found > known, "{error}");
            return Self { offset: 0, what: format!("format {found}") };
        }
        let StorageError::Damaged(damage) = &error else { panic!("{error}") };
        assert_eq!(damage.file, path, "{error}");
        assert!(damage.offset <= bytes.len() as u64, "{error}");
        Self { offset: damage.offset, what: damage.what.clone() }
    }
}

type Read = Result<State, Refused>;

fn check(input: &[u8]) {
    let Some(([how, interrupted], input)) = input.split_first_chunk() else { return };
    let content = Content::of(input, &EXAMPLES);
    let mut bytes = store::unpacked(&content.bytes, SAID_BYTES);
    if how & RECOUNTED != 0 {
        recount(&mut bytes);
    }
    if how & SEALED != 0 {
        raw::seal_snapshot(&mut bytes);
    }
    let of_this_index = || WRITTEN.iter().position(|written| written.index() == number_at(&bytes, INDEX_AT));
    let written = &WRITTEN[content.example.or_else(of_this_index).unwrap_or(0)];
    let read = restored(&bytes);
    if let Ok(state) = &read {
        check_says(&bytes, state);
    }
    if how & SEALED == 0 {
        check_written(written, &bytes, &read, content.example.is_some());
    }
    check_fetched(&bytes, bytes.len() * usize::from(*interrupted) / 255, &read);
    check_started(written, how & ODD, &bytes, &read);
}

/// **Panics if** this state is not what the file says: written again, in pieces of the same lengths, it is the same bytes.
fn check_says(bytes: &[u8], state: &State) {
    let head = state.head();
    let mut again = Writer::new();
    again.u64(u64::from_le_bytes(*b"HEIRLSNP")).u32(1).u32(number_at(bytes, 12) as u32);
    again.u64(number_at(bytes, CLUSTER_AT)).u64(number_at(bytes, CLUSTER_AT + 8));
    write_epoch(again.u64(head.position.index.0).u128(head.position.hash.0), head.epoch);
    again.u64(head.version.0).u128(head.digest.0);
    let mut again = again.finish();
    again.resize(HEADER_BYTES, 0);

    let (mut parts, mut digest) = (Writer::new(), Digest::default());
    for part in state.parts() {
        part.write(&mut parts);
        digest.add(&part.digested());
    }
    assert_eq!(digest, head.digest);
    let mut piece = |kind: &[u8], number: u64, body: &[u8]| {
        let length = u32::try_from(body.len()).expect("small").to_le_bytes();
        again.extend([&length[..], kind, &number.to_le_bytes(), &[0; 8], body].concat());
    };
    let (mut bodies, mut number) = (parts.as_slice(), 0);
    for at in pieces(bytes) {
        // The last one is the end mark, before which no part is left.
        let Some((body, rest)) = bodies.split_at_checked(at.len() - PIECE_HEADER_BYTES) else { break };
        piece(&PARTS, number, body);
        (bodies, number) = (rest, number + 1);
    }
    assert!(bodies.is_empty(), "{} bytes of parts beside the pieces", bodies.len());
    piece(&END, number, [state.parts().count() as u64, number].map(u64::to_le_bytes).as_flattened());
    raw::seal_snapshot(&mut again);
    assert_eq!(again, bytes);
}

/// **Panics if** bytes whose checksums nobody has made right are taken for what was never written, or refused where they
/// are; or, where it is known of which file they are, another piece is blamed than the first that differs.
fn check_written(written: &Written, bytes: &[u8], read: &Read, is_of_it: bool) {
    match read {
        Ok(state) if is_of_it => assert_eq!((bytes, state), (written.file.as_slice(), &written.state)),
        Ok(state) => assert!(WRITTEN.iter().any(|written| written.state == *state), "never written: {state:?}"),
        Err(refused) => {
            assert!(WRITTEN.iter().all(|written| written.file != bytes), "{refused:?}");
            if is_of_it {
                let differs = written.file.iter().zip(bytes).take_while(|(one, other)| one == other).count() as u64;
                let starts = pieces(&written.file).into_iter().map(|piece| piece.start as u64);
                let places = starts.chain([written.file.len() as u64]).filter(|start| *start <= differs);
                assert_eq!(refused.offset, places.max().unwrap_or(0), "{refused:?}, and byte {differs} differs");
            }
        }
    }
    if is_of_it && bytes.len() <= written.file.len() {
        // What an earlier transfer left, rotten or torn: the rest of the right snapshot makes it whole.
        let files = store::laid_out(&BEHIND);
        put(&files, &store::dir().join("fetched"), bytes);
        let place = store::open(&files).expect("whole").fetch_place();
        let mut fetched = place.open(CLUSTER).expect("what is there is of use or not");
        fetched.write(&written.file[fetched.offset() as usize..]).expect("the right header");
        assert_eq!(fetched.finish().expect("it is right now"), written.state.head());
    }
}

fn put(files: &PowerFailureFiles, path: &Path, bytes: &[u8]) {
    files.create(path).and_then(|file| file.write_at(0, bytes)).expect("memory does not fail");
}

fn check_memory(files: &PowerFailureFiles) {
    assert!(files.read_bytes_max() <= READ_BYTES_MAX, "{} bytes at a time", files.read_bytes_max());
}

/// What `heirloom snapshot restore` makes of the file.
fn restored(bytes: &[u8]) -> Read {
    let (files, path) = (PowerFailureFiles::new(), Path::new("/saved"));
    put(&files, path, bytes);
    let shared: Arc<dyn Files> = Arc::new(files.clone());
    let from = RestoreFrom { file: files.open(path).expect("just made"), path: path.to_owned() };
    let restored = raw::restore(&shared, from, store::dir(), (ME, &store::constants()), SEGMENT_BYTES);
    check_memory(&files);
    match restored {
        Ok(restored) => {
            let mut data = store::open(&files).expect("just made");
            let (durable, store) = data.load().expect("just made");
            let keys = durable.base.dictionary().len() as u64;
            assert_eq!(restored.whole.head.state, durable.base.head());
            assert_eq!((restored.whole.keys, restored.whole.bytes), (keys, bytes.len() as u64));
            assert_eq!(durable.log.iter().map(Sealed::index).collect::<Vec<_>>(), [restored.log_end]);
            assert!(restored.epoch > durable.base.head().epoch);
            store::check_goes_on(&mut data, &durable, store);
            Ok(durable.base)
        }
        Err(RestoreError::Storage(error)) => {
            assert!(files.list(store::dir()).is_err(), "nothing is made of a file that is refused");
            Err(Refused::of(&error, path, bytes))
        }
        Err(error @ (RestoreError::NotBlank { .. } | RestoreError::Witness { .. })) => panic!("{error}"),
    }
}

/// **Panics if** a server that fetches these bytes, in two parts, takes them for anything else than `read`.
fn check_fetched(bytes: &[u8], interrupted_at: usize, read: &Read) {
    let files = store::laid_out(&BEHIND);
    let mut data = store::open(&files).expect("whole");
    let place = data.fetch_place();
    let fetch = || {
        let mut fetched = place.open(CLUSTER)?;
        fetched.write(&bytes[..interrupted_at])?;
        drop(fetched);
        let mut fetched = place.open(CLUSTER)?;
        assert!(fetched.offset() <= interrupted_at as u64);
        fetched.write(&bytes[fetched.offset() as usize..])?;
        fetched.finish()
    };
    let fetched = fetch();
    check_memory(&files);
    let path = store::dir().join("fetched");
    match fetched {
        Ok(head) => {
            data.install(&head).expect("it was checked");
            let (durable, store) = data.load().expect("it was checked");
            assert_eq!((head, Ok(&durable.base)), (durable.base.head(), read.as_ref()));
            assert!(durable.log.is_empty());
            store::check_goes_on(&mut data, &durable, store);
        }
        Err(error) => {
            let refused = Refused::of(&error, &path, bytes);
            let is_ours = (number_at(bytes, CLUSTER_AT), number_at(bytes, CLUSTER_AT + 8) as u32)
                == (CLUSTER.id, CLUSTER.generation);
            match read {
                Err(read) if is_ours || read.offset == 0 => assert_eq!(refused, *read),
                _ => assert!(!is_ours && refused.what.starts_with("it is a snapshot of"), "{refused:?}"),
            }
        }
    }
}

/// **Panics if** a start takes these bytes, under the name that `how` says, for anything else than `read`.
fn check_started(written: &Written, how: u8, bytes: &[u8], read: &Read) {
    let name = |index: u64| format!("snapshot-{index:016x}");
    let (index, right) = (written.index(), written.file.clone());
    let (named, is_asked) = match how {
        HIGHER => (name(index + 1), true),
        LOWER => (name(index - 1), false),
        ODD => (format!("snapshot-{:x}", index + 1), false),
        _ => (name(index), true),
    };
    let mut folder = written.folder.clone();
    folder.insert(name(index), right);
    folder.insert(named.clone(), bytes.to_vec());
    let files = store::laid_out(&folder);
    let mut data = store::open(&files).expect("a damaged snapshot keeps no directory from being opened");
    let loaded = data.load();
    check_memory(&files);
    match loaded {
        Ok((durable, store)) => {
            let expected = if is_asked { read.as_ref() } else { Ok(&written.state) };
            assert_eq!((Ok(&durable.base), durable.log.as_slice()), (expected, &[written.behind.clone()][..]));
            assert_eq!(store::read_back(&files).contains_key(&named), how != LOWER, "what is not needed is removed");
            store::check_goes_on(&mut data, &durable, store);
        }
        Err(error) => {
            assert!(is_asked, "{error}");
            let path = store::dir().join("store").join(&named);
            let (wanted, found) = (if how == HIGHER { index + 1 } else { index }, number_at(bytes, INDEX_AT));
            let expected = match read {
                Err(refused) if refused.offset == 0 => refused.clone(),
                _ if found != wanted => Refused { offset: 0, what: format!("it is the snapshot of entry {found}") },
                Err(refused) => refused.clone(),
                Ok(state) => {
                    assert_ne!(state.head().position, written.state.head().position, "{error}");
                    return store::check_refusal(&error);
                }
            };
            assert_eq!(Refused::of(&error, &path, bytes), expected);
        }
    }
}
