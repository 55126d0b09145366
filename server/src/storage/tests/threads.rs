//! The two threads: order, failure, draining.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use heirloom_proto::{Event, LogIndex, Record, Register, Sealed, Ticket};

use super::super::medium::Random;
use super::super::queue::Queue;
use super::super::{DataDir, Disk, PowerFailureFiles, StorageError, Store};
use super::{ME, entry, in_cluster, load, open, register};

fn start(store: Store) -> (Disk, Receiver<Event>) {
    let (sender, events) = channel();
    let disk = Disk::start(store, move |event| {
        // A test that has seen enough no longer listens.
        let _ = sender.send(event);
    });
    (disk, events)
}

fn entries(first: u64, last: u64) -> Vec<Sealed> {
    (first..=last).map(|index| entry(index, 1, 20)).collect()
}

#[test]
fn every_append_is_reported_in_order_with_what_the_log_gave_back() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut dir = open(temp.path());
    let (durable, store) = dir.load().expect("blank");
    let (disk, events) = start(store);
    let register = register(durable.identity.store, 4);
    for ticket in 0..50 {
        disk.persist(Ticket(ticket), Record::Append(entries(ticket * 3 + 1, ticket * 3 + 3))).expect("room");
    }
    disk.persist(Ticket(50), Record::Cut { keep: LogIndex(100) }).expect("room");
    disk.persist(Ticket(51), Record::Append(entries(101, 101))).expect("room");
    disk.persist(Ticket(90), Record::Register(register.clone())).expect("room");
    disk.persist(Ticket(91), Record::Identity(in_cluster(durable.identity.store))).expect("room");
    disk.note_progress(LogIndex(101), LogIndex(99)).expect("room");
    disk.stop();
    let (mut log, mut votes) = (Vec::new(), Vec::new());
    for event in events {
        let Event::Persisted { ticket, read_back } = event else { panic!("{event:?}") };
        if ticket.0 < 90 {
            log.push(ticket.0);
            let expected = match ticket.0 {
                50 => Vec::new(),
                51 => entries(101, 101),
                earlier => entries(earlier * 3 + 1, earlier * 3 + 3),
            };
            assert_eq!(read_back, expected);
        } else {
            votes.push(ticket.0);
        }
    }
    votes.sort_unstable();
    assert_eq!((log, votes), ((0..52).collect(), vec![90, 91]));

    // Drained, the next run in the same process loads all of it.
    let (again, _store) = dir.load().expect("whole");
    assert_eq!(again.log, entries(1, 101));
    assert_eq!(again.register, Some(register));
    assert_eq!(again.identity, in_cluster(durable.identity.store));
    assert_eq!(again.commit, LogIndex(99));
}

#[test]
fn of_many_registers_that_wait_the_last_is_stored_and_all_are_reported() {
    let temp = tempfile::tempdir().expect("a folder");
    let (durable, store) = load(temp.path());
    let (disk, events) = start(store);
    for round in 1..=200 {
        disk.persist(Ticket(round), Record::Register(register(durable.identity.store, round))).expect("room");
    }
    disk.stop();
    assert_eq!(events.iter().count(), 200);
    assert_eq!(load(temp.path()).0.register, Some(register(durable.identity.store, 200)));
}

#[test]
fn after_a_failed_operation_the_failure_is_said_once_and_nothing_more_is_written() {
    let mut failed_syncs = 0;
    for operation in 0..12 {
        let files = PowerFailureFiles::new();
        let mut dir = DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME).expect("formatted");
        let (durable, store) = dir.load().expect("blank");
        let (disk, events) = start(store);
        files.fail_after(operation, std::io::ErrorKind::StorageFull);
        let (mut round, mut waiting, mut failure) = (0, 0, None);
        while failure.is_none() {
            if waiting == 0 {
                round += 1;
                let register = register(durable.identity.store, round);
                disk.persist(Ticket(2 * round), Record::Append(entries(round, round))).expect("room");
                disk.persist(Ticket(2 * round + 1), Record::Register(register)).expect("room");
                waiting = 2;
            }
            match events.recv().expect("an answer") {
                Event::Persisted { .. } => waiting -= 1,
                Event::DiskFailed { what } => failure = Some(what),
                other => panic!("{other:?}"),
            }
        }
        failed_syncs += u32::from(failure.is_some_and(|what| what.contains("could not sync")));
        let late = register(durable.identity.store, 1000);
        disk.persist(Ticket(1000), Record::Register(late.clone())).expect("room");
        disk.persist(Ticket(1001), Record::Append(entries(round + 1, round + 1))).expect("room");
        disk.note_progress(LogIndex(1), LogIndex(1)).expect("room");
        disk.stop();
        for event in events {
            assert!(matches!(event, Event::Persisted { ticket: Ticket(..1000), .. }), "{event:?}");
        }
        let (found, _store) = dir.load().expect("whole");
        assert_ne!(found.register, Some(late), "operation {operation}");
        assert!(found.log.len() as u64 <= round, "operation {operation}");
    }
    assert!(failed_syncs > 0);
}

