//! What servers say to each other, on the wire: the handshake of a stream and the messages behind it.

use std::time::Duration;

use super::parts::{
    chain_from_wire, chain_to_wire, cluster_from_wire, cluster_to_wire, constants_from_wire, constants_to_wire,
    digest_from_wire, digest_to_wire, member_from_wire, member_to_wire, position_from_wire, position_to_wire,
    register_from_wire, register_to_wire, remembered_from_wire, remembered_to_wire, tail_from_wire, tail_to_wire,
    view_from_wire, view_to_wire,
};
use super::span_to_wire;
use super::v1::{self, link_message::Message as Wire};
use super::{epoch_from_wire, epoch_to_wire, server_from_wire};
use crate::codec::Malformed;
use crate::entry::Sealed;
use crate::ids::{ClusterId, LogIndex, Peer, RunId, StoreId};
use crate::limits::PREPARE_ENTRIES_MAX;
use crate::message::Grant;
use crate::message::{Message, Testimony};
use crate::time::Time;

/// The version of the protocol between servers; servers of different versions don't talk to each other.
pub const PROTOCOL_VERSION: u32 = 1;

/// How a server introduces itself, at the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who.
    pub peer: Peer,
    /// The cluster that it belongs to; `None` while blank.
    pub cluster: Option<ClusterId>,
    /// Its version of the protocol between servers.
    pub protocol: u32,
}

/// A handshake for the wire.
pub fn hello_to_wire(hello: &Hello) -> v1::Hello {
    let (cluster, generation) = cluster_to_wire(hello.cluster);
    v1::Hello {
        server: u32::from(hello.peer.server.0),
        store: hello.peer.store.0,
        run: hello.peer.run.0,
        cluster,
        generation,
        protocol: hello.protocol,
    }
}

/// A handshake from the wire.
///
/// **Errors:** [`Malformed`] where its server is out of range.
pub fn hello_from_wire(wire: v1::Hello) -> Result<Hello, Malformed> {
    Ok(Hello {
        peer: Peer { server: server_from_wire(wire.server)?, store: StoreId(wire.store), run: RunId(wire.run) },
        cluster: cluster_from_wire(wire.cluster, wire.generation),
        protocol: wire.protocol,
    })
}

/// A message and the cluster that it names, for the wire.
pub fn message_to_wire(cluster: Option<ClusterId>, message: Message) -> v1::LinkMessage {
    let (cluster, generation) = cluster_to_wire(cluster);
    v1::LinkMessage { cluster, generation, message: Some(body_to_wire(message)) }
}

/// A message and the cluster that it names, from the wire.
///
/// **Errors:** [`Malformed`] where a part is missing, out of range or breaks an invariant of its type.
pub fn message_from_wire(wire: v1::LinkMessage) -> Result<(Option<ClusterId>, Message), Malformed> {
    let cluster = cluster_from_wire(wire.cluster, wire.generation);
    Ok((cluster, body_from_wire(wire.message.ok_or(Malformed("message of a kind that is not known here"))?)?))
}

