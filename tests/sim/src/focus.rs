//! What a world may be about, so that some things come to pass more often than chance would have it.

use std::time::Duration;

use crate::clock::{MICROSECOND, MILLISECOND};
use crate::fault::Fault;
use crate::plan::{Plan, Proof, Wipes};

/// What a world is about: a change of its plan by which some things come to pass more often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Focus {
    /// Whatever the seed draws.
    #[default]
    Any,
    /// Processes die and come back, and their deaths are proven.
    Deaths,
    /// Servers lose their directories, as long as the cluster survives it.
    Losses,
    /// Servers are cut off and stopped, nothing is ever proven, primaries hold leases, and clients read all the time.
    Leases,
    /// Servers die and come back all the time while much is written, over slow disks and a network that loses.
    Returns,
    /// Processes end and are back at once, many proposals meet, and every word takes long.
    Flaps,
}

impl Focus {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Any, Self::Deaths, Self::Losses, Self::Leases, Self::Returns, Self::Flaps];

    pub(crate) fn apply(self, plan: &mut Plan) {
        let faults: Vec<Fault> = plan.faults.iter().map(|(fault, _)| *fault).collect();
        let only = |wanted: &[Fault]| faults.iter().map(|fault| (*fault, u64::from(wanted.contains(fault)))).collect();
        plan.fault_mean = match self {
            Self::Any => return,
            Self::Deaths | Self::Losses | Self::Leases | Self::Returns => Some(250 * MILLISECOND),
            Self::Flaps => Some(80 * MILLISECOND),
        };
        match self {
            Self::Any => {}
            Self::Deaths => {
                plan.proof = Proof::Run;
                plan.down_mean = 100 * MILLISECOND;
                plan.faults = only(&[
                    Fault::Crash,
                    Fault::CrashPrimary,
                    Fault::CrashWithinStep,
                    Fault::PowerLoss,
                    Fault::Isolate,
                    Fault::CutOneWay,
                ]);
            }
            Self::Losses => {
                plan.wipes = Wipes::Careful;
                plan.down_mean = 100 * MILLISECOND;
                plan.faults = only(&[
                    Fault::Wipe,
                    Fault::PutBack,
                    Fault::CrashPrimary,
                    Fault::Crash,
                    Fault::Isolate,
                    Fault::Promote,
                ]);
            }
            Self::Flaps => {
                plan.proof = Proof::Run;
                plan.down_mean = 4 * MILLISECOND;
                plan.suspicion = Duration::from_millis(150);
                plan.delay = (200 * MICROSECOND, 40 * MILLISECOND);
                plan.lost = 50;
                plan.sync = (20 * MICROSECOND, 100 * MICROSECOND);
                plan.think_mean = 10 * MILLISECOND;
                plan.faults =
                    only(&[Fault::Crash, Fault::CrashPrimary, Fault::CutOneWay, Fault::Isolate, Fault::Nudge]);
            }
            Self::Returns => {
                plan.proof = Proof::Run;
                plan.down_mean = 50 * MILLISECOND;
                plan.think_mean = 5 * MILLISECOND;
                plan.lost = 50;
                plan.late = 100;
                plan.in_order = false;
                plan.sync = (200 * MICROSECOND, 4 * MILLISECOND);
                plan.faults = only(&[Fault::Crash, Fault::CrashPrimary, Fault::CrashWithinStep, Fault::SlowDisk]);
            }
            Self::Leases => {
                plan.proof = Proof::Never;
                plan.constants.lease = Duration::from_millis(600);
                plan.suspicion = Duration::from_millis(150);
                plan.silent_cuts = 1000;
                plan.late = 100;
                plan.in_order = false;
                plan.think_mean = 5 * MILLISECOND;
                plan.keys = 2;
                plan.faults = only(&[Fault::Isolate, Fault::Split, Fault::PausePrimary, Fault::CutOneWay]);
            }
        }
    }
}
