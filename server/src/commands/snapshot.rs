//! `heirloom snapshot`: to a file, and from one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use heirloom::cli::snapshot::{Save, SnapshotFile, Summary, Trouble, tell_restored};
use heirloom::cli::{Format, Progress};
use heirloom_proto::ClusterId;
use heirloom_proto::wire::snapshot::HeldSnapshot;
use heirloom_server::settings::{ClusterFlags, Place};
use heirloom_server::storage::{
    self, Files, OsFiles, RestoreError, RestoreFrom, Restored, Restoring, SavedSnapshot, StorageError, Whole,
};

use super::fail;

/// What is done with snapshots.
#[derive(Subcommand)]
pub(crate) enum Snapshot {
    Save(Save),
    Restore(Box<Restore>),
}

/// Offline: make the data directory of the first server of a new cluster from the file of a snapshot.
///
/// The file is read and checked to its end before anything is made. Versions go on from the snapshot's. The other servers are
/// started on empty data directories, and are given the data; --cluster, --quorum, --min-copies, --lease and --drift must be
/// the same for all from then on.
#[derive(Args)]
pub(crate) struct Restore {
    /// The file, as `heirloom snapshot save` wrote it.
    file: PathBuf,
    #[command(flatten)]
    cluster: ClusterFlags,
    /// How to answer: for people, or one JSON object a line.
    #[arg(long, env = "HEIRLOOM_OUTPUT", value_enum, default_value_t = Format::Text)]
    output: Format,
}

impl Snapshot {
    pub(crate) async fn run(self) -> ExitCode {
        match self {
            Self::Save(save) => Box::pin(save.run::<File>()).await,
            Self::Restore(restore) => restore.run(),
        }
    }
}

impl Restore {
    fn run(self) -> ExitCode {
        let Self { file, cluster, output } = self;
        let place = cluster.place().and_then(|place| place.constants.check_with(place.me).map(|()| place));
        let Place { me, constants, data_dir, .. } = match place {
            Ok(place) => place,
            Err(sentence) => return fail(2, &sentence),
        };
        let opened = OsFiles::open_to_read(&file).and_then(|opened| Ok((opened.length()?, opened)));
        let (bytes, opened) = match opened {
            Ok(opened) => opened,
            Err(error) => return fail(2, &format!("{} can't be read: {error}", file.display())),
        };
        let mut progress = Progress::begin();
        let mut show = |restoring| match restoring {
            Restoring::Checked(at) => progress.show_bytes("checking", at, bytes),
            Restoring::Copied(at) => progress.show_bytes("restoring", at, bytes),
        };
        let files: Arc<dyn Files> = Arc::new(OsFiles);
        let from = RestoreFrom { file: opened, path: file };
        let restored = storage::restore(&files, from, &data_dir, (me, &constants), &mut show);
        progress.clear();
        match restored {
            Ok(Restored { server, cluster, whole, .. }) => {
                tell_restored(server, &whole.head.cluster.to_string(), &summary(cluster, &whole), output)
            }
            Err(error @ (RestoreError::NotBlank { .. } | RestoreError::Witness { .. } | RestoreError::Storage(_))) => {
                fail(error.exit_code(), &error.to_string())
            }
        }
    }
}

fn summary(cluster: ClusterId, whole: &Whole) -> Summary {
    let Whole { head, keys, bytes } = whole;
    Summary {
        cluster: cluster.to_string(),
        version: head.state.version.0,
        index: head.state.position.index.0,
        keys: *keys,
        bytes: *bytes,
        digest: head.state.digest.to_string(),
    }
}

/// The file of a snapshot, for the command that saves one.
struct File(SavedSnapshot);

impl SnapshotFile for File {
    fn open(path: &Path) -> Result<Self, Trouble> {
        SavedSnapshot::open(path).map(Self).map_err(trouble)
    }

    fn held(&self) -> Option<HeldSnapshot> {
        self.0.held()
    }

    fn found_whole(&self) -> bool {
        self.0.found_whole()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.0.write(bytes).map_err(trouble)
    }

    fn finish(self, tell: &mut dyn FnMut(u64)) -> Result<Summary, Trouble> {
        let whole = self.0.finish(tell).map_err(trouble)?;
        Ok(summary(whole.head.cluster, &whole))
    }
}

fn trouble(error: StorageError) -> Trouble {
    match error {
        StorageError::Damaged(_) | StorageError::NewerFormat { .. } => Trouble::Damaged(error.to_string()),
        error => Trouble::Machine(error.to_string()),
    }
}