fn body_to_wire(message: Message) -> Wire {
    match message {
        Message::Question { ask } => Wire::Question(v1::Question { ask }),
        Message::Testimony(testimony) => Wire::Testimony(testimony_to_wire(&testimony)),
        Message::Enrol { store, constants } => {
            Wire::Enrol(v1::Enrol { store: store.0, constants: Some(constants_to_wire(&constants)) })
        }
        Message::Promise { epoch } => Wire::Promise(v1::Promise { epoch: Some(epoch_to_wire(epoch)) }),
        Message::Promised { epoch, accepted, counts, member } => Wire::Promised(v1::Promised {
            epoch: Some(epoch_to_wire(epoch)),
            accepted: accepted.as_ref().map(view_to_wire),
            counts,
            member: member.map(member_to_wire),
        }),
        Message::HigherPromise { refused, promised } => Wire::HigherPromise(v1::HigherPromise {
            refused: Some(epoch_to_wire(refused)),
            promised: Some(epoch_to_wire(promised)),
        }),
        Message::Accept { view } => Wire::Accept(v1::Accept { view: Some(view_to_wire(&view)) }),
        Message::Accepted { epoch } => Wire::Accepted(v1::Accepted { epoch: Some(epoch_to_wire(epoch)) }),
        Message::StartEpoch { view } => Wire::StartEpoch(v1::StartEpoch { view: Some(view_to_wire(&view)) }),
        Message::EpochStarted { epoch, tail } => {
            Wire::EpochStarted(v1::EpochStarted { epoch: Some(epoch_to_wire(epoch)), tail: Some(tail_to_wire(&tail)) })
        }
        Message::Cut { epoch, run, end, keep } => Wire::Cut(v1::Cut {
            epoch: Some(epoch_to_wire(epoch)),
            run: run.0,
            end: Some(position_to_wire(end)),
            keep: keep.0,
        }),
        Message::Behind { epoch, run, end, base } => Wire::Behind(v1::Behind {
            epoch: Some(epoch_to_wire(epoch)),
            run: run.0,
            end: Some(position_to_wire(end)),
            base: base.0,
        }),
        Message::Prepare { epoch, previous, entries, commit_index } => Wire::Prepare(v1::Prepare {
            epoch: Some(epoch_to_wire(epoch)),
            previous: Some(position_to_wire(previous)),
            entries: entries.iter().map(|entry| entry.bytes().clone()).collect(),
            commit_index: commit_index.0,
        }),
        Message::Confirm { epoch, position, applied_index, digest } => Wire::Confirm(v1::Confirm {
            epoch: Some(epoch_to_wire(epoch)),
            position: Some(position_to_wire(position)),
            applied_index: applied_index.0,
            digest: digest_to_wire(digest),
        }),
        Message::Gap { epoch, end } => {
            Wire::Gap(v1::Gap { epoch: Some(epoch_to_wire(epoch)), end: Some(position_to_wire(end)) })
        }
        Message::Diverged { epoch, index, own } => {
            Wire::Diverged(v1::Diverged { epoch: Some(epoch_to_wire(epoch)), index: index.0, own: chain_to_wire(own) })
        }
        Message::Heartbeat { epoch, to_run, sent_at, hears_you, commit_index, grant } => {
            Wire::Heartbeat(v1::Heartbeat {
                epoch: Some(epoch_to_wire(epoch)),
                to_run: to_run.0,
                sent_at_ns: sent_at.0,
                hears_you,
                commit_index: commit_index.0,
                grant: grant.map(|grant| v1::Grant { clock_ns: grant.clock.0, span_ns: span_to_wire(grant.span) }),
            })
        }
        Message::Echo { epoch, to_run, sent_at, clock, end, confirmed, applied_index, digest } => {
            Wire::Echo(v1::Echo {
                epoch: Some(epoch_to_wire(epoch)),
                to_run: to_run.0,
                sent_at_ns: sent_at.0,
                clock_ns: clock.0,
                end: end.0,
                confirmed: Some(position_to_wire(confirmed)),
                applied_index: applied_index.0,
                digest: digest_to_wire(digest),
            })
        }
        Message::Idle { epoch, to_run, wants_copy } => {
            Wire::Idle(v1::Idle { epoch: Some(epoch_to_wire(epoch)), to_run: to_run.0, wants_copy })
        }
        Message::HandOver { epoch, to_run } => {
            Wire::HandOver(v1::HandOver { epoch: Some(epoch_to_wire(epoch)), to_run: to_run.0 })
        }
        Message::StillPromised { epoch, round } => {
            Wire::StillPromised(v1::StillPromised { epoch: Some(epoch_to_wire(epoch)), round })
        }
        Message::NothingHigher { epoch, round } => {
            Wire::NothingHigher(v1::NothingHigher { epoch: Some(epoch_to_wire(epoch)), round })
        }
    }
}

