//! What a person set, parsed at the wall: everything behind it is typed and checked.

mod address;
mod flags;
mod stored;
pub mod units;

use std::path::PathBuf;

use heirloom_proto::{Address, NodeConfig, ServerId};

use crate::clock::Rate;
pub use crate::driver::Pace;
use crate::mutants::Planted;

pub use address::resolve;
pub use flags::{ClusterFlags, Place, QuorumFlag, ServeFlags};
pub(crate) use stored::differs;

/// All that one server is told.
///
/// **Invariants:** `node` has passed its check; there is one address for each of its voters.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the node is told.
    pub node: NodeConfig,
    /// Where the servers are found, by id.
    pub servers: Vec<Address>,
    /// Where this one listens.
    pub listen: Address,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// The command that makes sure that a server is off.
    pub fence_command: Option<String>,
    /// Whether a refused connection proves death on other machines too.
    pub trust_connection_refused: bool,
    /// Whether it may listen on other addresses than loopback without TLS.
    pub insecure: bool,
    /// The bug that a test has planted in it.
    pub planted: Planted,
    /// When it makes snapshots and checks what is stored.
    pub pace: Pace,
    /// How fast its clock goes; as the machine's, unless a test says otherwise.
    pub clock: Rate,
}

impl Settings {
    /// Where `server` is found; `None` where the cluster has no such server.
    pub fn address(&self, server: ServerId) -> Option<&Address> {
        self.servers.get(usize::from(server.0))
    }

    /// Every server but this one.
    pub(crate) fn others(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.node.constants.servers().filter(|server| *server != self.node.me)
    }
}
