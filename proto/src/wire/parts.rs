//! The parts of which messages between servers are made.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::{epoch_from_wire, epoch_to_wire, server_from_wire, v1};
use crate::codec::Malformed;
use crate::config::{Constants, QuorumRule, VoterKind};
use crate::hash::{ChainHash, Digest};
use crate::ids::{ClusterId, LogIndex, Member, Position, StoreId};
use crate::limits::{SERVERS_MAX, TAIL_EPOCHS_MAX};
use crate::message::{EpochEnd, Remembered, Tail};
use crate::register::{Register, Standing};
use crate::time::Drift;
use crate::view::View;

/// How many members of one kind a view names at most: a server may be leaving under several stores.
const VIEW_MEMBERS_MAX: usize = SERVERS_MAX * 64;

pub(super) fn cluster_to_wire(cluster: Option<ClusterId>) -> (u64, u32) {
    cluster.map_or((0, 0), |cluster| (cluster.id, cluster.generation))
}

/// Generations count from 1, so that a generation of 0 says that there is no cluster; the id may be any number.
pub(super) fn cluster_from_wire(id: u64, generation: u32) -> Option<ClusterId> {
    (generation != 0).then_some(ClusterId { id, generation })
}

fn hash_to_wire(hash: u128) -> Bytes {
    Bytes::copy_from_slice(&hash.to_le_bytes())
}

fn hash_from_wire(wire: &Bytes) -> Result<u128, Malformed> {
    let bytes = <[u8; 16]>::try_from(wire.as_ref()).map_err(|_| Malformed("hash"))?;
    Ok(u128::from_le_bytes(bytes))
}

pub(super) fn chain_to_wire(hash: ChainHash) -> Bytes {
    hash_to_wire(hash.0)
}

pub(super) fn chain_from_wire(wire: &Bytes) -> Result<ChainHash, Malformed> {
    hash_from_wire(wire).map(ChainHash)
}

pub(super) fn digest_to_wire(digest: Digest) -> Bytes {
    hash_to_wire(digest.0)
}

pub(super) fn digest_from_wire(wire: &Bytes) -> Result<Digest, Malformed> {
    hash_from_wire(wire).map(Digest)
}

pub(super) fn position_to_wire(position: Position) -> v1::Position {
    v1::Position { index: position.index.0, hash: chain_to_wire(position.hash) }
}

pub(super) fn position_from_wire(wire: Option<v1::Position>) -> Result<Position, Malformed> {
    let wire = wire.ok_or(Malformed("position"))?;
    Ok(Position { index: LogIndex(wire.index), hash: chain_from_wire(&wire.hash)? })
}

pub(super) fn member_to_wire(member: Member) -> v1::Member {
    v1::Member { server: u32::from(member.server.0), store: member.store.0 }
}

pub(super) fn member_from_wire(wire: v1::Member) -> Result<Member, Malformed> {
    Ok(Member { server: server_from_wire(wire.server)?, store: StoreId(wire.store) })
}

fn members_to_wire(members: &BTreeSet<Member>) -> Vec<v1::Member> {
    members.iter().copied().map(member_to_wire).collect()
}

fn members_from_wire(wire: Vec<v1::Member>) -> Result<BTreeSet<Member>, Malformed> {
    if wire.len() > VIEW_MEMBERS_MAX {
        return Err(Malformed("view members"));
    }
    wire.into_iter().map(member_from_wire).collect()
}

pub(super) fn view_to_wire(view: &View) -> v1::View {
    v1::View {
        epoch: Some(epoch_to_wire(view.epoch)),
        primary: u32::from(view.primary.0),
        in_sync: members_to_wire(&view.in_sync),
        leaving: members_to_wire(&view.leaving),
    }
}

/// A view that breaks none of its invariants, for a node asserts them.
pub(super) fn view_from_wire(wire: Option<v1::View>) -> Result<View, Malformed> {
    let wire = wire.ok_or(Malformed("view"))?;
    let view = View {
        epoch: epoch_from_wire(wire.epoch)?,
        primary: server_from_wire(wire.primary)?,
        in_sync: members_from_wire(wire.in_sync)?,
        leaving: members_from_wire(wire.leaving)?,
    };
    let servers: BTreeSet<_> = view.in_sync.iter().map(|member| member.server).collect();
    let well_formed = servers.contains(&view.primary)
        && view.epoch.server == view.primary
        && servers.len() == view.in_sync.len()
        && view.in_sync.is_disjoint(&view.leaving);
    if well_formed { Ok(view) } else { Err(Malformed("view")) }
}

pub(super) fn register_to_wire(register: &Register) -> v1::Register {
    v1::Register {
        promised: Some(epoch_to_wire(register.promised)),
        accepted: register.accepted.as_ref().map(view_to_wire),
        standing: match register.standing {
            Standing::Intact => v1::register::Standing::Intact,
            Standing::Amnesiac => v1::register::Standing::Amnesiac,
        }
        .into(),
    }
}

