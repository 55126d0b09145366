//! What kind of world a seed gives: the cluster, its clients, and how rough it is.

use std::time::Duration;

use heirloom_proto::limits::VALUE_BYTES_MAX;
use heirloom_proto::{Constants, NodeConfig, ServerId, VoterKind};

use crate::clock::{Instant, MICROSECOND, MILLISECOND, SECOND};
use crate::fault::Fault;
use crate::random::Random;

/// How many keys a world has at most.
pub(crate) const KEYS_MAX: u64 = 8;

/// A kind of cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One server.
    One,
    /// Two data servers under the quorum rule *survivors*.
    Two,
    /// Two data servers and a witness.
    TwoAndWitness,
    /// Three data servers.
    Three,
    /// Three data servers of which one copy is enough.
    ThreeLoose,
    /// Three data servers of which all must confirm.
    ThreeStrict,
    /// Three data servers and two witnesses.
    ThreeAndTwoWitnesses,
    /// Five data servers.
    Five,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::One,
        Self::Two,
        Self::TwoAndWitness,
        Self::Three,
        Self::ThreeLoose,
        Self::ThreeStrict,
        Self::ThreeAndTwoWitnesses,
        Self::Five,
    ];
    const WEIGHTS: [u64; 8] = [3, 20, 15, 27, 8, 5, 7, 15];

    fn constants(self) -> Constants {
        let (data, witnesses) = match self {
            Self::One => (1, 0),
            Self::Two => (2, 0),
            Self::TwoAndWitness => (2, 1),
            Self::Three | Self::ThreeLoose | Self::ThreeStrict => (3, 0),
            Self::ThreeAndTwoWitnesses => (3, 2),
            Self::Five => (5, 0),
        };
        let mut voters = vec![VoterKind::Data; data];
        voters.extend(vec![VoterKind::Witness; witnesses]);
        let mut constants = Constants::defaults(voters);
        match self {
            Self::ThreeLoose => constants.min_copies = 1,
            Self::ThreeStrict => constants.min_copies = 3,
            Self::One | Self::Two | Self::TwoAndWitness | Self::Three | Self::ThreeAndTwoWitnesses | Self::Five => {}
        }
        constants
    }
}

/// When a probe proves that a run is dead. It never lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Never: a firewalled network.
    Never,
    /// Where the host is up and no process of the server is: connection refused.
    Refusal,
    /// Where that run is gone, though a later one may live: a fencing command.
    Run,
}

/// Whether servers come back with an emptied directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wipes {
    Never,
    /// Only while that loses neither data nor the cluster: liveness is still asked for.
    Careful,
    /// At any time: only safety is asked for, and of that only what can hold.
    Wild,
}

/// All that a seed decides before anything happens.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub shape: Shape,
    pub constants: Constants,
    pub heartbeat: Duration,
    pub suspicion: Duration,
    /// How long things go wrong.
    pub turmoil: Instant,
    pub clients: u64,
    pub keys: u64,
    pub think_mean: Instant,
    pub call_patience: Instant,
    /// The usual delay of a message.
    pub delay: (Instant, Instant),
    /// Of a thousand messages so many are very late, lost, doubled.
    pub late: u64,
    pub lost: u64,
    pub doubled: u64,
    pub in_order: bool,
    /// Of a thousand cuts so many are noticed by nobody.
    pub silent_cuts: u64,
    pub sync: (Instant, Instant),
    pub proof: Proof,
    /// Of a thousand steps so many are followed by a flush at once.
    pub prompt_flush: u64,
    /// Of a thousand deadlines so many come early, late.
    pub early_deadlines: u64,
    pub late_deadlines: u64,
    /// The mean time between two faults; `None` for a calm world.
    pub fault_mean: Option<Instant>,
    pub faults: Vec<(Fault, u64)>,
    pub wipes: Wipes,
    /// The mean time between two snapshots of a server; `None` where it makes none.
    pub snapshot_mean: Option<Instant>,
    /// How many entries a server keeps behind its snapshot at most.
    pub entries_kept: u64,
    /// How long a server that went down stays down.
    pub down_mean: Instant,
    /// The furthest that a clock runs too fast or too slow. **Units:** parts per million.
    pub fast_ppm_max: i64,
}

