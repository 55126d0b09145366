//! Whom a call is sent to, in the good case and when the primary is elsewhere, silent or gone.

mod desk;

use std::collections::BTreeSet;
use std::time::Duration;

use desk::{Desk, changed, epoch, found, not_primary, session_id};
use heirloom_proto::{At, ClusterId, Consistency, KeyRange, Refusal, Request, Response, Scan, Seen, ServerId, Version};
use heirloom_session::{CallId, Freshness, Input, Operation, Seat};

const NOTHING: [&str; 0] = [];

#[test]
fn the_first_change_opens_a_session_and_later_ones_use_it() {
    let mut desk = Desk::connected(3);
    assert_eq!(desk.add("a"), ["to 0: open"]);
    assert_eq!(desk.answer(0, Response::SessionOpened { session: session_id(1) }), ["to 0: add a as 1.1 from 1"]);
    assert_eq!(desk.add("b"), ["to 0: add b as 1.2 from 1"]);
    assert_eq!(desk.answer(0, changed(epoch(1, 0))), ["call 1 answered"]);
    assert_eq!(desk.add("c"), ["to 0: add c as 1.3 from 2"]);
}

#[test]
fn a_read_needs_no_session() {
    let mut desk = Desk::connected(1);
    assert_eq!(desk.read("a"), ["to 0: read a"]);
    assert_eq!(desk.answer(0, found(epoch(1, 0))), ["call 1 answered"]);
}

#[test]
fn nothing_is_sent_before_a_connection_stands() {
    let mut desk = Desk::alone(3);
    assert_eq!(desk.read("a"), NOTHING);
    assert_eq!(desk.wait_ms(100), NOTHING);
    assert_eq!(desk.connect(2), ["to 2: read a"]);
}

#[test]
fn while_the_primary_is_not_known_one_scout_goes_and_the_others_wait() {
    let mut desk = Desk::connected(3);
    assert_eq!(desk.add("a"), ["to 0: open"]);
    assert_eq!(desk.add("b"), NOTHING);
    assert_eq!(desk.refuse(0, not_primary(Some(2))), ["to 2: open"]);
    let opened = Response::SessionOpened { session: session_id(1) };
    assert_eq!(desk.answer(2, opened), ["to 2: add a as 1.1 from 1", "to 2: add b as 1.2 from 1"]);
    assert_eq!(desk.answer(2, changed(epoch(1, 2))), ["call 1 answered"]);
    assert_eq!(desk.add("c"), ["to 2: add c as 1.3 from 2"]);
}

#[test]
fn servers_are_asked_in_the_order_of_their_ids_once_they_told_them() {
    let mut desk = Desk::alone(3);
    for seat in 0..3 {
        desk.step(Input::Connected { seat: Seat(seat), server: None });
    }
    for (seat, server) in [(0, 2), (1, 0), (2, 1)] {
        desk.step(Input::Learnt { seat: Seat(seat), server: ServerId(server) });
    }
    assert_eq!(desk.add("a"), ["to 1: open"]);
    assert_eq!(desk.refuse(1, not_primary(None)), ["to 2: open"]);
    assert_eq!(desk.refuse(2, not_primary(None)), ["to 0: open"]);
}

#[test]
fn a_server_that_was_not_in_the_list_is_asked_once_its_address_is_learnt() {
    let mut desk = Desk::connected(1);
    desk.read("a");
    desk.step(Input::Learnt { seat: Seat(1), server: ServerId(1) });
    assert_eq!(desk.refuse(0, not_primary(Some(1))), NOTHING);
    assert_eq!(desk.connect(1), ["to 1: read a"]);
}

#[test]
fn an_answer_from_a_newer_epoch_says_who_leads_now() {
    let mut desk = Desk::served(3);
    desk.read("a");
    desk.answer(0, found(epoch(2, 1)));
    assert_eq!(desk.read("b"), ["to 1: read b"]);
}

#[test]
fn a_late_answer_of_an_old_primary_does_not_lead_back_to_it() {
    let mut desk = Desk::served(2);
    desk.add("a");
    desk.add("b");
    let _lost = desk.take(0);
    let late = desk.take(0);
    desk.wait_ms(300);
    assert_eq!(desk.answer(1, changed(epoch(2, 1))), ["call 2 answered", "to 1: add b as 1.3 from 3"]);
    let response = changed(epoch(1, 0));
    assert_eq!(desk.step(Input::Answered { attempt: late, response, server: None }), ["call 3 answered"]);
    assert_eq!(desk.add("c"), ["to 1: add c as 1.4 from 4"]);
}

