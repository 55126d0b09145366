//! What a caller is told: answered, not applied, or unknown; and when which of them.

mod desk;

use std::time::Duration;

use desk::{Desk, changed, epoch, not_primary, session_id};
use heirloom_proto::{Refusal, Response, limits};
use heirloom_session::{CallId, Failure, Heard, Input, Operation, Output, Reason, Seat};

const NOTHING: [&str; 0] = [];

#[test]
fn a_change_that_was_never_sent_is_not_applied() {
    let mut desk = Desk::alone(3);
    desk.add("a");
    assert_eq!(desk.wait_ms(5_000), ["call 1 not applied: OutOfTime"]);
}

#[test]
fn a_change_that_waits_for_its_session_is_not_applied_when_time_is_up() {
    let mut desk = Desk::connected(1);
    assert_eq!(desk.add("a"), ["to 0: open"]);
    assert_eq!(desk.wait_ms(5_000).last().expect("ends"), "call 1 not applied: OutOfTime");
}

#[test]
fn a_change_that_every_server_refused_is_not_applied() {
    let mut desk = Desk::served(1).timeout_ms(10);
    desk.add("a");
    let refusals = [not_primary(None), Refusal::Recovering, Refusal::Overloaded, Refusal::SessionUnknown];
    for refusal in refusals.into_iter().cycle() {
        desk.refuse(0, refusal);
        let lines = desk.wait();
        if lines[0].starts_with("call") {
            assert_eq!(lines, ["call 2 not applied: OutOfTime"]);
            break;
        }
    }
}

#[test]
fn a_change_in_flight_when_time_is_up_is_unknown() {
    let mut desk = Desk::served(1);
    desk.add("a");
    assert_eq!(desk.wait_ms(5_000).last().expect("ends"), "call 2 unknown: OutOfTime");
}

#[test]
fn a_change_whose_connection_broke_stays_unknown_though_others_refuse_it() {
    let mut desk = Desk::served(2).timeout_ms(20);
    desk.add("a");
    desk.break_off(0);
    loop {
        desk.refuse(1, not_primary(None));
        let lines = desk.wait();
        if lines[0].starts_with("call") {
            assert_eq!(lines, ["call 2 unknown: OutOfTime"]);
            break;
        }
    }
}

#[test]
fn an_outcome_unknown_to_the_server_is_asked_for_elsewhere_with_the_same_number() {
    let mut desk = Desk::served(2);
    desk.add("a");
    assert_eq!(desk.refuse(0, Refusal::OutcomeUnknown), ["to 1: add a as 1.2 from 2"]);
    assert_eq!(desk.answer(1, changed(epoch(2, 1))), ["call 2 answered"]);
}

#[test]
fn an_outcome_that_no_server_came_to_know_is_unknown() {
    let mut desk = Desk::served(1).timeout_ms(1);
    desk.add("a");
    desk.refuse(0, Refusal::OutcomeUnknown);
    assert_eq!(desk.wait_ms(1), ["call 2 unknown: OutOfTime"]);
}

#[test]
fn a_read_is_never_unknown() {
    let mut desk = Desk::served(2);
    desk.read("a");
    desk.break_off(0);
    assert_eq!(desk.wait_ms(5_000).last().expect("ends"), "call 2 not applied: OutOfTime");
}

#[test]
fn a_refusal_that_holds_everywhere_ends_the_call_at_once() {
    let mut desk = Desk::served(3);
    desk.add("");
    assert_eq!(
        desk.refuse(0, Refusal::BadKey { bytes_max: 4096 }),
        ["call 2 not applied: Refused(BadKey { bytes_max: 4096 })"]
    );
    assert_eq!(desk.add("b"), ["to 0: add b as 1.3 from 3"]);
}

#[test]
fn a_refusal_that_holds_everywhere_says_nothing_of_an_attempt_that_was_lost() {
    let mut desk = Desk::served(2);
    desk.add("a");
    desk.break_off(0);
    assert_eq!(
        desk.refuse(1, Refusal::BadValue { bytes_max: 1 }),
        ["call 2 unknown: Refused(BadValue { bytes_max: 1 })"]
    );
}

#[test]
fn an_expired_session_is_replaced_and_a_change_that_was_refused_for_it_goes_on_under_the_new_one() {
    let mut desk = Desk::served(1);
    desk.add("a");
    desk.add("b");
    assert_eq!(desk.refuse(0, Refusal::SessionExpired), ["to 0: open"]);
    assert_eq!(desk.refuse(0, Refusal::SessionExpired), NOTHING);
    assert_eq!(
        desk.answer(0, Response::SessionOpened { session: session_id(2) }),
        ["to 0: add a as 2.1 from 1", "to 0: add b as 2.2 from 1"]
    );
}

#[test]
fn a_lost_change_of_an_expired_session_stays_unknown_and_is_never_sent_under_a_new_one() {
    let mut desk = Desk::served(2);
    desk.add("lost");
    desk.break_off(0);
    desk.add("waiting");
    assert_eq!(desk.refuse(1, Refusal::SessionExpired), ["call 2 unknown: SessionExpired"]);
    desk.wait_ms(2);
    assert_eq!(desk.answer(1, Response::SessionOpened { session: session_id(2) }), ["to 1: add waiting as 2.1 from 1"]);
}

#[test]
fn a_session_that_is_not_known_yet_is_asked_for_again() {
    let mut desk = Desk::served(1);
    desk.add("a");
    assert_eq!(desk.refuse(0, Refusal::SessionUnknown), NOTHING);
    assert_eq!(desk.wait_ms(2), ["to 0: add a as 1.2 from 2"]);
    assert_eq!(desk.answer(0, changed(epoch(1, 0))), ["call 2 answered"]);
}

