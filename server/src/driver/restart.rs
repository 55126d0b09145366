//! Between two lives: what becomes of the data directory, and when the process ends instead.

use std::time::{Duration, Instant};

use heirloom_backup::{Durable, StateHead};
use heirloom_proto::Cause;
use heirloom_proto::status::RoleName;

use super::Driver;
use crate::failure::Failure;
use crate::gentle;
use crate::storage::{DataDir, StorageError, Store, says_full};

/// How often a server whose disk is full looks for room.
const ROOM_PAUSE: Duration = Duration::from_millis(500);

/// What is done with the data directory before the next life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// It is read again.
    Reload,
    /// A snapshot that was fetched takes the place of the log.
    Install(StateHead),
    /// Its store is set aside, and a blank one made.
    Blank,
    /// Its store is set aside, and one made that knows of its loss.
    Amnesiac,
}

impl Driver {
    /// What follows from the end of a life.
    pub(super) fn after(&self, cause: Cause) -> Result<Restart, Failure> {
        match cause {
            Cause::Deposed => {
                tracing::info!("deposed by a higher epoch: starting again from disk");
                Ok(Restart::Reload)
            }
            Cause::SnapshotFetched => Ok(Restart::Reload),
            Cause::Superseded { cluster } => {
                tracing::warn!(%cluster, "the cluster went on without this server's data: setting its store aside");
                Ok(Restart::Blank)
            }
            Cause::Irreconcilable { what } => {
                tracing::error!("the log can't be reconciled with the cluster's ({what}): setting the store aside");
                Ok(Restart::Amnesiac)
            }
            Cause::Outdated { what } => {
                tracing::error!(
                    "the data directory was put back from an older copy ({what}): setting the store aside, this server \
                     comes back without data and is given a new copy"
                );
                Ok(Restart::Amnesiac)
            }
            Cause::Disk { what } => Err(Failure::of_disk(what)),
            Cause::Misconfigured { what } => Err(Failure::Usage(what)),
        }
    }

    /// Waits until the disk has room again, and says so meanwhile; false where the driver was told to stop.
    ///
    /// A full disk is nobody's fault and soon mended, so it costs a server its place and not its process. What was written
    /// before is read again afterwards, as after any failure.
    pub(super) async fn wait_for_room(&mut self, what: &str) -> Result<bool, Failure> {
        let mut data_dir = self.data_dir.take().expect("it is here whenever no life is on");
        let wanted = format!("{} MiB of room in {}", data_dir.room_bytes() >> 20, data_dir.path().display());
        // A snapshot that was being made may have taken what there was, and would again.
        self.no_snapshot_before = Some(Instant::now() + self.settings.pace.retry_after);
        tracing::error!("the disk is full ({what}): this server steps out, and comes back once there are {wanted}");
        if let Some(report) = &mut self.last_report {
            report.status.role = RoleName::Recovering;
            report.status.waits_for = Some(wanted);
        }
        let has_room = loop {
            let (back, has_room) = self
                .meanwhile(move || {
                    std::thread::sleep(ROOM_PAUSE);
                    let has_room = data_dir.has_room();
                    (data_dir, has_room)
                })
                .await?;
            data_dir = back;
            if has_room? {
                break true;
            }
            if *self.stop.borrow() {
                break false;
            }
        };
        self.data_dir = Some(data_dir);
        if has_room {
            tracing::info!("the disk has room again");
        }
        Ok(has_room && !*self.stop.borrow())
    }

    /// Reads the data directory; `None` where the driver was told to stop meanwhile.
    pub(super) async fn load(&mut self, restart: Restart) -> Result<Option<(Durable, Store)>, Failure> {
        let mut data_dir = self.data_dir.take().expect("it is here whenever no life is on");
        let before = data_dir.identity().map(|identity| identity.store);
        let work = move || {
            let loaded = prepare(&mut data_dir, restart).and_then(|()| load_or_reformat(&mut data_dir));
            (data_dir, loaded)
        };
        let (data_dir, loaded) = match restart {
            // The others serve without this one, and should not be slowed by its coming.
            Restart::Install(_) => self.until(gentle::run(work)).await?,
            Restart::Reload | Restart::Blank | Restart::Amnesiac => self.meanwhile(work).await?,
        };
        self.data_dir = Some(data_dir);
        let loaded = loaded?;
        // Damage that was found and mended, or given up with its store, is no reason to wait any more.
        if before != Some(loaded.0.identity.store) || !loaded.1.mended().is_empty() {
            self.no_snapshot_before = None;
        }
        for damage in loaded.1.mended() {
            tracing::warn!("{damage}");
        }
        if loaded.1.torn_bytes() > 0 {
            tracing::info!(
                bytes = loaded.1.torn_bytes(),
                "cut a torn end of the log, which was never reported durable"
            );
        }
        Ok((!*self.stop.borrow()).then_some(loaded))
    }
}

fn prepare(data_dir: &mut DataDir, restart: Restart) -> Result<(), StorageError> {
    match restart {
        Restart::Reload => Ok(()),
        Restart::Install(head) => match data_dir.install(&head) {
            // What is damaged is the snapshot, or found at the load that follows.
            Err(StorageError::Damaged(damage)) => {
                tracing::error!("{damage}: the snapshot is not put in place");
                Ok(())
            }
            Err(error) if says_full(&error.to_string()) => {
                tracing::error!("{error}: the snapshot is not put in place");
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                tracing::info!(index = head.position.index.0, "a snapshot takes the place of the log");
                Ok(())
            }
        },
        Restart::Blank => data_dir.reformat_blank().map(|_| ()),
        Restart::Amnesiac => reformat(data_dir),
    }
}

fn load_or_reformat(data_dir: &mut DataDir) -> Result<(Durable, Store), StorageError> {
    match data_dir.load() {
        Err(StorageError::Damaged(damage)) => {
            tracing::error!(
                "{damage}; the store is set aside, and this server comes back without data and is given a new copy"
            );
            reformat(data_dir)?;
            data_dir.load()
        }
        loaded => loaded,
    }
}

/// A new store in place of one that is set aside: of a voter that has lost its register, if it ever was one.
fn reformat(data_dir: &mut DataDir) -> Result<(), StorageError> {
    let cluster = data_dir.identity().and_then(|identity| identity.cluster.clone());
    let store = match cluster {
        Some((cluster, constants)) => data_dir.reformat_as_amnesiac(cluster, constants)?,
        None => data_dir.reformat_blank()?,
    };
    tracing::warn!(%store, "new store");
    Ok(())
}
