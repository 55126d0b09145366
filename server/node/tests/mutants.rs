//! Stories that catch a planted fault which the simulator's worlds do not reach: each is told without the fault, when every
//! law holds at every step (`small_world/judged.rs`), and with it, when the law breaks that `tests/sim/mutants.txt` names.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::panic::UnwindSafe;
use std::time::Duration;

use heirloom_laws::listen;
use heirloom_proto::mutants::{Mutant, plant};
use heirloom_proto::status::RoleName;
use heirloom_proto::{
    Constants, Digest, Epoch, LogIndex, Message, Register, Request, RequestId, Response, Standing, View, VoterKind,
};
use small_world::{World, add, id};

/// The law that `mutants.txt` says to break in a story.
fn law_on_record(mutant: Mutant) -> u8 {
    let record = include_str!("../../../tests/sim/mutants.txt");
    let told = format!("{} story ", mutant.name());
    let line = record.lines().find_map(|line| line.strip_prefix(&told)).expect("it is caught by a story");
    line.split(' ').next().and_then(|law| law.parse().ok()).expect("the law comes first")
}

/// Tells a story, in which a broken law panics, with and without the fault.
fn caught_by(mutant: Mutant, story: impl Fn() + UnwindSafe) {
    story();
    let _planted = plant(mutant);
    let said = listen(story).expect_err("no law is broken with the fault");
    let law = format!("law {}: ", law_on_record(mutant));
    assert!(said.lines().any(|line| line.starts_with(&law)), "not {law}\n{said}");
}

/// Law 9: what a server confirms is what its disk holds.
#[test]
fn what_was_read_back_wrong_is_not_confirmed() {
    caught_by(Mutant::ReadBackSkipped, || {
        let mut world = World::started(3, 0);
        world.garbles = Some(id(1));
        let change = world.ask(id(0), add(None, "k", "v"));
        assert!(world.halts.iter().any(|(server, _)| *server == id(1)), "it goes on");
        world.run_until("two go on", |world| {
            matches!(world.answer(change), Some(Ok(Response::Changed { copies: 2, .. })))
        });
    });
}

/// Law 3: nothing is committed with a member that told its primary of another state at the same applied index.
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
        world.add("k", "newer").expect("added without it");
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
        world.request(add(Some(name), "k", "once")).expect_err("its session is gone");
        assert_eq!(world.read("k").as_deref(), Some("newer"));
    });
}

/// Law 11: who committed alone is recognised by the marker of its view's epoch in its log, and goes on alone.
#[test]
fn of_two_servers_the_one_that_committed_alone_goes_on_alone() {
    caught_by(Mutant::NoMarker, || {
        let mut world = World::started(2, 0);
        world.kill(id(1));
        world.run_until("the other goes on", |world| world.members() == [0]);
        world.add("k", "alone").expect("added by one");
        world.kill(id(0));
        world.start(id(0));
        world.run_for(Duration::from_secs(5));
        world.judge_who_is_alone();
        assert_eq!(world.read("k").as_deref(), Some("alone"));
    });
}

/// Law 2: what was committed is in the log of every member of a later view.
///
/// Server 0 proposes to go on without server 1, and is the only one to accept that. The witness promises server 1 a
/// higher epoch, loses its register and learns it again: with it the view of server 0, which it never accepted. Were it
/// to say that it did when server 0 asks once more, both servers would lead.
#[test]
fn a_view_that_was_only_learnt_is_not_chosen_by_a_late_repetition() {
    caught_by(Mutant::AcceptedSaidAgain, || {
        let mut world = two_that_propose_past_each_other();
        let first = world.accepted(2);
        world.step_until("server 1 proposes", |world| world.promised(2).server == id(1));
        assert_eq!(world.accepted(0).in_sync.len(), 1);
        let epoch = world.promised(2);
        let promise = Message::Promised { epoch, accepted: Some(first), counts: true, member: None };

        // The promise is on its way while the register is lost, and learnt from both.
        let (witness, cluster) = (world.node(id(2)).peer(), world.node(id(2)).cluster());
        world.drop_to(id(1));
        world.kill(id(2));
        world.disk(id(2)).register = Some(Register::LOST);
        world.uncut(id(0), id(2));
        world.start(id(2));
        world.settle();
        let register = world.node(id(2)).register().expect("it belongs to a cluster").clone();
        assert_eq!(
            register,
            Register { promised: epoch, accepted: Some(world.accepted(0)), standing: Standing::Intact }
        );

        world.cut(id(1), id(2));
        world.forge(id(1), witness, cluster, promise);
        assert_eq!(world.accepted(1).primary, id(1));
        world.run_for(Duration::from_millis(100));
        world.heal();
        world.run_until("all are members", World::all_are_members);
    });
}

