//! Asking for a snapshot, and how the answer begins, on the wire.

use super::link::{Hello, hello_from_wire, hello_to_wire};
use super::parts::{position_from_wire, position_to_wire};
use super::{cluster_from_text, v1};
use crate::codec::Malformed;
use crate::ids::{ClusterId, Position};

/// What a server that lacks entries asks another one for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Who asks.
    pub hello: Hello,
    /// Of which snapshot the bytes are that are there already; `None`: of none.
    pub held: Option<Position>,
    /// How many those are.
    pub offset: u64,
}

/// The beginning of a snapshot that an operator's file has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSnapshot {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Of which state.
    pub position: Position,
    /// How many bytes are there.
    pub offset: u64,
}

/// How the answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotBegin {
    /// Of which state it is.
    pub position: Position,
    /// How long the whole file is.
    pub bytes: u64,
    /// Where the first byte that follows stands: the offset asked for, or zero where it is of another snapshot.
    pub offset: u64,
}

/// A request for the wire.
pub fn request_to_wire(request: &SnapshotRequest) -> v1::FetchSnapshotRequest {
    v1::FetchSnapshotRequest {
        hello: Some(hello_to_wire(&request.hello)),
        held: request.held.map(position_to_wire),
        offset: request.offset,
    }
}

/// A request from the wire.
///
/// **Errors:** [`Malformed`] where it does not say who asks.
pub fn request_from_wire(wire: v1::FetchSnapshotRequest) -> Result<SnapshotRequest, Malformed> {
    let hello = wire.hello.ok_or(Malformed("request for a snapshot: a handshake is missing"))?;
    let held = wire.held.map(|held| position_from_wire(Some(held))).transpose()?;
    Ok(SnapshotRequest { hello: hello_from_wire(hello)?, held, offset: wire.offset })
}

/// What is there already, for the wire.
pub fn held_to_wire(held: HeldSnapshot) -> v1::HeldSnapshot {
    let HeldSnapshot { cluster, position, offset } = held;
    v1::HeldSnapshot { cluster: cluster.to_string(), position: Some(position_to_wire(position)), offset }
}

/// What is there already, from the wire.
///
/// **Errors:** [`Malformed`] where it does not say of which cluster and state it is.
pub fn held_from_wire(wire: v1::HeldSnapshot) -> Result<HeldSnapshot, Malformed> {
    let cluster =
        cluster_from_text(&wire.cluster)?.ok_or(Malformed("snapshot that is held: its cluster is missing"))?;
    Ok(HeldSnapshot { cluster, position: position_from_wire(wire.position)?, offset: wire.offset })
}

/// A beginning for the wire.
pub fn begin_to_wire(begin: SnapshotBegin) -> v1::SnapshotBegin {
    let SnapshotBegin { position, bytes, offset } = begin;
    v1::SnapshotBegin { position: Some(position_to_wire(position)), bytes, offset }
}

/// A beginning from the wire.
///
/// **Errors:** [`Malformed`] where there is none, or it begins behind its own end.
pub fn begin_from_wire(wire: Option<v1::SnapshotBegin>) -> Result<SnapshotBegin, Malformed> {
    let wire = wire.ok_or(Malformed("beginning of a snapshot: it is missing"))?;
    let begin = SnapshotBegin { position: position_from_wire(wire.position)?, bytes: wire.bytes, offset: wire.offset };
    if begin.offset > begin.bytes { Err(Malformed("beginning of a snapshot: behind its end")) } else { Ok(begin) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::ChainHash;
    use crate::ids::{LogIndex, Peer, RunId, ServerId, StoreId};
    use crate::wire::link::PROTOCOL_VERSION;

    const POSITION: Position = Position { index: LogIndex(7), hash: ChainHash(9) };

    #[test]
    fn requests_and_beginnings_survive_the_wire_and_what_is_missing_is_refused() {
        let peer = Peer { server: ServerId(1), store: StoreId(2), run: RunId(3) };
        let hello = Hello { peer, cluster: None, protocol: PROTOCOL_VERSION };
        for held in [None, Some(POSITION)] {
            let request = SnapshotRequest { hello, held, offset: 5 };
            assert_eq!(request_from_wire(request_to_wire(&request)), Ok(request));
        }
        let begin = SnapshotBegin { position: POSITION, bytes: 10, offset: 10 };
        assert_eq!(begin_from_wire(Some(begin_to_wire(begin))), Ok(begin));
        assert!(begin_from_wire(Some(begin_to_wire(SnapshotBegin { offset: 11, ..begin }))).is_err());
        assert!(begin_from_wire(None).is_err());
        let held = HeldSnapshot { cluster: ClusterId { id: 3, generation: 2 }, position: POSITION, offset: 5 };
        assert_eq!(held_from_wire(held_to_wire(held)), Ok(held));
        for cut in [
            v1::HeldSnapshot { cluster: String::new(), ..held_to_wire(held) },
            v1::HeldSnapshot { position: None, ..held_to_wire(held) },
        ] {
            assert!(held_from_wire(cut).is_err());
        }
        let nobody = v1::FetchSnapshotRequest { hello: None, held: None, offset: 0 };
        assert!(request_from_wire(nobody).is_err());
    }
}