#[test]
fn all_that_a_silent_primary_was_asked_is_asked_of_its_successor() {
    let mut desk = Desk::served(2);
    desk.add("a");
    desk.add("b");
    assert_eq!(desk.wait_ms(300), ["nudge 1", "to 1: add a as 1.2 from 2"]);
    assert_eq!(desk.answer(1, changed(epoch(2, 1))), ["call 2 answered", "to 1: add b as 1.3 from 3"]);
}

#[test]
fn a_scout_whose_connection_breaks_goes_on_at_once() {
    let mut desk = Desk::connected(3);
    assert_eq!(desk.add("a"), ["to 0: open"]);
    assert_eq!(desk.break_off(0), ["to 1: open"]);
}

#[test]
fn a_broken_connection_leads_to_the_next_server_at_once_with_a_nudge_and_the_same_number() {
    let mut desk = Desk::served(3);
    assert_eq!(desk.add("a"), ["to 0: add a as 1.2 from 2"]);
    assert_eq!(desk.break_off(0), ["nudge 1", "to 1: add a as 1.2 from 2"]);
    assert_eq!(desk.refuse(1, not_primary(Some(0))), ["nudge 2", "to 2: add a as 1.2 from 2"]);
    assert_eq!(desk.refuse(2, not_primary(Some(0))), NOTHING);
    assert_eq!(desk.wait_ms(2), ["to 1: add a as 1.2 from 2"]);
    assert_eq!(desk.answer(1, changed(epoch(2, 1))), ["call 2 answered"]);
}

#[test]
fn all_that_was_in_flight_follows_the_scout_in_order() {
    let mut desk = Desk::served(2);
    desk.add("a");
    desk.add("b");
    desk.add("c");
    assert_eq!(desk.break_off(0), ["nudge 1", "to 1: add a as 1.2 from 2"]);
    assert_eq!(desk.add("d"), NOTHING);
    assert_eq!(
        desk.answer(1, changed(epoch(2, 1))),
        ["call 2 answered", "to 1: add b as 1.3 from 3", "to 1: add c as 1.4 from 3", "to 1: add d as 1.5 from 3"]
    );
}

#[test]
fn rounds_of_a_search_grow_slower_with_the_time_searched() {
    let mut desk = Desk::served(2);
    desk.add("a");
    desk.break_off(0);
    let mut rounds = 0;
    loop {
        desk.refuse(1, not_primary(None));
        let searched = desk.elapsed();
        if desk.wait()[0].starts_with("call") {
            break;
        }
        let pause = desk.elapsed() - searched;
        let longest = (searched / 8).clamp(Duration::from_millis(2), Duration::from_millis(100));
        assert_eq!(pause, longest, "after {searched:?}");
        rounds += 1;
    }
    assert!((60..90).contains(&rounds), "{rounds} rounds in 5 s");
}

#[test]
fn an_overdue_answer_is_asked_for_at_the_next_server_too() {
    let mut desk = Desk::served(3);
    assert_eq!(desk.add("a"), ["to 0: add a as 1.2 from 2"]);
    assert_eq!(desk.wait_ms(299), NOTHING);
    assert_eq!(desk.wait_ms(1), ["nudge 1", "to 1: add a as 1.2 from 2"]);
    assert_eq!(desk.wait_ms(300), ["nudge 2", "to 2: add a as 1.2 from 2"]);
    assert_eq!(desk.answer(2, changed(epoch(2, 2))), ["call 2 answered"]);
    assert_eq!(desk.add("b"), ["to 2: add b as 1.3 from 3"]);
}

#[test]
fn the_first_of_two_answers_counts_and_the_second_does_nothing() {
    let mut desk = Desk::served(2);
    desk.add("a");
    desk.wait_ms(300);
    assert_eq!(desk.answer(1, changed(epoch(2, 1))), ["call 2 answered"]);
    assert_eq!(desk.answer(0, changed(epoch(1, 0))), NOTHING);
}

#[test]
fn a_slow_primary_that_another_server_vouches_for_keeps_getting_calls() {
    let mut desk = Desk::served(3);
    desk.add("a");
    assert_eq!(desk.wait_ms(300), ["nudge 1", "to 1: add a as 1.2 from 2"]);
    assert_eq!(desk.add("b"), NOTHING, "not sent into a doubtful place");
    assert_eq!(
        desk.refuse(1, not_primary(Some(0))),
        ["to 0: add a as 1.2 from 2", "to 0: add b as 1.3 from 2"],
        "the oldest again, in case that it was lost, and what has waited"
    );
    assert_eq!(desk.wait_ms(299), NOTHING);
    assert_eq!(desk.answer(0, changed(epoch(1, 0))), ["call 2 answered"]);
}

