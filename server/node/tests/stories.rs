//! Stories on the smallest world: what happens, in order, and what it comes to.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

mod small_world;

use std::time::Duration;

use heirloom_proto::event::{Cause, Note};
use heirloom_proto::limits::SESSION_IDLE_MS_MAX;
use heirloom_proto::status::RoleName;
use heirloom_proto::{Constants, Refusal, Request, RequestId, Response, VoterKind};
use small_world::{SUSPICION, World, add, delete, id, read};

#[test]
fn a_cluster_of_one_founds_itself_and_answers() {
    let mut world = World::started(1, 0);
    assert!(matches!(world.add("k", "v"), Ok(Response::Changed { copies: 1, existed: false, .. })));
    assert_eq!(world.read("k").as_deref(), Some("v"));
    assert_eq!(world.read("other"), None);
}

#[test]
fn three_blank_servers_found_a_cluster_led_by_the_lowest() {
    let mut world = World::started(3, 0);
    assert_eq!(world.primary(), Some(id(0)));
    assert_eq!(world.members(), [0, 1, 2]);
    assert!(matches!(world.add("k", "v"), Ok(Response::Changed { copies: 3, .. })));
    world.run_for(Duration::from_millis(100));
    world.assert_equal();
}

#[test]
fn two_blank_servers_found_nothing_while_the_third_has_not_answered() {
    let mut world = World::new(3, 0);
    world.start(id(0));
    world.start(id(1));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.primary(), None);
    world.start(id(2));
    world.run_until("a primary", World::all_are_members);
}

#[test]
fn a_delete_that_finds_nothing_is_answered_and_changes_no_version() {
    let mut world = World::started(3, 0);
    let first = world.add("k", "v");
    let Ok(Response::Changed { version, .. }) = first else { panic!("{first:?}") };
    let nothing = world.request(delete("other"));
    assert!(matches!(nothing, Ok(Response::Changed { version: same, existed: false, .. }) if same == version));
    let gone = world.request(delete("k"));
    assert!(matches!(gone, Ok(Response::Changed { version: next, existed: true, .. }) if next == version.next()));
    assert_eq!(world.read("k"), None);
}

#[test]
fn the_next_takes_over_at_once_when_the_primary_is_proven_dead() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    world.kill(id(0));
    let gap = world.run_until("a new primary", |world| world.primary() == Some(id(1)));
    assert!(gap < Duration::from_millis(5), "took {gap:?} of simulated time");
    assert_eq!(world.members(), [1, 2]);
    assert_eq!(world.read("k").as_deref(), Some("v"));
    assert!(matches!(world.add("k", "w"), Ok(Response::Changed { copies: 2, existed: true, .. })));
}

#[test]
fn a_silent_primary_is_waited_for_and_its_lease_is_waited_out() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    world.pause(id(0));
    let paused = id(0);
    let gap = world.run_until("a new primary", |world| world.nodes_serving_but(paused) == Some(id(1)));
    assert!(gap >= SUSPICION, "a lease might still have been valid after {gap:?}");
    assert!(gap <= Duration::from_secs(1), "took {gap:?}");
    let stale = world.ask(id(0), read("k"));
    world.resume(id(0));
    world.settle();
    assert_eq!(world.answer(stale).map(Result::is_ok), Some(false), "a deposed primary answered a read");
    world.run_until("it is a member again", World::all_are_members);
    assert_eq!(world.primary(), Some(id(1)));
    world.assert_equal();
}

impl World {
    fn nodes_serving_but(&self, not: heirloom_proto::ServerId) -> Option<heirloom_proto::ServerId> {
        self.constants.data_servers().find(|server| {
            let status = self.status(*server);
            *server != not && status.role == RoleName::Primary && status.waits_for.is_none()
        })
    }
}

#[test]
fn a_killed_backup_is_put_out_at_once_and_taken_back_when_it_returns() {
    let mut world = World::started(3, 0);
    world.kill(id(2));
    world.settle();
    assert_eq!(world.members(), [0, 1], "time had to pass");
    assert!(matches!(world.add("k", "v"), Ok(Response::Changed { copies: 2, .. })));
    world.start(id(2));
    let away = world.run_until("all are members", World::all_are_members);
    assert!(away < SUSPICION, "a server that was proven dead and lives again is kept waiting for {away:?}");
    assert!(matches!(world.add("k", "w"), Ok(Response::Changed { copies: 3, .. })));
    world.run_for(Duration::from_millis(100));
    world.assert_equal();
}

