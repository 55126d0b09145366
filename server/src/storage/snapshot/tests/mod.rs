//! What a snapshot is made of, what it stands for, and what faults and crashes do to it.

mod format;
mod installing;
mod making;
mod power;
mod threads;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use heirloom_backup::{Durable, State, StateHead};
use heirloom_proto::{Answer, Effect, Entry, LogIndex, Origin, Position, Sealed, SessionId, WallTime};

use super::make::{Bounds, Undone};
use super::worker::{Asked, Others, SnapshotReport, Worker};
use crate::storage::data_dir::{DataDir, Store, VoteStore};
use crate::storage::error::{Damage, StorageError};
use crate::storage::identity::{encode_identity, encode_register};
use crate::storage::log::{Log, LogRecord};
use crate::storage::medium::Random;
use crate::storage::power_failure::PowerFailureFiles;
use crate::storage::progress::Progress;
use crate::storage::queue::Queue;
use crate::storage::tests::{CLUSTER, ME, epoch, in_cluster, register};

/// Pieces of few parts.
const SMALL: Bounds = Bounds { piece_bytes: 300, changes_bytes_max: 1 << 20 };

/// A copy as the node keeps it, which is given random entries of all kinds: what is on disk must give the same.
#[derive(Clone)]
struct Live {
    random: Random,
    applied: State,
    /// What the log holds behind that, and the state with it.
    tail: Vec<Sealed>,
    tip: State,
    round: u64,
}

fn extend(state: &mut State, sealed: &Sealed) {
    state.apply(sealed, sealed.extend(state.head().position.hash));
}

impl Live {
    fn new(seed: u64) -> Self {
        let state = State::default();
        Self { random: Random(seed), applied: state.clone(), tail: Vec::new(), tip: state, round: 1 }
    }

    fn effect(&mut self, index: LogIndex) -> Option<Effect> {
        let key = Bytes::from(format!("key {}", self.random.below(30)));
        let dictionary = self.tip.dictionary();
        Some(match self.random.below(9) {
            0 => Effect::OpenSession(SessionId { opened_at: index, nonce: self.random.next() }),
            1 => Effect::RemoveSession(self.tip.sessions().by_idleness().next()?.0),
            2 => Effect::Count { number: dictionary.appended(&key) + 1, prefix: key },
            3 | 4 => {
                dictionary.read(&key)?;
                Effect::Remove { key }
            }
            _ => Effect::Put { key, value: vec![b'v'; self.random.below(150) as usize].into() },
        })
    }

    fn entry(&mut self) -> Sealed {
        let (head, index) = (self.tip.head(), self.tip.index().next());
        let effects: Vec<Effect> = self.effect(index).into_iter().collect();
        // Who opens a session has none yet.
        let opens = effects.iter().any(|effect| matches!(effect, Effect::OpenSession(_)));
        let session = self.tip.sessions().by_idleness().last().map(|(session, _)| session).filter(|_| !opens);
        let origin = session.filter(|_| self.random.below(2) == 0).map(|session| {
            let seen = self.tip.sessions().lowest_unanswered(session).expect("open");
            let lowest_unanswered = seen.max(index.0.saturating_sub(self.random.below(9)));
            Origin { session, sequence: index.0, lowest_unanswered }
        });
        let answer = if origin.is_some() { Answer::Deleted { existed: true } } else { Answer::Nothing };
        let (at, epoch) = (WallTime(index.0), epoch(self.round));
        let mut entry = Entry { index, epoch, version: head.version, at, effects, origin, answer };
        if entry.changes_keys() {
            entry.version = head.version.next();
        }
        let sealed = Sealed::new(entry);
        extend(&mut self.tip, &sealed);
        self.tail.push(sealed.clone());
        sealed
    }

    fn append(&mut self, count: u64) -> LogRecord {
        LogRecord::Append((0..count).map(|_| self.entry()).collect())
    }

    /// A new epoch, which cuts what is not applied, or some of it.
    fn cut(&mut self) -> LogRecord {
        let kept = self.random.below(self.tail.len() as u64 + 1) as usize;
        self.tail.truncate(kept);
        self.tip = self.applied.clone();
        self.tail.iter().for_each(|sealed| extend(&mut self.tip, sealed));
        self.round += 1;
        LogRecord::Cut(self.tip.index())
    }