#[test]
fn a_slow_single_server_is_asked_again_and_waited_for() {
    let mut desk = Desk::served(1);
    desk.add("a");
    assert_eq!(desk.wait_ms(300), ["to 0: add a as 1.2 from 2"]);
    assert_eq!(desk.add("b"), ["to 0: add b as 1.3 from 2"]);
    assert_eq!(desk.answer(0, changed(epoch(1, 0))), ["call 2 answered"]);
}

#[test]
fn a_planned_hand_over_is_followed_without_an_error() {
    let mut desk = Desk::served(3);
    desk.add("a");
    desk.add("b");
    assert_eq!(desk.refuse(0, not_primary(Some(2))), ["to 2: add a as 1.2 from 2"]);
    assert_eq!(desk.refuse(0, not_primary(Some(2))), NOTHING);
    assert_eq!(desk.answer(2, changed(epoch(2, 2))), ["call 2 answered", "to 2: add b as 1.3 from 3"]);
    assert_eq!(desk.answer(2, changed(epoch(2, 2))), ["call 3 answered"]);
}

#[test]
fn a_server_forwards_when_the_primary_that_all_name_can_not_be_reached_from_here() {
    let mut desk = Desk::connected(2);
    desk.break_off(0);
    assert_eq!(desk.add("a"), ["to 1: open"]);
    let mut asked = Vec::new();
    while asked != ["to 1: open (forward)"] {
        assert!(desk.elapsed() < Duration::from_millis(400), "forwards soon after an answer would be overdue");
        desk.refuse(1, not_primary(Some(0)));
        asked = desk.wait();
    }
    let opened = Response::SessionOpened { session: session_id(1) };
    assert_eq!(desk.answer(1, opened), ["to 1: add a as 1.1 from 1 (forward)"]);
    assert_eq!(desk.answer(1, changed(epoch(1, 0))), ["call 1 answered"]);
    assert_eq!(desk.add("b"), ["to 1: add b as 1.2 from 2 (forward)"]);
    desk.connect(0);
    assert_eq!(desk.answer(1, changed(epoch(1, 0))), ["call 2 answered"]);
    assert_eq!(desk.add("c"), ["to 0: add c as 1.3 from 3"], "directly, as soon as it can be reached");
}

#[test]
fn an_overloaded_server_is_given_a_pause_that_grows() {
    let mut desk = Desk::served(1);
    desk.read("a");
    for pause in [2, 4, 8, 16, 32, 64, 100, 100] {
        assert_eq!(desk.refuse(0, Refusal::Overloaded), NOTHING);
        assert_eq!(desk.wait_ms(pause - 1), NOTHING);
        assert_eq!(desk.wait_ms(1), ["to 0: read a"]);
    }
    desk.read("b");
    desk.answer(0, found(epoch(1, 0)));
    desk.refuse(0, Refusal::Overloaded);
    assert_eq!(desk.wait_ms(2), ["to 0: read b"], "after an answer it begins anew");
}

#[test]
fn a_call_after_a_long_silence_starts_a_fresh_search() {
    let mut desk = Desk::served(2).timeout_ms(10);
    desk.break_off(0);
    assert_eq!(desk.add("a"), ["nudge 1", "to 1: add a as 1.2 from 2"]);
    assert_eq!(desk.wait_ms(10), ["call 2 unknown: OutOfTime"]);
    assert_eq!(desk.wait_ms(3_600_000), NOTHING, "nobody waits, so nobody is asked");
    assert_eq!(desk.add("b"), ["nudge 1", "to 1: add b as 1.3 from 3"]);
    desk.take(1);
    desk.refuse(1, not_primary(None));
    assert_eq!(desk.wait_ms(2), ["to 1: add b as 1.3 from 3"], "an hour in which nobody searched doesn't count");
}

#[test]
fn reads_are_spread_over_all_servers_and_tell_who_leads() {
    let mut desk = Desk::connected(3);
    assert_eq!(desk.read("a"), ["to 0: read a"]);
    assert_eq!(desk.read("b"), ["to 1: read b"]);
    assert_eq!(desk.read("c"), ["to 2: read c"]);
    assert_eq!(desk.answer(2, found(epoch(1, 1))), ["call 3 answered"]);
    assert_eq!(desk.add("d"), ["to 1: open"], "the epoch of the answer names the primary");
}

