//! Stories of conditions, change sets and appended values (PROTOCOL 4.2 and 11).
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use bytes::Bytes;
use heirloom_proto::mutants::{Mutant, plant};
use heirloom_proto::status::RoleName;
use heirloom_proto::{Change, Condition, KeyChange, Request, RequestId, Response, SessionId, Together, Token, Version};
use small_world::{World, add, delete, id};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A change set: conditions by key and version, changes by key and value.
fn set(named: Option<RequestId>, conditions: &[(&str, Option<Version>)], changes: &[(&str, Option<&str>)]) -> Request {
    let conditions = conditions.iter().map(|(key, version)| Condition { key: bytes(key), version: *version });
    let changes = changes.iter().map(|(key, value)| KeyChange { key: bytes(key), value: value.map(bytes) });
    let set = Together { conditions: conditions.collect(), changes: changes.collect() };
    Request::Change { id: named, change: Change::Together(Box::new(set)) }
}

fn add_if_absent(named: Option<RequestId>, key: &str, value: &str) -> Request {
    set(named, &[(key, None)], &[(key, Some(value))])
}

fn append(named: Option<RequestId>, value: &str) -> Request {
    Request::Change { id: named, change: Change::Append { prefix: bytes("log/"), value: bytes(value) } }
}

fn named(session: SessionId, sequence: u64) -> Option<RequestId> {
    Some(RequestId { session, sequence, lowest_unanswered: 1 })
}

/// The key of this number.
fn key(number: u64) -> String {
    format!("log/{number:020}")
}

fn number(answer: &Response) -> u64 {
    match answer {
        Response::Appended { number, .. } => *number,
        other => panic!("not appended: {other:?}"),
    }
}

fn version(answer: &Response) -> Version {
    match answer {
        Response::Changed { version, .. } => *version,
        other => panic!("not changed: {other:?}"),
    }
}

/// What the condition that was not met found.
fn found(answer: &Response) -> Option<Version> {
    match answer {
        Response::NotMet { found, .. } => *found,
        other => panic!("met: {other:?}"),
    }
}

fn answered(world: &World, token: Token) -> Response {
    world.answer(token).expect("answered").clone().expect("carried out")
}

/// Hands requests to the primary and stops once server 1 has them prepared; nobody knows that they are committed.
fn prepared_at_1(world: &mut World, requests: Vec<Request>) -> Vec<Token> {
    let applied = world.status(id(1)).applied;
    let end = world.status(id(1)).log_end.0 + requests.len() as u64;
    let tokens: Vec<Token> = requests.into_iter().map(|request| world.enqueue(id(0), request)).collect();
    while world.status(id(1)).log_end.0 < end {
        assert!(world.one(), "nothing more happens");
    }
    assert_eq!(world.status(id(1)).applied, applied, "they are committed already");
    tokens
}

/// The primary dies with what is under way, and the next leads.
fn fail_over(world: &mut World) {
    world.kill(id(0));
    world.run_until("a new primary", |world| world.primary() == Some(id(1)));
}

#[test]
fn a_condition_compares_the_version_of_the_last_change() {
    let mut world = World::started(3, 0);
    let first = version(&world.request(add_if_absent(None, "k", "a")).expect("answered"));
    let there = world.request(add_if_absent(None, "k", "b")).expect("answered");
    assert_eq!(found(&there), Some(first));
    assert_eq!(world.read("k").as_deref(), Some("a"));
    let second = version(&world.request(set(None, &[("k", Some(first))], &[("k", Some("b"))])).expect("answered"));
    assert_eq!(second, first.next());
    let late = world.request(set(None, &[("k", Some(first))], &[("k", None)])).expect("answered");
    assert!(matches!(late, Response::NotMet { condition: 0, version, .. } if version == second), "{late:?}");
    assert_eq!(found(&late), Some(second));
    version(&world.request(set(None, &[("k", Some(second))], &[("k", None)])).expect("answered"));
    assert_eq!(world.read("k"), None);
    let gone = world.request(set(None, &[("k", Some(second))], &[("k", Some("c"))])).expect("answered");
    assert_eq!(found(&gone), None);
}

/// Two of the same condition, of which the second comes while the first is prepared.
fn two_that_want_a_key_to_be_absent() -> (Response, Response) {
    let mut world = World::started(3, 0);
    let tokens = prepared_at_1(&mut world, vec![add_if_absent(None, "k", "a"), add_if_absent(None, "k", "b")]);
    world.settle();
    (answered(&world, tokens[0]), answered(&world, tokens[1]))
}

