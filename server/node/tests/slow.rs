//! Stories of disks that take long, and of patience: docs/decisions/0013.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::time::Duration;

use heirloom_proto::{Epoch, Message, ServerId};
use small_world::{World, add, id};

/// How many writes, one after the other, the choice of a primary takes at most: four are in its nature, and the first tries
/// come to nothing, for nobody knows before how long a write takes.
const WRITES_MAX: u32 = 24;

#[test]
fn a_cluster_whose_disks_are_all_slow_finds_another_primary_and_keeps_it() {
    for (data, witnesses) in [(3, 0), (2, 1), (5, 0)] {
        for millis in [50, 120, 300, 1_000, 2_000] {
            let story = format!("{data} servers, {witnesses} witnesses, {millis} ms a write");
            let write = Duration::from_millis(millis);
            let mut world = World::started(data, witnesses);
            world.slow_disks(write);
            world.kill(id(0));
            let took = world.run_until("another leads", |world| world.primary().is_some());
            assert!(took <= write * WRITES_MAX, "{story}: {took:?}");
            // A late proposal of another one may end its epoch once more, but not what it has promised to do.
            let token = world.enqueue(world.primary().expect("it leads"), add(None, "k", "v"));
            world.run_until("answered", |world| world.answer(token).is_some());
            assert!(matches!(world.answer(token), Some(Ok(_))), "{story}: {:?}", world.answer(token));
            let leads = |world: &World| world.primary().map(|primary| (primary, world.status(primary).epoch));
            world.run_for(write * WRITES_MAX);
            let leader = leads(&world);
            world.run_for(write * WRITES_MAX);
            assert!(leader.is_some() && leads(&world) == leader, "{story}: {leader:?}");
        }
    }
}

/// Server 2 stands still, is put out and comes back; how long it was not a member after it went on.
fn stands_still_once(world: &mut World) -> Duration {
    world.pause(id(2));
    world.run_until("it is put out", |world| world.members() == [0, 1]);
    world.resume(id(2));
    world.run_until("it is back", World::all_are_members)
}

#[test]
fn a_member_that_is_slow_again_and_again_stays_out_for_longer_but_not_where_it_is_needed() {
    let mut world = World::started(3, 0);
    world.proofs = false;
    let first = stands_still_once(&mut world);
    for _ in 0..4 {
        stands_still_once(&mut world);
    }
    let last = stands_still_once(&mut world);
    assert!(last >= first * 8, "{first:?}, {last:?}");
    world.pause(id(2));
    world.run_until("it is put out", |world| world.members() == [0, 1]);
    world.resume(id(2));
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.members(), [0, 1], "it has all by now, and is not taken back yet");
    world.kill(id(1));
    let took = world.run_until("it takes the place of the one that is gone", |world| world.members() == [0, 2]);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// A proposal of another server reaches this one alone, and comes to nothing; how long until one leads on with all.
fn contested(world: &mut World, at: ServerId) -> Duration {
    let primary = world.primary().expect("one leads");
    let proposer = [0, 1, 2].map(id).into_iter().find(|server| ![primary, at].contains(server)).expect("three servers");
    let (peer, cluster) = (world.node(proposer).peer(), world.node(proposer).cluster());
    let round = world.status(primary).epoch.round;
    let epoch = Epoch { round: round + 1, server: proposer, run: peer.run };
    world.forge(at, peer, cluster, Message::Promise { epoch });
    world.run_until("one leads on", |world| {
        let leads = |primary| world.status(primary).epoch.round > round;
        world.primary().is_some_and(leads) && world.all_are_members()
    })
}

#[test]
fn a_primary_whose_place_was_contested_often_is_no_slower_once_that_is_long_ago() {
    let mut world = World::started(3, 0);
    world.laws = None;
    let first = contested(&mut world, id(0));
    let mut longest = first;
    for _ in 0..8 {
        longest = contested(&mut world, id(0)).max(longest);
    }
    assert!(longest > first * 8, "{first:?}, {longest:?}");
    world.run_for(Duration::from_secs(60));
    let again = contested(&mut world, id(0));
    assert!(again <= first * 2, "{first:?}, {again:?}");
}

#[test]
fn the_start_of_an_epoch_is_stored_once_however_often_it_is_asked_for() {
    let mut world = World::started(3, 0);
    world.kill(id(2));
    world.run_until("two go on", |world| world.members() == [0, 1]);
    world.start(id(2));
    world.run_until("it is a learner", |world| world.members() == [0, 1, 2]);
    world.kill(id(2));
    world.run_until("two go on", |world| world.members() == [0, 1]);
    world.slow_disks(Duration::from_secs(2));
    world.start(id(2));
    let mut most = 0;
    for _ in 0..400 {
        world.run_for(Duration::from_millis(5));
        most = world.writes_under_way(id(2)).max(most);
    }
    assert!((1..4).contains(&most), "{most} writes at once");
}
