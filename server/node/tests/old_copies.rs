//! Directories that are put back from an older copy while their server is down (PROTOCOL 9, docs/decisions/0015).
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::panic::UnwindSafe;

use heirloom_backup::Durable;
use heirloom_laws::listen;
use heirloom_proto::event::Cause;
use heirloom_proto::mutants::{Mutant, plant};
use heirloom_proto::status::RoleName;
use heirloom_proto::{Epoch, Member, Message, Register, Response, ServerId, Standing};
use small_world::{HEARTBEAT, SUSPICION, World, add, id};

/// What was said of the directory of a server that was given up.
fn found_out(world: &World, server: u8) -> Option<&str> {
    world.halts.iter().find_map(|(at, cause)| match cause {
        Cause::Outdated { what } if *at == id(server) => Some(what.as_str()),
        _ => None,
    })
}

impl World {
    fn register_of(&self, server: u8) -> Register {
        self.copy_of(id(server)).register.expect("it belongs to a cluster")
    }

    fn leads(&self, server: u8) -> bool {
        let status = self.status(id(server));
        status.role == RoleName::Primary && status.waits_for.is_none()
    }
}

/// Tells a story, and sees that it comes to another end where nobody is asked.
fn told(story: impl Fn() + UnwindSafe) {
    story();
    let _planted = plant(Mutant::OldCopyVotes);
    listen(story).expect_err("it ends no otherwise where nobody is asked");
}

fn nobody_is_accused(world: &World) {
    assert!(!world.halts.iter().any(|(_, cause)| matches!(cause, Cause::Outdated { .. })), "{:?}", world.halts);
}

/// Server 2 comes back with a copy of its directory that lacks what it has confirmed since.
fn put_back_behind(world: &mut World) -> Durable {
    world.add("k", "before").expect("added");
    let copy = world.copy_of(id(2));
    world.add("k", "after").expect("added by all three");
    world.run_for(HEARTBEAT * 2);
    world.kill(id(2));
    world.put_back(id(2), copy.clone());
    copy
}

#[test]
fn one_whose_log_lacks_what_it_has_confirmed_is_told_and_comes_back_with_a_new_store() {
    told(|| {
        let mut world = World::started(3, 0);
        let copy = put_back_behind(&mut world);
        world.start(id(2));
        world.run_until("all are members", World::all_are_members);
        let what = found_out(&world, 2).expect("it was told");
        assert!(what.contains("remembers that this store has the log up to"), "{what}");
        assert_ne!(world.node(id(2)).peer().store, copy.identity.store);
        world.run_for(HEARTBEAT * 2);
        world.assert_equal();
        assert_eq!(world.register_of(2).standing, Standing::Intact, "it votes again");
    });
}

/// The other backup alone remembers: by its own disk, though it has restarted since.
#[test]
fn the_stored_view_and_the_own_log_remember_beyond_a_restart() {
    told(|| {
        let mut world = World::started(3, 0);
        let copy = put_back_behind(&mut world);
        world.kill(id(0));
        world.kill(id(1));
        world.start(id(1));
        world.run_for(HEARTBEAT);
        world.start(id(2));
        world.run_for(SUSPICION * 2);
        let what = found_out(&world, 2).expect("it was told");
        assert!(what.starts_with("server 1 remembers"), "{what}");
        assert_ne!(world.node(id(2)).peer().store, copy.identity.store);
        assert_eq!(
            world.primary(),
            None,
            "server 2 has forgotten, so it takes all three to find out what was promised"
        );
        world.start(id(0));
        world.run_until("all are members", World::all_are_members);
        assert_eq!(world.read("k").as_deref(), Some("after"));
    });
}

/// A witness has no log, but hears what is committed: it is enough where one of two data servers is left.
#[test]
fn a_witness_remembers_how_much_was_committed_under_the_view_that_it_stored() {
    told(|| {
        let mut world = World::started(2, 1);
        world.add("k", "before").expect("added");
        let copy = world.copy_of(id(1));
        world.add("k", "after").expect("added by both");
        world.run_for(HEARTBEAT * 2);
        world.kill(id(1));
        world.kill(id(0));
        world.put_back(id(1), copy);
        world.start(id(1));
        world.run_for(SUSPICION * 4);
        let what = found_out(&world, 1).expect("it was told");
        assert!(what.starts_with("server 2 remembers"), "{what}");
        assert_eq!(world.primary(), None, "the newest data is on server 0 alone");
        world.start(id(0));
        world.run_until("both are members", World::all_are_members);
        assert_eq!(world.read("k").as_deref(), Some("after"));
    });
}

