//! Random schedules of writes with power failures and crashes at random moments: what was reported durable is there
//! when the store is next opened, what was not is there in whole records or not at all, and nothing is called damaged.

use std::path::Path;
use std::sync::Arc;

use heirloom_proto::{Identity, LogIndex, Register, Sealed};

use super::super::identity::{encode_identity, encode_register};
use super::super::log::LogRecord;
use super::super::medium::Random;
use super::super::progress::Progress;
use super::super::{DataDir, Files, PowerFailureFiles, StorageError, Store};
use super::{ME, entry, in_cluster, register};

/// What a schedule has met: a run in which nothing happened proves nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    power_failures: u32,
    process_crashes: u32,
    torn_tails: u32,
    unreported_found: u32,
    unreported_lost: u32,
    segments_max: usize,
}

/// What must be found: the state last reported durable, or one that the write under way was on its way to.
#[derive(Clone, Debug, Default)]
struct Expected {
    logs: Vec<Vec<Sealed>>,
    registers: Vec<Option<Register>>,
    identities: Vec<Identity>,
    commit: LogIndex,
}

fn applied(log: &[Sealed], record: &LogRecord) -> Vec<Sealed> {
    let mut log = log.to_vec();
    match record {
        LogRecord::Append(entries) => log.extend(entries.iter().cloned()),
        LogRecord::Cut(keep) => log.truncate(usize::try_from(keep.0).expect("small")),
    }
    log
}

fn random_records(random: &mut Random, log: &[Sealed], commit: LogIndex, round: u64) -> Vec<LogRecord> {
    let mut log = log.to_vec();
    let mut records = Vec::new();
    for _ in 0..=random.below(4) {
        let end = log.len() as u64;
        let record = if random.below(5) == 0 && end > commit.0 {
            LogRecord::Cut(LogIndex(commit.0 + random.below(end - commit.0 + 1)))
        } else {
            let size = [0, 50, 700, 3000][random.below(4) as usize];
            let count = 1 + random.below(5);
            LogRecord::Append((1..=count).map(|ahead| entry(end + ahead, round, size)).collect())
        };
        log = applied(&log, &record);
        records.push(record);
    }
    records
}

/// One write of a random kind.
fn write_something(
    random: &mut Random,
    store: &mut Store,
    expected: &mut Expected,
    round: u64,
) -> Result<(), StorageError> {
    match random.below(8) {
        0 => {
            let next = register(store.votes.owner.1, round);
            expected.registers.push(Some(next.clone()));
            store.votes.register.write(&encode_register(Some(&next)))?;
            expected.registers = vec![Some(next)];
        }
        1 => {
            let mut next = in_cluster(store.votes.owner.1);
            next.cluster.as_mut().expect("in a cluster").0.id = round;
            expected.identities.push(next.clone());
            store.votes.identity.write(&encode_identity(&next))?;
            expected.identities = vec![next];
        }
        2 => {
            let end = store.log.log.end().index;
            expected.commit = LogIndex(expected.commit.0 + random.below(end.0 - expected.commit.0 + 1));
            let reached = Progress { confirmed: end, commit: expected.commit, synced: store.log.log.synced() };
            store.log.progress.note(&reached.encode())?;
        }
        _ => {
            let durable = expected.logs[0].clone();
            let records = random_records(random, &durable, expected.commit, round);
            let mut log = durable;
            for record in &records {
                log = applied(&log, record);
                expected.logs.push(log.clone());
            }
            let read_back = store.log.log.carry_out(&records)?;
            for (record, found) in records.iter().zip(&read_back) {
                match record {
                    LogRecord::Append(entries) => assert_eq!(entries, found, "what was read back"),
                    LogRecord::Cut(_) => assert!(found.is_empty()),
                }
            }
            expected.logs = vec![log];
        }
    }
    Ok(())
}

