//! Round trips over every message, and what must be refused at the wall.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::config::{Constants, QuorumRule, VoterKind};
use crate::entry::{Answer, Effect, Entry};
use crate::hash::{ChainHash, Digest};
use crate::ids::{Epoch, Member, Position, ServerId, Version};
use crate::message::{EpochEnd, Tail};
use crate::register::{Register, Standing};
use crate::time::{Drift, WallTime};
use crate::view::View;

const EPOCH: Epoch = Epoch { round: 3, server: ServerId(1), run: RunId(u64::MAX) };
const POSITION: Position = Position { index: LogIndex(6), hash: ChainHash(1 << 100 | 5) };
const CLUSTER: ClusterId = ClusterId { id: 0, generation: 2 };

fn member(server: u8) -> Member {
    Member { server: ServerId(server), store: StoreId(u64::from(server) + 100) }
}

fn view() -> View {
    View {
        epoch: EPOCH,
        primary: ServerId(1),
        in_sync: BTreeSet::from([member(0), member(1)]),
        leaving: BTreeSet::from([member(2)]),
    }
}

fn constants() -> Constants {
    Constants {
        voters: vec![VoterKind::Data, VoterKind::Data, VoterKind::Witness],
        quorum: QuorumRule::Majority,
        lease: Duration::from_nanos(299_999_999),
        drift: Drift(10_000),
        min_copies: 1,
    }
}

fn entry(index: u64) -> Sealed {
    Sealed::new(Entry {
        index: LogIndex(index),
        epoch: EPOCH,
        version: Version(4),
        at: WallTime(9),
        effects: vec![Effect::Put { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") }],
        origin: None,
        answer: Answer::Added { existed: false },
    })
}

fn testimony(register: Option<Register>) -> Message {
    let hears = register.is_some().then_some((ServerId(1), RunId(8)));
    let cluster = register.is_some().then_some(CLUSTER);
    Message::Testimony(Box::new(Testimony { ask: 1, register, constants: constants(), cluster, hears }))
}

/// At least one message of every kind; the `match` at the end stops compiling when a kind is added and not listed here.
fn every_message() -> Vec<Message> {
    let register = Register { promised: EPOCH, accepted: Some(view()), standing: Standing::Intact };
    let tail = Tail { applied: POSITION, end: POSITION, epochs: vec![EpochEnd { epoch: EPOCH, last: POSITION }] };
    let digest = Digest(u128::MAX - 3);
    let (to_run, commit_index, applied_index) = (RunId(5), LogIndex(4), LogIndex(3));
    let messages = vec![
        Message::Question { ask: u64::MAX },
        testimony(None),
        testimony(Some(register)),
        testimony(Some(Register::LOST)),
        Message::Enrol { store: StoreId(0), constants: constants() },
        Message::Promise { epoch: EPOCH },
        Message::Promised { epoch: EPOCH, accepted: None, counts: false, member: None },
        Message::Promised { epoch: EPOCH, accepted: Some(view()), counts: true, member: Some(member(2)) },
        Message::HigherPromise { refused: Epoch::NONE, promised: EPOCH },
        Message::Accept { view: view() },
        Message::Accepted { epoch: EPOCH },
        Message::StartEpoch { view: view() },
        Message::EpochStarted { epoch: EPOCH, tail },
        Message::Cut { epoch: EPOCH, run: to_run, end: POSITION, keep: LogIndex::ZERO },
        Message::Prepare { epoch: EPOCH, previous: Position::START, entries: Vec::new(), commit_index },
        Message::Prepare { epoch: EPOCH, previous: POSITION, entries: vec![entry(7), entry(8)], commit_index },
        Message::Confirm { epoch: EPOCH, position: POSITION, applied_index, digest },
        Message::Gap { epoch: EPOCH, end: POSITION },
        Message::Diverged { epoch: EPOCH, index: LogIndex(2), own: ChainHash(7) },
        Message::Heartbeat { epoch: EPOCH, to_run, sent_at: Time(1), hears_you: true, commit_index, grant: None },
        Message::Heartbeat {
            epoch: EPOCH,
            to_run,
            sent_at: Time(1),
            hears_you: false,
            commit_index,
            grant: Some(Grant { clock: Time(3), span: Duration::from_nanos(4) }),
        },
        Message::Echo {
            epoch: EPOCH,
            to_run,
            sent_at: Time(1),
            clock: Time(2),
            end: LogIndex(9),
            confirmed: POSITION,
            applied_index,
            digest,
        },
        Message::Idle { epoch: EPOCH, to_run, wants_copy: true },
        Message::HandOver { epoch: EPOCH, to_run },
        Message::StillPromised { epoch: EPOCH, round: 1 },
        Message::NothingHigher { epoch: EPOCH, round: 1 },
    ];
    let kinds: BTreeSet<&str> = messages.iter().map(Message::name).collect();
    assert_eq!(kinds.len(), 21, "a kind of message is missing here");
    messages
}

#[test]
fn every_message_survives_the_wire() {
    for message in every_message() {
        for cluster in [None, Some(CLUSTER)] {
            let bytes = message_to_wire(cluster, message.clone()).encode_to_vec();
            let wire = v1::LinkMessage::decode(bytes.as_slice()).expect("well formed");
            assert_eq!(message_from_wire(wire), Ok((cluster, message.clone())));
        }
    }
}

#[test]
fn a_handshake_survives_the_wire() {
    for cluster in [None, Some(CLUSTER)] {
        let peer = Peer { server: ServerId(8), store: StoreId(1), run: RunId(2) };
        let hello = Hello { peer, cluster, protocol: PROTOCOL_VERSION };
        assert_eq!(hello_from_wire(hello_to_wire(&hello)), Ok(hello));
    }
    assert!(hello_from_wire(v1::Hello { server: 256, ..Default::default() }).is_err());
}

#[test]
fn no_garbled_message_panics() {
    for message in every_message() {
        let bytes = message_to_wire(Some(CLUSTER), message).encode_to_vec();
        for position in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut garbled = bytes.clone();
                garbled[position] ^= change;
                // Whether it still reads as some message is the garbler's luck; all that counts is that it returns.
                if let Ok(wire) = v1::LinkMessage::decode(garbled.as_slice()) {
                    let _ = message_from_wire(wire);
                }
            }
        }
    }
}

