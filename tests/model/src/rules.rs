//! What a small world is made of, and what may happen in it: the bounds within which a search is complete.

use std::time::Duration;

use heirloom_proto::time::Drift;
use heirloom_proto::{Constants, NodeConfig, QuorumRule, ServerId, VoterKind};

/// A heartbeat. One jump of the clocks is [`JUMP`], a little more, so that whatever waits for a heartbeat is due.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(50);
/// Two jumps are more than the suspicion time, one is less.
pub(crate) const SUSPICION: Duration = Duration::from_millis(100);
/// Two jumps are more than a lease, with drift and all; one is less.
pub(crate) const LEASE: Duration = Duration::from_millis(100);
/// By how much all clocks go on at once.
pub(crate) const JUMP: Duration = Duration::from_millis(60);

/// How often things may happen in one run of a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget {
    /// Crashes of a process, at any moment.
    pub crashes: u8,
    /// Runs begun by a server that is down.
    pub starts: u8,
    /// Directories emptied while their server is down.
    pub emptied: u8,
    /// Registers lost while their server is down.
    pub registers_lost: u8,
    /// Changes asked for.
    pub writes: u8,
    /// Changes asked for again, under the same name.
    pub retries: u8,
    /// Linearizable reads asked for.
    pub reads: u8,
    /// Planned hand-overs asked for.
    pub hand_overs: u8,
    /// One server's streams to all others break, and stand again some time, while everybody lives.
    pub cuts: u8,
    /// Jumps of all clocks.
    pub jumps: u8,
}

/// How a world begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beginning {
    /// All servers are members, and one leads.
    Whole,
    /// The last data server was put out of the view and is down: it comes back as a learner.
    Learner,
    /// As [`Self::Whole`], and the last server is down, out of the view or not: a quorum lives.
    OneDown,
}

/// One small world.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What it is called.
    pub name: &'static str,
    /// The cluster.
    pub constants: Constants,
    /// How it begins.
    pub beginning: Beginning,
    /// What may happen.
    pub budget: Budget,
    /// The highest round of an epoch above that of the beginning; what lies behind it is not looked at.
    pub rounds: u64,
    /// How many questions a run asks, at most; what lies behind it is not looked at.
    pub asks: u64,
    /// How many probes a run sends, at most; what lies behind it is not looked at.
    pub probes: u64,
    /// Whether a write of the disk takes its time; else it is durable at once.
    pub slow_disks: bool,
    /// Whether a probe ever comes back; else nothing is ever proven, as behind a firewall.
    pub proofs: bool,
    /// Whether the commit index, stored lazily, survives a crash; else it is forgotten.
    pub commit_kept: bool,
    /// What must be seen, or nothing was searched.
    pub sights: &'static [Sight],
}

/// Something that a search reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is a sentence")]
pub enum Sight {
    AWriteWasAnswered,
    AReadWasAnswered,
    AServerWasPromoted,
    APromotionInheritedPreparedEntries,
    AMemberWasRemoved,
    ALearnerWasAdded,
    ATailWasRolledBack,
    ADeathWasProven,
    AServerWasDeposed,
    AStoreWasGivenUp,
    ARetryWasAnswered,
}

impl Rules {
    pub(crate) fn new(name: &'static str, data: usize, witnesses: usize) -> Self {
        let mut voters = vec![VoterKind::Data; data];
        voters.extend(vec![VoterKind::Witness; witnesses]);
        let constants = Constants { lease: LEASE, drift: Drift(10_000), ..Constants::defaults(voters) };
        Self {
            name,
            constants,
            beginning: Beginning::Whole,
            budget: Budget::default(),
            rounds: 1,
            asks: 1,
            probes: 1,
            slow_disks: false,
            proofs: true,
            commit_kept: false,
            sights: &[],
        }
    }

    pub(crate) fn config(&self, me: ServerId) -> NodeConfig {
        NodeConfig {
            me,
            constants: self.constants.clone(),
            heartbeat: HEARTBEAT,
            suspicion: SUSPICION,
            value_bytes_max: 1 << 10,
        }
    }

    /// The cluster in a few words.
    pub fn cluster(&self) -> String {
        let data = self.constants.data_servers().count();
        let witnesses = self.constants.voters.len() - data;
        let rule = match self.constants.quorum {
            QuorumRule::Majority => "",
            QuorumRule::Survivors => ", survivors",
        };
        match witnesses {
            0 => format!("{data} data servers{rule}"),
            1 => format!("{data} data servers and a witness{rule}"),
            more => format!("{data} data servers and {more} witnesses{rule}"),
        }
    }
}
