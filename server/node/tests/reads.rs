//! Stories of reads: at backups under their leases, causal and stale ones (PROTOCOL 10).
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::limits::{PAGE_LOOKED_AT_MAX, PAST_BYTES_MAX, SET_COUNT_MAX};
use heirloom_proto::mutants::{Mutant, plant};
use heirloom_proto::{
    At, Change, ClusterId, Consistency, Constants, KeyChange, KeyRange, Refusal, Request, Response, Scan, ServerId,
    Together, Token, Version, VoterKind,
};
use small_world::{World, add, delete, id, read};

const FULL: Duration = Duration::from_millis(100);

fn leased() -> World {
    let mut world = World::started(3, 0);
    world.add("k", "old").expect("added");
    world.run_until("all may read", |world| (0..3).all(|server| world.status(id(server)).lease.is_some()));
    world
}

/// What a server answers without waiting for anything.
fn at_once(world: &mut World, server: ServerId, request: Request) -> Option<Result<Response, Refusal>> {
    let token = world.ask(server, request);
    world.answer(token).cloned()
}

fn value(answer: Option<&Result<Response, Refusal>>) -> Option<&str> {
    match answer {
        Some(Ok(Response::Found { value, .. })) => Some(std::str::from_utf8(value).expect("text")),
        _ => None,
    }
}

fn with(consistency: Consistency) -> Request {
    Request::Read { key: Bytes::from_static(b"k"), consistency }
}

/// Begins a change and stops once server 1 has it prepared and does not know that it is committed.
fn prepared_at_1(world: &mut World, key: &str, value: &str) -> Token {
    let applied = world.status(id(1)).applied;
    let change = world.enqueue(id(0), add(None, key, value));
    while world.status(id(1)).log_end == applied {
        assert!(world.one(), "nothing more happens");
    }
    change
}

#[test]
fn every_member_answers_a_read_by_itself() {
    let mut world = leased();
    for server in 0..3 {
        let answer = at_once(&mut world, id(server), read("k"));
        assert_eq!(value(answer.as_ref()), Some("old"), "server {server}");
        let seen = *answer.expect("at once").expect("found").seen().expect("a read");
        assert!(seen.local && !seen.waited, "{seen:?}");
        assert!(seen.age.is_some_and(|age| age <= FULL), "{seen:?}");
    }
}

#[test]
fn a_read_at_a_backup_waits_for_the_change_of_its_key_that_is_prepared_there_and_for_no_other() {
    let mut world = leased();
    prepared_at_1(&mut world, "k", "new");
    let touched = world.enqueue(id(1), read("k"));
    let other = world.enqueue(id(1), read("other"));
    let before = world.status(id(1)).applied;
    while world.answer(other).is_none() {
        assert!(world.one(), "nothing more happens");
    }
    if world.status(id(1)).applied == before {
        assert_eq!(world.answer(touched), None, "it may not be told the old value, nor yet the new one");
    }
    world.settle();
    assert_eq!(value(world.answer(touched)), Some("new"));
    assert!(world.answers[&touched].as_ref().expect("found").seen().expect("a read").waited);
}

#[test]
fn a_read_that_waits_too_long_goes_to_the_primary() {
    let mut world = leased();
    prepared_at_1(&mut world, "k", "new");
    world.cut(id(0), id(1));
    let token = world.enqueue(id(1), read("k"));
    world.run_until("an answer", |world| world.answer(token).is_some());
    assert_eq!(world.answer(token), Some(&Err(Refusal::NotPrimary { primary: Some(id(0)) })));
}

/// A backup that stood still while it was put out of the view, and goes on: its first step is a read.
fn a_read_first_thing_after_a_pause() -> Option<Result<Response, Refusal>> {
    let mut world = leased();
    world.pause(id(1));
    world.run_until("it is out", |world| world.members() == [0, 2] && world.primary() == Some(id(0)));
    world.add("k", "new").expect("added");
    let token = world.enqueue(id(1), read("k"));
    world.hurry();
    world.resume(id(1));
    while world.answer(token).is_none() {
        assert!(world.one(), "nothing more happens");
    }
    world.answer(token).cloned()
}

#[test]
fn a_backup_that_was_put_out_while_it_stood_still_tells_no_old_value() {
    let answer = a_read_first_thing_after_a_pause();
    assert!(matches!(answer, Some(Err(Refusal::NotPrimary { .. }))), "{answer:?}");
    let _without_the_check = plant(Mutant::ReadWithoutLease);
    assert_eq!(
        value(a_read_first_thing_after_a_pause().as_ref()),
        Some("old"),
        "the check of the lease is what keeps it"
    );
}

