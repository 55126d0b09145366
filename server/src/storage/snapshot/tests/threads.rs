//! The thread for snapshots beside the two others: while they work, when they fail, and when all are to end.

use std::sync::mpsc::{Receiver, Sender, channel};

use heirloom_proto::{Event, Record, Ticket};

use super::*;
use crate::storage::disk::Disk;

/// A disk with its thread for snapshots, and what both report.
struct Started {
    disk: Disk,
    events: Receiver<Event>,
    reports: Receiver<SnapshotReport>,
}

fn start(store: Store) -> Started {
    let (sender, events) = channel();
    let mut disk = Disk::start(store, move |event| tell(&sender, event));
    disk.set_bounds(SMALL);
    let (sender, reports) = channel();
    disk.start_snapshots(move |report| tell(&sender, report));
    Started { disk, events, reports }
}

/// A test that has seen enough no longer listens.
fn tell<T>(sender: &Sender<T>, what: T) {
    let _ = sender.send(what);
}

impl Started {
    fn persist(&self, ticket: u64, record: LogRecord) {
        let record = match record {
            LogRecord::Append(entries) => Record::Append(entries),
            LogRecord::Cut(keep) => Record::Cut { keep },
        };
        self.disk.persist(Ticket(ticket), record).expect("room");
    }

    /// Waits until a ticket is reported; false where the disk fails.
    fn wait_for(&self, ticket: u64) -> bool {
        loop {
            match self.events.recv().expect("an answer") {
                Event::Persisted { ticket: Ticket(found), .. } if found == ticket => return true,
                Event::Persisted { .. } => {}
                Event::DiskFailed { .. } => return false,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn snapshots_are_made_while_the_log_is_written() {
    let mut made = 0;
    for seed in 0..20 {
        let files = PowerFailureFiles::new();
        let (mut dir, durable, store) = member(&files);
        let shelf = Arc::clone(&store.shelf);
        let started = start(store);
        let mut live = Live::new(seed);
        for ticket in 1..400 {
            // Applied is only what was reported durable.
            let record = live.record();
            started.persist(ticket, record);
            if ticket % 50 == 0 {
                let before = live.applied.head();
                assert!(started.wait_for(ticket));
                let promised = register(durable.identity.store, 5 + ticket);
                started.disk.persist(Ticket(1000 + ticket), Record::Register(promised)).expect("room");
                // The log is written while one is made; before the next is asked for, this one is waited for.
                if ticket > 50 {
                    let report = started.reports.recv().expect("it goes on");
                    assert!(!matches!(report, SnapshotReport::Failed(_)), "seed {seed}: {report:?}");
                    made += u32::from(matches!(report, SnapshotReport::Made { .. }));
                }
                assert!(started.disk.request_snapshot(CLUSTER, before));
            }
        }
        assert!(started.wait_for(399));
        started.disk.stop();
        while let Ok(report) = started.reports.recv() {
            assert!(!matches!(report, SnapshotReport::Failed(_)), "seed {seed}: {report:?}");
        }
        let (found, _store) = dir.load().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(found.base.index(), shelf.index());
        live.assert_is(&found, &format!("seed {seed}"));
    }
    assert!(made > 100, "{made}");
}

#[test]
fn the_thread_does_one_thing_at_a_time_and_nothing_before_it_is_started() {
    let files = PowerFailureFiles::new();
    let (_, _, store) = member(&files);
    let shelf = Arc::clone(&store.shelf);
    let disk = Disk::start(store, |_| {});
    assert!(!disk.request_scrub() && !disk.request_snapshot(CLUSTER, StateHead::START));
    assert!(!shelf.under_way());
    disk.stop();

    let (_, _, store) = load(&files).expect("whole");
    let (sender, reports) = channel();
    let (go, wait) = channel::<()>();
    let mut disk = Disk::start(store, |_| {});
    disk.start_snapshots(move |report| {
        tell(&sender, report);
        let _ = wait.recv();
    });
    let shelf = disk.shelf();
    assert!(disk.request_scrub());
    assert!(matches!(reports.recv(), Ok(SnapshotReport::Scrubbed { .. })));
    // It is still reporting: one more thing may wait, and no third.
    assert!(!shelf.under_way() && disk.request_scrub());
    assert!(shelf.under_way() && !disk.request_scrub() && !disk.request_snapshot(CLUSTER, StateHead::START));
    drop(go);
    assert!(matches!(reports.recv(), Ok(SnapshotReport::Scrubbed { .. })));
    disk.stop();
}

#[test]
fn a_disk_that_is_stopped_gives_up_what_is_under_way() {
    for seed in 0..30 {
        let files = PowerFailureFiles::new();
        let (mut dir, _, store) = member(&files);
        let started = start(store);
        let mut live = Live::new(seed);
        started.persist(1, live.append(300));
        live.apply(300);
        assert!(started.wait_for(1));
        assert!(started.disk.request_snapshot(CLUSTER, live.applied.head()));
        started.disk.stop();
        for report in started.reports {
            assert!(matches!(report, SnapshotReport::Made { .. }), "{report:?}");
        }
        live.tail.clear();
        let (found, _store) = dir.load().expect("whole");
        assert!(found.base.index() == LogIndex::ZERO || found.base.head() == live.applied.head());
    }
}

#[test]
fn after_a_failure_of_the_log_nothing_is_made_and_the_end_comes_all_the_same() {
    let mut failed = 0;
    for operation in 0..160 {
        let files = PowerFailureFiles::new();
        let (_, _, store) = member(&files);
        let started = start(store);
        let mut live = Live::new(1);
        started.persist(1, live.append(100));
        live.apply(100);
        assert!(started.wait_for(1));
        // Whichever thread it hits.
        files.fail_after(operation, std::io::ErrorKind::Other);
        assert!(started.disk.request_snapshot(CLUSTER, live.applied.head()));
        started.persist(2, live.append(3));
        failed += u32::from(!started.wait_for(2));
        started.disk.stop();
        let reports: Vec<SnapshotReport> = started.reports.iter().collect();
        assert!(reports.len() <= 1, "{reports:?}");
        files.crash_process();
        let (_, found, _store) = load(&files).unwrap_or_else(|error| panic!("operation {operation}: {error}"));
        assert!(found.log.len() as u64 + found.base.index().0 >= 100, "operation {operation}");
    }
    assert!(failed > 0, "{failed}");
}