#[test]
fn a_session_that_nobody_knows_for_a_second_is_given_up() {
    let mut desk = Desk::served(1);
    desk.add("a");
    while desk.refuse(0, Refusal::SessionUnknown).is_empty() {
        assert!(desk.elapsed() < Duration::from_millis(1_200));
        let asked = desk.wait();
        if asked == ["to 0: open"] {
            break;
        }
        assert_eq!(asked, ["to 0: add a as 1.2 from 2"]);
    }
    assert!(desk.elapsed() >= Duration::from_millis(1_000), "{:?}", desk.elapsed());
}

#[test]
fn a_session_opened_once_too_often_is_closed_again() {
    let mut desk = Desk::connected(2);
    desk.add("a");
    assert_eq!(desk.wait_ms(300), ["to 1: open"]);
    let second = desk.take(0);
    desk.answer(1, Response::SessionOpened { session: session_id(1) });
    let response = Response::SessionOpened { session: session_id(2) };
    assert_eq!(desk.step(Input::Answered { attempt: second, response, server: None }), ["to 0: close 2 (forward)"]);
}

#[test]
fn closing_ends_the_session_and_closing_none_is_done_at_once() {
    let mut desk = Desk::connected(1);
    assert_eq!(desk.call(Operation::Close), ["call 1 answered"]);
    let mut desk = Desk::served(1);
    assert_eq!(desk.call(Operation::Close), ["to 0: close 1"]);
    assert_eq!(desk.answer(0, Response::SessionClosed), ["call 2 answered"]);
    assert_eq!(desk.session.id(), None);
    assert_eq!(desk.add("b"), ["to 0: open"]);
}

#[test]
fn a_cancelled_call_is_not_answered_and_gives_its_number_free() {
    let mut desk = Desk::served(1);
    desk.add("a");
    assert_eq!(desk.step(Input::Cancel { call: CallId(2) }), NOTHING);
    assert_eq!(desk.answer(0, changed(epoch(1, 0))), NOTHING);
    assert_eq!(desk.add("b"), ["to 0: add b as 1.3 from 3"]);
    assert_eq!(desk.session.calls_under_way(), 1);
}

#[test]
fn an_idle_session_has_no_deadline() {
    let mut desk = Desk::served(3);
    assert_eq!(desk.session.next_deadline(), None);
    desk.break_off(0);
    assert_eq!(desk.session.next_deadline(), None);
}

#[test]
fn no_more_changes_are_unanswered_than_the_servers_keep_answers_for() {
    let mut desk = Desk::served(1);
    let window = limits::SESSION_ANSWERS_MAX;
    let sent: usize = (0..window + 10).map(|_| desk.add("k").len()).sum();
    assert_eq!(sent, window, "as many as the servers keep answers for");
    assert_eq!(desk.answer(0, changed(epoch(1, 0))).len(), 2, "an answer makes room for one more");
    assert_eq!(desk.read("r"), ["to 0: read r"], "reads pass");
}

#[test]
fn a_failure_says_what_each_server_did() {
    let mut desk = Desk::served(4).timeout_ms(5);
    desk.break_off(3);
    desk.add("a");
    desk.break_off(0);
    desk.refuse(1, not_primary(Some(0)));
    let outputs = {
        desk.now = desk.now + Duration::from_millis(5);
        desk.session.step(desk.now, Input::Deadline)
    };
    let [Output::Done { outcome: Err(Failure::Unknown(unknown)), .. }] = &outputs[..] else {
        panic!("not one unknown outcome: {outputs:?}")
    };
    assert_eq!(unknown.reason, Reason::OutOfTime);
    let heard: Vec<_> = unknown.tried.iter().map(|tried| (tried.seat, tried.heard.clone())).collect();
    assert_eq!(
        heard,
        [
            (Seat(0), Heard::ConnectionLost),
            (Seat(1), Heard::Refused(not_primary(Some(0)))),
            (Seat(2), Heard::NoAnswer),
            (Seat(3), Heard::NotConnected),
        ]
    );
}

#[test]
fn a_change_that_waited_for_its_session_says_where_the_opening_went() {
    let mut desk = Desk::connected(1);
    desk.add("a");
    desk.now = desk.now + Duration::from_secs(5);
    let outputs = desk.session.step(desk.now, Input::Deadline);
    let [Output::Done { outcome: Err(Failure::NotApplied(failure)), .. }] = &outputs[..] else {
        panic!("not one change that was not applied: {outputs:?}")
    };
    assert_eq!(failure.tried[0].heard, Heard::NoAnswer);
}

#[test]
fn what_is_left_of_an_old_session_does_not_tell_the_servers_to_forget_its_answers() {
    let mut desk = Desk::served(2);
    for key in ["a", "b", "c"] {
        desk.add(key);
    }
    desk.break_off(0);
    assert_eq!(desk.refuse(1, Refusal::SessionExpired), ["call 2 unknown: SessionExpired"]);
    assert_eq!(desk.wait_ms(2), ["to 1: add b as 1.3 from 1"]);
    assert_eq!(desk.answer(1, changed(epoch(2, 1))), ["call 3 answered", "to 1: add c as 1.4 from 1"]);
}

#[test]
fn a_change_whose_answer_was_forgotten_is_unknown() {
    let mut desk = Desk::served(1);
    desk.add("a");
    let refusal = Refusal::SequenceAnswered { lowest_unanswered: 9 };
    assert_eq!(desk.refuse(0, refusal), ["call 2 unknown: Refused(SequenceAnswered { lowest_unanswered: 9 })"]);
}