/// Opens and loads, and holds what is found against what is expected.
fn open_and_compare(
    files: &PowerFailureFiles,
    expected: &mut Expected,
    seen: &mut Seen,
) -> Result<Option<(DataDir, Store)>, String> {
    let shared: Arc<dyn Files> = Arc::new(files.clone());
    let opened = DataDir::open(shared, Path::new("/data"), ME).and_then(|mut dir| {
        dir.set_segment_bytes(16 << 10);
        dir.load().map(|(durable, store)| (dir, durable, store))
    });
    let (dir, durable, store) = match opened {
        Ok(opened) => opened,
        Err(StorageError::Io { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if expected.identities.is_empty() {
        // The first time that formatting was not interrupted.
        expected.identities.push(durable.identity.clone());
        (expected.logs, expected.registers) = (vec![Vec::new()], vec![None]);
    }
    let Some(place) = expected.logs.iter().position(|log| *log == durable.log) else {
        let lengths: Vec<usize> = expected.logs.iter().map(Vec::len).collect();
        return Err(format!("a log of {} entries, where {lengths:?} were expected", durable.log.len()));
    };
    if !expected.registers.contains(&durable.register) {
        return Err(format!("register {:?}, expected {:?}", durable.register, expected.registers));
    }
    if !expected.identities.contains(&durable.identity) {
        return Err(format!("identity {:?}, expected {:?}", durable.identity, expected.identities));
    }
    if durable.commit > expected.commit {
        return Err(format!("commit {}, never noted", durable.commit));
    }
    seen.torn_tails += u32::from(store.torn_bytes() > 0);
    seen.unreported_found += u32::from(place > 0);
    seen.unreported_lost += u32::from(place == 0 && expected.logs.len() > 1);
    let listed = files
        .list(Path::new("/data/store"))
        .map_or(0, |names| names.iter().filter(|listed| listed.name.starts_with("log-")).count());
    seen.segments_max = seen.segments_max.max(listed);
    // What was loaded is durable from here on: the node builds on it.
    expected.logs = vec![durable.log];
    expected.registers = vec![durable.register];
    expected.identities = vec![durable.identity];
    Ok(Some((dir, store)))
}

/// One schedule.
///
/// **Errors:** what was promised and not kept.
fn schedule(seed: u64, files: &PowerFailureFiles) -> Result<Seen, String> {
    let mut random = Random(seed);
    let (mut expected, mut seen) = (Expected::default(), Seen::default());
    let mut round = 0;
    for _ in 0..12 {
        if random.below(4) > 0 {
            files.cut_power_after(random.below(120));
        }
        let opened = open_and_compare(files, &mut expected, &mut seen)?;
        if let Some((_dir, mut store)) = opened {
            for _ in 0..random.below(25) {
                round += 1;
                if write_something(&mut random, &mut store, &mut expected, round).is_err() {
                    break;
                }
            }
        }
        // Where an operation was cut short, this is a process that was killed in the midst of it.
        if random.below(3) == 0 {
            files.crash_process();
            seen.process_crashes += 1;
        } else {
            files.cut_power();
            files.restore_power(random.next());
            seen.power_failures += 1;
        }
    }
    Ok(seen)
}

#[test]
fn whatever_was_reported_durable_survives_power_failures_and_crashes() {
    let mut total = Seen::default();
    for seed in 0..3000 {
        let seen = schedule(seed, &PowerFailureFiles::new()).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        total.power_failures += seen.power_failures;
        total.process_crashes += seen.process_crashes;
        total.torn_tails += seen.torn_tails;
        total.unreported_found += seen.unreported_found;
        total.unreported_lost += seen.unreported_lost;
        total.segments_max = total.segments_max.max(seen.segments_max);
    }
    assert!(total.power_failures > 1000 && total.process_crashes > 1000, "{total:?}");
    assert!(total.torn_tails > 100, "{total:?}");
    assert!(total.unreported_found > 100 && total.unreported_lost > 100, "{total:?}");
    assert!(total.segments_max > 3, "{total:?}");
}

#[test]
fn a_build_whose_syncs_do_nothing_fails_the_schedules() {
    let caught = (0..100).filter(|seed| schedule(*seed, &PowerFailureFiles::without_syncs()).is_err()).count();
    assert!(caught > 90, "only {caught} of 100 schedules noticed that nothing was synced");
}

#[test]
fn nothing_of_a_torn_tail_comes_back_behind_what_was_written_in_its_place() {
    let load = |files: &PowerFailureFiles| {
        let shared: Arc<dyn Files> = Arc::new(files.clone());
        DataDir::open(shared, Path::new("/data"), ME).and_then(|mut dir| {
            dir.set_segment_bytes(16 << 10);
            dir.load()
        })
    };
    let append = |index, round| LogRecord::Append(vec![entry(index, round, 0)]);
    let mut torn = 0;
    for seed in 0..3000 {
        let files = PowerFailureFiles::new();
        let (_, mut store) = load(&files).expect("blank");
        store.log.log.carry_out(&[append(1, 1)]).expect("written");
        // The same places, the same sizes, other entries, and each time no sync.
        for round in 2..5 {
            files.cut_power_after(1);
            store.log.log.carry_out(&[append(2, round), append(3, round)]).expect_err("no power for a sync");
            files.restore_power(seed * 10 + round);
            let (durable, again) = load(&files).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            torn += u32::from(again.torn_bytes() > 0);
            if durable.log.len() > 1 {
                break;
            }
            store = again;
        }
    }
    assert!(torn > 1000, "{torn}");
}