#[test]
fn a_wiped_backup_comes_back_as_another_member() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    world.kill(id(1));
    world.wipe(id(1));
    world.add("k", "w").expect("added by two");
    world.start(id(1));
    world.run_until("all are members", World::all_are_members);
    world.run_for(Duration::from_millis(100));
    world.assert_equal();
    // It remembers its votes again, for it has heard all others: so the other two may fail one after the other.
    world.kill(id(0));
    world.run_until("a new primary", |world| world.primary() == Some(id(1)));
    assert_eq!(world.read("k").as_deref(), Some("w"));
}

#[test]
fn a_tail_that_only_the_old_primary_has_is_rolled_back() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    world.cut_off(id(0));
    let lost = world.ask(id(0), add(None, "k", "lost"));
    world.run_until("a new primary", |world| world.nodes_serving_but(id(0)) == Some(id(1)));
    assert_eq!(world.answer(lost), None);
    world.heal();
    world.run_until("all are members", |world| world.primary() == Some(id(1)) && world.members().len() == 3);
    assert_eq!(world.answer(lost), Some(&Err(Refusal::OutcomeUnknown)));
    assert!(world.notes.iter().any(|(server, note)| *server == id(0) && matches!(note, Note::RolledBack { .. })));
    assert_eq!(world.read("k").as_deref(), Some("v"));
    world.run_for(Duration::from_millis(100));
    world.assert_equal();
}

#[test]
fn a_retried_request_is_carried_out_once_across_a_failover() {
    let mut world = World::started(3, 0);
    let session = world.open_session();
    let name = RequestId { session, sequence: 1, lowest_unanswered: 1 };
    let first = world.request(add(Some(name), "k", "v")).expect("added");
    let Response::Changed { version, .. } = first else { panic!("{first:?}") };
    world.kill(id(0));
    world.run_until("a new primary", |world| world.primary() == Some(id(1)));
    let again = world.request(add(Some(name), "k", "v"));
    assert!(
        matches!(again, Ok(Response::Changed { version: same, existed: false, .. }) if same == version),
        "{again:?}"
    );
}

#[test]
fn a_request_of_a_closed_session_is_refused_as_expired() {
    let mut world = World::started(3, 0);
    let session = world.open_session();
    assert_eq!(world.request(Request::CloseSession(session)), Ok(Response::SessionClosed));
    let name = RequestId { session, sequence: 1, lowest_unanswered: 1 };
    assert_eq!(world.request(add(Some(name), "k", "v")), Err(Refusal::SessionExpired));
    assert_eq!(world.read("k"), None);
}

#[test]
fn a_session_that_is_idle_for_an_hour_is_removed_everywhere_though_nobody_opens_another() {
    let mut world = World::started(3, 0);
    let (idle, used) = (world.open_session(), world.open_session());
    let name = |session, sequence| Some(RequestId { session, sequence, lowest_unanswered: 1 });
    world.request(add(name(idle, 1), "k", "v")).expect("added");
    world.calendar_ahead_ms += SESSION_IDLE_MS_MAX - 1_000;
    world.request(add(name(used, 1), "k", "w")).expect("added");
    world.run_for(Duration::from_millis(200));
    assert!(world.sessions().iter().all(|sessions| *sessions == 2), "{}", world.describe());
    world.calendar_ahead_ms += 2_000;
    // The calendar is learnt from requests alone.
    assert_eq!(world.read("k").as_deref(), Some("w"));
    world.run_until("it is removed", |world| world.sessions().iter().all(|sessions| *sessions == 1));
    assert_eq!(
        world.request(add(name(idle, 1), "k", "v")),
        Err(Refusal::SessionExpired),
        "nor is it carried out again"
    );
    world.request(add(name(used, 2), "k", "x")).expect("added");
    world.run_for(Duration::from_millis(100));
    world.assert_equal();
}

#[test]
fn a_planned_hand_over_loses_nothing_and_waits_for_nothing() {
    let mut world = World::started(3, 0);
    world.add("k", "v").expect("added");
    let before = world.now;
    assert_eq!(world.request(Request::Promote(id(2))), Ok(Response::Promoted { primary: id(2) }));
    world.run_until("the new primary", |world| world.primary() == Some(id(2)));
    assert_eq!(world.members(), [0, 1, 2], "the old primary is a member of the new view");
    assert!(world.now.since(before) < Duration::from_millis(200), "took {:?}", world.now.since(before));
    assert_eq!(world.halts, [(id(0), Cause::Deposed)]);
    world.run_until("all are members", World::all_are_members);
    assert_eq!(world.read("k").as_deref(), Some("v"));
}