/// Law 2, where the witness gives a promise before it has learnt its register again, and says so after.
///
/// It had let server 0 go on alone, and shows nothing of that: were its promise to count, server 1 would lead too.
#[test]
fn a_promise_that_was_given_before_remembering_does_not_count() {
    caught_by(Mutant::PromiseCountsLater, || {
        let mut world = two_that_propose_past_each_other();
        world.step_until("server 1 proposes", |world| world.promised(1).server == id(1));
        let promise = Message::Promise { epoch: world.promised(1) };
        world.drop_to(id(2));
        world.cut(id(1), id(2));
        world.uncut(id(0), id(2));
        world.run_until("server 0 goes on alone", |world| world.is_led_by(0, &[0]) && world.serves(0));

        world.kill(id(2));
        world.disk(id(2)).register = Some(Register::LOST);
        world.uncut(id(1), id(2));
        world.start(id(2));
        let (candidate, cluster) = (world.node(id(1)).peer(), world.node(id(1)).cluster());
        world.forge(id(2), candidate, cluster, promise);
        let register = world.node(id(2)).register().expect("it belongs to a cluster");
        assert_eq!((register.promised, register.standing), (world.promised(1), Standing::Intact));
        world.heal();
        world.run_until("all are members", World::all_are_members);
    });
}

/// Two data servers that do not reach each other, and a witness. Server 0, which leads, is promised an epoch in which it
/// leads alone, and its further words are lost.
fn two_that_propose_past_each_other() -> World {
    let voters = vec![VoterKind::Data, VoterKind::Data, VoterKind::Witness];
    let mut world = World::with(Constants { lease: Duration::ZERO, ..Constants::defaults(voters) });
    world.start_all();
    world.run_until("all are members", World::all_are_members);
    let first = world.promised(0);
    world.cut(id(0), id(1));
    world.cut(id(1), id(0));
    world.step_until("server 0 proposes", |world| world.promised(2) > first);
    world.cut(id(0), id(2));
    world
}

/// Law 9: what a server confirms is durable.
///
/// A write of server 2 that its disk is slow to do is voided by the cut of the next epoch. The primary of the one after
/// that has the same entry and sends it again: it is durable by the later write alone, for the cut lies between.
#[test]
fn an_entry_that_was_cut_and_sent_again_is_durable_by_its_later_write() {
    caught_by(Mutant::CutVoidsNoWrite, || {
        let constants = Constants::defaults(vec![VoterKind::Data; 3]);
        let mut world = World::with(Constants { lease: Duration::ZERO, min_copies: 3, ..constants });
        world.start_all();
        world.run_until("all are members", World::all_are_members);
        world.run_for(Duration::from_millis(100));
        let before = world.end(2);
        world.slow_log(id(2));
        world.cut(id(0), id(1));
        world.ask(id(0), add(None, "k", "sent twice"));
        world.cut_off(id(0));
        world.run_until("server 1 has cut it", |world| world.promised(2).server == id(1) && world.unsynced() == 3);
        world.kill(id(1));
        world.reconnect(id(0), id(2));
        world.run_until("server 0 sends it again", |world| world.promised(2).server == id(0) && world.unsynced() >= 5);
        assert!(world.end(2) > before.next());
        world.sync();
        world.sync();
        world.run_for(Duration::from_millis(100));
        while world.unsynced() > 0 {
            world.sync();
        }
        world.start(id(1));
        world.heal();
        world.run_until("all are members", |world| world.unsynced() > 0 || world.all_are_members());
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
        let mut world = a_primary_that_is_taken_for_dead(Answered::AtOnce);
        world.kill(id(1));
        world.run_until("server 2 serves", |world| world.is_led_by(2, &[2]) && world.serves(2));
    });
}