#[test]
fn a_backup_that_hears_nothing_more_stops_reading_before_another_may_lead_without_it() {
    let mut world = leased();
    world.cut_off(id(2));
    world.run_until("the lease ends", |world| world.status(id(2)).lease.is_none());
    assert!(world.members().contains(&2), "it is still a member, and no write is committed without it");
    let answer = at_once(&mut world, id(2), read("k"));
    assert!(matches!(answer, Some(Err(Refusal::NotPrimary { .. }))), "{answer:?}");
}

#[test]
fn a_learner_is_granted_nothing() {
    let mut world = leased();
    world.kill(id(2));
    world.run_until("it is out", |world| world.members() == [0, 1]);
    world.start(id(2));
    world.run_until("it is back", |world| {
        let member = world.members().contains(&2);
        assert!(member || world.status(id(2)).lease.is_none(), "a learner holds a lease");
        member
    });
}

#[test]
fn without_leases_backups_read_nothing_linearizable() {
    let constants = Constants { lease: Duration::ZERO, ..Constants::defaults(vec![VoterKind::Data; 3]) };
    let mut world = World::with(constants);
    world.start_all();
    world.run_until("all are members", World::all_are_members);
    world.add("k", "old").expect("added");
    world.run_for(Duration::from_millis(200));
    let answer = at_once(&mut world, id(1), read("k"));
    assert_eq!(answer, Some(Err(Refusal::NotPrimary { primary: Some(id(0)) })));
    assert_eq!(value(at_once(&mut world, id(1), with(Consistency::Stale)).as_ref()), Some("old"));
    let token = world.ask(id(0), read("k"));
    world.run_until("it is confirmed", |world| world.answer(token).is_some());
    assert!(!world.answers[&token].as_ref().expect("found").seen().expect("a read").local);
}

#[test]
fn a_causal_read_waits_until_what_its_client_has_seen_is_here() {
    let mut world = leased();
    let change = prepared_at_1(&mut world, "k", "new");
    while world.answer(change).is_none() {
        assert!(world.one(), "nothing more happens");
    }
    let Some(Ok(Response::Changed { version, .. })) = world.answer(change).cloned() else { panic!("not changed") };
    let enough = world.enqueue(id(1), with(Consistency::Causal { at_least: version }));
    world.settle();
    assert_eq!(value(world.answer(enough)), Some("new"));
}

#[test]
fn a_cut_off_server_goes_on_with_causal_and_stale_reads_of_what_it_has() {
    let mut world = leased();
    let version = world.status(id(2)).version;
    world.cut_off(id(2));
    world.run_for(Duration::from_secs(2));
    let causal = at_once(&mut world, id(2), with(Consistency::Causal { at_least: version }));
    assert_eq!(value(causal.as_ref()), Some("old"));
    let stale = at_once(&mut world, id(2), with(Consistency::Stale)).expect("at once").expect("found");
    let age = stale.seen().expect("a read").age;
    assert!(age.is_some_and(|age| age >= Duration::from_millis(1_900)), "{age:?}");
}

#[test]
fn a_version_that_never_was_is_refused_by_name() {
    let mut world = leased();
    let version = world.status(id(0)).version;
    let answer = at_once(&mut world, id(0), with(Consistency::Causal { at_least: Version(version.0 + 1_000) }));
    assert_eq!(answer, Some(Err(Refusal::VersionAhead { version })));
}

fn scan(prefix: &'static str, limit: u32, at: At<Consistency>) -> Request {
    let range = KeyRange::of_prefix(Bytes::from_static(prefix.as_bytes()));
    Request::Scan(Scan { range, limit, keys_only: false, at, cluster: None })
}

/// A page in short: its keys and values, and where the next one begins.
fn page(answer: Option<&Result<Response, Refusal>>) -> Option<(String, Option<Bytes>)> {
    let Some(Ok(Response::Scanned { entries, next, .. })) = answer else { return None };
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let told: Vec<String> = entries.iter().map(|entry| text(&entry.key) + "=" + &text(&entry.value)).collect();
    Some((told.join(" "), next.clone()))
}

const NOW: At<Consistency> = At::Now(Consistency::Linearizable);

#[test]
fn every_member_answers_a_scan_by_itself_in_key_order() {
    let mut world = leased();
    world.add("b", "2").expect("added");
    world.add("a", "1").expect("added");
    world.run_for(Duration::from_millis(100));
    for server in 0..3 {
        let answer = at_once(&mut world, id(server), scan("", 0, NOW));
        assert_eq!(page(answer.as_ref()), Some(("a=1 b=2 k=old".to_owned(), None)), "server {server}");
        let seen = *answer.expect("at once").expect("a page").seen().expect("a read");
        assert!(seen.local && !seen.waited && seen.version == Version(3), "{seen:?}");
    }
    let bounded = KeyRange { start: Bytes::from_static(b"b"), end: Some(Bytes::from_static(b"b")) };
    let nothing = Scan { range: bounded, limit: 0, keys_only: false, at: NOW, cluster: None };
    let answer = at_once(&mut world, id(1), Request::Scan(nothing));
    assert_eq!(page(answer.as_ref()), Some((String::new(), None)), "a range that ends where it begins");
}