#[test]
fn what_the_threads_reported_survives_a_power_failure() {
    let mut cut_short = 0;
    for seed in 0..300 {
        let mut random = Random(seed);
        let files = PowerFailureFiles::new();
        let (mut log, mut registers): (Vec<Sealed>, Vec<Option<Register>>) = (Vec::new(), vec![None]);
        for _ in 0..3 {
            let opened = DataDir::open(Arc::new(files.clone()), Path::new("/data"), ME).and_then(|mut dir| {
                dir.set_segment_bytes(16 << 10);
                dir.load()
            });
            let (durable, store) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(durable.log.starts_with(&log), "seed {seed}: {} of {}", durable.log.len(), log.len());
            assert!(registers.contains(&durable.register), "seed {seed}: {:?}", durable.register);
            log.clone_from(&durable.log);
            registers = vec![durable.register];
            let base = log.len() as u64;
            let (disk, events) = start(store);
            files.cut_power_after(random.below(30));
            for ticket in 1..=60 {
                disk.persist(Ticket(ticket), Record::Append(entries(base + ticket, base + ticket))).expect("room");
                if ticket % 10 == 0 {
                    let next = register(durable.identity.store, seed * 1000 + base + ticket);
                    registers.push(Some(next.clone()));
                    disk.persist(Ticket(1000 + registers.len() as u64), Record::Register(next)).expect("room");
                }
            }
            disk.stop();
            let (mut stored, mut failures) = (0, 0);
            for event in events {
                match event {
                    Event::Persisted { ticket: Ticket(1..=60), read_back } => log.extend(read_back),
                    // Found must be the last register that was reported, or a later one.
                    Event::Persisted { ticket, .. } => stored = stored.max(ticket.0 as usize - 1001),
                    Event::DiskFailed { .. } => failures += 1,
                    _ => unreachable!(),
                }
            }
            assert!(failures <= 1, "seed {seed}: said {failures} times");
            cut_short += failures;
            registers.drain(..stored);
            files.cut_power();
            files.restore_power(random.next());
        }
    }
    assert!(cut_short > 100, "{cut_short}");
}

#[test]
#[should_panic(expected = "an append continues the log")]
fn an_append_that_leaves_a_gap_is_a_bug_where_it_was_made() {
    let temp = tempfile::tempdir().expect("a folder");
    let (_, store) = load(temp.path());
    let (disk, _events) = start(store);
    let _ = disk.persist(Ticket(1), Record::Append(entries(2, 2)));
}

#[test]
#[should_panic(expected = "a cut at 1 of a log that ends at 0")]
fn a_cut_behind_the_end_is_a_bug_where_it_was_made() {
    let temp = tempfile::tempdir().expect("a folder");
    let (_, store) = load(temp.path());
    let (disk, _events) = start(store);
    let _ = disk.persist(Ticket(1), Record::Cut { keep: LogIndex(1) });
}

#[test]
#[should_panic(expected = "still in use")]
fn a_store_is_not_loaded_while_it_is_written() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut dir = open(temp.path());
    let (_, store) = dir.load().expect("blank");
    let (_disk, _events) = start(store);
    let _ = dir.load();
}

#[test]
fn a_running_disk_keeps_the_directory_locked_and_a_stopped_one_frees_it() {
    let temp = tempfile::tempdir().expect("a folder");
    let (_, store) = load(temp.path());
    let (disk, _events) = start(store);
    let refused = DataDir::open(super::os(), temp.path(), ME);
    assert!(matches!(refused, Err(StorageError::Locked { .. })), "{refused:?}");
    disk.stop();
    open(temp.path());
}

#[test]
fn a_bug_in_a_thread_is_reported_as_a_failed_disk() {
    let temp = tempfile::tempdir().expect("a folder");
    let (_, store) = load(temp.path());
    let (disk, events) = start(store);
    disk.note_progress(LogIndex(5), LogIndex(5)).expect("room");
    assert!(matches!(events.recv(), Ok(Event::DiskFailed { .. })));
    disk.stop();
}

#[test]
fn the_bytes_on_disk_grow_with_the_first_append() {
    let temp = tempfile::tempdir().expect("a folder");
    let (_, store) = load(temp.path());
    let (disk, events) = start(store);
    assert_eq!(disk.disk_bytes(), 4096);
    disk.persist(Ticket(1), Record::Append(entries(1, 1))).expect("room");
    events.recv().expect("an answer");
    assert_eq!(disk.disk_bytes(), 64 << 20);
}

#[test]
fn a_full_queue_gives_the_job_back() {
    let queue = Queue::new(2);
    assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(3)));
    assert_eq!(queue.take_all(), [1, 2]);
    queue.close();
    assert!(queue.take_all().is_empty());
}
