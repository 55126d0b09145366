//! Stories that catch a planted fault which the simulator's worlds do not reach: each is told without the fault, when the
//! law must hold, and with it, when the law must break (docs/mutants.md).
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::time::Duration;

use heirloom_proto::event::Note;
use heirloom_proto::mutants::{Mutant, plant};
use heirloom_proto::status::RoleName;
use heirloom_proto::{ChainHash, Constants, Digest, Message, Request, RequestId, Response, ServerId, VoterKind};
use small_world::{World, add, id};

/// The story tells whether the law held.
fn caught_by(mutant: Mutant, story: impl Fn() -> bool) {
    assert!(story(), "the law is broken with nothing planted");
    let _planted = plant(mutant);
    assert!(!story(), "{mutant:?} breaks no law");
}

/// Law 9: what a server confirms is what its disk holds.
#[test]
fn what_was_read_back_wrong_is_not_confirmed() {
    caught_by(Mutant::ReadBackSkipped, || {
        let mut world = World::started(3, 0);
        world.garbles = Some(id(1));
        let change = world.ask(id(0), add(None, "k", "v"));
        let over = world.halts.iter().any(|(server, _)| *server == id(1));
        let log = &world.disk(id(1)).log;
        let kept = log.iter().fold(ChainHash::EMPTY, |hash, entry| entry.extend(hash));
        let answered = matches!(world.answer(change), Some(Ok(Response::Changed { copies: 3, .. })));
        assert!(over || answered, "nothing came of it");
        over || kept == world.end_position(0).hash
    });
}

/// Law 3: a copy whose state differs at the same applied index does not stay a member unnoticed.
#[test]
fn a_copy_whose_state_differs_is_noticed() {
    caught_by(Mutant::DigestNotCompared, || {
        let mut world = World::started(3, 0);
        world.add("k", "v").expect("added");
        world.run_for(Duration::from_millis(100));
        let (backup, cluster) = (world.node(id(1)).peer(), world.node(id(0)).cluster());
        let status = world.status(id(1));
        let (epoch, applied_index) = (status.epoch, status.applied);
        let confirm = Message::Confirm { epoch, position: world.end_position(1), applied_index, digest: Digest(7) };
        world.forge(id(0), backup, cluster, confirm);
        world.notes.iter().any(|(at, note)| *at == id(0) && matches!(note, Note::Diverged { server: ServerId(1), .. }))
    });
}

/// Law 4: a request is applied once, also where its session is gone.
#[test]
fn a_retry_after_its_session_was_removed_changes_nothing() {
    caught_by(Mutant::SessionOpenedAgain, || {
        let mut world = World::started(3, 0);
        let session = world.open_session();
        let name = RequestId { session, sequence: 1, lowest_unanswered: 1 };
        world.request(add(Some(name), "k", "once")).expect("added");
        world.request(Request::CloseSession(session)).expect("closed");
        world.add("k", "newer").expect("added");
        let _refused = world.request(add(Some(name), "k", "once"));
        world.read("k").as_deref() == Some("newer")
    });
}

/// Law 6: nothing is committed in a newer epoch while a lease of an older one is valid outside its view.
///
/// Server 2 has proof that a run of server 0 is dead. Without its knowing, server 0 comes back and leads again, with a
/// lease that rests on server 1. That is cut off; server 1 takes over, adds server 2 and dies, all within the lease.
/// Server 2 leads now, 0 and 1 are leaving, and of both it has proof: against 0 a stale one.
#[test]
fn a_proof_from_before_the_view_was_chosen_settles_nobody() {
    caught_by(Mutant::StaleProofSettles, || {
        let voters = [[VoterKind::Data; 3].as_slice(), &[VoterKind::Witness; 2]].concat();
        let lease = Duration::from_secs(5);
        let mut world = World::with(Constants { lease, min_copies: 1, ..Constants::defaults(voters) });
        world.start_all();
        world.run_until("all are members", World::all_are_members);
        world.kill(id(0));
        world.run_until("server 1 leads", |world| world.primary() == Some(id(1)));
        world.cut_off(id(2));
        world.run_until("server 1 is alone", |world| world.members() == [1]);
        world.start(id(0));
        world.run_until("server 0 is back", |world| world.members() == [0, 1]);
        world.request(Request::Promote(id(0))).expect("handed over");
        world.run_until("server 0 leads", |world| world.primary() == Some(id(0)) && world.members() == [0, 1]);
        world.run_until("server 0 holds a lease", |world| world.status(id(0)).lease.is_some());

        world.cut_off(id(0));
        for other in [1, 3, 4] {
            world.reconnect(id(2), id(other));
        }
        let led_by = |world: &World, server: u8, members: &[u8]| {
            let status = world.status(id(server));
            let in_sync: Vec<u8> = status.in_sync.iter().map(|member| member.server.0).collect();
            status.role == RoleName::Primary && in_sync == members
        };
        world.run_until("server 2 is added", |world| led_by(world, 1, &[1, 2]));
        world.kill(id(1));
        world.run_until("server 2 serves", |world| led_by(world, 2, &[2]) && world.serves(2));
        world.status(id(0)).lease.is_none_or(|left| left.is_zero())
    });
}

impl World {
    fn end_position(&self, server: u8) -> heirloom_proto::Position {
        self.node(id(server)).replica().expect("it keeps data").log().end_position()
    }

    fn serves(&self, server: u8) -> bool {
        self.status(id(server)).waits_for.is_none()
    }
}