/// Server 2 has promised server 1 an epoch, and is put back to before that. Server 0, which was not asked, proposes a lower
/// one: with the vote of server 2 for it both views would be chosen.
#[test]
fn a_vote_that_was_given_is_not_given_again() {
    told(|| {
        let mut world = World::started(3, 0);
        world.add("k", "v").expect("added");
        world.run_for(HEARTBEAT * 2);
        let copy = world.copy_of(id(2));
        let before = world.register_of(2).promised;
        world.cut(id(0), id(1));
        world.cut(id(1), id(0));
        world.cut(id(0), id(2));
        world.cut(id(2), id(0));
        world.step_until("server 1 leads", |world| world.node(id(1)).primary_epoch().is_some());
        world.settle();
        let chosen = world.node(id(1)).primary_epoch().expect("it leads");
        assert!(world.register_of(2).promised == chosen && chosen > before);

        world.kill(id(2));
        world.put_back(id(2), copy);
        world.uncut(id(0), id(2));
        world.uncut(id(2), id(0));
        world.start(id(2));
        let (old, cluster) = (world.node(id(0)).peer(), world.node(id(0)).cluster());
        let lower = Epoch { round: before.round + 1, server: id(0), run: old.run };
        assert!(lower < chosen, "{lower} and {chosen}");
        world.enqueue_message(id(2), old, cluster, Message::Promise { epoch: lower });
        while world.one() {
            let register = world.copy_of(id(2)).register;
            assert!(register.is_none_or(|register| register.promised != lower), "it voted twice");
        }
        assert!(found_out(&world, 2).is_some());
    });
}

#[test]
fn a_copy_of_a_store_that_was_given_up_since_is_told_what_its_server_promised_after_it() {
    told(|| {
        let mut world = World::started(3, 0);
        world.add("k", "before").expect("added");
        let copy = world.copy_of(id(2));
        world.kill(id(2));
        world.wipe(id(2));
        world.start(id(2));
        let given_up = Member { server: id(2), store: copy.identity.store };
        world.run_until("it is a member with another store", |world| {
            world.all_are_members() && !world.status(id(0)).in_sync.contains(&given_up)
        });
        world.kill(id(2));
        world.put_back(id(2), copy);
        world.start(id(2));
        world.run_until("it is found out, and a member again", |world| {
            found_out(world, 2).is_some() && world.all_are_members()
        });
    });
}

/// What was prepared and never committed may be cut: the log is shorter than what was once confirmed, and rightly so.
#[test]
fn nobody_is_accused_of_a_tail_that_was_cut() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    world.cut(id(0), id(1));
    let lost = [(); 3].map(|()| world.ask(id(0), add(None, "k", "never committed")));
    world.run_for(HEARTBEAT);
    assert!(lost.iter().all(|lost| world.answer(*lost).is_none()));
    let member = world.node(id(2)).peer().member();
    let confirmed = |world: &World| world.node(id(0)).remembered(member).expect("it was heard").confirmed;
    assert_eq!(confirmed(&world), world.status(id(2)).log_end);

    // Server 1 leads without these, and server 2 cuts them.
    world.cut_off(id(0));
    world.run_until("server 1 leads", |world| world.leads(1));
    world.run_for(HEARTBEAT * 2);
    assert!(world.status(id(2)).log_end < confirmed(&world), "{}", world.describe());

    // Server 0, to which they were confirmed, is asked by the next run.
    world.kill(id(2));
    world.start(id(2));
    world.run_for(SUSPICION * 2);
    assert!(world.status(id(2)).log_end < confirmed(&world), "{}", world.describe());
    world.reconnect(id(0), id(2));
    world.run_for(HEARTBEAT);
    nobody_is_accused(&world);
    world.heal();
    world.run_until("all are members", World::all_are_members);
    nobody_is_accused(&world);
    world.assert_equal();
}

#[test]
fn an_ordinary_restart_takes_no_longer_where_all_others_answer() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    world.run_for(HEARTBEAT * 2);
    world.kill(id(2));
    world.start(id(2));
    world.settle();
    let change = world.ask(id(0), add(None, "k", "w"));
    assert!(matches!(world.answer(change), Some(Ok(Response::Changed { copies: 3, .. }))), "at once");
    nobody_is_accused(&world);
}

#[test]
fn a_cluster_that_is_started_again_as_a_whole_does_not_wait_for_itself() {
    for (data, witnesses) in [(2, 0), (2, 1), (3, 0), (3, 2), (5, 0)] {
        let mut world = World::started(data, witnesses);
        world.add("k", "v").expect("added");
        let all: Vec<ServerId> = world.constants.servers().collect();
        all.iter().for_each(|server| world.kill(*server));
        world.start_all();
        let took = world.run_until("all are members", World::all_are_members);
        assert!(took < SUSPICION, "{data} and {witnesses}: {took:?}");
        assert_eq!(world.read("k").as_deref(), Some("v"));
        nobody_is_accused(&world);
    }
}