#[test]
fn a_server_that_can_not_read_by_itself_is_not_asked_for_a_while() {
    let mut desk = Desk::served(2);
    assert_eq!(desk.read("a"), ["to 0: read a"]);
    assert_eq!(desk.read("b"), ["to 1: read b"]);
    assert_eq!(desk.refuse(1, not_primary(Some(0))), ["to 0: read b"]);
    assert_eq!(desk.read("c"), ["to 0: read c"]);
    assert_eq!(desk.read("d"), ["to 0: read d"]);
    desk.wait_ms(100);
    let both = [desk.read("e"), desk.read("f")].concat();
    assert!(both.contains(&"to 1: read e".to_owned()) || both.contains(&"to 1: read f".to_owned()), "{both:?}");
}

#[test]
fn a_read_that_is_overdue_is_asked_of_the_primary() {
    let mut desk = Desk::served(2);
    desk.read("a");
    assert_eq!(desk.read("b"), ["to 1: read b"]);
    assert_eq!(desk.answer(0, found(epoch(1, 0))), ["call 2 answered"]);
    assert_eq!(desk.wait_ms(300), ["to 0: read b"]);
    assert_eq!(desk.answer(0, found(epoch(1, 0))), ["call 3 answered"]);
}

#[test]
fn a_read_whose_connection_breaks_is_asked_of_another_server_at_once() {
    let mut desk = Desk::served(3);
    assert_eq!(desk.read("a"), ["to 0: read a"]);
    assert_eq!(desk.break_off(0), ["to 2: read a"], "whoever led: any member may answer");
    assert_eq!(desk.answer(2, found(epoch(1, 0))), ["call 2 answered"]);
    assert_eq!(desk.add("b"), ["nudge 1", "to 1: add b as 1.2 from 2"], "that the primary lives was not said");
}

#[test]
fn far_servers_are_asked_rarely() {
    let mut desk = Desk::served(2);
    let mut far = 0;
    for _ in 0..128 {
        let sent = desk.read("a");
        let at = if sent == ["to 1: read a"] { 1 } else { 0 };
        far += u32::from(at == 1);
        desk.now = desk.now + Duration::from_millis(if at == 1 { 40 } else { 1 });
        desk.answer(at, found(epoch(1, 0)));
    }
    assert!((1..=4).contains(&far), "{far} of 128");
}

#[test]
fn a_read_from_one_server_is_asked_of_that_server_alone() {
    let mut desk = Desk::served(3);
    let from = |server| Operation::Read { key: "a".into(), freshness: Freshness::Stale, from: Some(ServerId(server)) };
    assert_eq!(desk.call(from(2)), ["to 2: read a (forward)"]);
    assert_eq!(desk.break_off(2), NOTHING);
    assert_eq!(desk.wait_ms(1_000), NOTHING);
    assert_eq!(desk.connect(2), ["to 2: read a (forward)"]);
    assert_eq!(desk.answer(2, found(epoch(1, 0))), ["call 2 answered"]);
}

#[test]
fn a_causal_read_asks_for_all_that_was_seen_before() {
    let mut desk = Desk::served(1);
    let causal = Operation::Read { key: "a".into(), freshness: Freshness::Causal, from: None };
    desk.call(causal);
    let (_, request) = desk.sent.last().expect("it was sent");
    let consistency = Consistency::Causal { at_least: Version(1) };
    assert_eq!(*request, Request::Read { key: "a".into(), consistency });
}

#[test]
fn the_pages_of_a_scan_go_where_reads_go_and_the_later_ones_name_their_version() {
    let mut desk = Desk::served(3);
    let scan = |at| {
        let range = KeyRange::of_prefix("k".into());
        Operation::Scan { scan: Scan { range, limit: 2, keys_only: false, at, cluster: None }, from: None }
    };
    let mut asked = BTreeSet::new();
    for (wanted, sent) in [
        (At::Now(Freshness::Linearizable), At::Now(Consistency::Linearizable)),
        (At::Now(Freshness::Causal), At::Now(Consistency::Causal { at_least: Version(9) })),
        (At::Version(Version(9)), At::Version(Version(9))),
    ] {
        desk.call(scan(wanted));
        let (attempt, request) = desk.sent.last().expect("it was sent").clone();
        let Request::Scan(page) = request else { panic!("{request:?}") };
        assert_eq!((page.at, page.limit), (sent, 2));
        asked.insert(attempt.seat);
        let seen = Seen { version: Version(9), epoch: epoch(1, 0), local: true, waited: false, age: None };
        let cluster = ClusterId { id: 1, generation: 1 };
        let page = Response::Scanned { entries: Vec::new(), next: None, seen, cluster };
        let answered = desk.answer(attempt.seat.0, page);
        assert_eq!(answered.len(), 1, "{answered:?}");
    }
    assert_eq!(asked.len(), 3, "each page was asked of another server");
    desk.call(scan(At::Version(Version(3))));
    let mut refusing = Vec::new();
    let end = loop {
        let seat = desk.sent.last().expect("it was sent").0.seat.0;
        refusing.push(seat);
        let refused = desk.refuse(seat, Refusal::VersionTooOld { oldest: Version(4) });
        if !refused.iter().any(|said| said.starts_with("to ")) {
            break refused;
        }
    };
    assert_eq!(end, ["call 5 not applied: Refused(VersionTooOld { oldest: Version(4) })"]);
    refusing.sort_unstable();
    assert_eq!(refusing, [0, 1, 2], "each was asked once");
}