impl Plan {
    pub(crate) fn of(random: &mut Random, shape: Option<Shape>) -> Self {
        let drawn = Shape::ALL[random.weighted(&Shape::WEIGHTS)];
        let shape = shape.unwrap_or(drawn);
        let mut constants = shape.constants();
        if random.per_mille(250) {
            constants.lease = Duration::ZERO;
        } else if random.per_mille(200) {
            constants.lease = Duration::from_millis(random.between(100, 1500));
        }
        let suspicion = if random.per_mille(700) {
            Duration::from_millis(400)
        } else {
            Duration::from_millis(random.between(150, 900))
        };
        let calm = random.per_mille(80);
        let clean_network = calm || random.per_mille(350);
        let wide = random.per_mille(300);
        // Each world has its own favourite troubles, so that not every one is an average of all.
        let faults = Fault::WEIGHTS
            .iter()
            .map(|(fault, weight)| (*fault, if random.per_mille(600) { *weight * random.between(1, 3) } else { 0 }))
            .collect();
        Self {
            shape,
            constants,
            heartbeat: Duration::from_millis(50),
            suspicion,
            turmoil: random.between(6, 14) * SECOND,
            clients: random.between(2, 5),
            keys: random.between(2, KEYS_MAX),
            think_mean: random.between(5, 80) * MILLISECOND,
            call_patience: random.pick(&[500, 2_000, 5_000]) * MILLISECOND,
            delay: if wide { (200 * MICROSECOND, 40 * MILLISECOND) } else { (50 * MICROSECOND, 2 * MILLISECOND) },
            late: if clean_network { 0 } else { random.between(0, 30) },
            lost: if clean_network { 0 } else { random.pick(&[0, 2, 10, 50]) },
            doubled: if clean_network { 0 } else { random.pick(&[0, 5, 50]) },
            in_order: clean_network || random.per_mille(300),
            silent_cuts: random.pick(&[0, 300, 1000]),
            sync: random.pick(&[
                (20 * MICROSECOND, 100 * MICROSECOND),
                (200 * MICROSECOND, 4 * MILLISECOND),
                (MILLISECOND, 30 * MILLISECOND),
                // As slow as a member may be without being put out for it: the choice of a primary takes four of them.
                (10 * MILLISECOND, Instant::try_from(suspicion.as_nanos()).expect("64 bits") / 3),
            ]),
            proof: random.pick(&[Proof::Never, Proof::Refusal, Proof::Refusal, Proof::Run]),
            prompt_flush: random.pick(&[1000, 1000, 500, 0]),
            early_deadlines: random.pick(&[0, 0, 50]),
            late_deadlines: random.pick(&[0, 10, 100]),
            fault_mean: (!calm).then(|| random.between(150, 1_200) * MILLISECOND),
            faults,
            wipes: if calm {
                Wipes::Never
            } else {
                random.pick(&[Wipes::Never, Wipes::Careful, Wipes::Careful, Wipes::Wild])
            },
            snapshot_mean: random.pick(&[None, Some(200 * MILLISECOND), Some(SECOND), Some(4 * SECOND)]),
            entries_kept: random.pick(&[0, 5, 50]),
            down_mean: random.between(30, 1_500) * MILLISECOND,
            fast_ppm_max: random.pick(&[0, 50, 4_970, 4_970]),
        }
    }

    pub(crate) fn config(&self, me: ServerId) -> NodeConfig {
        NodeConfig {
            me,
            constants: self.constants.clone(),
            heartbeat: self.heartbeat,
            suspicion: self.suspicion,
            value_bytes_max: VALUE_BYTES_MAX,
        }
    }

    pub(crate) fn servers(&self) -> Vec<ServerId> {
        self.constants.servers().collect()
    }
}
