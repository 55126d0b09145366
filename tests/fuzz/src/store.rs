//! Data directories in memory, made anew for every input.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use heirloom_backup::Durable;
use heirloom_proto::time::Drift;
use heirloom_proto::{
    Answer, ClusterId, Constants, Effect, Entry, Epoch, Identity, LogIndex, Member, Origin, Record, Register, RunId,
    Sealed, ServerId, SessionId, Standing, StoreId, Version, View, VoterKind, WallTime,
};
use heirloom_server::storage::{DataDir, Files, PowerFailureFiles, StorageError, Store, raw};

pub(crate) const ME: ServerId = ServerId(0);
pub(crate) const STORE: StoreId = StoreId(0x5eed);
pub(crate) const CLUSTER: ClusterId = ClusterId { id: 77, generation: 3 };
/// What the header of a segment or a snapshot takes (docs/storage.md). What it says is shorter, and the rest says nothing.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Room for a few frames.
pub(crate) const SEGMENT_BYTES: u64 = 5120;

pub(crate) fn dir() -> &'static Path {
    Path::new("/data")
}

pub(crate) fn epoch(round: u64) -> Epoch {
    Epoch { round, server: ME, run: RunId(round) }
}

pub(crate) fn entry(index: u64, round: u64) -> Sealed {
    Sealed::new(Entry {
        index: LogIndex(index),
        epoch: epoch(round),
        version: Version(index),
        at: WallTime(0),
        effects: vec![Effect::Put { key: Bytes::from_static(b"key"), value: Bytes::from_static(&[b'v'; 40]) }],
        origin: None,
        answer: Answer::Added { existed: true },
    })
}

/// Entries with every effect and every answer.
pub(crate) fn entries_of_all_kinds() -> Vec<Sealed> {
    let (key, session) = (Bytes::from_static(b"k"), SessionId { opened_at: LogIndex(3), nonce: 9 });
    let origin = Some(Origin { session, sequence: 2, lowest_unanswered: 1 });
    let all = [
        (vec![], None, Answer::Nothing),
        (vec![Effect::Put { key: key.clone(), value: key.clone() }], origin, Answer::Added { existed: true }),
        (vec![Effect::Remove { key: key.clone() }], origin, Answer::Deleted { existed: true }),
        (vec![Effect::Count { prefix: key, number: 5 }], origin, Answer::Appended { number: 5 }),
        (vec![Effect::OpenSession(session)], None, Answer::SessionOpened(session)),
        (vec![Effect::RemoveSession(session)], None, Answer::SessionClosed),
        (vec![], origin, Answer::SessionExpired),
        (vec![], origin, Answer::NotMet { condition: 1, found: Some(Version(2)) }),
        (vec![], origin, Answer::NotMet { condition: 0, found: None }),
    ];
    let entry = |(index, (effects, origin, answer))| {
        Sealed::new(Entry { index, epoch: epoch(2), version: Version(4), at: WallTime(5), effects, origin, answer })
    };
    (1..).map(LogIndex).zip(all).map(entry).collect()
}

/// Registers of all shapes; the second is that of a data directory here.
pub(crate) fn registers() -> Vec<Register> {
    let member = |server, store| Member { server: ServerId(server), store: StoreId(store) };
    let view = View {
        epoch: epoch(2),
        primary: ME,
        in_sync: BTreeSet::from([member(0, STORE.0), member(1, 6)]),
        leaving: BTreeSet::from([member(1, 5), member(2, 7)]),
    };
    let alone = View { in_sync: BTreeSet::from([member(0, STORE.0)]), leaving: BTreeSet::new(), ..view };
    vec![
        Register::FRESH,
        Register { promised: epoch(3), accepted: Some(view), standing: Standing::Intact },
        Register { promised: epoch(2), accepted: Some(alone), standing: Standing::Amnesiac },
        Register::LOST,
    ]
}

pub(crate) fn constants() -> Constants {
    let mut constants = Constants::defaults(vec![VoterKind::Data, VoterKind::Data, VoterKind::Witness]);
    constants.drift = Drift(10_000);
    constants
}