#[test]
fn a_condition_is_judged_by_what_is_prepared_too() {
    let (first, second) = two_that_want_a_key_to_be_absent();
    assert_eq!(found(&second), Some(version(&first)));
    let _without_prepared = plant(Mutant::ConditionOnCommitted);
    let (_, second) = two_that_want_a_key_to_be_absent();
    assert!(matches!(second, Response::Changed { .. }), "what is prepared is what keeps it: {second:?}");
}

#[test]
fn a_condition_sees_a_delete_that_is_prepared() {
    let mut world = World::started(3, 0);
    world.add("k", "old").expect("added");
    let tokens = prepared_at_1(&mut world, vec![delete("k"), add_if_absent(None, "k", "new")]);
    world.settle();
    version(&answered(&world, tokens[1]));
    assert_eq!(world.read("k").as_deref(), Some("new"));
}

/// A failed condition that was judged by an entry which never gets committed: whether it was answered.
fn answered_by_what_is_lost() -> bool {
    let mut world = World::started(3, 0);
    // It looks for itself whether the answer came too early.
    world.laws = None;
    world.cut_off(id(0));
    let lost = world.ask(id(0), add(None, "k", "lost"));
    let judged = world.ask(id(0), add_if_absent(None, "k", "mine"));
    let at_once = matches!(world.answer(judged), Some(Ok(_)));
    world.run_until("a new primary", |world| world.status(id(1)).role == RoleName::Primary);
    world.heal();
    world.run_until("all are members", |world| world.primary() == Some(id(1)) && world.members().len() == 3);
    assert_eq!(world.read("k"), None, "it is not lost");
    assert!(matches!(world.answer(lost), Some(Err(_))));
    at_once || matches!(world.answer(judged), Some(Ok(_)))
}

#[test]
fn a_failed_condition_is_answered_only_when_what_it_was_judged_by_is_committed() {
    assert!(!answered_by_what_is_lost());
    let _too_early = plant(Mutant::AnswerBeforeCommit);
    assert!(answered_by_what_is_lost(), "the wait for its own entry is what keeps it");
}

#[test]
fn a_retried_conditional_change_gets_its_first_answer_from_the_next_primary_too() {
    let mut world = World::started(3, 0);
    let session = world.open_session();
    let (mine, theirs) = (add_if_absent(named(session, 1), "k", "mine"), add_if_absent(named(session, 2), "k", "no"));
    prepared_at_1(&mut world, vec![mine.clone(), theirs.clone()]);
    fail_over(&mut world);
    let made = version(&world.request(mine.clone()).expect("answered"));
    let refused = world.request(theirs.clone()).expect("answered");
    assert_eq!(found(&refused), Some(made));
    // What is so now is not what was so then.
    world.request(delete("k")).expect("deleted");
    assert_eq!(version(&world.request(mine).expect("answered")), made);
    assert_eq!(found(&world.request(theirs).expect("answered")), Some(made));
    assert_eq!(world.read("k"), None);
}

#[test]
fn a_retried_append_gets_its_first_number_before_and_after_a_failover() {
    let mut world = World::started(3, 0);
    let session = world.open_session();
    let first = append(named(session, 1), "a");
    assert_eq!(number(&world.request(first.clone()).expect("answered")), 1);
    let second = append(named(session, 2), "b");
    prepared_at_1(&mut world, vec![second.clone()]);
    fail_over(&mut world);
    assert_eq!(number(&world.request(second).expect("answered")), 2);
    assert_eq!(number(&world.request(first).expect("answered")), 1);
    assert_eq!(number(&world.request(append(named(session, 3), "c")).expect("answered")), 3);
    assert_eq!(world.read(&key(2)).as_deref(), Some("b"));
}

/// The primary dies, and the next is asked to append while what it inherited is not committed.
fn appended_by_the_heir(inherited: Vec<Request>) -> (World, u64) {
    let mut world = World::started(3, 0);
    prepared_at_1(&mut world, inherited);
    world.kill(id(0));
    while world.role(id(1)) != RoleName::Primary {
        assert!(world.one(), "nothing more happens");
    }
    let status = world.status(id(1));
    assert!(status.applied < status.log_end, "what it inherited is committed already");
    let token = world.enqueue(id(1), append(None, "of the heir"));
    world.hurry();
    world.run_until("an answer", |world| world.answer(token).is_some());
    let number = number(&answered(&world, token));
    (world, number)
}

