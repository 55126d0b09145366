//! Round trips over every message, and what must be refused at the wall.

use bytes::Bytes;
use prost::Message as _;

use super::super::examples::{CLUSTER, EPOCH, POSITION, constants, entry, messages, view};
use super::*;
use crate::ids::ServerId;

#[test]
fn every_message_survives_the_wire() {
    for message in messages() {
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
    for message in messages() {
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
