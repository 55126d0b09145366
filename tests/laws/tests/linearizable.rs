//! The checker itself: histories that are known to be good and histories that are known to be bad.

use bytes::Bytes;
use heirloom_laws::linearizable::{Call, Fault, Operation, Outcome, check};
use heirloom_laws::random::Random;

fn value(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn add(from: u64, to: u64, name: &str, existed: bool) -> Operation {
    let returned = Some((to, Outcome::Changed { existed }));
    Operation { client: 0, call: Call::Add(value(name)), called_at: from, returned }
}

fn add_unknown(from: u64, name: &str) -> Operation {
    Operation { client: 0, call: Call::Add(value(name)), called_at: from, returned: None }
}

fn delete(from: u64, to: u64, existed: bool) -> Operation {
    Operation { client: 0, call: Call::Delete, called_at: from, returned: Some((to, Outcome::Changed { existed })) }
}

fn delete_unknown(from: u64) -> Operation {
    Operation { client: 0, call: Call::Delete, called_at: from, returned: None }
}

fn read(from: u64, to: u64, name: &str) -> Operation {
    let outcome = if name.is_empty() { Outcome::NotFound } else { Outcome::Found(value(name)) };
    Operation { client: 0, call: Call::Read, called_at: from, returned: Some((to, outcome)) }
}

fn good(operations: &[Operation]) {
    assert_eq!(check(&value("k"), operations), Ok(()));
}

fn bad(operations: &[Operation]) {
    assert!(matches!(check(&value("k"), operations), Err(Fault::NotLinearizable { .. })), "accepted: {operations:?}");
}

fn add_if(from: u64, to: u64, expected: &str, name: &str, met: bool) -> Operation {
    let outcome = if met { Outcome::Changed { existed: !expected.is_empty() } } else { Outcome::NotMet };
    Operation { returned: Some((to, outcome)), ..add_if_unknown(from, expected, name) }
}

fn add_if_unknown(from: u64, expected: &str, name: &str) -> Operation {
    let expected = (!expected.is_empty()).then(|| value(expected));
    Operation { client: 0, call: Call::AddIf { value: value(name), expected }, called_at: from, returned: None }
}

#[test]
fn of_two_that_expect_the_same_value_one_is_done() {
    good(&[add(1, 2, "a", false), add_if(3, 9, "a", "b", true), add_if(3, 9, "a", "c", false), read(10, 11, "b")]);
    bad(&[add(1, 2, "a", false), add_if(3, 9, "a", "b", true), add_if(3, 9, "a", "c", true)]);
    good(&[add_if(1, 9, "", "b", true), add_if(1, 9, "", "c", false), read(10, 11, "b")]);
    bad(&[add_if(1, 9, "", "b", true), add_if(1, 9, "", "c", true)]);
    bad(&[add_if(1, 9, "", "b", false), add_if(1, 9, "", "c", false)]);
}

#[test]
fn a_condition_is_met_by_the_value_of_its_moment_alone() {
    bad(&[add(1, 2, "a", false), add_if(3, 4, "", "b", true)]);
    bad(&[add(1, 2, "a", false), add_if(3, 4, "a", "b", false)]);
    bad(&[add(1, 2, "a", false), add(3, 4, "b", true), add_if(5, 6, "a", "c", true)]);
    good(&[add(1, 2, "a", false), add(3, 8, "b", true), add_if(5, 6, "a", "c", false), read(9, 10, "b")]);
    good(&[add(1, 2, "a", false), add(3, 8, "b", true), add_if(5, 6, "a", "c", true), read(9, 10, "b")]);
    good(&[add(1, 2, "never read", false), add_if(3, 4, "", "b", false), delete(5, 6, true)]);
    bad(&[add(1, 2, "a", false), add_if(3, 4, "x", "b", false), read(5, 6, "b")]);
}

#[test]
fn a_conditional_add_of_unknown_outcome_takes_effect_where_its_condition_is_met_or_never() {
    good(&[add(1, 2, "a", false), add_if_unknown(3, "a", "b"), read(4, 5, "a"), read(6, 7, "b")]);
    good(&[add(1, 2, "a", false), add_if_unknown(3, "a", "b"), add(4, 5, "c", true), read(6, 7, "c")]);
    bad(&[add(1, 2, "a", false), add_if_unknown(3, "x", "b"), read(4, 5, "b")]);
    bad(&[add(1, 2, "a", false), add(3, 4, "c", true), add_if_unknown(5, "a", "b"), read(6, 7, "b")]);
    // Two whose values nobody read, and only the later one can have been.
    good(&[
        add(1, 2, "a", false),
        add_if_unknown(3, "x", "u"),
        add_if_unknown(3, "a", "v"),
        add_if(4, 5, "a", "w", false),
        delete(6, 7, true),
    ]);
}

#[test]
fn a_history_of_one_client_is_explained_in_its_order() {
    good(&[add(1, 2, "a", false), read(3, 4, "a"), delete(5, 6, true), read(7, 8, ""), delete(9, 10, false)]);
}

#[test]
fn a_read_that_misses_an_answered_add_is_found() {
    bad(&[add(1, 2, "a", false), read(3, 4, "")]);
}

#[test]
fn a_read_of_a_replaced_value_is_found() {
    bad(&[add(1, 2, "a", false), add(3, 4, "b", true), read(5, 6, "a")]);
}

#[test]
fn a_read_of_a_value_that_was_never_added_is_found() {
    bad(&[add(1, 2, "a", false), read(3, 4, "x")]);
}

#[test]
fn overlapping_operations_may_take_effect_in_either_order() {
    good(&[add(1, 10, "a", false), add(1, 10, "b", true), read(11, 12, "b")]);
    good(&[add(1, 10, "a", true), add(1, 10, "b", false), read(11, 12, "a")]);
    good(&[add(1, 10, "a", false), read(2, 9, "")]);
    good(&[add(1, 10, "a", false), read(2, 9, "a")]);
}

#[test]
fn two_reads_one_after_the_other_do_not_go_back_in_time() {
    bad(&[add(1, 2, "a", false), add(3, 20, "b", true), read(4, 5, "b"), read(6, 7, "a")]);
    good(&[add(1, 2, "a", false), add(3, 20, "b", true), read(4, 5, "a"), read(6, 7, "b")]);
}

#[test]
fn an_add_of_unknown_outcome_may_take_effect_late_or_never_but_once() {
    good(&[add(1, 2, "a", false), add_unknown(3, "b"), read(4, 5, "a"), read(6, 7, "a")]);
    good(&[add(1, 2, "a", false), add_unknown(3, "b"), read(4, 5, "a"), read(6, 7, "b")]);
    bad(&[add(1, 2, "a", false), add_unknown(3, "b"), read(4, 5, "b"), add(6, 7, "c", true), read(8, 9, "b")]);
    bad(&[add_unknown(10, "b"), read(1, 2, "b")]);
}

#[test]
fn a_delete_of_unknown_outcome_is_called_upon_at_most_once() {
    good(&[add(1, 2, "a", false), delete_unknown(3), read(4, 5, ""), add(6, 7, "b", false), read(8, 9, "b")]);
    bad(&[add(1, 2, "a", false), delete_unknown(3), read(4, 5, ""), add(6, 7, "b", false), read(8, 9, "")]);
    good(&[
        add(1, 2, "a", false),
        delete_unknown(3),
        delete_unknown(3),
        read(4, 5, ""),
        add(6, 7, "b", false),
        read(8, 9, ""),
    ]);
}

#[test]
fn what_an_answer_says_of_the_value_before_counts() {
    bad(&[add(1, 2, "a", false), add(3, 4, "b", false)]);
    bad(&[delete(1, 2, true)]);
    good(&[add_unknown(1, "never read"), delete(3, 4, true)]);
    bad(&[add_unknown(1, "never read"), delete(3, 4, true), delete(5, 6, true)]);
}

#[test]
fn an_answer_that_says_nothing_of_the_value_before_demands_nothing_of_it() {
    let done = |call: Call, from: u64| Operation {
        client: 0,
        call,
        called_at: from,
        returned: Some((from + 1, Outcome::Done)),
    };
    let add = |from| done(Call::Add(value("a")), from);
    good(&[done(Call::Delete, 1), add(3), read(7, 8, "a"), done(Call::Delete, 9), read(11, 12, "")]);
    bad(&[add(1), read(3, 4, "")]);
    bad(&[add(1), done(Call::Delete, 3), read(5, 6, "a")]);
}

/// A history as a correct register would give it: each operation takes effect at a random moment of its own.
fn correct_history(random: &mut Random, operations: u64) -> Vec<Operation> {
    let mut history = Vec::new();
    let mut moments: Vec<(u64, u64)> = (0..operations).map(|number| (random.below(operations * 20), number)).collect();
    moments.sort_unstable();
    let mut current: Option<Bytes> = None;
    for (moment, number) in moments {
        let called_at = moment.saturating_sub(random.below(60));
        let returns = moment + random.below(60);
        let unknown = random.per_mille(30);
        let (call, outcome) = match random.below(5) {
            4 => {
                // Of what is there, or of something else.
                let expected = if random.per_mille(500) { current.clone() } else { Some(value("other")) };
                let met = expected == current;
                let outcome = if met { Outcome::Changed { existed: current.is_some() } } else { Outcome::NotMet };
                (Call::AddIf { value: Bytes::from(number.to_string()), expected }, outcome)
            }
            0 => {
                let call = Call::Add(Bytes::from(number.to_string()));
                let outcome = Outcome::Changed { existed: current.is_some() };
                (call, outcome)
            }
            1 if random.per_mille(300) => (Call::Delete, Outcome::Changed { existed: current.is_some() }),
            _ => (Call::Read, current.clone().map_or(Outcome::NotFound, Outcome::Found)),
        };
        let happens = !unknown || random.per_mille(500);
        match &call {
            Call::Add(value) if happens => current = Some(value.clone()),
            Call::AddIf { value, expected } if happens && *expected == current => current = Some(value.clone()),
            Call::Delete if happens => current = None,
            Call::Add(_) | Call::AddIf { .. } | Call::Delete | Call::Read => {}
        }
        let returned = (!unknown).then_some((returns, outcome));
        history.push(Operation { client: number % 5, call, called_at, returned });
    }
    history
}

#[test]
fn thousands_of_operations_of_a_correct_register_are_accepted() {
    for seed in 0..20 {
        good(&correct_history(&mut Random::new(seed), 3_000));
    }
}

#[test]
fn a_single_stale_read_among_thousands_of_operations_is_found() {
    let mut found = 0;
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut history = correct_history(&mut random, 2_000);
        let end = 2_000 * 20 + 200;
        history.push(add(end, end + 1, "last", true));
        let Some(old) = history.iter().find_map(|operation| match (&operation.call, &operation.returned) {
            (Call::Add(value), Some(_)) => Some(value.clone()),
            _ => None,
        }) else {
            continue;
        };
        // The answer about the value before may be wrong too; only the read is looked at here.
        history.retain(|operation| operation.called_at != end || operation.call == Call::Add(value("last")));
        history.push(Operation {
            client: 9,
            call: Call::Read,
            called_at: end + 2,
            returned: Some((end + 3, Outcome::Found(old))),
        });
        bad(&history);
        found += 1;
    }
    assert_eq!(found, 20);
}