#[test]
fn a_scan_at_a_backup_waits_for_the_change_in_its_range_that_is_prepared_there_and_for_no_other() {
    let mut world = leased();
    prepared_at_1(&mut world, "k9", "new");
    // The first page would not show it, and yet the version must.
    let touched = world.enqueue(id(1), scan("k", 1, NOW));
    let other = world.enqueue(id(1), scan("l", 0, NOW));
    let before = world.status(id(1)).applied;
    while world.answer(other).is_none() {
        assert!(world.one(), "nothing more happens");
    }
    if world.status(id(1)).applied == before {
        assert_eq!(world.answer(touched), None, "it may not fix a version that lacks the change");
    }
    world.settle();
    assert_eq!(page(world.answer(touched)), Some(("k=old".to_owned(), Some(Bytes::from_static(b"k9")))));
    let seen = *world.answers[&touched].as_ref().expect("a page").seen().expect("a read");
    assert!(seen.waited && seen.version == Version(2), "{seen:?}");
}

/// A backup that stood still while it was put out of the view, and goes on: its first step is a scan.
fn a_scan_first_thing_after_a_pause() -> Option<Result<Response, Refusal>> {
    let mut world = leased();
    world.pause(id(1));
    world.run_until("it is out", |world| world.members() == [0, 2] && world.primary() == Some(id(0)));
    world.add("k", "new").expect("added");
    let token = world.enqueue(id(1), scan("", 0, NOW));
    world.hurry();
    world.resume(id(1));
    while world.answer(token).is_none() {
        assert!(world.one(), "nothing more happens");
    }
    world.answer(token).cloned()
}

#[test]
fn a_backup_that_was_put_out_while_it_stood_still_scans_nothing_old() {
    let answer = a_scan_first_thing_after_a_pause();
    assert!(matches!(answer, Some(Err(Refusal::NotPrimary { .. }))), "{answer:?}");
    let _without_the_check = plant(Mutant::ReadWithoutLease);
    let answer = a_scan_first_thing_after_a_pause();
    assert_eq!(page(answer.as_ref()), Some(("k=old".to_owned(), None)), "the check of the lease is what keeps it");
}

#[test]
fn the_pages_of_a_scan_are_of_one_version_whoever_answers_and_whatever_changes() {
    let mut world = leased();
    for (key, value) in [("k1", "one"), ("k2", "two"), ("k3", "three")] {
        world.add(key, value).expect("added");
    }
    world.run_for(Duration::from_millis(100));
    let first = at_once(&mut world, id(0), scan("k", 2, NOW));
    assert_eq!(page(first.as_ref()), Some(("k=old k1=one".to_owned(), Some(Bytes::from_static(b"k2")))));
    let version = first.expect("at once").expect("a page").seen().expect("a read").version;
    world.add("k2", "newer").expect("added");
    world.add("k2a", "newest").expect("added");
    world.request(delete("k3")).expect("deleted");
    world.add("k", "new").expect("added");
    world.kill(id(0));
    world.run_until("another leads", |world| world.primary().is_some());
    let rest = |at| {
        let range = KeyRange { start: Bytes::from_static(b"k2"), end: Some(Bytes::from_static(b"l")) };
        Request::Scan(Scan { range, limit: 0, keys_only: false, at, cluster: None })
    };
    for server in [1, 2] {
        let answer = at_once(&mut world, id(server), rest(At::Version(version)));
        assert_eq!(page(answer.as_ref()), Some(("k2=two k3=three".to_owned(), None)), "server {server}");
        assert_eq!(answer.expect("at once").expect("a page").seen().expect("a read").version, version);
    }
    world.start(id(0));
    world.run_until("it is back", World::all_are_members);
    let answer = at_once(&mut world, id(0), rest(At::Version(version)));
    assert_eq!(page(answer.as_ref()), Some(("k2=two k3=three".to_owned(), None)), "its log gives it back what was");
    let present = world.request(rest(NOW));
    assert_eq!(page(Some(&present)), Some(("k2=newer k2a=newest".to_owned(), None)));
}

#[test]
fn a_page_of_a_version_that_is_not_here_yet_waits_for_it_and_one_that_never_was_is_refused() {
    let mut world = leased();
    let change = prepared_at_1(&mut world, "k", "new");
    while world.answer(change).is_none() {
        assert!(world.one(), "nothing more happens");
    }
    let Some(Ok(Response::Changed { version, .. })) = world.answer(change).cloned() else { panic!("not changed") };
    let token = world.enqueue(id(1), scan("k", 0, At::Version(version)));
    world.settle();
    assert_eq!(page(world.answer(token)), Some(("k=new".to_owned(), None)));
    let answer = at_once(&mut world, id(0), scan("k", 0, At::Version(Version(version.0 + 1_000))));
    assert_eq!(answer, Some(Err(Refusal::VersionAhead { version })));
}

