//! Stories of a new generation, which one server begins with its data alone and the others join (docs/storage.md).
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heirloom_proto::{
    Answer, ClusterId, Entry, Epoch, Identity, Member, Register, RunId, Sealed, Standing, View, WallTime,
};
use small_world::{World, add, id};

/// Three servers, of which the first begins a new generation, as `heirloom recover` makes it, and the others are blank.
fn recovered(write: Duration) -> World {
    let mut durable = World::started(3, 0).copy_of(id(0));
    let Identity { server, store, cluster, .. } = durable.identity;
    let (cluster, constants) = cluster.expect("it is a member");
    let promised = durable.register.expect("it votes").promised;
    let epoch = Epoch { round: promised.round + 1, server, run: RunId(1) };
    let last = durable.log.last().expect("a marker").entry().clone();
    let marker = Entry {
        index: last.index.next(),
        epoch,
        version: last.version,
        at: WallTime(0),
        effects: Vec::new(),
        origin: None,
        answer: Answer::Nothing,
    };
    durable.commit = marker.index;
    durable.log.push(Sealed::new(marker));
    let in_sync = BTreeSet::from([Member { server, store }]);
    let view = View { epoch, primary: server, in_sync, leaving: BTreeSet::new() };
    durable.register = Some(Register { promised: epoch, accepted: Some(view), standing: Standing::Intact });
    durable.identity = Identity {
        server,
        store,
        cluster: Some((ClusterId { generation: cluster.generation + 1, ..cluster }, constants)),
        enrolled: BTreeMap::from([(server, store)]),
        enrolment_open: true,
    };
    let mut world = World::new(3, 0);
    // The views of the generation before are none of its business.
    world.laws = None;
    world.put_back(id(0), durable);
    world.slow_disks(write);
    world.start_all();
    world.run_until("all are members", World::all_are_members);
    world
}

/// One of the others was counted as a voter that had never voted, the other one joined when it heard a primary, and was not
/// noted. So when it had voted, and came back with another store, it was counted then, as one that had never voted: with the
/// first server, which had been away, it chose a view without what had been answered meanwhile.
#[test]
fn who_joins_a_new_generation_is_counted_once_whichever_way_it_joined() {
    for millis in [0, 1, 5, 20, 50, 120] {
        let mut world = recovered(Duration::from_millis(millis));
        let first = world.primary().expect("one leads");
        let token = world.enqueue(first, add(None, "k", "before"));
        world.run_until("answered", |world| world.answer(token).is_some());
        world.kill(id(0));
        world.run_until("two go on", |world| world.members() == [1, 2]);
        let token = world.enqueue(world.primary().expect("one leads"), add(None, "k", "after"));
        world.run_until("answered", |world| world.answer(token).is_some());
        assert!(matches!(world.answer(token), Some(Ok(_))), "{millis} ms a write");
        world.kill(id(1));
        world.kill(id(2));
        world.wipe(id(2));
        world.start(id(0));
        world.start(id(2));
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.primary(), None, "{millis} ms a write: server 2 has lost what it voted, and server 1 is away");
        world.start(id(1));
        world.run_until("all are members", World::all_are_members);
    }
}