#[test]
fn reads_do_not_make_a_client_forget_the_server_that_forwards_for_it() {
    let mut desk = Desk::served(2);
    desk.break_off(0);
    desk.add("a");
    let mut asked = Vec::new();
    while asked != ["to 1: add a as 1.2 from 2 (forward)"] {
        assert!(desk.elapsed() < Duration::from_millis(400), "forwards soon after an answer would be overdue");
        desk.refuse(1, not_primary(Some(0)));
        asked = desk.wait();
    }
    assert_eq!(desk.answer(1, changed(epoch(1, 0))), ["call 2 answered"]);
    for number in 3..10 {
        assert_eq!(desk.read("b"), ["to 1: read b (forward)"]);
        assert_eq!(desk.answer(1, found(epoch(1, 0))), [format!("call {number} answered")]);
    }
    assert_eq!(desk.add("c"), ["to 1: add c as 1.3 from 3 (forward)"]);
}

#[test]
fn reads_that_nobody_could_answer_are_asked_again_all_at_once_when_a_server_may_read_again() {
    let mut desk = Desk::served(3);
    desk.break_off(0);
    for _ in 0..8 {
        desk.read("a");
    }
    while !desk.sent.is_empty() {
        let seat = desk.sent[0].0.seat.0;
        desk.refuse(seat, not_primary(None));
        assert!(desk.elapsed() < Duration::from_millis(10), "refused again and again");
    }
    let mut sent = Vec::new();
    while sent.len() < 8 {
        assert!(desk.elapsed() < Duration::from_millis(250), "only {sent:?}");
        let lines = desk.wait();
        sent.extend(lines.iter().filter(|line| line.contains("read")).cloned());
        desk.sent.retain(|(_, request)| matches!(request, Request::Read { .. }));
    }
}

#[test]
fn what_a_backup_answers_does_not_end_the_pause_that_the_primary_asked_for() {
    let mut desk = Desk::served(2);
    desk.add("a");
    assert_eq!(desk.refuse(0, Refusal::Overloaded), NOTHING);
    desk.read("b");
    desk.read("c");
    assert_eq!(desk.answer(1, found(epoch(1, 0))).len(), 1, "nothing but the answer");
    assert_eq!(desk.wait_ms(2).last().map(String::as_str), Some("to 0: add a as 1.2 from 2"));
}

#[test]
fn an_overloaded_backup_makes_nobody_wait_but_itself() {
    let mut desk = Desk::served(2);
    assert_eq!(desk.read("a"), ["to 0: read a"]);
    assert_eq!(desk.read("b"), ["to 1: read b"]);
    assert_eq!(desk.refuse(1, Refusal::Overloaded), ["to 0: read b"]);
    assert_eq!(desk.add("c"), ["to 0: add c as 1.2 from 2"]);
}

#[test]
fn a_primary_that_answers_a_read_itself_is_found_again() {
    let mut desk = Desk::served(2);
    desk.read("a");
    assert_eq!(desk.wait_ms(300), ["nudge 1", "to 1: read a"]);
    assert_eq!(desk.answer(0, found(epoch(1, 0))), ["call 2 answered"]);
    assert_eq!(desk.add("b"), ["to 0: add b as 1.2 from 2"], "it spoke for itself");
}

#[test]
fn any_number_of_reads_may_be_overdue_at_once() {
    const READS: u64 = 100_000;
    let mut desk = Desk::served(2);
    for call in 10..10 + READS {
        let operation = Operation::Read { key: "a".into(), freshness: Freshness::Linearizable, from: None };
        let deadline = desk.now + Duration::from_secs(5);
        desk.session.step(desk.now, Input::Call { call: CallId(call), operation, deadline });
    }
    desk.now = desk.now + Duration::from_millis(300);
    desk.session.step(desk.now, Input::Deadline);
    assert_eq!(desk.session.calls_under_way() as u64, READS);
}