#[test]
fn with_a_witness_two_data_servers_fail_over_without_any_proof() {
    let mut world = World::started(2, 1);
    world.proofs = false;
    world.add("k", "v").expect("added");
    world.kill(id(0));
    world.run_until("a new primary", |world| world.primary() == Some(id(1)));
    assert!(matches!(world.add("k", "w"), Ok(Response::Changed { copies: 1, .. })));
    world.start(id(0));
    world.run_until("all are members", World::all_are_members);
    world.run_for(Duration::from_millis(100));
    world.assert_equal();
}

#[test]
fn two_servers_do_not_fail_over_on_silence_alone() {
    let mut world = World::started(2, 0);
    world.proofs = false;
    world.kill(id(0));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.primary(), None);
    assert!(world.status(id(1)).waits_for.is_some_and(|text| text.contains("silence is none")));
    assert!(world.fencings.iter().all(|(_, silent_for)| *silent_for >= SUSPICION), "{:?}", world.fencings);
    assert!(!world.fencings.is_empty(), "the fencing command would never have been run");
    let fenced = world.ask(id(1), Request::Fence(id(0)));
    assert_eq!(world.answer(fenced), Some(&Ok(Response::Fenced)));
    world.run_until("the survivor leads", |world| world.primary() == Some(id(1)));
}

#[test]
fn of_two_servers_the_one_that_restarts_alone_with_old_data_waits_for_the_other() {
    let mut world = World::started(2, 0);
    world.add("k", "old").expect("added by both");
    world.kill(id(0));
    world.run_until("the survivor leads", |world| world.primary() == Some(id(1)));
    world.add("k", "new").expect("added by one");
    world.kill(id(1));
    world.start(id(0));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.primary(), None, "it served old data");
    assert!(world.status(id(0)).waits_for.is_some_and(|text| text.contains("newer writes")));
    world.start(id(1));
    world.run_until("all are members", World::all_are_members);
    assert_eq!(world.read("k").as_deref(), Some("new"));
    world.run_for(Duration::from_millis(100));
    world.assert_equal();
}

#[test]
fn of_two_servers_the_last_one_standing_restarts_alone() {
    let mut world = World::started(2, 0);
    world.kill(id(0));
    world.run_until("the survivor leads", |world| world.primary() == Some(id(1)));
    world.add("k", "new").expect("added by one");
    world.kill(id(1));
    world.start(id(1));
    world.run_until("it leads again", |world| world.primary() == Some(id(1)));
    assert_eq!(world.read("k").as_deref(), Some("new"));
}

#[test]
fn without_leases_reads_are_confirmed_by_a_quorum() {
    let constants = Constants { lease: Duration::ZERO, ..Constants::defaults(vec![VoterKind::Data; 3]) };
    let mut world = World::with(constants);
    world.start_all();
    world.run_until("a primary", World::all_are_members);
    world.add("k", "v").expect("added");
    assert_eq!(world.read("k").as_deref(), Some("v"));
    world.cut_off(id(0));
    let alone = world.ask(id(0), read("k"));
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.answer(alone), None, "one of three answered a linearizable read");
}

#[test]
fn a_one_way_cut_of_the_primary_ends_in_one_primary() {
    for towards in [true, false] {
        let mut world = World::started(3, 0);
        world.add("k", "v").expect("added");
        for other in [1, 2] {
            if towards { world.cut(id(0), id(other)) } else { world.cut(id(other), id(0)) }
        }
        world.run_until("a new primary", |world| world.nodes_serving_but(id(0)).is_some());
        world.heal();
        world.run_until("all are members", World::all_are_members);
        world.run_for(Duration::from_millis(100));
        world.assert_equal();
    }
}

#[test]
fn a_restart_of_all_loses_nothing() {
    let mut world = World::started(3, 0);
    for number in 0..50 {
        world.add(&format!("k{number}"), &format!("v{number}")).expect("added");
    }
    for server in [0, 1, 2] {
        world.kill(id(server));
    }
    world.start_all();
    world.run_until("a primary", World::all_are_members);
    for number in 0..50 {
        assert_eq!(world.read(&format!("k{number}")), Some(format!("v{number}")));
    }
    world.assert_equal();
}