    /// Applies some of the tail.
    fn apply(&mut self, count: u64) {
        let count = self.tail.len().min(count as usize);
        self.tail.drain(..count).for_each(|sealed| extend(&mut self.applied, &sealed));
    }

    /// A record of a random kind.
    fn record(&mut self) -> LogRecord {
        let ahead = self.random.below(8);
        self.apply(ahead);
        match self.random.below(6) {
            0 => self.cut(),
            _ => {
                let count = 1 + self.random.below(9);
                self.append(count)
            }
        }
    }

    /// Whether a store holds this, and nothing else.
    fn assert_is(&self, found: &Durable, what: &str) {
        let mut state = found.base.clone();
        let tail = found.log.len() - self.tail.len();
        found.log[..tail].iter().for_each(|sealed| extend(&mut state, sealed));
        assert_eq!(state.head(), self.applied.head(), "{what}");
        assert!(state.parts().eq(self.applied.parts()), "{what}");
        assert_eq!(found.log[tail..], self.tail, "{what}");
        // Also where the progress is lost.
        assert!(found.commit >= found.base.index(), "{what}");
    }
}

/// The other threads, on this one.
struct Same<'a> {
    log: RefCell<&'a mut Log>,
    votes: &'a VoteStore,
    error: RefCell<Option<StorageError>>,
}

impl Others for Same<'_> {
    fn forget(&self, at: Position) -> bool {
        let done = self.log.borrow_mut().forget(at);
        *self.error.borrow_mut() = done.err();
        self.error.borrow().is_none()
    }

    fn check_records(&self) -> Option<Result<u64, StorageError>> {
        Some(self.votes.identity.check().and_then(|bytes| Ok(bytes + self.votes.register.check()?)))
    }

    fn failed(&self) -> bool {
        false
    }
}

/// Does what the thread for snapshots does.
fn ask(store: &mut Store, asked: Asked, bounds: Bounds) -> Result<SnapshotReport, StorageError> {
    let worker = Worker {
        shelf: Arc::clone(&store.shelf),
        jobs: Arc::new(Queue::new(1)),
        stop: Arc::new(AtomicBool::new(false)),
        bounds,
    };
    let others = Same { log: RefCell::new(&mut store.log.log), votes: &store.votes, error: RefCell::new(None) };
    match worker.carry_out(asked, &others) {
        Ok(report) => Ok(report),
        Err(Undone::Failed(error)) => Err(error),
        Err(Undone::Stopped) => Err(others.error.into_inner().expect("why it was stopped")),
    }
}

fn snapshot(store: &mut Store, upto: StateHead) -> Result<SnapshotReport, StorageError> {
    ask(store, Asked::Snapshot { cluster: CLUSTER, upto }, SMALL)
}

fn damage<T: std::fmt::Debug>(result: Result<T, StorageError>) -> Damage {
    match result {
        Err(StorageError::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

fn load(files: &PowerFailureFiles) -> Result<(DataDir, Durable, Store), StorageError> {
    let mut dir = DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME)?;
    dir.set_segment_bytes(8 << 10);
    let (durable, store) = dir.load()?;
    Ok((dir, durable, store))
}

/// A store that is a member of a view of the cluster.
fn member(files: &PowerFailureFiles) -> (DataDir, Durable, Store) {
    let (_, durable, mut store) = load(files).expect("blank");
    let id = durable.identity.store;
    store.votes.identity.write(&encode_identity(&in_cluster(id))).expect("written");
    store.votes.register.write(&encode_register(Some(&register(id, 5)))).expect("written");
    drop(store);
    load(files).expect("whole")
}

/// Writes a record and notes the progress.
fn write(store: &mut Store, live: &Live, record: &LogRecord) -> Result<(), StorageError> {
    store.log.log.carry_out(std::slice::from_ref(record))?;
    let (confirmed, commit) = (store.log.log.end().index, live.applied.index());
    let reached = Progress { confirmed, commit, synced: store.log.log.synced() };
    store.log.progress.note(&reached.encode())
}

/// Gives a store so many random records.
fn fill(store: &mut Store, live: &mut Live, records: usize) {
    for _ in 0..records {
        let record = live.record();
        write(store, live, &record).expect("written");
    }
}
