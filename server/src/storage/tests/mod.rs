//! What a crash, a power failure, a rotten bit and a wrong directory do to a store.

mod damage;
mod directory;
mod power;
mod replacement;
mod restore;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use heirloom_backup::Durable;
use heirloom_proto::{
    Answer, ClusterId, Constants, Effect, Entry, Epoch, Identity, LogIndex, Member, Register, RunId, Sealed, ServerId,
    Standing, StoreId, Version, View, VoterKind, WallTime,
};

use super::log::LogRecord;
use super::{DataDir, Files, OsFiles, Store, raw};

pub(super) const ME: ServerId = ServerId(0);
pub(super) const CLUSTER: ClusterId = ClusterId { id: 77, generation: 3 };

fn os() -> Arc<dyn Files> {
    Arc::new(OsFiles)
}

pub(super) fn constants() -> Constants {
    Constants::defaults(vec![VoterKind::Data, VoterKind::Data, VoterKind::Witness])
}

pub(super) fn epoch(round: u64) -> Epoch {
    Epoch { round, server: ME, run: RunId(round) }
}

fn entry(index: u64, round: u64, value: usize) -> Sealed {
    Sealed::new(Entry {
        index: LogIndex(index),
        epoch: epoch(round),
        version: Version(index),
        at: WallTime(0),
        effects: vec![Effect::Put { key: Bytes::from_static(b"key"), value: vec![b'v'; value].into() }],
        origin: None,
        answer: Answer::Added { existed: true },
    })
}

/// An append of the entries `first..=last`.
fn append(first: u64, last: u64) -> LogRecord {
    LogRecord::Append((first..=last).map(|index| entry(index, 1, 100)).collect())
}

pub(super) fn register(store: StoreId, round: u64) -> Register {
    let view = View {
        epoch: epoch(round),
        primary: ME,
        in_sync: BTreeSet::from([Member { server: ME, store }]),
        leaving: BTreeSet::new(),
    };
    Register { promised: epoch(round), accepted: Some(view), standing: Standing::Intact }
}

pub(super) fn in_cluster(store: StoreId) -> Identity {
    Identity {
        server: ME,
        store,
        cluster: Some((CLUSTER, constants())),
        enrolled: BTreeMap::from([(ME, store)]),
        enrolment_open: false,
    }
}

fn open(path: &Path) -> DataDir {
    DataDir::open(os(), path, ME).expect("a data directory")
}

fn load(path: &Path) -> (Durable, Store) {
    open(path).load().expect("an undamaged store")
}

fn indices(durable: &Durable) -> Vec<u64> {
    durable.log.iter().map(|entry| entry.index().0).collect()
}

/// Writes records, each by a sync of its own, and notes the progress.
fn write(store: &mut Store, records: &[LogRecord]) {
    for record in records {
        store.log.log.carry_out(std::slice::from_ref(record)).expect("written");
    }
    raw::note_progress(store).expect("noted");
}
