//! Stories of copies that differ: who is put out, and who decides (PROTOCOL 4.5).
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::time::Duration;

use heirloom_proto::event::Cause;
use heirloom_proto::{Digest, Message, Request, Response, ServerId, Token};
use small_world::{World, add, id};

/// A backup tells the primary of another state than it should have.
fn tells_of_another_state(world: &mut World, backup: ServerId) {
    let primary = world.primary().expect("one leads");
    let (from, cluster) = (world.node(backup).peer(), world.node(primary).cluster());
    let status = world.status(backup);
    let position = world.node(backup).replica().expect("it keeps data").log().end_position();
    let confirm = Message::Confirm { epoch: status.epoch, position, applied_index: status.applied, digest: Digest(7) };
    world.forge(primary, from, cluster, confirm);
}

/// Two data servers and a witness, which hold the same.
fn two() -> World {
    let mut world = World::started(2, 1);
    world.add("k", "v").expect("added");
    world.run_for(Duration::from_millis(200));
    world
}

fn is_answered(world: &World, change: Token) -> bool {
    matches!(world.answer(change), Some(Ok(Response::Changed { .. })))
}

fn change(world: &mut World) -> Token {
    let request: Request = add(None, "k", "newer");
    world.ask(id(0), request)
}

#[test]
fn of_three_copies_the_one_that_differs_is_put_out_at_once() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    world.run_for(Duration::from_millis(200));
    world.examinations_end = false;
    tells_of_another_state(&mut world, id(1));
    let took = world.run_until("it is put out, repaired and taken back", |world| {
        let given_up = |(at, cause): &(ServerId, Cause)| *at == id(1) && matches!(cause, Cause::Irreconcilable { .. });
        world.halts.iter().any(given_up) && world.all_are_members()
    });
    // The lease that it may still hold has to run out.
    assert!(took < world.constants.lease + Duration::from_millis(200), "{took:?}");
    world.run_for(Duration::from_millis(200));
    world.assert_equal();
}

#[test]
fn of_two_copies_that_are_both_right_by_their_checksums_none_is_chosen() {
    let mut world = two();
    tells_of_another_state(&mut world, id(1));
    let change = change(&mut world);
    world.run_for(Duration::from_secs(10));
    assert!(!is_answered(&world, change), "committed with a copy that may be wrong, or without one that may be right");
    let waits_for = world.status(id(0)).waits_for.expect("it says so");
    assert!(waits_for.contains("server 1, whose copy differs") && waits_for.contains("heirloom verify"), "{waits_for}");
    // Somebody has decided, and stopped the other one.
    world.kill(id(1));
    world.run_until("the other goes on alone", |world| is_answered(world, change));
}

#[test]
fn nobody_goes_on_alone_before_it_has_looked_at_itself() {
    let mut world = two();
    world.examinations_end = false;
    tells_of_another_state(&mut world, id(1));
    let change = change(&mut world);
    world.kill(id(1));
    world.run_for(Duration::from_secs(10));
    assert!(!is_answered(&world, change), "it may be the one that is wrong");
    world.examinations_end = true;
    world.run_until("it goes on alone", |world| is_answered(world, change));
}

#[test]
fn of_two_copies_the_backup_that_is_wrong_begins_anew_and_stays_a_member() {
    let mut world = two();
    world.unsound = Some(id(1));
    tells_of_another_state(&mut world, id(1));
    let change = change(&mut world);
    world.run_until("it is answered", |world| is_answered(world, change));
    world.run_until("both are members", World::all_are_members);
    world.run_for(Duration::from_millis(200));
    world.assert_equal();
}

#[test]
fn of_two_copies_the_primary_that_is_wrong_begins_anew_and_nothing_is_lost() {
    let mut world = two();
    world.unsound = Some(id(0));
    tells_of_another_state(&mut world, id(1));
    world.run_until("both are members", |world| world.unsound.is_none() && world.all_are_members());
    assert_eq!(world.read("k").as_deref(), Some("v"));
    world.add("k", "newer").expect("added");
    world.run_for(Duration::from_millis(200));
    world.assert_equal();
}
