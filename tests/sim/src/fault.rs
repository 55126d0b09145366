//! The kinds of trouble that a world makes, one at a time.

use std::collections::BTreeSet;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is explained by its name, and told where it is made")]
pub enum Fault {
    Crash,
    CrashPrimary,
    CrashWithinStep,
    PowerLoss,
    PowerLossOfAll,
    Isolate,
    CutOneWay,
    Split,
    /// The process stands still (SIGSTOP); its kernel goes on.
    Pause,
    PausePrimary,
    /// The machine stands still, with its timers, its disk and its network card; its clock goes on.
    Suspend,
    SuspendPrimary,
    ClockRate,
    SlowDisk,
    /// A write or a sync fails.
    DiskFailure,
    /// No room for the log for a while.
    FullDisk,
    /// What is read back is not what was written.
    WrongReadBack,
    /// A bit of a file changes at rest; the next start finds it.
    Rot,
    Promote,
    Fence,
    Wipe,
    /// An older copy takes the place of a directory while its server is down, where somebody remembers better.
    PutBack,
    CutClient,
    RestartClient,
    Nudge,
}

impl Fault {
    /// All of them, and how often each is drawn where a world has it at all.
    pub(crate) const WEIGHTS: [(Self, u64); 25] = [
        (Self::Crash, 10),
        (Self::CrashPrimary, 12),
        (Self::CrashWithinStep, 10),
        (Self::PowerLoss, 6),
        (Self::PowerLossOfAll, 3),
        (Self::Isolate, 10),
        (Self::CutOneWay, 10),
        (Self::Split, 8),
        (Self::Pause, 6),
        (Self::PausePrimary, 6),
        (Self::Suspend, 5),
        (Self::SuspendPrimary, 5),
        (Self::ClockRate, 5),
        (Self::SlowDisk, 6),
        (Self::DiskFailure, 3),
        (Self::FullDisk, 4),
        (Self::WrongReadBack, 4),
        (Self::Rot, 8),
        (Self::Promote, 6),
        (Self::Fence, 4),
        (Self::Wipe, 8),
        (Self::CutClient, 4),
        (Self::RestartClient, 3),
        (Self::Nudge, 6),
        (Self::PutBack, 12),
    ];

    /// The kinds of a list of names with commas between them; `None` where one is not known.
    pub fn list(names: &str) -> Option<BTreeSet<Self>> {
        let named =
            |name: &str| Self::WEIGHTS.iter().map(|(fault, _)| *fault).find(|fault| format!("{fault:?}") == name);
        names.split(',').filter(|name| !name.is_empty()).map(named).collect()
    }
}
