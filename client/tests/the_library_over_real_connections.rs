//! The library against fake servers on real connections: what the session decides must also happen.

mod fake;

use std::time::{Duration, Instant};

use fake::{Fake, Script, Shared, cluster};
use heirloom::{ChangeSet, Client, Conditional, Error};
use heirloom_proto::Refusal;

/// A client that was given the addresses of all servers.
async fn client_of(shared: &Shared) -> Client {
    let addresses = shared.lock().addresses.clone();
    Client::connect(addresses).await.expect("good addresses")
}

async fn served(count: u8) -> (Shared, Vec<Fake>, Client) {
    let (shared, servers) = cluster(count);
    let client = client_of(&shared).await;
    client.add("warm", "up").await.expect("the cluster serves");
    (shared, servers, client)
}

#[tokio::test]
async fn what_was_added_is_read_and_what_was_deleted_is_gone() {
    let (shared, _servers) = cluster(3);
    let client = client_of(&shared).await;
    let added = client.add("k", "v").await.expect("served");
    assert!(!added.existed && added.copies == 3 && added.server.0 == 0);
    let entry = client.read("k").await.expect("served").expect("it was added");
    assert_eq!((entry.value.as_ref(), entry.version), (&b"v"[..], added.version));
    assert!(client.add("k", vec![0, 255]).await.expect("served").existed);
    assert!(client.delete(b"k").await.expect("served").existed);
    assert!(!client.delete("k").await.expect("served").existed);
    assert_eq!(client.read("k").await.expect("served"), None);
    client.close().await.expect("served");
    assert!(shared.lock().sessions.is_empty());
}

#[tokio::test]
async fn a_condition_that_is_not_met_is_an_answer_that_names_the_version_found() {
    let (shared, _servers) = cluster(3);
    let client = client_of(&shared).await;
    let Conditional::Done(first) = client.add_if_absent("k", "v").await.expect("served") else { panic!("not met") };
    let not_met = |answer| match answer {
        Conditional::NotMet(why) => (why.condition, why.found),
        Conditional::Done(_) => panic!("done"),
    };
    let there = client.add_if_absent("k", "w").await.expect("served");
    assert_eq!(not_met(there), (0, Some(first.version)));
    let second = client.add_if_version("k", "w", first.version).await.expect("served").changed().expect("met");
    let late = client.delete_if_version("k", first.version).await.expect("served");
    assert_eq!(not_met(late), (0, Some(second.version)));
    let set = ChangeSet::new().if_version("k", second.version).if_absent("other").delete("k").add("other", "x");
    assert!(client.change_set(set.clone()).await.expect("served").changed().is_some());
    assert_eq!(not_met(client.change_set(set).await.expect("served")), (0, None));
    assert_eq!(client.read("k").await.expect("served"), None);
    assert!(client.read("other").await.expect("served").is_some());
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_answered_with_the_same_number() {
    let (shared, _servers, client) = served(3).await;
    assert_eq!(client.append("log/", "a").await.expect("served").number, 1);
    shared.script(0, [Script::BreakAfter]);
    let second = client.append("log/", "b").await.expect("asked again");
    assert_eq!((second.number, &second.key[..]), (2, &b"log/00000000000000000002"[..]));
    assert_eq!(client.read(&second.key).await.expect("served").expect("appended").value, "b");
    assert_eq!(client.append("log/", "c").await.expect("served").number, 3);
}

#[tokio::test]
async fn a_client_that_knows_one_server_finds_the_primary() {
    let (shared, _servers) = cluster(3);
    shared.lock().primary = 2;
    let address = shared.lock().addresses[1].clone();
    let client = Client::connect([address]).await.expect("a good address");
    assert_eq!(client.add("k", "v").await.expect("found").server.0, 2);
}

#[tokio::test]
async fn a_server_that_does_not_say_who_it_is_is_asked_again() {
    let (shared, _servers) = cluster(3);
    shared.lock().primary = 2;
    shared.lock().status_silences.insert(1, 1);
    let address = shared.lock().addresses[1].clone();
    let client = Client::connect([address]).await.expect("a good address");
    assert_eq!(client.add("k", "v").await.expect("found").server.0, 2);
}

#[tokio::test]
async fn many_tasks_share_one_stream_and_few_messages() {
    let (shared, _servers, client) = served(3).await;
    let before = shared.lock().messages;
    let tasks: Vec<_> = (0..500)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.add(format!("k{number}"), "v").await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("served");
    }
    assert_eq!(shared.lock().applied, 501);
    let messages = shared.lock().messages - before;
    assert!(messages < 100, "{messages} messages for 500 changes");
}