pub(crate) fn identity() -> Identity {
    Identity {
        server: ME,
        store: STORE,
        cluster: Some((CLUSTER, constants())),
        enrolled: BTreeMap::from([(ME, STORE), (ServerId(1), StoreId(6))]),
        enrolment_open: true,
    }
}

/// The files of a data directory: what is in each, by its name below the store.
pub(crate) type Folder = BTreeMap<String, Vec<u8>>;

/// The files after these groups of changes to a new log, and perhaps a recovery that was begun.
pub(crate) fn written(groups: &[Vec<Record>], recovery: Option<(&Identity, &Register)>) -> Folder {
    let files = PowerFailureFiles::new();
    raw::format(&files, dir(), &identity(), Some(&registers()[1])).expect("memory does not fail");
    let mut data = open(&files).expect("just made");
    let (_, mut store) = data.load().expect("just made");
    raw::write(&mut store, groups).expect("memory does not fail");
    drop(store);
    if let Some((identity, register)) = recovery {
        raw::begin_recovery(&mut data, identity, register).expect("memory does not fail");
    }
    drop(data);
    read_back(&files)
}

/// What is in each file of the store.
pub(crate) fn read_back(files: &PowerFailureFiles) -> Folder {
    let read = |name: String| {
        let file = files.open(&path(&name)).expect("listed");
        let bytes = file.read_at(0, 1 << 20).expect("memory does not fail");
        (name, bytes)
    };
    let listed = files.list(&dir().join("store")).expect("just made");
    listed.into_iter().map(|listed| read(listed.name)).collect()
}

fn path(name: &str) -> PathBuf {
    dir().join("store").join(name)
}

/// A file system that holds this data directory.
pub(crate) fn laid_out(folder: &Folder) -> PowerFailureFiles {
    let files = PowerFailureFiles::new();
    files.create_dir(dir()).expect("memory does not fail");
    files.create_dir(&dir().join("store")).expect("memory does not fail");
    for (name, bytes) in folder {
        let file = files.create(&path(name)).expect("memory does not fail");
        file.write_at(0, bytes).expect("memory does not fail");
    }
    files
}

pub(crate) fn open(files: &PowerFailureFiles) -> Result<DataDir, StorageError> {
    let mut data = DataDir::open(Arc::new(files.clone()), dir(), ME)?;
    data.set_segment_bytes(SEGMENT_BYTES);
    Ok(data)
}

/// The file that begins with a header, of which what it says was left, without the rest of that.
pub(crate) fn unpacked(packed: &[u8], said_bytes: usize) -> Vec<u8> {
    let (said, behind) = packed.split_at(packed.len().min(said_bytes));
    let mut file = said.to_vec();
    if !behind.is_empty() {
        file.resize(HEADER_BYTES, 0);
        file.extend_from_slice(behind);
    }
    file
}

/// What is stored, where it is whole.
///
/// **Panics if** it is refused for a reason that bytes in the store do not give: memory does not fail.
pub(crate) fn load(data: &mut DataDir) -> Option<(Durable, Store)> {
    match data.load() {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            check_refusal(&error);
            None
        }
    }
}

/// **Panics if** the log does not go on from what was loaded, or it does not load again.
pub(crate) fn check_goes_on(data: &mut DataDir, durable: &Durable, mut store: Store) {
    let end = durable.log.last().map_or(durable.base.index(), Sealed::index);
    let next = entry(end.0 + 1, 9);
    raw::write(&mut store, &[vec![Record::Append(vec![next.clone()])]]).expect("the log goes on");
    drop(store);
    let (again, store) = data.load().expect("what was mended is whole");
    assert_eq!(again.base, durable.base);
    assert_eq!(again.log, [durable.log.as_slice(), &[next]].concat());
    assert_eq!(store.torn_bytes(), 0);
}

/// **Panics if** it is no refusal for what bytes in a store may say.
pub(crate) fn check_refusal(error: &StorageError) {
    match error {
        StorageError::Damaged(_) | StorageError::NewerFormat { .. } | StorageError::OtherServer { .. } => {}
        StorageError::Locked { .. }
        | StorageError::NotADirectory { .. }
        | StorageError::NoPermission { .. }
        | StorageError::Foreign { .. }
        | StorageError::NoStore { .. }
        | StorageError::Io { .. } => panic!("{error}"),
    }
}