/// Law 6, where the question was asked before the view was chosen and answered after: it says how it was before.
///
/// Server 2 has asked whether the first run of server 0 is dead. It takes over with server 1, and is then answered yes.
#[test]
fn a_proof_that_was_asked_for_before_the_view_was_chosen_settles_nobody() {
    caught_by(Mutant::ProofFromItsComing, || {
        let mut world = a_primary_that_is_taken_for_dead(Answered::Late);
        for other in [2, 3, 4] {
            world.cut(id(1), id(other));
        }
        world.step_until("server 2 proposes", |world| world.promised(2).server == id(2));
        for other in [2, 3, 4] {
            world.uncut(id(1), id(other));
        }
        world.run_until("server 2 leads", |world| world.is_led_by(2, &[1, 2]));
        world.answer_probes();
        world.run_until("server 2 serves", |world| world.serves(2));
    });
}

/// When a probe is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    AtOnce,
    Late,
}

/// Server 0 leads with a lease that rests on server 1, is cut off, and server 1 has taken over and added server 2, which
/// knows nothing of that run of server 0: it heard of the one before, and asked whether it is dead.
fn a_primary_that_is_taken_for_dead(answered: Answered) -> World {
    let voters = [[VoterKind::Data; 3].as_slice(), &[VoterKind::Witness; 2]].concat();
    let lease = Duration::from_secs(5);
    let mut world = World::with(Constants { lease, min_copies: 1, ..Constants::defaults(voters) });
    world.start_all();
    world.run_until("all are members", World::all_are_members);
    if answered == Answered::Late {
        world.delay_probes(id(2), id(0));
    }
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
    world.run_until("server 2 is added", |world| world.is_led_by(1, &[1, 2]));
    world
}

/// Law 6, of read leases: server 2 has been chosen to go on alone, with the others leaving and reached by nobody but each
/// other. Server 1 is proven dead, comes back unheard of, and is granted a lease by server 0, whose own still runs.
fn an_old_primary_grants_to_one_that_was_proven_dead() -> World {
    let voters = [[VoterKind::Data; 3].as_slice(), &[VoterKind::Witness; 2]].concat();
    let lease = Duration::from_secs(5);
    let mut world = World::with(Constants { lease, min_copies: 1, ..Constants::defaults(voters) });
    world.start_all();
    world.run_until("all are members", World::all_are_members);
    world.run_until("all may read", |world| (0..3).all(|server| world.status(id(server)).lease.is_some()));
    for (one, other) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
        world.cut(id(one), id(other));
        world.cut(id(other), id(one));
    }
    world.run_until("server 2 goes on alone", |world| {
        world.role(id(2)) == RoleName::Primary && world.status(id(2)).in_sync.len() == 1
    });
    world.kill(id(1));
    world.run_until("server 1 is proven dead", |world| {
        let proven = |note: &heirloom_proto::Note| {
            matches!(note, heirloom_proto::Note::ProvenDead { server: heirloom_proto::ServerId(1), .. })
        };
        world.notes.iter().any(|(at, note)| *at == id(2) && proven(note))
    });
    world.start(id(1));
    world.run_until("server 1 may read again", |world| world.status(id(1)).lease.is_some());
    world
}

#[test]
fn a_proof_from_before_the_last_acknowledgement_settles_nobody() {
    caught_by(Mutant::ProofsBeforeTheLastWord, || {
        let mut world = an_old_primary_grants_to_one_that_was_proven_dead();
        world.reconnect(id(2), id(0));
        world.run_until("server 2 serves", |world| world.serves(2));
    });
}

#[test]
fn one_round_of_proofs_settles_nobody_where_several_are_leaving() {
    caught_by(Mutant::ProofsInOneRound, || {
        let mut world = an_old_primary_grants_to_one_that_was_proven_dead();
        world.kill(id(0));
        world.run_until("server 2 serves", |world| world.serves(2));
    });
}