#[test]
fn a_message_of_an_unknown_kind_or_without_its_parts_is_refused() {
    assert!(message_from_wire(v1::LinkMessage::default()).is_err());
    let parts_missing = [
        Wire::Promise(v1::Promise { epoch: None }),
        Wire::Accept(v1::Accept { view: None }),
        Wire::EpochStarted(v1::EpochStarted { epoch: Some(epoch_to_wire(EPOCH)), tail: None }),
        Wire::Testimony(v1::Testimony::default()),
        Wire::Confirm(v1::Confirm { digest: Bytes::from_static(b"short"), ..Default::default() }),
    ];
    for wire in parts_missing {
        assert!(body_from_wire(wire).is_err());
    }
}

#[test]
fn a_view_that_breaks_an_invariant_is_refused() {
    let refused = |change: fn(&mut v1::View)| {
        let mut wire = view_to_wire(&view());
        change(&mut wire);
        assert_eq!(view_from_wire(Some(wire)), Err(Malformed("view")));
    };
    refused(|view| view.primary = 2);
    refused(|view| view.in_sync.clear());
    refused(|view| view.leaving.clone_from(&view.in_sync));
    refused(|view| view.in_sync.push(v1::Member { server: 0, store: 1 }));
}

#[test]
fn entries_that_do_not_follow_each_other_are_refused() {
    let epoch = EPOCH;
    let prepare = |entries| Message::Prepare { epoch, previous: POSITION, entries, commit_index: LogIndex(0) };
    for entries in [vec![entry(8)], vec![entry(7), entry(7)], vec![entry(7), entry(9)]] {
        assert!(body_from_wire(body_to_wire(prepare(entries))).is_err());
    }
    let many = (7..).take(PREPARE_ENTRIES_MAX + 1).map(entry).collect();
    assert!(body_from_wire(body_to_wire(prepare(many))).is_err());
}

#[test]
fn constants_that_no_cluster_can_have_are_refused() {
    let mut wire = constants_to_wire(&constants());
    wire.voters.insert(0, 77);
    assert!(constants_from_wire(Some(wire)).is_err());
    let wire = v1::Constants { min_copies: 3, ..constants_to_wire(&constants()) };
    assert!(constants_from_wire(Some(wire)).is_err());
}
