//! Stories of what a server says that it waits for: `recover` is named where votes are lost, and nowhere else.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use small_world::{HEARTBEAT, SUSPICION, World, id};

/// Who names `recover`, and in which words.
fn named(world: &World, servers: &[u8]) -> Vec<String> {
    let words = servers.iter().filter_map(|server| world.status(id(*server)).waits_for);
    words.filter(|words| words.contains("recover")).collect()
}

#[test]
fn backups_that_are_silent_though_connected_have_not_lost_their_votes() {
    let mut world = World::started(3, 0);
    for backup in [1, 2] {
        world.cut(id(backup), id(0));
    }
    world.run_until("it misses them", |world| world.status(id(0)).waits_for.is_some());
    for _ in 0..20 {
        world.run_for(HEARTBEAT);
        assert_eq!(named(&world, &[0]), [""; 0]);
    }
}

#[test]
fn servers_that_start_without_one_of_them_do_not_call_their_votes_lost() {
    let mut world = World::started(5, 0);
    (0..5).for_each(|server| world.kill(id(server)));
    (0..4).for_each(|server| world.start(id(server)));
    // For so long they are in doubt, and say that they do not vote.
    let over = world.now + SUSPICION * 4;
    while world.now < over {
        assert_eq!(named(&world, &[0, 1, 2, 3]), [""; 0], "{}", world.describe());
        world.run_for(HEARTBEAT / 4);
    }
    assert!(world.primary().is_some());
}

#[test]
fn two_registers_lost_of_three_are_named_with_the_way_out_by_all() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    for server in [1, 2].map(id) {
        world.kill(server);
    }
    for server in [1, 2].map(id) {
        world.wipe(server);
        world.start(server);
    }
    world.run_until("all say so", |world| named(world, &[0, 1, 2]).len() == 3);
}
