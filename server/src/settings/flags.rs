//! The options of `heirloom serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use heirloom_proto::limits::{VALUE_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use heirloom_proto::time::Drift;
use heirloom_proto::{Address, ClusterEntry, Constants, NodeConfig, QuorumRule, ServerId, VoterKind};

use super::{Settings, units};
use crate::clock::Rate;
use crate::mutants::Planted;

/// Which server it is of which cluster: what is fixed when the cluster is first started.
#[derive(Args, Clone, Debug)]
pub struct ClusterFlags {
    /// The position of this server in --cluster, counted from 0.
    #[arg(long, env = "HEIRLOOM_ID", value_name = "N")]
    pub id: Option<u8>,
    /// All servers of the cluster, the same list in the same order everywhere: a:p,b:p,witness@c:p.
    #[arg(long, env = "HEIRLOOM_CLUSTER", value_name = "ADDRESSES", value_delimiter = ',')]
    pub cluster: Vec<ClusterEntry>,
    /// Where this server keeps its data.
    #[arg(long, env = "HEIRLOOM_DATA_DIR", value_name = "DIR", default_value = "./heirloom-data")]
    pub data_dir: PathBuf,
    /// Which answers make a quorum. Two voters default to survivors, others to majority.
    #[arg(long, env = "HEIRLOOM_QUORUM", value_enum)]
    pub quorum: Option<QuorumFlag>,
    /// How many copies a write must have. Defaults to a majority of the data servers, to 1 where there are two.
    #[arg(long, env = "HEIRLOOM_MIN_COPIES", value_name = "N")]
    pub min_copies: Option<usize>,
    /// How long a lease lasts; 0 turns leases off.
    #[arg(long, env = "HEIRLOOM_LEASE", value_name = "TIME", default_value = "300ms", value_parser = units::duration)]
    pub lease: Duration,
    /// By how much the rates of two clocks may differ: 0.01 or 1%.
    #[arg(long, env = "HEIRLOOM_DRIFT", value_name = "SHARE", default_value = "0.01", value_parser = units::drift)]
    pub drift: Drift,
}

/// Runs one server. With no options: a cluster of one on 127.0.0.1:7400 with ./heirloom-data.
#[derive(Args, Clone, Debug)]
pub struct ServeFlags {
    /// Which server it is of which cluster.
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Where to listen, if not at the server's own address in --cluster.
    #[arg(long, env = "HEIRLOOM_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<Address>,
    /// How often the primary says that it lives.
    #[arg(long, env = "HEIRLOOM_HEARTBEAT", value_name = "TIME", default_value = "50ms", value_parser = units::duration)]
    pub heartbeat: Duration,
    /// How long a silent server is waited for.
    #[arg(long, env = "HEIRLOOM_SUSPICION", value_name = "TIME", default_value = "400ms", value_parser = units::duration)]
    pub suspicion: Duration,
    /// The largest value taken, in bytes.
    #[arg(long, env = "HEIRLOOM_VALUE_BYTES_MAX", value_name = "BYTES", default_value_t = VALUE_BYTES_MAX)]
    pub value_bytes_max: usize,
    /// A command that makes sure that a server is off, and exits with 0 only when it is. It is run by sh -c with
    /// HEIRLOOM_FENCE_SERVER, HEIRLOOM_FENCE_ADDRESS and HEIRLOOM_FENCE_RUN in its environment, for at most 30 s.
    #[arg(long, env = "HEIRLOOM_FENCE_COMMAND", value_name = "CMD")]
    pub fence_command: Option<String>,
    /// Take a refused connection as proof that a server's process is gone, on other machines too. Only for networks where
    /// no firewall, proxy or address change can refuse in its place.
    #[arg(long, env = "HEIRLOOM_TRUST_CONNECTION_REFUSED", value_parser = FalseyValueParser::new())]
    pub trust_connection_refused: bool,
    /// Listen on addresses other than loopback without TLS.
    #[arg(long, env = "HEIRLOOM_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,
}

/// The values of `--quorum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QuorumFlag {
    /// More than half of the voters: safe whatever the network does.
    Majority,
    /// Every voter but those proven dead; for two voters exactly.
    Survivors,
}

impl QuorumFlag {
    fn rule(self) -> QuorumRule {
        match self {
            Self::Majority => QuorumRule::Majority,
            Self::Survivors => QuorumRule::Survivors,
        }
    }
}

/// A server's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The server.
    pub me: ServerId,
    /// What is the same on all servers.
    pub constants: Constants,
    /// Where they are found, by id.
    pub servers: Vec<Address>,
    /// Where this one keeps its data.
    pub data_dir: PathBuf,
}

impl ClusterFlags {
    /// The place that these options mean. Whether the cluster is one that can be is checked with all else.
    ///
    /// **Errors:** one sentence that says what is so and what to do.
    pub fn place(self) -> Result<Place, String> {
        let mut cluster = self.cluster;
        if cluster.is_empty() {
            let address = Address { host: "127.0.0.1".to_owned(), port: 7400 };
            cluster.push(ClusterEntry { kind: VoterKind::Data, address });
        }
        for (position, entry) in cluster.iter().enumerate() {
            if cluster[..position].iter().any(|earlier| earlier.address == entry.address) {
                return Err(format!("--cluster names {} twice: give every server its own address", entry.address));
            }
        }
        let me = match self.id {
            Some(id) => ServerId(id),
            None if cluster.len() == 1 => ServerId(0),
            None => {
                let last = cluster.len() - 1;
                return Err(format!(
                    "--cluster names {} servers, and --id is missing: say which one this is, 0 to {last}",
                    cluster.len()
                ));
            }
        };
        let mut constants = Constants::defaults(cluster.iter().map(|entry| entry.kind).collect());
        constants.lease = self.lease;
        constants.drift = self.drift;
        if let Some(quorum) = self.quorum {
            constants.quorum = quorum.rule();
        }
        if let Some(min_copies) = self.min_copies {
            constants.min_copies = min_copies;
        }
        let servers = cluster.into_iter().map(|entry| entry.address).collect();
        Ok(Place { me, constants, servers, data_dir: self.data_dir })
    }
}