#[test]
fn numbers_go_on_over_a_failover_with_prepared_appends() {
    let (mut world, number) = appended_by_the_heir(vec![append(None, "a"), append(None, "b")]);
    assert_eq!(number, 3);
    let there = [1, 2, 3, 4].map(|number| world.read(&key(number)));
    assert_eq!(there.map(|value| value.unwrap_or_default()), ["a", "b", "of the heir", ""]);
}

#[test]
fn a_prepared_number_is_not_given_again_where_its_key_is_deleted_by_what_is_prepared() {
    let (mut world, number) = appended_by_the_heir(vec![append(None, "a"), append(None, "b"), delete(&key(2))]);
    assert_eq!(number, 3);
    assert_eq!(world.read(&key(2)), None);
}

#[test]
fn a_number_is_not_given_again_when_its_key_is_deleted() {
    let mut world = World::started(3, 0);
    assert_eq!(number(&world.request(append(None, "a")).expect("answered")), 1);
    assert_eq!(number(&world.request(append(None, "b")).expect("answered")), 2);
    world.request(delete(&key(2))).expect("deleted");
    fail_over(&mut world);
    assert_eq!(number(&world.request(append(None, "c")).expect("answered")), 3);
    assert_eq!(world.read(&key(2)), None);
}

#[test]
fn a_key_that_somebody_added_by_the_next_name_is_passed_over() {
    let mut world = World::started(3, 0);
    world.add(&key(1), "by name").expect("added");
    let tokens = prepared_at_1(&mut world, vec![add(None, &key(2), "by name too"), append(None, "a")]);
    world.settle();
    assert_eq!(number(&answered(&world, tokens[1])), 3);
    assert_eq!(world.read(&key(1)).as_deref(), Some("by name"));
    assert_eq!(world.read(&key(2)).as_deref(), Some("by name too"));
    assert_eq!(world.read(&key(3)).as_deref(), Some("a"));
    world.run_for(std::time::Duration::from_millis(100));
    world.assert_equal();
}

#[test]
fn prefixes_are_counted_each_by_itself() {
    let mut world = World::started(1, 0);
    let mut values = 0;
    let mut of = |prefix: &str| {
        values += 1;
        let change = Change::Append { prefix: bytes(prefix), value: bytes(&format!("v{values}")) };
        number(&world.request(Request::Change { id: None, change }).expect("answered"))
    };
    assert_eq!([of("a"), of("b"), of("a"), of(""), of("a/"), of("a")], [1, 1, 2, 1, 1, 3]);
}

#[test]
fn a_change_set_takes_effect_as_one_under_one_version_or_not_at_all() {
    let mut world = World::started(3, 0);
    world.add("old", "v").expect("added");
    let all = set(None, &[("new", None)], &[("new", Some("n")), ("old", None), ("other", Some("o"))]);
    let at = version(&world.request(all.clone()).expect("answered"));
    assert_eq!(world.status(id(0)).version, at);
    assert_eq!(found(&world.request(set(None, &[("new", None)], &[("x", None)])).expect("answered")), Some(at));
    assert_eq!(found(&world.request(set(None, &[("other", None)], &[("x", None)])).expect("answered")), Some(at));
    assert_eq!(world.read("old"), None);
    world.add("old", "again").expect("added");
    let before = world.status(id(0)).version;
    assert_eq!(found(&world.request(all).expect("answered")), Some(at));
    assert_eq!(world.status(id(0)).version, before, "a change that did nothing has a version");
    assert_eq!(world.read("old").as_deref(), Some("again"));
    let second = set(None, &[("nobody", None), ("old", None)], &[("x", Some("y"))]);
    assert!(matches!(world.request(second), Ok(Response::NotMet { condition: 1, .. })));
    world.run_for(std::time::Duration::from_millis(100));
    world.assert_equal();
}

#[test]
fn a_set_is_inherited_whole_or_lost_whole() {
    let changes = [("a", Some("1")), ("b", Some("2"))];
    let mut inherited = World::started(3, 0);
    prepared_at_1(&mut inherited, vec![set(None, &[], &changes)]);
    fail_over(&mut inherited);
    assert_eq!((inherited.read("a").as_deref(), inherited.read("b").as_deref()), (Some("1"), Some("2")));
    let mut lost = World::started(3, 0);
    lost.cut_off(id(0));
    lost.ask(id(0), set(None, &[], &changes));
    fail_over(&mut lost);
    assert_eq!((lost.read("a"), lost.read("b")), (None, None));
}