#[test]
fn a_page_of_a_version_that_is_no_longer_kept_is_refused_and_names_the_oldest_that_is() {
    let mut world = leased();
    // They hash the whole log at every step, which is long here.
    world.laws = None;
    let rest = "v".repeat((1 << 20) - 3);
    for number in 100..101 + (PAST_BYTES_MAX >> 20) {
        world.add("k", &format!("{number}{rest}")).expect("added");
    }
    world.run_for(Duration::from_millis(100));
    for server in 0..3 {
        let oldest = match at_once(&mut world, id(server), scan("k", 0, At::Version(Version(1)))) {
            Some(Err(Refusal::VersionTooOld { oldest })) => oldest,
            other => panic!("{other:?}"),
        };
        assert!(oldest > Version(1) && oldest < Version(10), "{oldest}");
        let kept = at_once(&mut world, id(server), scan("k", 0, At::Version(oldest)));
        assert!(matches!(kept, Some(Ok(Response::Scanned { .. }))), "{kept:?}");
    }
}

#[test]
fn a_cut_off_server_goes_on_with_pages_of_a_version_that_it_has() {
    let mut world = leased();
    let version = world.status(id(2)).version;
    world.cut_off(id(2));
    world.run_for(Duration::from_secs(2));
    let refused = at_once(&mut world, id(2), scan("", 0, NOW));
    assert!(matches!(refused, Some(Err(Refusal::NotPrimary { .. }))), "{refused:?}");
    for at in [At::Version(version), At::Now(Consistency::Stale), At::Now(Consistency::Causal { at_least: version })] {
        let answer = at_once(&mut world, id(2), scan("", 0, at));
        assert_eq!(page(answer.as_ref()), Some(("k=old".to_owned(), None)), "{at:?}");
    }
}

#[test]
fn a_page_looks_at_so_many_keys_at_once_and_goes_on_behind_them_even_where_it_found_nothing() {
    let mut world = leased();
    world.laws = None;
    world.add("z", "last").expect("added");
    world.run_for(Duration::from_millis(100));
    let version = world.status(id(0)).version;
    // They stand between the two keys of that version, and all are newer.
    for set in 0..=2 * PAGE_LOOKED_AT_MAX / SET_COUNT_MAX {
        let change = |number| KeyChange { key: format!("l{set:02}-{number:04}").into(), value: Some("v".into()) };
        let set = Together { conditions: Vec::new(), changes: (0..SET_COUNT_MAX).map(change).collect() };
        world.request(Request::Change { id: None, change: Change::Together(Box::new(set)) }).expect("changed");
    }
    let pages = |world: &mut World| {
        let (mut start, mut pages) = (Bytes::new(), Vec::new());
        loop {
            let range = KeyRange { start, end: None };
            let at = At::Version(version);
            let rest = Request::Scan(Scan { range, limit: 1, keys_only: false, at, cluster: None });
            let (told, next) = page(at_once(world, id(1), rest).as_ref()).expect("a page");
            pages.push(told);
            match next {
                Some(next) => start = next,
                None => return pages,
            }
        }
    };
    assert_eq!(pages(&mut world), ["k=old", "", "z=last"]);
}

#[test]
fn a_page_of_another_clusters_version_is_refused_but_of_a_later_generation_it_is_left_to_others() {
    let mut world = leased();
    let cluster = world.node(id(0)).cluster().expect("it was founded");
    let version = world.status(id(0)).version;
    let named = |cluster| {
        let range = KeyRange::default();
        Request::Scan(Scan { range, limit: 0, keys_only: false, at: At::Version(version), cluster: Some(cluster) })
    };
    let later = ClusterId { generation: cluster.generation + 1, ..cluster };
    let before = ClusterId { generation: cluster.generation - 1, ..cluster };
    let other = ClusterId { id: cluster.id + 1, ..later };
    for server in 0..3 {
        for old in [before, other] {
            assert_eq!(at_once(&mut world, id(server), named(old)), Some(Err(Refusal::OtherCluster)), "{server} {old}");
        }
        let elsewhere = at_once(&mut world, id(server), named(later));
        assert_eq!(elsewhere, Some(Err(Refusal::NotPrimary { primary: Some(id(0)) })), "it may have been set back");
        let answer = at_once(&mut world, id(server), named(cluster));
        assert_eq!(page(answer.as_ref()), Some(("k=old".to_owned(), None)), "server {server}");
        let Some(Ok(Response::Scanned { cluster: told, .. })) = answer else { panic!("not a page") };
        assert_eq!(told, cluster);
    }
}