#[tokio::test]
async fn a_killed_primary_costs_little_and_nothing_is_applied_twice() {
    let (shared, mut servers, client) = served(3).await;
    shared.lock().primary = 1;
    shared.lock().epoch = 2;
    drop(servers.remove(0));
    let began = Instant::now();
    assert_eq!(client.add("k", "v").await.expect("another leads").server.0, 1);
    let gap = began.elapsed();
    assert!(gap < Duration::from_millis(250), "{gap:?}: not even an answer would be overdue");
    assert_eq!(shared.lock().applied, 2);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_with_the_connection_is_answered_and_applied_once() {
    let (shared, _servers, client) = served(3).await;
    shared.script(0, [Script::BreakAfter]);
    let added = client.add("k", "v").await.expect("asked again");
    assert!(!added.existed, "the stored answer, not a second change");
    assert_eq!(shared.lock().applied, 2);
    assert!(!shared.lock().nudged.is_empty(), "a server was told that the primary seems to be gone");
}

#[tokio::test]
async fn a_swallowed_answer_is_asked_for_again_under_the_same_number() {
    let (shared, _servers, client) = served(3).await;
    shared.script(0, [Script::Swallow]);
    let began = Instant::now();
    assert!(!client.add("k", "v").await.expect("asked again").existed);
    assert!((300..1_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(shared.lock().applied, 2);
}

#[tokio::test]
async fn a_hand_over_is_not_noticed() {
    let (shared, _servers, client) = served(3).await;
    for round in 0..30_u8 {
        shared.lock().primary = round % 3;
        shared.lock().epoch += 1;
        assert_eq!(client.add("k", "v").await.expect("served").server.0, round % 3);
    }
}

#[tokio::test]
async fn an_expired_session_is_not_noticed_when_nothing_was_under_way() {
    let (shared, _servers, client) = served(1).await;
    shared.lock().sessions.clear();
    client.add("k", "v").await.expect("under a new session");
    assert_eq!(shared.lock().opened, 2);
}

#[tokio::test]
async fn without_servers_a_change_is_not_applied_and_the_error_says_whom_was_tried() {
    let (shared, servers) = cluster(2);
    drop(servers);
    let addresses = shared.lock().addresses.clone();
    let builder = Client::builder().timeout(Duration::from_millis(200));
    let client = builder.connect(addresses.clone()).await.expect("good addresses");
    let began = Instant::now();
    let error = client.add("k", "v").await.expect_err("nobody is there");
    assert!(began.elapsed() < Duration::from_millis(400));
    let text = error.to_string();
    assert!(matches!(error, Error::NotApplied(_)), "{text}");
    assert!(text.contains("add \"k\" was not applied") && text.contains("connection refused"), "{text}");
    assert!(addresses.iter().all(|address| text.contains(address)), "{text}");
}

#[tokio::test]
async fn a_change_that_was_sent_and_never_answered_is_unknown() {
    let (shared, _servers, client) = served(1).await;
    shared.script(0, vec![Script::Swallow; 100]);
    let error = client.with_timeout(Duration::from_millis(400)).add("k", "v").await.expect_err("no answer");
    assert!(error.is_outcome_unknown(), "{error}");
    assert!(error.to_string().contains("did not answer"), "{error}");
}

#[tokio::test]
async fn a_change_that_was_refused_throughout_is_not_applied() {
    let (shared, _servers, client) = served(1).await;
    shared.script(0, vec![Script::Refuse(Refusal::NotPrimary { primary: None }); 1_000]);
    // The pauses between attempts grow with the search: long enough that no attempt is under way just at the end.
    let error = client.with_timeout(Duration::from_millis(900)).add("k", "v").await.expect_err("refused");
    assert!(matches!(error, Error::NotApplied(_)), "{error}");
    assert!(error.to_string().contains("knows no primary"), "{error}");
}

#[tokio::test]
async fn what_no_server_can_take_is_said_before_anything_is_sent() {
    let client = Client::connect(["127.0.0.1:1"]).await.expect("a good address");
    assert!(matches!(client.add("", "v").await, Err(Error::BadInput(_))));
    assert!(matches!(client.read(vec![0; 4097]).await, Err(Error::BadInput(_))));
    assert!(matches!(Client::connect(["nonsense"]).await, Err(Error::BadInput(_))));
    assert!(matches!(Client::connect([""; 0]).await, Err(Error::BadInput(_))));
}

#[tokio::test]
async fn a_dropped_call_leaves_the_others_alone() {
    let (shared, _servers, client) = served(1).await;
    shared.script(0, [Script::Delay(Duration::from_millis(50))]);
    let slow = client.add("slow", "v");
    assert!(tokio::time::timeout(Duration::from_millis(10), slow).await.is_err());
    client.add("k", "v").await.expect("served");
    // The server had the dropped call already, and carried it out once.
    assert_eq!(shared.lock().applied, 3);
}

#[tokio::test]
async fn a_call_ends_in_time_where_no_room_is_left_and_room_comes_back_when_calls_are_dropped() {
    let (shared, _servers, client) = served(1).await;
    shared.script(0, vec![Script::Swallow; 20_000]);
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..8_192 {
        let patient = client.with_timeout(Duration::from_secs(60));
        crowd.spawn(async move { patient.read("k").await });
    }
    until(|| shared.lock().requests.len() > 8_192).await;
    let began = Instant::now();
    let error = client.with_timeout(Duration::from_millis(100)).add("k", "v").await.expect_err("there is no room");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(matches!(error, Error::NotApplied(_)), "{error}");
    crowd.shutdown().await;
    shared.lock().scripts.clear();
    client.add("k", "v").await.expect("there is room again");
}

/// Waits for what servers do, but not for ever.
async fn until(holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looking).await.expect("it comes to pass");
}

#[tokio::test]
async fn the_longest_time_out_is_no_panic() {
    let (_shared, _servers, client) = served(1).await;
    client.with_timeout(Duration::MAX).add("k", "v").await.expect("served");
}

#[tokio::test]
async fn a_value_of_many_megabytes_goes_there_and_back() {
    let (_shared, _servers, client) = served(1).await;
    let value = vec![7_u8; 12 << 20];
    client.add("large", value.clone()).await.expect("served");
    assert_eq!(client.read("large").await.expect("served").expect("added").value, value);
}

#[tokio::test]
async fn the_last_clone_closes_the_session_behind_it() {
    let (shared, _servers, client) = served(1).await;
    let clone = client.clone();
    drop(client);
    clone.add("k", "v").await.expect("a clone keeps the client");
    drop(clone);
    until(|| shared.lock().sessions.is_empty()).await;
}

#[test]
fn a_client_can_be_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Client>();
}