/// Simulator seed 105791, made small: what an emptied server confirms is not what the member confirmed that it was.
#[test]
fn an_emptied_server_does_not_confirm_for_the_member_that_it_was() {
    let mut world = World::started(3, 0);
    world.kill(id(1));
    world.run_until("two members", |world| world.members() == [0, 2]);
    world.proofs = false;
    world.cut(id(0), id(2));
    let waits = world.ask(id(0), add(None, "k", "w"));
    world.kill(id(2));
    world.wipe(id(2));
    world.heal();
    world.start(id(2));
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.answer(waits), None, "a write was committed by one member and an emptied server");
}

#[test]
fn a_planned_hand_over_fences_nobody() {
    let mut world = World::started(2, 0);
    assert_eq!(world.request(Request::Promote(id(1))), Ok(Response::Promoted { primary: id(1) }));
    world.run_until("all are members", World::all_are_members);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.fencings, [], "a healthy server would have been powered off");
}

#[test]
fn a_primary_that_misses_its_only_backup_says_so() {
    let mut world = World::started(2, 0);
    world.proofs = false;
    world.kill(id(1));
    world.run_for(Duration::from_secs(2));
    let waits_for = world.status(id(0)).waits_for.unwrap_or_default();
    assert!(waits_for.contains("heirloom fence 1 --it-is-off"), "{waits_for}");
    let fenced = world.ask(id(0), Request::Fence(id(1)));
    assert_eq!(world.answer(fenced), Some(&Ok(Response::Fenced)));
    world.run_until("it goes on alone", |world| world.members() == [0]);
}

/// Simulator seed 200122, made small: who lost its register can't say that it has promised nothing higher.
#[test]
fn an_emptied_server_confirms_no_read() {
    let constants = Constants { lease: Duration::ZERO, ..Constants::defaults(vec![VoterKind::Data; 3]) };
    let mut world = World::with(constants);
    world.start_all();
    world.run_until("a primary", World::all_are_members);
    world.add("k", "old").expect("added");
    world.cut_off(id(0));
    world.run_until("another primary", |world| world.nodes_serving_but(id(0)) == Some(id(1)));
    let new = world.ask(id(1), add(None, "k", "new"));
    world.run_for(Duration::from_millis(100));
    assert!(matches!(world.answer(new), Some(Ok(_))));
    world.kill(id(1));
    world.kill(id(2));
    world.wipe(id(2));
    world.heal();
    let stale = world.ask(id(0), read("k"));
    world.start(id(2));
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.answer(stale), None, "a read was confirmed by a server that forgot what it promised");
}

#[test]
fn what_a_server_waits_for_names_the_server_that_is_missing() {
    // Two servers, the primary stopped: its streams stand, and yet it is the one that is missing.
    let mut world = World::started(2, 0);
    world.pause(id(0));
    world.run_for(Duration::from_secs(2));
    let waits_for = world.status(id(1)).waits_for.unwrap_or_default();
    assert!(waits_for.contains("server 0") && waits_for.contains("fence 0 --it-is-off"), "{waits_for}");

    // Three servers, two of them gone: the primary says that it lacks a quorum.
    let mut world = World::started(3, 0);
    world.kill(id(1));
    world.kill(id(2));
    world.run_for(Duration::from_secs(2));
    let waits_for = world.status(id(0)).waits_for.unwrap_or_default();
    assert!(waits_for.contains("quorum"), "{waits_for}");

    // With a witness there is a quorum, but the only server that has the newest data is gone.
    let mut world = World::started(2, 1);
    world.kill(id(1));
    world.run_until("it goes on alone", |world| world.members() == [0]);
    world.kill(id(0));
    world.start(id(1));
    world.run_for(Duration::from_secs(2));
    let waits_for = world.status(id(1)).waits_for.unwrap_or_default();
    assert!(waits_for.contains("server 0, which holds newer writes"), "{waits_for}");
}

#[test]
fn a_hand_over_asked_for_while_the_members_change_is_no_answer_about_the_target() {
    let mut world = World::started(3, 0);
    world.run_until("it holds a lease", |world| world.status(id(0)).lease.is_some());
    world.kill(id(1));
    while world.status(id(0)).lease.is_some() {
        assert!(world.one(), "it never proposes to go on without server 1");
    }
    world.pause(id(2));
    let token = world.ask(id(0), Request::Promote(id(2)));
    assert_eq!(world.answer(token), Some(&Err(Refusal::NotPrimary { primary: None })));
}
