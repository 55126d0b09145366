//! What news from the disk is worth when it comes late.
#![allow(missing_docs, reason = "a test")]

use heirloom_backup::{Replica, State};
use heirloom_proto::event::Ticket;
use heirloom_proto::{Answer, Entry, Epoch, LogIndex, Outbox, RunId, Sealed, ServerId, Version, WallTime};

fn entry(index: u64) -> Sealed {
    Sealed::new(Entry {
        index: LogIndex(index),
        epoch: Epoch { round: 1, server: ServerId(0), run: RunId(1) },
        version: Version(0),
        at: WallTime(0),
        effects: Vec::new(),
        origin: None,
        answer: Answer::Nothing,
    })
}

/// An entry written, cut and sent again counted as durable by the first write, which the disk was about to cut: a crash
/// just then lost a change that this copy had confirmed.
#[test]
fn a_write_that_a_cut_has_voided_makes_nothing_durable() {
    let mut replica = Replica::recover(State::default(), vec![entry(1)], LogIndex::ZERO);
    let (written, cut, written_again) = (Ticket(1), 2, 3);

    replica.push(entry(2));
    replica.persist(LogIndex(2), &mut Outbox::new(None, written.0));
    // A primary that lacks entry 2 has it cut, and another one that has it sends it anew.
    replica.cut(LogIndex(1), &mut Outbox::new(None, cut));
    replica.push(entry(2));
    replica.persist(LogIndex(2), &mut Outbox::new(None, written_again));

    replica.persisted(written, &[entry(2)]).expect("it reads back as written");
    assert_eq!(replica.durable_end(), LogIndex(1), "the disk will cut entry 2 before it writes it again");
    replica.persisted(Ticket(written_again), &[entry(2)]).expect("it reads back as written");
    assert_eq!(replica.durable_end(), LogIndex(2));
}