pub(super) fn register_from_wire(wire: v1::Register) -> Result<Register, Malformed> {
    let standing = match wire.standing() {
        v1::register::Standing::Unspecified => return Err(Malformed("register standing")),
        v1::register::Standing::Intact => Standing::Intact,
        v1::register::Standing::Amnesiac => Standing::Amnesiac,
    };
    let accepted = wire.accepted.map(|view| view_from_wire(Some(view))).transpose()?;
    let register = Register { promised: epoch_from_wire(wire.promised)?, accepted, standing };
    if register.accepted_epoch() > register.promised { Err(Malformed("register")) } else { Ok(register) }
}

pub(super) fn constants_to_wire(constants: &Constants) -> v1::Constants {
    let voter = |kind: &VoterKind| match kind {
        VoterKind::Data => v1::constants::Voter::Data.into(),
        VoterKind::Witness => v1::constants::Voter::Witness.into(),
    };
    v1::Constants {
        voters: constants.voters.iter().map(voter).collect(),
        quorum: match constants.quorum {
            QuorumRule::Majority => v1::constants::Quorum::Majority,
            QuorumRule::Survivors => v1::constants::Quorum::Survivors,
        }
        .into(),
        lease_ns: super::span_to_wire(constants.lease),
        drift_ppm: constants.drift.0,
        min_copies: u32::try_from(constants.min_copies).unwrap_or(u32::MAX),
    }
}

/// Constants that a cluster can have, by [`Constants::check`].
pub(super) fn constants_from_wire(wire: Option<v1::Constants>) -> Result<Constants, Malformed> {
    let wire = wire.ok_or(Malformed("constants"))?;
    if wire.voters.len() > SERVERS_MAX {
        return Err(Malformed("voters"));
    }
    let voter = |kind: v1::constants::Voter| match kind {
        v1::constants::Voter::Unspecified => Err(Malformed("voter")),
        v1::constants::Voter::Data => Ok(VoterKind::Data),
        v1::constants::Voter::Witness => Ok(VoterKind::Witness),
    };
    let constants = Constants {
        voters: wire.voters().map(voter).collect::<Result<_, _>>()?,
        quorum: match wire.quorum() {
            v1::constants::Quorum::Unspecified => return Err(Malformed("quorum rule")),
            v1::constants::Quorum::Majority => QuorumRule::Majority,
            v1::constants::Quorum::Survivors => QuorumRule::Survivors,
        },
        lease: Duration::from_nanos(wire.lease_ns),
        drift: Drift(wire.drift_ppm),
        min_copies: usize::try_from(wire.min_copies).map_err(|_| Malformed("minimal copies"))?,
    };
    // An unknown voter is dropped by the generated iterator, which would move the ids of those behind it.
    if constants.voters.len() != wire.voters.len() || constants.check().is_err() {
        return Err(Malformed("constants"));
    }
    Ok(constants)
}

pub(super) fn remembered_to_wire(remembered: &Remembered) -> v1::Remembered {
    v1::Remembered {
        store: remembered.store.0,
        promised: Some(epoch_to_wire(remembered.promised)),
        confirmed_in: Some(epoch_to_wire(remembered.confirmed_in)),
        confirmed: remembered.confirmed.0,
        committed: remembered.committed.0,
    }
}

pub(super) fn remembered_from_wire(wire: v1::Remembered) -> Result<Remembered, Malformed> {
    Ok(Remembered {
        store: StoreId(wire.store),
        promised: epoch_from_wire(wire.promised)?,
        confirmed_in: epoch_from_wire(wire.confirmed_in)?,
        confirmed: LogIndex(wire.confirmed),
        committed: LogIndex(wire.committed),
    })
}

pub(super) fn tail_to_wire(tail: &Tail) -> v1::Tail {
    let epoch_end =
        |end: &EpochEnd| v1::EpochEnd { epoch: Some(epoch_to_wire(end.epoch)), last: Some(position_to_wire(end.last)) };
    v1::Tail {
        applied: Some(position_to_wire(tail.applied)),
        end: Some(position_to_wire(tail.end)),
        epochs: tail.epochs.iter().map(epoch_end).collect(),
    }
}

pub(super) fn tail_from_wire(wire: Option<v1::Tail>) -> Result<Tail, Malformed> {
    let wire = wire.ok_or(Malformed("tail"))?;
    if wire.epochs.len() > TAIL_EPOCHS_MAX {
        return Err(Malformed("tail epochs"));
    }
    let epoch_end =
        |end: v1::EpochEnd| Ok(EpochEnd { epoch: epoch_from_wire(end.epoch)?, last: position_from_wire(end.last)? });
    Ok(Tail {
        applied: position_from_wire(wire.applied)?,
        end: position_from_wire(wire.end)?,
        epochs: wire.epochs.into_iter().map(epoch_end).collect::<Result<_, Malformed>>()?,
    })
}
