//! Whom a server talks to: what the first message of a stream must say.

use std::fmt;

use heirloom_proto::wire::link::Hello;
use heirloom_proto::{ClusterId, ServerId};

/// Why a handshake is refused, as one sentence with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    /// It speaks another version of the protocol.
    Protocol { server: ServerId, theirs: u32, ours: u32 },
    /// The cluster has no such server.
    Stranger { server: ServerId, servers: usize },
    /// It says that it is this server.
    Namesake { server: ServerId },
    /// Another server than the one dialled answers there.
    Mistaken { dialled: ServerId, found: ServerId },
    /// Its data belongs to another cluster. (Another *generation* of this one is for the node to sort out.)
    OtherCluster { server: ServerId, theirs: ClusterId, ours: ClusterId },
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol { server, theirs, ours } => write!(
                f,
                "server {server} speaks version {theirs} of the protocol, and this server version {ours}: \
                 run the same release of heirloom on both"
            ),
            Self::Stranger { server, servers } => write!(
                f,
                "a server says that it has --id {server}, and --cluster names {servers} servers: \
                 start all servers with the same --cluster"
            ),
            Self::Namesake { server } => write!(
                f,
                "another server says that it has --id {server}, as this one does: give each its own --id, its position \
                 in --cluster"
            ),
            Self::Mistaken { dialled, found } => write!(
                f,
                "at the address of server {dialled} answers server {found}: start all servers with the same --cluster"
            ),
            Self::OtherCluster { server, theirs, ours } => write!(
                f,
                "the data directory of server {server} belongs to another cluster ({theirs}, this one is {ours}): \
                 start it with the right --data-dir or the right --cluster"
            ),
        }
    }
}

/// Checks what the other end says of itself; `dialled` is whom this end meant to reach.
pub(crate) fn check(
    theirs: &Hello,
    ours: &Hello,
    dialled: Option<ServerId>,
    servers: usize,
) -> Result<(), HandshakeError> {
    let server = theirs.peer.server;
    if theirs.protocol != ours.protocol {
        return Err(HandshakeError::Protocol { server, theirs: theirs.protocol, ours: ours.protocol });
    }
    if usize::from(server.0) >= servers {
        return Err(HandshakeError::Stranger { server, servers });
    }
    if server == ours.peer.server {
        return Err(HandshakeError::Namesake { server });
    }
    if let Some(dialled) = dialled.filter(|dialled| *dialled != server) {
        return Err(HandshakeError::Mistaken { dialled, found: server });
    }
    match (theirs.cluster, ours.cluster) {
        (Some(theirs), Some(ours)) if theirs.id != ours.id => {
            Err(HandshakeError::OtherCluster { server, theirs, ours })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use heirloom_proto::wire::link::PROTOCOL_VERSION;
    use heirloom_proto::{Peer, RunId, StoreId};

    use super::*;

    const CLUSTER: ClusterId = ClusterId { id: 5, generation: 1 };

    fn hello(server: u8, cluster: Option<ClusterId>) -> Hello {
        let peer = Peer { server: ServerId(server), store: StoreId(1), run: RunId(2) };
        Hello { peer, cluster, protocol: PROTOCOL_VERSION }
    }

    #[test]
    fn a_server_of_the_cluster_is_welcome_blank_or_of_another_generation_too() {
        let ours = hello(0, Some(CLUSTER));
        for cluster in [None, Some(CLUSTER), Some(ClusterId { generation: 2, ..CLUSTER })] {
            assert_eq!(check(&hello(1, cluster), &ours, Some(ServerId(1)), 2), Ok(()));
            assert_eq!(check(&hello(1, cluster), &ours, None, 2), Ok(()));
        }
        assert_eq!(check(&hello(1, Some(CLUSTER)), &hello(0, None), None, 2), Ok(()));
    }

    #[test]
    fn whoever_does_not_belong_is_refused_with_the_reason() {
        let ours = hello(0, Some(CLUSTER));
        let refused = |theirs: Hello, dialled: Option<u8>| {
            check(&theirs, &ours, dialled.map(ServerId), 3).expect_err("refused").to_string()
        };
        assert!(refused(hello(3, None), None).contains("--cluster names 3 servers"));
        assert!(refused(hello(0, None), None).contains("own --id"));
        assert!(refused(hello(2, None), Some(1)).contains("address of server 1 answers server 2"));
        assert!(refused(hello(1, Some(ClusterId { id: 6, generation: 1 })), None).contains("another cluster"));
        assert!(refused(Hello { protocol: 99, ..hello(1, None) }, None).contains("version 99"));
    }
}
