//! Stories of snapshots: what is forgotten of the log, and how a copy that lacks it comes back (PROTOCOL 9).
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::time::Duration;

use heirloom_laws::Inspect;
use heirloom_proto::event::Cause;
use heirloom_proto::status::RoleName;
use heirloom_proto::{LogIndex, Message, ServerId};
use small_world::{World, id};

/// Three servers, of which the last was down while much was written, and the log of the others is forgotten but for so many
/// entries.
fn one_is_behind(entries_kept: usize) -> World {
    let mut world = World::started(3, 0);
    world.add("k", "before").expect("added");
    world.kill(id(2));
    world.run_until("two go on", |world| world.members() == [0, 1]);
    for number in 0..20 {
        world.add(&format!("key {number}"), &format!("value {number}")).expect("added");
    }
    for server in [0, 1].map(id) {
        world.snapshot(server, entries_kept);
    }
    world
}

fn is_member(world: &World, server: u8) -> bool {
    world.members().contains(&server)
}

#[test]
fn a_copy_that_lacks_what_is_forgotten_is_given_a_snapshot_and_is_a_member_again() {
    let mut world = one_is_behind(0);
    world.start(id(2));
    world.run_until("it is a member again", |world| is_member(world, 2));
    assert_eq!(world.halts.last(), Some(&(id(2), Cause::SnapshotFetched)));
    world.add("k", "after").expect("added");
    world.run_for(Duration::from_secs(1));
    world.assert_equal();
    assert_eq!(world.node(id(2)).log_base(), world.node(id(0)).log_base(), "it begins where the snapshot ends");
}

#[test]
fn a_copy_that_is_a_little_behind_is_sent_entries_that_were_kept_for_it() {
    let mut world = one_is_behind(30);
    world.start(id(2));
    world.run_until("it is a member again", |world| is_member(world, 2));
    assert_eq!(world.fetches, 0);
    world.assert_equal();
}

#[test]
fn a_copy_of_an_emptied_directory_is_given_a_snapshot() {
    let mut world = one_is_behind(0);
    world.wipe(id(2));
    world.start(id(2));
    world.run_until("it is a member again", |world| is_member(world, 2));
    assert_eq!(world.halts.last(), Some(&(id(2), Cause::SnapshotFetched)));
    world.assert_equal();
}

#[test]
fn a_snapshot_that_does_not_come_is_asked_for_again_and_the_server_votes_meanwhile() {
    let mut world = one_is_behind(0);
    world.snapshots_travel = false;
    world.start(id(2));
    world.run_until("it asks again", |world| world.fetches > 3);
    // The two that can vote are the copy that waits and one other.
    world.kill(id(0));
    world.run_until("the other is chosen", |world| world.role(id(1)) == RoleName::Primary);
    world.snapshots_travel = true;
    world.run_until("it takes the place of the one that is gone", |world| world.members() == [1, 2]);
    world.add("k", "after").expect("added");
    world.assert_equal();
}

#[test]
fn a_member_gives_its_log_away_on_nobodys_word() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    let (primary, cluster) = (world.node(id(0)).peer(), world.node(id(0)).cluster());
    let epoch = world.status(id(0)).epoch;
    let end = world.node(id(1)).replica().expect("it keeps data").log().end_position();
    let run = world.node(id(1)).run();
    world.laws = None;
    world.forge(id(1), primary, cluster, Message::Behind { epoch, run, end, base: LogIndex(1) });
    assert_eq!(world.fetches, 0);
    world.add("k", "w").expect("it confirms still");
}

#[test]
fn a_word_that_is_meant_for_another_run_or_log_end_is_ignored() {
    let mut world = one_is_behind(0);
    world.snapshots_travel = false;
    world.start(id(2));
    world.run_until("it asks", |world| world.fetches > 0);
    let asked = world.fetches;
    let (primary, cluster) = (world.node(id(0)).peer(), world.node(id(0)).cluster());
    let epoch = world.status(id(0)).epoch;
    let end = world.node(id(2)).replica().expect("it keeps data").log().end_position();
    let run = world.node(id(2)).run();
    let other_run = world.node(id(1)).run();
    let other_end = world.node(id(1)).replica().expect("it keeps data").log().end_position();
    world.laws = None;
    for (run, end) in [(other_run, end), (run, other_end)] {
        world.forge(id(2), primary, cluster, Message::Behind { epoch, run, end, base: LogIndex(1) });
    }
    assert_eq!(world.fetches, asked);
    world.forge(id(2), primary, cluster, Message::Behind { epoch, run, end, base: LogIndex(1) });
    assert_eq!(world.fetches, asked + 1);
}

#[test]
fn what_was_sent_to_a_copy_and_lost_on_the_way_is_not_forgotten_meanwhile() {
    let mut world = one_is_behind(30);
    let end = |world: &World, server| world.node(id(server)).replica().expect("it keeps data").log().end();
    let before = end(&world, 0);
    world.start(id(2));
    world.step_until("it is sent what it lacks", |world| {
        world.node(id(2)).replica().is_some() && end(world, 2) == before
    });
    assert_eq!(world.role(id(2)), RoleName::Learner);
    world.cut(id(0), id(2));
    for number in 0..5 {
        world.add("k", &number.to_string()).expect("the two add without it");
    }
    world.snapshot(id(0), 0);
    assert_eq!(world.node(id(0)).log_base(), before, "the rest it may have to be sent again");
    world.uncut(id(0), id(2));
    world.run_until("it is a member again", |world| is_member(world, 2));
    assert_eq!(world.fetches, 0);
    world.assert_equal();
}

#[test]
fn a_primary_that_begins_with_a_snapshot_leads_as_any_other() {
    let mut world = World::started(3, 0);
    let session = world.open_session();
    world.add("k", "v").expect("added");
    for server in [0, 1, 2].map(id) {
        world.snapshot(server, 0);
        world.kill(server);
    }
    for server in [0, 1, 2].map(id) {
        world.start(server);
    }
    world.run_until("all are members", World::all_are_members);
    assert_eq!(world.read("k").as_deref(), Some("v"));
    let again = heirloom_proto::RequestId { session, sequence: 1, lowest_unanswered: 1 };
    world.request(small_world::add(Some(again), "k", "w")).expect("the session is open still");
    world.assert_equal();
    let bases: Vec<LogIndex> = [0, 1, 2].map(|server: u8| world.node(ServerId(server)).log_base()).to_vec();
    assert!(bases.iter().all(|base| *base > LogIndex::ZERO), "{bases:?}");
}
