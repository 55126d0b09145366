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
/// By how much all clocks go on at once, where a world says nothing else.
pub(crate) const JUMP: Duration = Duration::from_millis(60);
/// A jump after which suspicion time and lease are over.
pub(crate) const LONG_JUMP: Duration = Duration::from_millis(110);
/// A lease of several heartbeats, and a jump after which it is over.
pub(crate) const LONG_LEASE: Duration = Duration::from_millis(300);
pub(crate) const LEASE_AND_MORE: Duration = Duration::from_millis(310);

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
    /// Changes asked for that find nothing to change.
    pub no_ops: u8,
    /// Linearizable reads asked for.
    pub reads: u8,
    /// Planned hand-overs asked for.
    pub hand_overs: u8,
    /// One server's streams to all others break, and stand again some time, while everybody lives.
    pub cuts: u8,
    /// Jumps of all clocks.
    pub jumps: u8,
}

/// How a world begins: all servers are members and server 0 leads, and then this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// In a few words.
    pub words: &'static str,
    /// What happens, one after another.
    pub steps: &'static [Ahead],
}

/// One step on the way to where a search begins. Where it says that all goes on, messages arrive in order, and time passes
/// where there is none; what is on its way at the end of the step is so still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// The process of this server ends.
    Down(u8),
    /// A run of it begins.
    Up(u8),
    /// Its directory is emptied.
    Emptied(u8),
    /// Its register is lost.
    RegisterLost(u8),
    /// Its streams break, and nothing passes between it and the others any more before the search begins.
    CutOff(u8),
    /// All goes on until somebody leads and commits a view without this server.
    Out(u8),
    /// All goes on until somebody leads and commits a view with this server.
    In(u8),
    /// All goes on until this server leads, whether it may commit yet or not.
    Leads(u8),
    /// All goes on until this server has derived a view, which is not chosen yet.
    Proposes(u8),
    /// All goes on until nothing is on its way.
    Quiet,
    /// All that is on its way to this server arrives.
    Reaches(u8),
    /// A change is asked for where somebody leads.
    Asked,
    /// The clocks go on to the next deadline of this server, and it comes.
    Tick(u8),
    /// The clocks go on to everybody's next deadline, all come, and all goes on until nothing is on its way.
    Beat,
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
    /// How many questions a run sends, at most; further ones are lost.
    pub asks: u64,
    /// How many probes a run sends, at most; further ones never come back.
    pub probes: u64,
    /// How many questions, and how many probes, of a run are lost by that; what lies behind it is not looked at.
    pub unsent: u64,
    /// By how much all clocks go on at once.
    pub jump: Duration,
    /// Whether a handshake takes its time; else a run that begins has met at once all who live.
    pub late_handshakes: bool,
    /// Whether a write of the disk takes its time; else it is durable at once.
    pub slow_disks: bool,
    /// Whether a probe ever comes back; else nothing is ever proven, as behind a firewall.
    pub proofs: bool,
    /// Whether the commit index, stored lazily, survives a crash; else it is forgotten.
    pub commit_kept: bool,
    /// Whether a backup is asked to read also where it holds no lease; else only while it does, for the answer is no, at
    /// once.
    pub unleased_reads: bool,
    /// What must be seen, or nothing was searched.
    pub sights: &'static [Sight],
}

/// Something that a search reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is a sentence")]
pub enum Sight {
    AWriteWasAnswered,
    AReadWasAnswered,
    AReadWaited,
    APrimaryReadUnderItsLease,
    ABackupReadUnderItsLease,
    AServerWasPromoted,
    AHandOverWasDone,
    APromotionInheritedPreparedEntries,
    AMemberWasRemoved,
    ALearnerWasAdded,
    ATailWasRolledBack,
    ADeathWasProven,
    AServerWasDeposed,
    AStoreWasGivenUp,
    ARetryWasAnswered,
    AVoterRememberedAgain,
}

/// Nothing happens before the search begins.
pub(crate) const WHOLE: Beginning = Beginning { words: "whole", steps: &[] };

impl Rules {
    pub(crate) fn new(name: &'static str, data: usize, witnesses: usize) -> Self {
        let mut voters = vec![VoterKind::Data; data];
        voters.extend(vec![VoterKind::Witness; witnesses]);
        let constants = Constants { lease: LEASE, drift: Drift(10_000), ..Constants::defaults(voters) };
        Self {
            name,
            constants,
            beginning: WHOLE,
            budget: Budget::default(),
            rounds: 1,
            asks: 1,
            probes: 1,
            unsent: 1,
            jump: JUMP,
            late_handshakes: false,
            slow_disks: false,
            proofs: true,
            commit_kept: false,
            unleased_reads: false,
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
