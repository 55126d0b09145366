//! What the storage keeps, looked at through its threads and a disk that forgets, loses and rots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use heirloom_proto::{
    Answer, Effect, Entry, Epoch, Event, Identity, LogIndex, Member, Record, Register, RunId, Sealed, ServerId,
    Standing, StoreId, Ticket, Version, View, WallTime,
};

use super::super::Planted;
use super::Verdict;
use crate::storage::{DataDir, Disk, Files, PowerFailureFiles, StorageError, Store};

pub(super) const DATA: &str = "/data";
const ME: ServerId = ServerId(0);
const SEGMENT_BYTES: u64 = 16 << 10;
/// What is left of what was not synced is drawn; that all draws leave all of it is out of the question.
const SEEDS: u64 = 20;

pub(super) fn entry(index: u64, epoch: Epoch, bytes: usize) -> Sealed {
    let effects = vec![Effect::Put { key: Bytes::from_static(b"key"), value: vec![b'v'; bytes].into() }];
    Sealed::new(Entry {
        index: LogIndex(index),
        epoch,
        version: Version(index),
        at: WallTime(0),
        effects,
        origin: None,
        answer: Answer::Added { existed: index > 1 },
    })
}

fn epoch(round: u64) -> Epoch {
    Epoch { round, server: ME, run: RunId(7) }
}

fn register(store: StoreId, round: u64) -> Register {
    let in_sync = BTreeSet::from([Member { server: ME, store }]);
    let view = View { epoch: epoch(round), primary: ME, in_sync, leaving: BTreeSet::new() };
    Register { promised: epoch(round), accepted: Some(view), standing: Standing::Intact }
}

fn open(files: &PowerFailureFiles, planted: Planted) -> Result<DataDir, StorageError> {
    let mut dir = DataDir::open(planted.beneath(Arc::new(files.clone())), Path::new(DATA), ME)?;
    dir.plant(planted);
    dir.set_segment_bytes(SEGMENT_BYTES);
    Ok(dir)
}

fn start(store: Store) -> (Disk, Receiver<Event>) {
    let (sender, events) = channel();
    let disk = Disk::start(store, move |event| {
        // A check that has seen enough no longer listens.
        let _ = sender.send(event);
    });
    (disk, events)
}

fn reported(events: &Receiver<Event>, ticket: Ticket) {
    match events.recv() {
        Ok(Event::Persisted { ticket: of, .. }) if of == ticket => {}
        other => panic!("{other:?}"),
    }
}

/// Stores an identity and a register, durably.
pub(super) fn furnish(files: &Arc<dyn Files>, server: ServerId, found: impl Fn(StoreId) -> (Identity, Register)) {
    let mut dir = DataDir::open(files.clone(), Path::new(DATA), server).expect("formatted");
    let (durable, store) = dir.load().expect("blank");
    let (identity, register) = found(durable.identity.store);
    let (disk, events) = start(store);
    disk.persist(Ticket(1), Record::Identity(identity)).expect("room");
    disk.persist(Ticket(2), Record::Register(register)).expect("room");
    disk.stop();
    assert_eq!(events.iter().count(), 2);
}

pub(super) fn register_and_power_fails(planted: Planted) -> Verdict {
    for seed in 0..SEEDS {
        let files = PowerFailureFiles::new();
        let mut dir = open(&files, planted).expect("formatted");
        let (durable, store) = dir.load().expect("blank");
        let promised = register(durable.identity.store, 4);
        let (disk, events) = start(store);
        disk.persist(Ticket(1), Record::Register(promised.clone())).expect("room");
        reported(&events, Ticket(1));
        files.cut_power();
        disk.stop();
        drop(dir);
        files.restore_power(seed);
        match open(&files, Planted::NONE).and_then(|mut dir| dir.load()) {
            Ok((found, _)) if found.register == Some(promised) => {}
            found => return Err(format!("promised, and after a power failure: {:?}", found.map(|found| found.0))),
        }
    }
    Ok(())
}

pub(super) fn register_rots(planted: Planted) -> Verdict {
    let files = PowerFailureFiles::new();
    let mut dir = open(&files, planted).expect("formatted");
    let (durable, store) = dir.load().expect("blank");
    let (disk, events) = start(store);
    let promised = register(durable.identity.store, 4);
    disk.persist(Ticket(1), Record::Register(promised.clone())).expect("room");
    reported(&events, Ticket(1));
    disk.stop();
    drop(dir);
    files.rot(&Path::new(DATA).join("store/register.a"), 50);
    match open(&files, Planted::NONE).and_then(|mut dir| dir.load()) {
        Ok((found, _)) if found.register == Some(promised) => Ok(()),
        // Told of the damage, a server comes back as one that has forgotten.
        Err(StorageError::Damaged(_)) => Ok(()),
        Ok((found, _)) => Err(format!("promised, and after one file rotted: {:?}", found.register)),
        Err(error) => panic!("{error}"),
    }
}

pub(super) fn segments_and_power_fails(planted: Planted) -> Verdict {
    const ENTRIES: u64 = 12;
    for seed in 0..SEEDS {
        let files = PowerFailureFiles::new();
        let mut dir = open(&files, planted).expect("formatted");
        let (_, store) = dir.load().expect("blank");
        let (disk, events) = start(store);
        for index in 1..=ENTRIES {
            let record = Record::Append(vec![entry(index, epoch(1), SEGMENT_BYTES as usize / 4)]);
            disk.persist(Ticket(index), record).expect("room");
            reported(&events, Ticket(index));
        }
        let segments = files.list(&Path::new(DATA).join("store")).expect("there");
        assert!(segments.iter().filter(|listed| listed.name.starts_with("log-")).count() > 3, "{segments:?}");
        files.cut_power();
        disk.stop();
        drop(dir);
        files.restore_power(seed);
        match open(&files, Planted::NONE).and_then(|mut dir| dir.load()) {
            Ok((found, _)) if found.log.len() as u64 == ENTRIES => {}
            Ok((found, _)) => return Err(format!("{} of {ENTRIES} entries are left", found.log.len())),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

pub(super) fn write_is_lost(planted: Planted) -> Verdict {
    let files = PowerFailureFiles::new();
    let mut dir = open(&files, planted).expect("formatted");
    let (_, store) = dir.load().expect("blank");
    let (disk, events) = start(store);
    files.lose_next_write();
    disk.persist(Ticket(1), Record::Append(vec![entry(1, epoch(1), 100)])).expect("room");
    match events.recv() {
        Ok(Event::DiskFailed { .. }) => Ok(()),
        Ok(Event::Persisted { .. }) => Err("reported durable, and the disk does not have it".to_owned()),
        other => panic!("{other:?}"),
    }
}

pub(super) fn opened_twice(planted: Planted) -> Verdict {
    let files = PowerFailureFiles::new();
    let _first = open(&files, planted).expect("formatted");
    match open(&files, planted) {
        Err(StorageError::Locked { .. }) => Ok(()),
        Ok(_) => Err("two servers use one data directory".to_owned()),
        Err(error) => panic!("{error}"),
    }
}

/// An identity in a cluster, and nobody enrolled but this server.
pub(super) fn identity(server: ServerId, store: StoreId, cluster: Option<super::streams::Founded>) -> Identity {
    Identity { server, store, cluster, enrolled: BTreeMap::from([(server, store)]), enrolment_open: false }
}
