//! Stories of disks that take long.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::time::Duration;

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
