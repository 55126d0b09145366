//! What a human set, parsed at the wall: what must be the same everywhere, and what is one server's own.

use std::time::Duration;

use crate::ids::ServerId;
use crate::limits::SERVERS_MAX;
use crate::time::Drift;

/// Whether a voter also keeps data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoterKind {
    /// Keeps the register and a copy of the data.
    Data,
    /// Keeps the register alone (on a disk: a witness that forgets loses data).
    Witness,
}

/// Which answers make a quorum of the view register (PROTOCOL 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuorumRule {
    /// More than half of the voters: safe whatever the network does.
    Majority,
    /// Every voter but those proven dead; for two voters exactly.
    Survivors,
}

/// What is fixed when a cluster is first started and must be the same on every server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Constants {
    /// One for each server, by id.
    pub voters: Vec<VoterKind>,
    /// The quorum rule.
    pub quorum: QuorumRule,
    /// `L`, the length of a lease; zero turns leases off.
    pub lease: Duration,
    /// The bound on the rates of two clocks.
    pub drift: Drift,
    /// No view has fewer members, no write fewer copies.
    pub min_copies: usize,
}

impl Constants {
    /// The defaults for a cluster of these voters.
    pub fn defaults(voters: Vec<VoterKind>) -> Self {
        let data = voters.iter().filter(|kind| **kind == VoterKind::Data).count();
        let quorum = if voters.len() == 2 { QuorumRule::Survivors } else { QuorumRule::Majority };
        Self {
            quorum,
            lease: Duration::from_millis(300),
            drift: Drift(10_000),
            min_copies: Self::min_copies_default(data),
            voters,
        }
    }

    /// A majority of the data servers; 1 where there are two.
    pub fn min_copies_default(data_servers: usize) -> usize {
        if data_servers == 2 { 1 } else { data_servers / 2 + 1 }
    }

    /// All voters, by id.
    pub fn servers(&self) -> impl Iterator<Item = ServerId> + use<> {
        (0..self.voters.len()).map(|position| ServerId(u8::try_from(position).expect("at most SERVERS_MAX")))
    }

    /// The data servers, by id.
    pub fn data_servers(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.servers().filter(|server| self.kind(*server) == Some(VoterKind::Data))
    }

    /// What `server` is; `None` where the cluster has no such server.
    pub fn kind(&self, server: ServerId) -> Option<VoterKind> {
        self.voters.get(usize::from(server.0)).copied()
    }

    /// Checks what the parts must be to each other.
    ///
    /// **Errors:** one sentence that says what is so and what to do.
    pub fn check(&self) -> Result<(), String> {
        let voters = self.voters.len();
        // First, for only so many have ids.
        if voters > SERVERS_MAX {
            return Err(format!("--cluster names {voters} servers: use at most {SERVERS_MAX}"));
        }
        let data = self.data_servers().count();
        if voters == 0 || data == 0 {
            return Err("--cluster names no data server: name at least one address without witness@".to_owned());
        }
        if self.quorum == QuorumRule::Survivors && voters != 2 {
            return Err(format!(
                "--quorum survivors is for two voters exactly, and --cluster names {voters}: use majority"
            ));
        }
        if self.quorum == QuorumRule::Survivors && data != 2 {
            return Err("--quorum survivors needs two data servers: a witness alone could not go on".to_owned());
        }
        if self.min_copies == 0 {
            return Err("--min-copies 0 would keep no copy: use at least 1".to_owned());
        }
        if self.min_copies > data {
            return Err(format!(
                "--min-copies {} is more than the {data} data servers in --cluster: use {}",
                self.min_copies,
                if data == 1 { "1".to_owned() } else { format!("1 to {data}") }
            ));
        }
        if self.drift.0 > 500_000 {
            return Err("--drift is more than 50 %: use a bound below 0.5".to_owned());
        }
        Ok(())
    }

    /// The same, and that this server is one of them.
    ///
    /// **Errors:** one sentence that says what is so and what to do.
    pub fn check_with(&self, me: ServerId) -> Result<(), String> {
        self.check()?;
        match self.kind(me) {
            Some(_) => Ok(()),
            None => Err(format!(
                "--id {me} is not in --cluster, which names {} servers: use 0 to {}",
                self.voters.len(),
                self.voters.len() - 1
            )),
        }
    }
}

/// All that one node is told at its birth.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeConfig {
    /// This server.
    pub me: ServerId,
    /// What is the same everywhere.
    pub constants: Constants,
    /// How often the primary heartbeats.
    pub heartbeat: Duration,
    /// How long a silent server is waited for.
    pub suspicion: Duration,
    /// The largest value accepted. **Units:** bytes.
    pub value_bytes_max: usize,
}

impl NodeConfig {
    /// Whether this server keeps data.
    pub fn kind(&self) -> VoterKind {
        self.constants.kind(self.me).expect("checked when the configuration was parsed")
    }

    /// Checks this server's own settings and the cluster's.
    ///
    /// **Errors:** one sentence that says what is so and what to do.
    pub fn check(&self) -> Result<(), String> {
        self.constants.check_with(self.me)?;
        if self.heartbeat.is_zero() {
            return Err("--heartbeat 0 would never pause: use at least 1ms".to_owned());
        }
        let suspicion_min = self.heartbeat.saturating_mul(2);
        if self.suspicion < suspicion_min {
            return Err(format!(
                "--suspicion {:?} is less than two heartbeats of {:?}: use at least {suspicion_min:?}",
                self.suspicion, self.heartbeat,
            ));
        }
        Ok(())
    }
}