/// Law 2. Simulator seed 301 of the first search, made small: the word of an epoch outlives the primary's change of mind.
#[test]
fn of_two_servers_a_late_word_of_an_old_epoch_makes_nobody_a_member() {
    caught_by(Mutant::StartEpochEndsRecovery, || {
        let mut world = World::started(2, 0);
        let primary = world.node(id(0)).peer();
        let cluster = world.node(id(0)).cluster();
        let old_view = world.node(id(0)).register().and_then(|register| register.accepted.clone()).expect("a view");
        world.kill(id(1));
        world.run_until("it goes on alone", |world| world.members() == [0]);
        world.add("k", "alone").expect("added by one");
        world.cut_off(id(1));
        world.start(id(1));
        world.settle();
        world.forge(id(1), primary, cluster, Message::StartEpoch { view: old_view });
        world.kill(id(0));
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.primary(), None, "a server that lacks an acknowledged write leads");
        world.heal();
        world.start(id(0));
        world.run_until("all are members", World::all_are_members);
        assert_eq!(world.read("k").as_deref(), Some("alone"));
    });
}

/// Law 2: what a member has confirmed is not given away, whoever says that it should be.
#[test]
fn a_member_that_is_told_to_be_behind_keeps_what_it_has_confirmed() {
    caught_by(Mutant::MemberGivesItsLogAway, || {
        let mut world = ahead_of_a_snapshot();
        let (primary, cluster) = (world.node(id(0)).peer(), world.node(id(0)).cluster());
        let (epoch, run, end) = (world.status(id(0)).epoch, world.node(id(1)).run(), world.end_position(1));
        world.forge(id(1), primary, cluster, Message::Behind { epoch, run, end, base: LogIndex(1) });
        world.kill(id(0));
        world.run_for(Duration::from_secs(2));
    });
}

/// Law 2: a snapshot that comes when its copy works again is not put in place.
#[test]
fn a_snapshot_that_comes_too_late_is_not_put_in_place() {
    caught_by(Mutant::SnapshotTakesAWorkingLog, || {
        let mut world = ahead_of_a_snapshot();
        world.hand_snapshot(id(0), id(1));
        world.kill(id(0));
        world.run_for(Duration::from_secs(2));
    });
}

/// Servers 1 and 2 have confirmed two changes, and do not know that they are committed; server 0 has a snapshot with the
/// first.
fn ahead_of_a_snapshot() -> World {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    world.run_for(Duration::from_millis(200));
    world.slow_log(id(1));
    world.ask(id(0), add(None, "k", "first"));
    let second = world.ask(id(0), add(None, "k", "second"));
    for backup in [1, 2].map(id) {
        world.cut(id(0), backup);
    }
    world.sync();
    world.snapshot(id(0), 0);
    world.sync();
    assert!(matches!(world.answer(second), Some(Ok(_))), "{:?}", world.answer(second));
    assert!(world.disk(id(0)).base.index() > world.status(id(1)).applied);
    world
}

impl World {
    fn end_position(&self, server: u8) -> heirloom_proto::Position {
        self.node(id(server)).replica().expect("it keeps data").log().end_position()
    }

    fn end(&self, server: u8) -> LogIndex {
        self.end_position(server).index
    }

    fn serves(&self, server: u8) -> bool {
        self.status(id(server)).waits_for.is_none()
    }

    fn is_led_by(&self, server: u8, members: &[u8]) -> bool {
        let status = self.status(id(server));
        let in_sync: Vec<u8> = status.in_sync.iter().map(|member| member.server.0).collect();
        status.role == RoleName::Primary && in_sync == members
    }

    fn promised(&self, server: u8) -> Epoch {
        self.node(id(server)).register().expect("it belongs to a cluster").promised
    }

    fn accepted(&self, server: u8) -> View {
        let register = self.node(id(server)).register().expect("it belongs to a cluster");
        register.accepted.clone().expect("it has accepted a view")
    }
}