/// Of three one stays down: the other two are started again, and wait for it no longer than the suspicion time.
#[test]
fn who_does_not_answer_is_waited_for_no_longer_than_the_suspicion_time() {
    told(|| {
        let mut world = World::started(3, 0);
        world.add("k", "v").expect("added");
        (0..3).for_each(|server| world.kill(id(server)));
        world.start(id(1));
        world.start(id(2));
        let took = world.run_until("one leads", |world| world.primary() == Some(id(1)));
        // Server 0 may still hold a lease, which is waited for afterwards.
        let most = SUSPICION + world.constants.lease + HEARTBEAT;
        assert!(took >= SUSPICION && took <= most, "{took:?}");
        assert_eq!(world.read("k").as_deref(), Some("v"));
    });
}

/// Nobody who remembers answers in time: it goes on, and is found out when one does.
#[test]
fn who_is_told_late_gives_its_store_up_all_the_same() {
    told(|| {
        let mut world = World::started(3, 0);
        let copy = put_back_behind(&mut world);
        world.cut_off(id(2));
        world.start(id(2));
        world.run_for(SUSPICION * 3);
        nobody_is_accused(&world);
        assert_eq!(world.node(id(2)).peer().store, copy.identity.store);
        world.heal();
        world.settle();
        assert!(found_out(&world, 2).is_some());
        world.run_until("all are members", World::all_are_members);
    });
}

/// A copy from before the store had ever voted: it would be counted as a voter that never has.
#[test]
fn a_copy_from_before_the_first_vote_is_none_that_never_voted() {
    told(|| {
        let mut world = World::new(3, 0);
        world.start(id(2));
        let blank = world.copy_of(id(2));
        world.start(id(0));
        world.start(id(1));
        world.run_until("a primary serves", World::all_are_members);
        world.run_for(HEARTBEAT * 2);
        world.kill(id(2));
        world.put_back(id(2), blank.clone());
        world.start(id(2));
        world.run_until("all are members", World::all_are_members);
        assert!(found_out(&world, 2).is_some());
        assert_ne!(world.node(id(2)).peer().store, blank.identity.store);
    });
}

/// What its server promised with a store that is gone a new one has learnt before it votes: here from the memory of server 0
/// alone, for server 1, which was promised it, has been put back unnoticed.
#[test]
fn a_new_store_keeps_what_others_remember_that_was_promised_before_it() {
    let mut world = World::started(3, 0);
    world.kill(id(0));
    world.run_until("server 1 leads", |world| world.leads(1));
    world.start(id(0));
    world.run_until("all are members", World::all_are_members);
    let (peer, cluster) = (world.node(id(2)).peer(), world.node(id(2)).cluster());
    let now = world.status(id(1)).epoch;
    let promised = Epoch { round: now.round + 5, ..now };
    world.laws = None;
    world.kill(id(2));
    world.wipe(id(2));
    let word = Message::Promised { epoch: promised, accepted: None, counts: true, member: Some(peer.member()) };
    world.forge(id(0), peer, cluster, word);
    world.start(id(2));
    world.run_until("all are members", World::all_are_members);
    assert!(world.register_of(2).promised >= promised);
    nobody_is_accused(&world);
}

/// Server 4 has fetched a state of a later view than the one that it has stored: what is in it no member of the older view
/// need have.
#[test]
fn nobody_is_accused_by_a_state_of_a_later_view_than_the_stored_one() {
    let mut world = World::started(5, 0);
    world.add("k", "v").expect("added");
    world.kill(id(4));
    world.run_until("four go on", |world| world.members() == [0, 1, 2, 3]);
    world.add("k", "w").expect("added");
    for server in [0, 1, 2, 3].map(id) {
        world.snapshot(server, 0);
    }
    world.snapshots_travel = false;
    world.start(id(4));
    world.run_until("a snapshot is fetched", |world| world.fetches > 0);
    let stored = world.register_of(4).accepted.expect("a view");
    assert!(stored.has(world.node(id(3)).peer().member()));

    world.cut_off(id(4));
    world.kill(id(3));
    world.run_until("three go on", |world| world.members() == [0, 1, 2]);
    world.add("k", "x").expect("added");
    world.snapshot(id(0), 0);
    world.hand_snapshot(id(0), id(4));
    assert_eq!(world.halts.last(), Some(&(id(4), Cause::SnapshotFetched)));

    // Server 3, whose directory is the newest that it ever had, hears from server 4 alone.
    world.cut_off(id(3));
    world.uncut(id(3), id(4));
    world.uncut(id(4), id(3));
    world.start(id(3));
    world.run_for(HEARTBEAT * 4);
    assert_eq!(world.register_of(4).accepted.as_ref(), Some(&stored));
    nobody_is_accused(&world);
    world.snapshots_travel = true;
    world.heal();
    world.run_until("all are members", World::all_are_members);
    nobody_is_accused(&world);
    world.assert_equal();
}