impl ServeFlags {
    /// The settings that these options mean.
    ///
    /// **Errors:** one sentence that says what is so and what to do.
    pub fn settings(self) -> Result<Settings, String> {
        let Place { me, constants, servers, data_dir } = self.cluster.place()?;
        if !(1..=VALUE_BYTES_MAX_MAX).contains(&self.value_bytes_max) {
            return Err(format!(
                "--value-bytes-max {} is out of range: use 1 to {VALUE_BYTES_MAX_MAX}",
                self.value_bytes_max
            ));
        }
        let node = NodeConfig {
            me,
            constants,
            heartbeat: self.heartbeat,
            suspicion: self.suspicion,
            value_bytes_max: self.value_bytes_max,
        };
        node.check()?;
        let listen = self.listen.unwrap_or_else(|| servers[usize::from(me.0)].clone());
        Ok(Settings {
            node,
            servers,
            listen,
            data_dir,
            fence_command: self.fence_command.filter(|command| !command.trim().is_empty()),
            trust_connection_refused: self.trust_connection_refused,
            insecure: self.insecure,
            planted: Planted::NONE,
            pace: super::Pace::default(),
            clock: Rate::TRUE,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: ServeFlags,
    }

    fn settings(line: &str) -> Result<Settings, String> {
        let words = std::iter::once("serve").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.flags.settings()
    }

    #[test]
    fn no_options_mean_a_cluster_of_one() {
        let settings = settings("").expect("the defaults are valid");
        assert_eq!(settings.servers.len(), 1);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:7400");
        assert_eq!(settings.data_dir, PathBuf::from("./heirloom-data"));
        assert_eq!(settings.node.constants, Constants::defaults(vec![VoterKind::Data]));
        assert_eq!(settings.node.me, ServerId(0));
    }

    #[test]
    fn two_voters_default_to_survivors_and_three_to_majority() {
        let two = settings("--id 0 --cluster a:1,b:1").expect("valid").node.constants;
        assert_eq!((two.quorum, two.min_copies), (QuorumRule::Survivors, 1));
        let three = settings("--id 2 --cluster a:1,b:1,c:1").expect("valid").node.constants;
        assert_eq!((three.quorum, three.min_copies), (QuorumRule::Majority, 2));
        let witness = settings("--id 2 --cluster a:1,b:1,witness@c:1").expect("valid").node.constants;
        assert_eq!((witness.quorum, witness.min_copies), (QuorumRule::Majority, 1));
        assert_eq!(witness.voters[2], VoterKind::Witness);
    }

    #[test]
    fn every_option_reaches_the_settings() {
        let line = "--id 1 --cluster a:1,b:2,c:3 --data-dir /d --listen 127.0.0.1:9 --quorum majority --min-copies 3 \
            --lease 0 --heartbeat 10ms --suspicion 1s --drift 2% --value-bytes-max 5 --fence-command true \
            --trust-connection-refused --insecure";
        let settings = settings(line).expect("valid");
        assert_eq!(settings.listen.to_string(), "127.0.0.1:9");
        let constants = &settings.node.constants;
        assert_eq!((constants.min_copies, constants.lease, constants.drift), (3, Duration::ZERO, Drift(20_000)));
        assert_eq!(settings.node.heartbeat, Duration::from_millis(10));
        assert_eq!(settings.node.suspicion, Duration::from_secs(1));
        assert_eq!(settings.node.value_bytes_max, 5);
        assert_eq!(settings.fence_command.as_deref(), Some("true"));
        assert!(settings.trust_connection_refused && settings.insecure);
    }

    #[test]
    fn a_cluster_of_more_servers_than_ids_is_refused() {
        for servers in [10, 255, 256, 257, 301] {
            let cluster: Vec<String> = (1..=servers).map(|port| format!("a:{port}")).collect();
            let error = settings(&format!("--id 0 --cluster {}", cluster.join(","))).expect_err("too many");
            assert_eq!(error, format!("--cluster names {servers} servers: use at most 9"));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence_that_names_the_option() {
        let cases = [
            ("--cluster a:1,b:1", "--id"),
            ("--cluster a:1,b:1 --id 2", "--id"),
            ("--cluster a:1,a:1 --id 0", "--cluster"),
            ("--cluster witness@a:1", "--cluster"),
            ("--cluster a", "--cluster"),
            ("--cluster a:1,b:1,c:1 --id 0 --quorum survivors", "--quorum"),
            ("--min-copies 2", "--min-copies"),
            ("--heartbeat 0", "--heartbeat"),
            ("--heartbeat 1s", "--suspicion"),
            ("--heartbeat 10000000000000000000s", "--heartbeat"),
            ("--suspicion 2000m", "--suspicion"),
            ("--lease 300", "--lease"),
            ("--drift 60%", "--drift"),
            ("--value-bytes-max 0", "--value-bytes-max"),
            ("--value-bytes-max 99999999", "--value-bytes-max"),
        ];
        for (line, option) in cases {
            let error = settings(line).expect_err(line);
            assert!(error.contains(option), "{line}: {error}");
        }
    }
}