fn body_from_wire(wire: Wire) -> Result<Message, Malformed> {
    Ok(match wire {
        Wire::Question(question) => Message::Question { ask: question.ask },
        Wire::Testimony(testimony) => Message::Testimony(Box::new(testimony_from_wire(testimony)?)),
        Wire::Enrol(enrol) => {
            Message::Enrol { store: StoreId(enrol.store), constants: constants_from_wire(enrol.constants)? }
        }
        Wire::Promise(promise) => Message::Promise { epoch: epoch_from_wire(promise.epoch)? },
        Wire::Promised(promised) => Message::Promised {
            epoch: epoch_from_wire(promised.epoch)?,
            accepted: promised.accepted.map(|view| view_from_wire(Some(view))).transpose()?,
            counts: promised.counts,
            member: promised.member.map(member_from_wire).transpose()?,
        },
        Wire::HigherPromise(higher) => Message::HigherPromise {
            refused: epoch_from_wire(higher.refused)?,
            promised: epoch_from_wire(higher.promised)?,
        },
        Wire::Accept(accept) => Message::Accept { view: view_from_wire(accept.view)? },
        Wire::Accepted(accepted) => Message::Accepted { epoch: epoch_from_wire(accepted.epoch)? },
        Wire::StartEpoch(start) => Message::StartEpoch { view: view_from_wire(start.view)? },
        Wire::EpochStarted(started) => {
            Message::EpochStarted { epoch: epoch_from_wire(started.epoch)?, tail: tail_from_wire(started.tail)? }
        }
        Wire::Cut(cut) => Message::Cut {
            epoch: epoch_from_wire(cut.epoch)?,
            run: RunId(cut.run),
            end: position_from_wire(cut.end)?,
            keep: LogIndex(cut.keep),
        },
        Wire::Behind(behind) => Message::Behind {
            epoch: epoch_from_wire(behind.epoch)?,
            run: RunId(behind.run),
            end: position_from_wire(behind.end)?,
            base: LogIndex(behind.base),
        },
        Wire::Prepare(prepare) => prepare_from_wire(prepare)?,
        Wire::Confirm(confirm) => Message::Confirm {
            epoch: epoch_from_wire(confirm.epoch)?,
            position: position_from_wire(confirm.position)?,
            applied_index: LogIndex(confirm.applied_index),
            digest: digest_from_wire(&confirm.digest)?,
        },
        Wire::Gap(gap) => Message::Gap { epoch: epoch_from_wire(gap.epoch)?, end: position_from_wire(gap.end)? },
        Wire::Diverged(diverged) => Message::Diverged {
            epoch: epoch_from_wire(diverged.epoch)?,
            index: LogIndex(diverged.index),
            own: chain_from_wire(&diverged.own)?,
        },
        Wire::Heartbeat(heartbeat) => Message::Heartbeat {
            epoch: epoch_from_wire(heartbeat.epoch)?,
            to_run: RunId(heartbeat.to_run),
            sent_at: Time(heartbeat.sent_at_ns),
            hears_you: heartbeat.hears_you,
            commit_index: LogIndex(heartbeat.commit_index),
            grant: heartbeat
                .grant
                .map(|grant| Grant { clock: Time(grant.clock_ns), span: Duration::from_nanos(grant.span_ns) }),
        },
        Wire::Echo(echo) => Message::Echo {
            epoch: epoch_from_wire(echo.epoch)?,
            to_run: RunId(echo.to_run),
            sent_at: Time(echo.sent_at_ns),
            clock: Time(echo.clock_ns),
            end: LogIndex(echo.end),
            confirmed: position_from_wire(echo.confirmed)?,
            applied_index: LogIndex(echo.applied_index),
            digest: digest_from_wire(&echo.digest)?,
        },
        Wire::Idle(idle) => Message::Idle {
            epoch: epoch_from_wire(idle.epoch)?,
            to_run: RunId(idle.to_run),
            wants_copy: idle.wants_copy,
        },
        Wire::HandOver(hand_over) => {
            Message::HandOver { epoch: epoch_from_wire(hand_over.epoch)?, to_run: RunId(hand_over.to_run) }
        }
        Wire::StillPromised(still) => {
            Message::StillPromised { epoch: epoch_from_wire(still.epoch)?, round: still.round }
        }
        Wire::NothingHigher(nothing) => {
            Message::NothingHigher { epoch: epoch_from_wire(nothing.epoch)?, round: nothing.round }
        }
    })
}

/// Entries must be consecutive behind `previous`: what the receiving log would otherwise have to check entry by entry.
fn prepare_from_wire(wire: v1::Prepare) -> Result<Message, Malformed> {
    if wire.entries.len() > PREPARE_ENTRIES_MAX {
        return Err(Malformed("prepare: too many entries"));
    }
    let previous = position_from_wire(wire.previous)?;
    let mut entries = Vec::with_capacity(wire.entries.len());
    let mut end = previous.index;
    for bytes in wire.entries {
        let entry = Sealed::decode(bytes)?;
        if end.0.checked_add(1) != Some(entry.index().0) {
            return Err(Malformed("prepare: entries that do not follow each other"));
        }
        end = entry.index();
        entries.push(entry);
    }
    let (epoch, commit_index) = (epoch_from_wire(wire.epoch)?, LogIndex(wire.commit_index));
    Ok(Message::Prepare { epoch, previous, entries, commit_index })
}

fn testimony_to_wire(testimony: &Testimony) -> v1::Testimony {
    let (cluster, generation) = cluster_to_wire(testimony.cluster);
    let hears =
        |(server, run): (crate::ServerId, RunId)| v1::testimony::Hears { server: u32::from(server.0), run: run.0 };
    v1::Testimony {
        ask: testimony.ask,
        register: testimony.register.as_ref().map(register_to_wire),
        constants: Some(constants_to_wire(&testimony.constants)),
        cluster,
        generation,
        hears: testimony.hears.map(hears),
        remembered: testimony.remembered.as_ref().map(remembered_to_wire),
    }
}

fn testimony_from_wire(wire: v1::Testimony) -> Result<Testimony, Malformed> {
    let hears = |hears: v1::testimony::Hears| Ok((server_from_wire(hears.server)?, RunId(hears.run)));
    Ok(Testimony {
        ask: wire.ask,
        register: wire.register.map(register_from_wire).transpose()?,
        constants: constants_from_wire(wire.constants)?,
        cluster: cluster_from_wire(wire.cluster, wire.generation),
        hears: wire.hears.map(hears).transpose()?,
        remembered: wire.remembered.map(remembered_from_wire).transpose()?,
    })
}

#[cfg(test)]
mod tests;
